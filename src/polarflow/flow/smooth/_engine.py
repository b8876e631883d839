"""The smooth engine: any network of homogeneous blocks, in three logs, stepped by CVODE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks import BlockState
from .._engine import Halt, Measure, polar_distance
from .._logs import log_sum
from .._problem import Problem
from ._balance import Balance
from ._compiled import Compiled
from ._explicit import ExplicitSession
from ._field import Field
from ._frame import Frame
from ._radau import RadauSession
from ._sides import Sides
from ._small_parts import DigitWindow, SmallParts
from ._stepper import Session, Step, StepError, Torn
from ._window import Sessions, SmoothState, SmoothWindow

#: Steps of CVODE in a window: where it slides along kinks, they are many and short.
_STEPS, _SHORT_STEPS = 4, 16
#: The part of the tolerance that one step of the solver may use for each number.
_SHARE = 0.1
#: The same of an explicit step, whose estimate is of the less accurate of two methods.
_EXPLICIT = 0.02
#: Steps of high order end where this share of them ended at bends, and begin again below that.
_BENT, _FEW_BENDS = 0.85, 0.4
#: The largest system whose steps are found by collocation.
COLLOCATED = 400
#: Kinks of activations and of max-pooling are rounded off over this part of the tolerance, for unit
#: weights. Where the flow slides along one, its place in the rounding tells how far it is on: steps
#: must know that place far better than the width.
_SMOOTHING, _SHARE_OF_KINKS = 0.1, 1e-4
#: The least width, and the least tolerance of a step with kinks.
_LEAST_SMOOTHING, _LEAST = 3e-12, 3e-14
#: So many steps in a row that together advance the clock by less than this over the largest
#: speed: the flow slides along a kink that is not rounded off.
_STUCK_STEPS, _STUCK = 2000, 1e-4
#: The late phase begins once every margin exceeds this.
_LATE = 3.0
#: A block is at rest, and the clock leaves it out, if it moves by less than this in the time in
#: which a block of its size could turn, and others move as slowly.
_REST = 1e-3
#: A block that is smaller than the largest by e^-_LOST, in what it adds to the output, is not felt.
_LOST = 100.0
#: An example of this margin pulls by less than can be told beside one that can't be fitted.
_FITTED = 25.0
#: The clock passes to other blocks once the fastest moves slower than this in it.
_SLOW = 1e-2
#: Where in a step of high order it is seen where blocks have come together, if they have by so
#: much more than needed at its end.
_LOOKS, _SLACK, _HALVINGS = np.linspace(0.0, 1.0, 17)[1:], 30.0, 8
#: So often may bundles be torn before a step is made.
_TEARS = 8
#: What remains of a finite time is lost in rounding below this share of it.
_BLOW_UP = 4e-16


@dataclass(frozen=True, eq=False)
class Look:
    """The field at a state: prediction `(n, C)`, r/|r|, forces; rho, ln|force| of each block."""

    state: SmoothState
    prediction: ndarray
    log_residual: float
    residual: ndarray
    forces: list[ndarray]
    along: ndarray
    log_norm: ndarray
    log_force: ndarray


class SmoothEngine:
    """Follows networks whose blocks are smooth, or whose kinks need not be located.

    **Arguments:**

    - `problem`: data, network, loss and start.
    - `rtol`: bounds the relative error of every block's norm and the error of its direction.
    - `above_rounding`: whether nothing is to be said of numbers below rounding that decide.
    """

    def __init__(self, problem: Problem, rtol: float, above_rounding: bool = False) -> None:
        self.problem, self.rtol, self.above_rounding = problem, rtol, above_rounding
        self.width = max(_SMOOTHING * rtol, _LEAST_SMOOTHING)
        self.field = Field(problem, self.width)
        #: Blocks as they stand at the start: all alone.
        self.frame = Frame.single(self.field, rtol)
        self.session: Sessions | None = None
        #: Small systems without kinks go by steps of high order.
        self.kinks = any(group.kinks for group in self.field.groups)
        self.tolerance = max(_SHARE_OF_KINKS * rtol, _LEAST) if self.kinks else _SHARE * rtol
        self.collocated = not self.kinks and self.field.size <= COLLOCATED
        self.steps_in_window = 1 if self.collocated else _SHORT_STEPS if self.kinks else _STEPS
        self.steps: list[Step] = []
        self._ends: list[float] = []
        self._counted, self._products = 0.0, 0
        self.small, self.sides = SmallParts(self), Sides(rtol)
        self.notes: list[str] = []
        self.pulse: Callable[[float, float], None] | None = None
        self.balance = Balance(self.field, self.frame.parts(self.field.vector(problem.initial)))

    @property
    def compile_seconds(self) -> float:
        """What compiling has taken in this process."""
        return Compiled.seconds

    # -- counting --------------------------------------------------------------------------

    @property
    def evaluations(self) -> float:
        """Field evaluations; products of the Jacobian with a vector are counted apart."""
        return self._counted + (self.session.evaluations if self.session else 0)

    @evaluations.setter
    def evaluations(self, value: float) -> None:
        self._counted = value - (self.session.evaluations if self.session else 0)

    @property
    def products(self) -> int:
        """Products of the Jacobian with a vector, columns of a Jacobian included."""
        return self._products + (self.session.products if self.session else 0)

    # -- the protocol ----------------------------------------------------------------------

    def initial(self) -> SmoothState:
        return SmoothState(-np.inf, self.field.vector(self.problem.initial), False, self.frame)

    def blocks(self, state: SmoothState) -> BlockState:
        return state.frame.state(state.given)

    def restart(self) -> None:
        self._end_session()
        self.small.restart()
        self.sides.restart()

    def _end_session(self) -> None:
        if self.session is not None:
            self._counted += self.session.evaluations
            self._products += self.session.products
        self.session, self.steps, self._ends = None, [], []

    def counts(self) -> dict[str, Any]:
        notes = list(dict.fromkeys([*self.small.notes, *self.sides.notes, *self.notes]))
        if self.kinks:
            notes.append(
                "Kinks are not located: those of activations and of max-pooling are rounded off "
                f"over {self.width:.1g} times the size of the weights; a user's own model keeps "
                "those that it has, and its tied maxima share their derivative."
            )
        return {
            "crossings": 0,
            "slides": 0,
            "branchings": 0,
            "balancedness_drift": self.balance.drift,
            "jacobian_products": self.products,
            "notes": notes,
        }

    def measure(self, states: Sequence[SmoothState]) -> list[Measure]:
        if not states:
            return []
        for state in states:
            self.balance.see(state.frame.parts(state.given))
        return [self._measure(look) for look in self._looks(states)]

    def ncf(self, state: SmoothState) -> tuple[ndarray, ndarray]:
        look, network = self.look(state), self.field.network
        dimension = self.problem.data.dimension
        frame = state.frame
        forces = frame.forces(state.y, look.forces)
        force = network.join_forces(frame.parts(state.y), forces, dimension)
        blocks, order = frame.state(state.given), network.row_orders(dimension)
        along = np.sum(force * blocks.direction, axis=1)
        distance = np.linalg.norm(force - along[:, None] * blocks.direction, axis=1)
        alive = np.isfinite(blocks.log_norm) & (np.linalg.norm(force, axis=1) > self._noise(look))
        return np.where(alive, along / order, np.nan), np.where(alive, distance, np.nan)

    def distance(self, before: SmoothState, after: SmoothState) -> float:
        return polar_distance(self.blocks(before), self.blocks(after))

    def advance(self, state: SmoothState, end: float) -> SmoothWindow | DigitWindow:
        if state.session is self.session and self.session is not None:
            ahead = [step for step in self.steps if step.end > state.s + 1e-15 * abs(state.s)]
            if ahead:
                if self._grazes(state.frame, state.y):
                    self._counted += 1
                    self.sides.see(self.look(state))
                return self._window(state, ahead)
        self._counted += 1
        if state.exact is not None:
            window = self.small.advance(state)
            if window is not None:
                return window
            state = SmoothState(state.log_time, state.y, False, state.frame)
        look = self.look(state)
        if np.isnan(look.log_force).any():
            raise Halt("not_finite", "The gradient of the network is not a number here.")
        window = self.small.take_over(look)
        if window is not None:
            return window
        if self._watches_sides():
            self.sides.see(look)
        if not self._moves(look):
            self.sides.rest(look, end)
            return SmoothWindow(state, ())
        start = self._ready(look)
        self._check_blow_up(start)
        for attempt in range(_TEARS + 1):
            session = start.session
            assert session is not None
            try:
                if isinstance(session, ExplicitSession):
                    self.steps = session.steps(start.log_time, end)
                else:
                    self.steps = [session.step() for _ in range(self.steps_in_window)]
                self._watch(session)
                break
            except StepError as error:
                if isinstance(error, Torn) and attempt < _TEARS:
                    start = self._ready(self.look(start))
                    continue
                raise Halt("limit", f"The solver could not go on: {error}.") from None
        self.steps = self._until_due(start.frame, self.steps)
        return self._window(start, self.steps)

    # -- inside ----------------------------------------------------------------------------

    def look(self, state: SmoothState) -> Look:
        """All that is known of the field at a state."""
        return self._looks([state])[0]

    def _looks(self, states: Sequence[SmoothState]) -> list[Look]:
        """The same at states of one frame that are all late, or none."""
        y = np.array([state.y for state in states])
        field = states[0].frame.field
        h, log_r, unit, forces, along = field.measured(y, states[0].late)
        size = np.concatenate([np.linalg.norm(f, axis=2) for f in forces], axis=1)
        alive = field.alive
        with np.errstate(divide="ignore"):
            log_force = np.where(alive, np.log(np.where(alive, size, 1.0)), -np.inf)
        along, rho = np.where(alive, along, 0.0), self.field.log_norms(y)
        return [
            Look(
                state, h[i], float(log_r[i]), unit[i], [f[i] for f in forces], along[i], rho[i],
                log_force[i],
            )
            for i, state in enumerate(states)
        ]  # fmt: skip

    def _measure(self, look: Look) -> Measure:
        field, problem = self.field, self.problem
        h, unit = look.prediction, look.residual
        if field.network.outputs == 1 and not field.residual.softmax:
            h, unit = h[:, 0], unit[:, 0]
        with np.errstate(divide="ignore", under="ignore", over="ignore", invalid="ignore"):
            power = np.where(field.homogeneous, field.order - 1.0, 0.0)
            gradient = float(log_sum(2.0 * (power * look.log_norm + look.log_force))) / 2.0
            log_loss = float(problem.loss.log_value(h, problem.data.y))
            escape = float(np.log(max(look.along.max(), self.sides.rate, 0.0)))
        return Measure(
            prediction=h,
            residual=unit,
            log_residual=look.log_residual,
            log_loss=log_loss,
            log_grad_norm=look.log_residual + gradient,
            log_rate=look.log_residual + float(np.log(self._spread)),
            log_escape=look.log_residual + escape,
        )

    @cached_property
    def _spread(self) -> float:
        return max(self.field.spread, 1e-300)

    def _watch(self, session: Sessions) -> None:
        """Halt where the steps have become too small to get anywhere."""
        self._ends.append(session.s)
        if len(self._ends) > _STUCK_STEPS // self.steps_in_window:
            begin = self._ends.pop(0)
            if session.s - begin < _STUCK / self._spread:
                why = (
                    "the flow slides along a kink of a user's own model, which this engine doesn't "
                    "locate"
                    if self.kinks
                    else "many blocks cross bends of their activation at almost the same time; a "
                    "larger rtol may pass them"
                )
                raise Halt("limit", f"The steps have become too small to go on: {why}.")

    def _moves(self, look: Look) -> bool:
        """Whether anything moves by more than rounding, or will be felt again.

        A block far below the others whose direction is at rest and whose norm falls does not.
        """
        noise = self._noise(look)
        size = self.field.order * look.log_norm
        field = look.state.frame.field
        alive = field.alive & field.homogeneous
        lost = alive & (look.along < 0.0) & (size < size[alive].max(initial=-np.inf) - _LOST)
        turn = [
            np.linalg.norm(f - np.sum(f * v, axis=1, keepdims=True) * v, axis=1)
            for f, (_, v) in zip(look.forces, field.parts(look.state.y), strict=True)
        ]
        lost &= np.concatenate(turn) <= noise
        if ((look.log_force > np.log(noise)) & ~lost).any():
            return True
        if self._high_margin(look) > _FITTED and np.isfinite(look.state.log_time):
            self.notes.append(
                f"The forces have fallen below rounding at time {look.state.time:.3g}: weights at "
                "later times are those of then, though norms may go on growing like ln t."
            )
        return False

    def _noise(self, look: Look) -> float:
        """The size of a block's force that is zero to rounding, in units of |r|."""
        eps = 16.0 * float(np.finfo(float).eps) * self._spread
        if self.field.residual.margin:
            return eps
        size = np.max(np.abs(self.problem.data.y))
        if self.problem.loss.kind == "square":
            size = size + np.max(np.abs(look.prediction))
        log_size = np.log(size) + self.field.residual.log_factor - look.log_residual
        with np.errstate(over="ignore"):
            return float(eps * np.exp(log_size))

    def _ready(self, look: Look) -> SmoothState:
        """The state in a session that may go on: the present one, or a new one where need be."""
        state = look.state
        clock = self._clock(look)
        explicit = self._explicit(look)
        late = not explicit and (state.late or self._is_late(look))
        session = self.session
        renewed = self._renewed(look)
        if session is not None and state.session is session and renewed is None:
            same = isinstance(session, ExplicitSession) == explicit and late == state.late
            whole = session.s <= state.s + 1e-15 * abs(state.s)
            if same and whole and np.array_equal(clock, session.clock):
                return state
        y, frame = state.y, state.frame
        if renewed is not None:
            frame, new = renewed
            y = np.concatenate([new, y[self.field.size :]])
        if late != state.late:
            y = np.concatenate([y, self._late_part(look)]) if late else y[: self.field.size]
        before = session if renewed is not None and state.session is session else None
        self._end_session()
        sides, _ = self._crossed(state, before)
        self.session = self._new_session(frame.field, y, clock, late, explicit, sides)
        if isinstance(before, RadauSession) and isinstance(self.session, RadauSession):
            self.session.follow(before, state.s, lambda y: frame.turned(y, state.frame))
        elif isinstance(before, ExplicitSession) and isinstance(self.session, ExplicitSession):
            self.session.follow(before)
        return SmoothState(state.log_time, y, late, frame, self.session, 0.0)

    def _new_session(
        self,
        field: Field,
        y: ndarray,
        clock: ndarray,
        late: bool,
        explicit: bool,
        sides: ndarray | None,
    ) -> Sessions:
        if explicit:
            located = self.field.size <= COLLOCATED
            return ExplicitSession(field, y, clock, _EXPLICIT * self.rtol, located, sides)
        if self.collocated:
            return RadauSession(field, y, clock, self.tolerance, sides)
        return Session(field, y, clock, late, self.tolerance)

    # -- bundles ---------------------------------------------------------------------------

    def _bundling(self) -> bool:
        """Whether blocks are held in bundles: of systems whose bends are located."""
        return self.collocated and any(each is not None for each in self.frame.mixtures)

    def _renewed(self, look: Look) -> tuple[Frame, ndarray] | None:
        """The frame that a state asks for, and the vector in it."""
        if not self._bundling():
            return None
        state = look.state
        sides, crossed = self._crossed(state, self.session)
        y = state.y[: self.field.size]
        return state.frame.renewed(y, sides, crossed, look.residual, look.forces)

    def _window(self, start: SmoothState, steps: list[Step]) -> SmoothWindow:
        """A window of steps, up to the first after which numbers below rounding are looked at."""
        for i, step in enumerate(steps[:-1]):
            if self._grazes(start.frame, step.known(np.array([step.end]))[0]):
                return SmoothWindow(start, steps[: i + 1])
        return SmoothWindow(start, steps)

    def _watches_sides(self) -> bool:
        """Whether numbers below rounding may decide.

        Under a loss whose residuals keep their signs no example attracts that has repelled.
        """
        return self._bundling() and not (self.above_rounding or self.field.residual.margin)

    def _grazes(self, frame: Frame, y: ndarray) -> bool:
        """Whether some unit of a bundle lies on a hyperplane to rounding."""
        if not self._watches_sides():
            return False
        parts = zip(frame.field.parts(y[: self.field.size]), frame.mixtures, strict=True)
        return any(self.sides.grazes(part[1], frame.field.x) for part, mix in parts if mix)

    def _crossed(
        self, state: SmoothState, session: Sessions | None
    ) -> tuple[ndarray | None, ndarray | None]:
        """The sides of the bends at a state, and which have just changed, if a session knows."""
        if isinstance(session, ExplicitSession | RadauSession) and state.session is session:
            if session.s <= state.s + 1e-15 * abs(state.s):
                return session.sides, session.crossed
        return None, None

    def _until_due(self, frame: Frame, steps: list[Step]) -> list[Step]:
        """Steps until blocks come together, or columns of bundles change their order."""
        if not self._bundling():
            return steps
        few, size, old = isinstance(self.session, ExplicitSession), self.field.size, None
        for i, step in enumerate(steps):

            def due(s: float, slack: float = 1.0, step: Step = step) -> set[tuple[Any, ...]]:
                return frame.due(step.known(np.array([s]))[0, :size], slack)

            # What was so before the step didn't ask for another frame.
            old = due(step.start) if old is None else old
            new = due(step.end, 1.0 if few else _SLACK) - old
            if any(not few or reason[1] == "taken" for reason in new):
                at = step.start + (step.end - step.start) * _LOOKS
                first = next((k for k, s in enumerate(at) if due(s) - old), len(at) - 1)
                low, high = at[first - 1] if first else step.start, at[first]
                for _ in range(_HALVINGS):
                    middle = 0.5 * (low + high)
                    low, high = (low, middle) if due(middle) - old else (middle, high)
                if high < step.end:
                    step = replace(step, end=float(high), passed=None)
                return [*steps[:i], step]
            if due(step.end) - old:
                return steps[: i + 1]
        return steps

    def _explicit(self, look: Look) -> bool:
        """Whether steps are explicit.

        Of small systems, where most steps end at bends: else steps of high order are longer by
        more than they cost. Of large ones wherever nothing is stiff.
        """
        if self.kinks or self._low_margin(look) > _LATE:
            return False
        if self.collocated and not self.field.bends:
            return False
        session = self.session
        if session is None or look.state.session is not session:
            return True
        if isinstance(session, ExplicitSession):
            smooth = self.collocated and session.bends < _FEW_BENDS
            return not (session.stiff or smooth)
        return isinstance(session, RadauSession) and session.bent >= _BENT

    def _high_margin(self, look: Look) -> float:
        residual = self.field.residual
        if not residual.margin:
            return -np.inf
        return float(np.asarray(residual.margins(look.prediction)).max())

    def _low_margin(self, look: Look) -> float:
        residual = self.field.residual
        if not residual.margin:
            return -np.inf
        return residual.lowest_margin(look.prediction)

    def _is_late(self, look: Look) -> bool:
        if not self.field.residual.margin:
            return False
        return self.collocated or self._low_margin(look) > _LATE

    def _late_part(self, look: Look) -> ndarray:
        """ln p and ln R from the predictions."""
        residual = self.field.residual
        log_q = np.asarray(residual.log_weights(residual.margins(look.prediction))).ravel()
        total = float(log_sum(log_q))
        return np.append(log_q - total, total)

    def _clock(self, look: Look) -> ndarray:
        """The blocks that set the clock: all but those at rest while others move slowly."""
        field, session = look.state.frame.field, self.session
        old = session is not None and look.state.session is session
        clock = session.clock if session is not None and old else field.alive
        moving = look.log_force > np.log(_REST * self._spread)
        if not moving.any():
            return clock
        log_speed = (field.order - 2.0) * look.log_norm
        fastest = float((log_speed + look.log_force)[moving].max())
        pace = float(log_speed[clock].max()) + np.log(self._spread)
        if abs(fastest - pace) > -np.log(_SLOW):
            return moving
        return clock

    def _check_blow_up(self, state: SmoothState) -> None:
        """Halt where the NCF flow has come to its finite time, to rounding."""
        if self.problem.loss.kind != "correlation" or not np.isfinite(state.log_time):
            return
        session = state.session
        assert session is not None
        dy = np.asarray(state.frame.field.compiled(state.y, session.clock, state.late))
        rate = float(np.max((self.field.order - 2.0) * self.field.log_norms(dy)))
        mu = float(self.field.log_speed(state.y, session.clock, state.late))
        if rate > 0.0 and -mu - np.log(rate) < state.log_time + np.log(_BLOW_UP):
            raise Halt(
                "blow_up",
                f"The weights become infinite in finite time, at t = {state.time:.15g} "
                f"(ln t = {state.log_time:.15g}).",
            )
