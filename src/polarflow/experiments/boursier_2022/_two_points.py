"""Figure 2: two orthogonal points, and the setting that figure 3 shares.

With r_k = -dl/dh_k, l = kappa sum_k (h_k - y_k)^2 / 2, the vectors D_+ and D_- of the paper are,
in the flow's time, D_+ = kappa y_2 x_2 (y_2 > 0) and D_- = kappa y_1 x_1 (y_1 < 0). For orthogonal
inputs r_1 <= 0 <= r_2 for ever: dr_1/dt = -K_11 r_1 - K_12 r_2 with K_12 >= 0 cannot change the
sign of r_1, nor the other that of r_2. Hence, for a neuron with a > 0, the component of w along
x_2 never falls once it is positive and is frozen otherwise, while that along x_1 can only fall to
zero or is frozen; with the examples exchanged for a < 0. The bounds below follow from this.
"""

import numpy as np

from .._base import Claim, Deviation
from .._flow import RTOL
from .._measure import (
    angles_to,
    clusters,
    groups_sharing_examples,
    kinks,
    linear_variation_norm,
    log_hidden,
    macroscopic,
    unit_hidden,
    variation_norm,
)
from ._setting import Evidence, Setting, key_groups

ALIGNED, FIRST_FITTED, BOTH_FITTED, END = 4000, 8000, 15000, 20000

SETTING = Setting(
    data="two-points",
    width=60,
    scale=1e-6,
    step=1e-3,
    iterations=END,
    frames=(0, ALIGNED, FIRST_FITTED, BOTH_FITTED),
)

NEGATIVE, POSITIVE = 0, 1
"""The two examples, by the sign of their label."""

FITTED = 0.05
"""A label is fitted when the prediction is within a twentieth of it."""


def rates(e: Evidence) -> np.ndarray:
    """||D_-|| and ||D_+|| in the flow's time."""
    data = e.problem.data
    factor = e.problem.loss.factor(len(data.y))
    return np.asarray(factor * np.abs(data.y) * np.linalg.norm(data.x, axis=1))


def _group(e: Evidence, example: int) -> np.ndarray:
    positive, negative = key_groups(e.problem)
    return positive if example == POSITIVE else negative


def _misaligned(e: Evidence, example: int, iteration: int) -> np.ndarray:
    """Angles in degrees of the example's group to D_+ or -D_-, that is to its input."""
    units = unit_hidden(e.state(iteration))[_group(e, example)]
    return angles_to(units, e.problem.data.x[example])


def _alignment(e: Evidence, example: int, label: str) -> Claim:
    time, rate = ALIGNED * e.setting.step, float(rates(e)[example])
    until = e.solution.trajectory.time <= time
    predictions = np.vstack([e.solution.trajectory.prediction[until], e.prediction(ALIGNED)])
    label_y = e.problem.data.y[example]
    left = float(np.min(1.0 - predictions[:, example] / label_y))
    bound = float(np.degrees(2.0 * np.arctan(np.exp(-rate * left * time))))
    sign = "+" if example == POSITIVE else "-"
    return Claim(
        name=f"aligned-{label}",
        statement=(
            f"At iteration {ALIGNED} all neurons of S_{{{sign},1}} are aligned with "
            f"{'D_+' if example == POSITIVE else '-D_-'}: the largest angle in degrees."
        ),
        measured=float(_misaligned(e, example, ALIGNED).max()),
        bound=bound,
        relation="<=",
        reason=(
            "In spherical coordinates the angle obeys dphi/dt <= -|x||r| sin(phi), from at most 90 "
            "degrees: tan(phi/2) <= exp(-||D||t), with the smallest |r|/|r(0)| met until then."
        ),
    )


def aligned_positive(e: Evidence) -> Claim:
    """Lemma 2 (i) at the time of figure 2(b)."""
    return _alignment(e, POSITIVE, "positive")


def aligned_negative(e: Evidence) -> Claim:
    """Lemma 2 (ii) at the time of figure 2(b)."""
    return _alignment(e, NEGATIVE, "negative")


def others_idle(e: Evidence) -> Claim:
    """Lemmas 3 (iii) and 4 (iv): only the two groups ever grow."""
    others = ~(_group(e, POSITIVE) | _group(e, NEGATIVE))
    log_norm = e.solution.trajectory.log_norm[:, others]
    growth = float(np.max(log_norm - log_norm[0])) if others.any() else 0.0
    return Claim(
        name="others-idle",
        statement=(
            "Neurons outside S_{+,1} and S_{-,1} never grow: the largest ln(|w(t)|/|w(0)|) over "
            "all of them and all times."
        ),
        measured=growth,
        bound=1000 * RTOL,
        relation="<=",
        reason="Their norms cannot rise while r_1 <= 0 <= r_2; a thousand times the tolerance.",
    )


