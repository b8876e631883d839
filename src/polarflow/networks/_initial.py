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
    $s_j = \pm 1$ of equal probability, or with C > 1 outputs $s_j$ uniform on the unit sphere.
    No factor of the width is applied: their experiments take $\lambda = 10^{-6} / \sqrt m$.

    **Arguments:**

    - `network`: the two-layer network.
    - `dimension`: d, the length of an input (bias included).
    - `scale`: lambda; or
    - `log10_scale`: its logarithm to base 10, of any size (-1000 is a number like any other).
    - `seed`: of the generator `numpy.random.default_rng([seed, 1])`, which draws first the m x d
      normal numbers row by row, then the m signs, or m x C normal numbers for them.
    """
    log_scale = log_of_scale(scale, log10_scale)
    rng = np.random.default_rng([seed, INITIAL_STREAM])
    g = rng.standard_normal((network.width, dimension))
    sign = _signs(network, rng)
    norm = np.linalg.norm(g, axis=1)
    direction = np.concatenate([sign, g / norm[:, None]], axis=1) / np.sqrt(2.0)
    return BlockState(log_scale + np.log(norm) + 0.5 * np.log(2.0), direction)


def dominated(
    network: TwoLayer,
    dimension: int,
    *,
    scale: float | None = None,
    log10_scale: float | None = None,
    seed: int = 0,
) -> BlockState:
    r"""An initialisation dominated by the output weights, $|a_j| \ge |w_j|$.

    $w_j = \lambda g_j$ and $a_j = \lambda s_j \sqrt{|g_j|^2 + z_j^2}$ with $g_j \sim N(0, I_d)$,
    $z_j \sim N(0, 1)$ and $s_j$ as in `balanced`, so that $|a_j|^2 - |w_j|^2 = \lambda^2 z_j^2$,
    which the flow conserves: $a_j$ never vanishes (Boursier & Flammarion, 2024, who assume
    $|a_j| \ge |w_j|$).

    The arguments are those of `balanced`; the generator draws g, then s, then z.
    """
    log_scale = log_of_scale(scale, log10_scale)
    rng = np.random.default_rng([seed, INITIAL_STREAM])
    g = rng.standard_normal((network.width, dimension))
    sign = _signs(network, rng)
    z = rng.standard_normal(network.width)
    size = np.sqrt(np.sum(g * g, axis=1) + z * z)
    block = np.concatenate([size[:, None] * sign, g], axis=1)
    norm = np.linalg.norm(block, axis=1)
    return BlockState(log_scale + np.log(norm), block / norm[:, None])


def _signs(network: TwoLayer, rng: np.random.Generator) -> ndarray:
    """Signs of equal probability, or unit vectors, shape `(m, C)`."""
    if network.outputs == 1:
        return rng.choice(np.array([-1.0, 1.0]), size=network.width)[:, None]
    s = rng.standard_normal((network.width, network.outputs))
    return s / np.linalg.norm(s, axis=1)[:, None]


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
