r"""The neighbourhood of a rest point: the assumption under which small blocks align near it.

Kumar & Haupt (2024), assumption 2 of the paper on deep networks (3 of that on two-homogeneous
ones): $\langle w_n - \bar w_n, \nabla_{w_n} L(w_n, 0)\rangle \ge 0$ in a ball around the active
weights $\bar w_n$. It makes the rest point a local minimum of the active weights, and holds where
their Hessian is positive definite. Rescaling $(a_j, w_j)$, or what else changes no prediction,
gives it a kernel, the tangent space of a manifold of rest points. If that manifold is curved the
inequality fails in every ball: with m on it, $u = m - \bar w_n$ and H the Hessian at m, at the
point $w = m + \nu$ it is $u^T H \nu + \nu^T H \nu$ to leading order, which is negative for a small
multiple $\nu$ of $-Hu$. What the flow needs to stay there is weaker: the loss does not fall, and
$|\nabla L|^2 \ge 2\mu (L - \bar L)$ with $\mu > 0$ (Polyak & Lojasiewicz).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..networks import BlockState, TwoLayer
from ._neighbourhood import is_manifold
from ._rest import RestPoint
from ._separable import Blocks
from ._smooth_rest import refine

#: Radii of the balls, in units of the active weights' norm.
RADII = (1e-1, 1e-2, 1e-3, 1e-4)
#: A cosine below this is negative.
_NEGATIVE = -1e-9
#: Differences of a loss, and gradients, below this share of their sizes are rounding.
_ROUNDING = 1e-14
#: |w.x_k| below this share of |w||x_k| puts a neuron on the kink of example k.
_ON_KINK = 1e-9
#: Points on the manifold of rest points that are tried at each radius.
_TRIED = 4


@dataclass(frozen=True)
class Neighbourhood:
    r"""What holds near a rest point, among its active weights.

    **Attributes:**

    - `radii`: of the spheres around it, in units of |w_n|.
    - `share`: the part of random points on each at which <w - w_n, grad L> >= 0.
    - `least`: the least cosine of w - w_n and grad L over these points.
    - `counterexample`: the least cosine at points constructed near other rest points, for each
      radius; None where there are none.
    - `radius`: the largest of the radii up to which no point of either kind was found where the
      inequality fails; 0 if it fails at all of them.
    - `holds`: whether it does at all radii.
    - `semidefinite`: whether the Hessian is positive semidefinite.
    - `kernel`: the dimension of its kernel.
    - `manifold`: whether the kernel is the tangent space of a manifold of rest points.
    - `minimum`: whether the loss was lower at no random point.
    - `lojasiewicz`: the least |grad L|^2 / (2 (L - L_n)) over the random points of each radius;
      None where the loss does not rise.
    """

    radii: tuple[float, ...]
    share: tuple[float, ...]
    least: tuple[float | None, ...]
    counterexample: tuple[float | None, ...]
    radius: float
    holds: bool
    semidefinite: bool
    kernel: int
    manifold: bool
    minimum: bool
    lojasiewicz: tuple[float | None, ...]

    def to_dict(self) -> dict[str, Any]:
        """The neighbourhood as it stands in summary.json."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def neighbourhood(
    problem: Problem, rest: RestPoint, *, samples: int = 64, seed: int = 0
) -> Neighbourhood | None:
    """Look whether the assumption for directional convergence near a rest point holds.

    Samples prove nothing where they find nothing; a point at which the inequality fails is one.

    **Arguments:**

    - `problem`: data, network and loss; its initial state does not matter.
    - `rest`: a rest point of it.
    - `samples`: random points on each sphere.
    - `seed`: of the generator `numpy.random.default_rng([seed, 17])`.

    **Returns:** None if no weight is active.
    """
    if not rest.active.any():
        return None
    field = _TwoLayerWeights(problem, rest) if isinstance(problem.network, TwoLayer) else _Weights(
        problem, rest
    )  # fmt: skip
    at = field.at
    size = float(np.linalg.norm(at))
    rng = np.random.default_rng([seed, 17])
    share, least, counter, growth = [], [], [], []
    minimum = True
    for radius in RADII:
        cosines, ratios = [], []
        for _ in range(samples):
            away = rng.standard_normal(len(at))
            away *= radius * size / np.linalg.norm(away)
            loss, gradient = field.loss_and_gradient(at + away)
            cosines.append(_cosine(away, gradient))
            rise = loss - rest.loss
            if rise > _ROUNDING * max(rest.loss, loss):
                ratios.append(float(gradient @ gradient) / (2.0 * rise))
            minimum &= rise >= -_ROUNDING * max(rest.loss, 1e-300) * 1e2
        share.append(float(np.mean([c >= _NEGATIVE for c in cosines])))
        least.append(min(cosines))
        counter.append(_counterexample(field, radius * size, rng))
        growth.append(min(ratios, default=None))
    good = [s == 1.0 and (c is None or c >= _NEGATIVE) for s, c in zip(share, counter, strict=True)]
    radius = 0.0
    for fine, each in zip(good[::-1], RADII[::-1], strict=True):
        if not fine:
            break
        radius = each
    return Neighbourhood(
        RADII, tuple(share), tuple(least), tuple(counter), radius, all(good),
        rest.index == 0, rest.kernel, field.manifold(rng), minimum, tuple(growth),
    )  # fmt: skip


