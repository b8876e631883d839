"""The largest value of the NCF of a neuron on the unit sphere, pattern by pattern."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._nonnegative import nonnegative

#: A projection that keeps this part of a vector is the vector.
_WHOLE = 1e-12
#: So many peaks are looked for at once, besides the highest.
_ENOUGH = 20


@dataclass(frozen=True)
class Peak:
    """The largest g(u) = sum_k z_k s(u.x_k) of unit vectors u in the closure of one region.

    **Attributes:**

    - `value`: of g, at least 0 (the origin belongs to the cone).
    - `direction`: u, or zero if no u of the region has a positive value.
    - `active`: s' of each example in the region, shape `(n,)`.
    - `touched`: the examples on whose kinks u lies.
    """

    value: float
    direction: Float[ndarray, " d"]
    active: Float[ndarray, " n"]
    touched: ndarray


def activity(u: Float[ndarray, "*m d"], x: Float[ndarray, "n d"], slope: float) -> ndarray:
    """s'(u.x_k) for each example: 1 where the neuron is active, the slope elsewhere."""
    return np.where(u @ x.T > 0, 1.0, slope)


def peak(
    active: Float[ndarray, " n"], x: Float[ndarray, "n d"], z: Float[ndarray, " n"], slope: float
) -> Peak:
    r"""The largest value in one region: |P(g)| with P the projection onto its closed cone.

    In the region the function is linear, $u \cdot g$ with $g = \sum_k z_k s'_k x_k$, and the
    largest $u \cdot g$ over $|u| \le 1$ in a closed convex cone is the norm of the projection of
    g (Moreau). That is a non-negative least-squares problem.
    """
    g = (z * active) @ x
    facing = np.where(active > slope, 1.0, -1.0)[:, None] * x
    if np.min(facing @ g, initial=0.0) < -_WHOLE * np.linalg.norm(g):
        multiplier = nonnegative(facing.T, -g)
        g = g + multiplier @ facing
    size = float(np.linalg.norm(g))
    largest = float(np.linalg.norm((z * active) @ x))
    if size <= 1e-13 * largest or size == 0.0:
        return Peak(0.0, np.zeros(x.shape[1]), active, np.arange(len(x)))
    u = g / size
    touched = np.flatnonzero(np.abs(x @ u) <= 1e-9 * np.linalg.norm(x, axis=1))
    return Peak(size, u, active, touched)


def highest(
    patterns: Float[ndarray, "P n"],
    x: Float[ndarray, "n d"],
    z: Float[ndarray, " n"],
    slope: float,
    above: float,
) -> list[Peak]:
    """Peaks higher than `above`, the highest first; the highest one alone if there is none.

    |g| bounds a region's peak, so that few regions need a projection.
    """
    g = (patterns * z) @ x
    size = np.linalg.norm(g, axis=1)
    found: list[Peak] = []
    best = Peak(0.0, np.zeros(x.shape[1]), patterns[0], np.zeros(0, dtype=np.int64))
    for i in np.argsort(-size, kind="stable"):
        if size[i] <= best.value and (size[i] <= above or len(found) >= _ENOUGH):
            break
        here = peak(patterns[i], x, z, slope)
        if here.value > above:
            found.append(here)
        if here.value > best.value:
            best = here
    return sorted(found, key=lambda p: -p.value) if found else [best]


def climb(
    start: Float[ndarray, " d"], x: Float[ndarray, "n d"], z: Float[ndarray, " n"], slope: float
) -> Peak:
    """A local maximum, by going from region to region over the kinks of peaks.

    All kinks that a peak lies on are crossed at once, then those that are convex and off, which
    repel from both sides, then one by one; until nothing leads higher.
    """
    best = peak(activity(start, x, slope), x, z, slope)
    for _ in range(200):
        kinks = best.touched
        repelling = kinks[(z[kinks] > 0) & (best.active[kinks] < 1.0)]
        for chosen in (kinks, repelling, *kinks[:, None]):
            if len(chosen) == 0:
                continue
            active = best.active.copy()
            active[chosen] = np.where(active[chosen] == 1.0, slope, 1.0)
            there = peak(active, x, z, slope)
            if there.value > best.value * (1 + 1e-10):
                best = there
                break
        else:
            return best
    return best
