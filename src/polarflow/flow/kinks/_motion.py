"""One neuron along a given residual r(tau), a polynomial: its Taylor series and its ride.

Given r, the motion a' = D w, w' = D^T a is linear in (a, w), so that inside a pattern the Taylor
coefficients follow by convolution; the first kink met is a root of a polynomial (`_events.py`).
"""

from typing import Any

import numpy as np
from numba import njit

from ._events import change_pattern, evaluate, event_defect, held_event, meeting
from ._patterns import (
    FAST,
    HIT,
    KINK_WIDTH,
    LEAN,
    LEAVE,
    NONE,
    SLIDE,
    WAKE,
    add,
    assign,
    copy_matrix,
    dot,
    list_near,
    project_force,
    project_weight,
    pseudo_inverse,
    rest_width,
)

#: What a ride says instead of how many segments it took.
TOO_MANY, NO_ROOM = -1, -2
#: The kind of a first event that is not known yet.
UNKNOWN = -1
_EVENT_CAP = 1000
#: A neuron of unit norm touches a hyperplane that is this near.
_TOUCHING = 1e-10
#: With more hyperplanes than this, those near the neuron are listed; so many at a time.
_MANY, _LISTED = 64, 48
#: Orders of a ride's series beyond the degree of the residual.
EXTRA = 6


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def evaluate_rows(c, order, t, out):
    """A polynomial whose coefficients are the rows of c."""
    q = len(out)
    for k in range(q):
        out[k] = c[order, k]
    for i in range(order - 1, -1, -1):
        for k in range(q):
            out[k] = out[k] * t + c[i, k]


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def shift_rows(c, order, start):
    """Move a polynomial whose coefficients are the rows of c to a new origin, in place."""
    n = c.shape[1]
    for i in range(order):
        for b in range(order - 1, i - 1, -1):
            for k in range(n):
                c[b, k] += start * c[b + 1, k]


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
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


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
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
            copy_matrix(force[i], moving[i])
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
        copy_matrix(force[i], moving[i])
        project_force(side, normals, inverse, slides, moving[i], multiplier[i])
    return order, reach, ready


@njit(cache=True, error_model="numpy", **LEAN)
def shift_plane(c, plane, degree, start, out, place):
    """The polynomials of one hyperplane about a new origin."""
    for o in range(c.shape[2]):
        for i in range(degree + 1):
            out[i, place, o] = c[i, plane, o]
        if start != 0.0:
            for i in range(degree):
                for b in range(degree - 1, i - 1, -1):
                    out[b, place, o] += start * out[b + 1, place, o]


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def neuron_series(mix, first, order, weight, output, own_weight, own_output):
    """The series of a neuron as the combination of its particles."""
    for i in range(order + 1):
        for c in range(own_weight.shape[1]):
            s = 0.0
            for b in range(len(mix)):
                s += mix[b] * weight[first + b, i, c]
            own_weight[i, c] = s
        for o in range(own_output.shape[1]):
            s = 0.0
            for b in range(len(mix)):
                s += mix[b] * output[first + b, i, o]
            own_output[i, o] = s


@njit(cache=True, error_model="numpy", fastmath=FAST)
def next_meeting(
    side, normals, weight, order, length, anchor, near, listing, coefficient
):  # fmt: skip
    """The first time in [0, length] at which a neuron meets a hyperplane, and that.

    `listing` holds the number of hyperplanes in `near` (-1 if there is no list) and the distance
    from `anchor` within which nothing else can be met; both are renewed where they don't suffice.
    """
    p, q = normals.shape
    speed = 0.0
    power = 1.0
    for i in range(1, order + 1):
        speed += i * np.sqrt(dot(weight[i], weight[i])) * power
        power *= length
    time, plane = np.inf, -1
    reached = 0.0
    here = np.empty(q)
    assign(here, weight[0])
    while True:
        gap = 0.0
        for c in range(q):
            gap += (here[c] - anchor[c]) ** 2
        gap = np.sqrt(gap)
        until = length
        if listing[0] < 0.0 or gap + 1e-3 * listing[1] > listing[1]:
            assign(anchor, here)
            gap = 0.0
            if p <= _MANY:
                listing[1] = np.inf
            listing[0] = list_near(normals, anchor, listing[1] + KINK_WIDTH, near)
            if p > _MANY and not _LISTED <= 2.0 * listing[0] <= 4 * _LISTED:
                listing[1] *= _LISTED / max(listing[0], 0.25 * _LISTED)
                listing[0] = list_near(normals, anchor, listing[1] + KINK_WIDTH, near)
        if listing[1] < np.inf and speed > 0.0:
            until = min(length, reached + (listing[1] - gap) / speed)
        first = min(until, time)
        for i in range(int(listing[0])):
            h = near[i]
            if abs(side[h]) != 1:
                continue
            sign = 1.0 if side[h] > 0 else -1.0
            distance = sign * dot(normals[h], weight[0])
            if distance + KINK_WIDTH > speed * first:
                continue
            t = meeting(normals[h], sign, distance, weight, order, first, coefficient)
            if t < time:
                time, plane = t, h
                first = min(first, t)
        if time <= until or until >= length:
            return time, plane
        reached = until
        evaluate_rows(weight, order, reached, here)
        listing[0] = -1.0


