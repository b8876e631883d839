"""What the events of a window do to the residual, and through it to all neurons: to first order.

A window moves every neuron along r(tau), the residual's series with frozen patterns. After an
event the true residual is r + dr; dr is known from the neurons that had events, and adds the
integral of a dD to w and that of w.dD to a. A neuron that meets a kink meets it at another time
then: what it had been moved by is carried across the kink by the change of its velocity there.
"""

import numpy as np
from numba import njit

from ._field import group_forces, plane_values
from ._motion import evaluate_rows
from ._patterns import FAST, SLIDE, add, dot, plane_forces, project_force, project_weight
from ._residual import SQUARE, scaled_residual

#: Times at which dr is known; between them it is taken as linear.
_TIMES = 9
#: Events at whose times it is known, being those that change it most.
_EVENTS = 4


@njit(cache=True, error_model="numpy")
def change_times(
    offset, riders, share, neuron_base, neuron_count, segment_start, segment_defect
):  # fmt: skip
    """Times, from the first event to an offset, at which to know how the residual deviates.

    dr is about piecewise linear, with kinks at the events: the strongest are among the times, and
    the longest gaps between those are halved.
    """
    times = np.empty(_TIMES)
    heaviest = np.zeros(_EVENTS)
    at = np.full(_EVENTS, offset)
    first = offset
    for j in riders:
        for s in range(neuron_base[j] + 1, neuron_base[j] + neuron_count[j]):
            late = offset - segment_start[s]
            if late <= 0.0:
                break
            first = min(first, segment_start[s])
            d = segment_defect[s]
            size = share[j] * late * (abs(d[0]) + abs(d[1]) + late * abs(d[2]))
            i = _EVENTS
            while i > 0 and size > heaviest[i - 1]:
                i -= 1
            for b in range(_EVENTS - 1, i, -1):
                heaviest[b] = heaviest[b - 1]
                at[b] = at[b - 1]
            if i < _EVENTS:
                heaviest[i] = size
                at[i] = segment_start[s]
    times[0] = first
    times[1] = offset
    count = 2
    for t in at:
        if np.abs(times[:count] - t).min() > 1e-6 * (offset - first):
            times[count] = t
            count += 1
    times[:count].sort()
    while count < _TIMES:
        widest = np.argmax(np.diff(times[:count]))
        times[widest + 2 : count + 1] = times[widest + 1 : count].copy()
        times[widest + 1] = 0.5 * (times[widest] + times[widest + 2])
        count += 1
    return times


