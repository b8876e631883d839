r"""The NCF flow of a balanced two-layer neuron, event by event.

With |a| = |w| the direction u = w/|w| obeys u' = (I - uu^T) s d, s = sign(a) and d the least-norm
choice in dG(u). On a face of the kinks' arrangement the part of d within the face is constant, so
that u moves along a great circle towards it, and the kink met first is known in closed form:
there u crosses or slides. The walk ends in a KKT point after finitely many kinks.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._bends import Bends, bends
from ._certificate import NeuronCertifier
from ._points import KKTPoint, KKTSet, arranged
from ._subdifferential import least_norm
from ._two_layer_points import HALF, ZERO, certified, face_forces, isolated_points

#: Seeds' streams of random numbers are told apart by a key.
WALK_STREAM = 12
_TOGETHER = 1e-12
_STILL = 1e-11


@dataclass(frozen=True, eq=False)
class Walk:
    """Where a walk ended, and the faces that it passed.

    **Attributes:**

    - `end`: a unit vector, shape `(d,)`.
    - `passed`: signs of the faces, shape `(F, h)`.
    - `done`: whether it came to an end before the limit of events.
    """

    end: Float[ndarray, " d"]
    passed: ndarray
    done: bool


def walk(b: Bends, start: Float[ndarray, " d"], limit: int = 100_000) -> Walk:
    """Follow the steepest ascent of G on the unit sphere from a start off all kinks."""
    u = start / np.linalg.norm(start)
    sign = np.sign(b.normal @ u).astype(np.int8)
    passed = [sign.copy()]
    for _ in range(limit):
        force = _force(b, u, sign)
        if not np.array_equal(sign, passed[-1]):
            passed.append(sign.copy())
        size = np.linalg.norm(force)
        tangent = force - (force @ u) * u
        speed = np.linalg.norm(tangent)
        if size <= ZERO * b.size or speed <= _STILL * b.size:
            return Walk(u, np.array(passed), True)
        t = tangent / speed
        goal = float(np.arctan2(speed, force @ u))
        at, rate = b.normal @ u, b.normal @ t
        meets = np.where(sign == 0, np.inf, np.arctan2(np.abs(at), -sign * rate))
        first = float(meets.min(initial=np.inf))
        if first >= goal:
            return Walk(force / size, np.array(passed), True)
        u = np.cos(first) * u + np.sin(first) * t
        met = np.flatnonzero(meets <= first + _TOGETHER)
        sign[met] = 0
        held = np.flatnonzero(sign == 0)
        u = u - np.linalg.pinv(b.normal[held]) @ (b.normal[held] @ u)
        u /= np.linalg.norm(u)
    return Walk(u, np.array(passed), False)


def _force(b: Bends, u: ndarray, sign: ndarray) -> ndarray:
    """The least-norm force at u; kinks that it leaves get their side in `sign`."""
    while True:
        held = np.flatnonzero(sign == 0)
        side = np.where(sign > 0, b.plus, np.where(sign < 0, b.minus, 0.0))
        rest = b.smooth + side @ b.normal
        if len(held) == 0:
            return np.asarray(rest)
        normal = b.normal[held]
        # The kinks hold u, so that their normals are tangent to the sphere.
        element, _ = least_norm(rest - (rest @ u) * u, normal, normal, b.minus[held], b.plus[held])
        rate = normal @ element
        leaving = np.abs(rate) > 1e-10 * b.size
        if not leaving.any():
            return np.asarray(element + (rest @ u) * u)
        sign[held[leaving]] = np.sign(rate[leaving]).astype(np.int8)


def two_layer_search(
    x: Float[ndarray, "n d"],
    z: Float[ndarray, " n"],
    slope: float = 0.0,
    *,
    starts: int = 64,
    seed: int = 0,
) -> KKTSet:
    """KKT points of one two-layer (leaky) ReLU neuron from the NCF flow of many balanced starts.

    **Arguments:**

    - `x`, `z`, `slope`: as for `two_layer_points`.
    - `starts`: w uniform on the sphere, a = +-|w| with equal probability.
    - `seed`: of the generator `numpy.random.default_rng([seed, 12])`.

    **Returns:** the KKT points with N != 0 on the faces that the flows pass, with the share of
    flows that end in each; one for all flows that end where N = 0.
    """
    rng = np.random.default_rng([seed, WALK_STREAM])
    w = rng.standard_normal((starts, x.shape[1]))
    up = rng.choice(np.array([1.0, -1.0]), size=starts)
    whole = bends(x, z, 1, slope)
    turned = replace(whole, plus=-whole.plus, minus=-whole.minus, smooth=-whole.smooth)
    walks = [walk(whole if s > 0 else turned, v) for v, s in zip(w, up, strict=True)]
    faces = np.unique(np.concatenate([each.passed for each in walks]), axis=0)
    points = list(isolated_points(whole, faces, face_forces(whole, faces), slope))
    ends = np.array([np.append(s, e.end) * HALF for s, e in zip(up, walks, strict=True)])
    flows = np.zeros(len(points), dtype=int)
    vanished, lost = [], 0
    for end, each in zip(ends, walks, strict=True):
        distance = [float(np.linalg.norm(p.direction - end)) for p in points]
        near = int(np.argmin(distance)) if points else -1
        if not each.done:
            lost += 1
        elif points and distance[near] < 1e-8:
            flows[near] += 1
        else:
            vanished.append(end)
    points = [replace(p, share=float(c) / starts) for p, c in zip(points, flows, strict=True)]
    if vanished:
        share = len(vanished) / starts
        points.append(
            KKTPoint(vanished[0], 0.0, "saddle", False, dimension=x.shape[1], share=share)
        )
    done, largest = certified(points, x, z, slope, NeuronCertifier(x, z, slope))
    proof = {"starts": starts, "seed": seed, "blocks": 1, "unresolved_share": lost / starts,
             "kinks_located": True, "faces": len(faces)}  # fmt: skip
    return KKTSet(arranged(done), 2, largest, False, proof)
