r"""Numbers that have fallen below rounding, and whether they decide which way the flow goes.

Examples that repel a squared-ReLU unit bring it to their hyperplanes, exponentially in time. A
unit that rests on several of these has numbers $w \cdot x_k$ that soon are below rounding beside
the unit itself. If such an example then attracts the unit, while nothing else moves the number, it
grows from however small it has become, $\dot z_k = (2 s r_k |x_k|^2 - g) z_k$ relative to a unit
that grows at the rate g; had it been negative, it would stay. Once it has grown by what is known of
it, nobody can tell whether and when the unit leaves.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from .._engine import Halt

if TYPE_CHECKING:
    from ._engine import Look

#: A number of a unit vector, relative to the example, that is rounding; of the tolerance.
_ROUNDING, _OF_TOLERANCE = 1e-12, 1e-4
#: Nothing else moves a number if that is below so many times its own motion: what it moves itself
#: moves it in turn.
_ALONE = 3.0
#: What grows at less than this part of the largest rate does not.
_SLOWEST = 1e-9
#: Units are felt if |w|^2 is more than e^-this of the largest.
_FELT = 100.0


class Sides:
    """Follows how much numbers below rounding would have grown.

    **Arguments:**

    - `rtol`: the tolerance.

    **Attributes:**

    - `rate`: the largest at which one of them grows now, in units of |r|.
    """

    def __init__(self, rtol: float) -> None:
        self.known = max(_ROUNDING, _OF_TOLERANCE * rtol)
        self.notes: list[str] = []
        self._grown: dict[tuple[int, int], float] = {}
        self._rates: dict[tuple[int, int], float] = {}
        self._time = 0.0

    def restart(self) -> None:
        """Forget the way here."""
        self._grown, self._rates, self._time = {}, {}, 0.0

    @property
    def rate(self) -> float:
        return max((r for pair, r in self._rates.items() if pair in self._grown), default=0.0)

    def grazes(self, v: ndarray, x: ndarray) -> bool:
        """Whether a number of rows v is rounding, or has been."""
        near = np.abs(v @ x.T) <= self.known * np.linalg.norm(x, axis=1)
        return bool(self._grown) or bool(near.any())

    def see(self, look: "Look") -> None:
        """Look at a state.

        **Raises:** `Halt` where a number has grown from below rounding.
        """
        frame, time = look.state.frame, look.state.time
        y = look.state.y[: frame.field.size]
        passed = (time - self._time) * float(np.exp(look.log_residual))
        before, self._grown, self._rates, self._time = self._grown, {}, {}, time
        for start, number, others, rate, told in frame.numbers(y, look.residual, look.forces):
            alone = np.abs(others) <= self.known
            for j, k in np.argwhere((np.abs(number) <= self.known) & alone & ~told).tolist():
                self._grown[start + j, k] = 0.0
                self._rates[start + j, k] = float(rate[j, k]) * frame.spread
            for block, k in before:
                j = block - start
                if not 0 <= j < len(number) or told[j, k]:
                    continue
                grown = max(before[block, k] + rate[j, k] * frame.spread * passed, 0.0)
                own = max(self.known, _ALONE * abs(rate[j, k] * number[j, k]))
                as_small = np.log(abs(number[j, k])) < np.log(2.0 * self.known) + grown
                if as_small and abs(others[j, k]) <= own:
                    self._grown[block, k] = grown
                    self._rates[block, k] = float(rate[j, k]) * frame.spread
        for pair in [pair for pair, grown in self._grown.items() if grown > -np.log(self.known)]:
            self._tell(look, *pair)
            del self._grown[pair]

    def rest(self, look: "Look", log_time: float) -> None:
        """At a state where nothing moves until a time.

        **Raises:** `Halt` where a number would have grown by then.
        """
        left = np.inf if log_time > 700.0 else float(np.exp(log_time)) - look.state.time
        least = _SLOWEST * look.state.frame.spread
        for pair, grown in self._grown.items():
            rate = self._rates[pair]
            growth = rate * float(np.exp(look.log_residual)) * left if rate > least else 0.0
            if grown + growth > -np.log(self.known):
                self._tell(look, *pair)

    def _tell(self, look: "Look", block: int, example: int) -> None:
        lies = f"Unit {block} lay on the hyperplane of example {example} to rounding"
        size = look.state.frame.field.order * look.log_norm
        if size[block] > size[look.state.frame.field.alive].max() - _FELT:
            raise Halt(
                "unresolved",
                f"{lies}, from which it leaves on one side and not on the other. When it leaves, "
                "if it does, can't be told; `polarflow saddles` may tell it in the limit.",
            )
        note = (
            f"{lies} while it was small: what becomes of it depends on the side, and isn't known."
        )
        if note not in self.notes:
            self.notes.append(note)
