"""Past the saddles of a deep network, which parts of its matrices below rounding decide about.

Floats keep such parts to the tolerance times their matrices at best. Where a saddle would be left
by them, the flow is followed again from its start with as many digits as they need (`_digits.py`),
to the same place, and on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from .._engine import Halt
from ._reach import climb
from ._stepper import DENSE, StepError
from ._window import SmoothState

if TYPE_CHECKING:
    from ._digit_steps import DigitSession, DigitStep
    from ._digits import Digits, Exact
    from ._engine import Look, SmoothEngine

#: Predictions above this part of the labels mean that the network has left the origin.
_FELT = 1e-3
#: A residual below this part of the first one belongs to a fit, not to a saddle.
_FITTED = 1e-4
#: A part that grows more slowly than this, relative to the largest rate, isn't waited for.
_SLOWEST = 1e-3
#: How many times units that are nearly zero are turned on and off at random.
_CHOICES = 6
#: Steps in a window, and the most of them on the way to where floats gave up.
_STEPS, _MOST = 2, 20_000
#: Multiplications in one evaluation beyond which many digits would take too long.
_LARGE = 1_000_000
#: The last bits are those of rounding.
_ROUNDING = 48


@dataclass(frozen=True)
class DigitWindow:
    """Steps of a session with many digits, from a state in the first of them."""

    parts: "SmallParts"
    start: SmoothState
    steps: "list[DigitStep]"

    @property
    def length(self) -> float:
        return self.steps[-1].end - self.start.s

    def offsets(self, samples: int) -> ndarray:
        """The ends of the steps."""
        return np.array([step.end for step in self.steps]) - self.start.s

    def states(self, offsets: ndarray) -> Sequence[SmoothState]:
        assert self.start.exact is not None
        found: list[SmoothState] = []
        log_time, session = self.start.log_time, self.start.exact[1]
        for s in self.start.s + np.asarray(offsets, dtype=float):
            step = next((each for each in self.steps if s <= each.end), self.steps[-1])
            found.append(self.parts.state(step.at(float(s)), log_time, float(s), session))
            log_time = found[-1].log_time
        return found

    def accept(self, offset: float) -> None:
        """Nothing is counted by events here."""


class SmallParts:
    """Tells where floats are not enough for a deep network, and goes on from there."""

    def __init__(self, engine: "SmoothEngine") -> None:
        self.engine = engine
        self.digits: Digits | None = None
        self.session: DigitSession | None = None
        self.notes: list[str] = []
        self._steps: list[DigitStep] = []
        self._dip = self._checked = np.inf

    def restart(self) -> None:
        """Forget the way here."""
        self.session, self._steps = None, []
        self._dip = self._checked = np.inf

    # -- with floats -----------------------------------------------------------------------

    def take_over(self, look: "Look") -> DigitWindow | None:
        """A window with many digits where a saddle would be left by parts that floats don't hold.

        Either the flow is at rest to within the tolerance, or it leaves again, after a rest at
        which such parts were known to less than the root of the tolerance.

        **Raises:** `Halt` where it can't go on.
        """
        field, spread = self.engine.field, self.engine.field.spread
        if not any(group.layered for group in field.groups):
            return None
        if not self._felt(look) or self._fitted(look):
            return None
        size, tolerance = float(np.exp(look.log_force.max())), self.engine.rtol * spread
        self._dip = min(self._dip, size)
        if size <= tolerance:
            if climb(field.groups, field.x, look.residual) <= 1e-4 * spread:
                return None
            reason = self._reason_against() or self._reason_to_rest(
                look.state.y[: field.size], max(1e-6, 10.0 * self.engine.rtol)
            )
            if reason:
                raise Halt("unresolved", _unresolved(reason))
            return self._begin(look, tolerance)
        if self._dip < np.sqrt(self.engine.rtol) * spread and size > 2.0 * self._dip:
            # A part that grows at a rate has the force over that rate as its size.
            error = self.engine.rtol * self._growth(look) / self._dip
            if error > np.sqrt(self.engine.rtol):
                reason = self._reason_against()
                if not reason:
                    return self._begin(look, self._dip)
                self.notes.append(
                    "A saddle was left by parts of the weights that are known to a relative error "
                    f"of about {error:.1g} only: {reason}."
                )
            self._dip = np.inf
        return None

    def _growth(self, look: "Look") -> float:
        """The largest rate at which a part grows; a bound of it for large networks."""
        field = self.engine.field
        if field.size > DENSE:
            return field.spread
        y = look.state.y[: field.size]
        growth = np.linalg.eigvals(np.asarray(field.jacobian(y, field.alive, False)))
        return float(growth.real.max())

    def _felt(self, look: "Look") -> bool:
        size = float(np.abs(look.prediction).max(initial=0.0))
        return size > _FELT * self.engine.field.label_size

    def _log_loss(self, look: "Look") -> float:
        problem = self.engine.problem
        h = look.prediction.reshape(problem.prediction_shape)
        return float(problem.loss.log_value(h, problem.data.y))

    def _fitted(self, look: "Look") -> bool:
        return look.log_residual < self.engine.field.log_unit + np.log(_FITTED)

    def _reason_against(self) -> str:
        from ._digits import reason_against

        problem, field = self.engine.problem, self.engine.field
        reason = reason_against(problem)
        if not reason and (field.size > DENSE or field.size * len(field.x) > _LARGE // 3):
            reason = "the network, or the number of examples, is too large to be followed with more"
        return reason

    def _reason_to_rest(self, y: ndarray, noise: float = 0.0) -> str:
        """Why nothing is waited for at a point of rest; empty if some part grows out of it.

        Units that are nearly zero may be on or off to within `noise`: several choices are tried.
        """
        field, rng = self.engine.field, np.random.default_rng(20241130)
        for _ in range(_CHOICES if noise else 1):
            at = y + noise * rng.standard_normal(len(y))
            growth = np.linalg.eigvals(np.asarray(field.jacobian(at, field.alive, False)))
            if float(growth.real.max()) > _SLOWEST * field.spread:
                return ""
        return (
            "no part grows exponentially here, and growth by a power, over times like an inverse "
            "power of the initial scale, is out of reach"
        )

    # -- with many digits ------------------------------------------------------------------

    def _begin(self, look: "Look", force: float) -> DigitWindow | None:
        """Follow the flow again from its start to where the force is at most as large.

        Or to the last step before its loss is below that of the look: steps may pass the place.
        """
        from ._digit_steps import DigitSession
        from ._digits import Digits, bits_for

        engine, problem = self.engine, self.engine.problem
        bits = bits_for(problem)
        if self.digits is None:
            self.digits = Digits(problem, engine.field.log_unit, bits)
            self.notes.append(
                f"Weights are held with {bits} bits from the first saddle on that is left by parts "
                "of them below rounding."
            )
        y = self.digits.start(problem.initial)
        engine.restart()
        session = DigitSession(self.digits, y, self._share, engine.field.spread)
        slow = force * float(np.exp(look.log_residual - engine.field.log_unit))
        level = self._log_loss(look)
        there = engine.look(self.state(y, look.state.log_time, 0.0, session))
        try:
            for _ in range(_MOST):
                step, before = session.step(), there
                self._tell(step)
                there = engine.look(self.state(step.new, look.state.log_time, step.end, session))
                at = self._log_loss(there)
                if self._felt(there) and session.speed <= slow and at <= level + 0.01:
                    break
                if at < level:
                    there = before
                    break
            else:
                raise StepError("too many of them are needed with many digits")
        except StepError as error:
            raise Halt("limit", f"The steps could not go on: {error}.") from None
        engine.evaluations += session.take_count()
        self.session, self._steps = session, []
        return self.advance(there.state)

    def _tell(self, step: "DigitStep") -> None:
        """Say where the way with many digits is."""
        if self.engine.pulse is None:
            return
        assert self.digits is not None
        y = self.digits.vector(step.new)
        state = SmoothState(self.digits.log_time(step.new), y, False, self.engine.frame)
        there = self.engine.look(state)
        self.engine.pulse(there.state.log_time, self._log_loss(there))

    @property
    def _share(self) -> float:
        return max(0.1 * self.engine.rtol, 1e-13)

    def advance(self, state: SmoothState) -> DigitWindow | None:
        """A window from a state with many digits; None where floats do again.

        **Raises:** `Halt` at a point of rest that only parts below all digits could leave.
        """
        from ._digit_steps import DigitSession

        engine, spread = self.engine, self.engine.field.spread
        assert self.digits is not None and state.exact is not None
        numbers, session = state.exact
        if session is self.session:
            ahead = [step for step in self._steps if step.end > state.s + 1e-15 * abs(state.s)]
            if ahead:
                return DigitWindow(self, state, ahead)
        if self._fitted(engine.look(state)):
            return None
        if session is not self.session or state.s < session.s:
            session = DigitSession(self.digits, numbers, self._share, spread)
            self.session, self._steps = session, []
            state = self.state(numbers, state.log_time, 0.0, session)
        if session.speed < 2.0 ** (_ROUNDING - self.digits.bits):
            raise Halt("unresolved", _unresolved("all digits are used up"))
        if session.speed < engine.rtol * spread and session.speed < 1e-3 * self._checked:
            self._checked = session.speed
            reason = self._reason_to_rest(state.y)
            if reason:
                raise Halt("unresolved", _unresolved(reason))
        try:
            self._steps = [session.step() for _ in range(_STEPS)]
        except StepError as error:
            raise Halt("limit", f"The steps could not go on: {error}.") from None
        engine.evaluations += session.take_count()
        return DigitWindow(self, state, self._steps)

    def state(
        self, numbers: "Exact", log_time: float, s: float, session: "DigitSession"
    ) -> SmoothState:
        """A state in a session; its time is not before that of an earlier one."""
        assert self.digits is not None
        log_time = max(self.digits.log_time(numbers), log_time)
        return SmoothState(
            log_time,
            self.digits.vector(numbers),
            False,
            self.engine.frame,
            s=s,
            exact=(numbers, session),
        )


def _unresolved(reason: str) -> str:
    return (
        "The flow has come to rest at a saddle, or a local minimum, of a layered network to within "
        "the tolerance. If it leaves, then by parts of the weights that are smaller than the "
        f"tolerance times their matrices, which are not held: {reason}. When it leaves can't be "
        "told. A stop before (max_saddles, time, grad_norm) ends the run properly."
    )
