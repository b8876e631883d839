"""States of the smooth engine, and windows of steps that they lie in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from ._explicit import ExplicitSession
from ._frame import Frame
from ._radau import RadauSession
from ._stepper import Session, Step, log_elapsed

if TYPE_CHECKING:
    from ._digit_steps import DigitSession
    from ._digits import Exact

Sessions = Session | RadauSession | ExplicitSession


class Numbers:
    """Numbers that are found together, once one of them is wanted."""

    def __init__(self, find: Callable[[], ndarray]) -> None:
        self._find: Callable[[], ndarray] | None = find
        self._found = np.zeros(0)

    def at(self, index: int) -> float:
        """One of them."""
        if self._find is not None:
            self._found, self._find = self._find(), None
        return float(self._found[index])


@dataclass(frozen=True, eq=False)
class SmoothState:
    """The logarithm of the time, the vector of a frame's field, and where in a session it is.

    The last number of `given` may still have to be found: then it is that of `last`. `exact` holds
    the weights with many digits, where they are needed, and the session of such.
    """

    when: float | tuple[Numbers, int]
    given: ndarray
    late: bool
    frame: Frame
    session: Sessions | None = None
    s: float = 0.0
    exact: "tuple[Exact, DigitSession] | None" = None
    last: tuple[Numbers, int] | None = None

    @cached_property
    def y(self) -> ndarray:
        """The vector of the field."""
        if self.last is None:
            return self.given
        return np.append(self.given[:-1], self.last[0].at(self.last[1]))

    @cached_property
    def log_time(self) -> float:
        if isinstance(self.when, tuple):
            return self.when[0].at(self.when[1])
        return self.when

    @property
    def time(self) -> float:
        with np.errstate(over="ignore", under="ignore"):
            return float(np.exp(self.log_time))


class SmoothWindow:
    """Steps of one session, from a state in the first of them."""

    def __init__(self, start: SmoothState, steps: Sequence[Step]) -> None:
        self.start, self.steps = start, list(steps)

    @property
    def length(self) -> float:
        return self.steps[-1].end - self.start.s if self.steps else np.inf

    def offsets(self, samples: int) -> ndarray:
        """The ends of the steps, and points between them if more are wanted."""
        ends = np.array([step.end for step in self.steps]) - self.start.s
        if samples < len(ends):
            keep = np.linspace(0, len(ends) - 1, max(samples, 1)).round().astype(int)
            return ends[np.unique(np.append(keep[1:], len(ends) - 1))]
        inner = samples // max(len(ends), 1)
        starts = np.concatenate([[0.0], ends[:-1]])
        parts = np.linspace(starts, ends, inner + 1)[1:]
        return np.unique(np.concatenate([parts[:-1].ravel(), ends]))

    def states(self, offsets: ndarray) -> list[SmoothState]:
        start = self.start
        session = start.session
        assert session is not None
        bounds = np.array([step.end for step in self.steps])
        wanted = np.clip(start.s + np.asarray(offsets, dtype=float), start.s, bounds[-1])
        owner = np.searchsorted(bounds, wanted)
        pieces = [step.known(wanted[owner == k]) for k, step in enumerate(self.steps)]
        y = np.concatenate(pieces)
        times = Numbers(lambda: self._log_times(session, wanted, owner))
        find = self.steps[0].last
        last = None if find is None else Numbers(lambda: find(y[:, :-1]))
        return [
            SmoothState(
                (times, i), y[i], session.late, start.frame, session, float(wanted[i]),
                last=None if last is None else (last, i),
            )
            for i in range(len(y))
        ]  # fmt: skip

    def _log_times(self, session: Sessions, wanted: ndarray, owner: ndarray) -> ndarray:
        """The logarithms of the times at clock readings, each in the step that owns it."""
        found, log_time, low = [], self.start.log_time, self.start.s
        field = self.start.frame.field
        for k, step in enumerate(self.steps[: int(owner.max()) + 1]):
            here = wanted[owner == k]
            ends = np.unique(np.append(here, step.end))
            if step.passed is not None and low == step.start and len(ends) == 1:
                elapsed = np.array([step.passed])
            else:
                elapsed = log_elapsed(field, step, low, ends, session.clock, session.late)
            times = np.logaddexp(log_time, elapsed)
            found.append(times[np.searchsorted(ends, here)])
            log_time, low = float(times[-1]), step.end
        return np.concatenate(found)

    def accept(self, offset: float) -> None:
        """Nothing is counted by events here."""
