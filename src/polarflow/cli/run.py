"""The verb `run`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..store import FIGURES, REPORT, RunFolder, finite, open_folder
from ._comparing import compared, statements
from ._progress import reporter, tell
from ._provenance import provenance
from ._words import account
from ._working import working
from .app import Exit

if TYPE_CHECKING:
    from xarray import Dataset

    from ..solution import Solution


def run(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    compare: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Follow one flow, as a spec says.

    Parameters
    ----------
    spec
        A TOML file; `polarflow init` writes a commented example.
    out
        The folder for the result; a fresh one under runs/ otherwise.
    set_
        section.key=value in place of what the spec says, any number of times.
    compare
        Put the end next to all comparators, whatever the spec's [compare] says.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing but errors.
    """
    from ..spec import assemble, load_spec

    plan = assemble(load_spec(spec, set_), spec)
    folder = open_folder(out, overwrite=overwrite, name=spec.stem)
    with working(folder, spec), reporter(quiet) as progress:
        solution = plan.solve(progress)
    summary = {**solution.summary(), **provenance(plan.spec)}
    try:
        if summary["status"] != "interrupted":
            answers = "all" if compare else plan.spec.compare.answers
            end = solution.final.state(0)
            if not compared(summary, plan.problem, end, answers, plan.inputs):
                summary["status"] = summary["stop_reason"] = "interrupted"
                summary["message"] = "Interrupted while the end was compared; the flow is whole."
        summary = finite(summary)
        whole = keep(folder, solution, summary)
    except BaseException:
        folder.discard()
        raise
    if not quiet:
        print(account(summary, folder.path, statements(summary)))
    if summary["status"] == "interrupted":
        return Exit.INTERRUPTED
    if summary["status"] != "ok":
        return Exit.STOPPED
    return Exit.OK if whole else Exit.FAILED


def keep(folder: RunFolder, solution: "Solution", summary: dict[str, Any]) -> bool:
    """Write the members of a run, the summary after the pictures, the marker last.

    The numbers are kept whatever becomes of the pictures; returns whether these are there.
    """
    dataset = solution.to_xarray()
    dataset.attrs["spec"] = json.dumps(summary["spec"])
    folder.write_trajectory(dataset)
    whole = True
    try:
        _draw(folder, dataset, summary)
    except KeyboardInterrupt:
        summary["status"] = summary["stop_reason"] = "interrupted"
        summary["message"] = "Interrupted while the pictures were drawn; the numbers are whole."
    except Exception as error:  # a picture that fails must not cost the numbers
        tell(f"the pictures could not be drawn: {error}")
        whole = False
    folder.write_summary(summary)
    folder.finish()
    return whole


def _draw(folder: RunFolder, dataset: "Dataset", summary: Mapping[str, Any]) -> None:
    from ..plotting import draw_all
    from ..report import write_report

    with folder.member(FIGURES) as partial:
        partial.mkdir()
        draw_all(dataset, partial)
    with folder.member(REPORT) as partial:
        write_report(dataset, summary, partial)
