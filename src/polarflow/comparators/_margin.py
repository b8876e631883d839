"""Hard-margin classifiers: linear ones, and those on the NTK's features at initialisation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..ncf._nonnegative import nonnegative
from ..networks import Network, TwoLayer
from ._ntk import ntk_change, ntk_features


@dataclass(frozen=True)
class HardMargin:
    r"""The hard-margin support vector machine without intercept.

    The least $\frac12 |w|^2$ with $y_k w \cdot x_k \ge 1$; a bias is an input like any other.

    **Attributes:**

    - `weight`: w, shape `(d,)`.
    - `multipliers`: the dual variables $\alpha_k \ge 0$, $w = \sum_k \alpha_k y_k x_k$.
    - `value`, `dual_value`: $\frac12 |w|^2$ and
      $\sum_k \alpha_k - \frac12 |\sum_k \alpha_k y_k x_k|^2$.
    - `violation`: the largest violation of a constraint.
    """

    weight: Float[ndarray, " d"]
    multipliers: Float[ndarray, " n"]
    value: float
    dual_value: float
    violation: float

    @property
    def margin(self) -> float:
        """The largest margin min_k y_k w.x_k / |w|, which is 1/|w|."""
        return 1.0 / float(np.linalg.norm(self.weight))

    @property
    def gap(self) -> float:
        """Value minus dual value."""
        return self.value - self.dual_value

    @property
    def support(self) -> ndarray:
        """The examples with a positive multiplier."""
        return np.flatnonzero(self.multipliers > 0.0)


def hard_margin(x: Float[ndarray, "n d"], y: Float[ndarray, " n"]) -> HardMargin:
    r"""The hard-margin SVM, to rounding.

    A least-distance program, solved as the non-negative least-squares problem
    $\min_{u \ge 0} |\,(Z^T u, 1^T u) - (0, 1)\,|$ with rows $z_k = y_k x_k$, whose residual
    (q, -c) gives $w = q/c$ (Lawson & Hanson, 1974, chapter 23), by an active-set method; then
    the support vectors' equations are solved once more.

    **Raises:** `PolarflowError` if no linear classifier through the origin separates the labels.
    """
    z = y[:, None] * x
    _, sigma, vt = np.linalg.svd(z, full_matrices=False)
    largest = float(sigma.max(initial=0.0))
    basis = vt[sigma > 1e-14 * max(largest, 1e-300)]
    reduced = z @ basis.T / max(largest, 1e-300)
    matrix = np.concatenate([reduced.T, np.ones((1, len(z)))])
    target = np.zeros(len(matrix))
    target[-1] = 1.0
    u = nonnegative(matrix, target)
    residual = matrix @ u - target
    if -residual[-1] <= 1e-12:
        raise PolarflowError("No linear classifier through the origin separates the labels.")
    multipliers = u / -residual[-1]
    support = np.flatnonzero(multipliers > 0)
    exact = np.linalg.lstsq(
        reduced[support] @ reduced[support].T, np.ones(len(support)), rcond=1e-13
    )[0]
    if (exact >= 0).all() and (reduced @ (exact @ reduced[support]) >= 1.0 - 1e-9).all():
        multipliers[support] = exact
    w = multipliers @ reduced / largest
    multipliers = multipliers / largest**2
    weight = w @ basis
    size = float(weight @ weight)
    return HardMargin(
        weight=weight,
        multipliers=multipliers,
        value=0.5 * size,
        dual_value=float(multipliers.sum()) - 0.5 * size,
        violation=float(np.max(1.0 - z @ weight, initial=0.0)),
    )


@dataclass(frozen=True)
class NtkMargin:
    r"""The largest margin of the network linearised at its initial weights, in the lazy regime.

    $f(x) = \langle \nabla_\theta h_{\theta_0}(x), \Delta \rangle$ with $|\Delta| = 1$; the scale of
    $\theta_0$ does not matter, and is set to $|\theta_0| = 1$.

    **Attributes:**

    - `network`: a two-layer network, or another of one output and blocks of one shape.
    - `initial`: the weights at which it is linearised, shape `(m, p)`.
    - `displacement`: Delta, of unit norm, same shape.
    - `margin`: the largest min_k y_k f(x_k).
    - `svm`: the hard-margin program in the span of the features, with its certificate.
    """

    network: TwoLayer | Network
    initial: Float[ndarray, "m p"]
    displacement: Float[ndarray, "m p"]
    margin: float
    svm: HardMargin

    def __call__(self, x: Float[ndarray, "q d"]) -> Float[ndarray, " q"]:
        """f at inputs of length d (bias included)."""
        return ntk_change(self.network, self.initial, self.displacement, x)


def ntk_margin(problem: Problem) -> NtkMargin:
    """The NTK's max-margin classifier at the initial weights (Ji & Telgarsky, 2020, figure 1).

    **Raises:** `PolarflowError` if the features do not separate the labels; for several outputs, or
    blocks of several shapes.
    """
    data, state, network = problem.data, problem.initial, problem.network
    with np.errstate(under="ignore"):
        weights = np.exp(state.log_norm - state.log_norm.max())[:, None] * state.direction
    weights /= np.linalg.norm(weights)
    features = ntk_features(network, weights, data.x)
    svm = hard_margin(features, data.y)
    displacement = (svm.weight * svm.margin).reshape(weights.shape)
    return NtkMargin(network, weights, displacement, svm.margin, svm)
