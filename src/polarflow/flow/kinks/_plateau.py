"""Jumps over plateaus, near the origin and at saddles, while the residual is constant."""

from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from .._engine import Halt
from ._jump import jump_segments, restore_opposed
from ._kernel import LARGEST, kernel
from ._motion import NO_ROOM
from ._moves import MEMORY, TOO_MUCH, Jump, Segments
from ._patterns import plane_forces
from ._residual import SQUARE
from ._state import Field, KinkState, log_total

if TYPE_CHECKING:
    from ._engine import KinkExactEngine

#: What a jump may neglect in any log-norm, in units of rtol.
_JUMP = 0.02


def plateau_jump(
    engine: "KinkExactEngine", state: KinkState, field: Field, longest: float
) -> Jump | None:
    """A jump over the time in which the residual is constant, or None if it is not.

    The jump is infinite if nothing but exact decay is left to happen.

    The residual is constant while the neurons that matter in it are at rest and the others
    are too small to move any log-norm by more than the tolerance.
    """
    if engine.label.shape[1] > 1:
        return None
    stiffness = engine.gain(field.residual) * engine.planes.spread**2
    allowed = _JUMP * engine.rtol
    zero = engine.rows.zero
    blocks = len(zero)
    if state.cohorts is not None:
        limit = allowed / (stiffness * blocks) if stiffness > 0.0 else np.inf
        if not state.cohorts.may_rest(state, field, limit, engine.rounding_speed(field)):
            return None
        state = engine.full(state)
        field = engine.field(state)
    rate = np.linalg.norm(field.force, axis=(1, 2))[field.group] * ~zero
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * state.log_scale) * ~zero
    moving = rate > engine.rounding_speed(field)
    opposed = _opposed(engine, state, field, rate)
    tiny = share * stiffness * blocks <= allowed * rate.max(initial=0.0)
    if not (moving & ~(opposed & tiny)).any():
        if moving.any() and longest < np.inf:
            return _segments(engine, state, field, field.residual, moving, longest)
        return Jump(engine, state, field.unit, np.inf, 0.0, None)
    small = moving
    for _ in range(2):
        fastest = float(rate[small].max(initial=0.0))
        limit = allowed * fastest / stiffness if stiffness > 0.0 else np.inf
        small = moving & (share <= limit / blocks)
    if not small.any():
        return None
    fastest = float(rate[small].max())
    limit = allowed * fastest / stiffness if stiffness > 0.0 else np.inf
    large = moving & ~small
    start = log_total(state.log_scale[small])
    gap = np.log(limit) - start if limit < np.inf else 60.0
    length = gap / (2.0 * fastest)
    residual = field.residual
    if large.any():
        if rate[large].max() > 1e-3 * fastest:
            return None
        averaged = _averaged(engine, state, field, ~small, length)
        if averaged is None:
            return None
        residual = averaged
    length = min(longest, length)
    if fastest * length < 2.0:
        return None
    jump = _segments(engine, state, field, residual, small, length)
    for _ in range(60):
        reached = log_total(jump.states(np.array([jump.length]))[-1].log_scale[small])
        if limit == np.inf or reached <= np.log(limit) + 0.5:
            return jump
        jump.length *= max(0.1, 0.95 * gap / (reached - start))
    return None


def _opposed(engine: "KinkExactEngine", state: KinkState, field: Field, rate: ndarray) -> ndarray:
    """Neurons that point against their velocity exactly, to rounding: they decay for ever.

    Their direction is unstable, so that rounding would turn them round after a while; it is
    restored here.
    """
    opposed = np.empty(len(rate), dtype=np.bool_)
    restore_opposed(
        field.group, field.force[:, 0], rate, state.w, state.a[:, 0], state.log_scale,
        state.rows.log_across, state.rows.balanced, opposed,
    )  # fmt: skip
    return opposed


def _averaged(
    engine: "KinkExactEngine", state: KinkState, field: Field, large: ndarray, length: float
) -> ndarray | None:
    """The residual averaged over a jump in which the large neurons relax the little they can.

    Near rest r' = -factor K r with the kernel K of the large neurons. None if that would move
    the small ones by more than the tolerance, compared with a constant residual.
    """
    if engine.kind != SQUARE or engine.label.size > LARGEST:
        return None
    value, vector = np.linalg.eigh(engine.factor * kernel(engine, state, large))
    part = vector.T @ field.residual.reshape(-1)
    x = np.where(value > 1e-13 * value[-1], value * length, 0.0)
    variation = np.abs(part) * length * np.minimum(x, 1.0 / np.maximum(x, 1e-300))
    if engine.planes.spread * float(np.linalg.norm(variation)) > engine.step_tolerance:
        return None
    mean = np.where(x > 0.0, -np.expm1(-x) / np.where(x > 0.0, x, 1.0), 1.0)
    return (vector @ (mean * part)).reshape(field.residual.shape)


def _segments(
    engine: "KinkExactEngine",
    state: KinkState,
    field: Field,
    residual: ndarray,
    moving: ndarray,
    length: float,
) -> Jump:
    planes = engine.planes
    if engine.kind == SQUARE:
        floor = 64.0 * np.finfo(float).eps * engine.factor * (
            np.abs(engine.label) + np.abs(field.prediction)
        )  # fmt: skip
        residual = np.where(np.abs(residual) <= floor, 0.0, residual)
    p, q = planes.normals.shape
    m = len(moving)
    on, jump = np.empty((2, p, engine.label.shape[1]))
    plane_forces(residual, planes.plane, planes.plus, planes.minus, on, jump)
    base, count = np.zeros((2, m), np.int64)
    room = Segments(
        4 * m + 16,
        p,
        (
            ("start", (), float), ("w", (q,), float), ("a", (), float), ("scale", (), float),
            ("unit", (q,), float), ("size", (), float), ("counts", (3,), np.int64),
        ),
    )  # fmt: skip
    whole = length
    while True:
        used = jump_segments(
            moving, state.side, state.w, state.a, state.log_scale, *state.rows.constants, on, jump,
            length, planes.normals, engine.noise, engine.branch, base, count, room["start"],
            room["w"], room["a"], room["scale"], room["unit"], room["size"], room["counts"],
            room["change"], room.planes, room.sides,
        )  # fmt: skip
        if used >= 0:
            break
        if used == NO_ROOM and 4.0 * room.room * room.bytes <= MEMORY:
            room.resize(4 * room.room)
        elif used == NO_ROOM and length > 1e-12 * whole:
            length *= 0.5
        else:
            raise Halt("limit", f"A limit was met: in a jump {TOO_MUCH}.")
    fastest = float(np.linalg.norm(field.force[field.group], axis=(1, 2))[moving].max())
    return Jump(engine, state, field.unit, length, fastest, (base, count, room))
