r"""All KKT points of the NCF of one squared-ReLU unit.

N(u) = s sum_k z_k max(0, u.x_k)^2 has a continuous gradient and is a quadratic form u^T M u on the
closure of every cell of the examples' hyperplanes. On the unit sphere u is a KKT point if
M u = lambda u for the M of a cell that holds u in its closure; then N(u) = lambda. A repeated
eigenvalue whose eigenspace meets the closed cell gives a flat set (Kumar & Haupt 2024, G.1, is the
case of a single cell).

Around a KKT point, with t orthogonal to u and small, N((u + t)/|u + t|) - N(u) equals
q(t)/(1 + |t|^2), where q(t) = t^T (M - lambda) t with the M of the cell that u + t is in. This is
exact, so that the signs which q takes decide the type. The largest and the least value of q on
its sphere are KKT values of a problem of the same kind, one dimension lower.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._arrangement import complement, distinct_hyperplanes, faces
from ._bends import Bends, bends
from ._certificate import NeuronCertifier, with_certificate
from ._piecewise import CHUNK, Components, Pieces, complete, pieces
from ._points import Kind, KKTPoint, KKTSet, arranged

#: |u.e_g| below this puts a unit vector u on a hyperplane.
ON_KINK = 1e-10
#: Eigenvalues closer than this, relative to sum_k |z_k| |x_k|^2, are one.
REPEATED = 1e-9


@dataclass(frozen=True, eq=False)
class _Piece:
    """The KKT points of one eigenvalue on one face: a point, or an open piece of a flat set."""

    sign: ndarray  # of u.e_g
    value: float
    at: ndarray  # a point of it
    dimension: int
    end: float  # tells the two ends of a line apart


def squared_points(
    x: Float[ndarray, "n d"], z: Float[ndarray, " n"], signs: tuple[int, ...] = (1,)
) -> KKTSet:
    """Every KKT point of N(u) = s sum_k z_k max(0, u.x_k)^2 with |u| = 1.

    **Arguments:**

    - `x`: inputs, shape `(n, d)`.
    - `z`: not zero, shape `(n,)`.
    - `signs`: the fixed output weights s = +-1 for which the points are wanted.

    **Returns:** points with direction u; of every flat set one.

    **Raises:** `PolarflowError` if the kinks cut space into too many cells to list.
    """
    points: list[KKTPoint] = []
    certifier = NeuronCertifier(x, z, 0.0)
    for s in signs:
        whole = pieces(bends(x, s * z, 2, 0.0))
        points += (replace(point, sign=s) for point in _points(whole))
    largest = max(abs(point.value) for point in points)
    scale = 2.0 * largest or 1.0
    done = []
    for point in points:
        assert point.sign is not None
        t = x @ point.direction
        gradient = 2.0 * point.sign * (z * np.maximum(t, 0.0)) @ x
        multiplier = float(gradient @ point.direction)
        residual = float(np.linalg.norm(gradient - multiplier * point.direction)) / scale
        value = float(point.sign * (z @ np.maximum(t, 0.0) ** 2)) + 0.0
        boxed = certifier.squared(point, point.sign)
        point = replace(point, value=value)
        done.append(with_certificate(point, 2, residual, multiplier, scale, boxed))
    proof = whole.proof()
    return KKTSet(arranged(done), 2, largest, complete(proof), proof)


def _points(whole: Pieces) -> Iterator[KKTPoint]:
    b = whole.bends
    found = _pieces(whole)
    sets = Components()
    for level in _levels(found, b.size):
        if any(found[i].dimension for i in level):
            signs = np.array([found[i].sign for i in level])
            for i, sign in zip(level, signs, strict=True):
                under = ((signs == 0) | (signs == sign)).all(axis=1)
                for j in np.array(level)[under]:
                    if found[i].dimension or found[j].dimension:
                        sets.join(i, int(j))
    for group in sets.groups(range(len(found))):
        best = max((found[i] for i in group), key=lambda piece: piece.dimension)
        up = down = False
        for i in group:
            low, high = _curvature(b, found[i])
            up, down = up or high > REPEATED * b.size, down or low < -REPEATED * b.size
        kind: Kind = "saddle" if up and down else "minimum" if up else "maximum"
        held = np.flatnonzero(best.sign == 0)
        even = len(b.normal) == 0
        place = np.round(np.abs(best.at), 7) if even else np.round(best.at, 7)
        yield KKTPoint(
            best.at,
            best.value,
            kind,
            strict=kind == "saddle" or best.dimension == 0,
            on_kinks=tuple(k for g in held for k in b.members[g]),
            dimension=best.dimension,
            # Without bends N is even, and u and -u are copies.
            orbit=hash((*place.tolist(), kind)),
        )


def _pieces(whole: Pieces) -> list[_Piece]:
    """Every piece once."""
    b, f = whole.bends, whole.faces
    h, d = b.normal.shape[0], b.smooth.shape[0]
    cell = f.sign[f.dimension == len(whole.span)]
    outer = np.einsum("gi,gj->gij", b.normal, b.normal).reshape(h, d * d)
    found: dict[tuple[bytes, int, float], _Piece] = {}
    level: list[_Piece] = []
    for start in range(0, len(cell), CHUNK):
        s = cell[start : start + CHUNK]
        forms = b.smooth + (np.where(s > 0, b.plus, b.minus) @ outer).reshape(-1, d, d)
        values, vectors = np.linalg.eigh(forms)
        close = np.diff(values, axis=1) < REPEATED * b.size
        single = ~(np.pad(close, ((0, 0), (1, 0))) | np.pad(close, ((0, 0), (0, 1))))
        t = np.einsum("cdj,gd->cjg", vectors, b.normal)
        for end in (1.0, -1.0):
            inside = single & (end * t * s[:, None, :] > -ON_KINK).all(axis=2)
            for i, j in np.argwhere(inside):
                sign = np.where(np.abs(t[i, j]) <= ON_KINK, 0, s[i]).astype(np.int8)
                ends = end if not sign.any() else 0.0
                level.append(_Piece(sign, float(values[i, j]), end * vectors[i, :, j], 0, ends))
        for i in np.flatnonzero(close.any(axis=1)):
            for low, high in _runs(close[i]):
                space = vectors[i, :, low : high + 1].T
                value = float(values[i, low : high + 1].mean())
                level.extend(_meeting(b, s[i], space, value))
    for number, group in enumerate(_levels(level, b.size)):
        for i in group:
            piece = level[i]
            found.setdefault((piece.sign.tobytes(), number, piece.end), piece)
    return list(found.values())


def _levels(found: list[_Piece], size: float) -> list[list[int]]:
    """Groups of pieces with the same eigenvalue."""
    if not found:
        return []
    value = np.array([piece.value for piece in found])
    order = np.argsort(value)
    cuts = np.flatnonzero(np.diff(value[order]) > REPEATED * size) + 1
    return [group.tolist() for group in np.split(order, cuts)]


def _runs(close: ndarray) -> list[tuple[int, int]]:
    """First and last index of every run of equal eigenvalues longer than one."""
    runs, i = [], 0
    while i < len(close):
        if close[i]:
            low = i
            while i < len(close) and close[i]:
                i += 1
            runs.append((low, i))
        i += 1
    return runs


def _meeting(b: Bends, cell: ndarray, space: ndarray, value: float) -> Iterator[_Piece]:
    """Where an eigenspace meets a closed cell: the faces of the arrangement cut out of it."""
    inside = b.normal @ space.T
    length = np.linalg.norm(inside, axis=1)
    across = np.flatnonzero(length > ON_KINK)
    sign = np.zeros(len(b.normal), np.int8)
    if len(across) == 0:
        yield _Piece(sign, value, space[0], len(space) - 1, 0.0)
        return
    unit, which, turned = distinct_hyperplanes(inside[across] / length[across, None])
    _, singular, vectors = np.linalg.svd(unit, full_matrices=False)
    span = vectors[singular > ON_KINK * singular[0]]
    free = complement(span)
    local = unit @ span.T
    around = faces(local / np.linalg.norm(local, axis=1, keepdims=True))
    whole = around.sign[:, which] * turned.astype(np.int8)
    for i in np.flatnonzero(((whole == 0) | (whole == cell[across])).all(axis=1)):
        dimension = int(around.dimension[i]) + len(free) - 1
        if dimension < 0:
            continue
        sign = np.zeros(len(b.normal), np.int8)
        sign[across] = whole[i]
        at = around.witness[i] @ span if around.dimension[i] else free[0]
        line = dimension == 0 and around.dimension[i] == 0
        for end in (1.0, -1.0) if line else (1.0,):
            yield _Piece(sign, value, end * at @ space, dimension, end if line else 0.0)


def _curvature(b: Bends, piece: _Piece) -> tuple[float, float]:
    """The least and the largest value of q on the unit sphere across u."""
    d = len(piece.at)
    if d == 1:
        return 0.0, 0.0
    held = np.flatnonzero(piece.sign == 0)
    side = np.where(piece.sign > 0, b.plus, np.where(piece.sign < 0, b.minus, 0.0))
    across = complement(piece.at[None])
    form = b.smooth + (side[:, None] * b.normal).T @ b.normal - piece.value * np.eye(d)
    form = across @ form @ across.T
    if len(held) == 0:
        values = np.linalg.eigvalsh(form)
        return float(values[0]), float(values[-1])
    normal = b.normal[held] @ across.T
    local = Bends(
        normal / np.linalg.norm(normal, axis=1, keepdims=True),
        b.plus[held],
        b.minus[held],
        tuple(b.members[g] for g in held),
        b.towards,
        form,
        b.size,
    )
    reached = [p.value for p in _pieces(pieces(local))]
    if not reached:
        raise PolarflowError("the NCF has no extreme value around a KKT point; its data overflow.")
    return min(reached), max(reached)
