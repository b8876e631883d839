"""Running an experiment: what it follows, claims, figures, summary."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PolarflowError
from ._registry import experiment

if TYPE_CHECKING:
    from .. import Progress

FIGURES = "figures"


def reproduce(
    name: str,
    out: str | Path,
    quick: bool = False,
    progress: "Callable[[Progress], None] | None" = None,
) -> dict[str, Any]:
    """Reproduce a published figure and measure what the paper says of it.

    Figures are written to `out/figures` as PDF and PNG, with a film beside them.

    **Arguments:**

    - `name`: one of `names()`.
    - `out`: an existing or new folder.
    - `quick`: leave out films and what takes minutes.
    - `progress`: called by the engine now and then.

    **Returns:** the summary: `name`, `paper`, `parameters` (the seed among them), `claims`
    [{name, statement, measured, bound, relation, holds, reason}], `deviations` [{name, printed,
    found, evidence}], `comparison` with other methods, `work`, and `figures`, paths relative to
    `out`.

    **Raises:** `PolarflowError` for an unknown name, or if a flow could not go on.
    """
    chosen = experiment(name)
    try:
        evidence = chosen.setting.gather(quick, progress)
    except PolarflowError as error:
        raise PolarflowError(f"{name}: {error}") from error
    claims = [measure(evidence).to_dict() for measure in chosen.claims]
    deviations = [found.to_dict() for find in chosen.deviations if (found := find(evidence))]
    paths = chosen.draw(evidence, Path(out) / FIGURES, quick)
    return {
        "name": chosen.name,
        "title": chosen.title,
        "paper": chosen.paper,
        "parameters": evidence.parameters(),
        "claims": claims,
        "deviations": deviations,
        "comparison": evidence.comparison(),
        "work": evidence.work(),
        "figures": [str(path.relative_to(out)) for path in paths],
    }
