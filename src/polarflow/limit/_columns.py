r"""What is small inside blocks that act as one, on the way from one rest point to the next.

Blocks of order 2 of one kind that are on the same sides of all bends form a matrix W, one column a
block, with $\dot W = A(t) W$ and one symmetric A, so that $W(t) = \Phi(t) W(0)$ and WQ obeys the
same equation for every orthogonal Q. What is small in W beside its large part
$W_0 = F B^T$ is a sum of terms $\delta^{-D} f g^T$, of which parts with g in the range of B move
the large part, those with f in the range of F turn B, and the others are columns of their own: they
grow by themselves, unfelt by the residual to first order, as the columns of the discrete QR method
for Lyapunov exponents do (Dieci, Russell & Van Vleck, 1997). A flow between rest points takes them
by $\Phi$, which is of order one, and keeps their exponents. Exact elimination of the largest term,

$$\frac{\delta^{-D_r} f_1 g_r^T \cdot \delta^{-D_c} f_c g_1^T}{\delta^{-D_1}}
\to \delta^{-(D_c + D_r - D_1)} f_c g_r^T,$$

leaves the exponents of W's singular values.

Blocks of one matrix pass a bend at slightly different times. With $x_k$ the bend's normal, its part
$\mu x_k x_k^T$ of A on the active side, and z the small part of $x_k \cdot u_j$, block j is left
with $\tfrac{1}{2}\mu x_k z^2/|x_k \cdot \dot u_j|$ more: a term whose exponent is the sum of two.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy import ndarray
from scipy.linalg import qr, solve_triangular

from ._remnants import Remnant, lengths
from ._separable import Blocks

#: Exponents this close are one.
_EQUAL = 1e-9
#: A part below this share of a term is none.
_PART = 1e-6
#: What a remnant has in a block is rounding if it is below this share of what it has in others, and
#: as a share of the block below this share of theirs.
_NOISE = 1e-10
#: Singular values of a matrix below this share of the largest are none.
_RANK = 1e-6
#: What is left of a vector below this share of it may be rounding.
_LOST = 1e-12
#: No term is larger, so that squares are floats. Its exponent is what counts.
_HUGE = 1e150
#: The flow between two rest points is taken from where the loss has fallen by this share of the
#: whole fall, to where the gradient is this share of its largest.
_FALLEN, _ARRIVED = 1e-4, 1e-3


@dataclass(frozen=True)
class Way:
    """The flow of the large blocks between two rest points at some times: what moves columns.

    **Attributes:**

    - `time`: shape `(T,)`.
    - `log_norm`, `unit`: shapes `(T, M)` and `(T, M, p)`.
    - `residual`: `(T, n)` or `(T, n, C)`.
    """

    time: ndarray
    log_norm: ndarray
    unit: ndarray
    residual: ndarray

    def __len__(self) -> int:
        return len(self.time)

    def select(self, index: ndarray) -> "Way":
        """The way at some of its times."""
        return Way(*(getattr(self, f.name)[index] for f in fields(self)))

    def between(self, loss: ndarray, gradient: ndarray) -> "Way":
        """Its first time, and then those in which most of the loss falls."""
        fallen = np.abs(loss - loss[0]) > _FALLEN * abs(loss[0] - loss[-1])
        first = max(int(np.argmax(fallen)), 1)
        large = np.flatnonzero(gradient > _ARRIVED * gradient[first:].max(initial=0.0))
        last = max(min(int(large[-1]) + 2, len(loss)), first + 1)
        return self.select(np.array([0, *range(first, last)]))


@dataclass(frozen=True)
class _Term:
    """delta^-exponent f g^T, f of one block's weights, g of blocks, in units of their sizes."""

    exponent: float
    f: ndarray
    g: ndarray


def carried(blocks: Blocks, remnants: list[Remnant], way: Way, active: ndarray) -> list[Remnant]:
    """The remnants of active blocks at the end of a way.

    **Arguments:**

    - `remnants`: flat vectors of all weights.
    - `active`: a mask of the blocks that are large on the way, shape `(M,)`.
    """
    rest = [_without_noise(blocks, r, way, active) for r in _merged(remnants)]
    found: list[Remnant] = []
    for group, sides in _groups(blocks, way, active):
        bundle = _Bundle(blocks, group, sides, way)
        terms: list[_Term] = []
        for i, remnant in enumerate(rest):
            rows = remnant.vector.reshape(blocks.count, blocks.size)
            relative = bundle.relative(rows[group])
            hidden = bundle.beside(relative)
            # What moves the large part alone leaves rounding in the columns.
            terms += _split(remnant.exponent, hidden, float(np.linalg.norm(relative)))
            outside = rows.copy()
            outside[group] -= bundle.share[:, None] * hidden
            rest[i] = replace(remnant, vector=outside.ravel())
        for term in bundle.carry(terms):
            whole = np.zeros((blocks.count, blocks.size))
            whole[group] = np.outer(bundle.share * term.g, term.f)
            size = float(lengths(whole.ravel()))
            if size > 0.0:
                found.append(Remnant(term.exponent, whole.ravel() / size))
    for remnant, old in zip(rest, _merged(remnants), strict=True):
        if np.linalg.norm(remnant.vector) > _PART * np.linalg.norm(old.vector):
            found.append(remnant)
    return found


