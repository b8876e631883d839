"""Events of one neuron along polynomials: which comes first, what it changes, what it costs."""

import numpy as np
from numba import njit

from ._patterns import (
    BRANCHED,
    CAPPED,
    CROSSED,
    FAST,
    HIT,
    KINK_WIDTH,
    LEAN,
    LEAVE,
    NONE,
    OFF,
    ON,
    REST,
    REST_ON,
    SLID,
    SLIDE,
    TURN,
    WAKE,
    accumulate,
    branch_side,
    dependent_kinks,
    dot,
    meet_kink,
    settle,
)
from ._pencil import let_go, pencil


@njit(cache=True, error_model="numpy")
def first_root(coefficient, order, length, width):
    """The first tau in [0, length] at which sum_i c_i tau^i + width falls below zero, or inf.

    Marches by steps that a bound on the second derivative proves free of roots, which converges
    to a simple root like Newton's method, from the left. The polynomial is expanded anew where
    the bound would be far above what it bounds.
    """
    c = coefficient[: order + 1].copy()
    start = 0.0
    for _ in range(400):
        panel = length - start
        while True:
            curvature = 0.0
            power = 1.0
            for i in range(2, order + 1):
                curvature += i * (i - 1) * abs(c[i]) * power
                power *= panel
            size = abs(c[0]) + abs(c[1]) * panel
            if order > 1:
                size += abs(c[2]) * panel * panel
            if curvature * panel * panel <= 16.0 * size or panel <= 1e-13 * length:
                break
            panel *= 0.5
        t = 0.0
        for _ in range(40):
            f = c[order]
            df = 0.0
            for i in range(order - 1, -1, -1):
                df = df * t + f
                f = f * t + c[i]
            f += width
            if start == 0.0 and t == 0.0 and f < 0.0:
                if df < 0.0:
                    return 0.0
                f = 0.0
            if f <= 1e-3 * width and df < 0.0:
                return start + t
            denominator = np.sqrt(df * df + 2.0 * curvature * max(f, 0.0)) - df
            if denominator <= 0.0:
                t = panel
                break
            if f <= 0.0:
                # At the start on the wrong side by rounding, and leaving it.
                step = max(2.0 * df / curvature, 0.0) if curvature > 0.0 else np.inf
            else:
                step = 2.0 * f / denominator
            t += step
            if t >= panel:
                t = panel
                break
        start += t
        if start >= length * (1.0 - 1e-15):
            return np.inf
        for i in range(order):
            for b in range(order - 1, i - 1, -1):
                c[b] += t * c[b + 1]
    return start


@njit(cache=True, error_model="numpy", **LEAN)
def evaluate(c, order, t):
    """The polynomial sum_i c_i t^i."""
    s = c[order]
    for i in range(order - 1, -1, -1):
        s = s * t + c[i]
    return s


@njit(cache=True, error_model="numpy", **LEAN)
def rate_of(c, order, t):
    """The derivative of a polynomial."""
    s = 0.0
    for i in range(order, 0, -1):
        s = s * t + i * c[i]
    return s


@njit(cache=True, error_model="numpy", **LEAN)
def leaving_bounds(slide, h, order, degree, multiplier, jump, output, low, high):
    """What a sliding multiplier lacks to its bound on the off and on the on side, as polynomials.

    Both are positive inside. With one output they are taken without the factor a, whose sign
    changes in an event of its own. **Returns** their degree.
    """
    if output.shape[1] == 1:
        sign = 1.0 if jump[0, h, 0] >= 0.0 else -1.0
        for i in range(degree + 1):
            low[i] = sign * multiplier[i, slide, 0]
            high[i] = sign * (jump[i, h, 0] - multiplier[i, slide, 0])
        return degree
    low[: order + 1] = 0.0
    high[: order + 1] = 0.0
    for i in range(degree + 1):
        for b in range(order + 1 - i):
            for o in range(output.shape[1]):
                low[i + b] -= multiplier[i, slide, o] * output[b, o]
                high[i + b] -= (jump[i, h, o] - multiplier[i, slide, o]) * output[b, o]
    return order


@njit(cache=True, error_model="numpy")
def leaving_event(side, order, degree, multiplier, jump, output, length, slack, coefficient, other):
    """The first time at which a sliding kink lets go, and its hyperplane."""
    time, plane = np.inf, -1
    slide = -1
    for h in range(len(side)):
        if side[h] != SLIDE:
            continue
        slide += 1
        top = leaving_bounds(slide, h, order, degree, multiplier, jump, output, coefficient, other)
        width = slack + 1e-12 * (abs(coefficient[0]) + abs(other[0]))
        for bound in range(2):
            c = coefficient if bound == 0 else other
            total = 0.0
            power = 1.0
            for i in range(1, top + 1):
                power *= length
                total += abs(c[i]) * power
            if c[0] + width > total:
                continue
            t = first_root(c, top, length, width)
            if t < time:
                time, plane = t, h
    return time, plane


