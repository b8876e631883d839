"""The end of a flow or a path, next to the comparators."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._words import shown

if TYPE_CHECKING:
    from numpy import ndarray

    from ..flow import Problem
    from ..networks import BlockState


def compared(
    summary: dict[str, Any],
    problem: "Problem",
    state: "BlockState",
    answers: str | Sequence[str],
    inputs: "ndarray | None" = None,
) -> bool:
    """Add `comparison` to a summary, and what it lacks to the notes; False if interrupted.

    What fails costs the result nothing but the comparison.
    """
    if answers == "none":
        return True
    from ..comparators import compare

    try:
        found = compare(problem, state, answers, inputs=inputs)
    except KeyboardInterrupt:
        summary["notes"] = [*summary["notes"], "Not compared: interrupted."]
        return False
    except Exception as error:
        summary["notes"] = [*summary["notes"], f"Not compared: {error}"]
        return True
    summary["comparison"] = list(found.entries)
    summary["notes"] = [*summary["notes"], *found.notes]
    return not found.interrupted


def statements(summary: Mapping[str, Any]) -> list[str]:
    """Lines for a person: each comparator's norm or margin, the network's, and what that says."""
    lines = []
    for entry in summary.get("comparison", ()):
        own = "" if entry["flow"] is None else f", here {shown(entry['flow'])}"
        said = f": {entry['statement']}" if entry["statement"] else ""
        lines.append(f"  {entry['name']} {shown(entry['value'])}{own}{said}")
    return lines
