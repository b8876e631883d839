"""A jump: the motion of neurons with one output while the residual is constant, in closed form.

Inside a pattern D is constant; with p = w.D/|D| the motion is p' = |D| a, a' = |D| p, and w
changes along D only: a + p grows like e^{|D| t}, a - p decays. The times at which a neuron meets
kinks are roots of a quadratic in e^{|D| t}.
"""

import numpy as np
from numba import njit

from ._events import change_pattern
from ._motion import NO_ROOM, TOO_MANY
from ._patterns import (
    FAST,
    HIT,
    KINK_WIDTH,
    OFF,
    ON,
    REST,
    REST_ON,
    TURN,
    WAKE,
    accumulate,
    assign,
    copy_matrix,
    dot,
    list_near,
    project_force,
    project_weight,
    pseudo_inverse,
    rest_width,
)

_EVENT_CAP = 200_000
#: The squared sine of an angle to D that is zero to rounding.
_PARALLEL = 1e-26
#: With more hyperplanes than this, those near the neuron are looked at first.
_MANY = 128
#: What an output weight is beyond zero where it has just passed that.
_TURNED = 1e-15


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _modes(w, a, imbalance, across, unit):
    """p, and the growing and the decaying part of a and p, (a + p)/2 and (a - p)/2.

    The smaller one comes from (a + p)(a - p) = |w - p D/|D||^2 + |a|^2 - |w|^2, `across` being the
    norm of the part of w that no example sees. Where both are small |a|^2 - |w|^2 is hardly known
    so well: p is the difference of the two, that it may begin where it is.
    """
    p = dot(w, unit)
    rest = across * across
    for c in range(len(w)):
        rest += (w[c] - p * unit[c]) ** 2
    gap = rest + imbalance
    if imbalance == 0.0 and rest < _PARALLEL:
        gap = 0.0
    if a * p >= 0.0:
        up = 0.5 * (a + p)
        down = gap / (4.0 * up) if up != 0.0 else 0.0
        return up - down, up, down
    down = 0.5 * (a - p)
    up = gap / (4.0 * down)
    return up - down, up, down


@njit(cache=True, error_model="numpy", fastmath=FAST)
def restore_opposed(group, force, rate, w, a, log_scale, log_across, balanced, opposed):
    """Mark neurons that point against their D (G, q) to rounding, and put them there exactly."""
    for j in range(len(group)):
        opposed[j] = False
        if not balanced[j] or not rate[j] > 0.0:
            continue
        d = force[group[j]]
        along = dot(w[j], d) / rate[j]
        if not a[j] * along < 0.0:
            continue
        gap = 0.0
        for c in range(len(d)):
            gap += (w[j, c] - along * d[c] / rate[j]) ** 2
        if np.sqrt(gap) + np.exp(log_across[j] - log_scale[j]) < 1e-13:
            opposed[j] = True
            for c in range(len(d)):
                w[j, c] = (d[c] if along > 0.0 else -d[c]) / rate[j]


@njit(cache=True, error_model="numpy", fastmath=FAST)
def advance(w, a, log_scale, log_across, log_imbalance, imbalance_sign, unit, x):
    """Move a neuron by x = |D| t, in place; returns its new output weight and log scale."""
    across = np.exp(log_across - log_scale)
    imbalance = imbalance_sign * np.exp(log_imbalance - 2.0 * log_scale)
    p, up, down = _modes(w, a, imbalance, across, unit)
    q = len(w)
    if up == 0.0:
        # It points against D exactly, and decays for ever.
        return a, log_scale - x
    decay = np.exp(-x)
    now = up + down * decay * decay
    along = up - down * decay * decay
    size = (across * decay) ** 2
    for c in range(q):
        w[c] = (w[c] - p * unit[c]) * decay + along * unit[c]
        size += w[c] * w[c]
    if imbalance_sign == 0.0:
        size = np.sqrt(size)
        now = 1.0 if now > 0.0 else -1.0
    else:
        size = np.sqrt(0.5 * (size + now * now))
        now /= size
    for c in range(q):
        w[c] /= size
    return now, log_scale + x + np.log(size)


