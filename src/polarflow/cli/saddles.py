"""The verb `saddles`."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from cyclopts import Parameter

from ..store import FIGURES, REPORT, RunFolder, finite, open_folder
from ._comparing import compared, statements
from ._progress import tell
from ._provenance import provenance
from ._words import aligned, shown
from ._working import working
from .app import Exit


def saddles(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    compare: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """The path from saddle to saddle in the limit of vanishing initialisation.

    Parameters
    ----------
    spec
        A TOML file as for `run`; [flow] is not needed.
    out
        The folder for summary.json, figures and report.html; a fresh one under runs/ otherwise.
    set_
        section.key=value in place of what the spec says, any number of times.
    compare
        Put the end of the path next to all comparators, whatever the spec's [compare] says.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing but errors.
    """
    from ..limit import neighbourhood, saddle_path
    from ..spec import PathSpec, assemble, load_spec

    plan = assemble(load_spec(spec, set_, PathSpec), spec)
    folder = open_folder(out, overwrite=overwrite, name=f"{spec.stem}-saddles")
    begin = perf_counter()
    with working(folder, spec):
        path = saddle_path(plan.problem)
    summary: dict[str, Any] = {
        **path.summary(),
        "work": {"seconds": perf_counter() - begin},
        **provenance(plan.spec, unused=("flow",)),
    }
    for saddle, entry in zip(path.saddles, summary["saddles"], strict=True):
        near = neighbourhood(plan.problem, saddle.rest, seed=plan.spec.seed)
        entry["neighbourhood"] = None if near is None else near.to_dict()
    answers = "all" if compare else plan.spec.compare.answers
    whole = compared(summary, plan.problem, path.end.state, answers)
    summary = finite(summary)
    with working(folder, spec):
        drawn = _draw(folder, summary, spec.stem)
        folder.write_summary(summary)
    folder.finish()
    if not quiet:
        print(_account(summary, folder.path))
    if not whole:
        return Exit.INTERRUPTED
    if not path.complete:
        return Exit.STOPPED
    return Exit.OK if drawn else Exit.FAILED


def _draw(folder: RunFolder, summary: Mapping[str, Any], name: str) -> bool:
    """Write pictures and report; False if that fails, which must not cost the numbers."""
    from ..plotting import path_figure, save
    from ..report import write_path_report

    try:
        with folder.member(FIGURES) as partial:
            save(path_figure(summary["saddles"]), partial, "path")
        with folder.member(REPORT) as partial:
            write_path_report(summary, f"From saddle to saddle: {name}", partial)
    except Exception as error:
        tell(f"the pictures could not be drawn: {error}")
        return False
    return True


def _clock(order: float, several: bool) -> str:
    where = f"where L = {order}, " if several else ""
    if order == 2:
        return f"{where}a saddle is left at the time (escape rate) * (-ln delta) + O(1)"
    return f"{where}a saddle is left at the time (escape rate) * delta^-{order - 2:g} (1 + o(1))"


def _account(summary: Mapping[str, Any], folder: Path) -> str:
    rows = [
        (
            "saddle",
            "escape rate",
            "loss",
            "active",
            "leave",
            "growth",
            "KKT residual",
            "ball",
        )
    ]
    rows += [
        (
            str(saddle["index"]),
            shown(saddle["escape_rate"]),
            shown(saddle["loss"]),
            str(saddle["active_blocks"]),
            str(len(saddle["leaving_blocks"])),
            shown(saddle["escape_growth"]),
            shown(saddle["kkt_residual"]),
            shown((saddle["neighbourhood"] or {}).get("radius")),
        )
        for saddle in summary["saddles"]
    ]
    orders = sorted({saddle["escape_order"] for saddle in summary["saddles"]})
    lines = [*(_clock(order, len(orders) > 1) for order in orders), *aligned(rows)]
    lines.append("  ball: the radius, in units of |w_n|, in which <w - w_n, grad L> >= 0 was found")
    for tie in summary["ties"]:
        lines.append(f"  saddle {tie['saddle']}: {len(tie['blocks'])} KKT points leave at a time")
    lines += [f"  {note}" for note in summary["notes"]]
    lines += statements(finite(summary))
    return "\n".join([*lines, "", f"  {folder}: summary.json, figures, report.html"])
