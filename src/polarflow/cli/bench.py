"""The verb `bench`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..errors import PolarflowError
from ..store import open_folder
from ._progress import tell
from ._words import unknown


def bench(
    *names: str,
    out: Path | None = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure the engine against its rivals, and print a table.

    Parameters
    ----------
    names
        Cases, and families whose cost is followed; all of them unless given.
    out
        A folder for summary.json and the figures; none is written unless given.
    quick
        About a minute: a few cases, each method timed once, long ones on a small part.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing on the way.
    """
    from .. import benchmarks

    known = benchmarks.names()
    for name in names:
        if name not in known:
            raise PolarflowError(unknown("bench", name, known))
    folder = open_folder(out, overwrite=overwrite) if out is not None else None
    result = benchmarks.run(names or None, quick=quick, progress=None if quiet else _say)
    if folder is not None:
        paths = benchmarks.draw(result, folder.work / "figures")
        figures = [str(path.relative_to(folder.work)) for path in paths]
        folder.write_summary({**result, "figures": figures})
        folder.finish()


def _say(text: str) -> None:
    tell(text)
