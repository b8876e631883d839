"""A field whose blocks come together in bundles, and when they do: see `_bundles.py`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks import BlockState
from ...networks._blocks import Part
from ._field import Field
from ._mixture import Mixture, orthogonalise, tear
from ._rest import Rest, seen_part, span_of

#: Units nearer than this are bundled, if the logarithms of their norms differ by less than _SPAN.
_CLOSE, _SPAN = 1e-3, 300.0
#: A bundle is tight below this part of the root of the tolerance, a column hidden below this part
#: of the tolerance beside the first, and of its root beside others; neither is any more at so many
#: times that.
_TIGHT, _HIDDEN, _AGAIN = 0.1, 0.1, 10.0
#: Nor is a bundle tight if blocks' numbers differ by more than this part of the leader's, unless it
#: passes them in less than this time, in units of the largest rate.
_APART, _QUICK = 0.3, 0.01
#: Columns are made orthogonal anew at these cosines: of comparable columns, of hidden ones.
_PARALLEL, _LEANING = 0.99, 0.3
#: How often columns are turned for rests that go to them.
_TURNS = 3


class Frame:
    """A field, and how the rows of its vectors make up the blocks of the network.

    **Arguments:**

    - `field`: the equations of the columns.
    - `mixtures`: of each group, None where blocks stand alone for ever.
    - `rtol`: the tolerance.
    - `spans`: the spans of active examples that are known from frames before.
    """

    def __init__(
        self,
        field: Field,
        mixtures: Sequence[Mixture | None],
        rtol: float,
        spans: dict[bytes, ndarray] | None = None,
    ) -> None:
        self.field, self.mixtures, self.rtol = field, tuple(mixtures), rtol
        self.spread = max(field.spread, 1e-300)
        self._spans = {} if spans is None else spans

    def turned(self, y: ndarray, before: "Frame") -> ndarray:
        """Vectors `(k, N)` of a frame before as those of this one, but for what is far smaller."""
        new = y.copy()
        for slot, group, mixture, old in zip(
            self.field.slots, self.field.groups, self.mixtures, before.mixtures, strict=True
        ):
            if mixture is None or old is None or np.array_equal(mixture.mix, old.mix):
                continue
            turn = old.mix.T @ mixture.mix
            changed = np.flatnonzero((turn != np.eye(len(turn))).any(axis=0) & mixture.alive)
            for vector, out in zip(y, new, strict=True):
                rho = np.where(old.alive, vector[slot.log_norm], -np.inf)
                v = vector[slot.unit].reshape(group.rows, group.size)
                unit = out[slot.unit].reshape(group.rows, group.size)
                for c in changed:
                    with np.errstate(divide="ignore"):
                        share = rho + np.log(np.abs(turn[:, c]))
                    total = (np.sign(turn[:, c]) * np.exp(share - share.max())) @ v
                    size = float(np.linalg.norm(total))
                    if size > 0.0:
                        out[slot.log_norm][c] = share.max() + np.log(size)
                        unit[c] = total / size
        return new

    @classmethod
    def single(cls, field: Field, rtol: float) -> "Frame":
        """Blocks that stand alone."""
        n = len(field.x)
        mixtures = [
            None if bundles is None else Mixture.none(field.alive[slot.rows], n, group.size)
            for bundles, group, slot in zip(field.bundles, field.groups, field.slots, strict=True)
        ]
        return cls(field, mixtures, rtol)

    # -- blocks ----------------------------------------------------------------------------

    def parts(self, y: ndarray) -> list[Part]:
        """The blocks of each group at a vector."""
        return [
            part if mixture is None else mixture.blocks(part)
            for part, mixture in zip(self.field.parts(y), self.mixtures, strict=True)
        ]

    def state(self, y: ndarray) -> BlockState:
        """The state at a vector."""
        return self.field.network.join(self.parts(y), self.field.problem.data.dimension)

    def forces(self, y: ndarray, forces: Sequence[ndarray]) -> list[ndarray]:
        """The forces on the blocks from those on columns."""
        return [
            force if mixture is None else mixture.forces(part, force)
            for part, mixture, force in zip(self.field.parts(y), self.mixtures, forces, strict=True)
        ]

    def numbers(
        self, y: ndarray, residual: ndarray, forces: Sequence[ndarray]
    ) -> list[tuple[Any, ...]]:
        """The first block of each group that comes in bundles, with its `Mixture.numbers`."""
        return [
            (
                slot.rows.start,
                *mixture.numbers(part, group, self.field.x, residual, force, self.spread),
            )
            for part, group, slot, mixture, force in zip(
                self.field.parts(y),
                self.field.groups,
                self.field.slots,
                self.mixtures,
                forces,
                strict=True,
            )
            if mixture is not None
        ]

    # -- renewal ---------------------------------------------------------------------------

    def due(self, y: ndarray, slack: float = 1.0) -> set[tuple[Any, ...]]:
        """For what the frame may have to be renewed at a vector, if for anything.

        Blocks have come together, columns have changed their order, rests are to be put aside or
        taken back. With a slack of s > 1: by so much more than at which that is done.
        """
        found: set[tuple[Any, ...]] = set()
        for index, mixture in enumerate(self.mixtures):
            if mixture is None:
                continue
            part = self.field.parts(y)[index]
            side = mixture.sides(part, self.field.x)
            under, tight = self._order(mixture, part, slack)
            taken = mixture.taken(part, side, self.field.x)
            large, little = self._leaving(index, mixture, part, side, slack, True)
            for reason, rows in (
                ("leans", self._leaning(mixture, part, slack)),
                ("order", np.argwhere(under != mixture.under).tolist()),
                ("tight", np.flatnonzero(tight != mixture.tight).tolist()),
                ("meets", self._meeting(index, mixture, part, side, slack)),
                ("taken", np.argwhere(taken).tolist()),
                ("still", large),
                ("little", little),
            ):
                found |= {(index, reason, *np.ravel(row).tolist()) for row in rows}
        return found

    def renewed(
        self,
        y: ndarray,
        sides: ndarray | None,
        crossed: ndarray | None,
        residual: ndarray,
        forces: Sequence[ndarray],
    ) -> "tuple[Frame, ndarray] | None":
        """The frame that a vector asks for, and the vector in it; None if it is this one.

        `sides` are those of the numbers that have them, in the order of the field, and `crossed`
        tells which have just changed, if that is known; r/|r| `(n, C)` and the forces on columns
        are those there.
        """
        start, changed, mixtures, new = 0, False, list(self.mixtures), y.copy()
        alive = self.field.alive.copy()
        for index, (group, slot, mixture) in enumerate(
            zip(self.field.groups, self.field.slots, self.mixtures, strict=True)
        ):
            own = len(self.field.x) * group.bends
            here = slice(start, start + group.rows * own)
            start += group.rows * own if group.pieces is not None else 0
            if mixture is None:
                continue
            part, moved = self.field.parts(y)[index], set[int]()
            if sides is None:
                side = mixture.sides(part, self.field.x)
            else:
                side = sides[here].reshape(group.rows, own) > 0.0
            if crossed is not None:
                bent = crossed[here].reshape(group.rows, own)
                part, moved = mixture.bent(part, group, self.field.x, bent, residual, forces[index])
            found = self._renew(index, mixture, part, side, moved, forces[index])
            if found is None:
                continue
            changed = True
            mixtures[index], (rho, v) = found
            new[slot.log_norm] = rho
            new[slot.unit] = v.ravel()
            alive[slot.rows] = found[0].alive
        if not changed:
            return None
        hold = 2.0 * self.spread
        bundles = [
            None if mixture is None else mixture.equations(group, hold, self.field.x)
            for mixture, group in zip(mixtures, self.field.groups, strict=True)
        ]
        return Frame(self.field.bundled(bundles, alive), mixtures, self.rtol, self._spans), new

    def _renew(
        self,
        index: int,
        mixture: Mixture,
        part: Part,
        side: ndarray,
        touched: set[int],
        force: ndarray,
    ) -> tuple[Mixture, Part] | None:
        alive = np.isfinite(part[0])
        rho, v = np.where(alive, part[0], 0.0), part[1].copy()
        mix, lead, rest = mixture.mix.copy(), mixture.lead.copy(), mixture.rest.copy()
        x = self.field.x
        taken = mixture.taken(part, side, x)
        own = taken & rest.large[:, None]
        for first in np.unique(lead):
            rows = np.flatnonzero(lead == first)
            _, pattern = np.unique(side[rows], axis=0, return_inverse=True)
            if own[rows].any():
                pattern = np.arange(len(rows))
            if pattern.max() > 0:
                share = tear(rows, pattern.ravel(), rho, v, mix, lead, alive)
                if rest.little[first]:
                    rest.torn(int(first), share, x)
                touched |= set(lead[rows].tolist())
        now = Mixture(mix, lead, alive, mixture.tight, mixture.under, rest)
        taken = np.where(rest.large[:, None], own, now.taken((rho, v), side, x))
        if taken.any():
            rest.take_back(taken, rho, v, alive, x)
            touched |= set(np.flatnonzero(taken.any(axis=1)).tolist())
        large, little = self._leaving(index, now, (rho, v), side)
        for first in large:
            touched.add(first)
            if rest.little[first]:
                rest.give_back(first, rho, v)
                if not Rest.known(rest.leaves_large(v[first], side[first], x)):
                    continue
            rows = np.flatnonzero(lead == first)
            own_mix = mix[np.ix_(rows, rows)]
            rest.put_aside(rows, own_mix, (rho, v), alive, x, side[first])
        for first in little:
            rest.put_little_aside(first, (rho, v), x, side[first])
            touched.add(first)
        log_norm = np.where(alive, rho, -np.inf)
        for a, b in self._meeting(index, now, (log_norm, v), side):
            if lead[a] != lead[b]:
                lead[lead == lead[b]] = lead[a]
                touched.add(int(lead[a]))
        touched |= self._leaning(now, (log_norm, v))
        for first in touched:
            rows = np.flatnonzero(lead == first)
            if not len(rows):
                continue
            if rest.large[rows].any():
                for row in rows[rest.little[rows]].tolist():
                    rest.give_back(row, rho, v)
            for _ in range(_TURNS):
                turn = np.eye(len(rows))
                columns = rho[rows], v[rows], turn, alive[rows]
                orthogonalise(*columns)
                rho[rows], v[rows], alive[rows] = columns[0], columns[1], columns[3]
                mix[np.ix_(rows, rows)] = mix[np.ix_(rows, rows)] @ turn
                new = rows[np.argmax(np.where(alive[rows], rho[rows], -np.inf))]
                if not rest.turned(rows, turn, int(new), (rho, v), alive, x):
                    break
            rest.confined(rows, (rho, v), alive, x)
        log_norm = np.where(alive, rho, -np.inf)
        for first in np.unique(lead):
            rows = np.flatnonzero(lead == first)
            lead[rows] = new = rows[np.argmax(log_norm[rows])]
            if mix[rows, new].sum() < 0.0:
                # The first column has the direction of the blocks, not the opposite one.
                v[new], mix[rows, new] = -v[new], -mix[rows, new]
                if rest.little[new]:
                    rest.flip(int(new))
        now = Mixture(mix, lead, alive, mixture.tight, mixture.under, rest)
        under, tight = self._order(now, (log_norm, v), force=None if touched else force)
        for row in np.flatnonzero(rest.little & ~(tight & (lead == np.arange(len(lead))))).tolist():
            rest.give_back(row, rho, v)
            touched.add(row)
        if not touched and (under == mixture.under).all() and (tight == mixture.tight).all():
            return None
        return Mixture(mix, lead, alive, tight, under, rest), (rho, v)

    def _leaving(
        self,
        index: int,
        mixture: Mixture,
        part: Part,
        side: ndarray,
        slack: float = 1.0,
        rounding: bool = False,
    ) -> tuple[list[int], list[int]]:
        """The first rows of bundles of which a large rest is to be put aside, and a small one.

        Also those of which nothing would be left but rounding, if asked for. Where residuals keep
        the signs of their labels, examples that repel do so for ever, as do those that attract.
        """
        group, problem, x = self.field.groups[index], self.field.problem, self.field.x
        returns, square = side, problem.loss.kind == "square"
        if not square:
            returns = side & (group.constants[:, :1] * problem.data.y > 0.0)
        rest, v = mixture.rest, part[1]
        first = mixture.alive & (mixture.lead == np.arange(group.rows)) & returns.any(axis=1)
        large: list[int] = []
        little: list[int] = []
        for j in np.flatnonzero(first).tolist():
            seen = rest.leaves_large(v[j], side[j], x, slack)
            if seen is not None:
                if rounding or Rest.known(seen):
                    large.append(j)
            elif square and mixture.tight[j] and not rest.large[j]:
                unseen = rest.leaves_small(v[j], self._span(side[j]), slack)
                if Rest.known(unseen) or (rounding and unseen is not None):
                    little.append(j)
        return large, little

    def _span(self, side: ndarray) -> ndarray:
        """An orthonormal basis of the span of active examples."""
        key = side.tobytes()
        if key not in self._spans:
            self._spans[key] = span_of(self.field.x[side])
        return self._spans[key]

    def _order(
        self, mixture: Mixture, part: Part, slack: float = 1.0, force: ndarray | None = None
    ) -> tuple[ndarray, ndarray]:
        """Which columns are hidden beside others, and the rows of tight bundles."""
        log_norm = part[0]
        same = (mixture.lead[:, None] == mixture.lead) & mixture.alive[:, None] & mixture.alive
        with np.errstate(invalid="ignore"):
            ratio = np.where(same, log_norm[:, None] - log_norm, np.inf)
        first = mixture.lead == np.arange(len(log_norm))
        level = np.log(_HIDDEN * self.rtol) * np.where(first, 1.0, 0.5)
        again = np.log(_AGAIN)
        under = ratio < np.where(mixture.under, level + again, level - np.log(slack))
        level = 0.5 * np.log(self.rtol) + np.log(_TIGHT)
        tight = np.ones(len(log_norm), dtype=bool)
        for first in np.unique(mixture.lead):
            rows = np.flatnonzero(mixture.lead == first)
            others = rows[mixture.alive[rows] & (rows != first)]
            if not len(others):
                continue
            limit = level + (again if mixture.tight[first] else -np.log(slack))
            tight[rows] = log_norm[others].max() - log_norm[first] < limit
            if tight[first]:
                share = _APART if mixture.tight[first] else _APART / _AGAIN / slack
                apart = mixture.apart(part, first, self.field.x, share)
                if apart.any() and force is not None:
                    quick = mixture.quick(part, first, self.field.x, force, _QUICK / self.spread)
                    apart &= ~quick
                tight[rows] = not apart.any()
        return under, tight

    def _leaning(self, mixture: Mixture, part: Part, slack: float = 1.0) -> set[int]:
        """The leaders of bundles whose columns are no longer well apart."""
        if mixture.trivial:
            return set()
        v = part[1]
        same = (mixture.lead[:, None] == mixture.lead) & mixture.alive[:, None] & mixture.alive
        same &= ~np.eye(len(v), dtype=bool)
        hidden = mixture.under | mixture.under.T
        limit = np.where(hidden, 1.0 - (1.0 - _LEANING) / slack, 1.0 - (1.0 - _PARALLEL) / slack)
        lean = same & (np.abs(v @ v.T) > limit)
        return set(mixture.lead[lean.any(axis=1)].tolist())

    def _meeting(
        self,
        index: int,
        mixture: Mixture,
        part: Part,
        side: ndarray,
        slack: float = 1.0,
    ) -> list[tuple[int, int]]:
        """Pairs of blocks of different bundles that have come together."""
        group = self.field.groups[index]
        rho, v = mixture.moving(part)
        gap = np.abs(v @ v.T - 1.0)
        # |v_a - v_b|^2 = 2 (1 - v_a.v_b); rounding is far below the square of what is close.
        near = (2.0 * gap < (_CLOSE / slack) ** 2) & (mixture.lead[:, None] < mixture.lead)
        alive = np.isfinite(rho)
        near &= alive[:, None] & alive
        if not near.any():
            return []
        equal = (group.constants[:, None] == group.constants).all(axis=2)
        with np.errstate(invalid="ignore"):
            near &= equal & (np.abs(rho[:, None] - rho) < _SPAN)
        found = []
        for a, b in np.argwhere(near).tolist():
            if not np.array_equal(side[a], side[b]):
                continue
            # What counts is the part that their examples see.
            seen = seen_part(v[a], self.field.x[side[a]])
            if 2.0 * gap[a, b] < (seen * _CLOSE / slack) ** 2:
                found.append((a, b))
        return found
