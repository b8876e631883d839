"""How all neurons move in a window or a jump: states at any offset inside it are cheap.

Offsets count the time in which neurons move under the residual scaled by exp(-unit):
d tau = exp(unit) dt.
"""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from ._changes import TIMES, change_times, feed_back, residual_changes, unseen_change
from ._correction import correct_states, mend_sides
from ._jump import jump_states
from ._kernel import group_kernel
from ._particles import group_patterns, particles
from ._residual import scaled_residual
from ._state import Field, KinkState
from ._tree import difference_tree
from ._window import event_counts, window_prediction, window_states

if TYPE_CHECKING:
    from ._engine import KinkExactEngine


#: Bytes that the segments of one window or jump may take.
MEMORY = 256e6
#: Particles with a smaller share than this, of the largest, are left out of that kernel.
_FELT = 1e-6
#: Riders with a smaller share, in units of rtol and the largest of them, change no residual.
_SEEN = 1e-4
#: What may be missed of dr, in units of what the events of a window may do.
_FORGIVEN = 0.05
#: What may be missed of its integral between the times at which it is known, in these units.
_UNSEEN = 2.0
TOO_MUCH = "the number of events of one neuron in one step, or of its multipliers, passes its cap"


class Segments:
    """Room for what happens to neurons between events; one array for each thing, grown together.

    `planes` and `sides` are the changes of patterns at events, of all segments one after another.

    **Arguments:**

    - `planes`: the number of hyperplanes.
    - `shapes`: name, shape of one segment's part, and type of each array.
    """

    def __init__(
        self, room: int, planes: int, shapes: tuple[tuple[str, tuple[int, ...], type], ...]
    ) -> None:
        self.shapes = (*shapes, ("change", (), np.int64))
        self._count = planes
        self.bytes = sum(
            int(np.prod(shape)) * np.dtype(kind).itemsize for _, shape, kind in self.shapes
        )
        self.room = 0
        self.resize(room)

    def resize(self, room: int) -> None:
        """Empty arrays for so many segments."""
        self.room = room
        self.arrays: dict[str, ndarray] = {
            name: np.empty((room, *shape), kind) for name, shape, kind in self.shapes
        }
        self.planes = np.empty(2 * room + 2 * self._count, np.int64)
        self.sides = np.empty(2 * room + 2 * self._count, np.int8)

    def trim(self, used: int) -> None:
        """Give back what is not used."""
        if 2 * used < self.room:
            self.arrays = {name: array[:used].copy() for name, array in self.arrays.items()}

    def __getitem__(self, name: str) -> ndarray:
        return self.arrays[name]


class Parts:
    """The particles of a state: see `_particles.py`."""

    def __init__(self, state: KinkState, field: Field) -> None:
        with np.errstate(under="ignore"):
            self.share = np.exp(2.0 * state.log_scale)
        self.group_side = np.ascontiguousarray(state.side[field.member])
        self.active = (self.group_side > 0).astype(float)
        self.tree = difference_tree(self.group_side, state.w.shape[1])
        self.slides, self.inverse = field.slides, field.inverse
        (
            self.first, self.mix, self.lumped, self.k, self.w, self.a, self.particle_share,
            self.particle_group,
        ) = particles(field.group, len(field.member), state.w, state.a, self.share)  # fmt: skip


