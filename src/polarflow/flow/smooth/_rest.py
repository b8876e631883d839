r"""Units that come to the hyperplanes of all their active examples: what is left keeps its digits.

On given sides of the bends a squared-ReLU unit moves in the span of its active examples,
$\dot w = 2 s \sum_k r_k (w \cdot x_k) x_k$: the part of w orthogonal to them never changes, and the
network sees nothing of it while inactive examples stay inactive. Examples that repel a unit make
the rest of it small beside that, exponentially in time; if their residuals then change their
signs, it returns from however small it has become, and its size tells when it is seen again.

What is followed of such a unit is what moves, with a logarithm of its norm; what doesn't is its
*rest*, a constant. Of this the equations need the numbers $w \cdot x_k$ for examples to which it is
not orthogonal, to know when they become active. Before that its part in the direction which is
new to the span goes back: that is as small as what moves is then, and known from that number.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy import ndarray

from ...networks._blocks import Part, part_of

#: A unit's rest is put aside once what moves is smaller than this part of the unit; it, or its part
#: in a direction, goes back when what moves has this part of its size.
_SMALL, _LARGE = 0.01, 0.1
#: A vector with less than this outside a span is in it; less than this inside isn't known.
_INSIDE, _KNOWN = 1e-12, 1e-13


@dataclass(frozen=True, eq=False)
class Rest:
    """What doesn't move of the units of a group.

    **Attributes:**

    - `log_norm`: of the rest of each unit, -inf where nothing is put aside, shape `(m,)`.
    - `unit`: its direction, shape `(m, p)`.
    - `log_number`, `sign`: of the numbers of the examples, shape `(m, n)`, -inf where it is
      orthogonal to them.
    - `log_part`: of its part in the direction in which an example leaves the span of those.
    """

    log_norm: ndarray
    unit: ndarray
    log_number: ndarray
    sign: ndarray
    log_part: ndarray

    @classmethod
    def none(cls, m: int, n: int, p: int) -> "Rest":
        """Nothing is put aside."""
        nothing = np.full((m, n), -np.inf)
        return cls(np.full(m, -np.inf), np.zeros((m, p)), nothing, np.ones((m, n)), nothing.copy())

    @property
    def some(self) -> ndarray:
        """The units of which something is put aside, shape `(m,)`."""
        found: ndarray = np.isfinite(self.log_norm)
        return found

    def whole(self, part: Part) -> Part:
        """Units from what moves of them."""
        rho, v = part
        top = np.maximum(rho, self.log_norm)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore"):
            moving, still = np.exp(rho - top), np.exp(self.log_norm - top)
        log_norm, unit = part_of(moving[:, None] * v + still[:, None] * self.unit)
        some = self.some
        return np.where(some, log_norm + top, rho), np.where(some[:, None], unit, v)

    def sides(self, part: Part, x: ndarray) -> ndarray:
        """Whether the units' numbers are positive, shape `(m, n)`."""
        rho, v = part
        with np.errstate(over="ignore", under="ignore"):
            level = np.where(np.isfinite(rho), rho, 0.0)[:, None]
            beside = np.exp(np.minimum(self.log_number - level, 700.0))
        found: ndarray = v @ x.T + self.sign * beside > 0.0
        return found

    def projection(self, rows: ndarray, x: ndarray) -> ndarray:
        """On the span in which units move of all of which something is put aside, `(p, p)`."""
        if not self.some[rows].all():
            return np.eye(x.shape[1])
        basis = span_of(x[(~np.isfinite(self.log_number[rows])).any(axis=0)])
        found: ndarray = basis.T @ basis
        return found

    def taken(self, rho: ndarray, side: ndarray) -> ndarray:
        """In the direction of which examples units e^rho have become as large as their rests.

        Those that are active now among them; shape `(m, n)`.
        """
        least = np.minimum(self.log_norm[:, None], self.log_part) + np.log(_LARGE)
        found: ndarray = np.isfinite(self.log_number) & (side | (rho[:, None] > least))
        return found

    def take_back(
        self, taken: ndarray, rho: ndarray, v: ndarray, alive: ndarray, x: ndarray
    ) -> None:
        """Give units e^rho v that stand alone what those examples see of their rests, in place.

        `alive` tells which of them aren't zero.
        """
        moved = taken.any(axis=1)
        rho[moved & ~alive], alive[moved] = -np.inf, True
        before = rho.copy()
        for j, k in np.argwhere(taken).tolist():
            seen = np.isfinite(self.log_number[j])
            if not seen[k]:
                continue
            basis = span_of(x[~seen])
            if before[j] > self.log_norm[j] + np.log(_LARGE) or len(basis) + 1 == x.shape[1]:
                rho[j], v[j] = _added(rho[j], v[j], self.log_norm[j], self.unit[j])
                self.log_norm[j], self.unit[j] = -np.inf, 0.0
                self.log_number[j] = self.log_part[j] = -np.inf
                continue
            fresh = x[k] - basis.T @ (basis @ x[k])
            fresh *= self.sign[j, k] / np.linalg.norm(fresh)
            log_part = self.log_part[j, k]
            rho[j], v[j] = _added(rho[j], v[j], log_part, fresh)
            self._add(j, log_part, -fresh, x)
            self.log_number[j, k] = -np.inf
            self._weigh(j, x)

    @staticmethod
    def small(v: ndarray, side: ndarray, x: ndarray, slack: float = 1.0) -> ndarray:
        """Of which units the active examples see little, but something, shape `(m,)`."""
        size = np.maximum(np.linalg.norm(x, axis=1), 1e-300)
        most = np.where(side, np.abs(v @ x.T) / size, 0.0).max(axis=1, initial=0.0)
        found = side.any(axis=1) & (most < _SMALL / slack)
        for j in np.flatnonzero(found):
            found[j] = _KNOWN < seen_part(v[j], x[side[j]]) < _SMALL / slack
        return found

    def put_aside(
        self, rows: ndarray, mix: ndarray, part: Part, alive: ndarray, x: ndarray, side: ndarray
    ) -> None:
        """Take from the columns of a bundle what its active examples don't see, in place.

        `rows` are those of the bundle, `mix` its mixture, `alive` tells which columns aren't zero.
        """
        basis, (rho, v) = span_of(x[side]), part
        for c, column in enumerate(rows.tolist()):
            if not alive[column]:
                continue
            moves = basis.T @ (basis @ v[column])
            for j, share in zip(rows.tolist(), mix[:, c], strict=True):
                if share != 0.0:
                    self._add(j, rho[column], share * (v[column] - moves), x)
                    self._weigh(j, x)
            size = float(np.linalg.norm(moves))
            if size < _KNOWN:
                alive[column], rho[column], v[column] = False, 0.0, np.eye(1, x.shape[1])[0]
                continue
            rho[column], v[column] = rho[column] + np.log(size), moves / size

    def copy(self) -> "Rest":
        """One that may be changed."""
        return Rest(*(getattr(self, each.name).copy() for each in fields(self)))

    def _add(self, j: int, log_scale: float, vector: ndarray, x: ndarray) -> None:
        """Add e^log_scale times a vector to a unit's rest."""
        numbers = x @ vector
        zero = np.abs(numbers) <= _INSIDE * np.linalg.norm(vector) * np.linalg.norm(x, axis=1)
        self.log_norm[j], self.unit[j] = _added(self.log_norm[j], self.unit[j], log_scale, vector)
        for k in np.flatnonzero(~zero):
            self.log_number[j, k], self.sign[j, k : k + 1] = _added(
                self.log_number[j, k], self.sign[j, k : k + 1], log_scale, numbers[k : k + 1]
            )

    def _weigh(self, j: int, x: ndarray) -> None:
        """Find the parts of a unit's rest in the directions of the examples.

        An example in the span of those to which it is orthogonal is one of them, whatever rounding
        has left of its number.
        """
        basis = span_of(x[~np.isfinite(self.log_number[j])])
        fresh = np.linalg.norm(x - (x @ basis.T) @ basis, axis=1)
        self.log_number[j, fresh <= _INSIDE * np.linalg.norm(x, axis=1)] = -np.inf
        seen = np.isfinite(self.log_number[j])
        log_fresh = np.log(np.where(seen, fresh, 1.0))
        self.log_part[j] = np.where(seen, self.log_number[j] - log_fresh, -np.inf)


def _added(log_a: float, a: ndarray, log_b: float, b: ndarray) -> tuple[float, ndarray]:
    """The logarithm of the norm, and the direction, of e^log_a a + e^log_b b."""
    top = max(log_a, log_b)
    with np.errstate(under="ignore"):
        total = np.exp(log_a - top) * a + np.exp(log_b - top) * b
    size = float(np.linalg.norm(total))
    if size == 0.0:
        return -np.inf, np.zeros_like(a)
    return top + float(np.log(size)), total / size


def seen_part(v: ndarray, x: ndarray) -> float:
    """The size of the part of a vector in the span of examples `(k, d)`."""
    return float(np.linalg.norm(span_of(x) @ v))


def span_of(rows: ndarray) -> ndarray:
    """An orthonormal basis of the span of vectors, as rows."""
    if not len(rows):
        return np.zeros((0, rows.shape[1]))
    _, sizes, basis = np.linalg.svd(
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300),
        full_matrices=False,
    )
    found: ndarray = basis[sizes > _INSIDE * sizes.max(initial=0.0)]
    return found