@njit(cache=True, error_model="numpy")
def turning(output, order, length, coefficient):
    """The first time at which the one output weight of a neuron changes its sign."""
    sign = 1.0 if output[0, 0] > 0.0 else -1.0
    total = 0.0
    power = 1.0
    for i in range(order + 1):
        coefficient[i] = sign * output[i, 0]
        if i > 0:
            power *= length
            total += abs(coefficient[i]) * power
    return first_root(coefficient, order, length, 1e-14) if coefficient[0] <= total else np.inf


@njit(cache=True, error_model="numpy", fastmath=FAST)
def meeting(normal, sign, distance, weight, order, length, coefficient):
    """The first time in [0, length] at which a neuron meets a hyperplane, from a distance."""
    total = 0.0
    power = 1.0
    coefficient[0] = distance
    for i in range(1, order + 1):
        coefficient[i] = sign * dot(normal, weight[i])
        power *= length
        total += abs(coefficient[i]) * power
    if distance + KINK_WIDTH > total:
        return np.inf
    return first_root(coefficient, order, length, KINK_WIDTH)


@njit(cache=True, error_model="numpy", fastmath=FAST)
def held_event(
    side, normals, weight, output, order, multiplier, jump, degree, length, noise, slack,
    coefficient, other,
):  # fmt: skip
    """The first event in [0, length] of the kinks on which a neuron slides or rests.

    The weight is a polynomial of the given order, multipliers and forces of the given degree. A
    multiplier may pass its bound by `slack` before the neuron leaves its slide: what D is off by
    then is too small to matter, and rounding doesn't make it leave and return.
    """
    if len(side) == 0:
        return np.inf, -1, NONE
    time, plane = let_go(
        side, normals, weight, output, order, multiplier, jump, degree, length, slack
    )
    if plane < 0:
        time, plane = leaving_event(
            side, order, degree, multiplier, jump, output, length, slack, coefficient, other
        )
    kind = LEAVE if time < np.inf else NONE
    motion = 0.0
    power = 1.0
    for i in range(1, order + 1):
        power *= length
        motion += np.sqrt(dot(weight[i], weight[i])) * power
    slides = False
    for h in range(len(side)):
        slides = slides or side[h] == SLIDE
        if abs(side[h]) == 2 and motion > 0.0:
            total = 0.0
            power = 1.0
            for i in range(1, order + 1):
                power *= length
                total += abs(dot(normals[h], weight[i])) * power
            if total > 1e-11 * motion + noise * length and time > 0.0:
                time, plane, kind = 0.0, h, WAKE
    if slides and output.shape[1] == 1:
        t = turning(output, order, length, coefficient)
        if t < time:
            time, plane, kind = t, -1, TURN
    return time, plane, kind


