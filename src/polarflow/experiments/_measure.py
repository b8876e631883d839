"""Measurements on the neurons of a state, shared by the claims."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ..networks import BlockState

NEGLIGIBLE = 1e-3
"""The part of sum_j |w_j|^2 that macroscopic neurons may leave out."""


def unit_hidden(state: BlockState) -> Float[ndarray, "m d"]:
    """The directions w_j / |w_j| of hidden weights."""
    w = state.direction[:, 1:]
    return np.asarray(w / np.linalg.norm(w, axis=1, keepdims=True))


def log_hidden(state: BlockState) -> Float[ndarray, " m"]:
    """ln |w_j|."""
    return np.asarray(state.log_norm + np.log(np.linalg.norm(state.direction[:, 1:], axis=1)))


def angles_to(units: Float[ndarray, "m d"], target: Float[ndarray, "*m d"]) -> Float[ndarray, " m"]:
    """Angles in degrees between unit vectors and one vector or one each, exact near zero."""
    target = target / np.linalg.norm(target, axis=-1, keepdims=True)
    half = np.linalg.norm(units - target, axis=-1) / 2.0
    return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(half, 1.0))))


def macroscopic(state: BlockState) -> Bool[ndarray, " m"]:
    """The fewest neurons that together carry all but `NEGLIGIBLE` of sum_j |w_j|^2."""
    size = np.exp(2.0 * (log_hidden(state) - log_hidden(state).max()))
    order = np.argsort(-size, kind="stable")
    carried = np.cumsum(size[order])
    chosen = np.zeros(len(size), dtype=bool)
    chosen[order[: 1 + int(np.searchsorted(carried, (1.0 - NEGLIGIBLE) * carried[-1]))]] = True
    return chosen


def kinks(state: BlockState) -> Float[ndarray, " m"]:
    """Kinks -w_1/w_0 of neurons with one input and a bias, w = (w_0, w_1)."""
    with np.errstate(divide="ignore"):
        return np.asarray(-state.direction[:, 2] / state.direction[:, 1])


def clusters(values: Float[ndarray, " k"], gap: float) -> list[Float[ndarray, " c"]]:
    """Sorted numbers, cut wherever two neighbours are more than `gap` apart."""
    ordered = np.sort(values)
    return [c for c in np.split(ordered, np.nonzero(np.diff(ordered) > gap)[0] + 1) if len(c)]


def distinct_directions(units: Float[ndarray, "m 2"], gap: float) -> int:
    """How many directions of the plane there are among unit vectors, `gap` degrees apart."""
    if len(units) == 0:
        return 0
    angles = np.sort(np.degrees(np.arctan2(units[:, 1], units[:, 0])))
    around = np.append(np.diff(angles), angles[0] + 360.0 - angles[-1])
    return max(1, int(np.sum(around > gap)))


def groups_sharing_examples(
    units: Float[ndarray, "m d"], x: Float[ndarray, "n d"], margin: float = 1e-6
) -> int:
    """How many groups neurons fall into when those active on a common example belong together.

    An example within `margin` (a cosine) of a neuron's kink is not counted as active.
    """
    active = units @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T > margin
    patterns = {frozenset(np.nonzero(row)[0].tolist()) for row in active if row.any()}
    merged: list[set[int]] = []
    for pattern in patterns:
        touching = [g for g in merged if g & pattern]
        merged = [g for g in merged if not g & pattern] + [set(pattern).union(*touching)]
    return len(merged)


@dataclass(frozen=True)
class Maximum:
    """A local maximum of an NCF on the unit circle: a unit vector and the value there."""

    direction: Float[ndarray, " 2"]
    value: float


def planar_ncf_maxima(
    x: Float[ndarray, "n 2"], z: Float[ndarray, " n"], sign: float
) -> list[Maximum]:
    r"""The local maxima with positive value of $u \mapsto s \sum_k z_k \max(0, u \cdot x_k)$.

    On an arc of the circle on which the active examples A are the same, the function is D.u with
    $D = s \sum_{k \in A} z_k x_k$: its maximum is D/|D| if that lies in the arc. Maxima at ends of
    arcs, where a kink is concave, are those whose one-sided derivatives point to the kink.
    """
    normals = np.arctan2(x[:, 1], x[:, 0])
    ends = np.unique(np.mod(np.concatenate([normals - np.pi / 2, normals + np.pi / 2]), 2 * np.pi))
    following = np.append(ends[1:], ends[0] + 2 * np.pi)
    middle = 0.5 * (ends + following)
    units = np.stack([np.cos(middle), np.sin(middle)], axis=1)
    force = sign * ((units @ x.T > 0) * z) @ x
    found = []
    for start, end, d in zip(ends, following, force, strict=True):
        turn = np.mod(np.arctan2(d[1], d[0]) - start, 2 * np.pi)
        size = float(np.hypot(*d))
        if size > 0 and turn < end - start:
            found.append(Maximum(d / size, size))
    for k, end in enumerate(ends):
        u, along = np.array([np.cos(end), np.sin(end)]), np.array([-np.sin(end), np.cos(end)])
        before, after = force[k - 1] @ along, force[k] @ along
        if before > 1e-12 and after < -1e-12 and force[k] @ u > 0:
            found.append(Maximum(u, float(force[k] @ u)))
    return found


def variation_norm(state: BlockState) -> float:
    """sum_j |a_j||w_j|, which is at least the variation norm of the learned function."""
    with np.errstate(under="ignore"):
        size = np.exp(2.0 * state.log_norm)
    outer = np.abs(state.direction[:, 0])
    return float(np.sum(size * outer * np.linalg.norm(state.direction[:, 1:], axis=1)))


def linear_variation_norm(slope: float, intercept: float) -> float:
    r"""The variation norm of $f(t) = bt + c$ on the real line, the bias being an input.

    $f = \int \max(0, \theta_0 t + \theta_1) d\mu(\theta)$ with $\mu$ on the circle. Where f has no
    kink, the masses at $\theta$ and $-\theta$ are opposite for every $\theta$ with
    $\theta_0 \neq 0$: together they give $v \cdot (t, 1)$ at the cost $2|v|$. Only the constant
    $\theta = (0, 1)$ is there for itself, at the cost 1. So the norm is
    $\min_v 2|v| + |c - v_1|$ over $v = (b, v_1)$: $2\sqrt{b^2 + c^2}$ if
    $|c| \le |b|/\sqrt3$, else $\sqrt3 |b| + |c|$.
    """
    b, c = abs(slope), abs(intercept)
    return 2.0 * float(np.hypot(b, c)) if c <= b / np.sqrt(3.0) else float(np.sqrt(3.0) * b + c)


def first_fall(time: Float[ndarray, " T"], loss: Float[ndarray, " T"], level: float) -> float:
    """The first time at which the loss is down to a level, linear between points; nan if never."""
    below = np.nonzero(loss <= level)[0]
    if len(below) == 0:
        return float("nan")
    i = int(below[0])
    if i == 0:
        return float(time[0])
    fraction = (loss[i - 1] - level) / (loss[i - 1] - loss[i])
    return float(time[i - 1] + fraction * (time[i] - time[i - 1]))
