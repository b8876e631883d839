"""What the paper says of figures 6 and 7, measured."""

import numpy as np

from .._base import Claim, Deviation
from .._measure import angles_to, log_hidden, macroscopic
from ._claims import intermediate_saddle, loss_has_not_moved, loss_never_rises, zero_loss
from ._high_dimension import ALIGNED, END, FIRST_GROWN, RTOL, SADDLE, Evidence


def _between(e: Evidence, iteration: int) -> float:
    """The angle in degrees between the two key directions at a frame."""
    positive, negative = (e.key_direction(iteration, s) for s in (1.0, -1.0))
    return float(angles_to(positive[None], negative)[0])


def _spread(e: Evidence, iteration: int) -> float:
    """The largest angle in degrees of a big neuron to the key direction of its sign."""
    return max(
        float(
            angles_to(
                e.units(iteration)[e.big & (e.sign == s)], e.key_direction(iteration, s)
            ).max()
        )
        for s in (1.0, -1.0)
    )


def early(e: Evidence) -> Claim:
    """Figure 6(b): the end of the alignment phase is before anything is fitted."""
    return loss_has_not_moved(e, ALIGNED, "7(a)")


def aligned(e: Evidence) -> Claim:
    """Appendix A.2: an early alignment phase towards two key directions."""
    return Claim(
        name="two-key-directions",
        statement=(
            f"At iteration {ALIGNED} the neurons that are macroscopic in the end are aligned "
            "towards two key directions, one for each sign of a: the largest angle to the mean of "
            "their sign, in degrees."
        ),
        measured=_spread(e, ALIGNED),
        bound=_between(e, ALIGNED) / 2.0,
        relation="<=",
        reason="Half the angle between the two means: every neuron is nearer to its own.",
    )


def _signs(e: Evidence, iteration: int) -> int:
    return len(set(e.sign[macroscopic(e.state(iteration))].tolist()))


def first_cluster(e: Evidence) -> Claim:
    """Figure 6(c): growth of the first cluster."""
    return Claim(
        name="first-cluster",
        statement=(
            f"At iteration {FIRST_GROWN} a first cluster has grown: the number of signs of a "
            "among macroscopic neurons."
        ),
        measured=_signs(e, FIRST_GROWN),
        bound=1,
        relation="==",
        reason="The paper's count; macroscopic neurons carry all but 0.1 % of sum |w|^2.",
    )


def first_loss(e: Evidence) -> Claim:
    """Figure 6(c): the first cluster is there, and fits what it can."""
    return Claim(
        name="first-cluster-fits",
        statement=f"At iteration {FIRST_GROWN} the loss has fallen with it: L/L(0).",
        measured=e.loss(FIRST_GROWN) / e.loss(0),
        bound=0.9,
        relation="<=",
        reason="A tenth of the axis of figure 7(a).",
    )


def _cluster(e: Evidence, iteration: int) -> np.ndarray:
    """The mean direction at a frame of the first cluster, weighted by sizes when it has grown."""
    grown = macroscopic(e.state(FIRST_GROWN))
    size = np.exp(2.0 * log_hidden(e.state(FIRST_GROWN))[grown])
    return np.asarray(size @ e.units(iteration)[grown])


def direction_kept(e: Evidence) -> Claim:
    """Appendix A.2: the first cluster grows while keeping a fixed direction, in projection."""
    before, after = (_cluster(e, i) @ e.components for i in (ALIGNED, FIRST_GROWN))
    return Claim(
        name="first-cluster-keeps-its-direction",
        statement=(
            f"From iteration {ALIGNED} to {FIRST_GROWN} the first cluster keeps its direction in "
            "the plane of the two principal components: the angle that its mean turns by, in "
            "degrees."
        ),
        measured=float(angles_to((before / np.linalg.norm(before))[None], after)[0]),
        bound=_between(e, ALIGNED) / 4.0,
        relation="<=",
        reason="A quarter of the angle between the two key directions.",
    )


def turns_in_space(e: Evidence) -> Deviation | None:
    """The fixed direction, read in the space of the weights instead of its projection."""
    grown = macroscopic(e.state(FIRST_GROWN))
    turned = angles_to(e.units(FIRST_GROWN)[grown], e.units(ALIGNED)[grown])
    before, after = _cluster(e, ALIGNED), _cluster(e, FIRST_GROWN)
    mean = float(angles_to((before / np.linalg.norm(before))[None], after)[0])
    if mean < _between(e, ALIGNED) / 8.0:
        return None
    return Deviation(
        name="directions-are-fixed-in-projection-only",
        printed=(
            "A first cluster of neurons grows in norm while keeping a fixed direction (at least "
            "when projected onto the two principal components)."
        ),
        found=(
            f"In dimension {e.setting.dimension} its mean turns by {mean:.0f} degrees from "
            f"iteration {ALIGNED} to {FIRST_GROWN}, and its neurons by {turned.min():.0f} to "
            f"{turned.max():.0f}. In the plane of the figure little of it is seen."
        ),
        evidence={
            "mean_turns_by_degrees": mean,
            "neurons": int(grown.sum()),
            "neurons_turn_by_degrees": [
                float(v) for v in (turned.min(), np.median(turned), turned.max())
            ],
            "between_key_directions_degrees": _between(e, ALIGNED),
        },
    )


