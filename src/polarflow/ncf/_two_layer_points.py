r"""All KKT points of the NCF of one two-layer (leaky) ReLU neuron.

N(a, w) = a G(w), G(w) = sum_k z_k s(w.x_k), is linear in a and piecewise linear in w. On the unit
sphere (a, w) is a KKT point if (G(w), a d) = 2N (a, w) for some d in dG(w):

- N != 0: then |a| = |w| = 1/sqrt(2), and u = w/|w| is a KKT point of G on its sphere,
  d = G(u) u (Kumar & Haupt 2024, lemma H.1). On a face of the kinks' arrangement with span V
  every d has the same projection P_V d, so that u = +-P_V d / |P_V d| if it lies on the face and
  the rest of d can vanish: at most one such u a face, and N = +-|P_V d| / 2.
- N = 0: either a = 0 and G(w) = 0, a set of dimension d - 2 at least wherever G changes its sign,
  or 0 in dG(w) and a is arbitrary. These are flat sets for d > 2.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ._arrangement import INDEPENDENT
from ._bends import Bends, bends
from ._certificate import NeuronCertifier, with_certificate
from ._piecewise import CHUNK, Pieces, complete, pieces
from ._points import Kind, KKTPoint, KKTSet, arranged
from ._subdifferential import independent, least_norm, local_faces
from ._two_layer import ON_KINK, kkt_distance, ncf

#: A force below this, relative to sum_k |z_k| |x_k|, is zero.
ZERO = 1e-12
HALF = np.sqrt(0.5)


def two_layer_points(
    x: Float[ndarray, "n d"], z: Float[ndarray, " n"], slope: float = 0.0
) -> KKTSet:
    """Every KKT point of N(a, w) = a sum_k z_k s(w.x_k) with |(a, w)| = 1, s(t) = max(t, slope t).

    **Arguments:**

    - `x`: inputs, shape `(n, d)`.
    - `z`: not zero, shape `(n,)`.
    - `slope`: for negative arguments.

    **Returns:** points with direction (a, w); of every flat set one.

    **Raises:** `PolarflowError` if the kinks cut space into too many cells to list.
    """
    whole = pieces(bends(x, z, 1, slope))
    force = face_forces(whole.bends, whole.faces.sign)
    points = [
        *isolated_points(whole.bends, whole.faces.sign, force, slope),
        *_vanishing(whole, force, slope),
    ]
    proof = whole.proof()
    done, largest = certified(points, x, z, slope, NeuronCertifier(x, z, slope))
    return KKTSet(arranged(done), 2, largest, complete(proof), proof)


def certified(
    points: list[KKTPoint],
    x: Float[ndarray, "n d"],
    z: Float[ndarray, " n"],
    slope: float,
    certifier: NeuronCertifier,
) -> tuple[list[KKTPoint], float]:
    """The points with their certificates, and the largest |N| among them."""
    directions = np.array([point.direction for point in points])
    values = ncf(directions, x, z, slope)
    largest = float(np.abs(values).max())
    scale = 2.0 * largest or 1.0
    residual = kkt_distance(directions, x, z, slope) / scale
    done = [
        with_certificate(
            replace(point, value=float(value) + 0.0),
            2,
            float(r),
            _multiplier(point, x, z, slope),
            scale,
            certifier.two_layer(point),
        )
        for point, value, r in zip(points, values, residual, strict=True)
    ]
    return done, largest


def _multiplier(point: KKTPoint, x: ndarray, z: ndarray, slope: float) -> float:
    """<v, g> for the element g of the subdifferential that the kinks' multipliers choose."""
    a, w = point.direction[0], point.direction[1:]
    s = np.where(x @ w > 0, 1.0, slope)
    if point.on_kinks:
        s[list(point.on_kinks)] = point.kink_multipliers or 0.0
    force = (z * s) @ x
    return float(a * (w @ force) + a * (force @ w))


