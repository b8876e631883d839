"""How columns make up blocks: see `_bundles.py`."""

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

from ...networks._blocks import Group, Part, part_of
from ._bundles import Bundles
from ._rest import Rest

#: What an error of a hidden column, relative to itself, counts, and one of another in a tight
#: bundle: that which is left of it in the blocks is far smaller still.
_OF_HIDDEN, _OF_SMALL = 1e-3, 1e-2
#: What is added to a column at a bend is left out below this part of it.
_NEGLIGIBLE = 1e-6
#: A block that has less of the first column isn't looked at there.
_FELT = 1e-12
#: What remains of a column beside others is zero to rounding.
_NOTHING = 1e-13
#: What a rest adds to a number of a unit vector, if that isn't rounding.
_TOLD = 1e-13
_SWEEPS = 30


@dataclass(frozen=True, eq=False)
class Mixture:
    """How columns make up the blocks of a group: W = (W Q) Q^T.

    **Attributes:**

    - `mix`: Q, shape `(m, m)`, zero between bundles.
    - `lead`: the row of the first column of each row's bundle.
    - `alive`: the columns that are not zero.
    - `tight`: the rows of tight bundles.
    - `under`: column c is hidden beside b.
    - `rest`: what doesn't move of the blocks, and is no part of the columns.
    """

    mix: ndarray
    lead: ndarray
    alive: ndarray
    tight: ndarray
    under: ndarray
    rest: Rest

    @classmethod
    def none(cls, alive: ndarray, n: int, p: int) -> "Mixture":
        """Blocks that stand alone, of size p, with n examples."""
        m = len(alive)
        under = np.zeros((m, m), bool)
        return cls(np.eye(m), np.arange(m), alive, np.ones(m, bool), under, Rest.none(m, n, p))

    @property
    def trivial(self) -> bool:
        """Whether all blocks stand alone."""
        return bool((self.lead == np.arange(len(self.lead))).all())

    def equations(self, group: Group, hold: float, x: ndarray) -> Bundles:
        """The same, as the equations take it."""
        m = len(self.lead)
        first = np.zeros((m, m))
        first[np.arange(m), self.lead] = 1.0
        watch = np.where(self.tight[:, None], first, self.mix * self.alive)
        follows = self.tight & (self.lead != np.arange(m))
        weight = np.where(self.under.any(axis=1), _OF_HIDDEN, np.where(follows, _OF_SMALL, 1.0))
        frail = np.zeros(m, bool)
        if group.size > 2:
            for first in np.unique(self.lead[self.alive & follows]):
                frail[self.lead == first] = True
        row, still = self._numbered, self.rest.still
        rest = replace(
            self.rest,
            log_number=np.where(still != 0.0, -np.inf, self.rest.log_number)[row],
            sign=self.rest.sign[row],
            still=still[row],
        )
        span = np.tile(np.eye(group.size), (m, 1, 1))
        for r in np.flatnonzero(self.rest.little):
            basis = self.rest.span(np.array([r]), x)
            span[r] = basis.T @ basis
        for first in np.unique(self.lead):
            rows = np.flatnonzero(self.lead == first)
            if self.rest.large[rows].all():
                basis = self.rest.span(rows, x)
                span[rows] = basis.T @ basis
        span[~self.alive] = np.eye(group.size)
        return Bundles.of(watch, self.lead, self.under, group, hold, weight, frail, rest, span)

    @property
    def _numbered(self) -> ndarray:
        """The row whose rest the numbers of each block have: a tight bundle's are its first's."""
        own = np.arange(len(self.lead))
        return np.where(self.rest.large | ~self.tight, own, self.lead)

    def taken(self, part: Part, side: ndarray, x: ndarray) -> ndarray:
        """Of which rows examples take rests back, shape `(m, n)`."""
        rho = np.where(self.rest.large, self.moving(part)[0], part[0])
        return self.rest.taken(rho, side, x)

    def blocks(self, part: Part) -> Part:
        """The blocks that columns and rests make up."""
        rho, v = self.moving(part)
        log_norm, unit = self._still
        top = np.maximum(rho, log_norm)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore"):
            moving, still = np.exp(rho - top), np.exp(log_norm - top)
        whole, direction = part_of(moving[:, None] * v + still[:, None] * unit)
        some = np.isfinite(log_norm)
        return np.where(some, whole + top, rho), np.where(some[:, None], direction, v)

    @property
    def _still(self) -> Part:
        """The rests of the blocks."""
        rest, rows = self.rest, np.arange(len(self.lead))
        row = np.where(rest.large, rows, self.lead)
        share = np.where(rest.large, 1.0, np.where(rest.little[row], self.mix[rows, row], 0.0))
        with np.errstate(divide="ignore"):
            log_norm = np.where(share != 0.0, rest.log_norm[row] + np.log(np.abs(share)), -np.inf)
        return log_norm, np.sign(share)[:, None] * rest.unit[row]

    def moving(self, part: Part) -> Part:
        """What columns make up of the blocks."""
        if self.trivial:
            return part
        share = self._share(part[0])
        log_norm, unit = part_of(share @ part[1])
        single = np.bincount(self.lead, minlength=len(self.lead))[self.lead] == 1
        top = part[0][self.lead]
        return (
            np.where(single, part[0], log_norm + np.where(np.isfinite(top), top, 0.0)),
            np.where(single[:, None], part[1], unit),
        )

    def sides(self, part: Part, x: ndarray) -> ndarray:
        """The sides of the blocks' numbers, those of the first column in tight bundles."""
        rho, v = self.moving(part)
        first = part[0][self.lead]
        v = np.where(self.tight[:, None], part[1][self.lead], v)
        return self.rest.sides(v @ x.T, np.where(self.tight, first, rho), self._numbered)

    def forces(self, part: Part, force: ndarray) -> ndarray:
        """The forces on the blocks, at their directions, from those on columns."""
        if self.trivial and not self.rest.some.any():
            return force
        rho = self.blocks(part)[0]
        top = part[0][self.lead]
        with np.errstate(invalid="ignore"):
            scale = np.exp(np.where(np.isfinite(rho) & np.isfinite(top), top - rho, 0.0))
        return scale[:, None] * (self._share(part[0]) @ force)

    def _margins(self, part: Part, first: int, x: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """A bundle's rows, and its blocks' numbers: of the first column, of the others `(q, n)`."""
        rho, v = part
        rows = np.flatnonzero(self.lead == first)
        others = rows[self.alive[rows] & (rows != first)]
        mix = self.mix[np.ix_(rows, others)]
        rest = mix @ (np.exp(rho[others] - rho[first])[:, None] * (v[others] @ x.T))
        return rows, self.mix[rows, first][:, None] * (v[first] @ x.T), rest

    def apart(self, part: Part, first: int, x: ndarray, share: float) -> ndarray:
        """Where blocks' numbers differ from the first column's by a share of it, `(q, n)`."""
        _, large, small = self._margins(part, first, x)
        found: ndarray = np.abs(small) > share * np.abs(large)
        rows = self.lead == first
        found &= self.rest.still[rows] == 0.0
        return found & (np.abs(self.mix[rows, first]) > _FELT)[:, None]

    def quick(self, part: Part, first: int, x: ndarray, force: ndarray, time: float) -> ndarray:
        """Where the first column passes that difference in less than a time, in units of 1/|r|."""
        rows, _, small = self._margins(part, first, x)
        speed = np.abs(self.mix[rows, first])[:, None] * np.abs(x @ force[first])
        found: ndarray = np.abs(small) < time * speed
        return found

    def bent(
        self,
        part: Part,
        group: Group,
        x: ndarray,
        crossed: ndarray,
        residual: ndarray,
        force: ndarray,
    ) -> tuple[Part, set[int]]:
        """Columns of tight bundles after their blocks crossed bends, and the leaders of those.

        `crossed`, `(m, n)`, tells which of the leader's numbers have just changed their sides; the
        residual `(n, C)` and the forces on columns are in units of |r|.
        """
        rho, v, moved = part[0].copy(), part[1].copy(), set()
        for first, k in np.argwhere(crossed & (self.lead == np.arange(len(rho)))[:, None]):
            rows = np.flatnonzero(self.lead == first)
            others = rows[self.alive[rows] & (rows != first)]
            if not len(others) or not self.tight[first]:
                continue
            if (self.rest.still[rows, k] != 0.0).any():
                continue
            top = float(rho[others].max())
            mix = self.mix[np.ix_(rows, others)]
            behind = mix @ (np.exp(rho[others] - top) * (v[others] @ x[k]))
            speed = self.mix[rows, first] * (force[first] @ x[k])
            felt = np.abs(speed) > _FELT * np.linalg.norm(x[k]) * np.linalg.norm(force[first])
            square = np.where(felt, behind**2 / np.where(felt, np.abs(speed), 1.0), 0.0)
            pull = float(group.constants[first, 0] * residual[k, 0])
            share = pull * (self.mix[np.ix_(rows, rows)].T @ square)
            size = 2.0 * top - rho[first]
            with np.errstate(divide="ignore"):
                added = np.where(rows == first, -np.inf, size + np.log(np.abs(share)))
            # In a bundle of full rank what is added to a zero column goes to the others.
            full = len(others) + 1 >= v.shape[1]
            least = float(rho[others].min()) if full else -np.inf
            if not (added > np.maximum(rho[rows], least) + np.log(_NEGLIGIBLE)).any():
                continue
            moved.add(int(first))
            for c, add, log_add in zip(rows, np.sign(share), added, strict=True):
                if not np.isfinite(log_add):
                    continue
                high = max(log_add, rho[c])
                new = np.exp(rho[c] - high) * v[c] + np.exp(log_add - high) * add * x[k]
                norm = float(np.linalg.norm(new))
                if norm > 0.0:
                    rho[c], v[c] = high + np.log(norm), new / norm
        return (rho, v), moved

    def numbers(
        self, part: Part, group: Group, x: ndarray, residual: ndarray, force: ndarray, most: float
    ) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
        """The numbers of first columns, what moves them, and whether something else tells them.

        Numbers over |x_k|, `(m, n)`; how fast the force changes these, `(m, n)`, the share that an
        example has in that per number of its own, `(m, n)`, and the rate at which the column grows,
        `(m,)`, in units of the largest rate `most` there can be; and true where a number is not
        needed, or a rest tells more of it. `residual` `(n, C)` and `force` are in units of |r|.
        """
        rho, v = part
        size = np.linalg.norm(x, axis=1)
        size = np.where(size > 0.0, size, 1.0)
        z = v @ x.T
        pull = 2.0 * group.constants[:, :1] * residual[:, 0] * size**2
        along = np.sum(force * v, axis=1)
        first = self.alive & (self.lead == np.arange(len(rho))) & self.tight
        beside = self.rest.log_number - np.where(np.isfinite(rho), rho, 0.0)[:, None]
        told = ~first[:, None] | (self.rest.still != 0.0) | (beside > np.log(_TOLD))
        return z / size, force @ x.T / (most * size), pull / most, along / most, told

    def _share(self, rho: ndarray) -> ndarray:
        """The columns' parts of every block, in units of the leader's norm."""
        top = rho[self.lead]
        with np.errstate(under="ignore", invalid="ignore"):
            ratio = rho[None, :] - np.where(np.isfinite(top), top, 0.0)[:, None]
            return self.mix * np.where(self.alive, np.exp(np.minimum(ratio, 600.0)), 0.0)


def orthogonalise(rho: ndarray, v: ndarray, mix: ndarray, alive: ndarray) -> None:
    """Turn columns e^rho v until they are orthogonal, and the mixture with them, in place.

    Jacobi's method from one side, which knows small columns relative to themselves (Demmel &
    Veselic, 1992).
    """
    for _ in range(_SWEEPS):
        turned = False
        rows = sorted(np.flatnonzero(alive), key=lambda i: -rho[i])
        for i, a in enumerate(rows):
            for b in rows[i + 1 :]:
                if not (alive[a] and alive[b]):
                    continue
                cosine = float(v[a] @ v[b])
                if abs(cosine) < 1e-15:
                    continue
                large, small = (a, b) if rho[a] >= rho[b] else (b, a)
                s = float(np.exp(max(rho[small] - rho[large], -700.0)))
                gap = (1.0 - s) * (1.0 + s)
                slope = 2.0 * cosine / (gap + np.hypot(gap, 2.0 * cosine * s))
                c = 1.0 / np.hypot(1.0, slope * s)
                new_large = c * (v[large] + slope * s * s * v[small])
                new_small = c * (v[small] - slope * v[large])
                sizes = float(np.linalg.norm(new_large)), float(np.linalg.norm(new_small))
                v[large], rho[large] = new_large / sizes[0], rho[large] + np.log(sizes[0])
                turn = slope * s * c
                first, second = mix[:, large].copy(), mix[:, small].copy()
                mix[:, large], mix[:, small] = c * first + turn * second, c * second - turn * first
                if sizes[1] < _NOTHING:
                    alive[small], rho[small] = False, 0.0
                    v[small] = 0.0
                    v[small, 0] = 1.0
                else:
                    v[small], rho[small] = new_small / sizes[1], rho[small] + np.log(sizes[1])
                turned = turned or abs(cosine) > 1e-13
        if not turned:
            break
    # Orthogonal columns are at most as many as the space has dimensions.
    for row in sorted(np.flatnonzero(alive), key=lambda i: -rho[i])[v.shape[1] :]:
        alive[row], rho[row], v[row] = False, 0.0, 0.0
        v[row, 0] = 1.0


def tear(
    rows: ndarray,
    pattern: ndarray,
    rho: ndarray,
    v: ndarray,
    mix: ndarray,
    lead: ndarray,
    alive: ndarray,
) -> ndarray:
    """Part a bundle by the patterns of its blocks, in place.

    Returns of every row the share that its column has of the bundle's largest, shape `(m,)`.

    With columns e^rho_i v_i, the blocks of a part are their products with rows Q_A of Q. The
    orthogonal Q' of an LQ decomposition of Q_A^T, the largest column first, leaves in each new
    column only those that are as small.
    """
    living = rows[alive[rows]]
    order = living[np.argsort(-rho[living])]
    size, columns = rho[order], v[order]
    whole, first = mix[np.ix_(rows, order)], np.zeros(len(rho))
    mix[np.ix_(rows, rows)] = 0.0
    for each in range(int(pattern.max()) + 1):
        own = rows[pattern == each]
        q, r = np.linalg.qr(whole[pattern == each], mode="complete")
        if len(own) == 1:
            q, r = np.abs(q), r * q
        lead[own] = own[0]
        first[own[0]] = r[0, 0] if r.size else 0.0
        mix[np.ix_(own, own)] = q
        for i, row in enumerate(own):
            shares = r[i, i:] if i < len(r) else np.zeros(0)
            some = np.abs(shares) > 0.0
            if not some.any():
                alive[row], rho[row], v[row] = False, 0.0, 0.0
                v[row, 0] = 1.0
                continue
            with np.errstate(divide="ignore"):
                log_share = size[i:] + np.log(np.abs(shares))
            top = log_share.max()
            total = (np.sign(shares) * np.exp(log_share - top)) @ columns[i:]
            norm = float(np.linalg.norm(total))
            alive[row], rho[row], v[row] = True, top + np.log(norm), total / norm
    return first
