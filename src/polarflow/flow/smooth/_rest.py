r"""Parts of units that their active examples don't see: what is left keeps its digits.

On given sides of the bends a squared-ReLU unit moves in the span of its active examples,
$\dot w = 2 s \sum_k r_k (w \cdot x_k) x_k$: the part of w orthogonal to them never changes, and the
network sees nothing of it while inactive examples stay inactive. That part is put aside as the
*rest* of the unit, a constant, where it and what moves differ in size by so much that one would be
lost in the other:

- *Large* rests. Examples that repel a unit make what moves small beside the rest, exponentially in
  time; if their residuals then change their signs, it returns from however small it has become,
  and its size tells when it is seen again.
- *Small* rests. Examples that attract a unit make the rest small beside what moves; if they repel
  it later, the rest tells when and where the unit leaves them.

What moves is followed with a logarithm of its norm. Of the rest the equations need the numbers
$w \cdot x_k$ for examples to which it is not orthogonal, to know when they become active. Those of
a large rest are the unit's; before what moves is as large, its part in the direction which is new
to the span goes back. A small rest is added to what moves; where that is orthogonal to an example,
the rest alone tells the side.

Large rests are those of units, small ones those of the first columns of tight bundles.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy import ndarray

from ...networks._blocks import Part

#: A rest is put aside once what moves is smaller than this part of the unit, or the rest of what
#: moves; it goes back when the smaller has this part of the other's size.
_SMALL, _LARGE = 0.01, 0.1
#: An example whose number is less than what moves could add to it by this factor is seen.
_NEAR = 0.03
#: A vector with less than this outside a span is in it; less than this inside isn't known.
_INSIDE, _KNOWN = 1e-12, 1e-13
#: What is added to a column is felt from this part of it on.
_FELT = 1e-17


@dataclass(frozen=True, eq=False)
class Rest:
    """What doesn't move of the units of a group.

    **Attributes:**

    - `log_norm`: of the rest of each row, -inf where nothing is put aside, shape `(m,)`.
    - `unit`: its direction, shape `(m, p)`.
    - `log_number`, `sign`: of the numbers of the examples, shape `(m, n)`, -inf where it is
      orthogonal to them.
    - `log_part`: of its part in the direction in which an example leaves the span of those.
    - `large`: whether it is larger than what moves, shape `(m,)`: then the row is a unit's, else a
      column's.
    - `still`: the signs of numbers that what moves doesn't tell, 0 where it does, `(m, n)`.
    """

    log_norm: ndarray
    unit: ndarray
    log_number: ndarray
    sign: ndarray
    log_part: ndarray
    large: ndarray
    still: ndarray

    @classmethod
    def none(cls, m: int, n: int, p: int) -> "Rest":
        """Nothing is put aside."""
        nothing = np.full((m, n), -np.inf)
        return cls(
            np.full(m, -np.inf),
            np.zeros((m, p)),
            nothing,
            np.ones((m, n)),
            nothing.copy(),
            np.zeros(m, bool),
            np.zeros((m, n)),
        )

    @property
    def some(self) -> ndarray:
        """The rows of which something is put aside, shape `(m,)`."""
        found: ndarray = np.isfinite(self.log_norm)
        return found

    @property
    def little(self) -> ndarray:
        """The rows of which something is put aside that is small, shape `(m,)`."""
        found: ndarray = self.some & ~self.large
        return found

    def sides(self, z: ndarray, rho: ndarray, row: ndarray) -> ndarray:
        """Whether numbers are positive that are e^rho z without the rests of rows, `(m, n)`."""
        with np.errstate(over="ignore", under="ignore"):
            level = np.where(np.isfinite(rho), rho, 0.0)[:, None]
            beside = np.exp(np.minimum(self.log_number[row] - level, 700.0))
        still = self.still[row]
        found: ndarray = np.where(still != 0.0, still, z + self.sign[row] * beside) > 0.0
        return found

    def span(self, rows: ndarray, x: ndarray) -> ndarray:
        """An orthonormal basis of where rows move of which something is put aside, `(k, p)`."""
        return span_of(x[(~np.isfinite(self.log_number[rows])).any(axis=0)])

    def taken(self, rho: ndarray, side: ndarray, x: ndarray) -> ndarray:
        """In the direction of which examples rows e^rho have become as large as their rests.

        Those that are active now among them; shape `(m, n)`.
        """
        rho, level = rho[:, None], np.log(_LARGE)
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = rho + np.log(np.linalg.norm(x, axis=1))
            met = np.where(
                self.large[:, None],
                reach > self.log_number + level,
                rho < self.log_norm[:, None] - level,
            )
        found: ndarray = np.isfinite(self.log_number) & (side | met)
        return found

    def take_back(
        self, taken: ndarray, rho: ndarray, v: ndarray, alive: ndarray, x: ndarray
    ) -> None:
        """Give rows e^rho v what those examples see of their rests, in place.

        Rows with large rests stand alone. `alive` tells which of them aren't zero.
        """
        moved = taken.any(axis=1)
        rho[moved & ~alive], alive[moved] = -np.inf, True
        before = rho.copy()
        for j, k in np.argwhere(taken).tolist():
            seen = np.isfinite(self.log_number[j])
            if not seen[k]:
                continue
            basis = span_of(x[~seen])
            ratio = before[j] - self.log_norm[j]
            near = ratio > np.log(_LARGE) if self.large[j] else -ratio > np.log(_LARGE)
            if near or len(basis) + 1 == x.shape[1]:
                self.give_back(j, rho, v)
                continue
            fresh = x[k] - basis.T @ (basis @ x[k])
            fresh *= self.sign[j, k] / np.linalg.norm(fresh)
            log_part = self.log_part[j, k]
            rho[j], v[j] = _added(rho[j], v[j], log_part, fresh)
            self._add(j, log_part, -fresh, x)
            self.log_number[j, k] = -np.inf
            self._weigh(j, x)

    def give_back(self, row: int, rho: ndarray, v: ndarray) -> None:
        """Give a row e^rho v all of its rest, in place."""
        rho[row], v[row] = _added(rho[row], v[row], self.log_norm[row], self.unit[row])
        self._clear(row)

    @staticmethod
    def leaves_large(v: ndarray, side: ndarray, x: ndarray, slack: float = 1.0) -> float | None:
        """The part of a unit that its active examples see, if it is small enough; None else."""
        size = np.maximum(np.linalg.norm(x, axis=1), 1e-300)
        most = np.where(side, np.abs(x @ v) / size, 0.0).max(initial=0.0)
        if not side.any() or most >= _SMALL / slack:
            return None
        seen = seen_part(v, x[seen_of(v[None], side, x)])
        return seen if seen < _SMALL / slack else None

    @staticmethod
    def leaves_small(v: ndarray, basis: ndarray, slack: float = 1.0) -> float | None:
        """The part of a unit outside the span of its active examples, if it is small; None else."""
        if not 0 < len(basis) < len(v):
            return None
        unseen = float(np.linalg.norm(v - basis.T @ (basis @ v)))
        return unseen if unseen < _SMALL / slack else None

    @staticmethod
    def known(part: float | None) -> bool:
        """Whether there is such a part, and more than rounding of it."""
        return part is not None and part > _KNOWN

    def put_aside(
        self, rows: ndarray, mix: ndarray, part: Part, alive: ndarray, x: ndarray, side: ndarray
    ) -> None:
        """Take from the columns of a bundle what its examples don't see, in place.

        `rows` are those of the bundle, `mix` its mixture, `alive` tells which columns aren't zero.
        """
        (rho, v), living = part, rows[alive[rows]]
        top = rho[living].max(initial=-np.inf)
        units = mix[:, alive[rows]] @ (np.exp(rho[living] - top)[:, None] * v[living])
        basis = span_of(x[seen_of(units, side, x)])
        if len(basis) == x.shape[1]:
            return
        self.large[rows] = True
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

    def put_little_aside(self, row: int, part: Part, x: ndarray, side: ndarray) -> None:
        """Take from a column what its active examples don't see, in place."""
        basis, (rho, v) = span_of(x[side]), part
        moves = basis.T @ (basis @ v[row])
        still = v[row] - moves
        # Once more, since what is small is left with rounding of what moves.
        still = still - basis.T @ (basis @ still)
        self.keep_little(row, rho[row], still, x)
        size = float(np.linalg.norm(moves))
        rho[row], v[row] = rho[row] + np.log(size), moves / size

    def keep_little(self, row: int, log_scale: float, vector: ndarray, x: ndarray) -> None:
        """Add e^log_scale times a vector to the small rest of a column."""
        self.large[row] = False
        self._add(row, log_scale, vector, x)
        self._weigh(row, x)

    def torn(self, first: int, share: ndarray, x: ndarray) -> None:
        """Give the first columns of the parts of a bundle their shares of its small rest."""
        log_norm, unit = float(self.log_norm[first]), self.unit[first].copy()
        self._clear(first)
        for row in np.flatnonzero(share):
            self.keep_little(int(row), log_norm, share[row] * unit, x)

    def turned(
        self,
        rows: ndarray,
        turn: ndarray,
        first: int,
        part: Part,
        alive: ndarray,
        x: ndarray,
    ) -> bool:
        """Small rests of columns that have been turned by an orthogonal matrix, in place.

        That of the first column is kept, those of others are added to them. Returns whether one has
        changed by that.
        """
        little = [i for i, row in enumerate(rows) if self.little[row]]
        old = [(turn[i], self.log_norm[rows[i]], self.unit[rows[i]].copy()) for i in little]
        for i in little:
            self._clear(int(rows[i]))
        (rho, v), changed = part, False
        for c, row in enumerate(rows.tolist()):
            total: tuple[float, ndarray] = -np.inf, np.zeros(x.shape[1])
            for share, log_norm, unit in old:
                if share[c] != 0.0:
                    total = _added(*total, log_norm, share[c] * unit)
            if not np.isfinite(total[0]):
                continue
            if row == first:
                self.keep_little(row, *total, x)
            elif not alive[row] or total[0] > rho[row] + np.log(_FELT):
                rho[row], v[row] = _added(rho[row] if alive[row] else -np.inf, v[row], *total)
                alive[row] = changed = True
        return changed

    def confined(self, rows: ndarray, part: Part, alive: ndarray, x: ndarray) -> None:
        """Keep columns of a bundle in the span in which its units move, in place.

        There are at most as many columns as that has dimensions.
        """
        if not self.large[rows].all():
            return
        (rho, v), basis = part, self.span(rows, x)
        living = sorted(rows[alive[rows]].tolist(), key=lambda row: -rho[row])
        for i, row in enumerate(living):
            inside = basis.T @ (basis @ v[row])
            size = float(np.linalg.norm(inside))
            if i >= len(basis) or size < _KNOWN:
                alive[row], rho[row], v[row] = False, 0.0, np.eye(1, x.shape[1])[0]
            else:
                rho[row], v[row] = rho[row] + np.log(size), inside / size

    def flip(self, row: int) -> None:
        """Of a column that is taken with the other sign."""
        for each in (self.unit, self.sign, self.still):
            each[row] = -each[row]

    def copy(self) -> "Rest":
        """One that may be changed."""
        return Rest(*(getattr(self, each.name).copy() for each in fields(self)))

    def _clear(self, row: int) -> None:
        self.log_norm[row], self.unit[row], self.large[row] = -np.inf, 0.0, False
        self.log_number[row] = self.log_part[row] = -np.inf
        self.sign[row], self.still[row] = 1.0, 0.0

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
        blind = np.linalg.norm(x @ basis.T, axis=1) <= _INSIDE * np.linalg.norm(x, axis=1)
        self.still[j] = np.where(seen & (self.large[j] | blind), self.sign[j], 0.0)


def _added(log_a: float, a: ndarray, log_b: float, b: ndarray) -> tuple[float, ndarray]:
    """The logarithm of the norm, and the direction, of e^log_a a + e^log_b b."""
    top = max(log_a, log_b)
    with np.errstate(under="ignore"):
        total = np.exp(log_a - top) * a + np.exp(log_b - top) * b
    size = float(np.linalg.norm(total))
    if size == 0.0:
        return -np.inf, np.zeros_like(a)
    return top + float(np.log(size)), total / size


def seen_of(units: ndarray, side: ndarray, x: ndarray) -> ndarray:
    """Active examples, and those whose numbers what moves of units `(m, p)` may soon change."""
    seen, size = side.copy(), np.linalg.norm(x, axis=1)
    while not seen.all():
        basis = span_of(x[seen])
        moves = units @ basis.T
        numbers = np.abs((units - moves @ basis) @ x.T)
        reach = np.linalg.norm(moves, axis=1)[:, None] * size
        near = (_NEAR * numbers < reach).any(axis=0) & ~seen
        near &= np.linalg.norm(x - (x @ basis.T) @ basis, axis=1) > _INSIDE * size
        if not near.any():
            break
        seen |= near
    return seen


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
