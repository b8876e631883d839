"""One neuron along a given residual r(tau), a polynomial: its Taylor series, its events, its ride.

Given r, the motion a' = w.D, w' = a D is linear in (a, w), so that inside a pattern the Taylor
coefficients follow by convolution; the first kink met is a root of a polynomial.
"""

import numpy as np
from numba import njit

from ._patterns import (
    CAPPED,
    CROSSED,
    KINK_WIDTH,
    OFF,
    ON,
    REST,
    SLID,
    SLIDE,
    meet_kink,
    plane_forces,
    project_force,
    project_weight,
    pseudo_inverse,
)

NONE, HIT, LEAVE, WAKE = 0, 1, 2, 3
_EVENT_CAP = 1000


@njit(cache=True, error_model="numpy")
def first_root(c, order, length, width):
    """The first tau in [0, length] at which sum_i c_i tau^i + width falls below zero, or inf.

    Marches by steps that a bound on the second derivative proves free of roots, which converges
    to a simple root like Newton's method, from the left.
    """
    curvature = 0.0
    power = 1.0
    for i in range(2, order + 1):
        curvature += i * (i - 1) * abs(c[i]) * power
        power *= length
    t = 0.0
    for _ in range(200):
        f = c[order]
        df = 0.0
        for i in range(order - 1, -1, -1):
            df = df * t + f
            f = f * t + c[i]
        f += width
        if t == 0.0 and f < 0.0:
            if df < 0.0:
                return 0.0
            f = 0.0
        if f <= 1e-3 * width and df < 0.0:
            return t
        denominator = np.sqrt(df * df + 2.0 * curvature * max(f, 0.0)) - df
        if denominator <= 0.0:
            return np.inf
        if f <= 0.0:
            # At the start on the wrong side by rounding, and leaving it.
            step = max(2.0 * df / curvature, 0.0) if curvature > 0.0 else np.inf
        else:
            step = 2.0 * f / denominator
        t += step
        if t >= length:
            return np.inf
    return t


@njit(cache=True, error_model="numpy")
def neuron_series(
    side,
    normals,
    on_force,
    off_force,
    degree,
    inverse,
    slides,
    order,
    weight,
    output,
    force,
    multiplier,
):
    """Taylor coefficients of w, a, D and the multipliers, from their values at order zero.

    `on_force` and `off_force` are the coefficients of the hyperplanes' forces, polynomials of the
    given degree; `weight[0]` and `output[0]` hold the state.
    """
    p, q = normals.shape
    for i in range(degree + 1):
        force[i, :] = 0.0
        for h in range(p):
            if side[h] == ON:
                f = on_force[i, h]
            elif side[h] == SLIDE:
                continue
            else:
                f = off_force[i, h]
            if f != 0.0:
                for c in range(q):
                    force[i, c] += f * normals[h, c]
        project_force(side, normals, inverse, slides, force[i], multiplier[i])
    for i in range(order):
        s = 0.0
        weight[i + 1, :] = 0.0
        for b in range(max(0, i - degree), i + 1):
            al = output[b]
            for c in range(q):
                s += weight[b, c] * force[i - b, c]
                weight[i + 1, c] += al * force[i - b, c]
        output[i + 1] = s / (i + 1)
        for c in range(q):
            weight[i + 1, c] /= i + 1


