"""One neuron along a given residual r(tau), a polynomial: its Taylor series and its ride.

Given r, the motion a' = D w, w' = D^T a is linear in (a, w), so that inside a pattern the Taylor
coefficients follow by convolution; the first kink met is a root of a polynomial (`_events.py`).
"""

import numpy as np
from numba import njit

from ._events import change_pattern, evaluate, event_defect, first_event
from ._patterns import (
    FAST,
    HIT,
    NONE,
    SLIDE,
    add,
    dot,
    project_force,
    project_weight,
    pseudo_inverse,
)

#: What a ride says instead of how many segments it took.
TOO_MANY, NO_ROOM = -1, -2
#: The kind of a first event that is not known yet.
UNKNOWN = -1
_EVENT_CAP = 1000
#: A neuron of unit norm touches a hyperplane that is this near.
_TOUCHING = 1e-10
#: Orders of a ride's series beyond the degree of the residual.
EXTRA = 6


@njit(cache=True, error_model="numpy", fastmath=FAST)
def evaluate_rows(c, order, t, out):
    """A polynomial whose coefficients are the rows of c."""
    q = len(out)
    for k in range(q):
        out[k] = c[order, k]
    for i in range(order - 1, -1, -1):
        for k in range(q):
            out[k] = out[k] * t + c[i, k]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def shift_rows(c, order, start):
    """Move a polynomial whose coefficients are the rows of c to a new origin, in place."""
    n = c.shape[1]
    for i in range(order):
        for b in range(order - 1, i - 1, -1):
            for k in range(n):
                c[b, k] += start * c[b + 1, k]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def extend_neuron(i, degree, force, weight, output):
    """The Taylor coefficients i + 1 of a' = D w and w' = D^T a, D of the given degree."""
    new = weight[i + 1]
    q = len(new)
    new[:] = 0.0
    for o in range(output.shape[1]):
        s = 0.0
        b = max(0, i - degree)
        # Pairs of terms, in separate loops for sums and stores, vectorise best.
        while b < i:
            w, w_next = weight[b], weight[b + 1]
            f, f_next = force[i - b, o], force[i - b - 1, o]
            a, a_next = output[b, o], output[b + 1, o]
            for c in range(q):
                s += w[c] * f[c] + w_next[c] * f_next[c]
            for c in range(q):
                new[c] += a * f[c] + a_next * f_next[c]
            b += 2
        if b == i:
            s += dot(weight[b], force[0, o])
            add(new, output[b, o], force[0, o])
        output[i + 1, o] = s / (i + 1)
    for c in range(q):
        new[c] /= i + 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def ride_series(
    side, normals, inverse, slides, force, degree, length, tolerance, most, moving, multiplier,
    weight, output,
):  # fmt: skip
    """The series of one neuron from its weight[0], output[0], with no more orders than it needs.

    **Returns** the order, how far the series reaches, and up to which degree `moving` (D projected
    on the sliding kinks) and the multipliers were formed.
    """
    q = weight.shape[1]
    outputs = output.shape[1]
    scale = 0.0
    for c in range(q):
        scale += weight[0, c] ** 2
    for o in range(outputs):
        scale += output[0, o] ** 2
    wanted = tolerance * np.sqrt(scale)
    power = 1.0
    small = 0
    order = 0
    last, previous = 0.0, 0.0
    for i in range(most):
        if i <= degree:
            moving[i] = force[i]
            project_force(side, normals, inverse, slides, moving[i], multiplier[i])
        extend_neuron(i, degree, moving, weight, output)
        order = i + 1
        power *= length
        previous = last
        last = 0.0
        for c in range(q):
            last = max(last, abs(weight[order, c]))
        for o in range(outputs):
            last = max(last, abs(output[order, o]))
        small = small + 1 if last * power <= 0.03 * wanted else 0
        if small == 2 and order >= 4:
            break
    reach = length
    if last > 0.0:
        reach = min(reach, (wanted / last) ** (1.0 / order))
    if previous > 0.0:
        reach = min(reach, (wanted / previous) ** (1.0 / (order - 1)))
    ready = min(degree, order)
    for i in range(order, ready + 1):
        moving[i] = force[i]
        project_force(side, normals, inverse, slides, moving[i], multiplier[i])
    return order, reach, ready


@njit(cache=True, error_model="numpy")
def shift_plane(c, plane, degree, start, out):
    """The polynomials of one hyperplane about a new origin."""
    for o in range(c.shape[2]):
        for i in range(degree + 1):
            out[i, plane, o] = c[i, plane, o]
        if start != 0.0:
            for i in range(degree):
                for b in range(degree - 1, i - 1, -1):
                    out[b, plane, o] += start * out[b + 1, plane, o]


