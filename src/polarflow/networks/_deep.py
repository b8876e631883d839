"""Deep networks: one block, whose order counts the trained layers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._activation import Activation
from ._blocks import Group, Network, Part
from ._state import BlockState

Readout = Literal["trained", "ones"]


def layer_order(activations: tuple[Activation, ...], trained: list[bool]) -> float:
    """The order of a chain of layers, in the weights of those that are trained.

    A layer of weights adds one if it is trained, and an activation multiplies by its power.
    """
    return sum(k for k, active in zip(layer_orders(activations, len(trained)), trained, strict=True)
               if active)  # fmt: skip


def layer_orders(activations: tuple[Activation, ...], layers: int) -> list[float]:
    """The order of a chain in each layer alone: the product of the powers that follow it."""
    return [prod(a.power for a in activations[i:]) for i in range(layers)]


def cut(weights: Any, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """A flat vector as matrices, one after the other, each row by row."""
    parts, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        parts.append(weights[start : start + size].reshape(shape))
        start += size
    return parts


@dataclass(frozen=True)
class _Chain:
    """A deep network as a function of its trained weights and its frozen ones."""

    shapes: tuple[tuple[int, int], ...]
    frozen: tuple[int, ...]
    activations: tuple[Activation, ...]

    def __call__(self, weights: Any, constant: Any, x: Any, width: Any = None) -> Any:
        return self._follow(weights, constant, x, lambda i, z: self.activations[i](z, width))

    def pieces(self, weights: Any, constant: Any, x: Any, side: Any) -> tuple[Any, Any]:
        """The same with the activations' polynomials of given sides, layer by layer."""
        import jax.numpy as jnp

        met: list[Any] = []

        def piece(i: int, z: Any) -> Any:
            if not self.activations[i].pieces:
                return self.activations[i](z)
            start = sum(each.size for each in met)
            met.append(z.ravel())
            return self.activations[i].piece(z, side[start : start + z.size].reshape(z.shape))

        return self._follow(weights, constant, x, piece), jnp.concatenate(met)

    def _follow(
        self, weights: Any, constant: Any, x: Any, activate: Callable[[int, Any], Any]
    ) -> Any:
        trained = [s for i, s in enumerate(self.shapes) if i not in self.frozen]
        kept = [self.shapes[i] for i in self.frozen]
        own, fixed = iter(cut(weights, trained)), iter(cut(constant, kept))
        h = x
        for i in range(len(self.shapes)):
            h = h @ next(fixed if i in self.frozen else own).T
            if i < len(self.activations):
                h = activate(i, h)
        return h.sum(axis=1, keepdims=True) if len(self.shapes) == len(self.activations) else h