@njit(cache=True, error_model="numpy")
def first_event(
    side, normals, weight, order, multiplier, on_force, off_force, degree, length, noise, slack
):
    """The first event of a neuron in [0, length]: its time, hyperplane and kind.

    The weight is a polynomial of the given order, multipliers and forces of the given degree. A
    multiplier may pass its bound by `slack` before the neuron leaves its slide: what D is off by
    then is too small to matter, and rounding doesn't make it leave and return.
    """
    p, q = normals.shape
    motion = 0.0
    power = 1.0
    for i in range(1, order + 1):
        power *= length
        t = 0.0
        for c in range(q):
            t += weight[i, c] ** 2
        motion += np.sqrt(t) * power
    time, plane, kind = np.inf, -1, NONE
    coefficient = np.empty(order + 1)
    slide = -1
    for h in range(p):
        if side[h] == SLIDE:
            slide += 1
            sign = 1.0 if on_force[0, h] >= off_force[0, h] else -1.0
            width = slack + 1e-12 * (
                abs(on_force[0, h]) + abs(off_force[0, h]) + abs(multiplier[0, slide])
            )
            for bound in range(2):
                total = 0.0
                power = 1.0
                for i in range(degree + 1):
                    if bound == 0:
                        t = sign * (multiplier[i, slide] - off_force[i, h])
                    else:
                        t = sign * (on_force[i, h] - multiplier[i, slide])
                    coefficient[i] = t
                    if i > 0:
                        power *= length
                        total += abs(t) * power
                if coefficient[0] + width > total:
                    continue
                t = first_root(coefficient, degree, length, width)
                if t < time:
                    time, plane, kind = t, h, LEAVE
            continue
        z = 0.0
        for c in range(q):
            z += normals[h, c] * weight[0, c]
        if side[h] == OFF:
            z = -z
        if motion == 0.0 or (side[h] != REST and z + KINK_WIDTH > motion):
            continue
        total = 0.0
        power = 1.0
        coefficient[0] = z
        for i in range(1, order + 1):
            t = 0.0
            for c in range(q):
                t += normals[h, c] * weight[i, c]
            coefficient[i] = -t if side[h] == OFF else t
            power *= length
            total += abs(t) * power
        if side[h] == REST:
            if total > 1e-11 * motion + noise * length and time > 0.0:
                time, plane, kind = 0.0, h, WAKE
            continue
        if z + KINK_WIDTH > total:
            continue
        t = first_root(coefficient, order, length, KINK_WIDTH)
        if t < time:
            time, plane, kind = t, h, HIT
    return time, plane, kind


@njit(cache=True, error_model="numpy")
def change_pattern(
    side, plane, kind, a, w, normals, on_force, off_force, force, multiplier, slides, counts
):
    """Apply an event to a neuron's pattern; forces are those of the moment.

    `counts` gathers crossings, slides and branchings. **Returns** False if a cap was met.
    """
    if kind == LEAVE:
        i = 0
        for h in range(plane):
            if side[h] == SLIDE:
                i += 1
        to_off = abs(multiplier[i] - off_force[plane])
        to_on = abs(multiplier[i] - on_force[plane])
        side[plane] = OFF if to_off <= to_on else ON
        return True
    if kind == WAKE:
        t = 0.0
        for c in range(normals.shape[1]):
            t += normals[plane, c] * force[c]
        if a * t < 0.0:
            side[plane] = OFF
            return True
    outcome = meet_kink(side, plane, a, w, normals, on_force, off_force)
    if outcome == CROSSED:
        counts[0] += 1
    elif outcome == SLID:
        counts[1] += 1
    return outcome != CAPPED


@njit(cache=True, error_model="numpy")
def crossing_rate(weight, order, time, normal):
    """The rate of w.e at a time of a weight's series."""
    total = 0.0
    for c in range(len(normal)):
        s = 0.0
        for i in range(order, 0, -1):
            s = s * time + i * weight[i, c]
        total += s * normal[c]
    return total


@njit(cache=True, error_model="numpy")
def leaving_rate(side, plane, time, multiplier, on_force, off_force, degree):
    """The rate at which the multiplier of a sliding kink meets its bound: |D'.e| after it."""
    slide = 0
    for h in range(plane):
        if side[h] == SLIDE:
            slide += 1
    nu, on, off = 0.0, 0.0, 0.0
    dnu, don, doff = 0.0, 0.0, 0.0
    for i in range(degree, -1, -1):
        dnu = dnu * time + nu
        don = don * time + on
        doff = doff * time + off
        nu = nu * time + multiplier[i, slide]
        on = on * time + on_force[i, plane]
        off = off * time + off_force[i, plane]
    return abs(dnu - don) if abs(nu - on) < abs(nu - off) else abs(dnu - doff)


@njit(cache=True, error_model="numpy")
def shift_polynomial(c, order, start, out):
    """Coefficients about `start` of polynomials whose coefficients are the rows of c."""
    n = c.shape[1]
    for i in range(order + 1):
        out[i, :] = c[i, :]
    if start == 0.0:
        return
    for i in range(order):
        for b in range(order - 1, i - 1, -1):
            for k in range(n):
                out[b, k] += start * out[b + 1, k]


