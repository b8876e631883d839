"""Two-layer networks of least variation norm, as values."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class VariationMinimum:
    r"""The two-layer network of least variation norm under a constraint, with its certificate.

    **Attributes:**

    - `value`: $\sum_j |a_j||w_j|$ of the solution; the least $\|\theta\|^2$ is twice that.
    - `sign`, `mass`, `direction`: the neurons, $|a_j| = |w_j| = \sqrt{mass_j}$, shapes `(k,)`,
      `(k,)`, `(k, d)`.
    - `dual`: the multipliers $\nu$ of the examples, feasible after division by `height`.
    - `height`: the largest $|\sum_k \nu_k s(u \cdot x_k)|$ over unit vectors u that was found.
    - `dual_value`: $\nu \cdot y$ (or $\sum_k y_k \nu_k$ of the margin constraints) over `height`: a
      lower bound of the value if `exact`.
    - `exact`: whether `height` is the maximum over all patterns, or over those sampled.
    - `violation`: the largest violation of a constraint by the solution.
    - `slope`: of the activation.
    """

    value: float
    sign: Float[ndarray, " k"]
    mass: Float[ndarray, " k"]
    direction: Float[ndarray, "k d"]
    dual: Float[ndarray, " n"]
    height: float
    dual_value: float
    exact: bool
    violation: float
    slope: float

    @property
    def gap(self) -> float:
        r"""Value minus dual value, with the violation at its price $\sum_k |\nu_k|$ added.

        At least 0 up to rounding if `exact`: without the price a violated constraint would make the
        value too low.
        """
        price = float(np.abs(self.dual).sum()) / self.height if self.height > 0.0 else 0.0
        return self.value + price * self.violation - self.dual_value

    @property
    def param_norm(self) -> float:
        r"""The least $\|\theta\|$, with balanced neurons."""
        return float(np.sqrt(2.0 * self.value))

    def __call__(self, x: Float[ndarray, "q d"]) -> Float[ndarray, " q"]:
        """The network at inputs (bias included)."""
        z = x @ self.direction.T
        return np.asarray(np.maximum(z, self.slope * z) @ (self.sign * self.mass))
