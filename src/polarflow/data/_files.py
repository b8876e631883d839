"""Arrays from `.npz` and `.csv` files."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._base import Data


def load(path: str | Path, bias: bool = False) -> Data:
    """Data from a file.

    A `.npz` file holds the arrays `x` (n x d) and `y` (n, or n x C). A `.csv` file holds one
    example a line, the label in the last column, with an optional line of column names on top;
    empty lines are skipped.

    **Arguments:**

    - `path`: the file.
    - `bias`: append a 1 to every input.

    **Raises:** `PolarflowError`, naming the file and the array or line, if the file cannot be read
    as such.
    """
    path = Path(path)
    if path.suffix == ".npz":
        arrays = read_npz(path, ("x", "y"))
        x, y = arrays["x"], arrays["y"]
    elif path.suffix == ".csv":
        table = _read_csv(path)
        x, y = table[:, :-1], table[:, -1]
    else:
        raise PolarflowError(f"{path}: the file must end in .npz or .csv.")
    return Data.from_arrays(x, y, bias, name=str(path))


def read_npz(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, ndarray]:
    """The named arrays of a `.npz` file, optional ones if they are there; pickles are refused."""
    _must_be_file(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            missing = [name for name in names if name not in archive.files]
            if missing:
                raise PolarflowError(
                    f"{path}: there is no array {', '.join(missing)}; "
                    f"the file must hold {', '.join(names)} and holds "
                    f"{', '.join(archive.files) or 'nothing'}."
                )
            there = [name for name in optional if name in archive.files]
            return {name: archive[name] for name in (*names, *there)}
    except PolarflowError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise PolarflowError(
            f"{path}: not an .npz file of plain numerical arrays ({_one_line(error)})."
        ) from None


def _read_csv(path: Path) -> ndarray:
    _must_be_file(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PolarflowError(f"{path}: not a text file ({_one_line(error)}).") from None
    rows: list[list[float]] = []
    header_allowed = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip().strip('"') for cell in line.split(",")]
        try:
            row = [float(cell) for cell in cells]
        except ValueError:
            if header_allowed and not any(_is_number(cell) for cell in cells):
                header_allowed = False
                continue
            bad = next(cell for cell in cells if not _is_number(cell))
            raise PolarflowError(
                f"{path}: line {number}: {bad!r} is not a number; only the first line may hold "
                "names."
            ) from None
        header_allowed = False
        if len(row) < 2 or (rows and len(row) != len(rows[0])):
            expected = len(rows[0]) if rows else "at least 2"
            raise PolarflowError(
                f"{path}: line {number} has {len(row)} columns; expected are {expected}, the "
                "last one the label."
            )
        rows.append(row)
    if not rows:
        raise PolarflowError(f"{path}: the file holds no example.")
    return np.array(rows)


def _must_be_file(path: Path) -> None:
    if not path.is_file():
        raise PolarflowError(f"{path}: there is no such file.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
