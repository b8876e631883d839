"""The interpolant of the neural tangent kernel at initialisation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..networks import BlockState, Group, Network, TwoLayer
from ..networks._evaluate import jax64, outputs_of

CHUNK = 5_000_000
"""Blocks times inputs that are differentiated together."""


@dataclass(frozen=True)
class NtkInterpolant:
    r"""The limit of the flow of the network linearised at its initial weights.

    $f(x) = h_{\theta_0}(x) + \langle \nabla_\theta h_{\theta_0}(x), \Delta \rangle$.

    **Attributes:**

    - `network`: the two-layer network.
    - `unit`, `log_scale`: the weights (a, w) at which it is linearised, e^log_scale * unit, shape
      `(m, 1+d)`: no start is too small.
    - `change`: e^log_scale * Delta, with Delta the least-norm change of weights that fits the
      labels, same shape.
    - `smallest_eigenvalue`: of the kernel matrix K(x_k, x_l) = <grad h(x_k), grad h(x_l)>.
    - `residual`: the largest |f(x_k) - y_k|; not zero only where the kernel is singular.
    """

    network: TwoLayer
    unit: Float[ndarray, "m p"]
    log_scale: float
    change: Float[ndarray, "m p"]
    smallest_eigenvalue: float
    residual: float

    @property
    def displacement(self) -> Float[ndarray, "m p"]:
        """Delta; infinite where the start is too small for a float to hold it."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-self.log_scale) * self.change)

    @property
    def relative_displacement(self) -> float:
        """|Delta| / |theta_0|, small in the lazy regime."""
        ratio = np.linalg.norm(self.change) / np.linalg.norm(self.unit)
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(-2.0 * self.log_scale) * ratio)

    def __call__(self, x: Float[ndarray, "q d"]) -> Float[ndarray, " q"]:
        """The interpolant at inputs of length d (bias included)."""
        features = ntk_features(self.network, self.unit, x)
        # Euler's relation: h is 2-homogeneous, so <grad h, theta_0> = 2 h.
        with np.errstate(under="ignore"):
            start = 0.5 * np.exp(2.0 * self.log_scale) * self.unit
        return features @ (start + self.change).ravel()


def ntk_features(
    network: TwoLayer | Network, weights: Float[ndarray, "m p"], x: Float[ndarray, "q d"]
) -> Float[ndarray, "q mp"]:
    """Gradients of h(x) with respect to all weights, block by block, with s'(0) the lower slope.

    **Raises:** `PolarflowError` for several outputs, or blocks of several shapes.
    """
    if isinstance(network, Network):
        jax, group = jax64(), _only_group(network, x.shape[1])

        def slopes(w: Any, own: Any) -> Any:
            return jax.jacrev(lambda v: group.apply(v, own, x)[:, 0])(w)

        constants = np.broadcast_to(group.constants, (len(weights), group.constants.shape[1]))
        by_block = np.asarray(jax.vmap(slopes)(weights, constants))
        return by_block.transpose(1, 0, 2).reshape(len(x), -1)
    a, w = weights[:, 0], weights[:, 1:]
    z = x @ w.T
    active = np.where(z > 0, 1.0, network.slope)
    by_w = (active * a)[:, :, None] * x[:, None, :]
    return np.concatenate([(active * z)[:, :, None], by_w], axis=2).reshape(len(x), -1)


def ntk_change(
    network: TwoLayer | Network,
    weights: Float[ndarray, "m p"],
    displacement: Float[ndarray, "m p"],
    x: Float[ndarray, "q d"],
) -> Float[ndarray, " q"]:
    """The derivative of h(x) along a displacement of the weights, <grad h(x), displacement>."""
    if not isinstance(network, Network):
        return np.asarray(ntk_features(network, weights, x) @ displacement.ravel())
    jax, group = jax64(), _only_group(network, x.shape[1])
    moved = []
    for part in np.array_split(x, -(-len(x) * len(weights) // CHUNK)):

        def output(w: Any, part: ndarray = part) -> Any:
            return outputs_of(group, w, part)[:, :, 0].sum(axis=0)

        moved.append(np.asarray(jax.jvp(output, (weights,), (displacement,))[1]))
    return np.concatenate(moved)


def _only_group(network: Network, dimension: int) -> Group:
    groups = network.groups(dimension)
    if network.outputs > 1 or network.shape(dimension) != (groups[0].rows, groups[0].size):
        raise PolarflowError(
            f'network.kind "{network.kind}" with {network.outputs} outputs and {len(groups)} '
            "shapes of blocks: the NTK's features are for one output and blocks of one shape."
        )
    return groups[0]


def ntk_interpolant(problem: Problem) -> NtkInterpolant:
    r"""The interpolant of the neural tangent kernel at the initial weights.

    The flow of the linearised network converges to the solution of
    $\langle \nabla h_{\theta_0}(x_k), \Delta \rangle = y_k - h_{\theta_0}(x_k)$ of least norm,
    which is $h_{\theta_0} + K(\cdot, X) K(X, X)^{-1} (y - h_{\theta_0}(X))$ with the kernel
    $K(x, x') = \langle \nabla h_{\theta_0}(x), \nabla h_{\theta_0}(x') \rangle$ (Jacot et al.,
    2018; Chizat et al., 2019). It is found by a least-squares routine on the features, which does
    not square the kernel's conditioning.

    **Arguments:**

    - `problem`: its data, network and initial state.

    **Raises:** `PolarflowError` if an initial weight is too large for a float.
    """
    x, y, state = problem.data.x, problem.data.y, problem.initial
    scale = float(state.log_norm.max())
    with np.errstate(over="ignore", under="ignore"):
        unit = BlockState(state.log_norm - scale, state.direction).weights()
        square = float(np.exp(2.0 * scale))
    if not np.isfinite(square):
        raise PolarflowError("ntk_interpolant: an initial weight is too large for a float.")
    features = ntk_features(problem.two_layer, unit, x)
    missing = y - 0.5 * square * features @ unit.ravel()
    change, _, _, singular = np.linalg.lstsq(features, missing, rcond=None)
    full = len(singular) == len(y)
    return NtkInterpolant(
        network=problem.two_layer,
        unit=unit,
        log_scale=scale,
        change=change.reshape(unit.shape),
        smallest_eigenvalue=square * float(singular[-1] ** 2) if full else 0.0,
        residual=float(np.max(np.abs(features @ change - missing))),
    )