def _cosine(a: ndarray, b: ndarray) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0.0 else 0.0


def _counterexample(
    field: "_Weights | _TwoLayerWeights", distance: float, rng: np.random.Generator
) -> float | None:
    """The least cosine at points beside other rest points at about a distance."""
    found: list[float] = []
    for _ in range(_TRIED):
        m = field.other_rest(distance, rng)
        if m is None:
            continue
        u = m - field.at
        if not 0.01 * distance < np.linalg.norm(u) < 100.0 * distance:
            continue

        def times_hessian(v: ndarray, m: ndarray = m) -> ndarray:
            step = 1e-6 * float(np.linalg.norm(m)) / max(float(np.linalg.norm(v)), 1e-300)
            return (field.within(m + step * v) - field.within(m - step * v)) / (2.0 * step)

        hu = times_hessian(u)
        bend = float(hu @ times_hessian(hu))
        if not bend > 0.0:
            continue
        w = m - 0.5 * float(hu @ hu) / bend * hu
        found.append(_cosine(w - field.at, field.within(w)))
    return min(found, default=None)


class _Weights:
    """The active weights of a network of smooth blocks as one vector."""

    def __init__(self, problem: Problem, rest: RestPoint) -> None:
        self.problem, self.rest, self.blocks = problem, rest, Blocks(problem)
        self.log_norm, self.unit = self.blocks.split(rest.state)
        self.active = np.isfinite(self.log_norm)
        self.at = self.blocks.pack(self.log_norm, self.unit, self.active)

    def loss_and_gradient(self, weights: ndarray) -> tuple[float, ndarray]:
        blocks = self.blocks
        log_norm, unit = blocks.unpack(weights, self.active, self.unit)
        h = blocks.predict(log_norm, unit)
        y, loss = self.problem.data.y, self.problem.loss
        _, force = blocks.ncf(unit, loss.residual(h, y))
        with np.errstate(under="ignore"):
            force = np.exp((blocks.order - 1.0) * log_norm)[:, None] * force
        pieces = [f[:p] for f, p in zip(force[self.active], blocks.sizes(self.active), strict=True)]
        return float(loss.value(h, y)), -np.concatenate(pieces)

    def within(self, weights: ndarray) -> ndarray:
        """The gradient."""
        return self.loss_and_gradient(weights)[1]

    def other_rest(self, distance: float, rng: np.random.Generator) -> ndarray | None:
        """A rest point at about a distance, on the manifold if there is one."""
        if self.rest.kernel == 0:
            return None
        away = rng.standard_normal(len(self.at))
        moved = self.at + distance * away / np.linalg.norm(away)
        log_norm, unit = self.blocks.unpack(moved, self.active, self.unit)
        try:
            found = refine(self.problem, self.blocks.join(log_norm, unit), self.rest.active)
        except PolarflowError:
            return None
        log_norm, unit = self.blocks.split(found.state)
        return self.blocks.pack(log_norm, unit, self.active)

    def manifold(self, rng: np.random.Generator) -> bool:
        return is_manifold(self.blocks, self.rest, self.log_norm, self.unit)