@njit(cache=True, error_model="numpy")
def change_pattern(
    side, plane, kind, a, w, normals, on, jump, force, multiplier, branching, counts
):
    """Apply an event to a neuron's pattern.

    `on` and `jump` (p, C) are the hyperplanes' forces of the moment, `force` (C, q) is D with the
    sliding kinks counted as off and not projected, `multiplier` (slides, C) what projects it.
    `counts` gathers crossings, slides and branchings. **Returns** False if a cap was met.
    """
    p, q = normals.shape
    outputs = len(a)
    if kind == TURN:
        for h in range(p):
            if side[h] == SLIDE:
                side[h] = branch_side(branching)
                counts[2] += 1
        return True
    velocity = np.zeros(q)
    for o in range(outputs):
        accumulate(velocity, a[o], force[o])
    if kind == WAKE:
        # The velocity of the projected D tells to which side.
        t = dot(velocity, normals[plane])
        i = 0
        for h in range(p):
            if side[h] == SLIDE:
                s = 0.0
                for o in range(outputs):
                    s += a[o] * multiplier[i, o]
                t += s * dot(normals[h], normals[plane])
                i += 1
        if side[plane] == REST and t < 0.0:
            side[plane] = OFF
            return True
        if side[plane] == REST_ON and t > 0.0:
            side[plane] = ON
            return True
    pull_on = np.empty(p)
    pull_off = np.empty(p)
    for h in range(p):
        t = 0.0
        s = 0.0
        for o in range(outputs):
            t += a[o] * on[h, o]
            s += a[o] * jump[h, o]
        pull_on[h] = t
        pull_off[h] = t - s
    if kind == LEAVE:
        candidate = np.zeros(p, np.bool_)
        held = 0
        for h in range(p):
            candidate[h] = side[h] == SLIDE or side[h] == REST_ON
            if candidate[h]:
                held += 1
        if held > 1 and dependent_kinks(side, candidate, w, normals):
            for h in range(p):
                if candidate[h]:
                    accumulate(velocity, -(pull_on[h] if side[h] > 0 else pull_off[h]), normals[h])
            before = side.copy()
            outcome = settle(side, candidate, normals, pull_on, pull_off, velocity)
            for h in range(p):
                if abs(before[h]) == 1:
                    counts[0] += side[h] == -before[h]
                    counts[1] += side[h] == SLIDE
            counts[2] += outcome == BRANCHED
            return outcome != CAPPED
        i = 0
        for h in range(plane):
            if side[h] == SLIDE:
                i += 1
        nu = 0.0
        for o in range(outputs):
            nu += a[o] * multiplier[i, o]
        side[plane] = OFF if abs(nu) <= abs(nu - (pull_on[plane] - pull_off[plane])) else ON
        return True
    accumulate(velocity, -(pull_on[plane] if side[plane] > 0 else pull_off[plane]), normals[plane])
    for h in range(p):
        if side[h] == SLIDE and h != plane:
            accumulate(velocity, -pull_off[h], normals[h])
    before = side.copy()
    outcome = meet_kink(side, plane, w, normals, pull_on, pull_off, velocity)
    if kind == WAKE and side[plane] == REST:
        # No speed across the kink yet, but it will be pushed against it: held from the start.
        side[plane] = SLIDE
    if outcome == BRANCHED:
        counts[2] += 1
    elif outcome != CAPPED:
        # Where normals are dependent it comes to several kinks at once.
        crossed, entered = 0, 0
        for h in range(p):
            if abs(before[h]) == 1:
                crossed += side[h] == -before[h]
                entered += abs(side[h]) != 1
        if outcome == CROSSED:
            counts[0] += max(crossed, 1)
        elif outcome == SLID or entered > 1:
            counts[0] += crossed
            counts[1] += max(entered, 1)
    return outcome != CAPPED


@njit(cache=True, error_model="numpy", fastmath=FAST)
def event_defect(
    side, plane, kind, time, normals, weight, output, order, multiplier, jump, degree, coefficient,
    other, defect,
):  # fmt: skip
    """What the residual's series lacks after an event, as multiples of a neuron's share.

    `defect` gets the jumps of h' on the examples of the hyperplane (its slope there changes), of
    the velocity w' times a along the normal, and of the latter's derivative. With several outputs
    they are sizes without a sign.
    """
    outputs = output.shape[1]
    defect[:] = 0.0
    size = 0.0
    for o in range(outputs):
        size += evaluate(output[:, o], order, time) ** 2
    if kind == LEAVE and pencil(side, normals)[0] > 0:
        # It leaves at once, with a speed that is not known yet.
        for h in range(len(side)):
            if abs(side[h]) != 1:
                for o in range(outputs):
                    defect[1] += size * abs(evaluate(jump[:, h, o], degree, time))
    elif kind == LEAVE:
        slide = np.int64(0)
        for h in range(plane):
            if side[h] == SLIDE:
                slide += 1
        top = leaving_bounds(
            slide, plane, order, degree, multiplier, jump, output, coefficient, other
        )
        low = evaluate(coefficient, top, time)
        high = evaluate(other, top, time)
        rate = rate_of(coefficient if low < high else other, top, time)
        if outputs > 1:
            defect[2] = np.sqrt(size) * abs(rate)
        else:
            sign = 1.0 if jump[0, plane, 0] >= 0.0 else -1.0
            defect[2] = size * rate * (sign if low < high else -sign)
    elif kind == HIT:
        q = normals.shape[1]
        for i in range(order + 1):
            t = 0.0
            for c in range(q):
                t += normals[plane, c] * weight[i, c]
            coefficient[i] = t
        crossing = rate_of(coefficient, order, time)
        pull = 0.0
        force = 0.0
        for o in range(outputs):
            a = evaluate(output[:, o], order, time)
            f = evaluate(jump[:, plane, o], degree, time)
            pull += a * f
            force += f * f
        if outputs > 1:
            defect[0] = np.sqrt(size) * abs(crossing)
            defect[1] = size * np.sqrt(force)
            return
        a = evaluate(output[:, 0], order, time)
        turn = pull if side[plane] < 0 else -pull
        if turn * crossing < 0.0 and abs(turn) > abs(crossing):
            # It is held: all that is missed is that w stops across the kink.
            turn = -crossing
        else:
            defect[0] = a * abs(crossing)
        defect[1] = a * turn