@njit(cache=True, error_model="numpy")
def _meeting(z, rate, p, up, down):
    """The first x > 0 at which z + rate (p(x) - p(0)) falls below zero, p = up e^x - down e^-x."""
    if abs(rate) < 1e-15 or (up == 0.0 and down == 0.0):
        return np.inf
    slope = rate * (up + down)
    if z <= 0.0:
        if slope <= 0.0:
            return 0.0 if slope < 0.0 else np.inf
    if up * down >= 0.0 and slope >= 0.0:
        return np.inf
    target = p - z / rate
    disc = target * target + 4.0 * up * down
    if disc < 0.0:
        return np.inf
    root = np.sqrt(disc)
    first = target + root if target >= 0.0 else target - root
    best = np.inf
    if up != 0.0:
        y = first / (2.0 * up)
        if y > 1.0 and y < best:
            best = y
    if first != 0.0:
        y = -2.0 * down / first
        if y > 1.0 and y < best:
            best = y
    if best == np.inf:
        # Monotone towards the kink: a root at 1 to rounding.
        if up * down >= 0.0 and z <= 1e-12 and slope < 0.0:
            return 0.0
        return np.inf
    return np.log(best)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _search(near, count, side, normals, w, p, up, down, unit):
    """The first meeting with one of the hyperplanes listed in `near`."""
    best, plane = np.inf, -1
    for i in range(count):
        h = near[i]
        if side[h] != ON and side[h] != OFF:
            continue
        rate = dot(normals[h], unit)
        z = dot(normals[h], w)
        if side[h] == OFF:
            rate, z = -rate, -z
        x = _meeting(z + KINK_WIDTH, rate, p, up, down)
        if x < best:
            best, plane = x, h
    return best, plane


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _direction(w, across, out):
    """The part of w/|w| in the span of the examples."""
    size = np.sqrt(dot(w, w) + across * across)
    for c in range(len(w)):
        out[c] = w[c] / size


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _apart(u, v):
    t = 0.0
    for c in range(len(u)):
        t += (u[c] - v[c]) ** 2
    return np.sqrt(t)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def _sum_forces(side, on, jump, normals, raw):
    """D of one neuron, not projected, from the forces of all hyperplanes; returns their size."""
    raw[:] = 0.0
    total = 0.0
    for h in range(len(side)):
        f = on[h, 0] if side[h] > 0 else on[h, 0] - jump[h, 0]
        if f != 0.0:
            total += abs(f)
            accumulate(raw, f, normals[h])
    return total