def _unfitted(e: Evidence, example: int, iteration: int) -> float:
    y = e.problem.data.y[example]
    return float(abs(e.prediction(iteration)[example] - y) / abs(y))


def positive_fitted_first(e: Evidence) -> Claim:
    """Figure 2(c): the positive label is perfectly fitted."""
    return Claim(
        name="positive-label-fitted",
        statement=f"At iteration {FIRST_FITTED} the positive label is fitted: |h - y|/|y|.",
        measured=_unfitted(e, POSITIVE, FIRST_FITTED),
        bound=FITTED,
        relation="<=",
        reason="A twentieth of the label, the size of a data point in the figure.",
    )


def negative_unfitted(e: Evidence) -> Claim:
    """Figure 2(c): the negative label is not yet."""
    return Claim(
        name="negative-label-not-yet-fitted",
        statement=f"At iteration {FIRST_FITTED} the negative label is not fitted: |h - y|/|y|.",
        measured=_unfitted(e, NEGATIVE, FIRST_FITTED),
        bound=1.0 - FITTED,
        relation=">=",
        reason="The prediction has not moved by a twentieth of the label.",
    )


def both_fitted(e: Evidence) -> Claim:
    """Figure 2(d): both labels are fitted."""
    return Claim(
        name="both-labels-fitted",
        statement=f"At iteration {BOTH_FITTED} both labels are fitted: the larger |h - y|/|y|.",
        measured=max(_unfitted(e, k, BOTH_FITTED) for k in (NEGATIVE, POSITIVE)),
        bound=FITTED,
        relation="<=",
        reason="A twentieth of the label, the size of a data point in the figure.",
    )


def zero_loss(e: Evidence) -> Claim:
    """Section 5: at the end of training, the loss is 0."""
    return Claim(
        name="zero-loss",
        statement=f"At the end of training (iteration {END}) the loss is 0: L / L(0).",
        measured=e.loss(END) / e.loss(0),
        bound=2.0**-24,
        relation="<=",
        reason="Half a unit in the last place of single precision, the paper's arithmetic.",
    )


def one_group_first(e: Evidence) -> Claim:
    """Appendix A.1: in the orthogonal case a single group grows until the intermediate saddle."""
    state = e.state(FIRST_FITTED)
    big = macroscopic(state)
    return Claim(
        name="one-group-grows-first",
        statement=(
            f"At iteration {FIRST_FITTED} a single group has grown: groups of macroscopic neurons "
            "that share no active example."
        ),
        measured=groups_sharing_examples(unit_hidden(state)[big], e.problem.data.x),
        bound=1,
        relation="==",
        reason="The paper's count; macroscopic neurons carry all but 0.1 % of sum |w|^2.",
    )


def direction_kept(e: Evidence) -> Claim:
    """Section 3.2: neurons keep their direction once they have a norm."""
    turned = max(
        float(
            angles_to(unit_hidden(e.state(END))[group], unit_hidden(e.state(ALIGNED))[group]).max()
        )
        for group in (_group(e, POSITIVE), _group(e, NEGATIVE))
    )
    return Claim(
        name="direction-kept-while-growing",
        statement=(
            f"From iteration {ALIGNED} on, neurons of both groups do not change their direction: "
            "the largest angle turned until the end, in degrees."
        ),
        measured=turned,
        bound=max(float(_misaligned(e, k, ALIGNED).max()) for k in (NEGATIVE, POSITIVE)),
        relation="<=",
        reason="They only finish their alignment: at most the angle left when it ended.",
    )


