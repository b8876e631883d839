"""What the events of a window do to the residual, and through it to all neurons: to first order.

A window moves every neuron along r(tau), the residual's series with frozen patterns. After an
event the true residual is r + dr; dr is known from the neurons that had events, and adds the
integral of a dD to w and that of w.dD to a. A neuron that meets a kink meets it at another time
then: what it had been moved by is carried across the kink by the change of its velocity there.
"""

from typing import Any

import numpy as np
from numba import njit

from ._field import group_forces
from ._patterns import (
    FAST,
    KINK_WIDTH,
    SLIDE,
    add,
    assign,
    copy_matrix,
    dot,
    plane_forces,
    project_force,
    project_weight,
)
from ._tree import pattern_forces


@njit(cache=True, error_model="numpy")
def _add_moments(times, i, start, stop, shape, early, late):
    """Add the moments that functions `shape` (times, K) have between times i, i + 1.

    They are linear there; `early` and `late` (K,) get their integrals against 1 - x and x, with x
    from 0 to 1 on [start, stop].
    """
    u, v = max(start, times[i]), min(stop, times[i + 1])
    step, length = times[i + 1] - times[i], stop - start
    part = (v - u) / (6.0 * step * length)
    for b in range(2):
        hat_u = u - times[i] if b else times[i + 1] - u
        hat_v = v - times[i] if b else times[i + 1] - v
        on_late = part * (
            hat_u * (2.0 * (u - start) + v - start) + hat_v * (u + 2.0 * v - 3.0 * start)
        )
        on_early = 0.5 * (v - u) * (hat_u + hat_v) / step - on_late
        for k in range(shape.shape[1]):
            early[k] += on_early * shape[i + b, k]
            late[k] += on_late * shape[i + b, k]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _span_kinks(normals, valid, number, rank, basis):
    """An orthonormal basis of normals (number, q), the first `valid` of which are in it already.

    `rank` gets how long it is after each of them.
    """
    q = normals.shape[1]
    for i in range(valid, number):
        r = rank[i - 1] if i else 0
        if r < q:
            rest = basis[r]
            assign(rest, normals[i])
            for _ in range(2):
                for b in range(r):
                    add(rest, -dot(basis[b], rest), basis[b])
            t = dot(rest, rest)
            if t >= 1e-14:
                t = np.sqrt(t)
                for c in range(q):
                    rest[c] /= t
                r += 1
        rank[i] = r


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _take_span(basis, rank, w):
    for b in range(rank):
        add(w, -dot(basis[b], w), basis[b])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def correct_states(
    times, shape, changes, group, group_side, active, tree, slides, inverse, neuron_base,
    neuron_count, segment_start, segment_w, segment_a, segment_order, segment_plane,
    segment_change, change_plane, change_side, normals, plane, plus, minus, velocity, start_w,
    start_a, side, w, a,
):  # fmt: skip
    """Add what a change of the residual does to the states of all neurons, in place.

    It is `shape` (times, K) times K `changes` (K, n, C), linear between the times, the last of
    which is the offset T of the states. Neurons without events take two moments of it, against
    1 - tau/T and tau/T, for the states at the two ends. `velocity` (G, C, q) is D of the groups,
    along which what they have been moved by grows until T.
    """
    groups, p = group_side.shape
    q = normals.shape[1]
    parts, outputs = len(changes), changes.shape[2]
    count = len(times)
    offset = times[count - 1]
    on = np.empty((p, outputs))
    part_jump = np.empty((parts, p, outputs))
    moment = np.zeros((2, p, outputs))
    moment_jump = np.zeros((2, p, outputs))
    early, late = np.zeros(parts), np.zeros(parts)
    for i in range(count - 1):
        _add_moments(times, i, 0.0, offset, shape, early, late)
    # D of the groups of neurons with events.
    place = np.full(groups, -1)
    some = np.empty(groups, np.int64)
    own_groups = 0
    for j in range(len(group)):
        if neuron_count[j] < 2 or segment_start[neuron_base[j] + 1] >= offset:
            continue
        if place[group[j]] < 0:
            place[group[j]] = own_groups
            some[own_groups] = group[j]
            own_groups += 1
    own_active = active[some[:own_groups]]
    force = np.empty((parts, own_groups, outputs, q))
    for i in range(parts):
        plane_forces(changes[i], plane, plus, minus, on, part_jump[i])
        group_forces(own_active, on, part_jump[i], normals, force[i])
        for h in range(p):
            for o in range(outputs):
                moment[0, h, o] += early[i] * on[h, o]
                moment[1, h, o] += late[i] * on[h, o]
                moment_jump[0, h, o] += early[i] * part_jump[i, h, o]
                moment_jump[1, h, o] += late[i] * part_jump[i, h, o]
    whole = np.empty((2, groups, outputs, q))
    multiplier = np.empty((inverse.shape[1], outputs))
    held = np.zeros(groups, np.bool_)
    idle = np.zeros(groups, np.bool_)
    for end in range(2):
        pattern_forces(tree, active, moment[end], moment_jump[end], normals, whole[end])
    for g in range(groups):
        for h in range(p):
            held[g] = held[g] or abs(group_side[g, h]) == 2
        for end in range(2):
            project_force(group_side[g], normals, inverse[g], slides[g], whole[end, g], multiplier)
        idle[g] = True
        for o in range(outputs):
            for c in range(q):
                idle[g] = idle[g] and whole[0, g, o, c] == 0.0 and whole[1, g, o, c] == 0.0
    own = np.empty((parts, outputs, q))
    early_force = np.empty((outputs, q))
    late_force = np.empty((outputs, q))
    moved_w = np.empty(q)
    moved_a = np.empty(outputs)
    grown_w = np.empty(q)
    end_w = np.empty(q)
    end_a = np.empty(outputs)
    speed = np.empty(q)
    gained = np.empty(q)
    kinks = np.empty(p, np.int64)
    kink_side = np.empty(p, np.int8)
    kink_normal = np.empty((p, q))
    rank = np.zeros(p, np.int64)
    basis = np.empty((min(p, q), q))
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
                first = dot(w[j], whole[0, g, o])
                moved_a[o] = dot(start_w[j], whole[0, g, o]) + dot(w[j], whole[1, g, o])
                add(moved_w, start_a[j, o], whole[0, g, o])
                add(moved_w, a[j, o], whole[1, g, o])
                add(moved_w, offset * first, d[o])
                add(grown_w, offset * a[j, o], whole[0, g, o])
            for o in range(outputs):
                a[j, o] += moved_a[o] + dot(d[o], grown_w)
            add(w[j], 1.0, moved_w)
            if held[g]:
                project_weight(side[j], normals, w[j])
            continue
        moved_w[:] = 0.0
        moved_a[:] = 0.0
        for i in range(parts):
            copy_matrix(force[i, place[g]], own[i])
        number = 0
        for h in range(p):
            if abs(group_side[g, h]) != 1:
                kinks[number] = h
                kink_side[number] = group_side[g, h]
                assign(kink_normal[number], normals[h])
                number += 1
        valid: Any = np.int64(0)
        changed = segment_change[base]
        now_at = 0
        left = -1
        for s in range(base, base + neuron_count[j]):
            start = segment_start[s]
            final = s + 1 == base + neuron_count[j] or segment_start[s + 1] >= offset
            stop = offset if final else segment_start[s + 1]
            while now_at < count - 2 and times[now_at + 1] <= start:
                now_at += 1
            while changed < segment_change[s]:
                h, now = change_plane[changed], change_side[changed]
                was = group_side[g, h]
                for i in range(segment_change[base], changed):
                    if change_plane[i] == h:
                        was = change_side[i]
                changed += 1
                if (was > 0) != (now > 0):
                    for i in range(parts):
                        for o in range(outputs):
                            f = part_jump[i, h, o] if now > 0 else -part_jump[i, h, o]
                            add(own[i, o], f, normals[h])
                spot = number
                for i in range(number):
                    if kinks[i] == h:
                        spot = i
                if abs(now) == 1:
                    if spot < number:
                        number -= 1
                        kinks[spot] = kinks[number]
                        kink_side[spot] = kink_side[number]
                        assign(kink_normal[spot], kink_normal[number])
                        valid = min(valid, spot)
                    continue
                kinks[spot] = h
                kink_side[spot] = now
                assign(kink_normal[spot], normals[h])
                number = max(number, spot + 1)
            _span_kinks(kink_normal, valid, number, rank, basis)
            valid = number
            held_rank = rank[number - 1] if number else 0
            for i in range(number):
                if kinks[i] == left:
                    left = -1
            if left >= 0 and start > times[0] and segment_order[s] > 1:
                # It left its slide earlier or later, and has been pushed off since then.
                assign(gained, normals[left])
                _take_span(basis, held_rank, gained)
                x = (start - times[now_at]) / (times[now_at + 1] - times[now_at])
                push, bend = 0.0, 2.0 * dot(gained, segment_w[s, 2])
                for i in range(parts):
                    part = (1.0 - x) * shape[now_at, i] + x * shape[now_at + 1, i]
                    for o in range(outputs):
                        push += part * segment_a[s, 0, o] * dot(gained, own[i, o])
                if push != 0.0 and abs(push) < abs(bend) * (offset - start):
                    early_by = min(abs(push / bend), start - segment_start[s - 1])
                    size = dot(gained, gained)
                    if size > 1e-14:
                        add(moved_w, 0.5 * early_by * early_by * bend / size, gained)
            left = -1
            if final:
                assign(end_w, w[j])
                assign(end_a, a[j])
            else:
                assign(end_w, segment_w[s + 1, 0])
                assign(end_a, segment_a[s + 1, 0])
            if outputs == 1 and segment_a[s, 0, 0] != 0.0:
                # D = w'/a; what it had been moved by grows along it.
                length = (stop - start) / segment_a[s, 0, 0]
                growth = length * dot(segment_w[s, 1], moved_w)
                add(moved_w, length * moved_a[0], segment_w[s, 1])
                moved_a[0] += growth
            end_at = now_at
            if stop > max(start, times[0]):
                # Two moments of dD, against 1 - x and x with x from 0 to 1 in the segment.
                early_force[:] = 0.0
                late_force[:] = 0.0
                early[:] = 0.0
                late[:] = 0.0
                while True:
                    _add_moments(times, end_at, start, stop, shape, early, late)
                    if end_at == count - 2 or times[end_at + 1] >= stop:
                        break
                    end_at += 1
                for i in range(parts):
                    if early[i] != 0.0 or late[i] != 0.0:
                        for o in range(outputs):
                            add(early_force[o], early[i], own[i, o])
                            add(late_force[o], late[i], own[i, o])
                for o in range(outputs):
                    moved_a[o] += dot(segment_w[s, 0], early_force[o]) + dot(end_w, late_force[o])
                    add(moved_w, segment_a[s, 0, o], early_force[o])
                    add(moved_w, end_a[o], late_force[o])
                if outputs == 1 and segment_a[s, 0, 0] != 0.0:
                    length = (stop - start) / segment_a[s, 0, 0]
                    growth = length * dot(segment_w[s, 1], early_force[0]) * end_a[0]
                    add(moved_w, length * dot(end_w, early_force[0]), segment_w[s, 1])
                    moved_a[0] += growth
            _take_span(basis, held_rank, moved_w)
            if final:
                break
            h = segment_plane[s + 1]
            slid = h < 0
            for i in range(number):
                slid = slid or (kinks[i] == h and kink_side[i] == SLIDE)
            if slid:
                left = h
                continue
            # It meets the kink earlier by the time in which it gains what it was moved by.
            speed[:] = 0.0
            for i in range(segment_order[s], 0, -1):
                for c in range(q):
                    speed[c] = speed[c] * (stop - start) + i * segment_w[s, i, c]
            across = dot(normals[h], speed)
            if across == 0.0:
                continue
            # To second order, with the speed that dr adds and the acceleration.
            gap = dot(normals[h], moved_w)
            bend = 0.0
            for i in range(segment_order[s], 1, -1):
                bend = bend * (stop - start) + i * (i - 1) * dot(normals[h], segment_w[s, i])
            fast = across
            if stop > times[0]:
                gained[:] = 0.0
                x = (stop - times[end_at]) / (times[end_at + 1] - times[end_at])
                for i in range(parts):
                    part = (1.0 - x) * shape[end_at, i] + x * shape[end_at + 1, i]
                    if part != 0.0:
                        for o in range(outputs):
                            add(gained, part * end_a[o], own[i, o])
                _take_span(basis, held_rank, gained)
                fast += dot(normals[h], gained)
            inside = fast * fast - 2.0 * bend * gap
            early_by = gap / across
            if fast * across > 0.0 and inside > 0.0:
                root = np.sqrt(inside)
                early_by = 2.0 * gap / (fast + root if fast > 0.0 else fast - root)
            early_by = max(start - stop, min(early_by, stop - start))
            for c in range(q):
                moved_w[c] += early_by * (segment_w[s + 1, 1, c] - speed[c])
        for c in range(q):
            w[j, c] += moved_w[c]
        for o in range(outputs):
            a[j, o] += moved_a[o]
        for _ in range(2):
            _take_span(basis, rank[number - 1] if number else 0, w[j])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def mend_sides(
    offset, z, residual, carried, group, group_side, neuron_base, neuron_count, segment_start,
    segment_change, change_plane, change_side, normals, plane, plus, minus, side, w, a,
):  # fmt: skip
    """Carry neurons that the correction has put beyond a kink across it, or back, in place.

    `z` (m, p) is w.e, `residual` (n, C) that at the end. One that has met a kink without knowing
    has moved since then with the velocity behind it, or slid; one that crossed too early has not
    yet crossed; one that left a slide too early is on the kink yet.
    """
    m, p = z.shape
    q = normals.shape[1]
    outputs = residual.shape[1]
    on = np.empty((p, outputs))
    jump = np.empty((p, outputs))
    plane_forces(residual, plane, plus, minus, on, jump)
    velocity = np.empty(q)
    normal = np.empty(q)
    for j in range(m):
        if carried[j]:
            continue
        for h in range(p):
            now = side[j, h]
            if abs(now) != 1 or now * z[j, h] >= -KINK_WIDTH:
                continue
            before = now
            if neuron_count[j] > 0:
                last = neuron_base[j] + neuron_count[j] - 1
                while segment_start[last] > offset:
                    last -= 1
                for i in range(segment_change[neuron_base[j]], segment_change[last]):
                    if change_plane[i] == h and change_side[i] == now:
                        before = group_side[group[j], h]
                        for b in range(segment_change[neuron_base[j]], i):
                            if change_plane[b] == h:
                                before = change_side[b]
            velocity[:] = 0.0
            force = 0.0
            for i in range(p):
                for o in range(outputs):
                    pull = on[i, o] if side[j, i] > 0 else on[i, o] - jump[i, o]
                    add(velocity, a[j, o] * pull, normals[i])
            for o in range(outputs):
                force -= now * a[j, o] * jump[h, o]
            assign(normal, normals[h])
            project_weight(side[j], normals, velocity)
            project_weight(side[j], normals, normal)
            size = dot(normal, normal)
            if size < 1e-14:
                continue
            # The speed towards where the neuron should be, with the pattern that it has.
            speed = now * dot(normals[h], velocity)
            other = speed + now * force * size
            depth = abs(z[j, h])
            if speed < 0.0 and other < 0.0 and before == now:
                add(w[j], depth / -speed * force, normal)
            elif speed > 0.0 and other > 0.0 and before == -now:
                add(w[j], -depth / speed * force, normal)
                side[j, h] = before
            else:
                add(w[j], -z[j, h] / size, normal)
            break
