"""Figure 4: five points on the line, which are not orthogonal once the bias is appended."""

import numpy as np

from .._base import Claim, Deviation
from .._measure import (
    angles_to,
    distinct_directions,
    groups_sharing_examples,
    kinks,
    log_hidden,
    macroscopic,
    planar_ncf_maxima,
    unit_hidden,
)
from ._claims import intermediate_saddle, loss_has_not_moved, zero_loss
from ._setting import FINER, Evidence, Setting

ALIGNED, SADDLE, GROWTH, END = 15000, 94000, 150000, 300000

SETTING = Setting(
    data="five-points",
    width=60,
    scale=1e-4,
    step=1e-3,
    iterations=END,
    frames=(0, ALIGNED, SADDLE, GROWTH),
)

SAME_DIRECTION = 1.0
"""Directions nearer than this, in degrees, count as one."""


def _maxima(e: Evidence) -> np.ndarray:
    """Directions (k, 2) of the maxima of the initial NCF that attract neurons with a > 0."""
    data = e.problem.data
    residual = e.problem.loss.residual(np.zeros(len(data.y)), data.y)
    return np.array([m.direction for m in planar_ncf_maxima(data.x, residual, 1.0)])


def _third_of_separation(e: Evidence) -> float:
    """A third of the smallest angle between two of these maxima, in degrees."""
    maxima = _maxima(e)
    nearest = [angles_to(np.delete(maxima, i, axis=0), one) for i, one in enumerate(maxima)]
    return float(np.min(nearest)) / 3.0


def _big(e: Evidence, iteration: int) -> np.ndarray:
    return macroscopic(e.state(iteration))


def _turned(e: Evidence, first: int, last: int) -> np.ndarray:
    return angles_to(unit_hidden(e.state(last)), unit_hidden(e.state(first)))


def _grown(e: Evidence, first: int, last: int) -> np.ndarray:
    """ln of the ratio of norms between two frames."""
    return log_hidden(e.state(last)) - log_hidden(e.state(first))


def still_at_the_origin(e: Evidence) -> Claim:
    """Figure 4(b): alignment is early, before anything is fitted."""
    return loss_has_not_moved(e, ALIGNED, "4(f)")


def aligned_early(e: Evidence) -> Claim:
    """Figure 4(b): the end of the early alignment."""
    big = _big(e, SADDLE) & (e.state(0).direction[:, 0] > 0)
    units = unit_hidden(e.state(ALIGNED))[big]
    away = np.min([angles_to(units, one) for one in _maxima(e)], axis=0)
    return Claim(
        name="aligned",
        statement=(
            f"At iteration {ALIGNED} the neurons that will have grown at iteration {SADDLE} are "
            "aligned with maxima of the NCF of the labels: the largest angle in degrees."
        ),
        measured=float(away.max()),
        bound=_third_of_separation(e),
        relation="<=",
        reason="A third of the smallest angle between two maxima: the groups are told apart.",
    )


def two_groups(e: Evidence) -> Claim:
    """Appendix A.1: two groups grow, against a single one in the orthogonal case."""
    units = unit_hidden(e.state(SADDLE))[_big(e, SADDLE)]
    return Claim(
        name="two-groups-grow",
        statement=(
            f"Two groups of neurons have grown at iteration {SADDLE}: groups of macroscopic "
            "neurons that share no active example."
        ),
        measured=groups_sharing_examples(units, e.problem.data.x),
        bound=2,
        relation="==",
        reason="The paper's count; macroscopic neurons carry all but 0.1 % of sum |w|^2.",
    )


def at_the_saddle(e: Evidence) -> Claim:
    """Figure 4(c): the intermediate saddle."""
    return intermediate_saddle(e, SADDLE)


def turns_before_the_saddle(e: Evidence) -> Claim:
    """Appendix A.1: during this norm growth the neurons changed in direction."""
    chosen = _big(e, SADDLE) & (_grown(e, ALIGNED, SADDLE) > 0)
    return Claim(
        name="turns-while-growing",
        statement=(
            f"Neurons that grow between iterations {ALIGNED} and {SADDLE} change their direction: "
            "the largest angle turned, in degrees."
        ),
        measured=float(np.max(_turned(e, ALIGNED, SADDLE)[chosen], initial=0.0)),
        bound=_third_of_separation(e),
        relation=">=",
        reason="More than the angle that counts as aligned, so that it is not late alignment.",
    )


def turns_after_the_saddle(e: Evidence) -> Claim:
    """Figure 4(d): simultaneous norm growth and realignment."""
    chosen = _big(e, GROWTH) & (_grown(e, SADDLE, GROWTH) > 1.0)
    return Claim(
        name="turns-after-the-saddle",
        statement=(
            f"Neurons whose norm grows by more than e between iterations {SADDLE} and {GROWTH} "
            "change their direction meanwhile: the largest angle turned, in degrees."
        ),
        measured=float(np.max(_turned(e, SADDLE, GROWTH)[chosen], initial=0.0)),
        bound=_third_of_separation(e),
        relation=">=",
        reason="As before the saddle.",
    )


def loss_at_zero(e: Evidence) -> Claim:
    """Figure 4(e): zero training loss."""
    return zero_loss(e, END, "4(f)")


