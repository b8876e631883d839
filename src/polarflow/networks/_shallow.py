"""Networks whose blocks are single units: squared ReLU, diagonal, smooth two-layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._activation import Activation
from ._blocks import Group, Network, Part
from ._state import BlockState


def _check_width(width: int) -> None:
    if width < 1:
        raise PolarflowError(f"network.width is {width}; it must be at least 1.")


def _squared_relu(u: Any, sign: Any, x: Any) -> Any:
    import jax.numpy as jnp

    z = x @ u
    return (sign[0] * jnp.where(z > 0.0, z, 0.0) ** 2)[:, None]


def _squared_relu_pieces(u: Any, sign: Any, x: Any, side: Any) -> tuple[Any, Any]:
    z = x @ u
    return (sign[0] * side * z**2)[:, None], z


@dataclass(frozen=True)
class SquaredRelu(Network):
    """The network H(x) = sum_{j<=m} s_j max(0, u_j.x)^2 with fixed signs s_j.

    Block j is u_j; it is 2-homogeneous (Kumar & Haupt, 2024; Ji & Telgarsky, 2020).

    **Arguments:**

    - `width`: m.
    - `signs`: m numbers +1 or -1; all +1 unless given.
    """

    width: int
    signs: tuple[float, ...] | None = None
    kind: ClassVar[str] = "squared_relu"

    def __post_init__(self) -> None:
        _check_width(self.width)
        if self.signs is not None:
            if len(self.signs) != self.width:
                raise PolarflowError(
                    f"network.signs has {len(self.signs)} numbers; {self.width} are needed, one "
                    "for each unit."
                )
            for j, sign in enumerate(self.signs):
                if abs(sign) != 1.0:
                    raise PolarflowError(f"network.signs[{j}] is {sign:g}; it must be -1 or 1.")

    @property
    def outputs(self) -> int:
        return 1

    def groups(self, dimension: int) -> tuple[Group, ...]:
        signs = np.ones(self.width) if self.signs is None else np.array(self.signs)
        constants = signs[:, None]
        return (
            Group(self.width, dimension, 2.0, _squared_relu, constants,
                  pieces=_squared_relu_pieces, bends=1, quadratic=True),
        )  # fmt: skip


@dataclass(frozen=True)
class _Monomial:
    """sign * w^depth * x_j for the constants (sign, j)."""

    depth: int

    def __call__(self, w: Any, constant: Any, x: Any) -> Any:
        import jax.numpy as jnp

        column = jnp.take(x, constant[1].astype(int), axis=1)
        return (constant[0] * w[0] ** self.depth * column)[:, None]


@dataclass(frozen=True)
class Diagonal(Network):
    """The diagonal linear network H(x) = sum_j (u_j^L - v_j^L) x_j of depth L >= 2.

    Row j of a state is the pair (u_j, v_j), which is L-homogeneous. Each of its two weights is
    L-homogeneous by itself too, and is followed so: one may be smaller than the other by any
    factor.
    """

    depth: int = 2
    kind: ClassVar[str] = "diagonal"

    def __post_init__(self) -> None:
        if self.depth < 2:
            raise PolarflowError(f"network.depth is {self.depth}; it must be at least 2.")

    @property
    def outputs(self) -> int:
        return 1

    def groups(self, dimension: int) -> tuple[Group, ...]:
        sign = np.repeat([1.0, -1.0], dimension)
        constants = np.stack([sign, np.tile(np.arange(dimension), 2)], axis=1)
        return (Group(2 * dimension, 1, float(self.depth), _Monomial(self.depth), constants),)

    def shape(self, dimension: int) -> tuple[int, int]:
        return dimension, 2

    def check_state(self, state: BlockState, dimension: int) -> None:
        if state.direction.shape != (dimension, 2):
            raise PolarflowError(
                f"init: directions have shape {state.direction.shape}; a diagonal network on "
                f"inputs of length {dimension} (bias included) needs {(dimension, 2)}."
            )

    def split(self, state: BlockState, dimension: int) -> list[Part]:
        unit = state.direction.T.reshape(-1)
        with np.errstate(divide="ignore"):
            log_norm = np.tile(state.log_norm, 2) + np.log(np.abs(unit))
        return [(log_norm, np.where(unit < 0.0, -1.0, 1.0)[:, None])]

    def join(self, parts: Sequence[Part], dimension: int) -> BlockState:
        log_norm, sign = parts[0]
        log_norm, sign = log_norm.reshape(2, dimension).T, sign.reshape(2, dimension).T
        top = log_norm.max(axis=1)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore", divide="ignore"):
            scaled = np.exp(log_norm - safe[:, None]) * sign
            size = np.linalg.norm(scaled, axis=1)
            total = safe + np.log(size)
        unit = scaled / np.where(size > 0.0, size, 1.0)[:, None]
        unit[size == 0.0, 0] = 1.0
        return BlockState(total, unit)

    def join_forces(
        self, parts: Sequence[Part], forces: Sequence[ndarray], dimension: int
    ) -> ndarray:
        log_norm = parts[0][0].reshape(2, dimension).T
        total = self.join(parts, dimension).log_norm
        share = np.where(np.isfinite(total), total, 0.0)[:, None]
        with np.errstate(under="ignore"):
            scale = np.exp((self.depth - 1.0) * (log_norm - share))
        return scale * forces[0].reshape(2, dimension).T

    def row_sizes(self, dimension: int) -> ndarray:
        return np.full(dimension, 2)

    def row_orders(self, dimension: int) -> ndarray:
        return np.full(dimension, float(self.depth))


@dataclass(frozen=True)
class _Neuron:
    """a s(w.x) for the weights (a_1..a_C, w)."""

    activation: Activation
    outputs: int

    def __call__(self, weights: Any, constant: Any, x: Any, width: Any = None) -> Any:
        a, w = weights[: self.outputs], weights[self.outputs :]
        return self.activation(x @ w, width)[:, None] * a

    def pieces(self, weights: Any, constant: Any, x: Any, side: Any) -> tuple[Any, Any]:
        """The same with the activation's polynomials of given sides."""
        a, w = weights[: self.outputs], weights[self.outputs :]
        z = x @ w
        return self.activation.piece(z, side)[:, None] * a, z


@dataclass(frozen=True)
class SmoothTwoLayer(Network):
    """The network h(x) = sum_{j<=m} a_j s(w_j.x) with an activation of any power.

    Block j is the neuron (a_j, w_j), the C output weights first; its order is 1 + power. Kinks of
    an activation that has them are not located: `TwoLayer` is for these.
    """

    width: int
    activation: Activation = field(default_factory=lambda: Activation("linear"))
    outputs: int = 1
    kind: ClassVar[str] = "two_layer"

    def __post_init__(self) -> None:
        _check_width(self.width)

    def groups(self, dimension: int) -> tuple[Group, ...]:
        apply = _Neuron(self.activation, self.outputs)
        order = 1.0 + self.activation.power
        none = np.zeros((self.width, 0))
        size = self.outputs + dimension
        layers = ((self.outputs, 1.0), (dimension, self.activation.power))
        kinks = self.activation.kinks
        bends = int(self.activation.pieces)
        return (
            Group(self.width, size, order, apply, none, kinks, True, layers=layers,
                  pieces=apply.pieces, bends=bends),
        )  # fmt: skip
