r"""Squared-ReLU units on examples that fall into orthogonal parts: each unit's part is a block.

Where every example of one set is orthogonal to every example of another, a unit is the sum of its
parts in the spans of the sets and of one that no example sees, and

$$s \max(0, w \cdot x_k)^2 = s \max(0, w_c \cdot x_k)^2$$

for the part w_c in the span of the set of x_k. The parts of a unit obey equations of their own,
$\dot w_c = 2 s \sum_{k \in c} r_k \max(0, w_c \cdot x_k) x_k$, and grow and decay at rates of their
own: they may differ by any factor, and a part that its examples repel returns, once their residuals
have changed their signs, from however small it was. So the flow of m units on C orthogonal sets is
that of m C units, each with a logarithm of its norm, in coordinates in which a part has exact zeros
where the other sets are. Where every set spans a line a part is one number, which keeps its sign.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from ...data import Data
from ...networks import BlockState, SquaredRelu
from ...networks._blocks import Group, Network, part_of
from .._problem import Problem
from ._engine import COLLOCATED, SmoothEngine
from ._rest import span_of
from ._window import SmoothState

#: Examples with a smaller cosine than this are orthogonal.
_ORTHOGONAL = 1e-14
#: The most numbers of a system in which parts are blocks, where none of them can turn.
_MOST = 2000


def _on_line(u: Any, constant: Any, x: Any) -> Any:
    import jax.numpy as jnp

    z = x[:, 0] * u[0]
    return (constant[0] * constant[1:] * jnp.where(z > 0.0, z, 0.0) ** 2)[:, None]


@dataclass(frozen=True)
class _OnLines(Network):
    """Parts of squared-ReLU units on lines: s u^2 x_k^2 for the examples of its set on its side.

    **Arguments:**

    - `signs`: of the m units.
    - `sets`: the number of each example's set, -1 for one that is zero.
    """

    signs: tuple[float, ...]
    sets: tuple[int, ...]
    kind: ClassVar[str] = "squared_relu"

    @property
    def outputs(self) -> int:
        return 1

    def groups(self, dimension: int) -> tuple[Group, ...]:
        count, m = max(self.sets) + 1, len(self.signs)
        own = np.arange(count)[:, None] == np.array(self.sets)
        constants = np.column_stack([np.repeat(self.signs, count), np.tile(own, (m, 1))])
        return (Group(m * count, 1, 2.0, _on_line, constants.astype(float)),)


@dataclass(frozen=True, eq=False)
class Parts:
    """Orthogonal sets of examples.

    **Attributes:**

    - `sets`: the number of each example's set, -1 for one that is zero.
    - `bases`: of the span of each set, orthonormal rows `(r_c, d)`.
    - `x`: the examples in the coordinates of all bases, shape `(n, sum r_c)`.
    """

    sets: tuple[int, ...]
    bases: tuple[ndarray, ...]
    x: ndarray

    @classmethod
    def of(cls, x: ndarray) -> "Parts":
        """The parts that examples fall into; those that are zero belong to none."""
        size = np.linalg.norm(x, axis=1)
        unit = x / np.where(size > 0.0, size, 1.0)[:, None]
        linked = np.abs(unit @ unit.T) > _ORTHOGONAL
        left, sets = set(np.flatnonzero(size > 0.0).tolist()), []
        while left:
            found, edge = set[int](), {min(left)}
            while edge:
                found |= edge
                edge = set(np.flatnonzero(linked[sorted(edge)].any(axis=0)).tolist()) - found
            left -= found
            sets.append(sorted(found))
        bases = tuple(span_of(x[each]) for each in sets)
        new, start = np.zeros((len(x), sum(map(len, bases)))), 0
        for each, basis in zip(sets, bases, strict=True):
            new[each, start : start + len(basis)] = x[each] @ basis.T
            start += len(basis)
        number = np.full(len(x), -1)
        for c, each in enumerate(sets):
            number[each] = c
        return cls(tuple(number.tolist()), bases, new)

    @property
    def count(self) -> int:
        return len(self.bases)

    @property
    def lines(self) -> bool:
        """Whether every set spans a line."""
        return all(len(basis) == 1 for basis in self.bases)

    def blocks_of(self, state: BlockState) -> tuple[BlockState, BlockState]:
        """The parts of units as blocks, a unit's one after the other, and what no example sees."""
        m, size, start = state.blocks, self.x.shape[1], 0
        inside = np.zeros((m, self.count, size))
        rest = state.direction.copy()
        for c, basis in enumerate(self.bases):
            own = state.direction @ basis.T
            # What is zero to rounding is zero: nothing may grow out of it.
            own[np.linalg.norm(own, axis=1) < _ORTHOGONAL] = 0.0
            inside[:, c, start : start + len(basis)] = own
            rest -= own @ basis
            start += len(basis)
        log_norm, unit = part_of(inside.reshape(-1, size))
        rest[np.linalg.norm(rest, axis=1) < _ORTHOGONAL] = 0.0
        log_rest, unit_rest = part_of(rest)
        log_norm = log_norm + np.repeat(state.log_norm, self.count)
        return BlockState(log_norm, unit), BlockState(log_rest + state.log_norm, unit_rest)

    def worth(self, width: int) -> bool:
        """Whether parts are followed as blocks: not where there are too many to be bundled."""
        size = 1 if self.lines else self.x.shape[1]
        return width * self.count * (size + 1) <= (_MOST if self.lines else COLLOCATED)