class Move:
    """A proposed advance of all neurons from one state."""

    def __init__(
        self, engine: "KinkExactEngine", state: KinkState, unit: float, length: float
    ) -> None:
        self.engine = engine
        self.state = state
        self.unit = unit
        self.length = length
        self.drift = 0.0

    def offsets(self, samples: int) -> ndarray:
        """Offsets at which the window is worth recording."""
        return np.linspace(0.0, self.length, samples + 1)[1:]

    def states(self, offsets: ndarray) -> list[KinkState]:
        """States at increasing positive offsets, the last at most the length."""
        return [self._at(float(offset)) for offset in offsets]

    def accept(self, offset: float) -> None:
        """Count what happened up to an offset as done."""
        counts = np.zeros(4, np.int64)
        self._count(offset, counts)
        self.engine.note(counts, self.drift)

    def _time(self, offset: float) -> tuple[float, float]:
        if self.unit == 0.0:
            time = self.state.time + offset
            return time, float(np.log(time)) if time > 0.0 else -np.inf
        log_time = float(np.logaddexp(self.state.log_time, np.log(offset) - self.unit))
        with np.errstate(over="ignore"):
            return float(np.exp(log_time)), log_time

    def _made(
        self, offset: float, side: ndarray, w: ndarray, a: ndarray, scale: ndarray
    ) -> KinkState:
        time, log_time = self._time(offset)
        return replace(
            self.state, time=time, log_time=log_time, side=side, w=w, a=a, log_scale=scale,
            residual=None,
        )  # fmt: skip

    def _at(self, offset: float) -> KinkState:
        raise NotImplementedError

    def _count(self, offset: float, counts: ndarray) -> None:
        raise NotImplementedError


