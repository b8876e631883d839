"""What the events of a window do to the residual, and through it to all neurons: to first order.

A window moves every neuron along r(tau), the residual's series with frozen patterns. After an
event the true residual is r + dr; dr is known from the neurons that had events, and adds the
integral of a dD to w and that of w.dD to a. A neuron that meets a kink meets it at another time
then: what it had been moved by is carried across the kink by the change of its velocity there.
"""

import numpy as np
from numba import njit
from numpy import ndarray

from ._field import group_forces, plane_values
from ._motion import evaluate_rows
from ._patterns import (
    FAST,
    SLIDE,
    add,
    copy_matrix,
    dot,
    plane_forces,
    project_force,
    project_weight,
)
from ._residual import SQUARE, scaled_residual

#: Times at which dr is known; between them it is taken as linear.
_TIMES = 9
#: Events at whose times it is known, being those that change it most.
_EVENTS = 4


def change_times(length: float, start: ndarray, size: ndarray) -> ndarray:
    """Times, from the first event of a window to its end, at which to know how r deviates.

    dr is about piecewise linear, with kinks at the events: the strongest are among the times, and
    the longest gaps between those are halved.

    **Arguments:**

    - `start`: the times of the events.
    - `size`: how much each changes the slope of dr.
    """
    strongest = start[np.argsort(-size * (length - start), kind="stable")[:_EVENTS]]
    times = np.unique(np.concatenate([[start.min()], strongest, [length]]))
    apart = np.append(np.diff(times) > 1e-6 * (length - times[0]), True)
    apart[0] = True
    times = times[apart]
    while len(times) < _TIMES:
        gap = np.diff(times)
        widest = int(np.argmax(gap))
        times = np.insert(times, widest + 1, times[widest] + 0.5 * gap[widest])
    return times


@njit(cache=True, error_model="numpy")
def residual_changes(
    times, riders, group, active, first, mix, lumped, k, weight, output, order, share,
    neuron_base, neuron_count, segment_start, segment_w, segment_a, segment_order, normals, plane,
    plus, minus, kind, label, factor, unit, prediction, changes,
):  # fmt: skip
    """How the residual deviates from its series, at times from its first event on.

    `riders` are the neurons with events; `prediction` (orders, n, C) are the Taylor coefficients
    of the predictions that the residual's series belongs to; `changes` has shape (times, n, C).
    """
    count, _, q = weight.shape
    p = len(normals)
    n, outputs = label.shape
    now_w = np.empty((count, q))
    now_a = np.empty((count, outputs))
    ready = np.empty(count, np.bool_)
    row_w = np.empty((2 * len(riders), q))
    row_a = np.empty((2 * len(riders), outputs))
    owner = np.empty(len(riders), np.int64)
    on_value = np.empty((p, outputs))
    value = np.empty((p, outputs))
    before = np.empty((n, outputs))
    after = np.empty((n, outputs))
    changes[:] = 0.0
    for part in range(1, len(times)):
        t = times[part]
        change = changes[part]
        rows = 0
        ready[:] = False
        for j in riders:
            base = neuron_base[j]
            if segment_start[base + 1] >= t:
                continue
            s = base + neuron_count[j] - 1
            while segment_start[s] > t:
                s -= 1
            owner[rows] = j
            evaluate_rows(segment_w[s], segment_order[s], t - segment_start[s], row_w[2 * rows])
            evaluate_rows(segment_a[s], segment_order[s], t - segment_start[s], row_a[2 * rows])
            row_w[2 * rows + 1] = 0.0
            row_a[2 * rows + 1] = 0.0
            for b in range(k if lumped[group[j]] >= 0 else 1):
                i = first[j] + b
                if not ready[i]:
                    evaluate_rows(weight[i], order, t, now_w[i])
                    evaluate_rows(output[i], order, t, now_a[i])
                    ready[i] = True
                add(row_w[2 * rows + 1], mix[j, b], now_w[i])
                add(row_a[2 * rows + 1], mix[j, b], now_a[i])
            rows += 1
        if rows == 0:
            continue
        z = np.dot(row_w[: 2 * rows], normals.T)
        on_value[:] = 0.0
        value[:] = 0.0
        for r in range(rows):
            frozen = active[group[owner[r]]]
            for o in range(outputs):
                own = share[owner[r]] * row_a[2 * r, o]
                was = share[owner[r]] * row_a[2 * r + 1, o]
                for h in range(p):
                    u = own * z[2 * r, h]
                    v = was * z[2 * r + 1, h]
                    value[h, o] += u - v
                    on_value[h, o] += (u if z[2 * r, h] > 0.0 else 0.0) - frozen[h] * v
        plane_values(on_value, value, plane, plus, minus, change)
        if kind == SQUARE:
            for i in range(n):
                for o in range(outputs):
                    change[i, o] *= -factor
            continue
        for i in range(n):
            for o in range(outputs):
                before[i, o] = prediction[order, i, o]
                for b in range(order - 1, -1, -1):
                    before[i, o] = before[i, o] * t + prediction[b, i, o]
                change[i, o] += before[i, o]
        now = np.exp(scaled_residual(kind, change, label, factor, after) - unit)
        then = np.exp(scaled_residual(kind, before, label, factor, change) - unit)
        for i in range(n):
            for o in range(outputs):
                change[i, o] = after[i, o] * now - change[i, o] * then


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _add_weights(times, t, factor, weight):
    """Add the weights that integrate a piecewise linear function up to t from its values."""
    for i in range(len(times) - 1):
        step = times[i + 1] - times[i]
        s = min(t - times[i], step)
        if s <= 0.0:
            return
        late = 0.5 * s * s / step
        weight[i] += factor * (s - late)
        weight[i + 1] += factor * late


