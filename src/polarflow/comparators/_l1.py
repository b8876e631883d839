r"""The interpolant of least l1 norm, which diagonal linear networks of depth 2 tend to.

$\min |\beta|_1$ with $X\beta = y$ is a linear program; its dual maximises $\nu \cdot y$ with
$|X^T \nu|_\infty \le 1$, and any such $\nu$ is a bound: $|\beta|_1 \ge \nu^T X\beta$. A diagonal
network of depth L has $\beta_j = u_j^L - v_j^L$ and costs $\sum_j |u_j|^L + |v_j|^L$, which is
$|\theta|^2$ for L = 2.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import linprog

from ..errors import PolarflowError

#: A coefficient below this share of the largest is zero.
_ZERO = 1e-9
#: Labels that no coefficients fit to this part of their norm are none of the inputs'.
_FIT = 1e-9


@dataclass(frozen=True)
class L1Minimum:
    """The interpolant of least l1 norm.

    **Attributes:**

    - `coefficient`: beta, shape `(d,)`.
    - `dual`: nu, shape `(n,)`.
    - `value`: |beta|_1.
    - `height`: the largest |x_j . nu| over columns j of X.
    - `dual_value`: nu.y / height, which no interpolant's norm is below.
    """

    coefficient: Float[ndarray, " d"]
    dual: Float[ndarray, " n"]
    value: float
    height: float
    dual_value: float

    def __call__(self, x: Float[ndarray, "q d"]) -> Float[ndarray, " q"]:
        """The linear function at inputs (bias included)."""
        return np.asarray(x @ self.coefficient)


def least_l1_norm(x: Float[ndarray, "n d"], y: Float[ndarray, " n"]) -> L1Minimum:
    """The linear interpolant of least l1 norm, by HiGHS and then, on its support, to rounding.

    **Raises:** `PolarflowError` if no linear function fits the labels.
    """
    d = x.shape[1]
    size = float(np.linalg.norm(y))
    if size == 0.0:
        return L1Minimum(np.zeros(d), np.zeros(len(y)), 0.0, 0.0, 0.0)
    # Rows that depend on others are equations that their rounding would contradict.
    left, sigma, right = np.linalg.svd(x, full_matrices=False)
    rank = int(np.sum(sigma > 1e-12 * sigma[0]))
    target = left[:, :rank].T @ y / size
    if np.linalg.norm(y / size - left[:, :rank] @ target) > _FIT:
        raise PolarflowError("no linear function fits the labels.")
    rows = sigma[:rank, None] * right[:rank]
    found = linprog(
        np.ones(2 * d), A_eq=np.concatenate([rows, -rows], axis=1), b_eq=target, method="highs"
    )
    if found.status != 0:
        raise PolarflowError(f"the linear program was not solved: {found.message}")
    beta = size * (found.x[:d] - found.x[d:])
    held = np.abs(beta) > _ZERO * np.abs(beta).max()
    sharp = np.zeros(d)
    sharp[held] = np.linalg.lstsq(x[:, held], y, rcond=None)[0]
    if np.abs(x @ sharp - y).max() <= 1e-9 * size and (sharp * beta >= 0.0).all():
        beta = sharp
    nu = left[:, :rank] @ found.eqlin.marginals
    height = float(np.abs(x.T @ nu).max())
    return L1Minimum(beta, nu, float(np.abs(beta).sum()), height, float(nu @ y) / height)