class Window(Move):
    """All neurons by the series of their particles, or by the segments of their rides.

    With `prediction`, the Taylor coefficients (orders, n, C) of the predictions that the residual
    of the rides belongs to, states are corrected for what events do to the residual. `work` is
    that of its events and rides, in units of a neuron's Taylor coefficient times its order.
    """

    def __init__(
        self, engine, state, field, length, parts, series, segments, prediction, residual, work
    ):  # fmt: skip
        super().__init__(engine, state, field.unit, length)
        self.group, self.velocity = field.group, field.force
        self.parts = parts
        self.series = series
        self.segments = segments
        self.prediction = prediction
        self.residual = residual
        self.work = work

    def predictions(self, offsets: ndarray) -> ndarray:
        """Predictions (T, n, C) at offsets, at a cost of the patterns and the events."""
        engine, parts, planes = self.engine, self.parts, self.engine.planes
        base, count, room = self.segments
        weight, output, order = self.series
        riders = np.nonzero(count)[0]
        result = np.empty((len(offsets), *engine.label.shape))
        for offset, prediction in zip(offsets, result, strict=True):
            window_prediction(
                offset, riders, self.group, parts.active, parts.first, parts.mix, parts.lumped,
                parts.k, weight, output, order, parts.particle_share, parts.particle_group,
                parts.share, base, count, room["start"], room["w"], room["a"],
                room["order"], planes.normals, planes.plane, planes.plus, planes.minus, prediction,
            )  # fmt: skip
        return result

    def shorten(self, length: float) -> None:
        """End earlier."""
        self.length = length
        for cached in ("end", "_end", "_changes"):
            self.__dict__.pop(cached, None)

    @cached_property
    def end(self) -> KinkState:
        """The state at the window's end."""
        side, w, a = self._end
        if self.prediction is not None:
            side, w, a = side.copy(), w.copy(), a.copy()
            self._correct(self.length, side, w, a)
        scale, self.drift = self.state.rows.normalise(w, a, self.state.log_scale)
        state = self._made(self.length, side, w, a, scale)
        if self.prediction is not None:
            self.engine.feedback.reach(state)
        return state

    @cached_property
    def first_event(self) -> float:
        """The offset of the first event; inf if there is none."""
        base, count, room = self.segments
        return float(np.min(room["start"][base[count > 1] + 1], initial=np.inf))

    def _at(self, offset: float) -> KinkState:
        if offset == self.length:
            return self.end
        side, w, a = self._along_series(offset)
        if self.prediction is not None:
            self._correct(offset, side, w, a)
        scale, _ = self.state.rows.normalise(w, a, self.state.log_scale)
        return self._made(offset, side, w, a, scale)

    def _along_series(self, offset: float) -> tuple[ndarray, ndarray, ndarray]:
        """Patterns and weights, not corrected yet, nor normalised."""
        state, parts = self.state, self.parts
        side, w, a = np.empty_like(state.side), np.empty_like(state.w), np.empty_like(state.a)
        weight, output, order = self.series
        base, count, room = self.segments
        window_states(
            offset, self.group, parts.group_side, parts.first, parts.mix, parts.lumped, parts.k,
            weight, output, order, base, count,
            room["start"], room["w"], room["a"], room["order"], room["change"], room.planes,
            room.sides, side, w, a,
        )  # fmt: skip
        return side, w, a

    @cached_property
    def _end(self) -> tuple[ndarray, ndarray, ndarray]:
        return self._along_series(self.length)

    def _correct(self, offset: float, side: ndarray, w: ndarray, a: ndarray) -> None:
        planes = self.engine.planes
        base, count, room = self.segments
        if self._changes is None:
            return
        times, changes, back = self._changes
        if offset - times[0] <= 1e-9 * self.length:
            return
        early = int(np.sum(times < offset))
        if early < len(times):
            # Piecewise linear as the changes are, they end at the offset.
            late = (offset - times[early - 1]) / (times[early] - times[early - 1])
            times = np.append(times[:early], offset)
            last = (1.0 - late) * changes[early - 1] + late * changes[early]
            changes = np.append(changes[:early], last[None], axis=0)
            last = (1.0 - late) * back[early - 1] + late * back[early]
            back = np.append(back[:early], last[None], axis=0)
        self._add(times, np.eye(len(times)), changes, side, w, a)
        # What the states say of the residual is not quite what was expected. That is the part of
        # what moved for the others that was foreseen least, and grows like the whole of it.
        expected = np.tensordot(offset ** np.arange(len(self.residual)), self.residual, 1)
        z = w @ planes.normals.T
        residual = self._residual(z, a)
        missed = residual - expected - changes[-1]
        size, wrong = float(np.linalg.norm(back[-1])), float(np.linalg.norm(missed))
        if offset == self.length:
            self.engine.feedback.learn(size, wrong)
        harm = 0.25 * planes.spread * wrong * (offset - times[0])
        if size > 0.0 and harm > _FORGIVEN * self.engine.allowed(self.residual[0]):
            shape = np.maximum(np.tensordot(back, back[-1], 2) / size**2, 0.0)
            self._add(times, shape[:, None], missed[None], side, w, a)
            z = w @ planes.normals.T
            residual = self._residual(z, a)
        mend_sides(
            offset, z, residual, self.state.rows.carried, self.group, self.parts.group_side, base,
            count, room["start"], room["change"], room.planes, room.sides, planes.normals,
            planes.plane, planes.plus, planes.minus, side, w, a,
        )  # fmt: skip

    @cached_property
    def _changes(self) -> tuple[ndarray, ndarray, ndarray] | None:
        """Times in this window, how the residual deviates from its series then, and which part of
        that is what it does to itself; None if it doesn't."""
        engine, parts, planes = self.engine, self.parts, self.engine.planes
        weight, output, order = self.series
        base, count, room = self.segments
        share = np.where(count > 1, parts.share, 0.0)
        riders = np.nonzero(share > _SEEN * engine.rtol * share.max(initial=0.0))[0]
        event = np.repeat(base[riders] + 1, count[riders] - 1)
        event += np.arange(len(event)) - np.searchsorted(event, event)
        # Rides may reach farther than the window, which was cut after them.
        inside = room["start"][event] < self.length
        event = event[inside]
        if not len(event):
            return None
        start, defect = room["start"][event], np.abs(room["defect"][event])
        size = np.repeat(share[riders], count[riders] - 1)[inside] * (
            defect[:, 0] + defect[:, 1] + (self.length - start) * defect[:, 2]
        )
        sooner = np.argsort(start)
        start, size = start[sooner], size[sooner]
        allowed = engine.allowed(self.residual[0]) / planes.spread
        for number in TIMES:
            times, halves = np.empty(number), np.empty(number, np.bool_)
            change_times(self.length, start, size, times, halves)
            changes = np.empty((number, *engine.label.shape))
            frozen = np.zeros_like(changes)
            residual_changes(
                times, riders, self.group, parts.active, parts.first, parts.mix, parts.lumped,
                parts.k, weight, output, order, parts.share, base, count, room["start"],
                room["w"], room["a"], room["order"], planes.normals, planes.plane, planes.plus,
                planes.minus, engine.kind, engine.label, engine.factor, self.unit, self.prediction,
                changes, frozen,
            )  # fmt: skip
            if unseen_change(times, halves, changes) <= _UNSEEN * allowed:
                break
        if not engine.feedback.known:
            cube = ((times - times[0]) / (self.length - times[0])) ** 3
            return times, changes, cube[:, None, None] * changes[-1]
        direct = changes.copy()
        kernel = engine.feedback.kernel(self.state, self._kernel)
        feed_back(
            times, changes, frozen, kernel, engine.kind, engine.label, engine.factor, self.unit,
            engine.gain(frozen) * float(np.linalg.norm(kernel)),
        )  # fmt: skip
        return times, changes, changes - direct

    def _kernel(self) -> ndarray:
        """The kernel at the end: most of what moves for the others does so with its patterns."""
        engine, parts = self.engine, self.parts
        side, w, a = self._end
        felt = parts.share > _FELT * parts.share.max()
        own = side[felt]
        group, member = group_patterns(own, engine.keys)
        slides, inverse = engine.inverses(own[member])
        return group_kernel(
            engine.planes, w[felt], a[felt], parts.share[felt], group, own[member], slides, inverse
        )

    def _residual(self, z: ndarray, a: ndarray) -> ndarray:
        """The residual at weights that are not normalised yet, divided by exp(unit); z is w.e."""
        engine = self.engine
        state = self.state
        prediction = engine.predict(z, a, self.parts.share, state.side, state.rows.carried)
        residual = np.empty_like(prediction)
        unit = scaled_residual(engine.kind, prediction, engine.label, engine.factor, residual)
        return residual * np.exp(unit - self.unit)

    def _add(self, times: ndarray, shape: ndarray, changes: ndarray, *state: ndarray) -> None:
        parts, planes = self.parts, self.engine.planes
        base, count, room = self.segments
        correct_states(
            times, shape, changes, self.group, parts.group_side, parts.active, parts.tree,
            parts.slides, parts.inverse, base, count, room["start"], room["w"], room["a"],
            room["order"], room["plane"], room["change"], room.planes, room.sides, planes.normals,
            planes.plane, planes.plus, planes.minus, self.velocity, self.state.w, self.state.a,
            *state,
        )  # fmt: skip

    def _count(self, offset: float, counts: ndarray) -> None:
        base, count, room = self.segments
        event_counts(offset, base, count, room["start"], room["counts"], counts)