@njit(cache=True, error_model="numpy", fastmath=FAST)
def jump_segments(
    moving, side, w, a, log_scale, log_across, log_imbalance, imbalance_sign, on, jump, length,
    normals, noise, branching, neuron_base, neuron_count, segment_start, segment_w, segment_a,
    segment_scale, segment_unit, segment_size, segment_counts, segment_change, change_plane,
    change_side,
):  # fmt: skip
    """Follow the neurons marked `moving` through all events up to a length; others stand still.

    `on` and `jump` (p, 1) are the constant forces of the hyperplanes. Each interval between events
    is written as a segment: where it starts, the neuron there, D/|D| and |D| (0 at rest), the
    counts of events so far; `segment_change` is the end of the pattern's changes until then in
    `change_plane`, `change_side`.

    **Returns** the number of segments, or a code below zero.
    """
    m, q = w.shape
    p = len(normals)
    force = np.empty((1, q))
    raw = np.empty((1, q))
    inverse = np.empty((max(1, min(p, q)), q))
    mu = np.empty((max(1, min(p, q)), 1))
    own = np.empty(p, np.int8)
    before = np.empty(p, np.int8)
    out = np.empty(1)
    near = np.empty(p, np.int64)
    every = np.arange(p)
    anchor = np.empty(q)
    here = np.empty(q)
    there = np.empty(q)
    trial = np.empty(q)
    reach = 0.0
    counts = np.zeros(3, np.int64)
    number = 0
    changes = 0
    margin = 0.3
    for j in range(m):
        neuron_base[j] = number
        assign(own, side[j])
        counts[:] = 0
        listed = -1
        time = 0.0
        stale = 0
        total = 0.0
        for event in range(_EVENT_CAP + 1):
            if event == _EVENT_CAP:
                return TOO_MANY
            if number + 1 >= len(segment_start) or changes + p >= len(change_plane):
                return NO_ROOM
            weight = segment_w[number]
            if event == 0:
                assign(weight, w[j])
                segment_a[number] = a[j, 0]
                segment_scale[number] = log_scale[j]
            segment_start[number] = time
            assign(segment_counts[number], counts)
            segment_change[number] = changes
            scale = segment_scale[number]
            output = segment_a[number]
            number += 1
            segment_size[number - 1] = 0.0
            if not moving[j]:
                break
            slides = pseudo_inverse(own, normals, inverse)
            while True:
                fresh = event == 0 or stale >= 64
                if fresh:
                    total = _sum_forces(own, on, jump, normals, raw[0])
                    stale = 0
                copy_matrix(raw, force)
                project_force(own, normals, inverse, slides, force, mu)
                size = np.sqrt(dot(force[0], force[0]))
                # Where little is left, the rounding of updates matters: sum afresh.
                if fresh or size > 1e-6 * total:
                    break
                stale = 64
            if size <= 1e-13 * total + noise:
                break
            unit = segment_unit[number - 1]
            for c in range(q):
                unit[c] = force[0, c] / size
            segment_size[number - 1] = size
            across = np.exp(log_across[j] - scale)
            imbalance = imbalance_sign[j] * np.exp(log_imbalance[j] - 2.0 * scale)
            along, up, down = _modes(weight, output, imbalance, across, unit)
            longest = size * (length - time)
            kind = HIT
            x, plane = np.inf, -1
            searching = p > _MANY
            while searching:
                fresh = listed < 0
                if fresh:
                    _direction(weight, across, anchor)
                    listed = list_near(normals, anchor, margin, near)
                    reach = margin
                    if listed > 4 * _MANY:
                        margin *= 0.5
                    elif listed < _MANY // 2:
                        margin = min(2.0 * margin, 2.0)
                x, plane = _search(near, listed, own, normals, weight, along, up, down, unit)
                assign(trial, weight)
                _, end_scale = advance(
                    trial, output, scale, log_across[j], log_imbalance[j], imbalance_sign[j],
                    unit, min(x, longest),
                )  # fmt: skip
                _direction(weight, across, here)
                _direction(trial, np.exp(log_across[j] - end_scale), there)
                # Nothing outside the list is met while the direction stays near the anchor; on its
                # arc it is never farther than 1.6 chords from the start.
                if _apart(here, anchor) + 1.6 * _apart(here, there) < reach:
                    break
                listed = -1
                searching = not fresh
            if not searching:
                x, plane = _search(every, p, own, normals, weight, along, up, down, unit)
            still = 1e-11 * size + noise + rest_width(own, on, jump)
            for h in range(p):
                if own[h] == REST or own[h] == REST_ON:
                    t = dot(normals[h], force[0])
                    if abs(t) > still:
                        x, plane, kind = 0.0, h, WAKE
                        break
            if slides > 0 and up * down < 0.0 and imbalance != 0.0:
                t = 0.5 * np.log(-down / up)
                if t > 0.0 and t < x:
                    x, plane, kind = t, -1, TURN
            if x >= longest:
                break
            time += x / size
            following = segment_w[number]
            assign(following, weight)
            segment_a[number], segment_scale[number] = advance(
                following, output, scale, log_across[j], log_imbalance[j], imbalance_sign[j],
                unit, x,
            )  # fmt: skip
            out[0] = segment_a[number]
            if kind == TURN:
                # Rounding must not tell whether it has passed zero.
                segment_a[number] = -_TURNED if output > 0.0 else _TURNED
                out[0] = 0.0
            assign(before, own)
            if not change_pattern(
                own, plane, kind, out, following, normals, on, jump, raw, mu, branching, counts,
            ):  # fmt: skip
                return TOO_MANY
            project_weight(own, normals, following)
            stale += 1
            for h in range(p):
                if before[h] != own[h]:
                    change_plane[changes] = h
                    change_side[changes] = own[h]
                    changes += 1
                    if (before[h] > 0) != (own[h] > 0):
                        accumulate(raw[0], jump[h, 0] if own[h] > 0 else -jump[h, 0], normals[h])
        neuron_count[j] = number - neuron_base[j]
    return number


@njit(cache=True, error_model="numpy")
def jump_states(
    offset, side, log_across, log_imbalance, imbalance_sign, neuron_base, neuron_count,
    segment_start, segment_w, segment_a, segment_scale, segment_unit, segment_size,
    segment_change, change_plane, change_side, out_side, out_w, out_a, out_scale,
):  # fmt: skip
    """States of all neurons at an offset of a jump."""
    for j in range(len(side)):
        s = neuron_base[j] + neuron_count[j] - 1
        while s > neuron_base[j] and segment_start[s] > offset:
            s -= 1
        assign(out_side[j], side[j])
        for i in range(segment_change[neuron_base[j]], segment_change[s]):
            out_side[j, change_plane[i]] = change_side[i]
        assign(out_w[j], segment_w[s])
        out_a[j, 0] = segment_a[s]
        out_scale[j] = segment_scale[s]
        if segment_size[s] > 0.0:
            out_a[j, 0], out_scale[j] = advance(
                out_w[j], segment_a[s], segment_scale[s], log_across[j], log_imbalance[j],
                imbalance_sign[j], segment_unit[s], segment_size[s] * (offset - segment_start[s]),
            )  # fmt: skip