def face_forces(b: Bends, sign: ndarray) -> Float[ndarray, "F d"]:
    """P_V d on each face: what every element of dG there has in common, in the face's span V."""
    middle = 0.5 * (b.plus + b.minus)
    force = np.empty((len(sign), b.smooth.shape[0]))
    for start in range(0, len(force), CHUNK):
        s = sign[start : start + CHUNK]
        side = np.where(s > 0, b.plus, np.where(s < 0, b.minus, middle))
        force[start : start + CHUNK] = b.smooth + side @ b.normal
    held = sign == 0
    count = held.sum(axis=1)
    for q in np.unique(count[count > 0]):
        rows = np.flatnonzero(count == q)
        for start in range(0, len(rows), CHUNK):
            row = rows[start : start + CHUNK]
            normal = b.normal[np.nonzero(held[row])[1].reshape(len(row), q)]
            _, singular, vectors = np.linalg.svd(normal, full_matrices=False)
            across = vectors * (singular > INDEPENDENT)[:, :, None]
            part = np.einsum("fqd,fd->fq", across, force[row])
            force[row] -= np.einsum("fqd,fq->fd", across, part)
    return force


def isolated_points(b: Bends, sign: ndarray, force: ndarray, slope: float) -> Iterator[KKTPoint]:
    """The points with N != 0 on faces with these signs and forces, without certificates."""
    strength = np.linalg.norm(force, axis=1)
    moving = np.flatnonzero(strength > ZERO * b.size)
    for start in range(0, len(moving), CHUNK):
        row = moving[start : start + CHUNK]
        u = force[row] / strength[row, None]
        t, s = u @ b.normal.T, sign[row]
        for orientation in (1.0, -1.0):
            inside = ((s == 0) | (orientation * t * s > ON_KINK)).all(axis=1)
            inside[inside] = _may_vanish(b, s[inside])
            for i in np.flatnonzero(inside):
                held = np.flatnonzero(s[i] == 0)
                share = _shares(b, s[i], held)
                if share is None:
                    continue
                rises = _rises(b, s[i], held, orientation)
                for a in (HALF, -HALF):
                    value = float(a * HALF * orientation * strength[row[i]])
                    kind: Kind = "saddle" if rises else "maximum" if value > 0 else "minimum"
                    yield KKTPoint(
                        np.concatenate([[a], orientation * HALF * u[i]]),
                        value,
                        kind,
                        strict=True,
                        on_kinks=_examples(b, held),
                        kink_multipliers=_multipliers(b, held, share, slope),
                        # N(v) = N(-v) if G is linear.
                        orbit=hash((row[i], orientation, a) if len(b.normal) else value > 0),
                    )


def _may_vanish(b: Bends, sign: ndarray) -> Bool[ndarray, " F"]:
    """False where the shares of the plus sides, if they are unique, lie beyond [0, 1]."""
    held = sign == 0
    count = held.sum(axis=1)
    may = np.ones(len(sign), dtype=bool)
    for q in np.unique(count[(count > 0) & (count <= b.normal.shape[1])]):
        rows = np.flatnonzero(count == q)
        kinks = np.nonzero(held[rows])[1].reshape(len(rows), q)
        normal = b.normal[kinks]
        side = np.where(sign[rows] > 0, b.plus, np.where(sign[rows] < 0, b.minus, 0.0))
        rest = b.smooth + side @ b.normal
        gram = normal @ normal.transpose(0, 2, 1)
        clear = np.linalg.eigvalsh(gram)[:, 0] > 1e-8
        gram[~clear] = np.eye(q)
        pulls = -np.einsum("fqd,fd->fq", normal, rest)
        wanted = np.linalg.solve(gram, pulls[:, :, None])[:, :, 0]
        share = (wanted - b.minus[kinks]) / (b.plus - b.minus)[kinks]
        may[rows] = ~clear | ((share > -1e-6) & (share < 1 + 1e-6)).all(axis=1)
    return may


def _shares(b: Bends, sign: ndarray, held: ndarray) -> ndarray | None:
    """Shares of the plus sides that leave of dG only its part in the face, or None."""
    if len(held) == 0:
        return np.zeros(0)
    normal = b.normal[held]
    base = _rest(b, sign)
    # Within the normals' span nothing may be left.
    span = np.linalg.svd(normal, full_matrices=False)
    across = span[2][span[1] > 1e-10]
    left, share = least_norm(across @ base, normal @ across.T, normal, b.minus[held], b.plus[held])
    return share if np.linalg.norm(left) <= 1e-10 * b.size else None


def _rest(b: Bends, sign: ndarray) -> ndarray:
    """The force without the kinks that a face lies on."""
    side = np.where(sign > 0, b.plus, np.where(sign < 0, b.minus, 0.0))
    return b.smooth + side @ b.normal


