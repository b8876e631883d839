"""Groups of neurons with the same pattern, and the particles that stand for them.

Neurons of one group share D, so that what they add to the residual depends on their second moment
sum_j e^{2 rho_j} theta_j theta_j^T alone. A large group is carried by the eigenvectors of that
moment, each a *particle* that moves like a neuron whose share in the output is the eigenvalue; a
neuron of a small group is a particle itself. Every neuron is a combination of particles whose
coefficients do not change while the patterns last. So cost follows patterns, not width.
"""

import numpy as np
from numba import njit

from ._patterns import FAST

#: Groups are lumped if the particles are at most so many, and the neurons so many times more.
_MOST_PARTICLES = 16
_CROWD = 3


@njit(cache=True, error_model="numpy")
def group_patterns(side, keys):
    """The group of each neuron, and a neuron of each group; equal patterns are one group."""
    m, p = side.shape
    size = 4
    while size < 2 * m:
        size *= 2
    table = np.full(size, -1, np.int64)
    group = np.empty(m, np.int64)
    member = np.empty(m, np.int64)
    groups = 0
    for j in range(m):
        code = np.int64(0)
        for h in range(p):
            code += side[j, h] * keys[h]
        slot = (code ^ (code >> 29)) & (size - 1)
        while True:
            g = table[slot]
            if g < 0:
                table[slot] = groups
                member[groups] = j
                group[j] = groups
                groups += 1
                break
            same = True
            other = member[g]
            for h in range(p):
                if side[j, h] != side[other, h]:
                    same = False
                    break
            if same:
                group[j] = g
                break
            slot = (slot + 1) & (size - 1)
    return group, member[:groups].copy()


@njit(cache=True, error_model="numpy", fastmath=FAST)
def particles(group, groups, w, a, share):
    """The particles of all groups.

    **Returns** for each neuron its first particle and its coefficients `mix` (m, K) of that and the
    following ones; for each group its first particle if it is lumped, else -1; the number K of
    particles of a lumped group; and the particles' weights, outputs, shares and groups.
    """
    m, q = w.shape
    outputs = a.shape[1]
    k = q + outputs
    size = np.zeros(groups, np.int64)
    for j in range(m):
        size[group[j]] += 1
    lumped = np.full(groups, -1, np.int64)
    total = 0
    any_lump = False
    for g in range(groups):
        if k <= _MOST_PARTICLES and size[g] >= _CROWD * k:
            lumped[g] = total
            total += k
            any_lump = True
    singles = 0
    for g in range(groups):
        if lumped[g] < 0:
            singles += size[g]
    first = np.empty(m, np.int64)
    mix = np.zeros((m, k if any_lump else 1))
    count = total + singles
    particle_w = np.empty((count, q))
    particle_a = np.empty((count, outputs))
    particle_share = np.zeros(count)
    particle_group = np.empty(count, np.int64)
    theta = np.empty(k)
    moment = np.zeros((groups if any_lump else 0, k, k))
    at = total
    for j in range(m):
        g = group[j]
        if lumped[g] < 0:
            first[j] = at
            mix[j, 0] = 1.0
            particle_w[at] = w[j]
            particle_a[at] = a[j]
            particle_share[at] = share[j]
            particle_group[at] = g
            at += 1
            continue
        first[j] = lumped[g]
        if share[j] > 0.0:
            theta[:outputs] = a[j]
            theta[outputs:] = w[j]
            for b in range(k):
                t = share[j] * theta[b]
                for c in range(b + 1):
                    moment[g, b, c] += t * theta[c]
    for g in range(groups):
        if lumped[g] < 0:
            continue
        for b in range(k):
            for c in range(b):
                moment[g, c, b] = moment[g, b, c]
        largest = np.abs(moment[g]).max()
        if largest > 0.0:
            value, vector = np.linalg.eigh(moment[g] / largest)
        else:
            value, vector = np.zeros(k), np.eye(k)
        for b in range(k):
            i = lumped[g] + b
            particle_share[i] = largest * max(value[b], 0.0)
            particle_group[i] = g
            for o in range(outputs):
                particle_a[i, o] = vector[o, b]
            for c in range(q):
                particle_w[i, c] = vector[outputs + c, b]
    for j in range(m):
        if lumped[group[j]] >= 0:
            for b in range(k):
                s = 0.0
                i = first[j] + b
                for o in range(outputs):
                    s += particle_a[i, o] * a[j, o]
                for c in range(q):
                    s += particle_w[i, c] * w[j, c]
                mix[j, b] = s
    return first, mix, lumped, k, particle_w, particle_a, particle_share, particle_group