@njit(cache=True, error_model="numpy")
def window_rides(
    length, time, first_plane, first_kind, group, group_side, w, a, first, mix, lumped, weight,
    output, order, multiplier, raw, on, jump, degree, normals, noise, slack, tolerance, branching,
    neuron_base, neuron_count, segment_start, segment_w, segment_a, segment_order, segment_counts,
    segment_plane, segment_defect, segment_change, change_plane, change_side,
):  # fmt: skip
    """Ride with every neuron that has an event before the end of a window, through all its events.

    `on` and `jump` (degree+1, p, C) are the forces of the hyperplanes along the residual
    polynomial, `raw` (degree+1, G, C, q) is D with the sliding kinks counted as off and not
    projected. Each interval between events is written as a segment: where it starts and its Taylor
    series; with it go the event at its start, as counts of crossings, slides and branchings so far
    and its defect, and the end of the pattern's changes until then in `change_plane`,
    `change_side`. The first segment is the window's series, up to the first event; where
    `first_kind` is `UNKNOWN` the neuron rides from the start.

    `neuron_base` and `neuron_count` get each neuron's segments; those without events have none.
    **Returns** the number of segments, or a code below zero.
    """
    p, q = normals.shape
    outputs = a.shape[1]
    most = degree + EXTRA
    room = len(segment_start)
    size = max(1, min(p, q))
    moving = np.empty((degree + 1, outputs, q))
    mu = np.empty((degree + 1, size, outputs))
    inverse = np.empty((size, q))
    side = np.empty(p, np.int8)
    coefficient = np.empty(segment_w.shape[1] + 2)
    other = np.empty(segment_w.shape[1] + 2)
    force = np.empty((degree + 1, outputs, q))
    flat = force.reshape((degree + 1, outputs * q))
    now_force = np.empty((outputs, q))
    counts = np.empty(3, np.int64)
    defect = np.empty(3)
    anchor = np.empty(q)
    near = np.empty(p, np.int64)
    listing = np.full(2, -1.0)
    listing[1] = 1.0
    # Of the hyperplanes on which a neuron slides or rests, and of those that an event touches.
    index = np.empty(p + 1, np.int64)
    own_side = np.empty(p + 1, np.int8)
    own_normals = np.empty((p + 1, q))
    own_jump = np.empty((degree + 1, p + 1, outputs))
    own_on = np.empty((p + 1, outputs))
    own_off = np.empty((p + 1, outputs))
    number = 0
    changes = 0
    for j in range(len(group)):
        neuron_base[j] = number
        neuron_count[j] = 0
        if time[j] > length:
            continue
        g = group[j]
        held: Any = np.int64(0)
        for h in range(p):
            side[h] = group_side[g, h]
            if abs(side[h]) != 1:
                index[held] = h
                held += 1
        for i in range(degree + 1):
            copy_matrix(raw[i, g], force[i])
        start = 0.0
        at_plane = -1
        counts[:] = 0
        defect[:] = 0.0
        listing[0] = -1.0
        assign(anchor, w[j])
        for used in range(_EVENT_CAP + 1):
            if used == _EVENT_CAP:
                return TOO_MANY
            if number >= room:
                return NO_ROOM
            own_w, own_a = segment_w[number], segment_a[number]
            segment_start[number] = start
            assign(segment_counts[number], counts)
            segment_plane[number] = at_plane
            assign(segment_defect[number], defect)
            segment_change[number] = changes
            for i in range(held):
                own_side[i] = side[index[i]]
                assign(own_normals[i], normals[index[i]])
                shift_plane(jump, index[i], degree, start, own_jump, i)
            if used == 0 and first_kind[j] != UNKNOWN:
                terms = mix.shape[1] if lumped[g] >= 0 else 1
                neuron_series(mix[j, :terms], first[j], order, weight, output, own_w, own_a)
                top, ready, remaining, whole = order, degree, length, True
                until, hit, kind = time[j], first_plane[j], first_kind[j]
                slides, place = 0, hit
                for i in range(held):
                    slides += own_side[i] == SLIDE
                    if index[i] == hit and kind != HIT:
                        place = i
                hit = place
                for i in range(degree + 1):
                    for b in range(slides):
                        for o in range(outputs):
                            mu[i, b, o] = multiplier[g, i, b, o]
            else:
                if used == 0:
                    assign(own_w[0], w[j])
                    assign(own_a[0], a[j])
                slides = pseudo_inverse(own_side[:held], own_normals, inverse)
                top, remaining, ready = ride_series(
                    own_side[:held], own_normals, inverse, slides, force, degree, length - start,
                    tolerance, most, moving, mu, own_w, own_a,
                )  # fmt: skip
                whole = start + remaining >= length * (1.0 - 1e-14)
                if whole:
                    remaining = length - start
                for i in range(held):
                    for o in range(outputs):
                        own_on[i, o] = on[0, index[i], o]
                        own_off[i, o] = jump[0, index[i], o]
                until, hit, kind = held_event(
                    own_side[:held], own_normals, own_w, own_a, top, mu, own_jump, ready,
                    remaining, noise + rest_width(own_side[:held], own_on, own_off), slack,
                    coefficient, other,
                )  # fmt: skip
                t, h = next_meeting(
                    side, normals, own_w, top, min(remaining, until), anchor, near, listing,
                    coefficient,
                )  # fmt: skip
                if t < until:
                    until, hit, kind = t, h, HIT
            segment_order[number] = top
            number += 1
            if kind == NONE and whole:
                break
            if number >= room or changes + p >= len(change_plane):
                return NO_ROOM
            stop = min(remaining, until)
            next_w, next_a = segment_w[number, 0], segment_a[number, 0]
            evaluate_rows(own_w, top, stop, next_w)
            evaluate_rows(own_a, top, stop, next_a)
            at_plane = -1
            if kind == HIT:
                at_plane = hit
                own_side[held] = side[hit]
                assign(own_normals[held], normals[hit])
                shift_plane(jump, hit, degree, start, own_jump, held)
                hit = held
            elif kind == LEAVE or kind == WAKE:
                at_plane = index[hit]
            event_defect(
                own_side[: held + 1 if kind == HIT else held], hit, kind, stop, own_normals, own_w,
                own_a, top, mu, own_jump, ready, coefficient, other, defect,
            )  # fmt: skip
            start += stop
            shift_rows(flat, degree, stop)
            if kind == NONE:
                continue
            # Kinks under the neuron may matter: those that it meets, is held on or touches.
            meets = at_plane if kind == HIT else -1
            touched = held
            if meets >= 0:
                index[touched] = meets
                touched += 1
            if held > 0:
                if listing[0] < 0.0:
                    assign(anchor, next_w)
                    listing[0] = list_near(normals, anchor, listing[1], near)
                for i in range(int(listing[0])):
                    h = near[i]
                    if h != meets and abs(side[h]) == 1:
                        if abs(dot(normals[h], next_w)) < _TOUCHING:
                            index[touched] = h
                            touched += 1
            for i in range(1, touched):
                h = index[i]
                place = i
                while place > 0 and index[place - 1] > h:
                    index[place] = index[place - 1]
                    place -= 1
                index[place] = h
            for i in range(touched):
                h = index[i]
                own_side[i] = side[h]
                assign(own_normals[i], normals[h])
                if h == at_plane:
                    hit = i
                for o in range(outputs):
                    own_on[i, o] = evaluate(on[:, h, o], degree, start)
                    own_off[i, o] = evaluate(jump[:, h, o], degree, start)
            for i in range(slides):
                for o in range(outputs):
                    mu[0, i, o] = evaluate(mu[:, i, o], ready, stop)
            copy_matrix(force[0], now_force)
            if not change_pattern(
                own_side[:touched], hit, kind, next_a, next_w, own_normals[:touched],
                own_on[:touched], own_off[:touched], now_force, mu[0], branching, counts,
            ):  # fmt: skip
                return TOO_MANY
            project_weight(own_side[:touched], own_normals, next_w)
            held = 0
            for i in range(touched):
                h = index[i]
                if own_side[i] != side[h]:
                    if (own_side[i] > 0) != (side[h] > 0):
                        factor = 1.0 if own_side[i] > 0 else -1.0
                        shift_plane(jump, h, degree, start, own_jump, touched)
                        for b in range(degree + 1):
                            for o in range(outputs):
                                add(force[b, o], factor * own_jump[b, touched, o], normals[h])
                    side[h] = own_side[i]
                    change_plane[changes] = h
                    change_side[changes] = side[h]
                    changes += 1
                if abs(side[h]) != 1:
                    index[held] = h
                    held += 1
        neuron_count[j] = number - neuron_base[j]
    return number
