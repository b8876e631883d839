r"""The gradient flow in three logs, as an ordinary differential equation for solvers.

Block j is $w_j = e^{\rho_j} v_j$ with $|v_j| = 1$ and order $L_j$. With the residual $r = -dl/dh$,

$$\dot\rho_j = e^{(L_j - 2)\rho_j} \nabla N_r(v_j) \cdot v_j,\quad
  \dot v_j = e^{(L_j - 2)\rho_j} (I - v_j v_j^T) \nabla N_r(v_j),$$

where $N_r$ is the block's neural correlation function. The clock is s with $dt/ds = e^{-\mu}$,
$\mu = \ln \sum_j e^{(L_j - 2)\rho_j} + \ln R$ over the blocks that set it, so that the fastest
of them moves at speed one; R is a constant before the late phase, and the sum of the residual's
weights in it. A block that is not homogeneous keeps its weights as they are.

Source: Kumar & Haupt (2024), equations for the norm and direction; Lyu & Li (2020) for the margins.
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks import BlockState, Network
from ...networks._blocks import Group, Part, part_of
from ...networks._evaluate import jax64, outputs_of
from .._logs import log_sum
from .._problem import Problem
from ._bundles import Bundles, bundled
from ._compiled import Shape, compiled
from ._reach import spread
from ._residual import Residual

#: A block that the clock leaves out moves at most e^_CAP times as fast as the clock: it is at rest
#: on the others' scale whatever this number is, and larger ones would move it by its rounding
#: along all directions in which nothing holds it.
_CAP = 14.0
#: So many vectors are looked at together, for ln R alone and for all that is measured.
_CHUNK, _FEW = 64, 8


@dataclass(frozen=True)
class _Rounded:
    """A block with kinks rounded off over a width, the last of its constants."""

    apply: Callable[..., Any]

    def __call__(self, weights: Any, own: Any, x: Any) -> Any:
        return self.apply(weights, own[:-1], x, own[-1])


def _rounded(group: Group, width: float) -> Group:
    constants = np.column_stack([group.constants, np.full(len(group.constants), width)])
    return replace(group, apply=_Rounded(group.apply), constants=constants)


@dataclass(frozen=True)
class Slot:
    """Where one group's numbers stand in the vector y."""

    log_norm: slice
    unit: slice
    rows: slice