def _without_noise(blocks: Blocks, remnant: Remnant, way: Way, active: ndarray) -> Remnant:
    """A remnant without what rounding has left of it in blocks that it has no part in."""
    rows = remnant.vector.reshape(blocks.count, blocks.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_size = np.log(lengths(rows))
        share = log_size - way.log_norm[1]
    share[~active | np.isnan(share)] = -np.inf
    noise = (share < share.max() + np.log(_NOISE)) & (log_size < log_size.max() + np.log(_NOISE))
    return replace(remnant, vector=np.where(noise[:, None], 0.0, rows).ravel())


def _merged(remnants: list[Remnant]) -> list[Remnant]:
    """Remnants of one exponent are one."""
    found: list[Remnant] = []
    for remnant in sorted(remnants, key=lambda r: -r.exponent):
        if found and found[-1].exponent - remnant.exponent <= _EQUAL:
            found[-1] = replace(found[-1], vector=found[-1].vector + remnant.vector)
        else:
            found.append(remnant)
    return found


def _groups(blocks: Blocks, way: Way, active: ndarray) -> list[tuple[ndarray, ndarray]]:
    """Several blocks of one kind that are on the same sides of all bends all the way; the sides."""
    sides = np.array([blocks.bends(unit) > 0.0 for unit in way.unit])
    kinds = blocks.kinds()
    found: dict[tuple[int, bytes], list[int]] = {}
    for j in np.flatnonzero(active & (blocks.level == 0.0)):
        found.setdefault((int(kinds[j]), sides[1:, j].tobytes()), []).append(int(j))
    return [(np.array(g), sides[:, g[0]]) for g in found.values() if len(g) > 1]


def _split(exponent: float, rows: ndarray, size: float) -> list[_Term]:
    """A matrix, a row a block, as a sum of products."""
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    return [
        _Term(exponent, v, s * u)
        for s, u, v in zip(values, left.T, right, strict=True)
        if s > _PART * size
    ]


class _Bundle:
    """Blocks that form one matrix, all along a way, each in units of its size."""

    def __init__(self, blocks: Blocks, group: ndarray, sides: ndarray, way: Way) -> None:
        self.blocks, self.sides, self.way = blocks, sides, way
        self.rows = way.unit[:, group]
        log_norm = way.log_norm[1, group]
        self.share = np.exp(log_norm - log_norm.max())
        left, values, _ = np.linalg.svd(self.rows[1], full_matrices=False)
        self.rank = int(np.sum(values > _RANK * values[0]))
        self.b = left[:, : self.rank]
        self.first = int(group[np.argmax(log_norm)])
        self.most = min(len(group), blocks.size) - self.rank

    def relative(self, rows: ndarray) -> ndarray:
        """A change of all blocks in units of their sizes."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            found = np.where(self.share[:, None] > 0.0, rows / self.share[:, None], 0.0)
        top = float(np.abs(found).max(initial=0.0))
        return np.asarray(found if top <= _HUGE else found * (_HUGE / top))

    def beside(self, rows: ndarray) -> ndarray:
        """What of a change, in units of sizes, is unfelt by the output."""
        # Least squares by Householder's method, which takes rows of any sizes in falling order.
        order = np.argsort(-self.share)
        share = self.share[order, None]
        q, r, column = qr(share * self.b[order], mode="economic", pivoting=True)
        found = solve_triangular(r, q.T @ (share * rows[order]))
        return np.asarray(rows - self.b[:, column] @ found)

    def carry(self, terms: list[_Term]) -> list[_Term]:
        """Terms at the end of the way."""
        if self.most <= 0:
            return []
        basis = self._range(0)
        across = [replace(t, f=t.f - basis @ (basis.T @ t.f)) for t in terms]
        columns = _eliminated(across, self.most)
        for i in range(1, len(self.way) - 1):
            columns = self._step(columns, i)
            more = self._passed(columns, i) if self.rank == 1 and self.most > 1 else []
            if more:
                flat = [part for column in columns for part in column]
                columns = _eliminated([*flat, *more], self.most)
        return [part for column in columns for part in column]

    def _range(self, i: int) -> ndarray:
        """An orthonormal basis of what the large part spans at a time, `(p, k)`."""
        return np.asarray(np.linalg.svd(self.rows[i], full_matrices=False)[2][: self.rank].T)

    def _generator(self, i: int, residual: ndarray) -> ndarray:
        return self.blocks.hessian(self.first, self.way.unit[i, self.first], residual)

    def _step(self, columns: list[list[_Term]], i: int) -> list[list[_Term]]:
        """From one time to the next; what turns into larger columns only turns their shares."""
        way = self.way
        a = self._generator(i, way.residual[i]) + self._generator(i + 1, way.residual[i + 1])
        values, vectors = np.linalg.eigh(0.5 * a)
        exponents = (values - values.max()) * (way.time[i + 1] - way.time[i])
        with np.errstate(under="ignore"):
            phi = (vectors * np.exp(exponents)) @ vectors.T
        basis = self._range(i + 1)
        moved: list[list[_Term]] = []
        for column in columns:
            parts: list[_Term] = []
            for term in column:
                f = phi @ term.f
                size = float(np.linalg.norm(f))
                for _ in range(2):
                    f = f - basis @ (basis.T @ f)
                if not np.linalg.norm(f) > _LOST * size:
                    continue
                f = f / np.linalg.norm(f)
                parts.append(replace(term, f=f))
                if len(parts) == 1:
                    basis = np.column_stack([basis, f])
            moved.append(parts)
        return [parts for parts in moved if parts]

    def _passed(self, columns: list[list[_Term]], i: int) -> list[_Term]:
        """What bends that are passed between two times leave of the columns' squares."""
        flipped = self.sides[i] != self.sides[i + 1]
        if not flipped.any():
            return []
        way, found = self.way, []
        residual = 0.5 * (way.residual[i] + way.residual[i + 1])
        after = self._generator(i + 1, residual)
        on = 1.0 if self.sides[i + 1][flipped].any() else -1.0
        values, normals = np.linalg.eigh(on * (after - self._generator(i, residual)))
        top = float(np.abs(values).max(initial=0.0))
        speed = normals.T @ (after @ way.unit[i + 1, self.first])
        for mu, x, pace in zip(values, normals.T, np.abs(speed), strict=True):
            if abs(mu) <= _PART * top or pace == 0.0:
                continue
            for p, one in enumerate(columns):
                for other in columns[p:]:
                    z = (x @ one[0].f) * (x @ other[0].f) * (1.0 if one is other else 2.0)
                    sizes = [float(np.linalg.norm(c[0].g)) for c in (one, other)]
                    square = (one[0].g / sizes[0]) * (other[0].g / sizes[1])
                    g = 0.5 * mu * z / pace * self.beside(square[:, None])[:, 0]
                    if np.linalg.norm(g) > 0.0:
                        g *= min(sizes[0] * sizes[1], _HUGE / float(np.linalg.norm(g)))
                        basis = self._range(i + 1)
                        f = x - basis @ (basis.T @ x)
                        found.append(_Term(one[0].exponent + other[0].exponent, f, g))
        return found


def _eliminated(terms: list[_Term], most: int) -> list[list[_Term]]:
    """Columns of a sum of products: each with its largest term first, then those of its shares."""
    columns: list[list[_Term]] = []
    terms = _normal([t for t in terms if np.linalg.norm(t.f) > _PART])
    while terms and len(columns) < most:
        terms = sorted(terms, key=lambda t: -t.exponent)
        top = terms[0]
        size = float(np.linalg.norm(top.g))
        unit = top.g / size
        along: list[tuple[float, ndarray, float]] = []
        turned: list[tuple[float, float, ndarray]] = []
        rest: list[_Term] = []
        for term in terms[1:]:
            a, b = float(term.f @ top.f), float(term.g @ unit)
            f, g = term.f - a * top.f, term.g - b * unit
            own = float(np.linalg.norm(term.g))
            if np.linalg.norm(f) * abs(b) > _PART * own:
                along.append((term.exponent, b * f, b))
            if np.linalg.norm(g) * abs(a) > _PART * own:
                turned.append((term.exponent, a, g))
            if np.linalg.norm(f) * np.linalg.norm(g) > _PART * own:
                rest.append(_Term(term.exponent, f, g))
        for c, f, _ in along:
            for r, a, g in turned:
                rest.append(_Term(c + r - top.exponent, f, -a / size * g))
        columns.append([top, *_normal([_Term(c, f, unit) for c, f, _ in along])])
        terms = _pruned(_normal(rest))
    return columns


def _normal(terms: list[_Term]) -> list[_Term]:
    """Terms with f of length one; those that are no floats any more are left out."""
    found = []
    for term in terms:
        size, own = float(lengths(term.f)), float(lengths(term.g))
        if size > 0.0 and own > 0.0:
            share = min(size, _HUGE / own)
            found.append(_Term(term.exponent, term.f / size, share * term.g))
    return found


def _pruned(terms: list[_Term]) -> list[_Term]:
    """Terms of one exponent are summed up; what larger ones hide is left out."""
    found: list[_Term] = []
    terms = sorted(terms, key=lambda t: -t.exponent)
    while terms:
        level = terms[0].exponent
        same = [t for t in terms if level - t.exponent <= _EQUAL]
        terms = terms[len(same) :]
        total = sum(
            (np.outer(t.g, t.f) for t in same), start=np.zeros((len(same[0].g), len(same[0].f)))
        )
        size = max(float(np.linalg.norm(t.g)) for t in same)
        for term in _split(level, total, size):
            if not any(
                abs(term.f @ t.f) > 1.0 - _PART
                and abs(term.g @ t.g) > (1.0 - _PART) * np.linalg.norm(term.g) * np.linalg.norm(t.g)
                for t in found
            ):
                found.append(term)
    return found
