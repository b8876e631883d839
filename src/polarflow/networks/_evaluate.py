"""Values of networks, through JAX in float64."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from ._blocks import Network
    from ._state import BlockState

#: The size above which the entries used least recently leave the cache.
_CACHE_BYTES = 2**29


@cache
def jax64() -> Any:
    """JAX, with numbers of 64 bits, and with its compiled functions kept between processes."""
    import jax

    jax.config.update("jax_enable_x64", True)
    folder = compilation_cache(os.environ)
    if folder is not None and not jax.config.values["jax_compilation_cache_dir"]:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", _CACHE_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return jax


def compilation_cache(environment: Mapping[str, str]) -> Path | None:
    """The folder in which JAX keeps what it has compiled; None for none.

    `POLARFLOW_CACHE` names it; `off` switches it off. By default it is in the folder that the
    platform has for caches of the user. Compiled code is a machine's own, so that each machine
    has a folder in it. JAX's own settings (`JAX_COMPILATION_CACHE_DIR`) go first.
    """
    wanted = environment.get("POLARFLOW_CACHE", "")
    if wanted.strip().lower() == "off":
        return None
    if wanted:
        base = Path(wanted).expanduser()
    else:
        from platformdirs import user_cache_path

        base = user_cache_path("polarflow", appauthor=False)
    return base / f"jax-{platform.machine()}-{platform.node()}"


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
