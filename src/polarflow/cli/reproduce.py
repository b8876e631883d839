"""The verbs `list` and `reproduce`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from ..errors import PolarflowError
from ..store import RunFolder, open_folder
from ._progress import reporter
from ._provenance import versions
from ._words import unknown
from .app import Exit


def show() -> None:
    """List the published experiments that `reproduce` knows."""
    from .. import experiments

    descriptions = experiments.describe()
    width = max(map(len, descriptions), default=0)
    for name, description in descriptions.items():
        print(f"{name:{width}}  {description}")


def reproduce(
    name: str,
    /,
    *,
    out: Path | None = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Reproduce a published figure, and check what the paper says of it.

    Parameters
    ----------
    name
        An experiment of `polarflow list`, or all.
    out
        The folder for summary.json and the figures; a fresh one under runs/ otherwise.
    quick
        Leave out films and what takes minutes.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing but errors.
    """
    from .. import experiments

    known = experiments.names()
    if name != "all" and name not in known:
        raise PolarflowError(unknown("reproduce", name, ("all", *known)))
    chosen = known if name == "all" else (name,)
    folder = open_folder(out, overwrite=overwrite, name=name, members=chosen)
    results: dict[str, dict[str, Any]] = {}
    for each in chosen:
        place = folder.work / each if name == "all" else folder.work
        place.mkdir(exist_ok=True)
        with reporter(quiet) as progress:
            results[each] = experiments.reproduce(each, place, quick=quick, progress=progress)
        _finish(folder if name != "all" else RunFolder(place), results[each])
        if not quiet:
            print(_verdict(each, results[each]))
    if name == "all":
        _finish(folder, _joined(results))
    if not quiet:
        print(f"\n  {folder.path}: summary.json and the figures")
    claims = [claim for result in results.values() for claim in result["claims"]]
    return Exit.OK if all(claim["holds"] for claim in claims) else Exit.FAILED


def _finish(folder: RunFolder, summary: Mapping[str, Any]) -> None:
    folder.write_summary({**summary, "versions": versions()})
    folder.finish()


def _joined(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One summary of many, each claim and deviation under its experiment's name."""
    return {
        key: [
            {"experiment": name, **entry}
            for name, result in results.items()
            for entry in result[key]
        ]
        for key in ("claims", "deviations")
    }


def _verdict(name: str, result: Mapping[str, Any]) -> str:
    lines = [name]
    for claim in result["claims"]:
        mark = "holds" if claim["holds"] else "FAILS"
        lines.append(f"  {mark}  {claim['name']}: {claim['statement']}")
        lines.append(f"         measured {claim['measured']:.6g}, bound {claim['bound']}")
    for entry in result["deviations"]:
        lines.append(f"  not as printed  {entry['name']}: {entry['found']}")
    return "\n".join(lines)
