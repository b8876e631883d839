"""A window: first events of all neurons along the series, and states at any offset."""

import numpy as np
from numba import njit

from ._events import event_defect, held_event, leaving_event, meeting, turning
from ._field import plane_values
from ._motion import evaluate_rows, neuron_series
from ._patterns import FAST, HIT, KINK_WIDTH, LEAN, LEAVE, NONE, SLIDE, TURN, add, dot

#: Times in a window at which it is looked where the particles of a crowd are.
_SAMPLES = 6


@njit(cache=True, error_model="numpy", fastmath=FAST)
def sample_particles(weight, order, length, normals, rows, table, bend):
    """Where particles are across each hyperplane, at times in a window.

    `table` (samples * particles, p) gets w.e, and `bend` (particles,) how far w may be from the
    chord between two samples.
    """
    count, samples = len(weight), len(rows) // len(weight)
    for i in range(count):
        for s in range(samples):
            evaluate_rows(weight[i], order, length * (s + 1) / samples, rows[s * count + i])
        curvature = 0.0
        power = 1.0
        for b in range(2, order + 1):
            curvature += b * (b - 1) * np.sqrt(dot(weight[i, b], weight[i, b])) * power
            power *= length
        bend[i] = 0.125 * curvature * (length / samples) ** 2
    np.dot(rows, normals.T, table)


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def crowd_motion(weight, order, normals, table, bend, farthest):
    """How far a neuron of a lumped group, of norm sqrt 2, may move across each hyperplane.

    **Returns** whether anything moves.
    """
    count = len(weight)
    moves = False
    for b in range(count):
        for i in range(1, order + 1):
            for c in range(weight.shape[2]):
                moves = moves or weight[b, i, c] != 0.0
    for h in range(len(normals)):
        largest = 0.0
        for s in range(len(table) // count):
            square = 0.0
            for b in range(count):
                moved = abs(table[s * count + b, h] - dot(normals[h], weight[b, 0])) + bend[b]
                square += moved * moved
            largest = max(largest, square)
        farthest[h] = np.sqrt(2.0 * largest) + KINK_WIDTH
    return moves


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def may_meet(signs, g, values, j, mixes, table, slack, lowest, near):
    """List the hyperplanes that a neuron may meet in a window; returns their number.

    `table` (samples, particles, p) holds w.e of its particles, `slack` is how far below the
    samples it may be between them.
    """
    sign, z, mix = signs[g], values[j], mixes[j]
    for h in range(len(sign)):
        lowest[h] = sign[h] * z[h]
    for s in range(len(table)):
        if len(mix) == 1:
            for h in range(len(sign)):
                lowest[h] = min(lowest[h], sign[h] * table[s, 0, h])
            continue
        for h in range(len(sign)):
            t = 0.0
            for b in range(len(mix)):
                t += mix[b] * table[s, b, h]
            lowest[h] = min(lowest[h], sign[h] * t)
    count = 0
    for h in range(len(sign)):
        if sign[h] != 0.0 and lowest[h] <= slack:
            near[count] = h
            count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def may_meet_alone(signs, g, values, j, normals, weights, i, order, length, near):
    """List the hyperplanes that a neuron with a series of its own may meet; returns their number.

    Bounds of what is beyond the constant, the linear and the quadratic term, one after the other.
    """
    sign, z, weight = signs[g], values[j], weights[i]
    third = 0.0
    power = length * length
    for b in range(3, order + 1):
        power *= length
        third += np.sqrt(dot(weight[b], weight[b])) * power
    second = third
    if order > 1:
        second += np.sqrt(dot(weight[2], weight[2])) * length * length
    first = second + np.sqrt(dot(weight[1], weight[1])) * length
    count = 0
    for h in range(len(sign)):
        distance = sign[h] * z[h]
        if sign[h] == 0.0 or distance > first + KINK_WIDTH:
            continue
        speed = sign[h] * dot(normals[h], weight[1])
        if distance + min(0.0, speed * length) > second + KINK_WIDTH:
            continue
        if order > 1:
            bend = sign[h] * dot(normals[h], weight[2])
            lowest = min(distance, distance + (speed + bend * length) * length)
            if bend > 0.0 and 0.0 < -speed < 2.0 * bend * length:
                lowest = distance - speed * speed / (4.0 * bend)
            if lowest > third + KINK_WIDTH:
                continue
        near[count] = h
        count += 1
    return count


@njit(cache=True, error_model="numpy", fastmath=FAST)
def first_meeting(sign, near, z, normals, weight, order, length, coefficient):
    """The first time in [0, length] at which a neuron meets a hyperplane listed, and that."""
    bend = 0.0
    power = length
    for i in range(2, order + 1):
        power *= length
        bend += np.sqrt(dot(weight[i], weight[i])) * power
    # One that seems to be met early shortens the search for the others.
    soonest, likely = np.inf, -1
    for h in near:
        speed = -sign[h] * dot(normals[h], weight[1])
        if speed > 0.0 and sign[h] * z[h] < soonest * speed:
            soonest, likely = sign[h] * z[h] / speed, h
    time, plane = np.inf, -1
    if likely >= 0:
        t = meeting(
            normals[likely], sign[likely], sign[likely] * z[likely], weight, order, length,
            coefficient,
        )  # fmt: skip
        if t < time:
            time, plane = t, likely
    for h in near:
        if h == likely:
            continue
        until = min(length, time)
        distance = sign[h] * z[h]
        nearest = distance + min(0.0, sign[h] * dot(normals[h], weight[1]) * until)
        # The rest is at least quadratic in time.
        if nearest > bend * (until / length) ** 2 + KINK_WIDTH:
            continue
        t = meeting(normals[h], sign[h], distance, weight, order, until, coefficient)
        if t < time:
            time, plane = t, h
    return time, plane


@njit(cache=True, error_model="numpy")
def sort_by(first, size):
    """The neurons in the order of their first particles."""
    start = np.zeros(size + 1, np.int64)
    for i in first:
        start[i + 1] += 1
    for i in range(size):
        start[i + 1] += start[i]
    order = np.empty(len(first), np.int64)
    for j in range(len(first)):
        order[start[first[j]]] = j
        start[first[j]] += 1
    return order


@njit(cache=True, error_model="numpy", fastmath=FAST)
def window_events(
    carried, group, group_side, first, mix, lumped, k, z, weight, output, order, multiplier, jump,
    degree, normals, length, noise, slack, time, first_plane, first_kind, first_defect,
):  # fmt: skip
    """The first event of each neuron along a series, and its defect (see `event_defect`).

    Rows that are `carried` are particles: they have none.
    """
    p, q = normals.shape
    outputs = output.shape[2]
    groups, count = len(group_side), len(weight)
    top = max(order, degree)
    coefficient = np.empty(top + 2)
    other = np.empty(top + 2)
    own_weight = np.empty((order + 1, q))
    own_output = np.empty((order + 1, outputs))
    block = max(k, 1)
    rows = np.empty((_SAMPLES * block, q))
    table = np.empty((_SAMPLES * block, p))
    bend = np.zeros(block)
    views = table.reshape((_SAMPLES, block, p))
    lowest = np.empty(p)
    near = np.empty(p, np.int64)
    sign = np.empty((groups, p))
    # With one output a slide ends for all neurons of a group at once.
    ends = np.full(groups, np.inf)
    end_plane = np.full(groups, -1)
    slides = np.zeros(groups, np.bool_)
    plain = np.ones(groups, np.bool_)
    for g in range(groups):
        for h in range(p):
            s = group_side[g, h]
            sign[g, h] = float(s) if abs(s) == 1 else 0.0
            slides[g] = slides[g] or s == SLIDE
            plain[g] = plain[g] and abs(s) != 2
        plain[g] = plain[g] and not (slides[g] and outputs > 1)
        if slides[g] and plain[g]:
            ends[g], end_plane[g] = leaving_event(
                group_side[g], order, degree, multiplier[g], jump, output[0], length, slack,
                coefficient, other,
            )  # fmt: skip
    # Neurons that slide have an event where a changes its sign.
    change = np.zeros(count)
    for i in range(count):
        power = 1.0
        for b in range(1, order + 1):
            power *= length
            change[i] += abs(output[i, b, 0]) * power
    farthest = np.zeros(p)
    crowd_still = False
    until = 0
    for j in sort_by(first, count):
        if carried[j]:
            time[j], first_plane[j], first_kind[j] = np.inf, -1, NONE
            first_defect[j] = 0.0
            continue
        g = group[j]
        i = first[j]
        whole = lumped[g] >= 0
        if whole and i >= until:
            until = i + k
            sample_particles(weight[i:until], order, length, normals, rows, table, bend)
            crowd_still = not crowd_motion(
                weight[i:until], order, normals, table, bend, farthest
            )  # fmt: skip
        if whole and not slides[g]:
            # Most of a crowd is farther from all hyperplanes than it may move.
            away = crowd_still or plain[g]
            if not crowd_still:
                for h in range(p):
                    if sign[g, h] * z[j, h] <= farthest[h]:
                        away = False
                        break
            if away:
                time[j] = np.inf
                first_plane[j] = -1
                first_kind[j] = NONE
                for b in range(3):
                    first_defect[j, b] = 0.0
                continue
        time[j], first_plane[j], first_kind[j] = ends[g], end_plane[g], NONE
        if ends[g] < np.inf:
            first_kind[j] = LEAVE
        for b in range(3):
            first_defect[j, b] = 0.0
        reach, start_a, moved_a = KINK_WIDTH, 0.0, 0.0
        for b in range(k if whole else 1):
            reach += abs(mix[j, b]) * bend[b]
            start_a += mix[j, b] * output[i + b, 0, 0]
            moved_a += abs(mix[j, b]) * change[i + b]
        if whole:
            found = may_meet(sign, g, z, j, mix, views, reach, lowest, near)
        else:
            found = may_meet_alone(sign, g, z, j, normals, weight, i, order, length, near)
        turns = plain[g] and slides[g] and abs(start_a) <= moved_a
        if plain[g] and found == 0 and not turns and first_kind[j] == NONE:
            continue
        w, a = weight[i], output[i]
        if whole:
            neuron_series(mix[j], i, order, weight, output, own_weight, own_output)
            w, a = own_weight, own_output
        if not plain[g]:
            time[j], first_plane[j], first_kind[j] = held_event(
                group_side[g], normals, w, a, order, multiplier[g], jump, degree, length, noise,
                slack, coefficient, other,
            )  # fmt: skip
        elif turns:
            t = turning(a, order, length, coefficient)
            if t < time[j]:
                time[j], first_plane[j], first_kind[j] = t, -1, TURN
        if found:
            t, h = first_meeting(
                sign[g], near[:found], z[j], normals, w, order, min(length, time[j]), coefficient
            )  # fmt: skip
            if t < time[j]:
                time[j], first_plane[j], first_kind[j] = t, h, HIT
        if first_kind[j] != NONE:
            event_defect(
                group_side[g], first_plane[j], first_kind[j], time[j], normals, w, a, order,
                multiplier[g], jump, degree, coefficient, other, first_defect[j],
            )  # fmt: skip


@njit(cache=True, error_model="numpy")
def window_states(
    offset, group, group_side, first, mix, lumped, k, weight, output, order, neuron_base,
    neuron_count, segment_start, segment_w, segment_a, segment_order, segment_change, change_plane,
    change_side, out_side, out_w, out_a,
):  # fmt: skip
    """States of all neurons at an offset of a window."""
    count, _, q = weight.shape
    outputs = output.shape[2]
    now_w = np.empty((count, q))
    now_a = np.empty((count, outputs))
    for i in range(count):
        evaluate_rows(weight[i], order, offset, now_w[i])
        evaluate_rows(output[i], order, offset, now_a[i])
    for j in range(len(group)):
        for h in range(group_side.shape[1]):
            out_side[j, h] = group_side[group[j], h]
        if neuron_count[j] > 0:
            s = neuron_base[j] + neuron_count[j] - 1
            while s > neuron_base[j] and segment_start[s] > offset:
                s -= 1
            t = offset - segment_start[s]
            evaluate_rows(segment_w[s], segment_order[s], t, out_w[j])
            evaluate_rows(segment_a[s], segment_order[s], t, out_a[j])
            for i in range(segment_change[neuron_base[j]], segment_change[s]):
                out_side[j, change_plane[i]] = change_side[i]
            continue
        i = first[j]
        if lumped[group[j]] < 0:
            for c in range(q):
                out_w[j, c] = now_w[i, c]
            for o in range(outputs):
                out_a[j, o] = now_a[i, o]
            continue
        for c in range(q):
            t = 0.0
            for b in range(k):
                t += mix[j, b] * now_w[i + b, c]
            out_w[j, c] = t
        for o in range(outputs):
            t = 0.0
            for b in range(k):
                t += mix[j, b] * now_a[i + b, o]
            out_a[j, o] = t


@njit(cache=True, error_model="numpy")
def window_prediction(
    offset, riders, group, active, first, mix, lumped, k, weight, output, order, particle_share,
    particle_group, share, neuron_base, neuron_count, segment_start, segment_w, segment_a,
    segment_order, normals, plane, plus, minus, prediction,
):  # fmt: skip
    """Predictions at an offset of a window, from its particles and the neurons that ride."""
    count, _, q = weight.shape
    outputs = output.shape[2]
    groups, p = active.shape
    now_w = np.empty((count, q))
    now_a = np.empty((count, outputs))
    moment = np.zeros((outputs, groups, q))
    w = np.empty(q)
    a = np.empty(outputs)
    rider_w = np.zeros((len(riders), q))
    rider_a = np.zeros((len(riders), outputs))
    for i in range(count):
        evaluate_rows(weight[i], order, offset, now_w[i])
        evaluate_rows(output[i], order, offset, now_a[i])
        for o in range(outputs):
            add(moment[o, particle_group[i]], particle_share[i] * now_a[i, o], now_w[i])
    for r in range(len(riders)):
        j = riders[r]
        # Out with its part in the group's moment, in with what it is.
        terms = k if lumped[group[j]] >= 0 else 1
        w[:] = 0.0
        a[:] = 0.0
        for b in range(terms):
            add(w, mix[j, b], now_w[first[j] + b])
            add(a, mix[j, b], now_a[first[j] + b])
        for o in range(outputs):
            add(moment[o, group[j]], -share[j] * a[o], w)
        s = neuron_base[j] + neuron_count[j] - 1
        while s > neuron_base[j] and segment_start[s] > offset:
            s -= 1
        t = offset - segment_start[s]
        evaluate_rows(segment_w[s], segment_order[s], t, rider_w[r])
        evaluate_rows(segment_a[s], segment_order[s], t, rider_a[r])
    on_value = np.zeros((p, outputs))
    value = np.zeros((p, outputs))
    z = np.dot(rider_w, normals.T)
    for r in range(len(riders)):
        for o in range(outputs):
            t = share[riders[r]] * rider_a[r, o]
            if t == 0.0:
                continue
            for h in range(p):
                v = t * z[r, h]
                value[h, o] += v
                on_value[h, o] += v if z[r, h] > 0.0 else 0.0
    by_plane = np.empty((p, q))
    total = np.empty(q)
    for o in range(outputs):
        np.dot(active.T, moment[o], by_plane)
        total[:] = 0.0
        for g in range(groups):
            add(total, 1.0, moment[o, g])
        for h in range(p):
            on_value[h, o] += dot(by_plane[h], normals[h])
            value[h, o] += dot(total, normals[h])
    plane_values(on_value, value, plane, plus, minus, prediction)


@njit(cache=True, error_model="numpy")
def event_counts(offset, neuron_base, neuron_count, segment_start, segment_counts, counts):
    """Crossings, slides and branchings up to an offset, and the number of intervals."""
    for j in range(len(neuron_base)):
        if neuron_count[j] == 0:
            continue
        s = neuron_base[j] + neuron_count[j] - 1
        while s > neuron_base[j] and segment_start[s] > offset:
            s -= 1
        for c in range(3):
            counts[c] += segment_counts[s, c]
        counts[3] += s - neuron_base[j] + 1


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _defect(end, time, plane, share, defect, normals, size, covariance, at_plane, along, moved):
    """The part of int D that the residual's series misses up to an end, for a neuron all on."""
    at_plane[:] = 0.0
    along[:] = 0.0
    for i in range(len(time)):
        late = end - time[i]
        h = plane[i]
        if late > 0.0 and h >= 0:
            half = 0.5 * late * late * share[i]
            at_plane[h] += half * defect[i, 0]
            add(along, half * (defect[i, 1] + late * defect[i, 2] / 3.0), normals[h])
    moved[:] = 0.0
    for c in range(len(along)):
        add(moved, along[c], covariance[c])
    for h in range(len(size)):
        if at_plane[h] != 0.0:
            add(moved, size[h] ** 2 * at_plane[h], normals[h])
    return np.sqrt(dot(moved, moved))


@njit(cache=True, error_model="numpy")
def cut_length(
    time, plane, share, defect, normals, size, covariance, length, allowed, left, curved
):  # fmt: skip
    """The longest length at which the defect of the events before it is at most what is allowed.

    After an event at t the residual's series is wrong by a defect that grows like (tau - t); its
    integral moves the neurons, by X^T X along the normal and by the examples of the hyperplane.
    Of it the part `left` + `curved` length^2 remains, at most all of it.
    """
    q = normals.shape[1]
    at_plane = np.empty(len(normals))
    along = np.empty(q)
    moved = np.empty(q)
    if _defect(
        length, time, plane, share, defect, normals, size, covariance, at_plane, along, moved
    ) * min(1.0, left + curved * length**2) <= allowed:  # fmt: skip
        return length
    low, high = 0.0, length
    for _ in range(24):
        middle = 0.5 * (low + high)
        if _defect(
            middle, time, plane, share, defect, normals, size, covariance, at_plane, along, moved
        ) * min(1.0, left + curved * middle**2) <= allowed:  # fmt: skip
            low = middle
        else:
            high = middle
    return low