def _final_kinks(e: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Kinks of macroscopic neurons at the end, and how far each may be from its data point.

    The component of w_j across its input never exceeds |w_j(0)|, so its angle is at most
    |w_j(0)| / |w_j|.
    """
    state = e.state(END)
    big = macroscopic(state)
    at = kinks(state)[big]
    angle = np.exp(log_hidden(e.problem.initial) - log_hidden(state))[big]
    return at, 1.01 * (1.0 + at**2) * angle


def two_kinks(e: Evidence) -> Claim:
    """Section 5: the estimated function only has two kinks."""
    at, allowed = _final_kinks(e)
    return Claim(
        name="two-kinks",
        statement=f"At iteration {END} the learned function has two kinks: clusters of kinks.",
        measured=len(clusters(at, gap=float(2.0 * allowed.max()))),
        bound=2,
        relation="==",
        reason=(
            "The paper's count. Neurons of one group are nearer to one another than twice the "
            "bound of the claim kinks-at-the-data."
        ),
    )


def kinks_at_the_data(e: Evidence) -> Claim:
    """The kinks of D_+ and -D_-, which for two orthogonal points are the data points."""
    at, allowed = _final_kinks(e)
    inputs = e.problem.data.x[:, 0]
    off = np.min(np.abs(at[:, None] - inputs), axis=1)
    worst = int(np.argmax(off / allowed))
    return Claim(
        name="kinks-at-the-data",
        statement=(
            f"At iteration {END} the kinks are those of D_+ and -D_-, at x = -0.5 and 2: the "
            "distance of the neuron that is nearest to its bound."
        ),
        measured=float(off[worst]),
        bound=float(allowed[worst]),
        relation="<=",
        reason="(1 + x^2)|w_j(0)|/|w_j|: the component of w_j across its input never grows.",
    )


def smaller_variation_norm(e: Evidence) -> Claim:
    """Section 5: a smaller F_1-norm than the linear interpolator."""
    data = e.problem.data
    slope = float((data.y[1] - data.y[0]) / (data.x[1, 0] - data.x[0, 0]))
    intercept = float(data.y[0] - slope * data.x[0, 0])
    return Claim(
        name="smaller-norm-than-linear",
        statement=(
            "The learned function has a smaller F_1-norm than the linear interpolator: "
            "sum_j |a_j||w_j|, which is at least its F_1-norm."
        ),
        measured=variation_norm(e.state(END)),
        bound=linear_variation_norm(slope, intercept),
        relation="<=",
        reason="The norm of 0.8x - 0.6 on the real line, 0.6 + 0.8 sqrt(3), is exact.",
    )


def minimum_norm(e: Evidence) -> Claim:
    """Theorem 1: the limit has the least norm among all interpolators."""
    data, state = e.problem.data, e.state(END)
    lengths = np.linalg.norm(data.x, axis=1)
    least = 2.0 * float(np.sum(np.abs(data.y) / lengths))
    missing = float(np.sum(np.abs(e.prediction(END) - data.y) / lengths))
    start = float(np.sqrt(np.sum(np.exp(2.0 * log_hidden(e.problem.initial)))))
    square = float(np.sum(np.exp(2.0 * state.log_norm)))
    half = float(np.sqrt(square / 2.0))
    return Claim(
        name="minimum-norm",
        statement=(
            "||theta||^2 tends to 2(1/sqrt(5) + 1/sqrt(1.25)), the least of all interpolators: "
            f"the difference at iteration {END}."
        ),
        measured=abs(square - least),
        bound=2.0 * (2.0 * half * start + start**2) + 2.0 * missing,
        relation="<=",
        reason=(
            "From below by duality, up to the labels not yet fitted; from above because components "
            "of w_j across its input and neurons outside the two groups never exceed their initial "
            "size: 2(2|W||W(0)| + |W(0)|^2) + 2 sum_k |h_k - y_k|/|x_k|."
        ),
    )


def all_aligned(e: Evidence) -> Deviation | None:
    """Section 5 on figure 2(b), read of all neurons."""
    units = unit_hidden(e.state(ALIGNED))
    off = np.min([angles_to(units, x) for x in e.problem.data.x], axis=0)
    limit = 2.0 * np.degrees(np.arctan(np.exp(-rates(e).min() * ALIGNED * e.setting.step)))
    away = int(np.sum(off > limit))
    if away == 0:
        return None
    return Deviation(
        name="only-living-neurons-align",
        printed=(
            'Figure 2(b) "shows the end of the first phase, where the neurons are aligned towards '
            'two key directions".'
        ),
        found=(
            f"{away} of the {e.setting.width} neurons are not: those outside S_{{+,1}} and "
            "S_{-,1}, which are inactive on the examples that would attract them. They stay where "
            "they are or turn away, never grow, and are not seen in the learned function. Lemma 2 "
            "speaks of the two sets only."
        ),
        evidence={
            "neurons": e.setting.width,
            "in_S_plus": int(_group(e, POSITIVE).sum()),
            "in_S_minus": int(_group(e, NEGATIVE).sum()),
            "further_than_degrees": float(limit),
            "away_from_both": away,
        },
    )


CLAIMS = (
    aligned_positive,
    aligned_negative,
    others_idle,
    positive_fitted_first,
    negative_unfitted,
    one_group_first,
    both_fitted,
    direction_kept,
    zero_loss,
    two_kinks,
    kinks_at_the_data,
    smaller_variation_norm,
    minimum_norm,
)
DEVIATIONS = (all_aligned,)
