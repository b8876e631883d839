"""Values of networks, through JAX in float64."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from ._blocks import Network
    from ._state import BlockState


@cache
def jax64() -> Any:
    """JAX, with numbers of 64 bits."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax


def outputs_of(group: Any, unit: Any, x: Any) -> Any:
    """H_j(x; v_j) of every block of a group, shape `(rows, n, C)`."""
    jax = jax64()
    constants = jax.numpy.asarray(group.constants)
    return jax.vmap(group.apply, in_axes=(0, 0, None))(unit, constants, x)


def evaluate(network: "Network", state: "BlockState", x: ndarray) -> ndarray:
    """The network's values, shape `(n, C)`."""
    jax = jax64()
    total = np.zeros((len(x), network.outputs))
    parts = network.split(state, x.shape[1])
    for group, (log_norm, unit) in zip(network.groups(x.shape[1]), parts, strict=True):
        with np.errstate(under="ignore", over="ignore", invalid="ignore"):
            if group.order is None:
                weights = np.exp(log_norm)[:, None] * unit
                total += np.asarray(outputs_of(group, jax.numpy.asarray(weights), x)).sum(axis=0)
                continue
            value = np.asarray(outputs_of(group, jax.numpy.asarray(unit), x))
            share = np.exp(group.order * log_norm)
            total += np.einsum("j,jnc->nc", share, value)
    return total