@njit(cache=True, error_model="numpy")
def changed_forces(changes, active, normals, plane, plus, minus, force, part_jump):
    """What changes (K, n, C) of the residual add to D of the groups, (K, G, C, q), not projected.

    `part_jump` (K, p, C) gets what each hyperplane adds where it is on.
    """
    on = np.empty((len(normals), changes.shape[2]))
    for b in range(len(changes)):
        plane_forces(changes[b], plane, plus, minus, on, part_jump[b])
        group_forces(active, on, part_jump[b], normals, force[b])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def correct_states(
    times, shape, force, part_jump, group, group_side, slides, inverse, neuron_base, neuron_count,
    segment_start, segment_w, segment_a, segment_order, segment_plane, segment_change,
    change_plane, change_side, normals, velocity, start_w, start_a, side, w, a,
):  # fmt: skip
    """Add what the changes of the residual do to the states of all neurons, in place.

    The residual deviates from its series by `shape` (times, K) times K changes, which add `force`
    and `part_jump` to D (see `changed_forces`).
    Neurons without events take two moments of dr, against 1 - tau/T and tau/T with T the offset,
    for the states at the two ends. `velocity` (G, C, q) is D of the groups, along which what they
    have been moved by grows until T.
    """
    groups, p = group_side.shape
    q = normals.shape[1]
    parts, outputs = force.shape[0], force.shape[2]
    count = len(times)
    offset = times[count - 1]
    moment = np.zeros((2, count))
    for i in range(count - 1):
        step = times[i + 1] - times[i]
        early, late = step * times[i] / offset, step * times[i + 1] / offset
        moment[1, i] += early / 3.0 + late / 6.0
        moment[1, i + 1] += early / 6.0 + late / 3.0
        moment[0, i] += 0.5 * step - early / 3.0 - late / 6.0
        moment[0, i + 1] += 0.5 * step - early / 6.0 - late / 3.0
    factor = np.zeros((2, parts))
    for end in range(2):
        for b in range(parts):
            for i in range(count):
                factor[end, b] += moment[end, i] * shape[i, b]
    whole = np.zeros((2, groups, outputs, q))
    multiplier = np.empty((inverse.shape[1], outputs))
    held = np.zeros(groups, np.bool_)
    idle = np.zeros(groups, np.bool_)
    for g in range(groups):
        for h in range(p):
            held[g] = held[g] or abs(group_side[g, h]) == 2
        for end in range(2):
            for b in range(parts):
                for o in range(outputs):
                    add(whole[end, g, o], factor[end, b], force[b, g, o])
            project_force(group_side[g], normals, inverse[g], slides[g], whole[end, g], multiplier)
        idle[g] = True
        for o in range(outputs):
            for c in range(q):
                idle[g] = idle[g] and whole[0, g, o, c] == 0.0 and whole[1, g, o, c] == 0.0
    weight = np.empty(count)
    mean = np.empty(parts)
    own = np.empty((parts, outputs, q))
    step_force = np.empty((outputs, q))
    moved_w = np.empty(q)
    moved_a = np.empty(outputs)
    grown_w = np.empty(q)
    end_w = np.empty(q)
    end_a = np.empty(outputs)
    speed = np.empty(q)
    kinks = np.empty(p, np.int64)
    kink_side = np.empty(p, np.int8)
    kink_normal = np.empty((p, q))
    for j in range(len(group)):
        base = neuron_base[j]
        g = group[j]
        if neuron_count[j] < 2 or segment_start[base + 1] >= offset:
            if idle[g]:
                continue
            moved_w[:] = 0.0
            grown_w[:] = 0.0
            d = velocity[g]
            for o in range(outputs):
                early = dot(w[j], whole[0, g, o])
                moved_a[o] = dot(start_w[j], whole[0, g, o]) + dot(w[j], whole[1, g, o])
                add(moved_w, start_a[j, o], whole[0, g, o])
                add(moved_w, a[j, o], whole[1, g, o])
                add(moved_w, offset * early, d[o])
                add(grown_w, offset * a[j, o], whole[0, g, o])
            for o in range(outputs):
                a[j, o] += moved_a[o] + dot(d[o], grown_w)
            add(w[j], 1.0, moved_w)
            if held[g]:
                project_weight(side[j], normals, w[j])
            continue
        moved_w[:] = 0.0
        moved_a[:] = 0.0
        for b in range(parts):
            copy_matrix(force[b, g], own[b])
        number = 0
        for h in range(p):
            if abs(group_side[g, h]) != 1:
                kinks[number] = h
                kink_side[number] = group_side[g, h]
                kink_normal[number] = normals[h]
                number += 1
        changed = segment_change[base]
        for s in range(base, base + neuron_count[j]):
            start = segment_start[s]
            final = s + 1 == base + neuron_count[j] or segment_start[s + 1] >= offset
            stop = offset if final else segment_start[s + 1]
            while changed < segment_change[s]:
                h, now = change_plane[changed], change_side[changed]
                was = group_side[g, h]
                for i in range(segment_change[base], changed):
                    if change_plane[i] == h:
                        was = change_side[i]
                changed += 1
                if (was > 0) != (now > 0):
                    for b in range(parts):
                        for o in range(outputs):
                            f = part_jump[b, h, o]
                            add(own[b, o], f if now > 0 else -f, normals[h])
                place = number
                for i in range(number):
                    if kinks[i] == h:
                        place = i
                if abs(now) == 1:
                    if place < number:
                        number -= 1
                        kinks[place] = kinks[number]
                        kink_side[place] = kink_side[number]
                        kink_normal[place] = kink_normal[number]
                    continue
                kinks[place] = h
                kink_side[place] = now
                kink_normal[place] = normals[h]
                number = max(number, place + 1)
            if final:
                end_w[:] = w[j]
                end_a[:] = a[j]
            else:
                end_w[:] = segment_w[s + 1, 0]
                end_a[:] = segment_a[s + 1, 0]
            if outputs == 1 and segment_a[s, 0, 0] != 0.0:
                # D = w'/a; what it had been moved by grows along it.
                length = (stop - start) / segment_a[s, 0, 0]
                growth = length * dot(segment_w[s, 1], moved_w)
                add(moved_w, length * moved_a[0], segment_w[s, 1])
                moved_a[0] += growth
            weight[:] = 0.0
            _add_weights(times, stop, 1.0, weight)
            _add_weights(times, start, -1.0, weight)
            step_force[:] = 0.0
            for b in range(parts):
                mean[b] = 0.0
                for i in range(count):
                    mean[b] += weight[i] * shape[i, b]
                if mean[b] != 0.0:
                    for o in range(outputs):
                        add(step_force[o], mean[b], own[b, o])
            for o in range(outputs):
                moved_a[o] += 0.5 * dot(segment_w[s, 0], step_force[o])
                moved_a[o] += 0.5 * dot(end_w, step_force[o])
                add(moved_w, 0.5 * (segment_a[s, 0, o] + end_a[o]), step_force[o])
            if number:
                project_weight(kink_side[:number], kink_normal, moved_w)
            if final:
                break
            h = segment_plane[s + 1]
            slid = h < 0
            for i in range(number):
                slid = slid or (kinks[i] == h and kink_side[i] == SLIDE)
            if slid:
                continue
            # It meets the kink earlier by the time in which it gains what it was moved by.
            speed[:] = 0.0
            for i in range(segment_order[s], 0, -1):
                for c in range(q):
                    speed[c] = speed[c] * (stop - start) + i * segment_w[s, i, c]
            across = dot(normals[h], speed)
            if across != 0.0:
                early = dot(normals[h], moved_w) / across
                early = max(-(stop - start), min(early, stop - start))
                for c in range(q):
                    moved_w[c] += early * (segment_w[s + 1, 1, c] - speed[c])
        for c in range(q):
            w[j, c] += moved_w[c]
        for o in range(outputs):
            a[j, o] += moved_a[o]
        if number:
            project_weight(kink_side[:number], kink_normal, w[j])
