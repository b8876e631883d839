"""The blocks of a smooth network one by one: their NCF, their derivatives, states between them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..ncf._block import Block
from ..ncf._sphere import Sphere
from ..networks import BlockState, Network
from ..networks._blocks import Group, Part
from ..networks._evaluate import jax64


class Blocks:
    """All M blocks of a network, group after group, directions padded by zeros to p numbers.

    **Attributes:**

    - `order`, `level`: L and L - 2, shape `(M,)`.
    - `row`: the row of a state that each block stands in, shape `(M,)`: the two weights of a
      coordinate of a diagonal network are blocks of one row.
    - `log_norm`, `unit`: the problem's initial state.

    **Raises:** `PolarflowError` for networks without homogeneous blocks, with orders below 2, or
    with kinks that are not located.
    """

    def __init__(self, problem: Problem) -> None:
        network = problem.network
        assert isinstance(network, Network)
        self.problem, self.network = problem, network
        self.dimension = problem.data.dimension
        self.groups = network.groups(self.dimension)
        for group in self.groups:
            _check(network, group)
        self.size = max(group.size for group in self.groups)
        stops = np.cumsum([group.rows for group in self.groups])
        self.slots = [slice(e - g.rows, e) for g, e in zip(self.groups, stops, strict=True)]
        self.order = np.concatenate([np.full(g.rows, g.order) for g in self.groups]).astype(float)
        self.level = self.order - 2.0
        self.layered = np.concatenate([np.full(g.rows, g.layered) for g in self.groups])
        self.log_norm, self.unit = self.split(problem.initial)
        self.count = len(self.log_norm)
        self.row = self._rows()

    def split(self, state: BlockState) -> Part:
        """A state's blocks: `(M,)` and `(M, p)`."""
        parts = self.network.split(state, self.dimension)
        unit = np.zeros((sum(g.rows for g in self.groups), self.size))
        for group, slot, (_, own) in zip(self.groups, self.slots, parts, strict=True):
            unit[slot, : group.size] = own
        return np.concatenate([log_norm for log_norm, _ in parts]), unit

    def join(self, log_norm: ndarray, unit: ndarray) -> BlockState:
        """The state of blocks."""
        parts = [
            (log_norm[slot], unit[slot, : group.size])
            for group, slot in zip(self.groups, self.slots, strict=True)
        ]
        return self.network.join(parts, self.dimension)

    def _rows(self) -> ndarray:
        row = np.empty(self.count, dtype=np.int64)
        for j in range(self.count):
            alone = np.full(self.count, -np.inf)
            alone[j] = 0.0
            row[j] = int(np.argmax(self.join(alone, self.unit).log_norm))
        return row

    def by_row(self, each: ndarray) -> ndarray:
        """Numbers of blocks as numbers of a state's rows, the largest of each."""
        found = np.full(self.network.shape(self.dimension)[0], -np.inf)
        np.fmax.at(found, self.row, each)
        return found

    def sizes(self, chosen: Bool[ndarray, " M"]) -> Float[ndarray, " k"]:
        """The numbers of weights of chosen blocks."""
        return np.concatenate([np.full(g.rows, g.size) for g in self.groups])[chosen]

    def pack(self, log_norm: ndarray, unit: ndarray, active: ndarray) -> ndarray:
        """The weights of active blocks in one vector."""
        weights = np.exp(log_norm[active])[:, None] * unit[active]
        pieces = [w[:p] for w, p in zip(weights, self.sizes(active), strict=True)]
        return np.concatenate([*pieces, np.zeros(0)])

    def unpack(self, vector: ndarray, active: ndarray, unit: ndarray) -> Part:
        """Blocks from the weights of active ones; the others are zero and keep their directions."""
        log_norm, unit = np.full(self.count, -np.inf), unit.copy()
        cuts = np.cumsum(self.sizes(active))[:-1]
        for j, w in zip(np.flatnonzero(active), np.split(vector, cuts), strict=True):
            top = float(np.abs(w).max(initial=0.0))
            if top > 0.0:
                size = top * float(np.linalg.norm(w / top))  # its square may be no float
                log_norm[j] = np.log(size)
                unit[j, : len(w)] = w / size
        return log_norm, unit

    # -- derivatives -----------------------------------------------------------------------

    def ncf(self, unit: ndarray, residual: ndarray) -> tuple[ndarray, ndarray]:
        """N_r(v) and its gradient for every block, `(M,)` and `(M, p)`."""
        value, gradient = np.zeros(self.count), np.zeros((self.count, self.size))
        z = residual.reshape(len(residual), -1)
        for group, slot in zip(self.groups, self.slots, strict=True):
            own, force = _compiled(group.apply)[0](
                unit[slot, : group.size], _constants(group), self.problem.data.x, z
            )
            value[slot], gradient[slot, : group.size] = own, force
        return value, gradient

    def bends(self, unit: ndarray) -> ndarray:
        """The numbers whose signs are the sides of blocks' bends, `(M, b)`, padded by zeros."""
        examples = len(self.problem.data.x)
        found = np.zeros((self.count, examples * max(group.bends for group in self.groups)))
        for group, slot in zip(self.groups, self.slots, strict=True):
            if group.pieces is None or not group.bends:
                continue
            z = _bends(group.pieces, examples * group.bends)(
                unit[slot, : group.size], _constants(group), self.problem.data.x
            )
            found[slot, : z.shape[1]] = np.asarray(z)
        return found

    def hessian(self, j: int, unit: ndarray, residual: ndarray) -> ndarray:
        """Of block j's N_r at a vector `(p,)`, padded by zeros."""
        sphere = self.sphere(j, residual)
        size, found = sphere.block.size, np.zeros((self.size, self.size))
        found[:size, :size] = sphere.hessian(unit[:size])
        return found

    def predict(self, log_norm: ndarray, unit: ndarray) -> ndarray:
        """The network's values at the examples."""
        x = self.problem.data.x
        total = np.zeros((len(x), self.network.outputs))
        for group, slot in zip(self.groups, self.slots, strict=True):
            value = _compiled(group.apply)[4](unit[slot, : group.size], _constants(group), x)
            with np.errstate(under="ignore", over="ignore"):
                share = np.exp(self.order[slot] * log_norm[slot])
            total += np.einsum("j,jnc->nc", share, np.asarray(value))
        return total[:, 0] if self.network.outputs == 1 else total

    def second_order(
        self, weights: ndarray, chosen: ndarray, residual: ndarray
    ) -> tuple[list[ndarray], list[ndarray], list[ndarray]]:
        """Of chosen blocks: Jacobians `(n*C, p_j)`, gradients and Hessians of N_r, unpadded."""
        x, z = self.problem.data.x, residual.reshape(len(residual), -1)
        jacobian: list[ndarray] = []
        gradient: list[ndarray] = []
        hessian: list[ndarray] = []
        for group, slot in zip(self.groups, self.slots, strict=True):
            index = chosen[(chosen >= slot.start) & (chosen < slot.stop)]
            _, one, two, three, _ = _compiled(group.apply)
            constants = _constants(group)
            for j in index:
                w, c = weights[j, : group.size], constants[j - slot.start]
                jacobian.append(np.asarray(one(w, c, x)).reshape(-1, group.size))
                gradient.append(np.asarray(two(w, c, x, z)))
                hessian.append(np.asarray(three(w, c, x, z)))
        return jacobian, gradient, hessian

    def kinds(self) -> ndarray:
        """Numbers that are equal for blocks whose H_j are one function, shape `(M,)`."""
        found: dict[tuple[int, bytes], int] = {}
        kinds = np.zeros(self.count, dtype=np.int64)
        for k, (group, slot) in enumerate(zip(self.groups, self.slots, strict=True)):
            for j, constant in enumerate(_constants(group)):
                kinds[slot.start + j] = found.setdefault((k, constant.tobytes()), len(found))
        return kinds

    def sphere(self, j: int, residual: ndarray) -> Sphere:
        """Block j's NCF on its unit sphere."""
        k = next(i for i, slot in enumerate(self.slots) if slot.start <= j < slot.stop)
        group = self.groups[k]
        constant = _constants(group)[j - self.slots[k].start]
        assert group.order is not None
        block = Block(group.size, group.order, group.apply, constant, group.kinks)
        return Sphere(block, self.problem.data.x, residual.reshape(len(residual), -1))


