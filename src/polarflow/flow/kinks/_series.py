"""Taylor series of particles and of the residual, with frozen patterns.

The series are those of particles (`_particles.py`); every neuron is a combination of them.
"""

import numpy as np
from numba import njit

from ._field import plane_values
from ._motion import extend_neuron
from ._patterns import FAST, LEAN, add, assign, copy_matrix, dot, plane_forces, project_force
from ._residual import extend_residual
from ._tree import pattern_forces, tree_values


@njit(cache=True, error_model="numpy", **LEAN)
def _project_groups(i, group_side, normals, slides, inverse, raw, force, multiplier):
    for g in range(len(group_side)):
        copy_matrix(raw[i, g], force[g, i])
        project_force(group_side[g], normals, inverse[g], slides[g], force[g, i], multiplier[g, i])


@njit(cache=True, error_model="numpy")
def force_order(
    i, group_side, active, tree, residual, normals, plane, plus, minus, slides, inverse,
    on, jump, raw, force, multiplier,
):  # fmt: skip
    """Coefficient i of all that a residual's coefficient i gives: the D of every pattern."""
    plane_forces(residual[i], plane, plus, minus, on[i], jump[i])
    pattern_forces(tree, active, on[i], jump[i], normals, raw[i])
    _project_groups(i, group_side, normals, slides, inverse, raw, force, multiplier)


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def add_moment(i, share, weight, output, moment):
    """Add to a group's (C, q) sums of a w the coefficient i of one particle's."""
    q = weight.shape[1]
    for o in range(output.shape[1]):
        total = moment[o]
        b = 0
        while b < i:
            w, w_next = weight[i - b], weight[i - b - 1]
            a, a_next = share * output[b, o], share * output[b + 1, o]
            for c in range(q):
                total[c] += a * w[c] + a_next * w_next[c]
            b += 2
        if b == i:
            add(total, share * output[i, o], weight[0])


@njit(cache=True, error_model="numpy")
def prediction_order(active, tree, moment, normals, plane, plus, minus, prediction):
    """Predictions from the sums of a w (C, G, q) over each group's particles, which are lost."""
    outputs, groups, q = moment.shape
    p = len(normals)
    on_value = np.empty((p, outputs))
    value = np.empty((p, outputs))
    by_plane = np.empty((p, q))
    total = np.empty(q)
    sums = np.empty(p)
    for o in range(outputs):
        total[:] = 0.0
        for g in range(groups):
            add(total, 1.0, moment[o, g])
        if len(tree[3]):
            tree_values(tree, moment[o], normals, sums)
        else:
            np.dot(active.T, moment[o], by_plane)
            for h in range(p):
                sums[h] = dot(by_plane[h], normals[h])
        for h in range(p):
            on_value[h, o] = sums[h]
            value[h, o] = dot(total, normals[h])
    plane_values(on_value, value, plane, plus, minus, prediction)


@njit(cache=True, error_model="numpy", **LEAN)
def largest_entry(c):
    """The largest absolute value in a matrix."""
    t = 0.0
    for k in range(c.shape[0]):
        for o in range(c.shape[1]):
            t = max(t, abs(c[k, o]))
    return t


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def _extend_particles(
    i, particle_share, particle_group, idle, force, weight, output, moment, own
):  # fmt: skip
    """Coefficient i + 1 of all particles; adds theirs of a w to those of the groups.

    **Returns** the largest of their entries.
    """
    largest = 0.0
    for j in range(len(particle_share)):
        g = particle_group[j]
        if idle[g]:
            weight[j, i + 1] = 0.0
            output[j, i + 1] = 0.0
            continue
        extend_neuron(i, i, force[g], weight[j], output[j])
        for c in range(weight.shape[2]):
            largest = max(largest, abs(weight[j, i + 1, c]))
        for o in range(output.shape[2]):
            largest = max(largest, abs(output[j, i + 1, o]))
        if particle_share[j] > 0.0:
            own[:] = 0.0
            add_moment(i + 1, particle_share[j], weight[j], output[j], own)
            for o in range(output.shape[2]):
                add(moment[o, g], 1.0, own[o])
    return largest