def _slopes(b: Bends, sign: ndarray, held: ndarray) -> ndarray:
    """The rate of G along every ray of the arrangement around a face, across the face.

    G is linear between the rays, so it rises somewhere if and only if it rises on one of them.
    """
    if len(held) == 0:
        return np.zeros(0)
    normal = b.normal[held]
    if independent(normal):
        dual = np.linalg.pinv(normal).T
        dual /= np.linalg.norm(dual, axis=1, keepdims=True)
        rays = np.concatenate([dual, -dual])
    else:
        around, basis = local_faces(normal)
        rays = around.ray @ basis
    t = rays @ normal.T
    t[np.abs(t) <= 1e-10] = 0.0
    bent = np.where(t > 0, b.plus[held], b.minus[held]) * t
    return np.asarray(rays @ _rest(b, sign) + bent.sum(axis=1))


def _rises(b: Bends, sign: ndarray, held: ndarray, orientation: float) -> bool:
    """Whether |G| grows at first order in some direction across the face."""
    return bool((orientation * _slopes(b, sign, held) > 1e-10 * b.size).any())


def _examples(b: Bends, held: ndarray) -> tuple[int, ...]:
    return tuple(k for g in held for k in b.members[g])


def _multipliers(b: Bends, held: ndarray, share: ndarray, slope: float) -> tuple[float, ...]:
    """s_k of each example on the kinks: an example against the normal has the other share."""
    return tuple(
        float(slope + (1 - slope) * (part if b.towards[k] > 0 else 1.0 - part))
        for g, part in zip(held, share, strict=True)
        for k in b.members[g]
    )


def _vanishing(whole: Pieces, force: ndarray, slope: float) -> Iterator[KKTPoint]:
    """The points with N = 0: isolated ones, and one of each flat set."""
    b, f = whole.bends, whole.faces
    small = ZERO * b.size
    still = np.linalg.norm(force, axis=1) <= small
    low, high = np.zeros(len(force)), np.zeros(len(force))
    if len(f.incidence):
        face, ray = f.incidence.T
        rate = (force[face] * (f.ray[ray] @ whole.span)).sum(axis=1)
        first = np.flatnonzero(np.diff(face, prepend=-1))
        low[face[first]] = np.minimum.reduceat(rate, first)
        high[face[first]] = np.maximum.reduceat(rate, first)
    free = np.linalg.norm(force @ whole.free.T, axis=1)
    crossed = still | ((low < -small) & (high > small)) | (free > small)
    crossed &= whole.dimension > 0
    # The origin w = 0 with a = +-1, where no direction is free of bends.
    nodes = np.flatnonzero(crossed & (whole.dimension - ~still > 0))
    spread = np.zeros(len(force), dtype=int)  # the dimension of each piece of the flat set
    spread[nodes] = whole.dimension[nodes] - 1 - ~still[nodes]
    shares = {}
    for i in nodes[still[nodes]]:
        held = np.flatnonzero(f.sign[i] == 0)
        share = _shares(b, f.sign[i], held)
        if share is not None:
            shares[int(i)] = share
            spread[i] += 1
    yield from _flat_points(whole, force, nodes, spread, shares, slope)
    if not shares and _origin_is_kkt(whole):
        rates = _slopes(b, np.zeros(len(b.normal), np.int8), np.arange(len(b.normal)))
        up, down = (rates > small).any(), (rates < -small).any()
        for a in (1.0, -1.0):
            kind: Kind = "saddle" if up and down else "minimum" if up == (a > 0) else "maximum"
            direction = np.zeros(1 + len(b.smooth))
            direction[0] = a
            held = np.arange(len(b.normal))
            yield KKTPoint(direction, 0.0, kind, True, _examples(b, held), orbit=hash(("pole", a)))