class Field:
    """The flow of one problem.

    The vector y holds, for each group, rho `(rows,)` and v `(rows, p)` (v only if p > 1), or the
    weights if the group is not homogeneous; in the late phase ln p and ln R come after them.
    """

    def __init__(self, problem: Problem, smoothing: float = 0.0) -> None:
        assert isinstance(problem.network, Network)
        self.problem, self.network = problem, problem.network
        x, dimension = problem.data.x, problem.data.dimension
        self.groups = tuple(
            _rounded(group, smoothing) if smoothing and group.kinks and group.rounds else group
            for group in self.network.groups(dimension)
        )
        self.residual = Residual(problem.loss, problem.data.y, self.network.outputs)
        self.x = x
        self.slots: list[Slot] = []
        at = row = 0
        for group in self.groups:
            norms = 0 if group.order is None else group.rows
            free = group.order is None or group.size > 1
            units = group.rows * group.size if free else 0
            rows = slice(row, row + group.rows)
            self.slots.append(
                Slot(slice(at, at + norms), slice(at + norms, at + norms + units), rows)
            )
            at, row = at + norms + units, row + group.rows
        self.size, self.blocks = at, row
        self.extra = int(np.prod(self.residual.shape)) + 1 if self.residual.margin else 0
        parts = self.network.split(problem.initial, dimension)
        #: Blocks that are not zero; a zero block of order 2 or more stays there.
        self.alive = np.concatenate([np.isfinite(log_norm) for log_norm, _ in parts])
        self._fixed = [unit for _, unit in parts]
        #: Of each group whose blocks are followed in bundles, those; None for others.
        self.bundles: list[Bundles | None] = [
            Bundles.none(group, len(x)) if bundled(group) else None for group in self.groups
        ]
        self.order = np.concatenate(
            [np.full(g.rows, 2.0 if g.order is None else g.order) for g in self.groups]
        )
        self.homogeneous = np.concatenate(
            [np.full(g.rows, g.order is not None) for g in self.groups]
        )

        self.log_unit = self._log_unit()

    # -- between states and vectors --------------------------------------------------------

    def vector(self, state: BlockState) -> ndarray:
        """The vector y of a state, without the late part."""
        y = np.zeros(self.size)
        parts = self.network.split(state, self.problem.data.dimension)
        for group, slot, (log_norm, unit) in zip(self.groups, self.slots, parts, strict=True):
            if group.order is None:
                with np.errstate(under="ignore", over="ignore"):
                    y[slot.unit] = (np.exp(log_norm)[:, None] * unit).ravel()
                continue
            y[slot.log_norm] = np.where(np.isfinite(log_norm), log_norm, 0.0)
            if group.size > 1:
                y[slot.unit] = unit.ravel()
        return y

    def state(self, y: ndarray) -> BlockState:
        """The state of a vector."""
        return self.network.join(self.parts(y), self.problem.data.dimension)

    def parts(self, y: ndarray) -> list[Part]:
        """The state of each group."""
        parts: list[Part] = []
        for group, slot, fixed, bundles in zip(
            self.groups, self.slots, self._fixed, self.bundles, strict=True
        ):
            if group.order is None:
                parts.append(part_of(y[slot.unit].reshape(group.rows, group.size)))
                continue
            log_norm = np.where(self.alive[slot.rows], y[slot.log_norm], -np.inf)
            unit = fixed
            if group.size > 1:
                unit = y[slot.unit].reshape(group.rows, group.size)
                if bundles is not None:
                    unit = np.einsum("mpq,mq->mp", bundles.span, unit)
                unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
            parts.append((log_norm, unit))
        return parts

    def log_norms(self, y: ndarray) -> ndarray:
        """rho of every block, zero for blocks that are not homogeneous; y may have leading axes."""
        found = np.zeros((*y.shape[:-1], self.blocks))
        for slot in self.slots:
            if slot.log_norm.stop > slot.log_norm.start:
                found[..., slot.rows] = y[..., slot.log_norm]
        return found

    def log_speed(self, y: ndarray, clock: ndarray, late: bool) -> ndarray:
        """mu, the logarithm of ds/dt; y may have leading axes."""
        each = (self.order - 2.0) * self.log_norms(y)
        mu = log_sum(np.where(clock, each, -np.inf))
        return mu + (y[..., -1] + self.residual.log_factor if late else self.log_unit)

    def _log_unit(self) -> float:
        """ln R before the late phase: of the residual of the zero network, or at the start."""
        problem = self.problem
        found, _ = problem.loss.log_residual(np.zeros(problem.prediction_shape), problem.data.y)
        if not np.isfinite(found):
            h = self.network.predict(problem.initial, problem.data.x)
            h = h.reshape(problem.prediction_shape)
            found, _ = problem.loss.log_residual(h, problem.data.y)
        return float(found) if np.isfinite(found) else 0.0

    # -- the equations ---------------------------------------------------------------------

    def _parts(self, y: Any) -> list[tuple[Any, Any]]:
        """ln-norms and unit vectors of each group (weights and none, if not homogeneous)."""
        jnp = jax64().numpy
        parts = []
        for group, slot, fixed, bundles in zip(
            self.groups, self.slots, self._fixed, self.bundles, strict=True
        ):
            if group.order is not None and group.size == 1:
                parts.append((y[slot.log_norm], jnp.asarray(fixed)))
                continue
            unit = y[slot.unit].reshape(group.rows, group.size)
            if bundles is not None:
                unit = bundles.moving(unit)
            if group.order is None:
                parts.append((jnp.zeros(group.rows), unit))
                continue
            parts.append((y[slot.log_norm], unit / jnp.linalg.norm(unit, axis=1, keepdims=True)))
        return parts

    def _sum(self, parts: list[tuple[Any, Any]], values: list[Any]) -> Any:
        """The prediction `(n, C)` from the blocks' values at unit vectors."""
        jnp = jax64().numpy
        h = jnp.zeros((len(self.x), self.network.outputs))
        for group, slot, (rho, _), value in zip(
            self.groups, self.slots, parts, values, strict=True
        ):
            alive = jnp.asarray(self.alive[slot.rows].astype(float))
            share = alive if group.order is None else alive * jnp.exp(group.order * rho)
            h = h + jnp.einsum("j,jnc->nc", share, value)
        return h

    def _values(self, units: list[Any], rhos: list[Any]) -> list[Any]:
        """H_j(X; v_j) of all blocks, with signs of bundles as they are at norms e^rho."""
        jnp = jax64().numpy
        x, values = jnp.asarray(self.x), []
        for group, unit, rho, bundles in zip(self.groups, units, rhos, self.bundles, strict=True):
            if bundles is None:
                values.append(outputs_of(group, unit, x))
                continue
            own = len(self.x) * group.bends
            _, z = self._on_sides(group, unit, jnp.ones((group.rows, own)))
            value, _ = self._on_sides(group, unit, jnp.where(bundles.seen(z, rho) > 0.0, 1.0, 0.0))
            values.append(value)
        return values

    def _on_sides(self, group: Group, unit: Any, sides: Any) -> tuple[Any, Any]:
        """H_j(X; v_j) of a group's blocks on given sides, and the numbers whose signs they are."""
        jax = jax64()
        assert group.pieces is not None
        constants, x = jax.numpy.asarray(group.constants), jax.numpy.asarray(self.x)
        found: tuple[Any, Any] = jax.vmap(group.pieces, (0, 0, None, 0))(unit, constants, x, sides)
        return found

    def _pieces(self, units: list[Any], rhos: list[Any], side: Any) -> tuple[list[Any], Any]:
        """The same on given sides of the activations' bends, and the numbers whose signs they are.

        Both sides and numbers stand in one vector, group after group.
        """
        jnp = jax64().numpy
        values, met, start = [], [jnp.zeros(0)], 0
        for group, unit, rho, bundles in zip(self.groups, units, rhos, self.bundles, strict=True):
            own = len(self.x) * group.bends
            if group.pieces is None or not own:
                values.append(outputs_of(group, unit, jnp.asarray(self.x)))
                continue
            sides = side[start : start + group.rows * own].reshape(group.rows, own)
            value, z = self._on_sides(group, unit, sides)
            values.append(value)
            met.append((z if bundles is None else bundles.seen(z, rho)).ravel())
            start += group.rows * own
        return values, jnp.concatenate(met)

    @cached_property
    def bends(self) -> int:
        """How many sides of activations' bends there are in all."""
        return len(self.x) * sum(group.rows * group.bends for group in self.groups)

    def _forces(self, pull: Any, values: Any, unit: Any) -> list[Any]:
        """The gradient of the NCF of the residual's direction, for every block."""
        jnp = jax64().numpy
        return pull([jnp.broadcast_to(unit, value.shape) for value in values])[0]

    def _at(self, y: Any, late: bool) -> tuple[Any, ...]:
        """Parts, prediction, ln|r|, r/|r| and forces at y."""
        jax = jax64()
        parts = self._parts(y)
        units, rhos = _apart_of(parts)
        values, pull = jax.vjp(lambda units: self._values(units, rhos), units)
        h = self._sum(parts, values)
        if late:
            log_r, unit = self.residual.carried(*self._late(y))
        else:
            log_r, unit = self.residual.direct(h)
        return parts, h, log_r, unit, self._forces(pull, values, unit)

    def _late(self, y: Any) -> tuple[Any, Any]:
        return y[self.size : -1].reshape(self.residual.shape), y[-1]

    def velocity(self, y: Any, clock: Any, late: bool) -> Any:
        """dy/ds."""
        jax = jax64()
        jnp = jax.numpy
        parts, _, log_r, _, forces = self._at(y, late)
        log_rate = log_r - (y[-1] + self.residual.log_factor if late else self.log_unit)
        pieces, moves = self._motion(parts, forces, log_rate, clock)
        if late:
            # The velocity of the margins is the derivative of the prediction along the motion.
            def output(pairs: list[tuple[Any, Any]]) -> Any:
                return self._sum(pairs, self._values(*_apart_of(pairs)))

            _, dh = jax.jvp(output, (parts,), (moves,))
            d_log_p, d_log_sum = self.residual.moved(*self._late(y), self.residual.margins(dh))
            pieces += [d_log_p.ravel(), d_log_sum[None]]
        return jnp.concatenate(pieces)

    def _motion(
        self, parts: list[tuple[Any, Any]], forces: list[Any], log_rate: Any, clock: Any
    ) -> tuple[list[Any], list[tuple[Any, Any]]]:
        """The pieces of dy/ds, and the same block by block; log_rate is ln(|r| / R)."""
        jax = jax64()
        jnp = jax.numpy
        rhos = jnp.concatenate([rho for rho, _ in parts])
        exponent = (jnp.asarray(self.order) - 2.0) * rhos
        mu = jax.nn.logsumexp(jnp.where(clock, exponent, -jnp.inf))
        # Where r vanishes ln|r| = -inf, and so is the exponent: nothing moves.
        speed = jnp.exp(jnp.minimum(exponent + log_rate - mu, _CAP)) * jnp.asarray(self.alive)
        pieces, moves = [], []
        for group, slot, bundles, (_, v), force in zip(
            self.groups, self.slots, self.bundles, parts, forces, strict=True
        ):
            rate = speed[slot.rows][:, None]
            if bundles is not None:
                force = bundles.held(v, force)
            if group.order is None:
                pieces.append((rate * force).ravel())
                moves.append((jnp.zeros(group.rows), rate * force))
                continue
            radial = jnp.sum(force * v, axis=1)
            grow = rate[:, 0] * radial
            turn = rate * (force - radial[:, None] * v)
            pieces.append(grow)
            moves.append((grow, turn))
            if group.size > 1:
                pieces.append(turn.ravel())
        return pieces, moves

    def bent_velocity(self, y: Any, clock: Any, side: Any = None) -> tuple[Any, Any]:
        """dy/ds before the late phase, on given sides of the bends, and the numbers that have them.

        Without sides, as the activations are.
        """
        jax = jax64()
        parts = self._parts(y)
        units, rhos = _apart_of(parts)
        if side is None:
            values, pull = jax.vjp(lambda units: self._values(units, rhos), units)
            z = jax.numpy.zeros(0)
        else:
            values, pull, z = jax.vjp(
                lambda units: self._pieces(units, rhos, side), units, has_aux=True
            )
        log_r, unit = self.residual.direct(self._sum(parts, values))
        forces = self._forces(pull, values, unit)
        pieces, _ = self._motion(parts, forces, log_r - self.log_unit, clock)
        return jax.numpy.concatenate(pieces), z

    def bending(self, y: Any, side: Any) -> Any:
        """The numbers that have sides."""
        return self._pieces(*_apart_of(self._parts(y)), side)[1]

    def weights(self) -> Any:
        """What an error of each number counts, shape `(N,)`; more of one is in smaller parts."""
        jnp = jax64().numpy
        pieces = []
        for group, slot, bundles in zip(self.groups, self.slots, self.bundles, strict=True):
            norms = slot.log_norm.stop - slot.log_norm.start
            free = slot.unit.stop - slot.unit.start
            each = jnp.ones(group.rows) if bundles is None else jnp.asarray(bundles.weight)
            pieces += [each[:norms], jnp.repeat(each, free // group.rows)]
        return jnp.concatenate(pieces)

    def torn(self, side: Any, before: Any) -> Any:
        """Whether blocks of one bundle are on different sides of a bend, or frail ones changed."""
        jnp = jax64().numpy
        torn, start = jnp.asarray(False), 0
        for group, bundles in zip(self.groups, self.bundles, strict=True):
            own = len(self.x) * group.bends
            if group.pieces is None or not own or not len(side):
                continue
            here = slice(start, start + group.rows * own)
            sides, old = (each[here].reshape(group.rows, own) for each in (side, before))
            start += group.rows * own
            if bundles is not None:
                torn = torn | (sides != sides[jnp.asarray(bundles.lead)]).any()
                torn = torn | ((sides != old) & jnp.asarray(bundles.frail)[:, None]).any()
        return torn

    def clock_speed(self, y: Any, clock: Any) -> Any:
        """mu before the late phase."""
        return self._log_speed(self._parts(y), clock) + self.log_unit

    def _log_speed(self, parts: list[tuple[Any, Any]], clock: Any) -> Any:
        jnp = jax64().numpy
        exponent = (jnp.asarray(self.order) - 2.0) * jnp.concatenate([rho for rho, _ in parts])
        return jax64().nn.logsumexp(jnp.where(clock, exponent, -jnp.inf))

    def velocity_jacobian(self, y: Any, clock: Any, late: bool) -> Any:
        """The Jacobian of `velocity` by y."""
        return jax64().jacfwd(self.velocity)(y, clock, late)

    def velocity_product(self, y: Any, clock: Any, late: bool, vector: Any) -> Any:
        """The Jacobian of `velocity` times a vector."""
        return jax64().jvp(lambda at: self.velocity(at, clock, late), (y,), (vector,))[1]

    def stage(self, y: Any, clock: Any, side: Any) -> tuple[Any, ...]:
        """The field at a stage of a collocation.

        y is x = (rho, v) of all blocks and ln p, which is empty without a loss of classification;
        `side` are the sides of the bends. Returns dx/ds and ln p as x has it, in one vector; then
        both apart, and the numbers whose signs the sides are.
        """
        jax = jax64()
        jnp = jax.numpy
        parts = self._parts(y[: self.size])
        units, rhos = _apart_of(parts)
        values, pull, z = jax.vjp(
            lambda units: self._pieces(units, rhos, side), units, has_aux=True
        )
        h = self._sum(parts, values)
        if self.residual.margin:
            log_share, _ = self._shares(h)
            log_r, unit = self.residual.carried(y[self.size :], 0.0)
            log_rate = log_r - self.residual.log_factor
        else:
            log_share = jnp.zeros(0)
            log_r, unit = self.residual.direct(h)
            log_rate = log_r - self.log_unit
        pieces, _ = self._motion(parts, self._forces(pull, values, unit), log_rate, clock)
        motion = jnp.concatenate(pieces)
        return jnp.concatenate([motion, log_share]), (motion, log_share, z)

    def all_stages(self, y: Any, clock: Any, side: Any) -> tuple[Any, ...]:
        """The same at vectors `(s, N)`: what stands apart, and the derivatives of the first."""
        jax = jax64()

        def both(y: Any) -> tuple[Any, ...]:
            derivative, known = jax.jacfwd(self.stage, has_aux=True)(y, clock, side)
            return *known, derivative

        return jax.vmap(both)(y)

    def _shares(self, h: Any) -> tuple[Any, Any]:
        """ln p, as a vector, and ln R from predictions."""
        log_q = self.residual.log_weights(self.residual.margins(h)).ravel()
        total = jax64().nn.logsumexp(log_q)
        return log_q - total, total

    def all_log_sums(self, y: Any) -> Any:
        """ln R at vectors `(k, N)`."""

        def total(y: Any) -> Any:
            parts = self._parts(y)
            return self._shares(self._sum(parts, self._values(*_apart_of(parts))))[1]

        return jax64().vmap(total)(y)

    def measures(self, y: Any, late: bool) -> tuple[Any, ...]:
        """Prediction, ln|r|, r/|r|, and the forces and force.v of every block."""
        jnp = jax64().numpy
        parts, h, log_r, unit, forces = self._at(y, late)
        along = [jnp.sum(f * v, axis=1) for f, (_, v) in zip(forces, parts, strict=True)]
        return h, log_r, unit, forces, jnp.concatenate(along)

    # -- compiled --------------------------------------------------------------------------

    @cached_property
    def shape(self) -> Shape:
        """What compiled code depends on."""
        return Shape(self)

    def data(self) -> tuple[Any, ...]:
        """What compiled code takes as arguments: all numbers that don't shape it."""
        constants = [group.constants for group in self.groups]
        residual = self.residual
        given = (residual.label, residual.log_factor, *residual.classes)
        bundles = [None if b is None else b.numbers for b in self.bundles]
        return (self.x, constants, self._fixed, self.alive, self.log_unit, given, bundles)

    def with_data(self, data: tuple[Any, ...]) -> "Field":
        """The field with other numbers of the same shape."""
        other = copy(self)
        other.x, constants, other._fixed, other.alive, other.log_unit, given, bundles = data
        other.bundles = [None if own is None else Bundles(*own) for own in bundles]
        other.groups = tuple(
            replace(group, constants=own) for group, own in zip(self.groups, constants, strict=True)
        )
        other.residual = self.residual.with_data(*given)
        return other

    def bundled(self, bundles: "list[Bundles | None]", alive: ndarray) -> "Field":
        """The field with other bundles."""
        other = copy(self)
        for name in ("numbers", "shape"):
            other.__dict__.pop(name, None)
        other.bundles, other.alive = bundles, alive
        return other

    @cached_property
    def numbers(self) -> Any:
        """The same where compiled code has them at hand."""
        jax = jax64()
        return jax.device_put(jax.tree_util.tree_map(np.asarray, self.data()))

    def compiled(self, y: Any, clock: Any, late: bool) -> Any:
        """`velocity`, compiled."""
        return compiled(self.shape, Field.velocity, (3,))(self.numbers, y, clock, late)

    def jacobian(self, y: Any, clock: Any, late: bool) -> Any:
        """`velocity_jacobian`, compiled."""
        return compiled(self.shape, Field.velocity_jacobian, (3,))(self.numbers, y, clock, late)

    def product(self, y: Any, clock: Any, late: bool, vector: Any) -> Any:
        """`velocity_product`, compiled."""
        run = compiled(self.shape, Field.velocity_product, (3,))
        return run(self.numbers, y, clock, late, vector)

    def stages(self, y: Any, clock: Any, side: Any) -> Any:
        """`all_stages`, compiled."""
        return compiled(self.shape, Field.all_stages, ())(self.numbers, y, clock, side)

    def at_stage(self, y: Any, clock: Any, side: Any) -> Any:
        """`stage` without the first vector, compiled."""
        return compiled(self.shape, _apart, ())(self.numbers, y, clock, side)

    def measured(self, y: ndarray, late: bool) -> Any:
        """`measures` at vectors `(k, N)`, compiled."""
        run, pieces = compiled(self.shape, _all_measures, (2,)), []
        for start in range(0, len(y), _FEW):
            some = y[start : start + _FEW]
            room = np.concatenate([some, np.tile(some[-1:], (_FEW - len(some), 1))])
            found = run(self.numbers, room if len(some) > 1 else some, late)
            pieces.append([np.asarray(each)[: len(some)] for each in jax64().tree.leaves(found)])
        h, log_r, unit, *forces, along = (
            np.concatenate(each) for each in zip(*pieces, strict=True)
        )
        return h, log_r, unit, forces, along

    def log_sums(self, y: ndarray) -> ndarray:
        """ln R at any number of vectors."""
        found, run = [np.zeros(0)], compiled(self.shape, Field.all_log_sums, ())
        for start in range(0, len(y), _CHUNK):
            some = y[start : start + _CHUNK, : self.size]
            room = np.concatenate([some, np.tile(some[-1:], (_CHUNK - len(some), 1))])
            found.append(np.asarray(run(self.numbers, room))[: len(some)])
        return np.concatenate(found)

    @cached_property
    def spread(self) -> float:
        """An estimate of B: see `spread`."""
        return spread(self.groups, self.x)

    @property
    def label_size(self) -> float:
        """The size of predictions that count: of the labels, or 1 for classification."""
        return 1.0 if self.residual.margin else float(np.abs(self.problem.data.y).max(initial=0.0))


def _apart_of(parts: list[tuple[Any, Any]]) -> tuple[list[Any], list[Any]]:
    """Unit vectors of each group, and ln-norms, which the forces don't differentiate by."""
    return [v for _, v in parts], [rho for rho, _ in parts]


def _apart(field: Field, y: Any, clock: Any, side: Any) -> Any:
    return field.stage(y, clock, side)[1]


def _all_measures(field: Field, y: Any, late: bool) -> Any:
    return jax64().vmap(lambda y: field.measures(y, late))(y)
