"""The flow in polar coordinates, as an adaptive solver sees it that knows nothing of kinks.

With w_j = exp(rho_j) u_j and a balanced start, a_j = s_j |w_j|, the flow is (Boursier et al. 2022,
equation 9) rho_j' = s_j <D_j, u_j>, u_j' = s_j (D_j - <D_j, u_j> u_j).
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._methods import Outcome

if TYPE_CHECKING:
    from ..flow import Problem


def start(problem: "Problem") -> tuple[Float[ndarray, " m"], Float[ndarray, "m d"]]:
    """rho and u at time zero."""
    problem.initial.check_balanced()
    w = problem.initial.direction[:, 1:]
    size = np.linalg.norm(w, axis=1)
    return problem.initial.log_norm + np.log(size), w / size[:, None]


def signs(problem: "Problem") -> Float[ndarray, " m"]:
    """The signs s_j of the output weights."""
    return np.sign(problem.initial.direction[:, 0])


def outcome(
    problem: "Problem",
    rho: Float[ndarray, "T m"],
    u: Float[ndarray, "T m d"],
    seconds: float,
    evaluations: int,
) -> Outcome:
    """What a solver that finished has reached, in weights."""
    with np.errstate(under="ignore"):
        w = np.exp(rho)[:, :, None] * u
    a = signs(problem) * np.linalg.norm(w, axis=2)
    slope = problem.two_layer.slope
    prediction = np.empty((len(w), len(problem.data.y)))
    for t in range(len(w)):
        z = w[t] @ problem.data.x.T
        prediction[t] = a[t] @ np.maximum(z, slope * z)
    weights = np.concatenate([a[:, :, None], w], axis=2)
    loss = np.asarray(problem.loss.value(prediction, problem.data.y))
    return Outcome(seconds, evaluations, evaluations, weights, loss)


def unfinished(seconds: float, evaluations: int, note: str) -> Outcome:
    """What a solver leaves that was stopped."""
    return Outcome(seconds, evaluations, evaluations, None, None, note)
