"""The window of a series: which neurons have events in it, their rides, and where it is cut."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._engine import Halt
from ._cohorts import Scattered
from ._motion import EXTRA, NO_ROOM, UNKNOWN, window_rides
from ._moves import MEMORY, TOO_MUCH, Parts, Segments, Window
from ._window import cut_length, window_events

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._state import Field, KinkState

#: What the events of one window may do to the motion of any neuron, in units of rtol.
EVENTS = 0.3
#: What sliding past the end of a slide may do to any log-norm in one window, in units of rtol.
_SLACK = 0.01
#: The part of the defect of events that is left when states are corrected for it: a constant, and
#: squares of the window's length in units of the neurons' rates, and of the residual's. It is
#: smaller where the kernel tells what the residual does to itself.
_LEFT = 0.002, 0.3, 0.02
_LEFT_UNTOLD = 0.005, 0.4, 0.05
#: The work of a segment of a ride, in units of a neuron's Taylor coefficient times its order.
_SEGMENT = 200
#: How much farther than the last ones, in units of what first events allow, rides may go.
_FARTHER = 1.3
#: How often a window may be made shorter.
_SHORTENINGS = 60


class Crowd:
    """What recent windows tell about the room that the next one needs.

    **Attributes:**

    - `each`: segments of a neuron that rides.
    - `rate`: segments of all neurons in a unit of the window's time.
    - `reach`: a window's part of the length that first events alone would allow.
    """

    def __init__(self) -> None:
        self.each = 4.0
        self.rate = 0.0
        self.reach = 1.0

    def learn(self, used: int, riders: int, length: float) -> None:
        """Remember a window."""
        self.each = 4.0 + 1.5 * used / max(1, riders)
        self.rate = used / length if length > 0.0 else 0.0


def ride_window(
    engine: "KinkExactEngine",
    state: "KinkState",
    field: "Field",
    parts: Parts,
    series: tuple[ndarray, ndarray, int],
    forces: tuple[Any, ...],
    length: float,
    *,
    prediction: ndarray | None = None,
    residual: ndarray | None = None,
    stiffness: float = 0.0,
    must_ride: ndarray | None = None,
) -> Window:
    """The window of a series, with the rides of all neurons that have events in it.

    With the Taylor coefficients of the `prediction` it ends where what is left of the defect of
    its events, once states are corrected for it, reaches the tolerance, or where their segments
    take too much memory; `stiffness` is a bound on the residual's rate.

    **Raises:** `Halt` if a cap is met, `Scattered` if a cohort can't be carried.
    """
    planes = engine.planes
    cut = prediction is not None
    p, q = planes.normals.shape
    outputs = engine.label.shape[1]
    weight, output, order = series
    on, jump, raw, multiplier, degree = forces
    m = len(state.a)
    allowed = engine.allowed(field.residual)
    slack = engine.noise + _SLACK / EVENTS * allowed / max(length, 1e-300)
    time, first_defect = np.empty(m), np.empty((m, 3))
    first_plane, first_kind = np.empty((2, m), np.int64)
    window_events(
        state.rows.carried, field.group, parts.group_side, parts.first, parts.mix, parts.lumped,
        parts.k, field.z, weight, output, order, multiplier, jump, degree, planes.normals, length,
        engine.noise, slack, time, first_plane, first_kind, first_defect,
    )  # fmt: skip
    if must_ride is not None:
        if must_ride[state.rows.carried].any():
            raise Scattered
        time[must_ride] = 0.0
        first_kind[must_ride] = UNKNOWN

    speed = float(np.linalg.norm(field.force, axis=(1, 2)).max(initial=0.0))
    left, grows, feeds = _LEFT if engine.feedback.known else _LEFT_UNTOLD
    bend = (grows * speed) ** 2 + (feeds * stiffness) ** 2
    share = engine.gain(field.residual) * parts.share

    def shortened(until: float, start: ndarray, plane: ndarray, part: ndarray, defect: ndarray):
        return cut_length(
            start, plane, part, defect, planes.normals, planes.size, planes.covariance, until,
            allowed, left, bend,
        )  # fmt: skip

    if cut:
        first_length = shortened(length, time, first_plane, share, first_defect)
        length = min(1.0, _FARTHER * engine.crowd.reach) * first_length
    base, count = np.zeros((2, m), np.int64)
    ride_order = max(order, degree + EXTRA)
    shapes = (
        ("start", (), float), ("w", (ride_order + 1, q), float),
        ("a", (ride_order + 1, outputs), float), ("order", (), np.int64),
        ("counts", (3,), np.int64), ("plane", (), np.int64), ("defect", (3,), float),
    )  # fmt: skip
    room = Segments(16, p, shapes)
    most = int(MEMORY / room.bytes)
    if cut and engine.crowd.rate * length > 0.8 * most:
        length = 0.8 * most / engine.crowd.rate
    riders = max(1, int(np.sum(time <= length)))
    room.resize(min(16 + int(engine.crowd.each * riders), most))
    for _ in range(_SHORTENINGS):
        count[:] = 0
        used = window_rides(
            length, time, first_plane, first_kind, field.group, parts.group_side, state.w,
            state.a, parts.first, parts.mix, parts.lumped, weight, output, order, multiplier,
            raw[: degree + 1], on[: degree + 1], jump[: degree + 1], degree, planes.normals,
            engine.noise, slack, engine.series_tolerance, engine.branch, base, count,
            room["start"], room["w"], room["a"], room["order"], room["counts"], room["plane"],
            room["defect"], room["change"], room.planes, room.sides,
        )  # fmt: skip
        if used >= 0:
            break
        # About what those that found no room would need.
        done = max(1, int(np.sum(count > 0)))
        wanted = 16 + int(1.3 * room.room * riders / done)
        if used == NO_ROOM and wanted <= most:
            room.resize(wanted)
        elif used == NO_ROOM and room.room < most:
            room.resize(most)
            length *= min(0.9, most / wanted) if cut else 1.0
        elif cut:
            length *= min(0.8, most / wanted) if used == NO_ROOM else 0.5
        else:
            raise Halt("limit", f"A limit was met: in a window {TOO_MUCH}.")
        riders = max(1, int(np.sum(time <= length)))
    else:
        raise Halt("limit", f"A limit was met: in a window {TOO_MUCH}.")
    engine.crowd.learn(used, int(np.sum(count > 0)), length)
    if cut and used:
        owner = np.repeat(np.arange(m), count)
        length = shortened(
            length, room["start"][:used], room["plane"][:used], share[owner], room["defect"][:used]
        )
    if cut:
        engine.crowd.reach = length / first_length
    if state.cohorts is not None:
        state.cohorts.carry(
            state, parts, series, length, multiplier, jump, degree, planes.normals, slack
        )
    room.trim(used)
    work = len(parts.w) * 4 + used * _SEGMENT
    return Window(
        engine,
        state,
        field,
        length,
        parts,
        series,
        (base, count, room),
        prediction,
        residual,
        work,
    )
