"""Figure 3: the loss on two orthogonal points."""

import numpy as np

from .._base import Claim
from .._flow import RTOL
from .._measure import first_fall
from ._claims import loss_never_rises
from ._setting import Evidence
from ._two_points import BOTH_FITTED, rates

LEFT = 0.1
"""A plateau is left when a tenth of the fall to the next one is done, as rise times are counted."""


def _leaves(e: Evidence, upper: float, lower: float) -> float:
    flow = e.solution.trajectory
    level = upper - LEFT * (upper - lower)
    return first_fall(flow.time, flow.loss, level) / e.setting.step


def _saddle_loss(e: Evidence) -> float:
    """The loss where only the positive label is fitted."""
    y = e.problem.data.y
    return float(e.problem.loss.value(np.maximum(y, 0.0), y))


def first_saddle_left(e: Evidence) -> Claim:
    """Section 5: 5000 iterations to leave the first saddle."""
    return Claim(
        name="leaves-first-saddle",
        statement="The flow leaves the saddle at the origin between iterations 5000 and 6000.",
        measured=_leaves(e, e.loss(0), _saddle_loss(e)),
        bound=(5000.0, 6000.0),
        relation="in",
        reason="Left when a tenth of the fall of the loss to the next plateau is done.",
    )


def second_saddle_left(e: Evidence) -> Claim:
    """Section 5: the trajectory leaves the second saddle around iteration 11000."""
    return Claim(
        name="leaves-second-saddle",
        statement="The flow leaves the second saddle between iterations 11000 and 12000.",
        measured=_leaves(e, _saddle_loss(e), 0.0),
        bound=(11000.0, 12000.0),
        relation="in",
        reason="Left when a tenth of the fall of the loss to zero is done.",
    )


def plateau_at_half(e: Evidence) -> Claim:
    """Figure 3: the plateau between the two falls."""
    visits = e.solution.saddles
    loss = visits[1].loss / e.loss(0) if len(visits) > 1 else float("nan")
    return Claim(
        name="plateau-at-half",
        statement="The second plateau is at half the starting loss: |L/L(0) - 1/2| at the saddle.",
        measured=abs(loss - 0.5),
        bound=0.01,
        relation="<=",
        reason="With one of two labels of size 1 fitted; a hundredth of the axis.",
    )


def two_saddles(e: Evidence) -> Claim:
    """Section 4.2: the origin and one other saddle are visited."""
    left = [s for s in e.solution.saddles if s.time_leave is not None]
    return Claim(
        name="two-saddles",
        statement="Two saddles are visited and left, the origin and one more.",
        measured=len(left),
        bound=2,
        relation="==",
        reason="The paper's count.",
    )


def loss_falls(e: Evidence) -> Claim:
    """A gradient flow never climbs."""
    return loss_never_rises(e, RTOL)


def local_pl(e: Evidence) -> Claim:
    """Lemma 5: the local PL constant near the limit."""
    flow = e.solution.trajectory
    late = (flow.time >= BOTH_FITTED * e.setting.step) & (flow.loss > 0)
    return Claim(
        name="local-pl",
        statement=(
            f"After iteration {BOTH_FITTED} the loss obeys the local PL condition of Lemma 5, "
            "|grad L|^2 / L >= ||D_-||: the least ratio."
        ),
        measured=float(np.min(flow.grad_norm[late] ** 2 / flow.loss[late])),
        bound=float(rates(e).min()),
        relation=">=",
        reason="||D_-|| in the flow's time; both sides scale alike with the loss.",
    )


CLAIMS = (
    first_saddle_left,
    second_saddle_left,
    plateau_at_half,
    two_saddles,
    loss_falls,
    local_pl,
)
