"""Initial states of two-layer networks."""

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._draws import INITIAL_STREAM, log_of_scale
from ._state import BlockState
from ._two_layer import TwoLayer


def balanced(
    network: TwoLayer,
    dimension: int,
    *,
    scale: float | None = None,
    log10_scale: float | None = None,
    seed: int = 0,
) -> BlockState:
    r"""The balanced Gaussian initialisation of Boursier et al. (2022), their equation (4).

    $w_j = \lambda g_j$ with $g_j \sim N(0, I_d)$ and $a_j = s_j |w_j|$ with signs
    $s_j = \pm 1$ of equal probability. No factor of the width is applied: their experiments
    take $\lambda = 10^{-6} / \sqrt m$.

    **Arguments:**

    - `network`: the two-layer network.
    - `dimension`: d, the length of an input (bias included).
    - `scale`: lambda; or
    - `log10_scale`: its logarithm to base 10, of any size (-1000 is a number like any other).
    - `seed`: of the generator `numpy.random.default_rng([seed, 1])`, which draws first the m x d
      normal numbers row by row, then the m signs.
    """
    log_scale = log_of_scale(scale, log10_scale)
    rng = np.random.default_rng([seed, INITIAL_STREAM])
    g = rng.standard_normal((network.width, dimension))
    sign = rng.choice(np.array([-1.0, 1.0]), size=network.width)
    norm = np.linalg.norm(g, axis=1)
    direction = np.concatenate([sign[:, None], g / norm[:, None]], axis=1) / np.sqrt(2.0)
    return BlockState(log_scale + np.log(norm) + 0.5 * np.log(2.0), direction)


def block_state(log_norm: ndarray, direction: ndarray) -> BlockState:
    """A state from arrays, with directions scaled to unit length.

    **Raises:** `PolarflowError` if the shapes disagree or an entry is not finite.
    """
    log_norm = np.asarray(log_norm, dtype=float)
    direction = np.asarray(direction, dtype=float)
    if log_norm.ndim != 1 or direction.ndim != 2 or len(log_norm) != len(direction):
        raise PolarflowError(
            f"init: log_norm has shape {log_norm.shape} and direction {direction.shape}; "
            "expected are (blocks,) and (blocks, parameters)."
        )
    if np.isnan(log_norm).any() or (log_norm == np.inf).any():
        raise PolarflowError("init: log_norm holds nan or +inf; only -inf (a zero block) may be.")
    norm = np.linalg.norm(direction, axis=1)
    if not np.isfinite(direction).all() or (norm == 0).any():
        raise PolarflowError("init: direction holds a row that is zero or not finite.")
    off = np.abs(norm - 1.0)
    if (off > 1e-6).any():
        j = int(np.argmax(off))
        raise PolarflowError(
            f"init: direction[{j}] has norm {norm[j]:.6g}; every row must be a unit vector."
        )
    return BlockState(log_norm, direction / norm[:, None])