class SplitEngine(SmoothEngine):
    """Follows squared-ReLU units by their parts.

    **Arguments:**

    - `problem`: of a `SquaredRelu` network.
    - `rtol`: as for the engine that follows the parts, for each of them.
    - `parts`: what the examples fall into.
    """

    def __init__(self, problem: Problem, rtol: float, parts: Parts) -> None:
        network = problem.network
        assert isinstance(network, SquaredRelu)
        signs = (1.0,) * network.width if network.signs is None else network.signs
        start, self._rest = parts.blocks_of(problem.initial)
        self._parts, self._basis = parts, np.concatenate(parts.bases)
        x = parts.x
        wide: Network = SquaredRelu(start.blocks, tuple(np.repeat(signs, parts.count).tolist()))
        if parts.lines:
            wide, x = _OnLines(signs, parts.sets), x.sum(axis=1, keepdims=True)
            start = replace(start, direction=start.direction.sum(axis=1, keepdims=True))
        data = Data(x, problem.data.y)
        super().__init__(replace(problem, data=data, network=wide, initial=start), rtol)

    def _joined(self, state: SmoothState) -> tuple[BlockState, ndarray, ndarray]:
        """The units, and the shares of their parts `(m, C)` and of what no example sees `(m,)`."""
        inside = super().blocks(state)
        log_norm = inside.log_norm.reshape(-1, self._parts.count)
        top = np.maximum(log_norm.max(axis=1), self._rest.log_norm)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore"):
            share = np.exp(log_norm - top[:, None])
            still = np.exp(self._rest.log_norm - top)
        each = inside.direction.reshape(*log_norm.shape, -1)
        if self._parts.lines:
            total = (share * each[:, :, 0]) @ self._basis
        else:
            total = np.einsum("mc,mcp->mp", share, each) @ self._basis
        log_size, unit = part_of(total + still[:, None] * self._rest.direction)
        size = np.exp(np.where(np.isfinite(log_size), log_size, 0.0))
        return BlockState(log_size + top, unit), share / size[:, None], still / size

    def blocks(self, state: SmoothState) -> BlockState:
        return self._joined(state)[0]

    def ncf(self, state: SmoothState) -> tuple[ndarray, ndarray]:
        units, share, still = self._joined(state)
        value, distance = (
            np.nan_to_num(each, nan=0.0).reshape(share.shape) for each in super().ncf(state)
        )
        # With v = sum_c s_c v_c, the force is the sum of those on parts, and these are orthogonal.
        total = np.sum(share**2 * value, axis=1)
        off = share**2 * ((2.0 * (value - total[:, None])) ** 2 + distance**2)
        away = np.sqrt(off.sum(axis=1) + (2.0 * total * still) ** 2)
        force = np.sqrt(np.sum(share**2 * (4.0 * value**2 + distance**2), axis=1))
        alive = np.isfinite(units.log_norm) & (force > self._noise(self.look(state)))
        return np.where(alive, total, np.nan), np.where(alive, away, np.nan)


def smooth_engine(problem: Problem, rtol: float) -> SmoothEngine:
    """The smooth engine for a problem: by parts, where squared-ReLU units have them."""
    if not isinstance(problem.network, SquaredRelu):
        return SmoothEngine(problem, rtol)
    parts = Parts.of(problem.data.x)
    if parts.count < 2:
        return SmoothEngine(problem, rtol)
    if parts.worth(problem.network.width):
        return SplitEngine(problem, rtol, parts)
    engine = SmoothEngine(problem, rtol)
    engine.notes.append(
        f"The examples fall into {parts.count} sets that are orthogonal to each other. A unit's "
        "parts in their spans are known to the tolerance times the unit: what grows later out of "
        "a part far smaller than that may come at a wrong time."
    )
    return engine