# Inlined, as its one caller would compile it a second time.
@njit(inline="always", error_model="numpy")
def ride(
    side,
    w,
    a,
    first_time,
    first_plane,
    first_kind,
    first_multiplier,
    on,
    jump,
    force,
    degree,
    length,
    normals,
    noise,
    slack,
    tolerance,
    branching,
    base,
    segment_start,
    segment_side,
    segment_w,
    segment_a,
    segment_order,
    segment_counts,
    segment_plane,
    segment_defect,
):
    """Follow one neuron along the residual polynomial through all its events.

    `on` and `jump` (degree+1, p, C) are the forces of the hyperplanes, `force` (degree+1, C, q) is
    D with the sliding kinks counted as off and not projected, which is used up. Unless the first
    event is `UNKNOWN`, segment `base` holds the series that leads to it. Each interval
    between events is written as a segment, from number `base` on: where it starts, its pattern and
    Taylor series; with it go the event at its start, as counts of crossings, slides and branchings,
    and its defect.

    **Returns** the number of segments, or a code below zero.
    """
    p, q = normals.shape
    outputs = len(a)
    most = degree + EXTRA
    room = len(segment_start)
    moving = np.empty((degree + 1, outputs, q))
    multiplier = np.empty((degree + 1, max(1, min(p, q)), outputs))
    inverse = np.empty((max(1, min(p, q)), q))
    now_on = np.zeros((p, outputs))
    now_jump = np.zeros((p, outputs))
    before = np.empty(p, np.int8)
    z = np.empty(p)
    coefficient = np.empty(segment_w.shape[1] + 2)
    other = np.empty(segment_w.shape[1] + 2)
    now_force = np.empty((outputs, q))
    counts = np.zeros(3, np.int64)
    flat = force.reshape((degree + 1, outputs * q))
    start = 0.0
    at_plane = -1
    defect = np.zeros(3)
    shifted_jump = np.empty((degree + 1, p, outputs))
    for used in range(_EVENT_CAP):
        number = base + used
        if number >= room:
            return NO_ROOM
        weight = segment_w[number]
        output = segment_a[number]
        known = used == 0 and first_kind != UNKNOWN
        if used == 0 and not known:
            weight[0, :] = w
            output[0, :] = a
        segment_start[number] = start
        segment_side[number, :] = side
        segment_counts[number, :] = counts
        segment_plane[number] = at_plane
        segment_defect[number] = defect
        for h in range(p):
            if side[h] == SLIDE:
                shift_plane(jump, h, degree, start, shifted_jump)
        if known:
            time, hit, kind = first_time, first_plane, first_kind
            order, ready = segment_order[number], degree
            remaining, whole = length, True
            slides = 0
            for h in range(p):
                slides += side[h] == SLIDE
            for i in range(degree + 1):
                for b in range(slides):
                    for o in range(outputs):
                        multiplier[i, b, o] = first_multiplier[i, b, o]
        else:
            slides = pseudo_inverse(side, normals, inverse)
            order, remaining, ready = ride_series(
                side, normals, inverse, slides, force, degree, length - start, tolerance, most,
                moving, multiplier, weight, output,
            )  # fmt: skip
            segment_order[number] = order
            whole = start + remaining >= length * (1.0 - 1e-14)
            if whole:
                remaining = length - start
            np.dot(normals, weight[0], z)
            time, hit, kind = first_event(
                side, z, normals, weight, output, order, multiplier, shifted_jump, ready, remaining,
                noise, slack, coefficient, other,
            )  # fmt: skip
        if kind == NONE and whole:
            return used + 1
        if number + 1 >= room:
            return NO_ROOM
        stop = min(remaining, time)
        next_weight = segment_w[number + 1, 0]
        next_output = segment_a[number + 1, 0]
        evaluate_rows(weight, order, stop, next_weight)
        evaluate_rows(output, order, stop, next_output)
        at_plane = hit
        if kind == HIT:
            shift_plane(jump, hit, degree, start, shifted_jump)
        event_defect(
            side, hit, kind, stop, normals, weight, output, order, multiplier, shifted_jump, ready,
            coefficient, other, defect,
        )  # fmt: skip
        start += stop
        shift_rows(flat, degree, stop)
        if kind == NONE:
            continue
        # Kinks under the neuron may matter; with slides, all those that it touches.
        if slides > 0:
            np.dot(normals, next_weight, z)
        for h in range(p):
            if h == hit or abs(side[h]) != 1 or (slides > 0 and abs(z[h]) < _TOUCHING):
                for o in range(outputs):
                    now_on[h, o] = evaluate(on[:, h, o], degree, start)
                    now_jump[h, o] = evaluate(jump[:, h, o], degree, start)
        for i in range(slides):
            for o in range(outputs):
                multiplier[0, i, o] = evaluate(multiplier[:, i, o], ready, stop)
        now_force[:] = force[0]
        before[:] = side
        if not change_pattern(
            side, hit, kind, next_output, next_weight, normals, now_on, now_jump, now_force,
            multiplier[0], branching, counts,
        ):  # fmt: skip
            return TOO_MANY
        project_weight(side, normals, next_weight)
        for h in range(p):
            if (before[h] > 0) == (side[h] > 0):
                continue
            factor = 1.0 if side[h] > 0 else -1.0
            shift_plane(jump, h, degree, start, shifted_jump)
            for i in range(degree + 1):
                for o in range(outputs):
                    add(force[i, o], factor * shifted_jump[i, h, o], normals[h])
    return TOO_MANY