@dataclass(frozen=True, eq=False)
class Deep(Network):
    r"""The deep network H(x) = A s_k(W_k ... s_1(W_1 x)) without biases.

    One block: the trained matrices, each flattened row by row, from the input layer on, the
    read-out A last. Its order is that of `layer_order`; with k hidden layers of power 1, all
    trained, it is k + 1.

    **Arguments:**

    - `widths`: the hidden widths; W_i has as many rows.
    - `activations`: one for each hidden layer.
    - `readout`: `"trained"`, a matrix A of C rows, or `"ones"`, A = (1, ..., 1), fixed.
    - `outputs`: C.
    - `frozen`: matrices that are not trained, by layer, counted from 1, the read-out last.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    readout: Readout = "trained"
    outputs: int = 1
    frozen: Mapping[int, ndarray] = field(default_factory=dict)
    kind: ClassVar[str] = "deep"

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise PolarflowError(
                f"network.widths is {list(self.widths)}; it must be a list of whole numbers of at "
                "least 1."
            )
        if len(self.activations) != len(self.widths):
            raise PolarflowError(
                f"network.activation has {len(self.activations)} names; {len(self.widths)} are "
                "needed, one for each hidden layer."
            )
        if self.readout not in ("trained", "ones"):
            raise PolarflowError(
                f'network.readout is {self.readout!r}; allowed are "trained" and "ones".'
            )
        if self.readout == "ones" and self.outputs != 1:
            raise PolarflowError('network.readout = "ones" has a single output.')
        check_frozen(tuple(self.frozen), self.layers)

    @property
    def layers(self) -> int:
        """The number of layers with weights."""
        return len(self.widths) + (self.readout == "trained")

    @property
    def order(self) -> float:
        """L."""
        trained = [i + 1 not in self.frozen for i in range(self.layers)]
        return layer_order(self.activations, trained)

    def shapes(self, dimension: int) -> tuple[tuple[int, int], ...]:
        """The shapes of all matrices, frozen ones included."""
        last = (self.outputs,) if self.readout == "trained" else ()
        rows = (*self.widths, *last)
        return tuple(zip(rows, (dimension, *rows[:-1]), strict=True))

    def groups(self, dimension: int) -> tuple[Group, ...]:
        shapes = self.shapes(dimension)
        frozen = tuple(i for i in range(len(shapes)) if i + 1 in self.frozen)
        for i in frozen:
            if self.frozen[i + 1].shape != shapes[i]:
                raise PolarflowError(
                    f"network.frozen: the matrix of layer {i + 1} has shape "
                    f"{self.frozen[i + 1].shape}; expected is {shapes[i]}."
                )
        size = sum(a * b for i, (a, b) in enumerate(shapes) if i not in frozen)
        constant = np.concatenate([np.zeros(0), *(self.frozen[i + 1].ravel() for i in frozen)])
        kinks = any(activation.kinks for activation in self.activations)
        apply = _Chain(shapes, frozen, self.activations)
        orders = layer_orders(self.activations, len(shapes))
        layers = [(a * b, k) for (a, b), k in zip(shapes, orders, strict=True)]
        trained = tuple(layer for i, layer in enumerate(layers) if i not in frozen)
        bent = zip(self.widths, self.activations, strict=True)
        bends = sum(width for width, activation in bent if activation.pieces)
        return (
            Group(1, size, self.order, apply, constant[None, :], kinks, True, True, trained,
                  apply.pieces, bends),
        )  # fmt: skip

    def matrices(self, weights: ndarray, dimension: int) -> list[ndarray]:
        """All matrices from a flat vector of the trained ones."""
        shapes = self.shapes(dimension)
        own = iter(cut(weights, [s for i, s in enumerate(shapes) if i + 1 not in self.frozen]))
        return [self.frozen[i + 1] if i + 1 in self.frozen else next(own)
                for i in range(len(shapes))]  # fmt: skip


def check_frozen(frozen: tuple[int, ...], layers: int) -> None:
    """Make sure that frozen layers exist and at least one layer is trained."""
    for layer in frozen:
        if not 1 <= layer <= layers:
            raise PolarflowError(
                f"network.frozen holds {layer}; layers are counted from 1, the input layer, to "
                f"{layers}."
            )
    if len(set(frozen)) == layers:
        raise PolarflowError(
            f"network.frozen holds all {layers} layers; at least one must be trained."
        )


def rounded_max(values: Any, width: Any) -> Any:
    """The maximum over the first axis, kinks rounded off over a width.

    Two by two, max(a, b) becomes (a + b + sqrt((a - b)^2 + width^2))/2.
    """
    import jax.numpy as jnp

    top = values[0]
    for other in values[1:]:
        top = 0.5 * (top + other + jnp.sqrt((top - other) ** 2 + width**2))
    return top


@dataclass(frozen=True)
class _Images:
    """Convolutions with max-pooling, then a chain of matrices."""

    image: tuple[int, int, int]
    kernels: tuple[tuple[int, int, int, int], ...]
    pool: int
    matrices: tuple[tuple[int, int], ...]
    activation: Activation

    def __call__(self, weights: Any, constant: Any, x: Any, width: Any = None) -> Any:
        import jax
        import jax.numpy as jnp

        parts = cut(weights, [*self.kernels, *self.matrices])
        h = x.reshape(-1, *self.image)
        for kernel in parts[: len(self.kernels)]:
            h = jax.lax.conv_general_dilated(
                h, kernel, (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW")
            )
            h = self.activation(h, width)
            if self.pool > 1:
                n, c, rows, columns = h.shape
                rows, columns = rows // self.pool, columns // self.pool
                h = h[:, :, : rows * self.pool, : columns * self.pool]
                h = h.reshape(n, c, rows, self.pool, columns, self.pool)
                h = jnp.moveaxis(h, (3, 5), (0, 1)).reshape(-1, n, c, rows, columns)
                h = jnp.max(h, axis=0) if width is None else rounded_max(h, width)
        h = h.reshape(h.shape[0], -1)
        for i, matrix in enumerate(parts[len(self.kernels) :]):
            h = h @ matrix.T
            if i + 1 < len(self.matrices):
                h = self.activation(h, width)
        return h


@dataclass(frozen=True)
class Convolutional(Network):
    """Convolutions, each with an activation and max-pooling, then dense layers; no biases.

    One block: the kernels (output channel, input channel, row, column), then the matrices, each
    flattened in this order, from the input on. With power 1 its order is the number of layers.

    **Arguments:**

    - `image`: channels, rows and columns of an input, which is flattened in this order.
    - `channels`: of each convolution's output.
    - `kernel`: the side of the square kernels; no padding, stride one.
    - `pool`: the side of the squares of the max-pooling after each activation; 1 for none.
    - `widths`: the hidden widths of the dense layers, which a trained linear read-out ends.
    - `activation`: one for all layers.
    - `outputs`: C.
    """

    image: tuple[int, int, int]
    channels: tuple[int, ...]
    kernel: int = 3
    pool: int = 2
    widths: tuple[int, ...] = ()
    activation: Activation = field(default_factory=Activation)
    outputs: int = 1
    kind: ClassVar[str] = "convolutional"

    def groups(self, dimension: int) -> tuple[Group, ...]:
        channels, rows, columns = self.image
        if channels * rows * columns != dimension:
            raise PolarflowError(
                f"network.image is {list(self.image)}, {channels * rows * columns} numbers; the "
                f"inputs have {dimension} (a bias makes no sense here)."
            )
        kernels = []
        for count in self.channels:
            kernels.append((count, channels, self.kernel, self.kernel))
            channels = count
            rows = (rows - self.kernel + 1) // self.pool
            columns = (columns - self.kernel + 1) // self.pool
            if rows < 1 or columns < 1:
                raise PolarflowError(
                    f"network.image is {list(self.image)}; it is too small for "
                    f"{len(self.channels)} convolutions with kernel {self.kernel} and pool "
                    f"{self.pool}."
                )
        width = (channels * rows * columns, *self.widths, self.outputs)
        matrices = tuple(zip(width[1:], width[:-1], strict=True))
        sizes = [int(np.prod(s)) for s in (*kernels, *matrices)]
        orders = layer_orders((self.activation,) * (len(sizes) - 1), len(sizes))
        apply = _Images(self.image, tuple(kernels), self.pool, matrices, self.activation)
        kinks = self.activation.kinks or self.pool > 1
        layers = tuple(zip(sizes, orders, strict=True))
        none = np.zeros((1, 0))
        return (Group(1, sum(sizes), sum(orders), apply, none, kinks, True, True, layers),)


@dataclass(frozen=True, eq=False)
class Parallel(Network):
    """The sum of networks on the same inputs: the blocks of all of them, one after the other."""

    networks: tuple[Network, ...]
    kind: ClassVar[str] = "parallel"

    def __post_init__(self) -> None:
        if not self.networks:
            raise PolarflowError("network.networks is empty; at least one network is needed.")
        outputs = {network.outputs for network in self.networks}
        if len(outputs) > 1:
            raise PolarflowError(
                f"network.networks have {sorted(outputs)} outputs; all must have the same number."
            )

    @property
    def outputs(self) -> int:
        return self.networks[0].outputs

    def groups(self, dimension: int) -> tuple[Group, ...]:
        return tuple(group for network in self.networks for group in network.groups(dimension))

    def shape(self, dimension: int) -> tuple[int, int]:
        shapes = [network.shape(dimension) for network in self.networks]
        return sum(m for m, _ in shapes), max(p for _, p in shapes)

    def check_state(self, state: BlockState, dimension: int) -> None:
        expected = self.shape(dimension)
        if state.direction.shape != expected:
            raise PolarflowError(
                f"init: directions have shape {state.direction.shape}; these parallel networks on "
                f"inputs of length {dimension} (bias included) need {expected}, short rows padded "
                "by zeros."
            )
        for network, own in self._each(state, dimension):
            network.check_state(own, dimension)

    def _each(self, state: BlockState, dimension: int) -> list[tuple[Network, BlockState]]:
        found, row = [], 0
        for network in self.networks:
            m, p = network.shape(dimension)
            if np.any(state.direction[row : row + m, p:]):
                raise PolarflowError(
                    f"init: direction[{row}] has numbers beyond the {p} weights of its block; the "
                    "rest of a row must be zero."
                )
            rows = slice(row, row + m)
            found.append((network, BlockState(state.log_norm[rows], state.direction[rows, :p])))
            row += m
        return found

    def split(self, state: BlockState, dimension: int) -> list[Part]:
        each = self._each(state, dimension)
        return [part for network, own in each for part in network.split(own, dimension)]

    def join(self, parts: Sequence[Part], dimension: int) -> BlockState:
        m, p = self.shape(dimension)
        log_norm, direction = np.zeros(m), np.zeros((m, p))
        row = first = 0
        for network in self.networks:
            count = len(network.groups(dimension))
            own = network.join(parts[first : first + count], dimension)
            rows = slice(row, row + own.blocks)
            log_norm[rows] = own.log_norm
            direction[rows, : own.direction.shape[1]] = own.direction
            row, first = row + own.blocks, first + count
        return BlockState(log_norm, direction)

    def join_forces(
        self, parts: Sequence[Part], forces: Sequence[ndarray], dimension: int
    ) -> ndarray:
        force = np.zeros(self.shape(dimension))
        row = first = 0
        for network in self.networks:
            groups = slice(first, first + len(network.groups(dimension)))
            own = network.join_forces(parts[groups], forces[groups], dimension)
            force[row : row + len(own), : own.shape[1]] = own
            row, first = row + len(own), groups.stop
        return force

    def row_sizes(self, dimension: int) -> ndarray:
        return np.concatenate([network.row_sizes(dimension) for network in self.networks])

    def row_orders(self, dimension: int) -> ndarray:
        return np.concatenate([network.row_orders(dimension) for network in self.networks])
