"""A window: all neurons and the residual together, by one Taylor series with frozen patterns."""

import numpy as np
from numba import njit

from ._motion import HIT, LEAVE, crossing_rate, first_event, leaving_rate, ride
from ._patterns import ON, SLIDE, plane_forces, project_force, pseudo_inverse


@njit(cache=True, error_model="numpy")
def predict(w, a, log_scale, normals, plane, plus, minus, prediction):
    """The network's values at the examples from scaled weights."""
    m, q = w.shape
    prediction[:] = 0.0
    p = len(normals)
    z = np.empty(p)
    for j in range(m):
        share = np.exp(2.0 * log_scale[j]) * a[j]
        if share == 0.0:
            continue
        for h in range(p):
            t = 0.0
            for c in range(q):
                t += normals[h, c] * w[j, c]
            z[h] = t * share
            if a[j] < 0.0:
                z[h] = -z[h]
        for k in range(len(prediction)):
            h = plane[k]
            if h >= 0:
                t = plus[k] * z[h] if z[h] > 0.0 else minus[k] * z[h]
                prediction[k] += t if a[j] > 0.0 else -t


@njit(cache=True, error_model="numpy")
def speeds(side, residual, normals, plane, plus, minus, force):
    """The velocity D of every neuron, shape `(m, q)`, at a residual."""
    m = side.shape[0]
    p, q = normals.shape
    on_force = np.empty(p)
    off_force = np.empty(p)
    plane_forces(residual, plane, plus, minus, on_force, off_force)
    inverse = np.empty((p, q))
    nu = np.empty(p)
    for j in range(m):
        same = j > 0
        if same:
            for h in range(p):
                if side[j, h] != side[j - 1, h]:
                    same = False
                    break
        if same:
            force[j, :] = force[j - 1, :]
            continue
        force[j, :] = 0.0
        for h in range(p):
            if side[j, h] == SLIDE:
                continue
            f = on_force[h] if side[j, h] == ON else off_force[h]
            if f != 0.0:
                for c in range(q):
                    force[j, c] += f * normals[h, c]
        slides = pseudo_inverse(side[j], normals, inverse)
        project_force(side[j], normals, inverse, slides, force[j], nu)


@njit(cache=True, error_model="numpy")
def measure_state(side, w, a, log_scale, label, factor, normals, plane, plus, minus, prediction):
    """Predictions at a state; returns |grad l|^2 and the largest growth rate a w.D of a neuron."""
    m, q = w.shape
    predict(w, a, log_scale, normals, plane, plus, minus, prediction)
    force = np.empty((m, q))
    speeds(side, factor * (label - prediction), normals, plane, plus, minus, force)
    total = 0.0
    fastest = 0.0
    for j in range(m):
        radial = 0.0
        square = 0.0
        for c in range(q):
            radial += w[j, c] * force[j, c]
            square += force[j, c] ** 2
        total += np.exp(2.0 * log_scale[j]) * abs(a[j]) * (radial * radial + square)
        fastest = max(fastest, a[j] * radial)
    return total, fastest


@njit(cache=True, error_model="numpy")
def coupled_series(
    w,
    a,
    share,
    group,
    group_side,
    residual,
    factor,
    normals,
    plane,
    plus,
    minus,
    tolerance,
    cap,
    weight,
    output,
    force,
    multiplier,
    on_force,
    off_force,
):
    """Taylor coefficients of every neuron and of the residual, and how far they reach.

    Orders are added while they lengthen the step in proportion to their work, or until the step
    reaches `cap`. `residual[0]` holds the residual on entry, `share` is the factor exp(2 log
    scale) of each neuron in the output, `factor` the loss's (r = factor (y - h)).

    **Returns** the order used and the length of the step whose truncation error is below the
    tolerance, for the residual relative to its largest entry and for each neuron relative to it.
    """
    m, q = w.shape
    groups, p = group_side.shape
    n = residual.shape[1]
    top = residual.shape[0] - 1
    slides = np.empty(groups, np.int64)
    most = 1
    for g in range(groups):
        count = 0
        for h in range(p):
            if group_side[g, h] == SLIDE:
                count += 1
        most = max(most, count)
    inverse = np.empty((groups, most, q))
    for g in range(groups):
        slides[g] = pseudo_inverse(group_side[g], normals, inverse[g])
    size = 0.0
    for k in range(n):
        size = max(size, abs(residual[0, k]))
    size = max(size, 1e-300)
    for j in range(m):
        weight[j, 0, :] = w[j]
        output[j, 0] = a[j]
    moment = np.empty((groups, q))
    on_value = np.empty(p)
    off_value = np.empty(p)
    reach = np.inf
    best_order, best_reach, best_rate = 0, 0.0, 0.0
    previous = 0.0
    for i in range(top):
        plane_forces(residual[i], plane, plus, minus, on_force[i], off_force[i])
        for g in range(groups):
            for c in range(q):
                force[g, i, c] = 0.0
            for h in range(p):
                if group_side[g, h] == SLIDE:
                    continue
                f = on_force[i, h] if group_side[g, h] == ON else off_force[i, h]
                if f != 0.0:
                    for c in range(q):
                        force[g, i, c] += f * normals[h, c]
            project_force(
                group_side[g], normals, inverse[g], slides[g], force[g, i], multiplier[g, i]
            )
        largest = 0.0
        moment[:] = 0.0
        for j in range(m):
            g = group[j]
            wj = weight[j]
            aj = output[j]
            fg = force[g]
            s = 0.0
            for c in range(q):
                wj[i + 1, c] = 0.0
            for b in range(i + 1):
                al = aj[b]
                for c in range(q):
                    s += wj[b, c] * fg[i - b, c]
                    wj[i + 1, c] += al * fg[i - b, c]
            aj[i + 1] = s / (i + 1)
            t = abs(aj[i + 1])
            for c in range(q):
                wj[i + 1, c] /= i + 1
                t = max(t, abs(wj[i + 1, c]))
            largest = max(largest, t)
            if share[j] > 0.0:
                for b in range(i + 2):
                    t = share[j] * aj[b]
                    for c in range(q):
                        moment[g, c] += t * wj[i + 1 - b, c]
        on_value[:] = 0.0
        off_value[:] = 0.0
        for g in range(groups):
            for h in range(p):
                if group_side[g, h] == SLIDE:
                    continue
                t = 0.0
                for c in range(q):
                    t += normals[h, c] * moment[g, c]
                if group_side[g, h] == ON:
                    on_value[h] += t
                else:
                    off_value[h] += t
        for k in range(n):
            h = plane[k]
            t = plus[k] * on_value[h] + minus[k] * off_value[h] if h >= 0 else 0.0
            residual[i + 1, k] = -factor * t
            largest = max(largest, abs(residual[i + 1, k]) / size)
        now = (tolerance / largest) ** (1.0 / (i + 1)) if largest > 0.0 else np.inf
        reach = min(now, previous) if i > 0 else 0.0
        previous = now
        if i < 3:
            continue
        if reach >= cap:
            best_order, best_reach = i + 1, cap
            break
        rate = 0.85 * reach / (i + 3.0)
        if rate > best_rate:
            best_order, best_reach, best_rate = i + 1, 0.85 * reach, rate
        elif i + 1 > best_order + 3:
            break
    i = best_order
    plane_forces(residual[i], plane, plus, minus, on_force[i], off_force[i])
    for g in range(groups):
        for c in range(q):
            force[g, i, c] = 0.0
        for h in range(p):
            if group_side[g, h] != SLIDE:
                f = on_force[i, h] if group_side[g, h] == ON else off_force[i, h]
                for c in range(q):
                    force[g, i, c] += f * normals[h, c]
        project_force(group_side[g], normals, inverse[g], slides[g], force[g, i], multiplier[g, i])
    return best_order, best_reach


