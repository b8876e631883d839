"""How fast blocks can grow: ascents on the unit sphere from random starts."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks._blocks import Group
from ...networks._evaluate import jax64
from ._compiled import Compiled

_SEED = 20241130


def climb(groups: Sequence[Group], x: ndarray, residual: ndarray) -> float:
    """The largest rate L N_r(v) met among random unit vectors v, for r of norm 1 `(n, C)`."""
    rng, best = np.random.default_rng(_SEED), 0.0
    for group in groups:
        pick = rng.integers(0, group.rows, 64)
        v = rng.standard_normal((64, group.size))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        value = jax64().vmap(group.apply, in_axes=(0, 0, None))(v, group.constants[pick], x)
        rate = np.einsum("jnc,nc->j", np.asarray(value), residual)
        best = max(best, (group.order or 1.0) * float(rate.max()))
    return best


@lru_cache(maxsize=64)
def _size(apply: Callable[[Any, Any, Any], Any]) -> Any:
    """|H_j(X; v)|^2 and its gradient for several v, compiled."""

    def size(v: Any, own: Any, x: Any) -> Any:
        return jax64().numpy.sum(apply(v, own, x) ** 2)

    def both(v: Any, own: Any, x: Any) -> Any:
        jax = jax64()
        return jax.vmap(jax.value_and_grad(size), (0, 0, None))(v, own, x)

    return Compiled(both)


def spread(groups: Sequence[Group], x: ndarray) -> float:
    r"""B, the largest $L |H_j(X; v)|$ over unit vectors v, found by ascent from random starts.

    No block of unit norm grows faster than B |r| where the maximum is the global one.
    """
    rng, best = np.random.default_rng(_SEED), 0.0
    for group in {(g.order, g.size, id(g.apply)): g for g in groups}.values():
        rows = min(group.rows, 64) if group.rows > 8 else 8
        constants = group.constants[np.arange(rows) % group.rows]
        both = _size(group.apply)
        v = rng.standard_normal((rows, group.size))
        v /= np.linalg.norm(v, axis=1, keepdims=True)
        for _ in range(30):
            _, slope = (np.asarray(a) for a in both(v, constants, x))
            norm = np.linalg.norm(slope, axis=1, keepdims=True)
            # Where a network has no value, as a normalisation of zero, nothing is climbed.
            climbs = (norm > 0.0) & np.isfinite(norm)
            v = np.where(climbs, np.where(climbs, slope, 0.0) / np.where(climbs, norm, 1.0), v)
        value = np.asarray(both(v, constants, x)[0])
        value = value[np.isfinite(value)] if np.isfinite(value).any() else np.ones(1)
        best = max(best, (group.order or 1.0) * float(np.sqrt(value.max())))
    return best