def _origin_is_kkt(whole: Pieces) -> bool:
    """Whether 0 lies in dG(0), the hull of the forces of all cells."""
    b = whole.bends
    if len(whole.free) and np.linalg.norm(whole.free @ b.smooth) > ZERO * b.size:
        return False
    none = np.zeros(len(b.normal), np.int8)
    if len(b.normal) == 0:
        return bool(np.linalg.norm(b.smooth) <= ZERO * b.size)
    if independent(b.normal):
        return _shares(b, none, np.arange(len(b.normal))) is not None
    from scipy.optimize import linprog

    cells = whole.faces.sign[whole.faces.dimension == len(whole.span)]
    gradients = (b.smooth + np.where(cells > 0, b.plus, b.minus) @ b.normal) @ whole.span.T
    # A direction along which every force points one way separates 0 from the hull.
    scaled = gradients / np.abs(gradients).max()
    d = scaled.shape[1]
    found = linprog(
        np.append(np.zeros(d), -1.0),
        A_ub=np.concatenate([-scaled, np.ones((len(scaled), 1))], axis=1),
        b_ub=np.zeros(len(scaled)),
        bounds=[(-1, 1)] * d + [(0, 1)],
        method="highs",
    )
    return bool(found.x[-1] <= 1e-9)


def _flat_points(
    whole: Pieces,
    force: ndarray,
    nodes: ndarray,
    spread: ndarray,
    shares: dict[int, ndarray],
    slope: float,
) -> Iterator[KKTPoint]:
    b, f = whole.bends, whole.faces
    total = len(force)
    member = np.zeros(total, dtype=bool)
    member[nodes] = True
    edges = f.below[member[f.below].all(axis=1)]
    # Where 0 is in dG(w), a runs from -1 to 1: all of these sets meet at the poles w = 0.
    free = np.array(sorted(shares), dtype=int)
    if len(free):
        edges = np.concatenate([edges, np.stack([free, np.full(len(free), free[0])], axis=1)])
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(total, total))
    _, label = connected_components(graph, directed=False)
    order = nodes[np.argsort(-spread[nodes], kind="stable")]
    _, first = np.unique(label[order], return_index=True)
    for i in order[np.sort(first)]:
        held = np.flatnonzero(f.sign[i] == 0)
        w = _vanishing_direction(whole, force, int(i))
        dimension = int(spread[i])
        line = dimension == 0 and f.dimension[i] == 0  # a line of which both ends count
        for end in (1.0, -1.0) if line else (1.0,):
            a = HALF if int(i) in shares else 0.0
            share = shares.get(int(i))
            if share is None:  # with a = 0 every slope will do
                share = np.full(len(held), 0.5)
            yield KKTPoint(
                np.concatenate([[a], end * np.sqrt(1.0 - a * a) * w]),
                0.0,
                "saddle",
                strict=_leaves(whole, force, int(i)),
                on_kinks=_examples(b, held),
                kink_multipliers=_multipliers(b, held, share, slope),
                dimension=dimension,
                orbit=hash(("zero", int(i), end if len(b.normal) else 0.0)),
            )


def _leaves(whole: Pieces, force: ndarray, i: int) -> bool:
    """Whether G is not zero throughout a neighbourhood, so that N = a G rises at second order."""
    b, f = whole.bends, whole.faces
    held = np.flatnonzero(f.sign[i] == 0)
    moves = bool(np.linalg.norm(force[i]) > ZERO * b.size)
    return moves or bool((np.abs(_slopes(b, f.sign[i], held)) > 1e-10 * b.size).any())


def _vanishing_direction(whole: Pieces, force: ndarray, i: int) -> Float[ndarray, " d"]:
    """A unit w inside face i with G(w) = 0."""
    f = whole.faces
    first, last = np.searchsorted(f.incidence[:, 0], (i, i + 1))
    rays = f.ray[f.incidence[first:last, 1]] @ whole.span
    rays = np.concatenate([rays, whole.free, -whole.free])
    rate = rays @ force[i]
    small = ZERO * whole.bends.size
    up, down = rate > small, rate < -small
    # Positive weights whose rates cancel.
    weight = np.where(up, -rate[down].sum(), np.where(down, rate[up].sum(), 0.0))
    weight = np.where(up | down, weight / max(weight.max(), small), 1.0)
    w = weight @ rays
    if np.linalg.norm(w) < 1e-9:  # the rays of a linear space cancel
        w = _null_direction(whole.free, force[i])
    return np.asarray(w / np.linalg.norm(w))


def _null_direction(free: ndarray, force: ndarray) -> ndarray:
    """A vector of the free directions across a force."""
    along = free @ force
    size = np.linalg.norm(along)
    if size == 0 or len(free) == 1:
        return np.asarray(free[0])
    guess = np.zeros(len(free))
    guess[int(np.argmin(np.abs(along)))] = 1.0
    return np.asarray((guess - (guess @ along) * along / size**2) @ free)
