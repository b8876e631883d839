"""A window: first events of all neurons along the series, their rides, and states at any offset."""

import numpy as np
from numba import njit

from ._events import event_defect, first_event
from ._field import plane_values
from ._motion import evaluate_rows, ride
from ._patterns import FAST, KINK_WIDTH, NONE, add, dot

#: Times in a window at which the motion of lumped neurons is looked at.
_SAMPLES = 24


@njit(cache=True, error_model="numpy", fastmath=FAST)
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
def lumped_motion(lumped, k, group_side, weight, order, normals, length, table, slack, careful):
    """Where the particles of lumped groups are across each hyperplane, at times in a window.

    `table` (G, p, samples, k) gets w.e, and `slack` (G, p) what a neuron of norm sqrt 2 may
    deviate between samples. Marks groups that slide or rest, whose neurons have more to be watched.
    """
    for g in range(len(lumped)):
        careful[g] = False
        for h in range(len(normals)):
            if abs(group_side[g, h]) != 1:
                careful[g] = True
            if lumped[g] < 0:
                continue
            fastest = 0.0
            for sample in range(_SAMPLES):
                t = length * (sample + 1) / _SAMPLES
                speed = 0.0
                for b in range(k):
                    x, dx = 0.0, 0.0
                    for i in range(order, -1, -1):
                        dx = dx * t + x
                        x = x * t + dot(normals[h], weight[lumped[g] + b, i])
                    table[g, h, sample, b] = x
                    speed += dx**2
                fastest = max(fastest, speed)
            slack[g, h] = np.sqrt(2.0 * fastest) * length / _SAMPLES + KINK_WIDTH


@njit(cache=True, error_model="numpy", fastmath=FAST)
def may_meet(side, z, mix, table, slack):
    """Whether a lumped neuron may meet a kink in a window."""
    for h in range(len(side)):
        sign = 1.0 if side[h] > 0 else -1.0
        if sign * z[h] <= slack[h]:
            return True
        for sample in range(_SAMPLES):
            t = 0.0
            for b in range(len(mix)):
                t += mix[b] * table[h, sample, b]
            if sign * t <= slack[h]:
                return True
    return False


@njit(cache=True, error_model="numpy", fastmath=FAST)
def window_events(
    group, group_side, first, mix, lumped, k, z, share, weight, output, order, multiplier, jump,
    degree, normals, length, noise, slack, time, first_plane, first_defect,
):  # fmt: skip
    """The first event of each neuron along a series, and its defect (see `event_defect`)."""
    p, q = normals.shape
    outputs = output.shape[2]
    groups = len(group_side)
    top = max(order, degree)
    coefficient = np.empty(top + 2)
    other = np.empty(top + 2)
    own_weight = np.empty((order + 1, q))
    own_output = np.empty((order + 1, outputs))
    table = np.empty((groups if mix.shape[1] == k else 0, p, _SAMPLES, k))
    slack_across = np.empty((groups, p))
    careful = np.empty(groups, np.bool_)
    lumped_motion(
        lumped, k, group_side, weight, order, normals, length, table, slack_across, careful
    )
    for j in range(len(group)):
        g = group[j]
        time[j] = np.inf
        first_defect[j] = 0.0
        first_plane[j] = -1
        w, a = weight[first[j]], output[first[j]]
        if lumped[g] >= 0:
            if not careful[g] and not may_meet(
                group_side[g], z[j], mix[j], table[g], slack_across[g]
            ):
                continue
            neuron_series(mix[j], first[j], order, weight, output, own_weight, own_output)
            w, a = own_weight, own_output
        t, h, kind = first_event(
            group_side[g], z[j], normals, w, a, order, multiplier[g], jump, degree, length, noise,
            slack, coefficient, other,
        )  # fmt: skip
        time[j] = t
        first_plane[j] = h
        if kind != NONE:
            event_defect(
                group_side[g], h, kind, t, normals, w, a, order, multiplier[g], jump, degree,
                coefficient, other, first_defect[j],
            )  # fmt: skip


@njit(cache=True, error_model="numpy")
def window_rides(
    length, time, group, group_side, w, a, raw, on, jump, degree, normals, noise, slack,
    tolerance, branching, neuron_base, neuron_count, segment_start, segment_side, segment_w,
    segment_a, segment_order, segment_counts, segment_plane, segment_defect,
):  # fmt: skip
    """Ride with every neuron that has an event before the end of a window.

    `neuron_base` and `neuron_count` get each one's segments (see `ride`); others have none.
    **Returns** the number of segments, or the code of a ride that failed.
    """
    p, q = normals.shape
    outputs = a.shape[1]
    side = np.empty(p, np.int8)
    force = np.empty((degree + 1, outputs, q))
    base = np.int64(0)
    for j in range(len(group)):
        neuron_base[j] = base
        neuron_count[j] = 0
        if time[j] > length:
            continue
        side[:] = group_side[group[j]]
        for i in range(degree + 1):
            force[i] = raw[i, group[j]]
        used = ride(
            side, w[j], a[j], on, jump, force, degree, length, normals, noise, slack, tolerance,
            branching, base, segment_start, segment_side, segment_w, segment_a, segment_order,
            segment_counts, segment_plane, segment_defect,
        )  # fmt: skip
        if used < 0:
            return used
        neuron_count[j] = used
        base += used
    return base


@njit(cache=True, error_model="numpy")
def window_states(
    offset, group, group_side, first, mix, lumped, k, weight, output, order, neuron_base,
    neuron_count, segment_start, segment_side, segment_w, segment_a, segment_order, out_side,
    out_w, out_a,
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
        if neuron_count[j] > 0:
            s = neuron_base[j] + neuron_count[j] - 1
            while s > neuron_base[j] and segment_start[s] > offset:
                s -= 1
            t = offset - segment_start[s]
            evaluate_rows(segment_w[s], segment_order[s], t, out_w[j])
            evaluate_rows(segment_a[s], segment_order[s], t, out_a[j])
            out_side[j] = segment_side[s]
            continue
        out_side[j] = group_side[group[j]]
        i = first[j]
        if lumped[group[j]] < 0:
            out_w[j] = now_w[i]
            out_a[j] = now_a[i]
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
    particle_group, share, neuron_base, neuron_count, segment_start, segment_side, segment_w,
    segment_a, segment_order, normals, plane, plus, minus, prediction,
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
    segment = np.zeros(len(riders), np.int64)
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
        segment[r] = s
        t = offset - segment_start[s]
        evaluate_rows(segment_w[s], segment_order[s], t, rider_w[r])
        evaluate_rows(segment_a[s], segment_order[s], t, rider_a[r])
    on_value = np.zeros((p, outputs))
    value = np.zeros((p, outputs))
    z = np.dot(rider_w, normals.T)
    for r in range(len(riders)):
        side = segment_side[segment[r]]
        for o in range(outputs):
            t = share[riders[r]] * rider_a[r, o]
            if t == 0.0:
                continue
            for h in range(p):
                v = t * z[r, h]
                value[h, o] += v
                on_value[h, o] += v if side[h] > 0 else 0.0
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