class Jump(Move):
    """The neurons that move, in closed form while the residual is constant."""

    def __init__(self, engine, state, unit, length, fastest, segments):
        super().__init__(engine, state, unit, length)
        self.fastest = fastest
        self.segments = segments

    def offsets(self, samples: int) -> ndarray:
        """A jump moves most at its beginning."""
        even = np.linspace(0.0, self.length, max(samples, 13))[1:]
        if not (np.isfinite(self.length) and self.fastest > 0.0):
            return even
        first = min(0.05 / self.fastest, 0.5 * self.length)
        return np.unique(np.concatenate([np.geomspace(first, self.length, 24)[:-1], even]))

    def _at(self, offset: float) -> KinkState:
        state = self.state
        base, count, room = self.segments
        side = np.empty_like(state.side)
        w, a = np.empty_like(state.w), np.empty_like(state.a)
        scale = np.empty_like(state.log_scale)
        jump_states(
            offset, state.side, *state.rows.constants, base, count, room["start"], room["w"],
            room["a"], room["scale"], room["unit"], room["size"], room["change"],
            room.planes, room.sides, side, w, a, scale,
        )  # fmt: skip
        return self._made(offset, side, w, a, scale)

    def _count(self, offset: float, counts: ndarray) -> None:
        base, count, room = self.segments
        event_counts(offset, base, count, room["start"], room["counts"], counts)
