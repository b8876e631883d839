"""The two examples in the plane as one neuron, and the closed forms of their flows.

With one example x = 1 the neuron (a, w) with the activation |z| has h = a|w|: u_1 = a, u_2 = w.
The flow of u_1|u_2| itself is that of the correlation with the label 1; that of (u_1|u_2| - 1)^2
is the square loss with the label 1 and the factor 2.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    from ... import Problem
    from ...losses import Loss


def neuron(u: tuple[float, float], loss: "Loss") -> "Problem":
    """The flow of the loss of u_1|u_2| from a point that is not the origin."""
    from ...data import Data
    from ...flow import problem
    from ...networks import TwoLayer, block_state

    norm = float(np.hypot(*u))
    initial = block_state(np.array([np.log(norm)]), np.array([u]) / norm)
    return problem(Data(np.array([[1.0]]), np.array([1.0])), TwoLayer(1, "abs"), initial, loss=loss)


def ascent(u: tuple[float, float]) -> "Problem":
    """The flow that climbs u_1|u_2|."""
    from ...losses import Correlation

    return neuron(u, Correlation("sum"))


def descent(u: tuple[float, float]) -> "Problem":
    """The flow that descends (u_1|u_2| - 1)^2."""
    from ...losses import Square

    return neuron(u, Square("sum", scale=2.0))


def ascended(u: tuple[float, float], time: Float[ndarray, " T"]) -> Float[ndarray, "T 2"]:
    r"""The flow of $u_1|u_2|$ from a point that is not on the half-line of $(1, 0)$.

    Off the axis $u_1 \pm |u_2|$ grows and decays as $e^{\pm t}$, until $u_2$ vanishes, which it
    does only where $u_1 < -|u_2|$: at $e^{2t} = (u_1 - |u_2|)/(u_1 + |u_2|)$. There the flow rests.
    """
    first, second = u[0], abs(u[1])
    if first + second < 0.0:
        rest = 0.5 * np.log((first - second) / (first + second))
        time = np.minimum(time, rest)
    up, down = (first + second) * np.exp(time), (first - second) * np.exp(-time)
    side = np.sign(u[1])
    return np.stack([0.5 * (up + down), side * 0.5 * (up - down)], axis=-1)


def waited(wait: float, time: Float[ndarray, " T"]) -> Float[ndarray, "T 2"]:
    """Lemma E.1 (v1): (1, 0) until the time `wait`, then (cosh, sinh)."""
    moved = np.maximum(time - wait, 0.0)
    return np.stack([np.cosh(moved), np.sinh(moved)], axis=-1)


def descended(delta: float, time: Float[ndarray, " T"]) -> Float[ndarray, "T 2"]:
    r"""The flow of $(u_1|u_2| - 1)^2$ from $(1 + \delta, \delta)$, $\delta \ge 0$, on $u_2 > 0$.

    $c^2 = u_1^2 - u_2^2 = 1 + 2\delta$ is conserved. With $u = c(\cosh\varphi, \sinh\varphi)$ and
    $\tau = \tanh\varphi$ it is a Riccati equation with constant coefficients,
    $\dot\tau = 2 - 2c^2\tau - 2\tau^2 = -2(\tau - \tau_+)(\tau - \tau_-)$.
    """
    square = 1.0 + 2.0 * delta
    root = np.sqrt(square**2 + 4.0)
    above, below = 0.5 * (-square + root), 0.5 * (-square - root)
    start = delta / (1.0 + delta)
    ratio = (start - above) / (start - below) * np.exp(-2.0 * root * time)
    slope = (above - ratio * below) / (1.0 - ratio)
    first = np.sqrt(square) / np.sqrt(1.0 - slope**2)
    return np.stack([first, first * slope], axis=-1)
