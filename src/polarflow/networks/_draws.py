"""Random starts of any network."""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._blocks import Network, part_of
from ._shallow import Diagonal
from ._state import BlockState
from ._two_layer import TwoLayer

#: Streams of random numbers drawn from one seed are told apart by a key.
INITIAL_STREAM = 1
FROZEN_STREAM = 2


def log_of_scale(scale: float | None, log10_scale: float | None) -> float:
    """The natural logarithm of a scale that is given as itself or by its logarithm to base 10.

    **Raises:** `PolarflowError` unless exactly one is given, positive and finite.
    """
    if (scale is None) == (log10_scale is None):
        raise PolarflowError("init: exactly one of scale and log10_scale must be given.")
    if scale is not None:
        if not (np.isfinite(scale) and scale > 0):
            raise PolarflowError(f"init.scale is {scale}; it must be a positive number.")
        return float(np.log(scale))
    assert log10_scale is not None
    if not np.isfinite(log10_scale):
        raise PolarflowError(f"init.log10_scale is {log10_scale}; it must be finite.")
    return float(log10_scale) * float(np.log(10.0))


def gaussian(
    network: Network | TwoLayer,
    dimension: int,
    *,
    scale: float | None = None,
    log10_scale: float | None = None,
    seed: int = 0,
) -> BlockState:
    r"""Every weight is drawn from $N(0, \mathrm{scale}^2)$; no factor of any width.

    **Arguments:**

    - `network`, `dimension`: the network, and the length of an input (bias included).
    - `scale`, `log10_scale`: the standard deviation, or its logarithm to base 10, of any size.
    - `seed`: of the generator `numpy.random.default_rng([seed, 1])`, which draws block after block.
    """
    weights, log_unit = _normal(network, dimension, seed), log_of_scale(scale, log10_scale)
    return _scaled(weights, log_unit)


def sphere(
    network: Network | TwoLayer,
    dimension: int,
    *,
    scale: float | None = None,
    log10_scale: float | None = None,
    seed: int = 0,
) -> BlockState:
    """All weights together are uniform on the sphere of radius `scale`: scale * g/|g|.

    The arguments are those of `gaussian`, and g are its numbers.
    """
    weights, log_unit = _normal(network, dimension, seed), log_of_scale(scale, log10_scale)
    return _scaled(weights, log_unit - float(np.log(np.linalg.norm(weights))))


def equal_pairs(
    network: Diagonal,
    dimension: int,
    *,
    scale: float | None = None,
    log10_scale: float | None = None,
    seed: int = 0,
) -> BlockState:
    """The balanced start of a diagonal network, u_j = v_j = scale for every j: H = 0."""
    log_norm = np.full(dimension, log_of_scale(scale, log10_scale) + 0.5 * np.log(2.0))
    return BlockState(log_norm, np.full((dimension, 2), np.sqrt(0.5)))


#: The kinds of starts that every network has, by their names in a spec.
DRAWS: dict[str, Callable[..., BlockState]] = {"gaussian": gaussian, "sphere": sphere}


def _normal(network: Network | TwoLayer, dimension: int, seed: int) -> ndarray:
    """Normal numbers for every weight of a state, zero where a row is padded; `(m, p)`."""
    rng = np.random.default_rng([seed, INITIAL_STREAM])
    if isinstance(network, TwoLayer):
        return rng.standard_normal(network.shape(dimension))
    sizes = network.row_sizes(dimension)
    weights = np.zeros((len(sizes), int(sizes.max())))
    for row, size in enumerate(sizes):
        weights[row, :size] = rng.standard_normal(size)
    return weights


def _scaled(weights: ndarray, log_unit: float) -> BlockState:
    log_norm, direction = part_of(weights)
    return BlockState(log_norm + log_unit, direction)