@njit(cache=True, error_model="numpy")
def window_events(
    group,
    group_side,
    share,
    weight,
    output,
    order,
    multiplier,
    on_force,
    off_force,
    degree,
    normals,
    length,
    noise,
    slack,
    time,
    jump,
    bend,
):
    """The first event of each neuron along a series: the jumps of its part in r' and in r''."""
    for j in range(len(group)):
        g = group[j]
        t, h, kind = first_event(
            group_side[g], normals, weight[j], order, multiplier[g], on_force, off_force,
            degree, length, noise, slack,
        )  # fmt: skip
        time[j] = t
        jump[j] = 0.0
        bend[j] = 0.0
        if kind == LEAVE:
            a = output[j, order]
            for i in range(order - 1, -1, -1):
                a = a * t + output[j, i]
            bend[j] = (
                share[j]
                * a
                * a
                * leaving_rate(group_side[g], h, t, multiplier[g], on_force, off_force, degree)
            )
        elif kind == HIT:
            on, off = on_force[degree, h], off_force[degree, h]
            for i in range(degree - 1, -1, -1):
                on = on * t + on_force[i, h]
                off = off * t + off_force[i, h]
            a = output[j, order]
            for i in range(order - 1, -1, -1):
                a = a * t + output[j, i]
            # The outputs' slope jumps with D, and with the rate at which the kink is crossed.
            rate = abs(crossing_rate(weight[j], order, t, normals[h]))
            jump[j] = share[j] * abs(a) * (abs(a) * abs(on - off) + rate)


@njit(cache=True, error_model="numpy")
def window_states(
    side,
    w,
    a,
    share,
    first,
    weight,
    output,
    order,
    residual,
    degree,
    length,
    samples,
    normals,
    plane,
    plus,
    minus,
    noise,
    slack,
    tolerance,
    out_side,
    out_w,
    out_a,
    counts,
):
    """States of all neurons at the samples of a window: by its series, or by a ride.

    **Returns** the weighted defect of all events (see `ride`), or -1 if a cap was met.
    """
    m, q = w.shape
    defect = 0.0
    own = np.empty(side.shape[1], np.int8)
    ride_side = np.empty((len(samples), side.shape[1]), np.int8)
    ride_w = np.empty((len(samples), q))
    ride_a = np.empty(len(samples))
    for j in range(m):
        if first[j] <= length:
            own[:] = side[j]
            t = ride(
                own, w[j], a[j], residual, degree, length, samples, normals, plane, plus, minus,
                noise, slack, tolerance, ride_side, ride_w, ride_a, counts,
            )  # fmt: skip
            if t < 0.0:
                return -1.0
            defect += t * share[j]
            out_side[:, j, :] = ride_side
            out_w[:, j, :] = ride_w
            out_a[:, j] = ride_a
            continue
        for s in range(len(samples)):
            t = samples[s]
            for c in range(q):
                v = weight[j, order, c]
                for i in range(order - 1, -1, -1):
                    v = v * t + weight[j, i, c]
                out_w[s, j, c] = v
            v = output[j, order]
            for i in range(order - 1, -1, -1):
                v = v * t + output[j, i]
            out_a[s, j] = v
            out_side[s, j, :] = side[j]
    return defect
