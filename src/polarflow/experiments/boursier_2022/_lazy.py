"""Figure 5: the five points from a large initialisation."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from .._base import Claim
from ._setting import Evidence, Setting

if TYPE_CHECKING:
    from ...comparators import NtkInterpolant

END = 5000

SETTING = Setting(
    data="five-points",
    width=60,
    scale=10.0,
    step=1e-3,
    iterations=END,
    frames=(0,),
)

WINDOW = (-3.0, 3.0)
"""The inputs on which the learned function is compared with the interpolant."""


def line(points: int = 1201) -> np.ndarray:
    """Inputs over the window, with the bias appended."""
    at = np.linspace(*WINDOW, points)
    return np.stack([at, np.ones(points)], axis=1)


@lru_cache(maxsize=1)
def _interpolant(seed: int) -> "NtkInterpolant":
    from ...comparators import ntk_interpolant

    return ntk_interpolant(SETTING.problem(seed))


def interpolant(e: Evidence) -> "NtkInterpolant":
    """The interpolant of the NTK at the initial weights."""
    return _interpolant(e.seed)


def _moved(e: Evidence) -> float:
    """|theta(T) - theta(0)| / |theta(0)|."""
    start, end = e.state(0).weights(), e.state(END).weights()
    return float(np.linalg.norm(end - start) / np.linalg.norm(start))


def weights_stay(e: Evidence) -> Claim:
    """Figure 5: the neuron weights do not significantly move."""
    n, m = len(e.problem.data.y), e.setting.width
    return Claim(
        name="weights-hardly-move",
        statement=(
            "The weights do not significantly move until the end of training: "
            "|theta(T) - theta(0)| / |theta(0)|."
        ),
        measured=_moved(e),
        bound=float(np.sqrt(n / m)),
        relation="<=",
        reason=(
            "Since h is 2-homogeneous and the labels are small against h(0), the linearised flow "
            "takes half of theta(0) off n directions of the weights of m neurons: of the order of "
            "sqrt(n/m)/2; twice that is allowed."
        ),
    )


def close_to_ntk(e: Evidence) -> Claim:
    """Appendix A.1: approximately the interpolator of the NTK at initialisation."""
    x, network = line(), e.problem.network
    limit = interpolant(e)(x)
    distance = np.max(np.abs(network.predict(e.state(END), x) - limit))
    travelled = np.max(np.abs(network.predict(e.state(0), x) - limit))
    return Claim(
        name="ntk-interpolant",
        statement=(
            "The learned function is approximately the interpolant of the NTK at initialisation: "
            f"their largest distance on [{WINDOW[0]:g}, {WINDOW[1]:g}] over that of the initial "
            "function from it."
        ),
        measured=float(distance / travelled),
        bound=_moved(e),
        relation="<=",
        reason=(
            "The relative error of a linearisation is of first order in the relative change of "
            "the weights."
        ),
    )


def loss_vanishes(e: Evidence) -> Claim:
    """Appendix A.1: convergence towards zero loss, much faster."""
    kernel = e.problem.loss.factor(len(e.problem.data.y)) * interpolant(e).smallest_eigenvalue
    return Claim(
        name="zero-loss",
        statement=f"At iteration {END} the loss is zero: L / L(0).",
        measured=e.loss(END) / e.loss(0),
        bound=float(np.exp(-kernel * e.setting.times[-1])),
        relation="<=",
        reason=(
            "In the linearised flow L falls at least at twice the smallest eigenvalue of the "
            "kernel; half that rate is asked for, since the kernel moves with the weights."
        ),
    )


def no_saddle(e: Evidence) -> Claim:
    """Appendix A.1: the trajectory does not go through saddle points."""
    return Claim(
        name="no-saddle",
        statement="No saddle is visited and left.",
        measured=len([s for s in e.solution.saddles if s.time_leave is not None]),
        bound=0,
        relation="==",
        reason="The paper's statement.",
    )


CLAIMS = (weights_stay, close_to_ntk, loss_vanishes, no_saddle)