class _TwoLayerWeights:
    """The active weights (a_j, w_j) of a two-layer (leaky) ReLU network as one vector."""

    def __init__(self, problem: Problem, rest: RestPoint) -> None:
        self.problem, self.rest = problem, rest
        self.slope = problem.two_layer.slope
        self.active = np.isfinite(rest.state.log_norm)
        self.rows = rest.state.weights()[self.active]
        self.at = self.rows.ravel()
        x = problem.data.x
        z, span = self.rows[:, 1:] @ x.T, np.linalg.norm(x, axis=1)
        size = np.linalg.norm(self.rows[:, 1:], axis=1)[:, None] * span
        kinks = np.abs(z) <= _ON_KINK * size
        self.slopes = np.where(kinks, 0.0, np.where(z > 0.0, 1.0, self.slope))
        self.across = [np.linalg.pinv(x[k]) @ x[k] for k in kinks]

    def within(self, weights: ndarray) -> ndarray:
        """The gradient as long as neurons keep their patterns, those on kinks staying there."""
        x, y, loss = self.problem.data.x, self.problem.data.y, self.problem.loss
        rows = weights.reshape(self.rows.shape)
        a, z = rows[:, 0], self.slopes * (rows[:, 1:] @ x.T)
        r = loss.residual(a @ z, y)
        by_w = a[:, None] * ((self.slopes * r) @ x)
        by_w = np.array([f - p @ f for f, p in zip(by_w, self.across, strict=True)])
        return -np.concatenate([(z @ r)[:, None], by_w], axis=1).ravel()

    def loss_and_gradient(self, weights: ndarray) -> tuple[float, ndarray]:
        x, y, loss = self.problem.data.x, self.problem.data.y, self.problem.loss
        rows = weights.reshape(self.rows.shape)
        a, w = rows[:, 0], rows[:, 1:]
        z = w @ x.T
        slopes = np.where(z > 0.0, 1.0, self.slope)
        h = a @ (slopes * z)
        r = loss.residual(h, y)
        by_a = (slopes * z) @ r
        by_w = a[:, None] * ((slopes * r) @ x)
        return float(loss.value(h, y)), -np.concatenate([by_a[:, None], by_w], axis=1).ravel()

    def other_rest(self, distance: float, rng: np.random.Generator) -> ndarray | None:
        """Rescaled neurons: a_j e^s, w_j e^-s."""
        share = rng.standard_normal(len(self.rows))
        s = distance * share / np.linalg.norm(self.at) / np.abs(share).max()
        return np.concatenate(
            [self.rows[:, :1] * np.exp(s)[:, None], self.rows[:, 1:] * np.exp(-s)[:, None]], axis=1
        ).ravel()

    def manifold(self, rng: np.random.Generator) -> bool:
        """Whether the Jacobian of the predictions has the same rank at a rest point nearby.

        The rest points are those whose products a_j w_j are in an affine space, and the products
        are a submersion of weights that are not zero.
        """
        state, moved = self.rest.state, self.rest.state.direction.copy()
        moved[self.active] += 1e-6 * rng.standard_normal(self.rows.shape)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        try:
            again = refine(
                self.problem, BlockState(state.log_norm, moved), self.active, on_kink=1e-4
            )
        except PolarflowError:
            return False
        return again.kernel == self.rest.kernel