def second_cluster(e: Evidence) -> Claim:
    """Figure 6(d): then the other cluster."""
    return Claim(
        name="second-cluster",
        statement=f"At iteration {END} both clusters have grown: signs of macroscopic neurons.",
        measured=_signs(e, END),
        bound=2,
        relation="==",
        reason="The paper's count.",
    )


def not_two_directions(e: Evidence) -> Claim:
    """Figure 6(d): in the final state neurons are not exactly aligned with two directions."""
    return Claim(
        name="not-exactly-two-directions",
        statement=(
            f"At iteration {END} the neurons are not exactly aligned with two directions: the "
            "part of sum |w|^2 outside the two principal components."
        ),
        measured=float(1.0 - e.explained[:2].sum()),
        bound=0.05,
        relation=">=",
        reason="A twentieth; it is zero for two directions.",
    )


def saddle(e: Evidence) -> Claim:
    """Figure 7(a): an intermediate saddle around iteration 75 000."""
    return intermediate_saddle(e, SADDLE)


def loss_vanishes(e: Evidence) -> Claim:
    """Figure 7(a): the training loss converges to 0."""
    return zero_loss(e, END, "7(a)")


def loss_falls(e: Evidence) -> Claim:
    """A gradient flow never climbs."""
    return loss_never_rises(e, RTOL)


def explained(e: Evidence) -> Claim:
    """Figure 7(b): about 80 % of the final weights in two components."""
    return Claim(
        name="explained-variance",
        statement=(
            "The two principal components explain about 80 % of the final hidden weights: their "
            "part of sum |w|^2."
        ),
        measured=float(e.explained[:2].sum()),
        bound=(0.7, 0.9),
        relation="in",
        reason="The paper's number, give or take a tenth: it depends on the data drawn.",
    )


def single_precision(e: Evidence) -> Deviation | None:
    """Their start, 1e-20/sqrt(md) in single precision, is not what the text says."""
    if e.quick:
        return None
    weights = e.single_start.initial.direction
    imbalance = np.abs(np.abs(weights[:, 0]) / np.linalg.norm(weights[:, 1:], axis=1) - 1.0)
    flow = e.solution.evaluate(e.descent.trajectory.time)
    double, single = (run.trajectory.loss for run in (e.descent, e.single_descent))
    end = e.state(END).weights()
    shift = float(np.abs(single - double).max())
    return Deviation(
        name="start-in-single-precision",
        printed="The initialisation is balanced, |a_j| = |w_j|, at lambda = 1e-20/sqrt(m d).",
        found=(
            "In single precision, the arithmetic of the authors' script, it is not: the squares "
            "of the weights are subnormal, with one or two significant bits, so that |a_j| is off "
            f"by up to {100 * imbalance.max():.1f} %. The picture survives: gradient descent in "
            "single precision differs from that in double by no more than "
            f"{shift / e.loss(0):.1e} of the starting loss, which is one of time: it leaves the "
            "plateaus a little earlier or later."
        ),
        evidence={
            "largest_imbalance_of_the_start": float(imbalance.max()),
            "smallest_normal_float32": float(np.finfo(np.float32).tiny),
            "spacing_of_subnormal_float32": float(np.finfo(np.float32).smallest_subnormal),
            "mean_square_of_a_weight": float(np.mean(e.problem.initial.weights()[:, 1:] ** 2)),
            "largest_loss_difference_single_double": shift,
            "at_iteration": int(e.descent.iteration[np.argmax(np.abs(single - double))]),
            "largest_loss_difference_double_flow": float(np.abs(double - flow.loss).max()),
            "final_loss": {
                "flow": e.loss(END),
                "double": float(double[-1]),
                "single": float(single[-1]),
            },
            "final_weights_relative_distance_to_the_flow": {
                name: float(np.linalg.norm(run.trajectory.weights()[-1] - end))
                / float(np.linalg.norm(end))
                for name, run in (("double", e.descent), ("single", e.single_descent))
            },
        },
    )


STATES = (
    early,
    aligned,
    first_cluster,
    first_loss,
    direction_kept,
    second_cluster,
    not_two_directions,
)
LOSS = (saddle, loss_vanishes, loss_falls, explained)
STATE_DEVIATIONS = (turns_in_space, single_precision)
LOSS_DEVIATIONS = (single_precision,)
