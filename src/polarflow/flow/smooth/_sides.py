r"""Numbers that have fallen below rounding, and whether they decide which way the flow goes.

Examples that repel a squared-ReLU unit bring it to their hyperplanes, exponentially in time. A
unit that rests on several of these has numbers $w \cdot x_k$ that soon are below rounding beside
the unit itself. If such an example then attracts the unit, while nothing else moves the number, it
grows from however small it has become, had it been positive, and else stays. Several such numbers
$z_K$ of one unit obey $\dot z_k = \sum_{i \in K, z_i > 0} 2 s r_i (x_i \cdot x_k) z_i$: some may
grow if for some set of positive ones there is an eigenvector with just these signs, at its
eigenvalue, beside the rate at which the unit itself grows. Once they may have grown by what is
known of them, nobody can tell whether and when the unit leaves.
"""

from itertools import product
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
#: The most numbers of a unit of which all sets of signs are tried, and how exactly these must be.
_SETS, _CONSISTENT = 8, 1e-9
#: Numbers of less than so many times that move with those below rounding.
_BESIDE = 1e4
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
        self._grown: dict[int, float] = {}
        self._rates: dict[int, float] = {}
        self._example: dict[int, int] = {}
        self._time = 0.0

    def restart(self) -> None:
        """Forget the way here."""
        self._grown, self._rates, self._time = {}, {}, 0.0

    @property
    def rate(self) -> float:
        return max((r for block, r in self._rates.items() if block in self._grown), default=0.0)

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
        size = np.linalg.norm(frame.field.x, axis=1, keepdims=True)
        x = frame.field.x / np.where(size > 0.0, size, 1.0)
        for start, number, drift, pull, along, told in frame.numbers(y, look.residual, look.forces):
            near = ((np.abs(number) <= self.known) & ~told).any(axis=1)
            for j in range(len(number)):
                grown = before.get(start + j, 0.0)
                if not (near[j] or start + j in before):
                    continue
                least = 2.0 * self.known * np.exp(grown)
                lost = np.flatnonzero((np.abs(number[j]) <= _BESIDE * least) & ~told[j])
                # A number that is exactly zero has been so from the beginning, and stays.
                small = np.abs(number[j, lost]) <= least
                if not (small & (number[j, lost] != 0.0)).any():
                    continue
                cosine, share = x[lost] @ x[lost].T, pull[j, lost]
                own = cosine @ (share * np.maximum(number[j, lost], 0.0))
                moved = np.abs(drift[j, lost] - own)
                keep = moved <= max(self.known, _ALONE * float(np.abs(own).max(initial=0.0)))
                if not keep.any():
                    continue
                lost, share = lost[keep], share[keep]
                rate = (_growth(x[lost], share) - along[j]) * frame.spread
                self._grown[start + j] = max(grown + rate * passed, 0.0)
                self._rates[start + j] = rate
                self._example[start + j] = int(lost[np.argmax(share)])
        for block in [block for block, grown in self._grown.items() if self._is_out(grown)]:
            self._tell(look, block)
            del self._grown[block]

    def _is_out(self, grown: float) -> bool:
        return grown > -float(np.log(self.known))

    def rest(self, look: "Look", log_time: float) -> None:
        """At a state where nothing moves until a time.

        **Raises:** `Halt` where a number would have grown by then.
        """
        left = np.inf if log_time > 700.0 else float(np.exp(log_time)) - look.state.time
        least = _SLOWEST * look.state.frame.spread
        for block, grown in self._grown.items():
            rate = self._rates[block]
            growth = rate * float(np.exp(look.log_residual)) * left if rate > least else 0.0
            if self._is_out(grown + growth):
                self._tell(look, block)

    def _tell(self, look: "Look", block: int) -> None:
        lies = f"Unit {block} lay on the hyperplane of example {self._example[block]} to rounding"
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


def _growth(x: ndarray, share: ndarray) -> float:
    """The largest rate at which numbers of unit vectors `(k, p)` grow; 0 if none does.

    `share` is what an example does per number, `(k,)`.
    """
    if not (share > 0.0).any():
        return 0.0
    if len(x) > _SETS:
        return float(share.max())
    largest = 0.0
    for positive in product((False, True), repeat=len(x)):
        on = np.array(positive)
        if not (share[on] > 0.0).any():
            continue
        values, vectors = np.linalg.eigh((x[on].T * share[on]) @ x[on])
        for value, vector in zip(values, vectors.T, strict=True):
            z = x @ vector
            z = z if z[on].sum() > 0.0 else -z
            if value > largest and (z[on] > -_CONSISTENT).all() and (z[~on] < _CONSISTENT).all():
                largest = float(value)
    return largest
