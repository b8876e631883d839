"""The coordinates in which an adaptive solver sees a flow.

Two-layer (leaky) ReLU networks are given to solvers in polar coordinates, unaware of kinks; all
others in the weights themselves, untransformed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..networks import TwoLayer
from ..networks._evaluate import jax64

if TYPE_CHECKING:
    from ..flow import Problem

Velocity = Callable[[ndarray, ndarray], None]


class Chart(Protocol):
    """A flow as an ordinary differential equation for one vector."""

    #: The vector at time zero.
    start: Float[ndarray, " N"]
    #: What an absolute tolerance is relative to.
    unit: float
    #: Whether the field jumps at kinks.
    kinks: bool

    def jax_field(self) -> Callable[[Any], Any]:
        """The velocity as a function of the vector, for JAX to trace."""

    def velocity(self) -> Velocity:
        """The velocity, compiled: takes the vector, fills another."""

    def weights(self, states: Float[ndarray, "T N"]) -> Float[ndarray, "T m p"]:
        """The weights that vectors stand for, in the shape of `BlockState.weights`."""


def chart(problem: "Problem") -> Chart:
    """The coordinates of a problem."""
    return _Polar(problem) if isinstance(problem.network, TwoLayer) else _Plain(problem)


class _Polar:
    """rho_j' = s_j <D_j, u_j>, u_j' = s_j (D_j - <D_j, u_j> u_j).

    With w_j = exp(rho_j) u_j and a balanced start, a_j = s_j |w_j| (Boursier et al. 2022,
    equation 9). The vector holds rho, then u.
    """

    unit, kinks = 1.0, True

    def __init__(self, problem: "Problem") -> None:
        problem.initial.check_balanced()
        w = problem.initial.direction[:, 1:]
        size = np.linalg.norm(w, axis=1)
        rho = problem.initial.log_norm + np.log(size)
        self.problem = problem
        self.sign = np.sign(problem.initial.direction[:, 0])
        self.start = np.concatenate([rho, (w / size[:, None]).ravel()])

    def jax_field(self) -> Callable[[Any], Any]:
        import jax.numpy as jnp

        x, y = np.array(self.problem.data.x), np.array(self.problem.data.y)
        factor, slope = self.problem.loss.factor(len(y)), self.problem.two_layer.slope
        sign, m = self.sign, len(self.sign)

        def field(state: Any) -> Any:
            rho, u = state[:m], state[m:].reshape(m, -1)
            z = u @ x.T
            active = jnp.where(z > 0, 1.0, slope)
            h = jnp.sum((sign * jnp.exp(2.0 * rho))[:, None] * active * z, axis=0)
            force = sign[:, None] * ((active * (factor * (y - h))) @ x)
            along = jnp.sum(force * u, axis=1)
            return jnp.concatenate([along, (force - along[:, None] * u).ravel()])

        return field

    def velocity(self) -> Velocity:
        from ._polar_kernel import field

        x, y = np.array(self.problem.data.x), np.array(self.problem.data.y)
        turned, sign = x.T.copy(), self.sign
        factor, slope = self.problem.loss.factor(len(y)), self.problem.two_layer.slope

        def fill(state: ndarray, change: ndarray) -> None:
            field(state, change, x, turned, y, factor, slope, sign)

        return fill

    def weights(self, states: ndarray) -> ndarray:
        m = len(self.sign)
        with np.errstate(under="ignore"):
            w = np.exp(states[:, :m])[:, :, None] * states[:, m:].reshape(len(states), m, -1)
        a = self.sign * np.linalg.norm(w, axis=2)
        return np.concatenate([a[:, :, None], w], axis=2)


class _Plain:
    """w' = -grad l(w), the weights of all blocks one after another."""

    kinks = False

    def __init__(self, problem: "Problem") -> None:
        from ..comparators._network_descent import Ordinary

        self.problem, self.own = problem, Ordinary(problem)
        self.shapes = [w.shape for w in self.own.start]
        self.start = np.concatenate([w.ravel() for w in self.own.start])
        # An absolute tolerance far above the weights would hide their growth from a solver.
        self.unit = float(np.abs(self.start).max())

    def _split(self, state: Any) -> list[Any]:
        ends = np.cumsum([rows * size for rows, size in self.shapes])
        return [
            state[end - shape[0] * shape[1] : end].reshape(shape)
            for end, shape in zip(ends, self.shapes, strict=True)
        ]

    def jax_field(self) -> Callable[[Any], Any]:
        import jax.numpy as jnp

        def field(state: Any) -> Any:
            _, log_r, slope = self.own.gradient(self._split(state))
            return jnp.exp(log_r) * jnp.concatenate([s.ravel() for s in slope])

        return field

    def velocity(self) -> Velocity:
        compiled = jax64().jit(self.jax_field())

        def fill(state: ndarray, change: ndarray) -> None:
            change[:] = compiled(state)

        return fill

    def weights(self, states: ndarray) -> ndarray:
        found = [self.own.state(self._split(state)) for state in states]
        return np.array([state.weights() for state in found])
