"""Moments, snapshots, and where in a window a quantity changes its sign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from ._engine import Engine, Measure, State, Window

_SIZES = ("log_residual", "log_loss", "log_grad_norm", "log_rate", "log_escape")
#: Logarithms beyond this are as good as infinite to a root-finder.
_FAR = 700.0
_LAST = 1e300


@dataclass(frozen=True)
class Moment:
    """A flow time and its natural logarithm; the time is inf where a float can't hold it."""

    time: float
    log_time: float

    @classmethod
    def of_time(cls, time: float) -> "Moment":
        """A moment from its time, at least 0."""
        return cls(float(time), float(np.log(time)) if time > 0.0 else -np.inf)

    @classmethod
    def of_log_time(cls, log_time: float) -> "Moment":
        """A moment from the logarithm of its time."""
        with np.errstate(over="ignore", under="ignore"):
            return cls(float(np.exp(log_time)), float(log_time))

    def reached(self, log_time: float) -> bool:
        """Whether a time is this one or later, to rounding."""
        if not np.isfinite(self.log_time):
            return self.log_time < 0.0
        return log_time >= self.log_time - 1e-14 * max(1.0, abs(self.log_time))


#: The time that is never reached.
NEVER = Moment(np.inf, np.inf)


@dataclass(frozen=True)
class Snapshot(Measure):
    """A state and what is measured on it; its time is exact where one was asked for.

    `path_length` is that of w/|w| from the start, for losses of classification; else nan.
    """

    state: State
    time: float
    log_time: float
    path_length: float = np.nan

    @property
    def loss(self) -> float:
        """The loss; 0 or inf where a float can't hold it."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(self.log_loss))

    @property
    def finite(self) -> bool:
        """Whether the weights and all that is measured are numbers."""
        sizes = (self.log_residual, self.log_grad_norm)
        # A negative loss has no logarithm; one that is too large has none that is finite.
        return all(size < np.inf for size in sizes) and self.log_loss != np.inf

    def at(self, moment: Moment) -> "Snapshot":
        """The same state, known to be at a moment."""
        return replace(self, time=moment.time, log_time=moment.log_time)


def snapshots(engine: Engine[Any], states: Sequence[State]) -> list[Snapshot]:
    """States with their measures."""
    return [
        Snapshot(
            prediction=at.prediction,
            residual=at.residual,
            **{name: float(getattr(at, name)) for name in _SIZES},
            state=state,
            time=float(state.time),
            log_time=float(state.log_time),
        )
        for at, state in zip(engine.measure(states), states, strict=True)
    ]


def snapshot(engine: Engine[Any], state: State, count: bool = False) -> Snapshot:
    """One state with its measures, counted as a field evaluation if it is needed to go on."""
    if count:
        engine.evaluations += 1.0
    return snapshots(engine, [state])[0]


@dataclass(frozen=True)
class Bracket:
    """Two neighbouring samples of a window, at the offsets `low` and `high`.

    `prior` is the offset of the sample before `low` in the same window, `low` if there is none.
    """

    engine: Engine[Any]
    window: Window[Any]
    before: Snapshot
    at: Snapshot
    low: float
    high: float
    prior: float

    def snapshot(self, offset: float, count: bool = True) -> Snapshot:
        """The flow at an offset."""
        if offset == self.low:
            return self.before
        if offset == self.high:
            return self.at
        return snapshot(self.engine, self.window.states(np.array([offset]))[-1], count)

    def locate(self, value: Callable[[Snapshot], float]) -> float:
        """The offset at which a quantity, of opposite signs at the ends, is zero."""
        from scipy.optimize import brentq

        def at(offset: float) -> float:
            # Root-finders do best with functions that are nearly straight over many decades.
            return float(np.arcsinh(np.clip(value(self.snapshot(offset)), -_LAST, _LAST)))

        low, high = self.low, self.high
        if at(high) == 0.0:
            return high
        root = float(brentq(at, low, high, xtol=1e-15 * max(high, 1e-300), rtol=1e-14))
        # Where the quantity jumps, at a kink, the side after it is meant.
        wanted, step = at(high) > 0.0, 1e-15 * high
        while root < high and (at(root) > 0.0) != wanted:
            root, step = min(root + step, high), 2.0 * step
        return root

    def closest(self) -> Snapshot:
        """The closest approach to rest around `low`, the closest sample."""
        from scipy.optimize import minimize_scalar

        def rest(offset: float) -> float:
            state = self.window.states(np.array([offset]))[-1]
            return max(snapshot(self.engine, state, count=True).log_rest, -_FAR)

        found = minimize_scalar(
            rest,
            bounds=(self.prior, self.high),
            method="bounded",
            options={"xatol": 1e-4 * (self.high - self.prior)},
        )
        closest = self.snapshot(float(found.x), count=False)
        return closest if closest.log_rest < self.before.log_rest else self.before


@dataclass(frozen=True)
class Crossing:
    """Where rest passes a threshold between two samples; found only when it is wanted."""

    bracket: Bracket
    log_threshold: float

    @cached_property
    def offset(self) -> float:
        """The offset in the bracket's window."""
        return self.bracket.locate(lambda s: s.log_rest - self.log_threshold)

    @cached_property
    def snapshot(self) -> Snapshot:
        """The flow there."""
        return self.bracket.snapshot(self.offset, count=False)


def reach(window: Window[Any], low: float, high: float, moment: Moment) -> float:
    """The offset, between two, at which a window is at a moment."""
    from scipy.optimize import brentq

    def late(offset: float) -> float:
        if offset == 0.0:
            return -_FAR
        at = window.states(np.array([offset]))[-1].log_time
        return float(np.clip(at - moment.log_time, -_FAR, _FAR))

    if late(high) <= 0.0:
        return high
    return float(brentq(late, low, high, xtol=1e-15 * high, rtol=1e-14))


def memory(state: State) -> int:
    """About how many bytes a state's own arrays take."""
    own = (value.nbytes for value in vars(state).values() if isinstance(value, ndarray))
    return sum(own, start=64)