@njit(cache=True, error_model="numpy")
def residual_changes(
    times, riders, group, active, first, mix, lumped, k, weight, output, order, share,
    neuron_base, neuron_count, segment_start, segment_side, segment_w, segment_a, segment_order,
    normals, plane, plus, minus, kind, label, factor, unit, prediction, changes,
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
    segment = np.empty(len(riders), np.int64)
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
            segment[rows] = s
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
            now, frozen = segment_side[segment[r]], active[group[owner[r]]]
            for o in range(outputs):
                own = share[owner[r]] * row_a[2 * r, o]
                was = share[owner[r]] * row_a[2 * r + 1, o]
                for h in range(p):
                    u = own * z[2 * r, h]
                    v = was * z[2 * r + 1, h]
                    value[h, o] += u - v
                    on_value[h, o] += (u if now[h] > 0 else 0.0) - frozen[h] * v
        plane_values(on_value, value, plane, plus, minus, change)
        if kind == SQUARE:
            change *= -factor
            continue
        before[:] = prediction[order]
        for i in range(order - 1, -1, -1):
            before[:] = before * t + prediction[i]
        change += before
        now_unit = scaled_residual(kind, change, label, factor, after)
        then_unit = scaled_residual(kind, before, label, factor, change)
        change[:] = after * np.exp(now_unit - unit) - change * np.exp(then_unit - unit)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _integral(times, changes, whole, t, out):
    """The integral of dr up to t, from its values and its integrals `whole` at the times."""
    if t <= times[0]:
        out[:] = 0.0
        return
    i = len(times) - 2
    while times[i] > t:
        i -= 1
    s = t - times[i]
    late = 0.5 * s * s / (times[i + 1] - times[i])
    for k in range(out.shape[0]):
        for o in range(out.shape[1]):
            out[k, o] = whole[i, k, o] + (s - late) * changes[i, k, o] + late * changes[i + 1, k, o]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def correct_states(
    times, changes, group, group_side, active, slides, inverse, neuron_base, neuron_count,
    segment_start, segment_side, segment_w, segment_a, segment_order, segment_plane, normals,
    plane, plus, minus, velocity, start_w, start_a, side, w, a,
):  # fmt: skip
    """Add what the changes of the residual do to the states of all neurons, in place.

    Neurons without events take two moments of dr, against 1 - tau/T and tau/T with T the offset,
    for the states at the two ends. `velocity` (G, C, q) is D of the groups, along which what they
    have been moved by grows until T.
    """
    groups, p = group_side.shape
    q = normals.shape[1]
    n, outputs = changes.shape[1:]
    parts = len(times) - 1
    offset = times[parts]
    whole = np.zeros((parts + 1, n, outputs))
    moment = np.zeros((2, n, outputs))
    for i in range(parts):
        step = times[i + 1] - times[i]
        whole[i + 1] = whole[i] + 0.5 * step * (changes[i] + changes[i + 1])
        early, late = step * times[i] / offset, step * times[i + 1] / offset
        moment[1] += (early / 3.0 + late / 6.0) * changes[i]
        moment[1] += (early / 6.0 + late / 3.0) * changes[i + 1]
    moment[0] = whole[parts] - moment[1]
    on = np.empty((p, outputs))
    jump = np.empty((p, outputs))
    force = np.empty((2, groups, outputs, q))
    multiplier = np.empty((inverse.shape[1], outputs))
    held = np.zeros(groups, np.bool_)
    for g in range(groups):
        for h in range(p):
            held[g] = held[g] or abs(group_side[g, h]) == 2
    for end in range(2):
        plane_forces(moment[end], plane, plus, minus, on, jump)
        group_forces(active, on, jump, normals, force[end])
        for g in range(groups):
            project_force(group_side[g], normals, inverse[g], slides[g], force[end, g], multiplier)
    until = np.empty((n, outputs))
    since = np.empty((n, outputs))
    own = np.empty(q)
    moved_w = np.empty(q)
    moved_a = np.empty(outputs)
    grown_w = np.empty(q)
    end_w = np.empty(q)
    end_a = np.empty(outputs)
    speed = np.empty(q)
    for j in range(len(group)):
        base = neuron_base[j]
        if neuron_count[j] < 2 or segment_start[base + 1] >= offset:
            first, last = force[0, group[j]], force[1, group[j]]
            moved_w[:] = 0.0
            grown_w[:] = 0.0
            d = velocity[group[j]]
            for o in range(outputs):
                early = dot(w[j], first[o])
                moved_a[o] = dot(start_w[j], first[o]) + dot(w[j], last[o])
                add(moved_w, start_a[j, o], first[o])
                add(moved_w, a[j, o], last[o])
                add(moved_w, offset * early, d[o])
                add(grown_w, offset * a[j, o], first[o])
            for o in range(outputs):
                a[j, o] += moved_a[o] + dot(d[o], grown_w)
            add(w[j], 1.0, moved_w)
            if held[group[j]]:
                project_weight(side[j], normals, w[j])
            continue
        moved_w[:] = 0.0
        moved_a[:] = 0.0
        until[:] = 0.0
        for s in range(base, base + neuron_count[j]):
            start = segment_start[s]
            final = s + 1 == base + neuron_count[j] or segment_start[s + 1] >= offset
            stop = offset if final else segment_start[s + 1]
            now = segment_side[s]
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
            since[:] = until
            _integral(times, changes, whole, stop, until)
            plane_forces(until - since, plane, plus, minus, on, jump)
            kinks = False
            for o in range(outputs):
                own[:] = 0.0
                for h in range(p):
                    kinks = kinks or abs(now[h]) != 1
                    f = on[h, o] - (0.0 if now[h] > 0 else jump[h, o])
                    if f != 0.0:
                        add(own, f, normals[h])
                moved_a[o] += 0.5 * (dot(segment_w[s, 0], own) + dot(end_w, own))
                add(moved_w, 0.5 * (segment_a[s, 0, o] + end_a[o]), own)
            if kinks:
                project_weight(now, normals, moved_w)
            if final:
                break
            h = segment_plane[s + 1]
            if h < 0 or now[h] == SLIDE:
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
        project_weight(side[j], normals, w[j])
