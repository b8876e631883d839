"""A jump: the motion of neurons while the residual is constant, in closed form.

Inside a pattern D is constant; with p = w.D/|D| the motion is p' = |D| a, a' = |D| p, and w
changes along D only. The times at which it meets kinks are roots of a quadratic in e^{|D| t}.
"""

import numpy as np
from numba import njit

from ._motion import HIT, WAKE, change_pattern
from ._patterns import (
    KINK_WIDTH,
    OFF,
    ON,
    REST,
    SLIDE,
    project_force,
    project_weight,
    pseudo_inverse,
)

_EVENT_CAP = 1000
#: The squared sine of an angle to D that is zero to rounding.
_PARALLEL = 1e-26


@njit(cache=True, error_model="numpy")
def _advance(w, a, log_scale, log_across, unit, x):
    """Move a balanced neuron of unit |w| by x = |D| t; returns the new log scale."""
    q = len(w)
    p = 0.0
    for c in range(q):
        p += w[c] * unit[c]
    rest = np.exp(2.0 * (log_across - log_scale))
    for c in range(q):
        rest += (w[c] - p * unit[c]) ** 2
    if rest < _PARALLEL and a * p < 0.0:
        return log_scale - x
    # a + p and a - p, the smaller one from (a + p)(a - p) = |w - p D/|D||^2.
    if a * p >= 0.0:
        up = 0.5 * (a + p)
        down = rest / (4.0 * up)
    else:
        down = 0.5 * (a - p)
        up = rest / (4.0 * down)
    decay = np.exp(-x)
    shift = up - down * decay * decay
    size = np.exp(2.0 * (log_across - log_scale)) * decay * decay
    for c in range(q):
        w[c] = (w[c] - p * unit[c]) * decay + shift * unit[c]
        size += w[c] * w[c]
    size = np.sqrt(size)
    for c in range(q):
        w[c] /= size
    return log_scale + x + np.log(size)


@njit(cache=True, error_model="numpy")
def _next_kink(side, normals, w, a, log_scale, log_across, unit):
    """The first x = |D| t > 0 at which a balanced neuron meets a hyperplane, and which one."""
    p_count, q = normals.shape
    p = 0.0
    for c in range(q):
        p += w[c] * unit[c]
    rest = np.exp(2.0 * (log_across - log_scale))
    for c in range(q):
        rest += (w[c] - p * unit[c]) ** 2
    sign = 1.0 if a > 0.0 else -1.0
    if rest < _PARALLEL and a * p < 0.0:
        return np.inf, -1
    if a * p >= 0.0:
        up = 0.5 * abs(a + p)
        down = rest / (4.0 * up)
    else:
        down = 0.5 * abs(a - p)
        up = rest / (4.0 * down)
    best, plane = np.inf, -1
    for h in range(p_count):
        if side[h] == SLIDE or side[h] == REST:
            continue
        rate = 0.0
        z = 0.0
        for c in range(q):
            rate += normals[h, c] * unit[c]
            z += normals[h, c] * w[c]
        if side[h] == OFF:
            rate, z = -rate, -z
        # p moves with the sign of a, so that the distance z + rate (p - p(0)) is monotone.
        if rate * sign >= 0.0 or abs(rate) < 1e-15:
            continue
        z += KINK_WIDTH
        if z <= 0.0:
            return 0.0, h
        target = sign * (p - z / rate)
        root = np.sqrt(target * target + 4.0 * up * down)
        if target >= 0.0:
            growth = (target + root) / (2.0 * up) if up > 0.0 else np.inf
        else:
            growth = 2.0 * down / (root - target)
        if growth < np.inf:
            x = np.log(max(growth, 1.0))
            if x < best:
                best, plane = x, h
    return best, plane


@njit(cache=True, error_model="numpy")
def jump_states(
    moving,
    side,
    w,
    a,
    log_scale,
    log_across,
    on_force,
    off_force,
    length,
    samples,
    normals,
    noise,
    out_side,
    out_w,
    out_scale,
    counts,
):
    """States at the samples of a jump of the neurons marked `moving`; the others stand still.

    Forces of the hyperplanes are constant. The states are balanced, with unit |w| (the part
    across the examples' span included) and a = +-1.

    **Returns** the largest growth rate |D| met among the moving neurons, or -1 if a cap was met.
    """
    m, q = w.shape
    p = len(normals)
    force = np.empty(q)
    unit = np.empty(q)
    inverse = np.empty((p, q))
    nu = np.empty(p)
    fastest = 0.0
    own = np.empty(p, np.int8)
    weight = np.empty(q)
    before = np.empty(q)
    for j in range(m):
        own[:] = side[j]
        weight[:] = w[j]
        scale = log_scale[j]
        time = 0.0
        sample = 0
        done = not moving[j]
        for event in range(_EVENT_CAP + 1):
            if event == _EVENT_CAP:
                return -1.0
            size = 0.0
            if not done:
                force[:] = 0.0
                total = 0.0
                for h in range(p):
                    if own[h] != SLIDE:
                        f = on_force[h] if own[h] == ON else off_force[h]
                        total += abs(f)
                        if f != 0.0:
                            for c in range(q):
                                force[c] += f * normals[h, c]
                slides = pseudo_inverse(own, normals, inverse)
                project_force(own, normals, inverse, slides, force, nu)
                counts[3] += 1
                for c in range(q):
                    size += force[c] ** 2
                size = np.sqrt(size)
                if size <= 1e-13 * total + noise:
                    done = True
            if done:
                while sample < len(samples):
                    out_side[sample, j, :] = own
                    out_w[sample, j, :] = weight
                    out_scale[sample, j] = scale
                    sample += 1
                break
            for c in range(q):
                unit[c] = force[c] / size
            kind = HIT
            x, plane = _next_kink(own, normals, weight, a[j], scale, log_across[j], unit)
            for h in range(p):
                if own[h] == REST:
                    t = 0.0
                    for c in range(q):
                        t += normals[h, c] * force[c]
                    if abs(t) > 1e-11 * size + noise:
                        x, plane, kind = 0.0, h, WAKE
            t_event = time + x / size
            while sample < len(samples) and samples[sample] < min(t_event, length):
                before[:] = weight
                out_scale[sample, j] = _advance(
                    before, a[j], scale, log_across[j], unit, size * (samples[sample] - time)
                )
                out_side[sample, j, :] = own
                out_w[sample, j, :] = before
                sample += 1
            if t_event >= length:
                scale = _advance(weight, a[j], scale, log_across[j], unit, size * (length - time))
                fastest = max(fastest, size)
                done = True
                continue
            scale = _advance(weight, a[j], scale, log_across[j], unit, x)
            time = t_event
            if not change_pattern(
                own, plane, kind, a[j], weight, normals, on_force, off_force, force, nu, slides,
                counts,
            ):  # fmt: skip
                return -1.0
            project_weight(own, normals, weight)
    return fastest
