"""The time axis of a picture, the visits to saddles on it, and the moments worth showing.

Times are carried as natural logarithms: the flow starts at -inf, and a flow time beyond 1e308 is a
number like any other.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from .states import values

if TYPE_CHECKING:
    from xarray import Dataset

LN10 = float(np.log(10.0))
#: A loss that changes by this part of the first one stands still.
_STILL = 1e-6
#: The first part of a linear axis, one over this, in which nothing can be told apart.
_SQUEEZED = 30.0


@dataclass(frozen=True)
class TimeAxis:
    """A horizontal axis of time, linear or logarithmic.

    Its positions are t/unit on a linear axis and log10(t/unit) on a logarithmic one, where times
    before the left end are moved onto it.

    **Arguments:**

    - `logarithmic`: which of the two.
    - `start`, `end`: positions of the two ends.
    - `log_unit`: natural logarithm of the unit in flow time, e.g. ln(1e-3) to count iterations of
      gradient descent with step 1e-3.
    - `label`: what the axis says.
    """

    logarithmic: bool
    start: float
    end: float
    log_unit: float = 0.0
    label: str = "flow time $t$"

    def position(self, log_time: Any) -> Any:
        """Positions on the axis of times given by their natural logarithms."""
        shifted = np.asarray(log_time, dtype=float) - self.log_unit
        if self.logarithmic:
            return np.maximum(shifted / LN10, self.start)
        return np.exp(shifted)

    def point(self, log_time: Any) -> Any:
        """Positions for the points of a curve: times before the left end are nan."""
        there = self.position(log_time)
        early = np.asarray(log_time, dtype=float) < self.log_time(self.start) - 1e-9
        return np.where(early, np.nan, there)

    def log_time(self, position: Any) -> Any:
        """Natural logarithms of the times at given positions, the inverse of `position`."""
        there = np.asarray(position, dtype=float)
        if self.logarithmic:
            return there * LN10 + self.log_unit
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(there, 0.0)) + self.log_unit


@dataclass(frozen=True)
class Visit:
    """A visit to a saddle, from `log_time_enter` to `log_time_leave` (natural logarithms).

    `left` tells whether the flow left it; if not, the leaving time is the end of the run, and
    `rests` whether the loss stood still there, in the second half of the visit.
    """

    index: int
    log_time_enter: float
    log_time_leave: float
    left: bool
    rests: bool
    loss: float


@dataclass(frozen=True)
class Moment:
    """A time of the run that is worth a picture, and why."""

    log_time: float
    name: str


def visits(dataset: "Dataset") -> list[Visit]:
    """The visits to saddles in order of time; the origin, if visited, comes first."""
    if dataset.sizes.get("saddle", 0) == 0:
        return []
    end = float(values(dataset, "log_time")[-1])
    enter = values(dataset, "saddle_log_time_enter")
    leave = values(dataset, "saddle_log_time_leave")
    loss = values(dataset, "saddle_loss")
    rests = _rests(dataset, float(enter[-1]))
    return [
        Visit(
            index=k,
            log_time_enter=float(enter[k]) if not np.isnan(enter[k]) else -np.inf,
            log_time_leave=float(leave[k]) if not np.isnan(leave[k]) else end,
            left=not np.isnan(leave[k]),
            rests=rests and bool(np.isnan(leave[k])),
            loss=float(loss[k]),
        )
        for k in range(len(enter))
    ]


def _rests(dataset: "Dataset", log_time: float) -> bool:
    """Whether the loss stands still in the second half of the time from one on."""
    log_times, loss = values(dataset, "log_time"), values(dataset, "loss")
    since = log_time if not np.isnan(log_time) else -np.inf
    late = loss[log_times >= np.logaddexp(log_times[-1], since) - np.log(2.0)]
    return bool(np.ptp(late) <= _STILL * abs(loss[0]))


def _wants_logarithm(dataset: "Dataset") -> bool:
    """Whether a linear axis would squeeze what happens into its first thirtieth.

    That is the fall of the loss, or the leaving of two saddles.
    """
    log_time, loss = values(dataset, "log_time"), values(dataset, "loss")
    if log_time[-1] > np.log(1e15):
        return True
    fallen = np.abs(loss - loss[-1]) <= 0.01 * np.abs(loss[0] - loss[-1])
    last_move = int(np.argmax(fallen))
    early = log_time[-1] - np.log(_SQUEEZED)
    left = [visit for visit in visits(dataset) if visit.left and visit.log_time_leave < early]
    return len(left) > 1 or bool(last_move > 0 and log_time[last_move] < early)


def time_axis(
    dataset: "Dataset",
    scale: Literal["auto", "linear", "log"] = "auto",
    *,
    unit: float = 1.0,
    label: str | None = None,
) -> TimeAxis:
    """The time axis for a run.

    **Arguments:**

    - `dataset`: a trajectory.
    - `scale`: `"linear"`, `"log"`, or `"auto"`, which is linear unless the loss would have fallen,
      or two saddles be left, within the first thirtieth of the axis, or the times are beyond 1e15.
    - `unit`: the flow time that the axis counts as one.
    - `label`: what the axis says; "flow time t" by default.

    **Raises:** `PolarflowError` for another scale or a unit that is not positive.
    """
    if scale not in ("auto", "linear", "log"):
        raise PolarflowError(f'scale is {scale!r}; allowed are "auto", "linear" and "log".')
    if not (np.isfinite(unit) and unit > 0):
        raise PolarflowError(f"unit is {unit}; it must be a positive flow time.")
    log_time, loss = values(dataset, "log_time"), values(dataset, "loss")
    log_unit = float(np.log(unit))
    text = label or "flow time $t$"
    later = log_time[np.isfinite(log_time)]
    if len(later) == 0:
        return TimeAxis(False, 0.0, 1.0, log_unit, text)
    logarithmic = scale == "log" or (scale == "auto" and _wants_logarithm(dataset))
    if not logarithmic:
        return TimeAxis(False, 0.0, float(np.exp(later[-1] - log_unit)), log_unit, text)
    moved = np.abs(loss - loss[0]) > 0.01 * np.abs(loss[-1] - loss[0])
    begins = log_time[int(np.argmax(moved))] if moved.any() else later[-1]
    start = max(float(later[0]), min(float(begins), float(later[-1]) - 2 * LN10) - 2 * LN10)
    return TimeAxis(
        True, (start - log_unit) / LN10, (float(later[-1]) - log_unit) / LN10, log_unit, text
    )


def key_moments(dataset: "Dataset", most: int = 4) -> list[Moment]:
    """The start, the leaving of each saddle, and the end; at most `most`.

    A run without saddles is shown at frames spread as in `frame_log_times`; with too many of
    them, they are thinned evenly.
    """
    log_time = values(dataset, "log_time")
    first, last = float(log_time[0]), float(log_time[-1])
    if len(log_time) == 1:
        return [Moment(last, "the only recorded time")]
    between = [
        Moment(v.log_time_leave, f"leaving saddle {v.index}")
        for v in visits(dataset)
        if v.left and first < v.log_time_leave < last
    ]
    if not between and not visits(dataset):
        inner = frame_log_times(dataset, max(most, 2))[1:-1]
        between = [Moment(float(log_t), "on the way") for log_t in inner]
    room = max(most - 2, 0)
    if len(between) > room:
        pick = np.unique(np.linspace(0, len(between) - 1, room).round().astype(int))
        between = [between[k] for k in pick]
    return [Moment(first, "start"), *between, Moment(last, "end")]


def frame_log_times(dataset: "Dataset", count: int) -> Float[ndarray, " count"]:
    """Times (natural logarithms) of a film's frames.

    They are equispaced in the mean of two clocks, each from 0 to 1: the time axis, so that plateaus
    are felt, and the distance travelled by the predictions and the neurons' directions, so that
    what happens between them is seen.
    """
    log_time = values(dataset, "log_time")
    if len(log_time) == 1 or count < 2:
        return np.full(max(count, 1), log_time[-1])
    axis = time_axis(dataset)
    position = axis.position(log_time)
    turned = _travelled(values(dataset, "direction")[:, :: max(1, dataset.sizes["block"] // 200)])
    fitted = _travelled(values(dataset, "prediction"))
    clock = 0.5 * _unit(position - position[0]) + 0.25 * (_unit(turned) + _unit(fitted))
    # A small part of the index keeps the clock strictly increasing where nothing moves.
    clock = _unit(clock + 1e-9 * np.arange(len(clock)))
    frames = axis.log_time(np.interp(np.linspace(0, 1, count), clock, position))
    frames[0], frames[-1] = log_time[0], log_time[-1]
    return np.asarray(frames)


def _travelled(path: ndarray) -> Float[ndarray, " T"]:
    steps = np.abs(np.diff(path.reshape(len(path), -1), axis=0)).sum(axis=1)
    return np.concatenate([[0.0], np.cumsum(np.nan_to_num(steps))])


def _unit(clock: ndarray) -> ndarray:
    return clock / clock[-1] if clock[-1] > 0 else np.linspace(0, 1, len(clock))