def _check(network: Network, group: Group) -> None:
    if group.order is None or group.order < 2.0:
        order = "not homogeneous" if group.order is None else f"of order {group.order:g}"
        raise PolarflowError(
            f'network.kind = "{network.kind}": a block is {order}; the path in the limit of '
            "vanishing initialisation is for blocks that are homogeneous of order 2 or more."
        )
    if group.kinks:
        raise PolarflowError(
            f'network.kind = "{network.kind}": its kinks are not located; the path in the limit of '
            'vanishing initialisation is for "two_layer" with a (leaky) ReLU and one output, and '
            "for networks whose gradients are continuous."
        )


def _constants(group: Group) -> ndarray:
    return np.broadcast_to(group.constants, (group.rows, group.constants.shape[1]))


@lru_cache(maxsize=16)
def _bends(pieces: Callable[[Any, Any, Any, Any], tuple[Any, Any]], sides: int) -> Any:
    """The numbers whose signs the sides of many blocks are, `(rows, b)`."""
    jax = jax64()

    def numbers(w: Any, constant: Any, x: Any) -> Any:
        return pieces(w, constant, x, jax.numpy.ones(sides))[1].reshape(-1)

    return jax.jit(jax.vmap(numbers, (0, 0, None)))


@lru_cache(maxsize=16)
def _compiled(apply: Callable[[Any, Any, Any], Any]) -> tuple[Any, Any, Any, Any, Any]:
    """N with its gradient; for one block H's Jacobian, N's gradient and Hessian; H of many."""
    jax = jax64()

    def value(w: Any, constant: Any, x: Any, z: Any) -> Any:
        return jax.numpy.sum(z * apply(w, constant, x))

    return (
        jax.jit(jax.vmap(jax.value_and_grad(value), (0, 0, None, None))),
        jax.jit(jax.jacfwd(apply)),
        jax.jit(jax.grad(value)),
        jax.jit(jax.hessian(value)),
        jax.jit(jax.vmap(apply, (0, 0, None))),
    )
