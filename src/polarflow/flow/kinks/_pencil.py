"""Neurons held where three kinks or more share a line: the hull of the cells that exist.

Clarke's subdifferential is the convex hull of the gradients of the activation patterns next to w.
For kinks with independent normals all patterns exist, and the hull is the box of their multipliers.
Of k kinks whose normals span a plane only 2k patterns exist, the sectors that k lines cut there;
where some of the kinks are convex their hull is smaller than the box. The neuron is held as long as
the part in that plane of some element of the hull vanishes.
"""

import numpy as np
from numba import njit

from ._patterns import SLIDE, add, assign, dot

#: Normals this far from a plane are in it.
_IN = 1e-7
#: How often a step is looked at, and the interval halved in which the neuron is let go.
_SAMPLES = 8
_HALVINGS = 60
#: The distance from the hull at which it is, in units of the forces: above that of `settle`.
_OUTSIDE = 1e-10


@njit(cache=True, error_model="numpy")
def pencil(side, normals):
    """The kinks that hold a neuron if their normals span a plane and are more than two.

    A kink that is at rest counts if its normal is in the plane of the sliding ones.
    **Returns** their number, 0 for kinks of another kind; their indices; and their normals (p, 2)
    in an orthonormal basis of the plane.
    """
    p, q = len(side), normals.shape[1]
    place, flat = np.empty(p, np.int64), np.empty((p, 2))
    slides = 0
    basis = np.empty((2, q))
    rest = np.empty(q)
    rank = 0
    for h in range(p):
        if side[h] != SLIDE:
            continue
        slides += 1
        assign(rest, normals[h])
        for _ in range(2):
            for b in range(rank):
                add(rest, -dot(basis[b], rest), basis[b])
        size = np.sqrt(dot(rest, rest))
        if size < _IN:
            continue
        if rank == 2:
            return 0, place, flat
        for c in range(q):
            basis[rank, c] = rest[c] / size
        rank += 1
    if rank < 2:
        return 0, place, flat
    count = 0
    for h in range(p):
        if abs(side[h]) == 1:
            continue
        assign(rest, normals[h])
        for b in range(2):
            add(rest, -dot(basis[b], normals[h]), basis[b])
        if dot(rest, rest) < _IN * _IN:
            place[count] = h
            for b in range(2):
                flat[count, b] = dot(basis[b], normals[h])
            count += 1
    return (count if count > slides else 0), place, flat


@njit(cache=True, error_model="numpy")
def outside(base, pull, on, flat, cells):
    """How far zero is outside the hull of base + sum_h (c_h - on_h) pull_h n_h over the cells c.

    Arguments are those of the plane of the normals: `base` (2,), `pull`, `on` (k,), `flat` (k, 2);
    `cells` (2k, 2) is room. Below zero inside.
    """
    k = len(pull)
    for i in range(k):
        for turn in range(2):
            sign = 1.0 if turn == 0 else -1.0
            u, v = -sign * flat[i, 1], sign * flat[i, 0]
            x, y = base[0], base[1]
            # The sector that follows a ray of line i counterclockwise.
            for h in range(k):
                ahead = turn > 0 if h == i else u * flat[h, 0] + v * flat[h, 1] > 0.0
                active = 1.0 if ahead else 0.0
                x += (active - on[h]) * pull[h] * flat[h, 0]
                y += (active - on[h]) * pull[h] * flat[h, 1]
            cells[2 * i + turn, 0] = x
            cells[2 * i + turn, 1] = y
    # The distance is that of a corner, or of a side's line: the best of their directions.
    best = -np.inf
    for i in range(2 * k):
        for j in range(i, 2 * k):
            if i == j:
                u, v = cells[i, 0], cells[i, 1]
            else:
                u, v = cells[i, 1] - cells[j, 1], cells[j, 0] - cells[i, 0]
            size = np.sqrt(u * u + v * v)
            if size == 0.0:
                continue
            if u * cells[i, 0] + v * cells[i, 1] < 0.0:
                u, v = -u, -v
            least = np.inf
            for c in range(2 * k):
                least = min(least, (u * cells[c, 0] + v * cells[c, 1]) / size)
            best = max(best, least)
    return best


@njit(cache=True, error_model="numpy")
def let_go(side, normals, weight, output, order, multiplier, jump, degree, length, slack):
    """The first time in [0, length] at which zero leaves the hull, or inf; and a kink of those.

    `multiplier` (slides, C) are those of the sliding kinks, counted from the off side; `jump`
    (p, C) the forces of the on side less those of the off side: polynomials of the given degree.
    `weight` and `output` are the neuron's, of the given order. The kink is -1 where those under the
    neuron don't share a line.
    """
    slides, rests = 0, 0
    for h in range(len(side)):
        slides += side[h] == SLIDE
        rests += abs(side[h]) == 2
    if slides < 2 or rests == 0:
        return np.inf, -1
    count, place, flat = pencil(side, normals)
    if count == 0:
        return np.inf, -1
    speed = np.sqrt(dot(weight[1], weight[1])) if order > 0 else 0.0
    base = np.empty(2)
    pull = np.empty(count)
    on = np.empty(count)
    cells = np.empty((2 * count, 2))
    low, high = 0.0, 0.0
    for sample in range(_SAMPLES + 1 + _HALVINGS):
        if sample <= _SAMPLES:
            time = length * sample / _SAMPLES
        else:
            time = 0.5 * (low + high)
        base[:] = 0.0
        scale = speed
        number = 0
        for i in range(count):
            h = place[i]
            on[i] = 1.0 if side[h] > 0 else 0.0
            pull[i] = _force(jump[:, h], degree, output, order, time)
            scale += abs(pull[i])
        for i in range(count):
            h = place[i]
            if side[h] != SLIDE:
                continue
            nu = _force(multiplier[:, number], degree, output, order, time)
            number += 1
            scale += abs(nu)
            for b in range(2):
                base[b] -= nu * flat[i, b]
        size = 0.0
        for o in range(output.shape[1]):
            size += abs(output[0, o])
        gone = outside(base, pull, on, flat[:count], cells) > _OUTSIDE * scale + slack * size
        if sample <= _SAMPLES:
            if gone:
                high = time
                if sample == 0:
                    return 0.0, place[0]
            elif high == 0.0:
                low = time
        elif gone:
            high = time
        else:
            low = time
        if sample >= _SAMPLES and high == 0.0:
            return np.inf, place[0]
        if sample > _SAMPLES and high - low <= 1e-15 * length:
            break
    return high, place[0]


@njit(cache=True, error_model="numpy")
def _force(series, degree, output, order, time):
    """Force times output weights at a time; for one output its weight at the start."""
    outputs = output.shape[1]
    total = 0.0
    for o in range(outputs):
        f = series[degree, o]
        for i in range(degree - 1, -1, -1):
            f = f * time + series[i, o]
        a = output[0, o]
        if outputs > 1:
            a = output[order, o]
            for i in range(order - 1, -1, -1):
                a = a * time + output[i, o]
        total += f * a
    return total
