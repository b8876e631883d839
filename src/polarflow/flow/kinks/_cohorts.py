"""Cohorts: neurons that share a pattern, away from its kinks, carried through many windows.

While a pattern lasts its neurons theta = (a, w) move by one linear map: theta(t) = Phi(t) theta(0).
A cohort keeps the columns of Phi, in the basis in which its second moment is diagonal: particles
(`_particles.py`) that are rows of the state in the neurons' place and have their share in the
residual. The neurons themselves are read off where they are wanted, so that a window costs the
same with a million of them as with twenty.

A neuron theta(0) = sum_b m_b P_b(0), P orthonormal, is on its side of a hyperplane w.e = 0 as long
as m.Z(t) doesn't change its sign, Z_b(t) = w_b(t).e for the w_b of P_b. If it is away from the
hyperplane by an angle, so is m from what is orthogonal to Z(0): as long as Z has turned by less,
it has not met it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from ._events import leaving_event
from ._field import normalise
from ._geometry import Arrangement
from ._particles import MOST_PARTICLES, particles, read_off
from ._patterns import SLIDE
from ._state import Field, KinkState, Rows

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._moves import Parts

#: A cohort has at least so many neurons, all together at least so many: fewer are cheap as rows.
_LEAST, _FEWEST = 1000, 2000
#: They are formed if at most this part of the rows is left.
_WORTH = 0.7
#: Neurons of a cohort stay away from kinks for about so many windows like the last.
_AHEAD = 6.0
#: And by at least so much.
_AWAY = 0.03
#: What rounding may take of rtol, grown by what the map stretches and shrinks.
_ROUNDING = 0.05
#: After so many windows it is tried whether more neurons may join, or after up to so many.
_RENEWED, _MOST_RENEWED = 4, 64
#: A picture's distances look at so many neurons.
SEEN = 256
#: Times in a window at which it is looked how far hyperplanes have turned.
_SAMPLES = 6
_LONGEST_PAUSE = 64


class Scattered(Exception):
    """Raised where the neurons of a cohort can't be carried through a window."""


