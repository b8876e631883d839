"""The kink-exact engine: states, the field on them, windows and jumps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ...ncf import kkt_distance, ncf
from ...networks import BlockState
from .._engine import Halt, Measure
from .._problem import Problem
from ._error import CapError
from ._geometry import arrangement
from ._jump import jump_states
from ._patterns import (
    BRANCH_OFF,
    BRANCH_ON,
    BRANCH_STAY,
    BRANCH_STOP,
    BRANCHED,
    CAPPED,
    CROSSED,
    KINK_WIDTH,
    OFF,
    ON,
    REST,
    SLID,
    plane_forces,
    start_on_kink,
)
from ._state import Field, KinkState, Plateau, Series, Tally
from ._stiff import StiffSolver, kernel
from ._window import coupled_series, measure_state, predict, speeds, window_events, window_states

_MAX_ORDER = 30
_BRANCHING = {"off": BRANCH_OFF, "on": BRANCH_ON, "stay": BRANCH_STAY, "stop": BRANCH_STOP}
#: Truncation error of one window, in units of rtol.
_LOCAL = 0.02
#: What the events of one window may do to any log-norm, in units of rtol.
_EVENTS = 0.5
#: What sliding past the end of a slide may do to any log-norm in one window, in units of rtol.
_SLACK = 0.01
#: What a jump may neglect in any log-norm, in units of rtol.
_JUMP = 0.02


class Window:
    """A proposed advance of all neurons: states at any time inside it are cheap."""

    def __init__(
        self,
        engine: "KinkExactEngine",
        state: KinkState,
        length: float,
        motion: Series | Plateau,
    ) -> None:
        self.engine = engine
        self.state = state
        self.length = length
        self.motion = motion
        self.defect = 0.0
        self.tally = Tally(np.zeros(4, dtype=np.int64), 0.0)
        self.fastest = 0.0
        self._asked = 0.0

    def offsets(self, samples: int) -> ndarray:
        """Times at which it is recorded; a jump moves most at its beginning."""
        even = np.linspace(0.0, self.length, samples + 1)[1:]
        fastest = self.fastest
        if not isinstance(self.motion, Plateau) or not 0.0 < fastest < np.inf:
            return even
        early = np.geomspace(min(0.05 / fastest, 0.5 * self.length), self.length, 24)[:-1]
        return np.unique(np.concatenate([early, np.linspace(0.0, self.length, 13)[1:]]))

    def states(self, offsets: ndarray) -> list[KinkState]:
        """States at increasing times after the window's start, the last at most its length."""
        offsets = np.asarray(offsets, dtype=float)
        self._asked = float(offsets[-1])
        return self.engine._states(self, offsets)

    def accept(self, offset: float) -> None:
        """Count what happened up to an offset as done."""
        if self._asked != offset:
            self.states(np.array([offset]))
        tally = self.tally
        self.engine.met += tally.counts[:3]
        self.engine.evaluations += tally.counts[3] / self.engine.width
        self.engine.drift = max(self.engine.drift, tally.drift)


