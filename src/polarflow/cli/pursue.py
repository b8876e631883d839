"""The verb `pursue`."""

from pathlib import Path
from time import perf_counter
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from ..store import finite, open_folder
from ._provenance import provenance
from ._words import aligned, shown
from ._working import working


def pursue(
    spec: Path,
    /,
    *,
    out: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set", negative="", show_default=False)] = (),
    blocks: Annotated[int, Parameter(validator=Number(gte=1))] = 50,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Grow a network neuron by neuron, each at the best KKT point of the residual's NCF.

    Parameters
    ----------
    spec
        A TOML file as for `run`; [init] and [flow] are not needed.
    out
        The folder for summary.json; a fresh one under runs/ otherwise.
    set_
        section.key=value in place of what the spec says, any number of times.
    blocks
        How many neurons are added at most.
    overwrite
        Allow a folder that is not empty, and replace the result in it.
    quiet
        Say nothing but errors.
    """
    from ..limit import pursue as grow
    from ..spec import PathSpec, assemble, load_spec

    plan = assemble(load_spec(spec, set_, PathSpec), spec)
    folder = open_folder(out, overwrite=overwrite, name=f"{spec.stem}-pursuit")
    begin = perf_counter()
    with working(folder, spec):
        steps = [step.to_dict() for step in grow(plan.problem, blocks=blocks)]
    summary = {
        "status": "ok",
        "steps": steps,
        "final": steps[-1],
        "work": {"seconds": perf_counter() - begin},
        **provenance(plan.spec, unused=("flow",)),
    }
    folder.write_summary(finite(summary))
    folder.finish()
    if not quiet:
        rows = [("neurons", "loss", "max |N_r|", "|theta|")]
        rows += [
            (
                str(step["blocks"]),
                shown(step["loss"]),
                shown(step["ncf_maximum"]),
                shown(step["param_norm"]),
            )
            for step in steps
        ]
        print("\n".join([*aligned(rows), "", f"  {folder.path}: summary.json"]))