@dataclass(frozen=True)
class Cohorts:
    """The neurons that are no rows of a state, and how they follow from its particles.

    **Attributes:**

    - `rows`: what every neuron keeps.
    - `own`: the neurons that are rows themselves, which are the first ones.
    - `members`: the neurons of each cohort.
    - `mix`: for each cohort its neurons as combinations of K particles, `(members, K)`.
    - `log_scale`: the neurons' log scales at the start, for each cohort.
    - `row`: the first of each cohort's rows.
    - `start`: the log scales of the particles at the start.
    - `axis`: for each cohort two directions for each hyperplane, and for where the output weight is
      zero, shape `(2, K, p + 1)`: Z at the start, and the neurons' mean.
    - `room`: how far Z may be from one of them, shape `(2, p + 1)`; inf where it doesn't matter.
    """

    rows: Rows
    own: ndarray
    members: Sequence[ndarray]
    mix: Sequence[ndarray]
    log_scale: Sequence[ndarray]
    row: ndarray
    start: ndarray
    axis: Sequence[ndarray]
    room: Sequence[ndarray]

    def stretch(self, state: KinkState) -> float:
        """The logarithm of the largest growth of a particle."""
        return float(np.max(state.log_scale[len(self.own) :] - self.start))

    def _particles(self, state: KinkState, c: int) -> ndarray:
        """The particles of a cohort as (a, w), shape `(K, C + q)`; they were orthonormal."""
        first, count = int(self.row[c]), self.mix[c].shape[1]
        some = slice(first, first + count)
        grown = self._grown(state, c)
        return grown[:, None] * np.concatenate([state.a[some], state.w[some]], axis=1)

    def _grown(self, state: KinkState, c: int) -> ndarray:
        first, count = int(self.row[c]), self.mix[c].shape[1]
        at = first - len(self.own)
        scale = state.log_scale[first : first + count] - self.start[at : at + count]
        return np.sqrt(0.5) * np.exp(scale)

    def expand(self, state: KinkState, *room: ndarray) -> KinkState:
        """The state of all neurons, in the arrays w, a, log_scale if they are given."""
        m, p = len(self.rows.zero), state.side.shape[1]
        outputs = state.a.shape[1]
        side = np.empty((m, p), np.int8)
        if not room:
            room = np.empty((m, state.w.shape[1])), np.empty((m, outputs)), np.empty(m)
        w, a, scale = room
        ready = self.rows.zero.copy()
        ready[self.own] = True
        count = len(self.own)
        side[self.own], scale[self.own] = state.side[:count], state.log_scale[:count]
        w[self.own], a[self.own] = state.w[:count], state.a[:count]
        for c, members in enumerate(self.members):
            side[members] = state.side[self.row[c]]
            read_off(
                members, self.mix[c], self._particles(state, c), self.log_scale[c], w, a, scale
            )
        rows = self.rows
        normalise(w, a, scale, ready, rows.balanced, *rows.constants, scale)
        return replace(state, side=side, w=w, a=a, log_scale=scale, rows=rows, cohorts=None)

    @cached_property
    def _seen(self) -> tuple[int, ndarray, list[ndarray]]:
        step = -(-len(self.rows.zero) // SEEN)
        own = np.flatnonzero(self.own % step == 0)
        return step, own, [np.flatnonzero(members % step == 0) for members in self.members]

    def sample(self, state: KinkState) -> tuple[ndarray, ndarray]:
        """Weights w and log scales of `SEEN` neurons at most, evenly chosen."""
        step, own, cohorts = self._seen
        kept = self.rows[::step]
        m, outputs = len(kept.zero), state.a.shape[1]
        w, a, scale = np.empty((m, state.w.shape[1])), np.empty((m, outputs)), np.empty(m)
        at = self.own[own] // step
        w[at], a[at], scale[at] = state.w[own], state.a[own], state.log_scale[own]
        for c, some in enumerate(cohorts):
            at = self.members[c][some] // step
            theta = self.mix[c][some] @ self._particles(state, c)
            a[at], w[at] = theta[:, :outputs], theta[:, outputs:]
            scale[at] = self.log_scale[c][some]
        scale, _ = kept.normalise(w, a, scale)
        return w, scale

    def fastest(self, state: KinkState, field: Field, known: float) -> float:
        """The largest rate a.Dw of a neuron of norm sqrt 2; `known` is that of the rows."""
        outputs = state.a.shape[1]
        force = field.force[field.group[self.row]]
        speed = np.linalg.norm(force, axis=(1, 2))
        for c in np.argsort(-speed):
            if speed[c] <= known:
                break
            particle = self._particles(state, c)
            theta = self.mix[c] @ particle
            pulled = self.mix[c] @ (particle[:, outputs:] @ force[c].T)
            rate = np.sum(theta[:, :outputs] * pulled, axis=1) / np.sum(theta * theta, axis=1)
            known = max(known, 2.0 * float(rate.max()))
        return known

    def may_rest(self, state: KinkState, field: Field, share: float, rounding: float) -> bool:
        """Whether the residual may be constant: neurons that are large hardly move.

        A neuron is large whose share exceeds `share` times the fastest speed.
        """
        speed = np.linalg.norm(field.force, axis=(1, 2))[field.group]
        fastest = float(speed.max(initial=0.0))
        own = len(self.own)
        with np.errstate(under="ignore"):
            large = np.exp(2.0 * state.log_scale[:own]) > share * fastest
        if np.any(large & (speed[:own] > max(rounding, 1e-3 * fastest))):
            return False
        for first, mix in zip(self.row.tolist(), self.mix, strict=True):
            with np.errstate(under="ignore"):
                total = float(np.sum(np.exp(2.0 * state.log_scale[first : first + mix.shape[1]])))
            if speed[first] > max(rounding, 1e-3 * fastest) and total > share * fastest * len(mix):
                return False
        return True

    def carry(
        self, state: KinkState, parts: "Parts", series: tuple[ndarray, ndarray, int], length: float,
        multiplier: ndarray, jump: ndarray, degree: int, normals: ndarray, slack: float,
    ) -> None:  # fmt: skip
        """See that no neuron of a cohort can have an event in a window.

        **Raises:** `Scattered` where one could.
        """
        weight, output, order = series
        offset = length * np.arange(_SAMPLES + 1) / _SAMPLES
        count = np.arange(order + 1)
        power = offset[:, None] ** count
        curve = count * (count - 1) * length ** np.maximum(count - 2, 0)
        buffers = np.empty((2, max(order, degree) + 2))
        for c, first in enumerate(self.row.tolist()):
            k = self.mix[c].shape[1]
            rows = np.arange(first, first + k)
            g = int(parts.particle_group[parts.first[first]])
            side = parts.group_side[g]
            if (side == SLIDE).any() and leaving_event(
                side, order, degree, multiplier[g], jump, output[0], length, slack, *buffers
            )[0] < np.inf:  # fmt: skip
                raise Scattered
            terms = parts.k if parts.lumped[g] >= 0 else 1
            index = parts.first[rows][:, None] + np.arange(terms)
            mix = self._grown(state, c)[:, None] * parts.mix[rows, :terms]
            moving = np.concatenate([weight, output], axis=2)[index, : order + 1]
            moving = np.einsum("rb,rboq->roq", mix, moving)
            q = weight.shape[2]
            at = np.einsum("so,roq->srq", power, moving)
            z = np.concatenate([at[..., :q] @ normals.T, at[..., q : q + 1]], axis=2)
            size = np.linalg.norm(z, axis=1)
            along = np.einsum("srh,xrh->xsh", z, self.axis[c])
            turned = np.arccos(np.clip(along / np.where(size > 0.0, size, 1.0), -1.0, 1.0))
            # How far the path may be from the chords between the samples, which convex cones hold.
            bend = np.linalg.norm(np.linalg.norm(moving, axis=2) @ curve)
            bend *= 0.125 * (length / _SAMPLES) ** 2
            room = np.clip(self.room[c][:, None] - turned, -0.5 * np.pi, 0.5 * np.pi)
            held = (size * np.sin(room) > bend).all(axis=1).any(axis=0)
            if not (held | np.isinf(self.room[c][0])).all():
                raise Scattered


class Gathering:
    """Forms the cohorts of an engine, and learns when that pays."""

    def __init__(self, engine: "KinkExactEngine") -> None:
        self.engine = engine
        k = engine.planes.normals.shape[1] + engine.label.shape[1]
        #: By how much particles may grow until rounding shows.
        self.limit = 0.5 * float(np.log(_ROUNDING * engine.rtol / np.finfo(float).eps))
        neurons = int(np.sum(~engine.rows.zero))
        self.wanted = (
            engine.late is None and k <= MOST_PARTICLES and neurons >= _FEWEST and self.limit > 1.0
        )
        self.restart()

    def restart(self) -> None:
        """Forget what was learnt."""
        self._wait = self._age = 0
        self._pause, self._renewed = 1, _RENEWED

    def scattered(self) -> None:
        """Learn that cohorts could not be carried on: those that lasted are formed anew."""
        if self._age < 4:
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._wait = self._pause
        else:
            self._pause = 1
        self._age = 0

    def gather(self, state: KinkState, field: Field) -> tuple[KinkState, Field]:
        """A state with cohorts for a window from it, where that pays."""
        engine = self.engine
        if not self.wanted:
            return state, field
        old = state.cohorts
        self._age += old is not None
        if old is not None and old.stretch(state) > self.limit:
            raise Scattered
        if self._wait > 0:
            self._wait -= 1
            return state, field
        full, whole = state, field
        if old is not None:
            if self._age < self._renewed or 16 * len(old.own) < len(old.rows.zero):
                return state, field
            full = engine.full(state)
            whole = engine.field(full)
        ahead = _AHEAD * min(engine.last_length, 1e300)
        new = _gathered(full, whole, engine.planes, ahead, self.limit)
        if old is not None and (new is None or len(new.a) > 0.8 * len(state.a)):
            self._age, self._renewed = 0, min(2 * self._renewed, _MOST_RENEWED)
            return state, field
        if new is None:
            self._wait = 2
            return state, field
        self._age, self._renewed = 0, _RENEWED
        engine.feedback.follow(state, new)
        return new, engine.field(new)


#: A cohort's neurons, and its axes and room.
_Formed = tuple[ndarray, ndarray, ndarray]


def _gathered(
    state: KinkState, field: Field, planes: Arrangement, ahead: float, limit: float
) -> KinkState | None:
    """A state with cohorts of the neurons that meet nothing for a time, where D stays what it is.

    Particles grow by at most exp(limit) in that.
    """
    outputs = state.a.shape[1]
    k = state.w.shape[1] + outputs
    m = len(state.a)
    size = np.bincount(field.group, minlength=len(field.member))
    formed: list[_Formed] = []
    for g in np.flatnonzero(size >= max(_LEAST, 8 * k)):
        side = state.side[field.member[g]]
        index = np.flatnonzero((field.group == g) & ~state.rows.zero)
        theta = np.sqrt(0.5) * np.concatenate([state.a[index], state.w[index]], axis=1)
        if (side < 0).all() and not planes.minus.any():
            # Neurons that no example moves stay where they are, on kinks as well.
            none = np.zeros((2, k, len(side) + 1))
            formed.append((index, none, np.full((2, len(side) + 1), np.inf)))
            continue
        slides = bool((side == SLIDE).any())
        if (np.abs(side) == 2).any() or (slides and outputs > 1):
            continue
        found = _away(theta, field.force[g], side, planes.normals, ahead, limit)
        if found is not None and np.sum(found[0]) >= max(_LEAST, 8 * k):
            formed.append((index[found[0]], found[1], found[2]))
    joining = sum(len(index) for index, _, _ in formed)
    if joining < _FEWEST or m - joining + k * len(formed) > _WORTH * m:
        return None
    return _carried(state, formed)


def _away(
    theta: ndarray, force: ndarray, side: ndarray, normals: ndarray, ahead: float, limit: float
) -> tuple[ndarray, ndarray, ndarray] | None:
    """Which neurons of a group stay away from its kinks, and cones in which Z stays then.

    `theta` are unit vectors (a, w).
    """
    outputs, q = force.shape
    slides = bool((side == SLIDE).any())
    sign = np.append(np.where(np.abs(side) == 1, side, 0), 0).astype(float)
    z = np.zeros((outputs + q, len(side) + 1))
    z[outputs:, :-1] = normals.T
    if slides:
        sign[-1] = 1.0 if theta[0, 0] > 0.0 else -1.0
        z[0, -1] = 1.0
    z *= sign
    matters = sign != 0.0
    speed = float(np.linalg.norm(force))
    until = min(ahead, limit / speed) if speed > 0.0 else 0.0
    matrix = np.zeros((outputs + q, outputs + q))
    matrix[:outputs, outputs:] = force
    value, vector = np.linalg.eigh(matrix + matrix.T)
    times = until * np.linspace(0.0, 1.0, _SAMPLES + 1)
    # Phi is symmetric where D is constant.
    path = np.einsum("ab,sb,cb->sac", vector, np.exp(times[:, None] * value), vector) @ z
    path /= np.maximum(np.linalg.norm(path, axis=1), 1e-300)[:, None]
    nearest = np.full(len(theta), np.inf)
    for at in path:
        nearest = np.minimum(nearest, np.min((theta @ at)[:, matters], axis=1, initial=np.inf))
    away = nearest > _AWAY
    if not away.any():
        return None
    # Neurons that are close together are held by the cone around them, if not by the first one.
    first = np.min(theta[away] @ z, axis=0)
    turned = np.arccos(np.clip(np.einsum("sah,ah->sh", path, z), -1.0, 1.0)).max(axis=0)
    room = np.arcsin(np.clip(first, -1.0, 1.0))
    mean = theta[away].sum(axis=0)
    mean /= max(float(np.linalg.norm(mean)), 1e-300)
    apart = np.arccos(np.clip(np.einsum("sah,a->sh", path, mean), -1.0, 1.0)).max(axis=0)
    beyond = matters & (turned > room - _AWAY)
    spread = np.arccos(np.clip(theta @ mean, -1.0, 1.0))
    if beyond.any():
        away &= spread < 0.5 * np.pi - _AWAY - float(apart[beyond].max())
        if not away.any():
            return None
    room = np.arcsin(np.clip(np.min(theta[away] @ z, axis=0), -1.0, 1.0))
    rooms = np.stack([room, np.full_like(room, 0.5 * np.pi - float(spread[away].max()))])
    rooms[:, ~matters] = np.inf
    axes = np.stack([z, np.repeat(mean[:, None], z.shape[1], axis=1)])
    # Z enters without its sign.
    axes[1] *= np.where(matters, sign, 1.0)
    axes[0] *= np.where(matters, sign, 1.0)
    return away, axes, rooms


def _carried(state: KinkState, formed: list[_Formed]) -> KinkState:
    """A state with cohorts of some neurons of some groups."""
    count, m = len(formed), len(state.a)
    order = np.concatenate([index for index, _, _ in formed])
    cohort = np.repeat(np.arange(count), [len(index) for index, _, _ in formed])
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * state.log_scale[order])
    _, mix, _, k, part_w, part_a, part_share, _ = particles(
        cohort, count, state.w[order], state.a[order], share
    )
    stays = np.ones(m, np.bool_)
    stays[order] = False
    own = np.flatnonzero(stays)
    top = part_share.reshape(count, k).max(axis=1)
    floor = np.repeat(np.maximum(1e-200 * top, 1e-300), k)
    start = 0.5 * np.log(0.5 * np.maximum(part_share, floor))
    basis = np.concatenate([part_a, part_w], axis=1).reshape(count, k, -1)
    part_w, part_a = np.sqrt(2.0) * part_w, np.sqrt(2.0) * part_a
    imbalance = np.sum(part_a**2, axis=1) - np.sum(part_w**2, axis=1)
    none = np.zeros(len(start), np.bool_)
    with np.errstate(divide="ignore"):
        log_imbalance = np.log(np.abs(imbalance)) + 2.0 * start
    kept = state.rows[own]
    rows = Rows(
        zero=np.append(kept.zero, none),
        balanced=np.append(kept.balanced, none),
        log_across=np.append(kept.log_across, np.full(len(start), -np.inf)),
        log_imbalance=np.append(kept.log_imbalance, log_imbalance),
        imbalance_sign=np.append(kept.imbalance_sign, np.sign(imbalance)),
        carried=np.append(kept.carried, ~none),
    )
    members = [index for index, _, _ in formed]
    cohorts = Cohorts(
        rows=state.rows,
        own=own,
        members=members,
        mix=[mix[cohort == c] for c in range(count)],
        log_scale=[state.log_scale[j] for j in members],
        row=len(own) + k * np.arange(count),
        start=start,
        axis=[basis[c] @ axes for c, (_, axes, _) in enumerate(formed)],
        room=[room for _, _, room in formed],
    )
    side = np.array([state.side[index[0]] for index in members])
    return replace(
        state,
        side=np.concatenate([state.side[own], np.repeat(side, k, axis=0)]),
        w=np.concatenate([state.w[own], part_w]),
        a=np.concatenate([state.a[own], part_a]),
        log_scale=np.concatenate([state.log_scale[own], start]),
        rows=rows,
        cohorts=cohorts,
    )