def sparse_kinks(e: Evidence) -> Claim:
    """Figure 4(e): the estimated function is sparse in its number of kinks."""
    units = unit_hidden(e.state(END))[_big(e, END)]
    return Claim(
        name="sparse-kinks",
        statement=(
            f"The function learned at iteration {END} is sparse in its kinks: distinct directions "
            f"among macroscopic neurons, {SAME_DIRECTION:g} degree apart."
        ),
        measured=distinct_directions(units, SAME_DIRECTION),
        bound=len(e.problem.data.y),
        relation="<=",
        reason="An interpolator of least variation norm needs at most n neurons (representers).",
    )


def saddle_to_saddle(e: Evidence) -> Claim:
    """Figure 4(f): a saddle-to-saddle dynamics also happens in this general setup."""
    left = [s for s in e.solution.saddles if s.time_leave is not None]
    return Claim(
        name="saddle-to-saddle",
        statement="The flow goes from saddle to saddle: saddles visited and left.",
        measured=len(left),
        bound=2,
        relation=">=",
        reason="The origin and an intermediate saddle.",
    )


def not_yet_zero(e: Evidence) -> Deviation | None:
    """Figure 4(e) on the loss."""
    if e.loss(END) <= 2.0**-24 * e.loss(0):
        return None
    flow = e.solution.trajectory
    late = flow.time >= 0.9 * flow.time[-1]
    rate = -np.polyfit(flow.time[late], flow.log_loss[late], 1)[0]
    return Deviation(
        name="loss-still-falling",
        printed='"In Figure 4(e), we have a zero training loss".',
        found=(
            "On the scale of figure 4(f) the loss is zero at iteration 300000, but the flow has "
            "not converged: the loss is a small part of the starting one and still falls."
        ),
        evidence={
            "loss_over_initial_loss": e.loss(END) / e.loss(0),
            "iterations_per_factor_ten": float(np.log(10.0) / rate / e.setting.step),
        },
    )


def more_directions(e: Evidence) -> Deviation | None:
    """Appendix A.1 on the groups that grow first."""
    state, big = e.state(SADDLE), _big(e, SADDLE)
    units = unit_hidden(state)[big]
    angle = np.degrees(np.arctan2(units[:, 1], units[:, 0]))
    order = np.argsort(angle)
    cuts = np.nonzero(np.diff(angle[order]) > SAME_DIRECTION)[0] + 1
    members = np.split(np.nonzero(big)[0][order], cuts)
    if len(members) <= 2:
        return None
    start = unit_hidden(e.state(ALIGNED))
    maxima = _maxima(e)
    nearest = np.argmin([angles_to(start, one) for one in maxima], axis=0)
    return Deviation(
        name="more-directions-than-groups",
        printed='"two groups of neurons [...] grow in norms until reaching an intermediate saddle"',
        found=(
            f"The neurons that grow start from {len({int(k) for k in nearest[big]})} of the "
            f"{len(maxima)} maxima of the NCF of the labels, and at the saddle they still have "
            f"{len(members)} directions. They are two groups when those that are active on a "
            "common example are counted as one, which is how the claim above counts them."
        ),
        evidence={
            "directions_at_the_saddle": [
                {
                    "kink": float(np.mean(kinks(state)[group])),
                    "neurons": len(group),
                    "sum_of_squared_norms": float(np.sum(np.exp(2.0 * log_hidden(state)[group]))),
                }
                for group in members
            ],
        },
    )


def descent_is_late(e: Evidence) -> Deviation | None:
    """Section 5 on the step of gradient descent."""
    frames = (GROWTH, END)
    flow = [e.loss(frame) for frame in frames]
    runs = []
    for run, per in ((e.descent, 1), (e.finer_descent, FINER)):
        at = np.searchsorted(run.iteration, [per * frame for frame in frames])
        a = run.trajectory.direction[:, :, 0]
        runs.append(
            {
                "step": run.step,
                "loss": run.trajectory.loss[at].tolist(),
                "neurons_whose_a_changed_sign": int(np.sum(a[at[-1]] * a[0] < 0)),
            }
        )
    if max(loss / ours for loss, ours in zip(runs[0]["loss"], flow, strict=True)) <= 1.1:
        return None
    return Deviation(
        name="step-too-long-for-the-flow",
        printed='"gradient descent with a step size 10^-3 to approximate the gradient flow"',
        found=(
            "From the same weights gradient descent with that step leaves the intermediate saddle "
            "later than the flow, or not at all before the end. While neurons with a < 0 shrink "
            "along a kink they lose the balance |a| = |w|, which the flow conserves; where a "
            "changes its sign, they do not grow at the saddle. A tenth of the step follows the "
            "flow."
        ),
        evidence={"iterations": list(frames), "loss_of_the_flow": flow, "gradient_descent": runs},
    )


CLAIMS = (
    still_at_the_origin,
    aligned_early,
    two_groups,
    at_the_saddle,
    turns_before_the_saddle,
    turns_after_the_saddle,
    loss_at_zero,
    sparse_kinks,
    saddle_to_saddle,
)
DEVIATIONS = (not_yet_zero, more_directions, descent_is_late)
