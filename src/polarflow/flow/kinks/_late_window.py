"""Late windows of the kink-exact engine: when they are tried, and the states inside them."""

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._engine import Halt
from ._kernel import kernel
from ._late import Field, LateSeries, LateSolver
from ._moves import Move, Window
from ._particles import group_patterns
from ._shares import Margins
from ._stiff import ride_along

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._state import Field as StateField
    from ._state import KinkState

#: Rides reach so much farther than the window, to find the event that it should end with.
_BEYOND = 1.04
#: Explicit windows before a late one is tried; doubled, up to a limit, by each that didn't pay.
_PATIENCE, _MOST_PATIENCE = 3, 8
#: A late window pays if it reaches at least so far, per evaluation, in units of the fastest rate.
_PAYS = 0.1
#: Neurons that could grow to be felt within so many e-foldings of the fastest count as felt.
_SHORT = 8.0
#: Events of neurons with a smaller share than this, of the largest one's, don't end a window.
_MATTERS = 1e-10
#: What neurons that are left out may add to the margins, in units of the tolerance.
_NEGLECT = 0.01


class LateWindow(Move):
    """All neurons along a polynomial distribution of the residual.

    Offsets count tau, d tau = factor R dt. States carry the residual's direction: the
    distribution is known far better than the predictions tell.
    """

    def __init__(
        self, engine: "KinkExactEngine", state: "KinkState", margins: Margins, late: LateSeries,
        ridden: "Ridden",
    ) -> None:  # fmt: skip
        super().__init__(engine, state, 0.0, late.length)
        self.margins = margins
        self.late = late
        self.ridden = ridden

    def states(self, offsets: ndarray) -> list["KinkState"]:
        """States at increasing positive offsets, the last at most the length."""
        offsets = np.asarray(offsets, dtype=float)
        elapsed = self.late.log_elapsed(offsets)
        log_time = np.logaddexp(self.state.log_time, elapsed)
        direction = self.margins.spread(np.maximum(self.late.weights(offsets), 0.0))
        states = []
        for i, state in enumerate(self.ridden.states(offsets)):
            with np.errstate(over="ignore", under="ignore"):
                time = float(np.exp(log_time[i]))
            unit = direction[i] / np.linalg.norm(direction[i])
            states.append(replace(state, time=time, log_time=float(log_time[i]), residual=unit))
        return states

    def accept(self, offset: float) -> None:
        """Count what happened up to an offset as done."""
        self.ridden.accept(offset)


class Rides:
    """Neurons of one state along given residuals: what a late window asks of the engine.

    Only the neurons that can be felt in the residual ride while the residual is sought.
    """

    def __init__(
        self, engine: "KinkExactEngine", state: "KinkState", field: "StateField", felt: ndarray
    ) -> None:
        self.engine = engine
        self.whole = state, field
        self.all_felt = bool(felt.all())
        self.state, self.field = self.whole
        if not self.all_felt:
            self.state, self.field = _restricted(engine, state, field, felt)
        self.parts = engine.parts(self.state, self.field)

    def ride(self, coefficient: ndarray, length: float) -> "Ridden":
        """The neurons that are felt along a residual polynomial."""
        window = ride_along(
            self.engine, self.state, self.field, self.parts, coefficient, _BEYOND * length
        )
        self._count(window)
        return Ridden(self.engine, window)

    def ride_all(self, found: Any, coefficient: ndarray, length: float) -> "Ridden":
        """All neurons along the residual polynomial of a window that was found."""
        if self.all_felt:
            ridden: Ridden = found
            return ridden
        engine = self.engine
        state, field = self.whole
        parts = engine.parts(state, field)
        return Ridden(engine, ride_along(engine, state, field, parts, coefficient, length))

    def kernel(self, state: Any) -> ndarray:
        """Their kernel."""
        return kernel(self.engine, state)

    def _count(self, window: Window) -> None:
        neurons = len(self.whole[0].a)
        self.engine.evaluations += 1.0 + float(window.segments[1].sum()) / neurons


def _restricted(
    engine: "KinkExactEngine", state: "KinkState", field: "StateField", some: ndarray
) -> "tuple[KinkState, StateField]":
    """The state and the field of some of the neurons; the residual stays that of all."""
    state = replace(
        state,
        side=np.ascontiguousarray(state.side[some]),
        w=np.ascontiguousarray(state.w[some]),
        a=np.ascontiguousarray(state.a[some]),
        log_scale=state.log_scale[some],
        rows=state.rows[some],
    )
    group, member = group_patterns(state.side, engine.keys)
    old = field.group[some][member]
    field = replace(
        field,
        group=group,
        member=member,
        slides=field.slides[old],
        inverse=field.inverse[old],
        force=field.force[old],
        multiplier=field.multiplier[old],
        z=np.ascontiguousarray(field.z[some]),
    )
    return state, field


