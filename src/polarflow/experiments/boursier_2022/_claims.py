"""What the paper says of several of its figures."""

import numpy as np

from .._base import Claim
from .._flow import FlowEvidence


def loss_has_not_moved(e: FlowEvidence, iteration: int, axis: str) -> Claim:
    """Alignment is early, before anything is fitted; `axis` is the figure that shows the loss."""
    return Claim(
        name="early",
        statement=f"At iteration {iteration} the loss has not moved: 1 - L/L(0).",
        measured=1.0 - e.loss(iteration) / e.loss(0),
        bound=0.01,
        relation="<=",
        reason=f"A hundredth of the axis of figure {axis}.",
    )


def intermediate_saddle(e: FlowEvidence, iteration: int) -> Claim:
    """An iteration is spent at a saddle between two phases."""
    time = iteration * e.step
    around = [
        (visit.time_enter / e.step, visit.time_leave / e.step)
        for visit in e.solution.saddles[1:]
        if visit.time_leave is not None and visit.time_enter <= time <= visit.time_leave
    ]
    return Claim(
        name="intermediate-saddle",
        statement=(
            f"Iteration {iteration} lies in a visit to a saddle that is neither the origin nor the "
            "end: the iterations of entering and leaving it."
        ),
        measured=iteration,
        bound=around[0] if around else (float("nan"), float("nan")),
        relation="in",
        reason="Visits are found by the relative norm of the gradient, without this iteration.",
    )


def zero_loss(e: FlowEvidence, iteration: int, axis: str) -> Claim:
    """The training loss comes to zero; `axis` is the figure that shows it."""
    return Claim(
        name="zero-loss",
        statement=f"At iteration {iteration} the loss is zero on the axis of fig. {axis}: L/L(0).",
        measured=e.loss(iteration) / e.loss(0),
        bound=0.01,
        relation="<=",
        reason="A hundredth of the axis.",
    )


def loss_never_rises(e: FlowEvidence, rtol: float) -> Claim:
    """A gradient flow never climbs; `rtol` is the tolerance of its integration."""
    rise = np.diff(e.solution.trajectory.loss)
    return Claim(
        name="loss-falls",
        statement="The loss never rises: the largest rise between two recorded times over L(0).",
        measured=float(max(rise.max(), 0.0)) / e.loss(0),
        bound=10 * rtol,
        relation="<=",
        reason="Ten times the tolerance of the integration.",
    )
