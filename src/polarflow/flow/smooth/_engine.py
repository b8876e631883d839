"""The smooth engine: any network of homogeneous blocks, in three logs, stepped by CVODE."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks import BlockState
from .._engine import Measure
from .._problem import Problem
from ._field import Field
from ._stepper import Session, Step, StepError, log_elapsed

#: Steps in a window.
_STEPS = 4
#: The part of the tolerance that one step of the solver may use for each number.
_SHARE = 0.1
#: The late phase begins once every margin exceeds this.
_LATE = 3.0
#: A block is at rest, and the clock leaves it out, if it moves by less than this in the time in
#: which a block of its size could turn, and others move as slowly.
_REST = 1e-3
#: The clock passes to other blocks once the fastest moves slower than this in it.
_SLOW = 1e-2
#: What remains of a finite time is lost in rounding below this share of it.
_BLOW_UP = 4e-16


@dataclass(frozen=True, eq=False)
class SmoothState:
    """The vector of the field, the logarithm of the time, and where in a session it is."""

    log_time: float
    y: ndarray
    late: bool
    session: Session | None = None
    s: float = 0.0

    @property
    def time(self) -> float:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(self.log_time))


class SmoothWindow:
    """Steps of one session, from a state in the first of them."""

    def __init__(self, engine: "SmoothEngine", start: SmoothState, steps: Sequence[Step]) -> None:
        self.engine, self.start, self.steps = engine, start, list(steps)

    @property
    def length(self) -> float:
        return self.steps[-1].end - self.start.s if self.steps else np.inf

    def offsets(self, samples: int) -> ndarray:
        """The ends of the steps, and points between them if more are wanted."""
        ends = np.array([step.end for step in self.steps]) - self.start.s
        if samples < len(ends):
            keep = np.linspace(0, len(ends) - 1, max(samples, 1)).round().astype(int)
            return ends[np.unique(np.append(keep[1:], len(ends) - 1))]
        inner = samples // len(ends)
        starts = np.concatenate([[0.0], ends[:-1]])
        parts = np.linspace(starts, ends, inner + 1)[1:]
        return np.unique(np.concatenate([parts[:-1].ravel(), ends]))

    def states(self, offsets: ndarray) -> list[SmoothState]:
        start, field = self.start, self.engine.field
        session = start.session
        assert session is not None
        wanted = np.minimum(start.s + np.asarray(offsets, dtype=float), self.steps[-1].end)
        found: list[SmoothState] = []
        log_time, low = start.log_time, start.s
        for step in self.steps:
            here = wanted[(wanted > low) & (wanted <= step.end)]
            ends = np.unique(np.append(here, step.end))
            elapsed = log_elapsed(field, step, low, ends, session.clock, session.late)
            times = np.logaddexp(log_time, elapsed)
            for s, y in zip(here, step.at(here), strict=True):
                at = float(times[np.searchsorted(ends, s)])
                found.append(SmoothState(at, y, session.late, session, float(s)))
            log_time, low = float(times[-1]), step.end
            if low >= wanted[-1]:
                break
        return found

    def accept(self, offset: float) -> None:
        """Nothing is counted by events here."""


class SmoothEngine:
    """Follows networks whose blocks are smooth, or whose kinks need not be located.

    **Arguments:**

    - `problem`: data, network, loss and start.
    - `rtol`: bounds the relative error of every block's norm and the error of its direction.
    """

    def __init__(self, problem: Problem, rtol: float) -> None:
        self.problem, self.rtol = problem, rtol
        self.field = Field(problem)
        self.session: Session | None = None
        self.steps: list[Step] = []
        self._counted = 0.0
        self._everyone = self.field.alive.copy()

    # -- counting --------------------------------------------------------------------------

    @property
    def evaluations(self) -> float:
        """Field evaluations; products of the Jacobian with a vector are counted apart."""
        return self._counted + (self.session.evaluations if self.session else 0)

    @evaluations.setter
    def evaluations(self, value: float) -> None:
        self._counted = value - (self.session.evaluations if self.session else 0)

    # -- the protocol ----------------------------------------------------------------------

    def initial(self) -> SmoothState:
        return SmoothState(-np.inf, self.field.vector(self.problem.initial), False)

    def blocks(self, state: SmoothState) -> BlockState:
        return self.field.state(state.y)

    def restart(self) -> None:
        if self.session is not None:
            self._counted += self.session.evaluations
        self.session, self.steps = None, []

    def counts(self) -> dict[str, Any]:
        return {}

    def measure(self, states: Sequence[SmoothState]) -> list[Measure]:
        return [self._measure(state)[0] for state in states]

    def advance(self, state: SmoothState, end: float) -> SmoothWindow:
        if state.session is self.session and self.session is not None:
            ahead = [step for step in self.steps if step.end > state.s]
            if ahead:
                return SmoothWindow(self, state, ahead)
        self._counted += 1
        measure, log_speed, log_force = self._measure(state)
        if not self._moves(measure, log_force):
            return SmoothWindow(self, state, ())
        start = self._ready(state, measure, log_speed, log_force)
        session = start.session
        assert session is not None
        self._check_blow_up(start)
        self.steps = [session.step() for _ in range(_STEPS)]
        return SmoothWindow(self, start, self.steps)

    # -- inside ----------------------------------------------------------------------------

    def _measure(self, state: SmoothState) -> tuple[Measure, ndarray, ndarray]:
        """The measure, ln of each block's possible speed e^{(L-2) rho}, and ln |grad N(v)|."""
        from scipy.special import logsumexp

        field = self.field
        h, log_r, unit, size, along = (np.asarray(a) for a in field.measured(state.y, state.late))
        log_r = float(log_r)
        rho = field.log_norms(state.y)
        with np.errstate(divide="ignore", under="ignore", over="ignore", invalid="ignore"):
            log_force = np.where(field.alive, np.log(size), -np.inf)
            log_gradient = log_r + float(logsumexp((field.order - 1.0) * rho + log_force))
            if state.late:
                log_loss = field.residual.log_loss(state.y[field.size : -1], float(state.y[-1]))
            else:
                prediction = h if self.problem.data.y.ndim == 2 or field.residual.softmax else h[:, 0]
                log_loss = float(self.problem.loss.log_value(prediction, self.problem.data.y))
            log_rate = log_r + np.log(self._spread)
            rest = np.exp(np.minimum(2.0 * log_gradient - log_rate - log_loss, 700.0))
            escape = float(np.max(np.where(field.alive, along, -np.inf))) / self._spread
        narrow = self.problem.network.outputs == 1
        measure = Measure(
            prediction=h[:, 0] if narrow else h,
            residual=unit[:, 0] if narrow else unit,
            log_residual=log_r,
            log_loss=log_loss,
            log_grad_norm=log_gradient,
            rest=float(rest) if np.isfinite(rest) else np.inf,
            escape=escape,
        )
        log_speed = np.where(field.alive, (field.order - 2.0) * rho, -np.inf)
        return measure, log_speed, log_force

    @cached_property
    def _spread(self) -> float:
        return max(self.field.spread, 1e-300)

    def _moves(self, measure: Measure, log_force: ndarray) -> bool:
        """Whether any block moves, by more than rounding."""
        label = self.problem.data.y
        size = float(np.max(np.abs(label))) + float(np.max(np.abs(measure.prediction)))
        if self.field.residual.margin:
            noise = np.log(16.0 * np.finfo(float).eps)
        else:
            noise = np.log(16.0 * np.finfo(float).eps * size) + self.field.residual.log_factor
            noise -= measure.log_residual
        return bool(log_force.max(initial=-np.inf) > noise + np.log(self._spread))

    def _ready(
        self, state: SmoothState, measure: Measure, log_speed: ndarray, log_force: ndarray
    ) -> SmoothState:
        """The state in a session that may go on: the present one, or a new one where need be."""
        late = state.late or self._is_late(measure)
        clock = self._clock(state, log_speed, log_force)
        session = self.session
        if session is not None and state.session is session and late == state.late:
            if np.array_equal(clock, session.clock):
                return state
        y = state.y
        if late and not state.late:
            y = np.concatenate([y, self._late_part(measure)])
        self.restart()
        self.session = Session(self.field, y, clock, late, _SHARE * self.rtol)
        return SmoothState(state.log_time, y, late, self.session, 0.0)

    def _is_late(self, measure: Measure) -> bool:
        if not self.field.residual.margin:
            return False
        h = measure.prediction.reshape(len(self.field.x), -1)
        return bool(np.asarray(self.field.residual.margins(h)).min() > _LATE)

    def _late_part(self, measure: Measure) -> ndarray:
        """ln p and ln R from the predictions."""
        from scipy.special import logsumexp

        residual = self.field.residual
        h = measure.prediction.reshape(len(self.field.x), -1)
        log_q = np.asarray(residual.log_weights(residual.margins(h))).ravel()
        total = float(logsumexp(log_q))
        return np.append(log_q - total, total)

    def _clock(self, state: SmoothState, log_speed: ndarray, log_force: ndarray) -> ndarray:
        """The blocks that set the clock: all but those at rest while others move slowly."""
        session = self.session if state.session is self.session else None
        clock = self._everyone if session is None else session.clock
        moving = log_force > np.log(_REST * self._spread)
        if not (self.field.alive & moving).any():
            return clock
        fastest = float((log_speed + log_force)[self.field.alive & moving].max())
        pace = float(log_speed[clock].max()) + np.log(self._spread)
        if fastest < pace + np.log(_SLOW) or fastest > pace - np.log(_SLOW):
            return self.field.alive & moving
        return clock

    def _check_blow_up(self, state: SmoothState) -> None:
        """Raise where the NCF flow has come to its finite time, to rounding."""
        if self.problem.loss.kind != "correlation" or not np.isfinite(state.log_time):
            return
        session = state.session
        assert session is not None
        dy = np.asarray(self.field.compiled(state.y, session.clock, state.late))
        rate = float(np.max((self.field.order - 2.0) * self.field.log_norms(dy)))
        mu = float(self.field.log_speed(state.y, session.clock, state.late))
        if rate > 0.0 and -mu - np.log(rate) < state.log_time + np.log(_BLOW_UP):
            raise BlowUp(state.log_time)


class BlowUp(Exception):
    """The weights become infinite in finite time, which has been reached to rounding."""

    def __init__(self, log_time: float) -> None:
        self.log_time = log_time
        super().__init__(f"the weights become infinite at the time {np.exp(log_time):.15g}")


__all__ = ["BlowUp", "SmoothEngine", "SmoothState", "StepError"]
