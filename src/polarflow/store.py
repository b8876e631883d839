"""The folder of a run: atomic writes, a done marker last, and reading back.

A member of the folder (a file or a folder of files) is written under a temporary name and renamed
when it is whole. `summary.json` comes after the members that it speaks of, and the marker
`done` after everything. Whoever finds the marker finds a whole result; whoever does not must
not trust the folder. A result that takes the place of another is gathered beside it, and the old
one stays until the new one is whole.
"""

import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import PolarflowError

if TYPE_CHECKING:
    from xarray import Dataset

SUMMARY = "summary.json"
TRAJECTORY = "trajectory.zarr"
FIGURES = "figures"
REPORT = "report.html"
MARKER = "done"

_MEMBERS = (SUMMARY, TRAJECTORY, FIGURES, REPORT)
_PARTIAL = ".partial-"
_STAGE = f"{_PARTIAL}result"


class RunFolder:
    """A folder that a result is being written to.

    **Arguments:**

    - `path`: an existing folder, where the result will be.
    - `made`: whether it was made for this result.
    - `replaces`: the members of an older result there, which this one takes the place of.
    """

    def __init__(self, path: Path, made: bool = False, replaces: tuple[str, ...] = ()) -> None:
        self.path = path
        self._made = made
        self._replaces = replaces

    @property
    def work(self) -> Path:
        """Where members are written until the result is whole."""
        return self.path / _STAGE if self._replaces else self.path

    @contextmanager
    def member(self, name: str) -> Iterator[Path]:
        """A temporary path to write one member to; renamed to `name` if nothing is raised."""
        partial = self.work / f"{_PARTIAL}{name}"
        _remove(partial)
        try:
            yield partial
            _remove(self.work / name)
            os.replace(partial, self.work / name)
        finally:
            _remove(partial)

    def write_trajectory(self, dataset: "Dataset") -> None:
        """Write the trajectory as `trajectory.zarr`."""
        texts = {  # of fixed width they have no place in Zarr's format 3
            name: (variable.dims, variable.values.astype(object), variable.attrs)
            for name, variable in dataset.variables.items()
            if variable.dtype.kind == "U"
        }
        dataset = dataset.assign(texts)
        with self.member(TRAJECTORY) as partial:
            with warnings.catch_warnings():
                # Consolidated metadata, which xarray looks for, is an extension of Zarr 3.
                warnings.simplefilter("ignore")
                dataset.to_zarr(partial, mode="w", consolidated=True)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Write `summary.json`; a number that is not finite becomes null."""
        with self.member(SUMMARY) as partial:
            text = json.dumps(finite(summary), indent=2, ensure_ascii=False, allow_nan=False)
            partial.write_text(text + "\n", encoding="utf-8")

    def discard(self) -> None:
        """Leave nothing of this result behind; an older one stays as it was."""
        if self._replaces:
            _remove(self.work)
        else:
            for name in (MARKER, *_MEMBERS):
                _remove(self.path / name)
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()

    def finish(self) -> None:
        """Write the marker: everything is there. An older result makes room."""
        with self.member(MARKER) as partial:
            partial.write_text("", encoding="utf-8")
        if not self._replaces:
            return
        aside = self.path / f"{_PARTIAL}old"
        aside.mkdir()
        for name in (MARKER, *self._replaces):
            if os.path.lexists(self.path / name):
                os.replace(self.path / name, aside / name)
        new = sorted(path.name for path in self.work.iterdir() if path.name != MARKER)
        for name in (*new, MARKER):
            os.replace(self.work / name, self.path / name)
        _remove(aside)
        _remove(self.work)


def open_folder(
    out: Path | None, *, overwrite: bool = False, name: str = "run", members: tuple[str, ...] = ()
) -> RunFolder:
    """A folder for a new result.

    **Arguments:**

    - `out`: the folder; made if need be. None for a fresh one under `runs/`.
    - `overwrite`: allow a folder that is not empty. The members of an old result stay until the
      new one is whole; a file of another name stays for ever.
    - `name`: the beginning of a fresh folder's name.
    - `members`: names that this result writes besides those of a run.

    **Raises:** `PolarflowError` if the folder is not empty, or cannot be made.
    """
    if out is None:
        return RunFolder(_fresh(name), made=True)
    if out.exists() and not out.is_dir():
        raise PolarflowError(f"--out {out}: is a file, and must be a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise PolarflowError(f"--out {out}: is not empty; give another folder, or --overwrite")
    made = not out.exists()
    replaces: tuple[str, ...] = ()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for partial in out.glob(f"{_PARTIAL}*"):
            _remove(partial)
        if any(out.iterdir()):
            replaces = (*_MEMBERS, *members)
        folder = RunFolder(out, made, replaces)
        folder.work.mkdir(exist_ok=True)
        probe = folder.work / f"{_PARTIAL}probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise PolarflowError(f"--out {out}: cannot be written ({error.strerror})") from None
    return folder


def read_summary(path: str | Path) -> dict[str, Any]:
    """The summary of a whole result.

    **Raises:** `PolarflowError` if the folder holds none.
    """
    return json.loads((_whole(path) / SUMMARY).read_text(encoding="utf-8"))


def read_trajectory(path: str | Path) -> "Dataset":
    """The trajectory of a whole result, read lazily.

    **Raises:** `PolarflowError` if the folder holds none.
    """
    import xarray

    return xarray.open_zarr(_whole(path) / TRAJECTORY)


def finite(value: Any) -> Any:
    """The value with NumPy's numbers and arrays as plain ones, and null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _fresh(name: str) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    attempt = 1
    while True:
        path = Path("runs") / f"{name}-{stamp}{f'-{attempt}' if attempt > 1 else ''}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            attempt += 1
        except OSError as error:
            raise PolarflowError(f"{path}: cannot be made ({error.strerror})") from None
        else:
            return path


def _whole(path: str | Path) -> Path:
    path = Path(path)
    if not (path / MARKER).is_file():
        raise PolarflowError(f"{path}: holds no whole result; the file {MARKER!r} is not there.")
    return path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