class Ridden:
    """Neurons along a given residual."""

    def __init__(self, engine: "KinkExactEngine", window: Window) -> None:
        self.engine = engine
        self.window = window

    def predictions(self, offsets: ndarray) -> ndarray:
        """Predictions at offsets, each counted as a field evaluation."""
        self.engine.evaluations += float(len(offsets))
        return self.window.predictions(offsets)

    def states(self, offsets: ndarray) -> list["KinkState"]:
        """States at offsets."""
        return self.window.states(offsets)

    def accept(self, offset: float) -> None:
        """Count what happened up to an offset as done."""
        self.window.accept(offset)

    def first_event(self, after: float) -> float:
        """The first time after an offset at which a neuron that matters changes its pattern."""
        later = self._events[self._events > after]
        return float(later.min(initial=np.inf))

    @cached_property
    def _events(self) -> ndarray:
        base, count, room = self.window.segments
        log_scale = self.window.state.log_scale
        matters = 2.0 * (log_scale - log_scale.max()) > np.log(_MATTERS)
        times: list[ndarray] = []
        for j in np.flatnonzero(matters & (count > 1)):
            some = slice(base[j], base[j] + count[j])
            change, start = room["change"][some], room["start"][some]
            times.append(start[1:][change[1:] != change[:-1]])
        return np.concatenate(times) if times else np.zeros(0)


class Late:
    """Late windows for an engine: proposes them where they pay."""

    def __init__(self, engine: "KinkExactEngine") -> None:
        self.engine = engine
        self.margins = Margins(engine.problem.loss.kind, engine.label)
        size = np.linalg.norm(engine.problem.data.x, axis=1)
        self.reach = np.repeat(size, engine.label.shape[1])
        self.solver = LateSolver(self.margins, self.reach, engine.factor, engine.step_tolerance)
        self.restart()

    def restart(self) -> None:
        """Forget what was learnt: the next state doesn't follow the last."""
        self.solver.restart()
        self._active = False
        self._waiting = 0
        self._patience = _PATIENCE
        self._poor = 0
        self._before = 0.0
        self._shortest = 0.0

    def notice(self, length: float) -> None:
        """Learn of an explicit window."""
        steady = length >= 0.7 * self._before
        self._before = length
        self._waiting += 1
        if steady and self._waiting >= self._patience:
            self._active = True
            self.solver.restart()
            self.solver.length = 4.0 * length
            self._shortest = 2.0 * length

    def window(self, state: "KinkState", field: "StateField") -> LateWindow | None:
        """A late window, or None where it isn't tried or doesn't pay."""
        if not self._active:
            return None
        engine = self.engine
        before = engine.evaluations
        felt, longest = self._felt(state, field)
        growth = float(np.linalg.norm(field.force, axis=(1, 2)).max(initial=0.0))
        rides = Rides(engine, state, field, felt)
        self.solver.length = min(self.solver.length, longest)
        try:
            found = self.solver.window(
                Field(rides.ride, rides.kernel), field.prediction, self._shortest
            )
            ridden = None
            if found is not None:
                residual = self.margins.spread(found.coefficient)
                ridden = rides.ride_all(found.ridden, residual, found.length)
        except Halt:
            # A trial distribution far from the solution: not the flow's fault.
            found = None
        self._shortest = 0.0
        if found is None or ridden is None:
            self._leave()
            return None
        work = engine.evaluations - before
        if found.length * max(found.fastest, growth) < _PAYS * work:
            self._poor += 1
        else:
            self._poor = 0
            self._patience = _PATIENCE
        if self._poor >= 4:
            self._leave()
        return LateWindow(engine, state, self.margins, found, ridden)

    def _felt(self, state: "KinkState", field: "StateField") -> tuple[ndarray, float]:
        """Which neurons are felt in the residual, and for how long the others stay below that.

        What neurons add to the margins moves p by as much, relative to itself. Those that could
        come to be felt in a window of four times the length expected, or in one of some e-foldings,
        count as felt.
        """
        rate = np.linalg.norm(field.force, axis=(1, 2))[field.group]
        log_share = 2.0 * state.log_scale + np.log(self.engine.planes.spread**2)
        fastest = float(rate.max(initial=0.0))
        room = float(np.log(_NEGLECT * self.solver.allowed / len(rate)))
        ahead = max(4.0 * self.solver.length, _SHORT / max(fastest, 1e-300))
        felt = (log_share + 2.0 * rate * ahead > room) | (log_share == log_share.max())
        longest = np.inf
        if not felt.all() and fastest > 0.0:
            growing = ~felt & (rate > 0.0)
            if growing.any():
                longest = float(np.min((room - log_share[growing]) / (2.0 * rate[growing])))
        return felt, longest

    def _leave(self) -> None:
        self._active = False
        self._waiting = self._poor = 0
        self._patience = min(2 * self._patience, _MOST_PATIENCE)
