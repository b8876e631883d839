"""The kink-exact engine: states, the field on them, windows and jumps."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ...losses import MarginLoss
from ...ncf import kkt_distance, ncf
from ...networks import BlockState
from .._engine import Halt, Measure
from .._problem import Problem
from ._cohorts import SEEN, Gathering, Scattered
from ._compile import compile_missing
from ._field import gradient, predict, slide_excess, velocities
from ._geometry import arrangement
from ._kernel import LARGEST, Feedback
from ._late_window import Late
from ._moves import TOO_MUCH, Move, Parts, Window
from ._particles import group_patterns
from ._patterns import (
    BRANCH_OFF,
    BRANCH_ON,
    BRANCH_STAY,
    BRANCH_STOP,
    BRANCHED,
    CAPPED,
    KINK_WIDTH,
    OFF,
    ON,
    REST,
    SLID,
    plane_forces,
    sliding_inverses,
    start_on_kink,
)
from ._plateau import plateau_jump
from ._residual import CODE, CORRELATION, SQUARE, scaled_residual
from ._rides import EVENTS, Crowd, ride_window
from ._series import coupled_series
from ._state import Field, KinkState, Rows, targets
from ._stiff import StiffSolver

_MAX_ORDER = 30
#: How many times longer than the last one a window that events cut may be.
_GROWTH = 1.7
#: By how much more than that if the last one was not cut.
_FREE = 2.0
_BRANCHING = {"off": BRANCH_OFF, "on": BRANCH_ON, "stay": BRANCH_STAY, "stop": BRANCH_STOP}
#: Truncation error of one window, in units of rtol.
_LOCAL = 0.02
#: Where less than the inverse of this is left of the residual, events count relative to it.
_NEAR_END = 30.0
_BRANCHED = (
    'kinks repel a neuron that lies on them: the flow is not unique there, and branching = "stop" '
    "was asked for."
)


class KinkExactEngine:
    """Advances a two-layer (leaky) ReLU network along its gradient flow.

    **Arguments:**

    - `problem`: network, data, loss and initial state.
    - `rtol`: relative tolerance on every neuron's weights and on the residual.
    - `branching`: the side taken at a kink that repels from both sides.
    """

    def __init__(self, problem: Problem, rtol: float, branching: str = "off"):
        x, y = problem.data.x, problem.data.y
        self.problem = problem
        self.rtol = rtol
        self.branching = branching
        self.branch = _BRANCHING[branching]
        self.planes = arrangement(x, problem.two_layer.slope)
        self.factor = problem.loss.factor(len(y))
        self.kind = CODE[problem.loss.kind]
        self.label = targets(problem)
        self.totals = np.zeros(3, dtype=np.int64)
        self.evaluations = 0.0
        self.drift = 0.0
        largest = float(np.max(np.abs(y), initial=0.0)) if self.kind == SQUARE else 1.0
        self.noise = 1e-15 * self.factor * self.planes.spread * largest
        self.last_length = np.inf
        self.series_tolerance = max(_LOCAL * rtol, 1e-15)
        self.step_tolerance = EVENTS * rtol
        self._stiff = StiffSolver(self)
        self.crowd = Crowd()
        self.feedback = Feedback(self.label.size, self.planes.normals.shape[1])
        self._rooms: dict[str, ndarray] = {}
        self._last: tuple[KinkState, Field] | None = None
        self._full: tuple[KinkState, KinkState] | None = None
        margins = isinstance(problem.loss, MarginLoss) and self.label.size <= LARGEST
        self.late = Late(self) if margins else None
        rng = np.random.default_rng(0)
        count = len(self.planes.normals)
        self.keys = rng.integers(-(2**40), 2**40, size=count, dtype=np.int64)
        #: Patterns whose sliding kinks have been inverted: most of them come again.
        self._inverses: tuple[ndarray, ndarray, ndarray] = (
            np.empty((0, count), np.int8), np.empty(0, np.int64),
            np.empty((0, 1, self.planes.normals.shape[1])),
        )  # fmt: skip
        self._arrange_initial()
        self._gathering = Gathering(self)

    def _arrange_initial(self) -> None:
        blocks = self.problem.initial
        outputs = self.label.shape[1]
        a, w = blocks.direction[:, :outputs], blocks.direction[:, outputs:]
        zero = np.isneginf(blocks.log_norm)
        log_scale = np.where(zero, 0.0, blocks.log_norm - 0.5 * np.log(2.0))
        inside = np.sqrt(2.0) * (w @ self.planes.basis)
        across = np.sqrt(2.0) * w - inside @ self.planes.basis.T
        size = np.linalg.norm(across, axis=1)
        size[size < 1e-14] = 0.0
        imbalance = 2.0 * (np.sum(a * a, axis=1) - np.sum(w * w, axis=1))
        balanced = np.abs(imbalance) <= 4e-12
        imbalance[balanced | zero] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            self._direction_across = np.where(size[:, None] > 0, across / size[:, None], 0.0)
            log_across = np.where(zero, -np.inf, np.log(size) + log_scale)
            log_imbalance = np.log(np.abs(imbalance)) + 2.0 * log_scale
        self.rows = Rows(
            zero, balanced, log_across, log_imbalance, np.sign(imbalance), np.zeros_like(zero)
        )
        self._initial_w = np.ascontiguousarray(np.where(zero[:, None], 0.0, inside))
        self._initial_a = np.where(zero[:, None], 0.0, np.sqrt(2.0) * a)
        self._initial_scale = log_scale

    def restart(self) -> None:
        """Forget the lengths of the last steps: the next state is not theirs."""
        self.last_length = np.inf
        self._stiff.restart()
        self._gathering.restart()
        if self.late is not None:
            self.late.restart()

    # -- states ---------------------------------------------------------------------------

    def initial(self) -> KinkState:
        """The state at time zero, with the patterns that the flow takes from there."""
        compile_missing()
        w, a = self._initial_w.copy(), np.ascontiguousarray(self._initial_a)
        scale, _ = self.rows.normalise(w, a, self._initial_scale)
        z = w @ self.planes.normals.T
        side = np.where(z > 0, ON, OFF).astype(np.int8)
        state = KinkState(0.0, -np.inf, side, w, a, scale, self.rows)
        self._start_on_kinks(state, z)
        return state

    def _start_on_kinks(self, state: KinkState, z: ndarray) -> None:
        normals = self.planes.normals
        # On a kink to rounding of the products summed: (1, 1e-300) is beside u_2 = 0, not on it.
        touching = np.argwhere(np.abs(z) <= KINK_WIDTH * (np.abs(state.w) @ np.abs(normals).T))
        if not len(touching):
            return
        residual = np.empty_like(self.label)
        scaled_residual(self.kind, self._predict(state, z), self.label, self.factor, residual)
        on, jump = np.empty((2, len(normals), self.label.shape[1]))
        plane_forces(residual, self.planes.plane, self.planes.plus, self.planes.minus, on, jump)
        for j in np.unique(touching[:, 0]):
            met = touching[touching[:, 0] == j, 1]
            if self.rows.zero[j]:
                state.side[j, met] = REST
                continue
            own = state.side[j]
            output = state.a[j]
            if not output.any():
                # It moves to the side of its derivative D w.
                force = (on - np.where(own[:, None] > 0, 0.0, jump)).T @ normals
                output = force @ state.w[j]
            pull_on = on @ output
            pull_off = pull_on - jump @ output
            for h in met:
                self._start_on_kink(own, h, state.w[j], pull_on, pull_off, chosen=False)
            # A kink that let go when it was alone may hold once the others under the neuron do.
            for _ in range(len(met)):
                before = own.copy()
                for h in met[pull_on[met] < pull_off[met]]:
                    self._start_on_kink(own, h, state.w[j], pull_on, pull_off, chosen=True)
                if (own == before).all():
                    break

    def _start_on_kink(
        self, own: ndarray, h: int, w: ndarray, pull_on: ndarray, pull_off: ndarray, *, chosen: bool
    ) -> None:
        """The side of one kink under a neuron; one that was `chosen` stays where it isn't met."""
        normals = self.planes.normals
        pull = np.where(own > 0, pull_on, pull_off)
        pull[own == 0] = 0.0
        if chosen:
            # The velocity of the neuron, held on the kinks that it slides on.
            velocity = pull @ normals
            held = normals[own == 0]
            if len(held):
                velocity -= np.linalg.lstsq(held.T, velocity, rcond=None)[0] @ held
            across = float(velocity @ normals[h])
            if own[h] == 0 or across * own[h] >= -1e-12 * float(np.abs(pull).max()):
                return
        pull[h] = 0.0
        outcome = start_on_kink(own, h, w, normals, pull_on, pull_off, pull @ normals, self.branch)
        if outcome == CAPPED:
            raise Halt("limit", f"A limit was met: at the start {TOO_MUCH}.")
        self.totals[1] += outcome == SLID
        self.totals[2] += outcome == BRANCHED

    def blocks(self, state: KinkState) -> BlockState:
        """The weights in polar form."""
        m, q = self._initial_w.shape
        outputs = self.label.shape[1]
        if state.cohorts is not None and (self._full is None or self._full[0] is not state):
            room = self._room("w", m, q), self._room("a", m, outputs), self._room("scale", m)
            state = state.cohorts.expand(state, *room)
        else:
            state = self.full(state)
        root = np.sqrt(2.0)
        zero, across = self.rows.zero, self.rows.log_across
        direction = np.empty((m, outputs + len(self.planes.basis)))
        np.divide(state.a, root, out=direction[:, :outputs])
        if (self.planes.basis == np.eye(*self.planes.basis.shape)).all():
            np.divide(state.w, root, out=direction[:, outputs:])
        else:
            np.divide(state.w @ self.planes.basis.T, root, out=direction[:, outputs:])
        if np.isfinite(across).any():
            with np.errstate(under="ignore"):
                size = np.exp(across - state.log_scale) / root
            direction[:, outputs:] += size[:, None] * self._direction_across
        direction[zero] = self.problem.initial.direction[zero]
        log_norm = np.where(zero, -np.inf, state.log_scale + 0.5 * np.log(2.0))
        return BlockState(log_norm, direction)

    def distance(self, before: KinkState, after: KinkState) -> float:
        """How far apart two states are in a picture: the mean turn, and growth weighed less."""
        (w, scale), (w_after, scale_after) = self._sample(before), self._sample(after)
        turn = np.linalg.norm(w_after - w, axis=1).mean()
        return float(turn + 0.02 * np.abs(scale_after - scale).mean())

    def _sample(self, state: KinkState) -> tuple[ndarray, ndarray]:
        """Weights w and log scales of neurons, all of them if they are few."""
        if state.cohorts is not None:
            return state.cohorts.sample(state)
        step = -(-len(self.rows.zero) // SEEN) if self._gathering.wanted else 1
        return state.w[::step], state.log_scale[::step]

    def full(self, state: KinkState) -> KinkState:
        """The state of all neurons; that of the last one is remembered."""
        if state.cohorts is None:
            return state
        if self._full is None or self._full[0] is not state:
            self._full = state, state.cohorts.expand(state)
        return self._full[1]

    def note(self, counts: ndarray, drift: float) -> None:
        """Count events and intervals of a step that was taken."""
        self.totals += counts[:3]
        self.evaluations += counts[3] / len(self.rows.zero)
        self.drift = max(self.drift, drift)

    def counts(self) -> dict[str, Any]:
        """Events, and the drift of what is conserved."""
        crossings, slides, branchings = (int(c) for c in self.totals)
        return {
            "crossings": crossings,
            "slides": slides,
            "branchings": branchings,
            "balancedness_drift": self.drift,
        }

    # -- the field ------------------------------------------------------------------------

    def predict(
        self, z: ndarray, a: ndarray, share: ndarray, side: ndarray, carried: ndarray
    ) -> ndarray:
        """Predictions (n, C) of rows with w.e = z (m, p), and shares exp(2 log scale)."""
        prediction = np.empty_like(self.label)
        planes = self.planes
        predict(z, a, share, side, carried, planes.plane, planes.plus, planes.minus, prediction)
        return prediction

    def _predict(self, state: KinkState, z: ndarray) -> ndarray:
        with np.errstate(under="ignore"):
            share = np.exp(2.0 * state.log_scale)
            return self.predict(z, state.a, share, state.side, state.rows.carried)

    def prediction(self, state: KinkState) -> ndarray:
        """The network at the examples, shape `(n, C)`."""
        return self._predict(state, state.w @ self.planes.normals.T)

    def residual(self, state: KinkState) -> tuple[ndarray, float, ndarray]:
        """Predictions, the residual's unit, and the residual divided by exp(unit)."""
        prediction = self.prediction(state)
        residual = np.empty_like(self.label)
        unit = scaled_residual(self.kind, prediction, self.label, self.factor, residual)
        return prediction, unit, residual if state.residual is None else state.residual

    def field(self, state: KinkState) -> Field:
        """Residual and velocities at a state; that of the last one is remembered."""
        if self._last is not None and self._last[0] is state:
            return self._last[1]
        planes = self.planes
        z = state.w @ planes.normals.T
        prediction = self._predict(state, z)
        residual = np.empty_like(self.label)
        unit = scaled_residual(self.kind, prediction, self.label, self.factor, residual)
        if state.residual is not None:
            residual = np.ascontiguousarray(state.residual)
        group, member = group_patterns(state.side, self.keys)
        side = state.side[member]
        slides, inverse = self.inverses(side)
        outputs = self.label.shape[1]
        force = np.empty((len(member), outputs, state.w.shape[1]))
        multiplier = np.empty((len(member), inverse.shape[1], outputs))
        velocities(
            (side > 0).astype(float), side, residual, planes.normals, planes.plane, planes.plus,
            planes.minus, slides, inverse, force, multiplier,
        )  # fmt: skip
        field = Field(
            prediction, unit, residual, group, member, slides, inverse, force, multiplier, z
        )
        self._last = (state, field)
        return field

    def inverses(self, side: ndarray) -> tuple[ndarray, ndarray]:
        """`sliding_inverses` of patterns; those of the last call are remembered."""
        slides, inverse = sliding_inverses(side, self.planes.normals, self.keys, *self._inverses)
        self._inverses = side, slides, inverse
        return slides, inverse

    def gain(self, residual: ndarray) -> float:
        """The largest derivative of the scaled residual by a prediction."""
        if self.kind == SQUARE:
            return self.factor
        return 0.0 if self.kind == CORRELATION else float(np.abs(residual).max())

    def measure(self, states: Sequence[KinkState]) -> list[Measure]:
        """What is measured at states."""
        result = []
        with np.errstate(divide="ignore", under="ignore"):
            log_spread = float(np.log(self.planes.spread))
            for state in states:
                field = self.field(state)
                top = float(np.max(state.log_scale[~state.rows.zero], initial=-np.inf))
                top = top if np.isfinite(top) else 0.0
                share = np.exp(2.0 * (state.log_scale - top))
                square, fastest = gradient(
                    field.group, state.w, state.a, share, state.rows.carried, field.force
                )
                if state.cohorts is not None:
                    fastest = state.cohorts.fastest(state, field, fastest)
                size = float(np.linalg.norm(field.residual))
                loss = self.problem.loss
                log_residual = field.unit + float(np.log(size))
                shape = self.problem.data.y.shape if self.label.shape[1] == 1 else self.label.shape
                prediction = field.prediction.reshape(shape)
                result.append(
                    Measure(
                        prediction=prediction,
                        residual=(field.residual / (size if size > 0.0 else 1.0)).reshape(shape),
                        log_residual=log_residual,
                        log_loss=float(loss.log_value(prediction, self.problem.data.y)),
                        log_grad_norm=field.unit + top + 0.5 * float(np.log(square)),
                        log_rate=log_spread + log_residual,
                        log_escape=field.unit + float(np.log(fastest)),
                    )
                )
        return result

    def ncf(self, state: KinkState) -> tuple[ndarray, ndarray]:
        """The NCF of every block under the residual's direction, and its KKT distance."""
        state = self.full(state)
        field = self.field(state)
        speed = np.linalg.norm(field.force, axis=(1, 2))[field.group]
        living = (speed > self.rounding_speed(field)) & ~self.rows.zero
        value, distance = np.full((2, len(living)), np.nan)
        blocks = self.blocks(state)
        x, slope = self.problem.data.x, self.problem.two_layer.slope
        size = float(np.linalg.norm(field.residual))
        residual = field.residual / (size if size > 0.0 else 1.0)
        if self.label.shape[1] == 1:
            residual = residual[:, 0]
        value[living] = ncf(blocks.direction[living], x, residual, slope)
        distance[living] = kkt_distance(blocks.direction[living], x, residual, slope)
        return value, distance

    def rounding_speed(self, field: Field) -> float:
        """The speed |D| below which a neuron is at rest to rounding."""
        if self.kind == SQUARE:
            size = float(np.max(np.abs(self.label) + np.abs(field.prediction), initial=0.0))
            size *= self.factor
        else:
            size = float(np.abs(field.residual).max(initial=0.0))
        return 16.0 * float(np.finfo(float).eps) * self.planes.spread * size

    # -- advancing ------------------------------------------------------------------------

    def advance(self, state: KinkState, end: float) -> Move:
        """A jump over a constant residual where there is one, else a window."""
        if self.branching == "stop" and self.totals[2]:
            raise Halt("branching", f"{self.totals[2]} {_BRANCHED}")
        try:
            return self._advance(state, end)
        except Scattered:
            self._gathering.scattered()
            return self._advance(self.full(state), end, gather=False)

    def _advance(self, state: KinkState, end: float, *, gather: bool = True) -> Move:
        self.evaluations += 1.0
        field = self.field(state)
        longest = np.inf
        if field.unit == 0.0 and end < 709.0:
            longest = float(np.exp(end)) - state.time
        elif field.unit != 0.0 and end < np.inf:
            gap = end + float(np.log1p(-np.exp(state.log_time - end)))
            longest = float(np.exp(min(gap + field.unit, 700.0)))
        jump = plateau_jump(self, state, field, longest)
        if jump is not None:
            return jump
        if gather:
            state, field = self._gathering.gather(state, field)
        return self._window(state, field, longest)

    def _window(self, state: KinkState, field: Field, longest: float) -> Move:
        """A window of at most the given length: the coupled series, cut where events demand."""
        planes = self.planes
        if self._stiff.active:
            found = self._stiff.window(state, field, longest)
            if found is not None:
                return found
        if self.late is not None:
            late = self.late.window(state, field)
            if late is not None:
                return late
        p, q = planes.normals.shape
        n, outputs = self.label.shape
        parts = self.parts(state, field)
        group_side, active, shares = parts.group_side, parts.active, parts.share
        most = max(1, int(np.max(np.sum(group_side == 0, axis=1), initial=0)))
        top, groups = _MAX_ORDER + 1, len(group_side)
        residual, prediction = np.zeros((2, top, n, outputs))
        residual[0], prediction[0] = field.residual, field.prediction
        count = len(parts.w)
        weight = self._room("weight", count, top, q)
        output = self._room("output", count, top, outputs)
        raw = self._room("raw", top, groups, outputs, q)
        force = self._room("force", groups, top, outputs, q)
        multiplier = self._room("multiplier", groups, top, most, outputs)
        on, jump = self._room("planes", 2, top, p, outputs)
        cap = min(longest, _GROWTH * self.last_length)
        order, length = coupled_series(
            parts.w, parts.a, parts.particle_share, parts.particle_group, group_side, active,
            parts.tree, self.kind, self.label, self.factor, field.unit, residual, prediction,
            planes.normals, planes.plane, planes.plus, planes.minus, parts.slides, parts.inverse,
            self.series_tolerance, cap, weight, output, on, jump, raw, force, multiplier,
        )  # fmt: skip
        self.evaluations += order
        length = min(length, cap)
        gain = self.gain(field.residual)
        load = float(shares @ np.sum(state.a**2, axis=1))
        whole = length
        self._stiff.spend(count * order * (order + 6))
        # The window keeps its series; the room is used again.
        series = weight[:, : order + 1].copy(), output[:, : order + 1].copy(), order
        window = ride_window(
            self, state, field, parts, series, (on, jump, raw, multiplier, order), length,
            prediction=prediction, residual=residual[: order + 1],
            stiffness=gain * planes.spread**2 * 2.0 * load,
        )  # fmt: skip
        self._hold_slides(window)
        # Where events end windows before stability would, nothing is stiff.
        self._stiff.notice(window.length, gain * planes.spread**2 * 2.0 * load, order)
        self._stiff.spend(window.work)
        self._stiff.advanced(window.length)
        self.last_length = window.length
        if window.length == whole:
            self.last_length *= _FREE
        if self.late is not None:
            self.late.notice(window.length)
        return window

    def _hold_slides(self, window: Window) -> None:
        """End a window where what its events do to the residual lets a neuron go that slides.

        Its series doesn't know, and the neuron would go on sliding until the window's end.
        """
        low, high = window.first_event, window.length
        if not low < high:
            return
        push, held = self._slide_excess(window.end), -np.inf
        allowed = self.allowed(window.residual[0])
        if push * (high - low) <= allowed:
            return
        shortest = 1e-9 * window.length
        while push * (high - low) > 0.5 * allowed and high - low > shortest:
            # Close to where it is let go, and after that.
            part = 0.5 if held == -np.inf else min(0.1 + 0.9 * held / (held - push), 0.9)
            at = low + part * (high - low)
            self.evaluations += 1.0
            now = self._slide_excess(window.states(np.array([at]))[0])
            if now > 0.0:
                high, push = at, now
            else:
                low, held = at, now
        window.shorten(high)

    def _slide_excess(self, state: KinkState) -> float:
        field, planes = self.field(state), self.planes
        return slide_excess(
            state.rows.carried, field.group, state.side[field.member], field.residual, state.a,
            planes.plane, planes.plus, planes.minus, field.multiplier,
        )  # fmt: skip

    def _room(self, name: str, *shape: int) -> ndarray:
        """An array that is used again in every window."""
        size = int(np.prod(shape))
        flat = self._rooms.get(name)
        if flat is None or len(flat) < size:
            flat = self._rooms[name] = np.zeros(size + size // 4)
        return flat[:size].reshape(shape)

    def parts(self, state: KinkState, field: Field) -> "Parts":
        """The particles of a state's groups."""
        return Parts(state, field)

    def allowed(self, residual: ndarray) -> float:
        """What a window may do to the motion of any neuron.

        Near the end of a fit the residual is small against the labels, and is known relative to
        itself only if what moves it is, too.
        """
        if self.kind != SQUARE:
            return self.step_tolerance
        size = self.factor * float(np.abs(self.label).max(initial=0.0))
        left = float(np.abs(residual).max(initial=0.0)) / size if size > 0.0 else 1.0
        return max(self.step_tolerance * min(1.0, _NEAR_END * left), 1e-15)
