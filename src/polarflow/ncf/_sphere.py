"""A block's NCF on the unit sphere, differentiated by JAX: flow, Newton's method, Hessian."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..networks._evaluate import jax64
from ._block import Block

#: The tangential gradient at which Levenberg-Marquardt hands over to Newton, relative to its size.
CLOSE = 1e-7
#: Local error of the flow's steps.
FLOW_TOLERANCE = 1e-6
#: Singular values below this, relative to the largest, are null directions.
NULL = 1e-8
#: Newton's method stops at this residual, relative to the gradient's size.
FINISHED = 1e-14
_FLOW_STEPS = 4000
_NEWTON_STEPS = 30
_DESCENT_STEPS = 100


@dataclass(frozen=True, eq=False)
class Sphere:
    """N(w) = sum_kc z_kc H_c(x_k; w) of one block on |w| = 1.

    **Arguments:**

    - `block`: of order L.
    - `x`: inputs, shape `(n, d)`.
    - `z`: shape `(n, C)`.
    """

    block: Block
    x: Float[ndarray, "n d"]
    z: Float[ndarray, "n C"]

    def value_and_gradient(self, w: Float[ndarray, "m p"]) -> tuple[ndarray, ndarray]:
        """N and its gradient at m points."""
        both = _compiled(self.block.apply)[0]
        value, gradient = both(w, self.block.constant, self.x, self.z)
        return np.asarray(value), np.asarray(gradient)

    def hessian(self, w: Float[ndarray, " p"]) -> Float[ndarray, "p p"]:
        """The second derivatives of N, in the flat space."""
        second = _compiled(self.block.apply)[1]
        return np.asarray(second(w, self.block.constant, self.x, self.z))

    def outputs(self, w: Float[ndarray, "m p"], x: Float[ndarray, "q d"]) -> ndarray:
        """H at other inputs, one row for each point."""
        outputs = _compiled(self.block.apply)[2]
        return np.asarray(outputs(w, self.block.constant, x)).reshape(len(w), -1)

    def tangent(self, w: Float[ndarray, "m p"]) -> tuple[ndarray, ndarray]:
        """N, and its gradient along the sphere."""
        value, gradient = self.value_and_gradient(w)
        return value, gradient - (gradient * w).sum(axis=1, keepdims=True) * w

    def flow(self, w: Float[ndarray, "m p"], size: float, close: float) -> Float[ndarray, "m p"]:
        """Where the flow dv/ds = (I - vv^T) grad N(v) / size takes each start.

        The direction of the NCF flow dw/dt = grad N(w) moves along these same curves. Steps of
        Bogacki & Shampine (1989), order 3, of a length of its own for each start; a start is done
        when its speed is `close`.
        """
        w = w.copy()
        going = np.arange(len(w))
        step = np.full(len(w), 0.1)
        for _ in range(_FLOW_STEPS):
            if len(going) == 0:
                break
            v, h = w[going], step[going][:, None]
            k1 = self._velocity(v, size, len(w))
            k2 = self._velocity(v + 0.5 * h * k1, size, len(w))
            k3 = self._velocity(v + 0.75 * h * k2, size, len(w))
            new = v + h * (2 * k1 + 3 * k2 + 4 * k3) / 9
            new /= np.linalg.norm(new, axis=1, keepdims=True)
            k4 = self._velocity(new, size, len(w))
            error = np.linalg.norm(h * (-5 * k1 / 72 + k2 / 12 + k3 / 9 - k4 / 8), axis=1)
            good = error <= FLOW_TOLERANCE
            w[going[good]] = new[good]
            factor = 0.9 * (FLOW_TOLERANCE / np.maximum(error, 1e-30)) ** (1 / 3)
            step[going] *= np.clip(factor, 0.2, 4.0)
            rest = np.linalg.norm(np.where(good[:, None], k4, k1), axis=1) <= close
            going = going[~rest]
        return w

    def _velocity(self, v: ndarray, size: float, slots: int) -> ndarray:
        padded = np.zeros((slots, v.shape[1]))  # one shape for the compiled function
        padded[: len(v)] = v / np.linalg.norm(v, axis=1, keepdims=True)
        padded[len(v) :, 0] = 1.0
        return np.asarray(self.tangent(padded)[1][: len(v)] / size)

    def newton(self, w: Float[ndarray, " p"], size: float) -> tuple[ndarray, float]:
        """The KKT point near w by Newton's method on grad N = lambda w, |w| = 1.

        Steps have least norm, so that it converges quadratically to flat sets too.

        **Returns:** the point, and |grad N - lambda w| / size there.
        """
        best, least = w, np.inf
        for _ in range(_NEWTON_STEPS):
            _, gradient = self.value_and_gradient(w[None])
            multiplier = float(gradient[0] @ w)
            force = gradient[0] - multiplier * w
            residual = float(np.linalg.norm(force)) / size
            if residual < least:
                best, least = w, residual
            elif residual > 100 * least or not np.isfinite(residual):
                break
            if residual <= FINISHED:
                break
            matrix = self._bordered(w, multiplier)
            vectors, scale = np.linalg.eigh(matrix)[::-1]
            keep = np.abs(scale) > NULL * np.abs(scale).max()
            rhs = vectors.T @ np.append(force, 0.0)
            w = w - (vectors[:, keep] @ (rhs[keep] / scale[keep]))[:-1]
            w = w / np.linalg.norm(w)
        return best, least

    def descend(self, w: Float[ndarray, " p"], size: float) -> ndarray:
        """A KKT point of any type: Levenberg-Marquardt steps on the KKT equations from w."""
        damping = 0.1 * size
        _, gradient = self.value_and_gradient(w[None])
        multiplier = float(gradient[0] @ w)
        force = gradient[0] - multiplier * w
        for _ in range(_DESCENT_STEPS):
            if np.linalg.norm(force) <= CLOSE * size:
                break
            matrix = self._bordered(w, multiplier)
            normal = matrix @ matrix + damping**2 * np.eye(len(matrix))
            step = np.linalg.solve(normal, matrix @ np.append(force, 0.0))[:-1]
            trial = w - step
            trial /= np.linalg.norm(trial)
            _, gradient = self.value_and_gradient(trial[None])
            lam = float(gradient[0] @ trial)
            new = gradient[0] - lam * trial
            if np.linalg.norm(new) < np.linalg.norm(force):
                w, multiplier, force, damping = trial, lam, new, 0.3 * damping
            else:
                damping *= 4.0
                if damping > 1e6 * size:
                    break
        return w

    def _bordered(self, w: ndarray, multiplier: float) -> ndarray:
        p = len(w)
        matrix = np.zeros((p + 1, p + 1))
        matrix[:p, :p] = self.hessian(w) - multiplier * np.eye(p)
        matrix[:p, p] = matrix[p, :p] = -w
        return matrix

    def curvatures(self, w: Float[ndarray, " p"]) -> tuple[ndarray, ndarray]:
        """Eigenvalues and eigenvectors (columns) of the Hessian of N on the sphere at w."""
        from ._arrangement import complement

        _, gradient = self.value_and_gradient(w[None])
        across = complement(w[None])
        form = self.hessian(w) - float(gradient[0] @ w) * np.eye(len(w))
        values, vectors = np.linalg.eigh(across @ form @ across.T)
        return values, across.T @ vectors


@lru_cache(maxsize=16)
def _compiled(apply: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any, Any]:
    """N with its gradient at many points, its Hessian at one, and H at many."""
    jax = jax64()

    def value(w: Any, constant: Any, x: Any, z: Any) -> Any:
        return jax.numpy.sum(z * apply(w, constant, x))

    many = (0, None, None, None)
    return (
        jax.jit(jax.vmap(jax.value_and_grad(value), many)),
        jax.jit(jax.hessian(value)),
        jax.jit(jax.vmap(apply, (0, None, None))),
    )