@njit(cache=True, error_model="numpy")
def ride(
    side,
    w,
    a,
    residual,
    order,
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
    """Follow one neuron along the residual polynomial through all its events.

    States at `samples` (increasing, the last one `length`) are written out; `counts` holds
    crossings, slides, branchings and intervals.

    **Returns** the defect of its events: what they move the integral of its part in r by, to
    leading order (at a kink the slope of its outputs jumps, with its D and with the rate at which
    it crosses; leaving a slide counts at the next order); or -1 if a cap was met.
    """
    p, q = normals.shape
    n = residual.shape[1]
    series = order + 6
    weight = np.empty((series + 1, q))
    output = np.empty(series + 1)
    force = np.empty((order + 1, q))
    multiplier = np.empty((order + 1, p))
    shifted = np.empty((order + 1, n))
    on_force = np.empty((order + 1, p))
    off_force = np.empty((order + 1, p))
    inverse = np.empty((p, q))
    now_on = np.empty(p)
    now_off = np.empty(p)
    now_residual = np.empty(n)
    at_weight = np.empty(q)
    weight[0, :] = w
    output[0] = a
    start = 0.0
    sample = 0
    defect = 0.0
    for _ in range(_EVENT_CAP):
        shift_polynomial(residual, order, start, shifted)
        for i in range(order + 1):
            plane_forces(shifted[i], plane, plus, minus, on_force[i], off_force[i])
        slides = pseudo_inverse(side, normals, inverse)
        neuron_series(
            side, normals, on_force, off_force, order, inverse, slides, series,
            weight, output, force, multiplier,
        )  # fmt: skip
        remaining = length - start
        size = 0.0
        for c in range(q):
            size += weight[0, c] ** 2
        scale = np.sqrt(size) + abs(output[0])
        last = abs(output[series])
        before = abs(output[series - 1])
        for c in range(q):
            last = max(last, abs(weight[series, c]))
            before = max(before, abs(weight[series - 1, c]))
        if last > 0.0:
            remaining = min(remaining, (tolerance * scale / last) ** (1.0 / series))
        if before > 0.0:
            remaining = min(remaining, (tolerance * scale / before) ** (1.0 / (series - 1)))
        end = start + remaining
        whole = end >= length * (1.0 - 1e-14)
        if whole:
            end = length
            remaining = length - start
        time, hit, kind = first_event(
            side,
            normals,
            weight,
            series,
            multiplier,
            on_force,
            off_force,
            order,
            remaining,
            noise,
            slack,
        )
        stop = min(remaining, time)
        counts[3] += 1
        while sample < len(samples) and (
            samples[sample] < start + stop or (kind == NONE and whole and sample < len(samples))
        ):
            t = min(samples[sample] - start, remaining)
            for c in range(q):
                s = weight[series, c]
                for i in range(series - 1, -1, -1):
                    s = s * t + weight[i, c]
                out_w[sample, c] = s
            s = output[series]
            for i in range(series - 1, -1, -1):
                s = s * t + output[i]
            out_a[sample] = s
            out_side[sample, :] = side
            sample += 1
        if kind == NONE and whole:
            return defect
        for c in range(q):
            s = weight[series, c]
            for i in range(series - 1, -1, -1):
                s = s * stop + weight[i, c]
            at_weight[c] = s
        at_output = output[series]
        for i in range(series - 1, -1, -1):
            at_output = at_output * stop + output[i]
        if kind != NONE:
            for k in range(n):
                s = shifted[order, k]
                for i in range(order - 1, -1, -1):
                    s = s * stop + shifted[i, k]
                now_residual[k] = s
            plane_forces(now_residual, plane, plus, minus, now_on, now_off)
            for c in range(q):
                s = force[order, c]
                for i in range(order - 1, -1, -1):
                    s = s * stop + force[i, c]
                force[0, c] = s
            for k in range(slides):
                s = multiplier[order, k]
                for i in range(order - 1, -1, -1):
                    s = s * stop + multiplier[i, k]
                multiplier[0, k] = s
            late = length - start - stop
            if kind == HIT:
                s = abs(crossing_rate(weight, series, stop, normals[hit]))
                s += abs(now_on[hit] - now_off[hit]) * abs(at_output)
                defect += s * abs(at_output) * late**2 / 2
            elif kind == LEAVE:
                s = leaving_rate(side, hit, stop, multiplier, on_force, off_force, order)
                defect += s * at_output**2 * late**3 / 6
            if not change_pattern(
                side, hit, kind, at_output, at_weight, normals, now_on, now_off,
                force[0], multiplier[0], slides, counts,
            ):  # fmt: skip
                return -1.0
            project_weight(side, normals, at_weight)
        weight[0, :] = at_weight
        output[0] = at_output
        start += stop
    return -1.0
