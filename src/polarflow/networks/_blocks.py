"""Networks as sums of homogeneous blocks, H(x; w) = sum_j H_j(x; w_j).

Block j is L_j-homogeneous in its own weights, H_j(x; c w_j) = c^L_j H_j(x; w_j) for c > 0 (Kumar &
Haupt, 2024; Lyu & Li, 2020). Blocks of one shape form a *group*, and are evaluated together.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._state import BlockState

#: A group's weights: logarithms of norms `(rows,)` and unit vectors `(rows, size)`.
Part = tuple[ndarray, ndarray]


@dataclass(frozen=True, eq=False)
class Group:
    """Equal blocks of one network.

    **Attributes:**

    - `rows`: how many blocks.
    - `size`: the number p of weights of each.
    - `order`: L; None if the block is not homogeneous, and is followed in ordinary coordinates.
    - `apply`: one block's part H_j(x; w) of the output as a function of its weights `(p,)`, its
      constants `(q,)` and inputs `(n, d)`, shape `(n, C)`, written with JAX.
    - `constants`: what distinguishes the blocks besides weights, shape `(rows, q)`.
    - `kinks`: whether the gradient of H_j jumps (deep ReLU, max-pooling).
    - `rounds`: whether `apply` takes a width as a fourth argument, over which it rounds off kinks
      of activations. What is rounded off is homogeneous no more.
    - `layered`: whether a block's matrices may hold parts of very different size, which its norm
      and direction don't keep apart.
    - `layers`: the number of weights of each trained layer, in the order of a block's weights, and
      the order k_i in which the block is homogeneous in that layer alone; empty where it has no
      such layers. |W_i|^2/k_i - |W_{i+1}|^2/k_{i+1} never changes along a gradient flow.
    - `pieces`: `apply` with activations' polynomials of given sides, a fourth argument of zeros
      and ones `(b,)`, and the numbers `(b,)` whose signs the sides are. Within its sides it is as
      smooth as without them, and equal to `apply`.
    - `bends`: how many numbers have sides for each example, b = n * bends; 0 where there are no
      such activations, and `pieces` isn't used.
    - `quadratic`: whether H_j is, on given sides, a quadratic form in the weights, the same for
      all blocks with the same constants, and the sides are those of numbers linear in the weights.
    """

    rows: int
    size: int
    order: float | None
    apply: Callable[..., Any]
    constants: ndarray = field(default_factory=lambda: np.zeros((1, 0)))
    kinks: bool = False
    rounds: bool = False
    layered: bool = False
    layers: tuple[tuple[int, float], ...] = ()
    pieces: Callable[[Any, Any, Any, Any], tuple[Any, Any]] | None = None
    bends: int = 0
    quadratic: bool = False


class Network(ABC):
    """The interface of the networks that the smooth engine follows."""

    #: The name of the network in a spec.
    kind: ClassVar[str]

    @property
    @abstractmethod
    def outputs(self) -> int:
        """The number C of outputs; a field in networks that may have several."""

    @abstractmethod
    def groups(self, dimension: int) -> tuple[Group, ...]:
        """The blocks on inputs of length d (bias included), grouped by shape."""

    def shape(self, dimension: int) -> tuple[int, int]:
        """The shape (m, p) of the directions of a state; short blocks are padded by zeros."""
        groups = self.groups(dimension)
        return sum(g.rows for g in groups), max(g.size for g in groups)

    def check_state(self, state: BlockState, dimension: int) -> None:
        """Make sure that a state fits.

        **Raises:** `PolarflowError` if its shape is another, or padding is not zero.
        """
        expected = self.shape(dimension)
        if state.direction.shape != expected:
            raise PolarflowError(
                f"init: directions have shape {state.direction.shape}; this network "
                f'(kind "{self.kind}") on inputs of length {dimension} (bias included) needs '
                f"{expected}."
            )
        row = 0
        for group in self.groups(dimension):
            if np.any(state.direction[row : row + group.rows, group.size :]):
                raise PolarflowError(
                    f"init: direction[{row}] has numbers beyond the {group.size} weights of its "
                    "block; the rest of a row must be zero."
                )
            row += group.rows

    def split(self, state: BlockState, dimension: int) -> list[Part]:
        """The state of each group."""
        parts, row = [], 0
        for group in self.groups(dimension):
            rows = slice(row, row + group.rows)
            parts.append((state.log_norm[rows], state.direction[rows, : group.size]))
            row += group.rows
        return parts

    def join(self, parts: Sequence[Part], dimension: int) -> BlockState:
        """The state of the network from those of its groups."""
        m, p = self.shape(dimension)
        direction = np.zeros((m, p))
        row = 0
        for _, unit in parts:
            direction[row : row + len(unit), : unit.shape[1]] = unit
            row += len(unit)
        return BlockState(np.concatenate([log_norm for log_norm, _ in parts]), direction)

    def join_forces(
        self, parts: Sequence[Part], forces: Sequence[ndarray], dimension: int
    ) -> ndarray:
        """The gradients of a function of each row at its direction, from those of the groups.

        The function is homogeneous, a sum over the group's blocks in the row; shape `(m, p)`.
        """
        force = np.zeros(self.shape(dimension))
        row = 0
        for each in forces:
            force[row : row + len(each), : each.shape[1]] = each
            row += len(each)
        return force

    def row_sizes(self, dimension: int) -> ndarray:
        """How many weights every row of a state has, shape `(m,)`; padding is not counted."""
        return np.concatenate([np.full(g.rows, g.size) for g in self.groups(dimension)])

    def row_orders(self, dimension: int) -> ndarray:
        """The order of every row of a state, shape `(m,)`; nan where it is not homogeneous."""
        orders = [
            np.full(g.rows, np.nan if g.order is None else g.order) for g in self.groups(dimension)
        ]
        return np.concatenate(orders)

    def predict(self, state: BlockState, x: Float[ndarray, "n d"]) -> ndarray:
        """The network's values at n inputs, shape `(n,)`, or `(n, C)` with C > 1 outputs."""
        from ._evaluate import evaluate

        value = evaluate(self, state, np.asarray(x, dtype=float))
        return value[:, 0] if self.outputs == 1 else value


def part_of(weights: ndarray) -> Part:
    """Rows of weights in polar form; a zero row gets the direction of its first weight."""
    # Scaled by the largest weight, so that a norm of 1e-200 has a square.
    top = np.abs(weights).max(axis=1, initial=0.0)
    unit = weights / np.where(top > 0.0, top, 1.0)[:, None]
    unit[top == 0.0, 0] = 1.0
    norm = np.linalg.norm(unit, axis=1)
    with np.errstate(divide="ignore"):
        return np.log(top) + np.log(norm), unit / norm[:, None]