class KinkExactEngine:
    """Advances a two-layer (leaky) ReLU network along its gradient flow.

    **Arguments:**

    - `problem`: network, data, loss and initial state (balanced).
    - `rtol`: relative tolerance on every neuron's weights and on the residual.
    - `branching`: the side taken at a kink that repels from both sides.
    """

    def __init__(self, problem: Problem, rtol: float, branching: str = "off"):
        x, y = problem.data.x, problem.data.y
        self.problem = problem
        self.rtol = rtol
        self.branching = branching
        self.planes = arrangement(x, problem.two_layer.slope)
        self.factor = problem.loss.factor(len(y))
        self.label = np.ascontiguousarray(y, dtype=float)
        self.width = problem.two_layer.width
        self.met = np.zeros(3, dtype=np.int64)
        self.evaluations = 0.0
        self.drift = 0.0
        largest = float(np.max(np.abs(y), initial=0.0))
        self.noise = 1e-15 * self.factor * self.planes.spread * largest
        self.last_length = np.inf
        self.series_tolerance = max(_LOCAL * rtol, 1e-15)
        self.step_tolerance = _EVENTS * rtol
        self._stiff = StiffSolver(self)
        rng = np.random.default_rng(0)
        count = len(self.planes.normals)
        self._hash = rng.integers(-(2**40), 2**40, size=count, dtype=np.int64)
        self._direction_across = np.zeros((0, 0))
        self._log_across = np.zeros(0)

    def restart(self) -> None:
        """Forget the lengths of the last steps: the next state is not theirs."""
        self.last_length = np.inf
        self._stiff.restart()

    # -- states ---------------------------------------------------------------------------

    def initial(self) -> KinkState:
        """The state at time zero, with the patterns that the flow takes from there."""
        blocks = self.problem.initial
        blocks.check_balanced()
        a, w = blocks.direction[:, 0], blocks.direction[:, 1:]
        norm = np.linalg.norm(w, axis=1)
        unit = w / norm[:, None]
        inside = unit @ self.planes.basis
        across = unit - inside @ self.planes.basis.T
        size = np.linalg.norm(across, axis=1)
        size[size < 1e-14] = 0.0
        log_scale = blocks.log_norm - 0.5 * np.log(2.0)
        zero = np.isneginf(log_scale)
        sign = np.where(a > 0, 1.0, -1.0)
        log_scale = np.where(zero, 0.0, log_scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            self._direction_across = np.where(size[:, None] > 0, across / size[:, None], 0.0)
            self._log_across = np.where(zero, -np.inf, np.log(size) + log_scale)
        inside[zero] = 0.0
        sign = np.where(zero, 0.0, sign)
        z = inside @ self.planes.normals.T
        side = np.where(z > 0, ON, OFF).astype(np.int8)
        state = KinkState(0.0, side, np.ascontiguousarray(inside), sign, log_scale)
        self._start_on_kinks(state, z, zero)
        return state

    def _start_on_kinks(self, state: KinkState, z: ndarray, zero: ndarray) -> None:
        on, off = self._plane_forces(self._predict(state))
        for j, h in np.argwhere(np.abs(z) <= KINK_WIDTH):
            if zero[j]:
                state.side[j, h] = REST
                continue
            outcome = start_on_kink(
                state.side[j], h, state.sign[j], state.w[j], self.planes.normals, on, off,
                _BRANCHING[self.branching],
            )  # fmt: skip
            if outcome == CAPPED:
                raise CapError(f"the multipliers of neuron {j} on kink {h} at the start")
            if outcome in (CROSSED, SLID, BRANCHED):
                self.met[{CROSSED: 0, SLID: 1, BRANCHED: 2}[outcome]] += outcome != CROSSED

    def blocks(self, state: KinkState) -> BlockState:
        """The neurons (a_j, w_j) in polar form."""
        log_norm = np.where(state.sign == 0, -np.inf, state.log_scale + 0.5 * np.log(2.0))
        across = np.exp(self._log_across - state.log_scale)
        w = state.w @ self.planes.basis.T + across[:, None] * self._direction_across
        direction = np.concatenate([state.sign[:, None], w], axis=1) / np.sqrt(2.0)
        zero = state.sign == 0
        direction[zero] = self.problem.initial.direction[zero]
        return BlockState(log_norm, direction)

    def ncf(self, state: KinkState) -> tuple[ndarray, ndarray]:
        """N_r(v_j) of every neuron and its KKT distance, nan for neurons that don't live."""
        here = self.field(state, count=False)
        speed = np.linalg.norm(here.force, axis=1)
        living = speed > self.rounding_speed(here.prediction)
        value, distance = np.full((2, self.width), np.nan)
        v, x = self.blocks(state).direction[living], self.problem.data.x
        slope = self.problem.two_layer.slope
        value[living] = ncf(v, x, here.residual, slope)
        distance[living] = kkt_distance(v, x, here.residual, slope)
        return value, distance

    def distance(self, before: KinkState, after: KinkState) -> float:
        """The mean turn of the neurons, and their mean growth weighed less."""
        turn = np.linalg.norm(after.w - before.w, axis=1).mean()
        return float(turn + 0.02 * np.abs(after.log_scale - before.log_scale).mean())

    def counts(self) -> dict[str, Any]:
        """The events that neurons met, and the drift of their balance."""
        crossings, slides, branchings = (int(count) for count in self.met)
        return {
            "crossings": crossings,
            "slides": slides,
            "branchings": branchings,
            "balancedness_drift": self.drift,
        }

    # -- the field ------------------------------------------------------------------------

    def _predict(self, state: KinkState) -> ndarray:
        prediction = np.zeros(len(self.label))
        predict(
            state.w, state.sign, state.log_scale, self.planes.normals, self.planes.plane,
            self.planes.plus, self.planes.minus, prediction,
        )  # fmt: skip
        return prediction

    def _plane_forces(self, prediction: ndarray) -> tuple[ndarray, ndarray]:
        residual = self.factor * (self.label - prediction)
        on, off = np.empty(len(self.planes.normals)), np.empty(len(self.planes.normals))
        plane_forces(residual, self.planes.plane, self.planes.plus, self.planes.minus, on, off)
        return on, off

    def field(self, state: KinkState, count: bool = True) -> Field:
        """Residual and velocities at a state."""
        if count:
            self.evaluations += 1.0
        prediction = self._predict(state)
        residual = self.factor * (self.label - prediction)
        force = np.empty_like(state.w)
        planes = self.planes
        speeds(state.side, residual, planes.normals, planes.plane, planes.plus, planes.minus, force)
        return Field(prediction, residual, force)

    def measure(self, states: Sequence[KinkState]) -> list[Measure]:
        """Residual, loss, gradient norm and fastest growth at states."""
        planes, count = self.planes, len(states)
        prediction = np.zeros((count, len(self.label)))
        square, growth = np.zeros(count), np.zeros(count)
        for i, s in enumerate(states):
            square[i], growth[i] = measure_state(
                s.side, s.w, s.sign, s.log_scale, self.label, self.factor, planes.normals,
                planes.plane, planes.plus, planes.minus, prediction[i],
            )  # fmt: skip
        residual = self.factor * (self.label - prediction)
        squares = np.einsum("sk,sk->s", residual, residual)
        loss = 0.5 / self.factor * squares
        rate = planes.spread * np.sqrt(squares)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.sqrt(squares)
            unit = residual / np.where(size > 0.0, size, 1.0)[:, None]
            gradient = 0.5 * np.log(square)
            for i in np.flatnonzero(square < 1e-280).tolist():
                gradient[i] = self._log_gradient(states[i])
            logs = np.log([size, loss, rate, np.maximum(growth, 0.0)])
        return [
            Measure(prediction[i], unit[i], logs[0, i], logs[1, i], gradient[i], *logs[2:, i])
            for i in range(count)
        ]

    def _log_gradient(self, state: KinkState) -> float:
        """ln|grad l| where its square underflows."""
        force = self.field(state, count=False).force
        radial = np.einsum("jc,jc->j", state.w, force)
        square = (np.einsum("jc,jc->j", force, force) + radial**2) * np.abs(state.sign)
        with np.errstate(divide="ignore"):
            logs = 2.0 * state.log_scale + np.log(square)
        return 0.5 * float(np.logaddexp.reduce(logs))

    # -- advancing ------------------------------------------------------------------------

    def advance(self, state: KinkState, end: float) -> Window:
        """A jump if there can be one, or else a window; both end at the log time `end`."""
        if self.branching == "stop" and self.met[2]:
            raise Halt(
                "branching",
                f"{self.met[2]} kinks repel a neuron that meets them: the flow is not unique "
                'there, and branching = "stop" was asked for.',
            )
        longest = float(np.exp(end)) - state.time if end < 709.0 else np.inf
        here = self.field(state)
        window = self.jump(state, here, longest) or self.window(state, here, longest)
        window.fastest = float(np.sqrt(np.einsum("jc,jc->j", here.force, here.force).max()))
        return window

    def window(self, state: KinkState, field: Field, longest: float) -> Window:
        """A window of at most the given length: the coupled series, cut where events demand."""
        m, q = state.w.shape
        planes = self.planes
        p, n = len(planes.normals), len(self.label)
        if self._stiff.active:
            found = self._stiff.window(state, field.residual, longest)
            if found is not None:
                series, length = found
                return self.open(state, length, series)
        group, group_side = self.groups(state)
        groups = len(group_side)
        most = max(1, int(np.max(np.sum(group_side == 0, axis=1), initial=0)))
        top = _MAX_ORDER + 1
        residual = np.zeros((top, n))
        residual[0] = field.residual
        weight = np.empty((m, top, q))
        output = np.empty((m, top))
        force = np.empty((groups, top, q))
        multiplier = np.empty((groups, top, most))
        on_force, off_force = np.zeros((top, p)), np.zeros((top, p))
        with np.errstate(under="ignore"):
            share = np.exp(2.0 * state.log_scale)
        cap = min(longest, 4.0 * self.last_length)
        tolerance = self.series_tolerance
        order, length = coupled_series(
            state.w, state.sign, share, group, group_side, residual, self.factor, planes.normals,
            planes.plane, planes.plus, planes.minus, tolerance, cap, weight, output, force,
            multiplier, on_force, off_force,
        )  # fmt: skip
        self.evaluations += order
        length = min(length, cap)
        time, jump, bend = self.first_events(
            group, group_side, share, weight, output, multiplier, on_force, off_force,
            order, order, length,
        )  # fmt: skip
        stiffness = self.factor * planes.spread**2
        allowed = self.step_tolerance
        self._stiff.notice(length, 2.0 * stiffness * float(share @ np.abs(state.sign)))
        whole = length
        length = _cut(time, stiffness * jump, stiffness * bend, length, allowed)
        for _ in range(60):
            series = Series(share, time, weight, output, order, residual, order)
            window = self.open(state, length, series)
            try:
                window.states(np.array([length]))
            except CapError:
                if length < 1e-3 * whole:
                    raise
            else:
                if stiffness * window.defect <= 4.0 * allowed:
                    break
            length *= 0.5
        self.last_length = length if length < whole else np.inf
        return window

    def jump(self, state: KinkState, field: Field, longest: float) -> Window | None:
        """A jump over the time in which the residual is constant, or None if it is not.

        The jump is infinite if nothing but exact decay is left to happen.

        The residual is constant while the neurons that matter in it are at rest and the others
        are too small to move any log-norm by more than the tolerance.
        """
        stiffness = self.factor * self.planes.spread**2
        allowed = _JUMP * self.rtol
        rate = np.sqrt(np.einsum("jc,jc->j", field.force, field.force)) * np.abs(state.sign)
        share = np.exp(2.0 * state.log_scale) * np.abs(state.sign)
        moving = rate > self.rounding_speed(field.prediction)
        opposed = self._opposed(state, field, rate)
        tiny = share * stiffness * self.width <= allowed * rate.max(initial=0.0)
        if not (moving & ~(opposed & tiny)).any():
            return self._jump_window(state, field, field.residual, moving, longest)
        small = moving
        for _ in range(2):
            fastest = float(rate[small].max(initial=0.0))
            limit = allowed * fastest / stiffness
            small = moving & (share <= limit / self.width)
        if not small.any():
            return None
        fastest = float(rate[small].max())
        limit = allowed * fastest / stiffness
        large = moving & ~small
        start = _log_sum(state.log_scale[small])
        gap = np.log(limit) - start
        length = gap / (2.0 * fastest)
        residual = field.residual
        if large.any():
            if rate[large].max() > 1e-3 * fastest:
                return None
            averaged = self._averaged(state, residual, ~small, length)
            if averaged is None:
                return None
            residual = averaged
        length = min(longest, length)
        if fastest * length < 2.0:
            return None
        for _ in range(60):
            window = self._jump_window(state, field, residual, small, length)
            reached = _log_sum(window.states(np.array([length]))[-1].log_scale[small])
            if reached <= np.log(limit) + 0.5:
                return window
            length *= max(0.1, 0.95 * gap / (reached - start))
        return None

    def _opposed(self, state: KinkState, field: Field, rate: ndarray) -> ndarray:
        """Neurons that point against their velocity exactly, to rounding: they decay for ever.

        Their direction is unstable, so that rounding would turn them round after a while; it is
        restored here.
        """
        unit = field.force / np.where(rate > 0, rate, 1.0)[:, None]
        along = np.einsum("jc,jc->j", state.w, unit)
        across = np.exp(self._log_across - state.log_scale)
        gap = np.linalg.norm(state.w - along[:, None] * unit, axis=1) + across
        opposed = (rate > 0) & (state.sign * along < 0) & (gap < 1e-13)
        state.w[opposed] = np.sign(along[opposed])[:, None] * unit[opposed]
        return opposed

    def rounding_speed(self, prediction: ndarray) -> float:
        """The speed |D| below which a neuron is at rest to rounding."""
        size = float(np.max(np.abs(self.label) + np.abs(prediction), initial=0.0))
        return 16.0 * float(np.finfo(float).eps) * self.factor * self.planes.spread * size

    def _averaged(
        self, state: KinkState, residual: ndarray, large: ndarray, length: float
    ) -> ndarray | None:
        """The residual averaged over a jump in which the large neurons relax the little they can.

        Near rest r' = -factor K r with the kernel K of the large neurons. None if that would move
        the small ones by more than the tolerance, compared with a constant residual.
        """
        value, vector = np.linalg.eigh(self.factor * kernel(self, state, large))
        part = vector.T @ residual
        x = np.where(value > 1e-13 * value[-1], value * length, 0.0)
        variation = np.abs(part) * length * np.minimum(x, 1.0 / np.maximum(x, 1e-300))
        if self.planes.spread * float(np.linalg.norm(variation)) > self.step_tolerance:
            return None
        mean = np.where(x > 0.0, -np.expm1(-x) / np.where(x > 0.0, x, 1.0), 1.0)
        return vector @ (mean * part)

    def _jump_window(
        self, state: KinkState, field: Field, residual: ndarray, moving: ndarray, length: float
    ) -> Window:
        floor = 64.0 * np.finfo(float).eps * self.factor * (
            np.abs(self.label) + np.abs(field.prediction)
        )  # fmt: skip
        residual = np.where(np.abs(residual) <= floor, 0.0, residual)
        planes = self.planes
        on, off = np.empty(len(planes.normals)), np.empty(len(planes.normals))
        plane_forces(residual, planes.plane, planes.plus, planes.minus, on, off)
        return self.open(state, length, Plateau(moving, on, off))

    def _states(self, window: Window, offsets: ndarray) -> list[KinkState]:
        state, planes = window.state, self.planes
        m, q = state.w.shape
        count, p = len(offsets), len(planes.normals)
        side = np.empty((count, m, p), dtype=np.int8)
        w = np.empty((count, m, q))
        counts = np.zeros(4, dtype=np.int64)
        drift = 0.0
        motion = window.motion
        if isinstance(motion, Plateau):
            scale = np.empty((count, m))
            worst = jump_states(
                motion.moving, state.side, state.w, state.sign, state.log_scale, self._log_across,
                motion.on_force, motion.off_force, float(offsets[-1]), offsets, planes.normals,
                self.noise, side, w, scale, counts,
            )  # fmt: skip
        else:
            a = np.empty((count, m))
            worst = window_states(
                state.side, state.w, state.sign, motion.share, motion.first, motion.weight,
                motion.output, motion.order, motion.residual, motion.degree, float(offsets[-1]),
                offsets, planes.normals, planes.plane, planes.plus, planes.minus, self.noise,
                self._slack(window.length), self.series_tolerance, side, w, a, counts,
            )  # fmt: skip
            window.defect = worst
            with np.errstate(all="ignore"):
                across = np.exp(2.0 * (self._log_across - state.log_scale))
                size = np.sqrt(np.einsum("sjc,sjc->sj", w, w) + across)
                size = np.where(state.sign == 0, 1.0, size)
                scale = state.log_scale + np.log(size)
                w /= size[:, :, None]
                drift = float(np.max(np.abs(a[-1] ** 2 / size[-1] ** 2 - 1.0)[state.sign != 0]))
        if worst < 0:
            raise CapError("the number of events of one neuron in one step, or of its multipliers")
        states = [
            KinkState(state.time + float(t), side[i], w[i], state.sign, scale[i])
            for i, t in enumerate(offsets)
        ]
        window.tally = Tally(counts, drift)
        return states

    def _slack(self, length: float) -> float:
        """By how much multipliers may pass their bounds: over a window it moves D too little."""
        return self.noise + _SLACK * self.rtol / length

    def open(self, state: KinkState, length: float, motion: Series | Plateau) -> Window:
        """A window in which the neurons move as given."""
        return Window(self, state, length, motion)

    def residual(self, state: KinkState) -> ndarray:
        """The residual alone, shape `(n,)`."""
        return self.factor * (self.label - self._predict(state))

    def groups(self, state: KinkState) -> tuple[ndarray, ndarray]:
        """The group of each neuron and the pattern of each group: neurons in one share D."""
        hashed = state.side.astype(np.int64) @ self._hash
        _, first, group = np.unique(hashed, return_index=True, return_inverse=True)
        return group, np.ascontiguousarray(state.side[first])

    def first_events(
        self, group, group_side, share, weight, output, multiplier, on_force, off_force,
        order, degree, length,
    ) -> tuple[ndarray, ndarray, ndarray]:  # fmt: skip
        """Each neuron's first event along a series, the jumps of its part in r' and in r''."""
        time, jump, bend = np.empty((3, len(group)))
        window_events(
            group, group_side, share, weight, output, order, multiplier, on_force, off_force,
            degree, self.planes.normals, length, self.noise, self._slack(length), time, jump, bend,
        )  # fmt: skip
        return time, jump, bend


def _cut(time: ndarray, jump: ndarray, bend: ndarray, length: float, allowed: float) -> float:
    """The longest length at which the defect of the events before it is at most what is allowed.

    An event at t adds jump (length - t)^2 / 2 + bend (length - t)^3 / 6.
    """
    met = time < length
    time, jump, bend = time[met], jump[met], bend[met]

    def defect(end: float) -> float:
        late = np.maximum(end - time, 0.0)
        return float(np.sum(late * late * (0.5 * jump + late * bend / 6.0)))

    if defect(length) <= allowed:
        return length
    low, high = float(time.min()), length
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if defect(middle) <= allowed else (low, middle)
    return low


def _log_sum(log_scale: ndarray) -> float:
    """ln sum_j exp(2 log_scale_j)."""
    largest = float(log_scale.max())
    return 2.0 * largest + float(np.log(np.sum(np.exp(2.0 * (log_scale - largest)))))
