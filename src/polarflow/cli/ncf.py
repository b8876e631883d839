"""The verb `ncf`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ..store import FIGURES, RunFolder, open_folder
from ._provenance import provenance
from ._working import working
from .app import Exit

if TYPE_CHECKING:
    from ..ncf import KKTSet
    from ..spec import NcfPlan

_SHOWN = 20


def ncf(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Find the KKT points of the neural correlation function, each with a certificate.

    Parameters
    ----------
    spec
        A TOML file; [data], [network] and [ncf] suffice.
    out
        The folder for summary.json and the figures; a fresh one under runs/ otherwise.
    set_
        section.key=value in place of what the spec says, any number of times.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing but errors.
    """
    from ..spec import ProblemSpec, assemble_ncf, load_spec

    plan = assemble_ncf(load_spec(spec, set_, ProblemSpec), spec)
    folder = open_folder(out, overwrite=overwrite, name=f"{spec.stem}-ncf")
    with working(folder, f"{spec}: ncf"):
        found = plan.solve()
    summary = {
        "status": "ok",
        **found.to_dict(),
        **provenance(plan.spec),
    }
    whole = _draw(folder, found, plan)
    folder.write_summary(summary)
    folder.finish()
    if not quiet:
        print(_account(found, summary, folder.path))
    return Exit.OK if whole else Exit.FAILED


def _draw(folder: RunFolder, found: "KKTSet", plan: "NcfPlan") -> bool:
    """Write the figures; the numbers are kept whatever becomes of them."""
    from ..plotting import draw_ncf

    try:
        with folder.member(FIGURES) as partial:
            draw_ncf(found, plan.network, plan.x, plan.z, partial)
    except Exception as error:  # a picture that fails must not cost the numbers
        print(f"polarflow: the pictures could not be drawn: {error}", file=sys.stderr)
        return False
    return True


def _account(found: "KKTSet", summary: Mapping[str, Any], folder: Path) -> str:
    """What was found, for a person."""
    proof = found.proof
    if "cells" in proof:
        how = (
            f"all of them: {proof['cells']} cells listed, "
            f"{proof['cells_by_deletion_restriction']} by deletion and restriction"
            if found.complete
            else "the counts of cells disagree: some may be missing"
        )
    else:
        how = f"met from {proof['starts']} starts; others may exist"
    lines = [f"{len(found.points)} KKT points, {how}", ""]
    lines.append("      value  type     share  orbit  dimension  certified  KKT residual")
    for p in found.points[:_SHOWN]:
        share = "-" if p.share is None else f"{p.share:.3f}"
        proved = {True: "yes", False: "no", None: "-"}[p.certified]
        lines.append(
            f"{p.value:11.5g}  {p.type:8} {share:>5}  {p.orbit:5d}  {p.dimension:9d}  "
            f"{proved:>9}  {p.kkt_residual:12.1e}"
        )
    if len(found.points) > _SHOWN:
        lines.append(f"  and {len(found.points) - _SHOWN} more in summary.json")
    lines += ["", f"  {folder}: summary.json, figures/"]
    return "\n".join(lines)
