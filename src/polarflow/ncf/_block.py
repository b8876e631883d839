"""One block of a network as a function of its weights, with JAX."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..networks import Convolutional, Deep, Diagonal, Network, Parallel, SquaredRelu
from ..networks._evaluate import jax64


@dataclass(frozen=True, eq=False)
class Block:
    """A block of which a network has one or many.

    **Attributes:**

    - `size`: the number p of its weights.
    - `order`: L.
    - `apply`: H(x; w) for weights `(p,)`, constants `(q,)` and inputs `(n, d)`, shape `(n, C)`;
      blocks of one kind share it.
    - `constant`: what tells the block from others of its kind.
    - `kinks`: whether its gradient jumps.
    - `layers`: the shapes of its matrices, in the order of the weights; () if it has none.
    - `number`: of the block among those of the network that differ.
    - `sign`: of the fixed output weight, for units that have one.
    """

    size: int
    order: float
    apply: Callable[[Any, Any, Any], Any]
    constant: ndarray
    kinks: bool
    layers: tuple[tuple[int, int], ...] = ()
    number: int = 0
    sign: int | None = None

    def singular_values(self, w: ndarray) -> tuple[tuple[float, ...], ...] | None:
        """Of each layer's matrix, relative to the largest of all; None without layers."""
        if not self.layers:
            return None
        values, start = [], 0
        for rows, columns in self.layers:
            matrix = w[start : start + rows * columns].reshape(rows, columns)
            values.append(np.linalg.svd(matrix, compute_uv=False))
            start += rows * columns
        top = max(float(v[0]) for v in values) or 1.0
        return tuple(tuple((v / top).tolist()) for v in values)


def blocks_of(network: Network, dimension: int) -> list[Block]:
    """The blocks of a network on inputs of length d, of equal ones one.

    **Raises:** `PolarflowError` if a block is not homogeneous.
    """
    return [replace(b, number=i) for i, b in enumerate(_blocks(network, dimension))]


def _blocks(network: Network, dimension: int) -> Iterator[Block]:
    if isinstance(network, Parallel):
        for each in network.networks:
            yield from _blocks(each, dimension)
        return
    if isinstance(network, Diagonal):
        pair = _Pair(network.depth)
        for j in range(dimension):
            yield Block(2, float(network.depth), pair, np.array([float(j)]), False)
        return
    for group in network.groups(dimension):
        if group.order is None:
            raise PolarflowError(
                f'network.kind = "{network.kind}": the network is not homogeneous in its weights, '
                "and has no neural correlation function on the sphere."
            )
        for constant in np.unique(group.constants, axis=0):
            sign = int(constant[0]) if isinstance(network, SquaredRelu) else None
            layers = _layers(network, dimension)
            yield Block(
                group.size, float(group.order), group.apply, constant, group.kinks, layers, 0, sign
            )


def _layers(network: Network, dimension: int) -> tuple[tuple[int, int], ...]:
    if isinstance(network, Deep):
        shapes = network.shapes(dimension)
        return tuple(s for i, s in enumerate(shapes) if i + 1 not in network.frozen)
    if isinstance(network, Convolutional):
        return tuple((o, i * r * c) for o, i, r, c in _kernels(network, dimension))
    return ()


def _kernels(network: Convolutional, dimension: int) -> list[tuple[int, int, int, int]]:
    """The kernels, then the matrices as kernels of one pixel."""
    apply: Any = network.groups(dimension)[0].apply
    return [*apply.kernels, *((rows, columns, 1, 1) for rows, columns in apply.matrices)]


@dataclass(frozen=True)
class _Pair:
    """(u^L - v^L) x_j for the weights (u, v), a row of a diagonal network's state."""

    depth: int

    def __call__(self, w: Any, constant: Any, x: Any) -> Any:
        column = jax64().numpy.take(x, constant[0].astype(int), axis=1)
        return ((w[0] ** self.depth - w[1] ** self.depth) * column)[:, None]
