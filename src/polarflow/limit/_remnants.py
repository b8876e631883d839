r"""What is left of the distance between blocks and the points that they go to.

Blocks come to KKT points and rest points exponentially, so that what is left of their distance is
a power of $\delta$ as well, $\delta^{-F} c$ with F < 0. When the residual changes it may grow
again: a small block then turns away from its KKT point, and active blocks that had come together,
or parts inside one, grow apart and leave a saddle. The distance follows the linear part of the
flow, $\dot c = A c$ with a symmetric A: on an eigenspace of A with the eigenvalue $\lambda$ its
exponent rises at the rate $\lambda$. Of several remnants the one with the largest exponent rules in
every direction that it has a part in.

From one rest point to the next a remnant keeps its exponent; that it keeps its direction as well is
an approximation, exact where the flows between keep the subspaces that remnants are in.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy import ndarray

#: A part of a remnant below this share of it is none.
_PART = 1e-6
#: Eigenvalues this close, relative to the largest, are one.
_REPEATED = 1e-6
#: Exponents this close are one.
_EQUAL = 1e-9
#: How far from a KKT point or rest point the linear part is taken, relative to the block's size:
#: that decides the sides of bends which the point lies on, and no more.
_ASIDE = 1e-8


@dataclass(frozen=True)
class Remnant:
    """delta^-exponent * vector, in a flat vector of weights or of one direction."""

    exponent: float
    vector: ndarray


@dataclass(frozen=True)
class Mode:
    """An eigenspace of the linear part: its eigenvalue, and what remnants have in it."""

    rate: float
    remnants: tuple[Remnant, ...]

    @property
    def leading(self) -> float:
        """The largest exponent; -inf if there is none."""
        return max((r.exponent for r in self.remnants), default=-np.inf)

    def wait(self, still: float) -> float:
        """The scaled time until it is large, inf if it does not grow by more than `still`."""
        if self.rate <= still or not self.remnants:
            return np.inf
        return max(-self.leading, 0.0) / self.rate

    def direction(self) -> ndarray:
        """The sum of the largest remnants, a unit vector."""
        top = self.leading
        total = sum(
            (r.vector for r in self.remnants if r.exponent >= top - _EQUAL),
            start=np.zeros_like(self.remnants[0].vector),
        )
        return np.asarray(total / max(float(np.linalg.norm(total)), 1e-300))

    def after(self, time: float, still: float) -> list[Remnant]:
        """Its remnants after a scaled time; after an infinite one, those that do not decay."""
        if abs(self.rate) <= still:
            return list(self.remnants)
        if not np.isfinite(time):
            return []
        return [replace(r, exponent=r.exponent + self.rate * time) for r in self.remnants]


def lengths(rows: ndarray) -> ndarray:
    """Norms of rows, also of those whose squares are no floats."""
    top = np.abs(rows).max(axis=-1, initial=0.0)
    unit = rows / np.where(top > 0.0, top, 1.0)[..., None]
    return np.asarray(top * np.linalg.norm(unit, axis=-1))


def normed(rows: ndarray) -> ndarray:
    """Rows of unit length."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def modes(matrix: ndarray, remnants: list[Remnant], basis: ndarray | None = None) -> list[Mode]:
    """The eigenspaces of a symmetric matrix with the remnants' parts in them.

    **Arguments:**

    - `matrix`: shape `(q, q)`.
    - `remnants`: vectors `(q,)`.
    - `basis`: orthonormal rows of the subspace that counts, shape `(k, q)`; all of it if None.
    """
    if not len(matrix):
        return []
    basis = np.eye(len(matrix)) if basis is None else basis
    values, vectors = np.linalg.eigh(basis @ matrix @ basis.T)
    top = float(np.abs(values).max(initial=0.0))
    cuts = np.flatnonzero(np.diff(values) > _REPEATED * top) + 1
    ordered = sorted(remnants, key=lambda r: -r.exponent)
    found = []
    for index in np.split(np.arange(len(values)), cuts):
        if len(index):
            space = vectors[:, index].T @ basis
            found.append(Mode(float(values[index].mean()), tuple(_parts(space, ordered))))
    return found


def _parts(space: ndarray, ordered: list[Remnant]) -> list[Remnant]:
    """What remnants have in a space, without what larger ones hide."""
    kept: list[Remnant] = []
    seen = np.zeros((0, len(space)))
    level, fresh = np.inf, seen
    for remnant in ordered:
        inside = space @ remnant.vector
        size = float(np.linalg.norm(inside))
        if size <= _PART * float(np.linalg.norm(remnant.vector)) or size == 0.0:
            continue
        if remnant.exponent < level - _EQUAL:
            seen, level = fresh, remnant.exponent
        new = inside / size
        if np.linalg.norm(new - seen.T @ (seen @ new)) <= _PART:
            continue
        kept.append(Remnant(remnant.exponent, inside @ space))
        rest = new - fresh.T @ (fresh @ new)
        if np.linalg.norm(rest) > _PART:
            fresh = np.concatenate([fresh, rest[None] / np.linalg.norm(rest)])
    return kept


def aside(point: ndarray, remnants: list[Remnant]) -> ndarray:
    """A point next to another, on the sides of its bends on which the remnants are.

    Larger remnants count more. Every block, a row of the point, is moved by shares of its own size.
    """
    moved = point.copy()
    size = lengths(point)[..., None]
    share = _ASIDE
    for remnant in sorted(remnants, key=lambda r: -r.exponent):
        along = remnant.vector.reshape(point.shape) / np.where(size > 0.0, size, 1.0)
        length = lengths(along)[..., None]
        felt = (length > _PART * length.max(initial=0.0)) & (size > 0.0)
        if felt.any() and share > 1e-14:
            moved = moved + share * size * np.where(felt, along / np.where(felt, length, 1.0), 0.0)
            share *= 0.1
    return moved
