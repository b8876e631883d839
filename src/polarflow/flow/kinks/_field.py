"""The field at a state: predictions, velocities by pattern, the gradient; all in compiled loops."""

import numpy as np
from numba import njit

from ._patterns import FAST, SLIDE, add, dot, plane_forces, project_force


@njit(cache=True, error_model="numpy", fastmath=FAST)
def predict(z, a, share, side, carried, plane, plus, minus, prediction):
    """The network's values (n, C) from w.e of all rows (m, p) and their shares.

    A neuron is on where w.e > 0; one that is `carried` where its pattern is.
    """
    m, p = z.shape
    outputs = a.shape[1]
    on_value = np.zeros((p, outputs))
    value = np.zeros((p, outputs))
    for j in range(m):
        if share[j] == 0.0:
            continue
        for o in range(outputs):
            t = share[j] * a[j, o]
            if carried[j]:
                for h in range(p):
                    v = t * z[j, h]
                    value[h, o] += v
                    on_value[h, o] += v if side[j, h] > 0 else 0.0
                continue
            for h in range(p):
                v = t * z[j, h]
                value[h, o] += v
                on_value[h, o] += v if z[j, h] > 0.0 else 0.0
    plane_values(on_value, value, plane, plus, minus, prediction)


@njit(cache=True, error_model="numpy")
def plane_values(on_value, value, plane, plus, minus, prediction):
    """Predictions from the sums of a z over all neurons, and over those on the on side."""
    for k in range(len(prediction)):
        h = plane[k]
        for o in range(prediction.shape[1]):
            if h >= 0:
                on = on_value[h, o]
                prediction[k, o] = plus[k] * on + minus[k] * (value[h, o] - on)
            else:
                prediction[k, o] = 0.0


@njit(cache=True, error_model="numpy")
def group_forces(active, on, jump, normals, force):
    """D (G, C, q) of every pattern, `active` (G, p) being 1 where it is on: not projected."""
    groups = len(active)
    p, q = normals.shape
    scaled = np.empty((p, q))
    common = np.empty(q)
    product = np.empty((groups, q))
    for o in range(on.shape[1]):
        common[:] = 0.0
        for h in range(p):
            off = on[h, o] - jump[h, o]
            if off != 0.0:
                add(common, off, normals[h])
            for c in range(q):
                scaled[h, c] = jump[h, o] * normals[h, c]
        np.dot(active, scaled, product)
        for g in range(groups):
            for c in range(q):
                force[g, o, c] = product[g, c] + common[c]


@njit(cache=True, error_model="numpy")
def velocities(
    active, group_side, residual, normals, plane, plus, minus, slides, inverse, force, multiplier
):  # fmt: skip
    """D (G, C, q) of every pattern at a residual (n, C), projected on sliding kinks.

    `multiplier` (G, K, C) gets what projects it, of each sliding kink.
    """
    groups, p = group_side.shape
    outputs = residual.shape[1]
    on = np.empty((p, outputs))
    jump = np.empty((p, outputs))
    plane_forces(residual, plane, plus, minus, on, jump)
    group_forces(active, on, jump, normals, force)
    for g in range(groups):
        project_force(group_side[g], normals, inverse[g], slides[g], force[g], multiplier[g])


@njit(cache=True, error_model="numpy")
def slide_excess(carried, group, group_side, residual, a, plane, plus, minus, multiplier):
    """By how much the multiplier of a sliding kink is beyond its bound, where that is most.

    It is the force that pushes such a neuron off, below zero where all are held; -inf if none
    slides.
    """
    p, outputs = group_side.shape[1], residual.shape[1]
    on = np.empty((p, outputs))
    jump = np.empty((p, outputs))
    plane_forces(residual, plane, plus, minus, on, jump)
    largest = -np.inf
    for j in range(len(group)):
        g = group[j]
        i = 0
        for h in range(p):
            if group_side[g, h] != SLIDE:
                continue
            low, high = 0.0, 0.0
            for o in range(outputs):
                t = a[j, o]
                if carried[j]:
                    # The neurons of a cohort have one output weight, of the sign that slides.
                    t = -1.0 if jump[h, 0] >= 0.0 else 1.0
                low -= multiplier[g, i, o] * t
                high -= (jump[h, o] - multiplier[g, i, o]) * t
            largest = max(largest, -min(low, high))
            i += 1
    return largest


@njit(cache=True, error_model="numpy", fastmath=FAST)
def gradient(group, w, a, share, carried, force):
    """The squared norm of the gradient, and the largest rate a.Dw of any neuron of norm sqrt 2.

    Particles of cohorts are no neurons: their rates don't count.
    """
    total = 0.0
    fastest = 0.0
    for j in range(len(group)):
        square = 0.0
        growth = 0.0
        q = w.shape[1]
        for c in range(q):
            v = 0.0
            for o in range(a.shape[1]):
                v += a[j, o] * force[group[j], o, c]
            square += v * v
        for o in range(a.shape[1]):
            t = dot(w[j], force[group[j], o])
            square += t * t
            growth += a[j, o] * t
        total += share[j] * square
        if not carried[j]:
            fastest = max(fastest, growth)
    return total, fastest


@njit(cache=True, error_model="numpy", fastmath=FAST)
def normalise(w, a, log_scale, zero, balanced, log_across, log_imbalance, imbalance_sign, out):
    """Scale weights to |a|^2 + |w|^2 = 2, in place, and |a| = |w| where it must hold.

    **Returns** the largest relative change of |a|^2 - |w|^2; `out` gets the new log scales.
    """
    drift = 0.0
    q, outputs = w.shape[1], a.shape[1]
    for j in range(len(w)):
        out[j] = log_scale[j]
        if zero[j]:
            continue
        inside = dot(w[j], w[j])
        if log_across[j] > -np.inf:
            inside += np.exp(2.0 * (log_across[j] - log_scale[j]))
        outer = dot(a[j], a[j])
        size = np.sqrt(0.5 * (inside + outer))
        part = size
        gap = outer - inside
        if balanced[j]:
            size = np.sqrt(inside)
            part = np.sqrt(outer)
        else:
            gap -= imbalance_sign[j] * np.exp(log_imbalance[j] - 2.0 * log_scale[j])
        drift = max(drift, abs(gap) / (inside + outer))
        for c in range(q):
            w[j, c] /= size
        for o in range(outputs):
            a[j, o] /= part
        out[j] += np.log(size)
    return drift
