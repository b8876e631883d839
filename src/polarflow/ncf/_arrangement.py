"""All faces of a central arrangement of hyperplanes, and how many cells there must be.

Hyperplanes w.e_g = 0 cut R^r into open convex cones. A *face* is named by its signs sgn(w.e_g);
faces without a zero are *cells*. When the normals span R^r every face but the origin has a *ray*
(a face of dimension one) in its closure, and a ray is where r - 1 independent hyperplanes meet.
So all faces are found from the rays: around a ray the arrangement is that of the hyperplanes
which hold the ray, one dimension lower.

The count that proves completeness is made another way, by deletion and restriction: the cells of
A are those of A without H, and one more for each cell of the arrangement that A cuts out of H
(Zaslavsky 1975; it is |chi(-1)| of the characteristic polynomial). In general position it is
2 sum_{i<r} binom(h-1, i), which no arrangement of h hyperplanes exceeds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from math import comb

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from ..errors import PolarflowError

#: Unit normals closer than this, up to sign, are one hyperplane.
PARALLEL = 1e-12
#: The least singular value of unit normals that count as independent.
INDEPENDENT = 1e-10
#: |ray.e| below this puts a ray on a hyperplane.
ON_HYPERPLANE = 1e-10
#: The largest number of (face, ray) pairs that is tried.
LARGEST = 100_000_000

_CHUNK = 50_000


@dataclass(frozen=True, eq=False)
class Faces:
    """The faces of an arrangement whose h normals span R^r, the origin among them.

    **Attributes:**

    - `sign`: sgn(w.e_g) on each face, int8, shape `(F, h)`.
    - `dimension`: of the cone, shape `(F,)`; r for cells, 1 for rays, 0 for the origin.
    - `ray`: unit vectors, shape `(R, r)`.
    - `incidence`: pairs (face, ray) with the ray in the face's closure, sorted by face.
    - `below`: pairs (face, face) with the first in the closure of the second; every such pair
      is joined by a chain of these.
    - `witness`: a point inside each face, shape `(F, r)`.
    - `general`: whether no ray lies on more than r - 1 hyperplanes.
    - `margin`: the least |w.e_g| of a unit witness over hyperplanes that it is not on.
    """

    sign: Int[ndarray, "F h"]
    dimension: Int[ndarray, " F"]
    ray: Float[ndarray, "R r"]
    incidence: Int[ndarray, "pairs 2"]
    below: Int[ndarray, "edges 2"]
    witness: Float[ndarray, "F r"]
    general: bool
    margin: float

    @property
    def cells(self) -> int:
        """The number of cells."""
        return int((self.dimension == self.ray.shape[1]).sum())


Hyperplanes = tuple[Float[ndarray, "h d"], Int[ndarray, " n"], Float[ndarray, " n"]]


def distinct_hyperplanes(unit: Float[ndarray, "n d"]) -> Hyperplanes:
    """Unit normals without repetition up to sign.

    **Returns:** the normals kept, in order of first appearance; which of them each row is; and
    the sign it has relative to that one.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    n = len(unit)
    if n == 0:
        return unit, np.zeros(0, dtype=int), np.ones(0)
    tree = cKDTree(np.concatenate([unit, -unit]))
    pairs = tree.query_pairs(PARALLEL, output_type="ndarray") % n
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    _, first, which = np.unique(label, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    normals, which = unit[first[order]], place[which]
    return normals, which, np.where((unit * normals[which]).sum(axis=1) > 0, 1.0, -1.0)


def simple_count(hyperplanes: int, rank: int) -> int:
    """The cells of h hyperplanes in general position in R^r: 2 sum_{i<r} binom(h-1, i)."""
    if hyperplanes == 0 or rank == 0:
        return 1
    return 2 * sum(comb(hyperplanes - 1, i) for i in range(rank))


def count_cells(normals: Float[ndarray, "h d"]) -> int:
    """The number of cells by deletion and restriction; rows of length zero are no hyperplanes."""
    size = np.linalg.norm(normals, axis=1)
    unit = normals[size > ON_HYPERPLANE] / size[size > ON_HYPERPLANE, None]
    if len(unit) == 0:
        return 1
    if unit.shape[1] == 1:
        return 2
    unit = _distinct(unit)
    if unit.shape[1] == 2:
        return 2 * len(unit)
    total = 1
    for g, normal in enumerate(unit):
        total += count_cells(unit[:g] @ complement(normal[None]).T)
    return total


def faces(normals: Float[ndarray, "h r"]) -> Faces:
    """All faces of the arrangement of unit normals, distinct up to sign, that span R^r.

    **Raises:** `PolarflowError` if there are too many to be listed.
    """
    h, r = normals.shape
    if comb(h, max(r - 1, 0)) * 2 * 3 ** max(r - 1, 0) > LARGEST:
        raise PolarflowError(
            f"{h} kinks in {r} dimensions make about {simple_count(h, r):.3g} cells, too many to "
            'enumerate; method = "search" has no such limit.'
        )
    if r == 0:
        origin = np.zeros((1, 0), dtype=np.int8)
        none = np.zeros((0, 2), dtype=int)
        return Faces(
            origin, np.zeros(1, int), np.zeros((0, 0)), none, none, np.zeros((1, 0)), True, 1.0
        )
    ray, zero = _rays(normals)
    ray_sign = np.where(zero, 0, np.sign(ray @ normals.T)).astype(np.int8)
    random = np.random.default_rng(h)
    weight = np.asarray(random.integers(1, 2**63, size=h, dtype=np.uint64))
    ray_key = _key(ray_sign, weight)

    key, dimension, of_ray, place, below = [], [], [], [], []
    start = 0
    for block in _around(normals, ray, zero):
        count = len(block.rays) * len(block.sign)
        local = block.sign[None].astype(np.int64).astype(np.uint64) * weight[block.zero][:, None]
        key.append((ray_key[block.rays][:, None] + local.sum(axis=2, dtype=np.uint64)).ravel())
        dimension.append(np.tile(1 + block.dimension, len(block.rays)))
        of_ray.append(np.repeat(block.rays, len(block.sign)))
        place.append(np.tile(np.arange(len(block.sign)), len(block.rays)))
        shift = start + np.arange(len(block.rays)) * len(block.sign)
        below.append((block.below[None] + shift[:, None, None]).reshape(-1, 2))
        start += count
    keys = np.concatenate(key)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    rays_of = np.concatenate(of_ray)
    pattern = np.concatenate(place)

    sign = ray_sign[rays_of[first]]
    _fill(sign, rays_of[first], pattern[first], _around(normals, ray, zero))
    total = len(first)
    witness = np.stack(
        [np.bincount(which, weights=ray[rays_of, c], minlength=total) for c in range(r)], axis=1
    )
    size = np.linalg.norm(witness, axis=1)
    order = np.argsort(which, kind="stable")
    incidence = np.stack([which[order], rays_of[order]], axis=1)
    edges = which[np.concatenate(below)]
    # The origin lies under every ray.
    dims = np.concatenate([np.concatenate(dimension)[first], [0]])
    rays_as_faces = np.flatnonzero(dims == 1)
    under = np.stack([np.full(len(rays_as_faces), total), rays_as_faces], axis=1)
    sign = np.concatenate([sign, np.zeros((1, h), np.int8)])
    witness = np.concatenate([witness / size[:, None], np.zeros((1, r))])
    return Faces(
        sign,
        dims,
        ray,
        incidence,
        np.concatenate([edges, under]),
        witness,
        bool((zero.sum(axis=1) == r - 1).all()),
        _margin(sign, witness, normals),
    )


@dataclass(frozen=True, eq=False)
class _Around:
    """What lies around some rays: local faces, told by their signs on the rays' hyperplanes."""

    rays: ndarray  # (R,)
    zero: ndarray  # (R, q): the hyperplanes that hold each ray
    sign: ndarray  # (L, q)
    dimension: ndarray  # (L,)
    below: ndarray  # (E, 2)


def _around(normals: ndarray, ray: ndarray, zero: ndarray) -> Iterator[_Around]:
    r = normals.shape[1]
    count = zero.sum(axis=1)
    simple = np.flatnonzero(count == r - 1)
    if len(simple):
        sign, dimension, below = _boolean(r - 1)
        held = np.nonzero(zero[simple])[1].reshape(len(simple), r - 1)
        yield _Around(simple, held, sign, dimension, below)
    for i in np.flatnonzero(count != r - 1):
        crowd = np.flatnonzero(zero[i])
        local = normals[crowd] @ complement(ray[i][None]).T
        found = faces(local / np.linalg.norm(local, axis=1, keepdims=True))
        yield _Around(np.array([i]), crowd[None], found.sign, found.dimension, found.below)


def _fill(sign: ndarray, rays: ndarray, pattern: ndarray, around: Iterator[_Around]) -> None:
    """Write the local signs of each face into its row."""
    for block in around:
        row = np.full(int(max(rays.max(), block.rays.max())) + 1, -1)
        row[block.rays] = np.arange(len(block.rays))
        mine = np.flatnonzero(row[rays] >= 0)
        if len(mine) and block.zero.shape[1]:
            sign[mine[:, None], block.zero[row[rays[mine]]]] = block.sign[pattern[mine]]


@cache
def _boolean(q: int) -> tuple[ndarray, ndarray, ndarray]:
    """Faces of q independent hyperplanes: all of {-1, 0, 1}^q, and which lies under which."""
    sign = np.array(list(product((-1, 0, 1), repeat=q)), dtype=np.int8).reshape(3**q, q)
    below = [
        (i, i + step * 3 ** (q - 1 - g))
        for i, row in enumerate(sign)
        for g in range(q)
        if row[g] == 0
        for step in (-1, 1)
    ]
    return sign, np.abs(sign).sum(axis=1).astype(int), np.array(below, dtype=int).reshape(-1, 2)


def _rays(normals: ndarray) -> tuple[Float[ndarray, "R r"], Bool[ndarray, "R h"]]:
    """Both unit vectors of every line where r - 1 independent hyperplanes meet."""
    h, r = normals.shape
    if r == 1:
        return np.array([[1.0], [-1.0]]), np.zeros((2, h), dtype=bool)
    subsets = np.array(list(combinations(range(h), r - 1)), dtype=np.intp)
    lines, zeros = [], []
    for start in range(0, len(subsets), _CHUNK):
        chosen = subsets[start : start + _CHUNK]
        _, singular, vectors = np.linalg.svd(normals[chosen])
        good = singular[:, -1] > INDEPENDENT
        line = vectors[good, -1]
        on = np.abs(line @ normals.T) <= ON_HYPERPLANE
        on[np.arange(len(line))[:, None], chosen[good]] = True
        lines.append(line)
        zeros.append(on)
    line, zero = np.concatenate(lines), np.concatenate(zeros)
    repeated = zero.sum(axis=1) > r - 1
    if repeated.any():
        _, first = np.unique(np.packbits(zero, axis=1), axis=0, return_index=True)
        line, zero = line[first], zero[first]
    return np.concatenate([line, -line]), np.concatenate([zero, zero])


def _key(sign: ndarray, weight: ndarray) -> ndarray:
    """A number for each row of signs: two rows share one with a chance of 2^-63."""
    with np.errstate(over="ignore"):
        total = np.zeros(len(sign), dtype=np.uint64)
        for start in range(0, len(sign), _CHUNK):
            rows = sign[start : start + _CHUNK].astype(np.int64).astype(np.uint64)
            total[start : start + _CHUNK] = rows @ weight
    return total


def _margin(sign: ndarray, witness: ndarray, normals: ndarray) -> float:
    """The least distance of a witness from a hyperplane; negative if a sign is wrong."""
    least = np.inf
    for start in range(0, len(sign), _CHUNK):
        s = sign[start : start + _CHUNK]
        value = witness[start : start + _CHUNK] @ normals.T
        least = min(least, float(np.min(value * s, where=s != 0, initial=np.inf)))
    return least


def _distinct(unit: ndarray) -> ndarray:
    """Unit rows without repetition up to sign, for few rows."""
    near = np.abs(unit @ unit.T)
    close = np.argwhere(np.triu(near > 1 - 1e-9, 1))
    drop = {
        int(j)
        for i, j in close
        if min(np.linalg.norm(unit[i] - unit[j]), np.linalg.norm(unit[i] + unit[j])) < ON_HYPERPLANE
    }
    return unit[[i for i in range(len(unit)) if i not in drop]]


def complement(rows: Float[ndarray, "k d"]) -> Float[ndarray, "rest d"]:
    """An orthonormal basis, as rows, of what is orthogonal to the given rows."""
    if len(rows) == 0:
        return np.eye(rows.shape[1])
    _, singular, vectors = np.linalg.svd(rows)
    return np.asarray(vectors[int((singular > INDEPENDENT).sum()) :])
