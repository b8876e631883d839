"""KKT points of any block's NCF, found from many random starts.

From every start the NCF flow itself is followed, so that the share of random directions that ends
in each point, its basin, comes out; Newton's method on the sphere finishes. From the same starts
the KKT equations are solved directly, which finds saddles and minima as well. A search proves
nothing about points that it did not meet.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..networks import Network
from ._balls import certify_block
from ._block import Block, blocks_of
from ._points import Kind, KKTPoint, KKTSet, arranged
from ._sphere import Sphere

#: The seeds' streams of random numbers are told apart by a key.
SEARCH_STREAM = 11
#: Speeds of the flow, relative to the gradient's size, at which Newton's method is tried.
CLOSER = (1e-3, 1e-5, 1e-7)
#: KKT residual, relative to the gradient's size, of what counts as found.
FOUND = 1e-11
#: Unit vectors closer than this are one point.
SAME = 1e-6
#: Curvatures below this, relative to the largest, vanish.
FLAT = 1e-7
#: The KKT equations are solved directly for blocks of at most so many weights.
DIRECT = 400
#: |u.x_k| below this, relative to |x_k|, puts a unit vector on the kink of example k.
ON_KINK = 1e-10
#: How far a point is moved along a null direction to see whether KKT points are there too.
_NUDGE = 1e-3
#: Null directions that are tried for flatness, at most.
_TRIED = 40
_PROBES = 20


@dataclass(frozen=True, eq=False)
class _Found:
    at: ndarray
    value: float
    flows: int
    values: ndarray
    vectors: ndarray


def search_points(
    network: Network,
    x: Float[ndarray, "n d"],
    z: ndarray,
    *,
    starts: int = 64,
    seed: int = 0,
) -> KKTSet:
    """KKT points of the NCF of every block of a network (of equal blocks, one).

    **Arguments:**

    - `network`: whose blocks are homogeneous.
    - `x`: inputs, shape `(n, d)`.
    - `z`: not zero, shape `(n,)` or `(n, C)`.
    - `starts`: random directions for each block, uniform on its sphere.
    - `seed`: of the generator `numpy.random.default_rng([seed, 11])`.

    **Returns:** points with their shares; of every flat set one, with the share of all of it.

    **Raises:** `PolarflowError` if a block is not homogeneous.
    """
    rng = np.random.default_rng([seed, SEARCH_STREAM])
    blocks = blocks_of(network, x.shape[1])
    points: list[KKTPoint] = []
    unresolved = []
    for block in blocks:
        w = rng.standard_normal((starts, block.size))
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        probes = rng.standard_normal((_PROBES, x.shape[1]))
        mine, lost = _of_block(Sphere(block, x, z.reshape(len(x), -1)), w, probes)
        points += mine
        unresolved.append(lost / starts)
    largest = max((abs(p.value) for p in points), default=0.0)
    done = [_scaled(p, blocks, largest) for p in points]
    done = [_certified(p, blocks[p.block or 0], x, z) for p in done]
    proof: dict[str, Any] = {
        "starts": starts,
        "seed": seed,
        "blocks": len(blocks),
        "unresolved_share": max(unresolved),
        "kinks_located": not any(block.kinks for block in blocks),
    }
    order = blocks[0].order
    return KKTSet(
        arranged(done), int(order) if order == int(order) else order, largest, False, proof
    )


def flow_limits(
    network: Network, x: Float[ndarray, "n d"], z: ndarray, starts: Float[ndarray, "m p"]
) -> Float[ndarray, "m p"]:
    """Where the NCF flow takes given directions of a network whose blocks are all alike.

    The flow on the sphere, finished by Newton's method; a flow that comes to no KKT point keeps
    the direction that it had.
    """
    (block,) = blocks_of(network, x.shape[1])
    sphere = Sphere(block, x, z.reshape(len(x), -1))
    size = float(np.linalg.norm(sphere.value_and_gradient(starts)[1], axis=1).max())
    ends = sphere.flow(starts, size, CLOSER[-1])
    finished = [sphere.newton(end, size)[0] for end in ends]
    near = [np.linalg.norm(f - end) < 1e-3 for f, end in zip(finished, ends, strict=True)]
    return np.where(np.array(near)[:, None], np.array(finished), ends)


def _scaled(point: KKTPoint, blocks: list[Block], largest: float) -> KKTPoint:
    order = blocks[point.block or 0].order
    scale = order * largest or 1.0
    return replace(
        point,
        kkt_residual=point.kkt_residual / scale,
        order_defect=abs(order * point.value - point.multiplier) / scale,
        block=point.block if len(blocks) > 1 else None,
    )


def _certified(point: KKTPoint, block: Block, x: ndarray, z: ndarray) -> KKTPoint:
    """An isolated point with the interval test; kinks that hold a squared-ReLU unit are named."""
    if point.dimension:
        return point
    if block.sign is not None:
        reach = np.linalg.norm(x, axis=1)
        near = np.abs(x @ point.direction) <= ON_KINK * reach
        on = np.flatnonzero(near & (reach > 0) & z.reshape(len(x), -1).any(axis=1))
        point = replace(point, on_kinks=tuple(on.tolist()))
        if point.on_kinks:
            return point
    targets = z.reshape(len(x), -1)
    proved, radius = certify_block(block, x, targets, point.direction, point.multiplier)
    return replace(point, certified=proved, radius=radius)


def _of_block(sphere: Sphere, w: ndarray, probes: ndarray) -> tuple[list[KKTPoint], int]:
    """The points of one block, and how many flows did not come to one."""
    _, gradient = sphere.value_and_gradient(w)
    size = float(np.linalg.norm(gradient, axis=1).max())
    if size == 0.0:
        return [], len(w)
    candidates: list[tuple[ndarray, int]] = []
    going = w
    for close in CLOSER:
        going = sphere.flow(going, size, close)
        left = []
        for end in going:
            at, residual = sphere.newton(end, size)
            near = residual <= FOUND and np.linalg.norm(at - end) < 30 * close + 1e-3
            # A flow may slow down near a saddle that it then leaves.
            if near and (close == CLOSER[-1] or not _rises(sphere, at)):
                candidates.append((at, 1))
            else:
                left.append(end)
        going = np.array(left)
        if not left:
            break
    lost = len(going)
    if sphere.block.size <= DIRECT:
        for start in w:
            at, residual = sphere.newton(sphere.descend(start, size), size)
            if residual <= FOUND:
                candidates.append((at, 0))
    found = [_look(sphere, at, flows) for at, flows in _distinct(candidates)]
    return list(_points(sphere, found, probes, size, len(w))), lost


def _rises(sphere: Sphere, at: ndarray) -> bool:
    values, _ = sphere.curvatures(at)
    return bool(values[-1] > FLAT * np.abs(values).max())


def _distinct(candidates: list[tuple[ndarray, int]]) -> list[tuple[ndarray, int]]:
    kept: list[tuple[ndarray, int]] = []
    for at, flows in candidates:
        for i, (other, count) in enumerate(kept):
            if np.linalg.norm(at - other) < SAME:
                kept[i] = (other, count + flows)
                break
        else:
            kept.append((at, flows))
    return kept


def _look(sphere: Sphere, at: ndarray, flows: int) -> _Found:
    value, _ = sphere.value_and_gradient(at[None])
    values, vectors = sphere.curvatures(at)
    return _Found(at, float(value[0]), flows, values, vectors)


def _points(
    sphere: Sphere, found: list[_Found], probes: ndarray, size: float, starts: int
) -> Iterator[KKTPoint]:
    """One entry for each isolated point, and one for each flat set."""
    if not found:
        return
    block = sphere.block
    functions = sphere.outputs(np.array([f.at for f in found]), probes)
    reach = float(np.abs(functions).max()) or 1.0
    seen: list[tuple[ndarray, float, int]] = []
    flats: dict[int, tuple[KKTPoint, int]] = {}
    for f, function in zip(found, functions, strict=True):
        curvature = f.values / (np.abs(f.values).max() or 1.0)
        null = np.flatnonzero(np.abs(curvature) <= FLAT)
        dimension = _flat_dimension(sphere, f, null, size)
        up, down = bool((curvature > FLAT).any()), bool((curvature < -FLAT).any())
        kind: Kind = "saddle" if up and down else "minimum" if up else "maximum"
        _, gradient = sphere.value_and_gradient(f.at[None])
        multiplier = float(gradient[0] @ f.at)
        orbit = _orbit(seen, function, f.value, dimension, reach)
        point = KKTPoint(
            f.at,
            f.value + 0.0,
            kind,
            strict=up if kind == "saddle" else len(null) == 0,
            dimension=dimension,
            orbit=hash((block.number, orbit)),
            multiplier=multiplier,
            kkt_residual=float(np.linalg.norm(gradient[0] - multiplier * f.at)),
            sign=block.sign,
            share=f.flows / starts,
            singular_values=block.singular_values(f.at),
            block=block.number,
        )
        if dimension == 0:
            yield point
        else:
            known, flows = flats.get(orbit, (point, 0))
            flats[orbit] = (known, flows + f.flows)
    for point, flows in flats.values():
        yield replace(point, share=flows / starts)


def _orbit(
    seen: list[tuple[ndarray, float, int]],
    function: ndarray,
    value: float,
    dimension: int,
    reach: float,
) -> int:
    """Points with the same function of the input are related by a symmetry of the network."""
    for number, (other, _, same) in enumerate(seen):
        if same == dimension and np.abs(function - other).max() <= 1e-6 * reach:
            return number
    seen.append((function, value, dimension))
    return len(seen) - 1


def _flat_dimension(sphere: Sphere, f: _Found, null: ndarray, size: float) -> int:
    """Along how many null directions of the Hessian KKT points continue."""
    continued = 0
    for i in null[:_TRIED]:
        along = f.vectors[:, i]
        moved = f.at + _NUDGE * along
        at, residual = sphere.newton(moved / np.linalg.norm(moved), size)
        value, _ = sphere.value_and_gradient(at[None])
        level = abs(float(value[0]) - f.value) <= 1e-9 * (abs(f.value) + size)
        if residual <= FOUND and level and (at - f.at) @ along > 0.5 * _NUDGE:
            continued += 1
    if len(null) > _TRIED and continued == _TRIED:
        return len(null)
    return continued