@njit(cache=True, error_model="numpy")
def coupled_series(
    particle_w, particle_a, particle_share, particle_group, group_side, active, tree, kind, label,
    factor, unit, residual, prediction, normals, plane, plus, minus, slides, inverse, tolerance,
    cap, weight, output, on, jump, raw, force, multiplier,
):  # fmt: skip
    """Taylor coefficients of every particle and of the residual, and how far they reach.

    Orders are added while they lengthen the step in proportion to their work, or until the step
    reaches `cap`. `residual[0]` holds the residual divided by exp(unit) on entry, `particle_share`
    the factor exp(2 log scale) of each particle in the output; `prediction` gets the coefficients
    of the predictions but for the first.

    **Returns** the order used and the length of the step whose truncation error is below the
    tolerance, for the residual relative to its largest entry and for each particle relative to it.
    """
    count, q = particle_w.shape
    groups, p = group_side.shape
    n, outputs = residual.shape[1:]
    top = residual.shape[0] - 1
    size = max(largest_entry(residual[0]), 1e-300)
    for j in range(count):
        assign(weight[j, 0], particle_w[j])
        assign(output[j, 0], particle_a[j])
    moment = np.empty((outputs, groups, q))
    own = np.empty((outputs, q))
    rate = np.empty((top + 1, n, outputs))
    idle = np.zeros(groups, np.bool_)
    for g in range(groups):
        idle[g] = not np.any(active[g]) and not np.any(minus)
    best_order, best_reach, best_pace = 0, 0.0, 0.0
    previous = 0.0
    for i in range(top):
        force_order(
            i, group_side, active, tree, residual, normals, plane, plus, minus, slides, inverse,
            on, jump, raw, force, multiplier,
        )  # fmt: skip
        moment[:] = 0.0
        largest = _extend_particles(
            i, particle_share, particle_group, idle, force, weight, output, moment, own
        )
        prediction_order(active, tree, moment, normals, plane, plus, minus, prediction[i + 1])
        extend_residual(kind, i, prediction, label, factor, unit, residual, rate)
        largest = max(largest, largest_entry(residual[i + 1]) / size)
        now = (tolerance / largest) ** (1.0 / (i + 1)) if largest > 0.0 else np.inf
        reach = min(now, previous) if i > 0 else 0.0
        previous = now
        if i < 3:
            continue
        if reach >= cap:
            best_order, best_reach = i + 1, cap
            break
        pace = 0.85 * reach / (i + 3.0)
        if pace > best_pace:
            best_order, best_reach, best_pace = i + 1, 0.85 * reach, pace
        elif i + 1 > best_order + 2:
            break
    force_order(
        best_order, group_side, active, tree, residual, normals, plane, plus, minus, slides,
        inverse, on, jump, raw, force, multiplier,
    )  # fmt: skip
    return best_order, best_reach


@njit(cache=True, error_model="numpy")
def given_series(
    particle_w, particle_a, particle_group, group_side, active, tree, residual, length, normals,
    plane, plus, minus, slides, inverse, tolerance, weight, output, on, jump, raw, force,
    multiplier, must_ride,
):  # fmt: skip
    """Taylor series of every particle along a given residual; marks those it doesn't reach for."""
    order = weight.shape[1] - 1
    degree = residual.shape[0] - 1
    for i in range(degree + 1):
        force_order(
            i, group_side, active, tree, residual, normals, plane, plus, minus, slides, inverse,
            on, jump, raw, force, multiplier,
        )  # fmt: skip
    for j in range(len(particle_w)):
        weight[j] = 0.0
        output[j] = 0.0
        assign(weight[j, 0], particle_w[j])
        assign(output[j, 0], particle_a[j])
        power = 1.0
        last = 0.0
        small = 0
        for i in range(order):
            extend_neuron(i, degree, force[particle_group[j]], weight[j], output[j])
            power *= length
            last = 0.0
            for c in range(weight.shape[2]):
                last = max(last, abs(weight[j, i + 1, c]))
            for o in range(output.shape[2]):
                last = max(last, abs(output[j, i + 1, o]))
            last *= power
            small = small + 1 if last <= 0.03 * tolerance else 0
            if small > degree:
                break
        must_ride[j] = last > tolerance
