"""Groups of neurons with the same pattern, and the particles that stand for them.

Neurons of one group share D, so that what they add to the residual depends on their second moment
sum_j e^{2 rho_j} theta_j theta_j^T alone. A large group is carried by the eigenvectors of that
moment, each a *particle* that moves like a neuron whose share in the output is the eigenvalue; a
neuron of a small group is a particle itself. Every neuron is a combination of particles whose
coefficients do not change while the patterns last. So cost follows patterns, not width.
"""

import numpy as np
from numba import njit
from numpy import ndarray

from ._patterns import FAST

#: Groups are lumped if the particles are at most so many, and the neurons so many times more.
MOST_PARTICLES = 16
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
def group_moments(group, groups, w, a, share, lumped):
    """The second moments (G, K, K) of the groups that are worth lumping, K the length of theta.

    `lumped` gets each such group's first particle, the others -1.
    """
    q, outputs = w.shape[1], a.shape[1]
    k = q + outputs
    size = np.zeros(groups, np.int64)
    for j in range(len(group)):
        size[group[j]] += 1
    total = 0
    for g in range(groups):
        lumped[g] = -1
        if k <= MOST_PARTICLES and size[g] >= _CROWD * k:
            lumped[g] = total
            total += k
    moment = np.zeros((groups if total else 0, k, k))
    if not total:
        return moment
    theta = np.empty(k)
    for j in range(len(group)):
        g = group[j]
        if lumped[g] < 0 or not share[j] > 0.0:
            continue
        for o in range(outputs):
            theta[o] = a[j, o]
        for c in range(q):
            theta[outputs + c] = w[j, c]
        for b in range(k):
            t = share[j] * theta[b]
            for c in range(k):
                moment[g, b, c] += t * theta[c]
    return moment


@njit(cache=True, error_model="numpy", fastmath=FAST)
def spread_particles(
    group, lumped, value, vector, w, a, share, first, mix, particle_w, particle_a,
    particle_share, particle_group,
):  # fmt: skip
    """Fill in the particles, eigenvectors for lumped groups, and every neuron's part in them."""
    q, outputs = w.shape[1], a.shape[1]
    k = q + outputs
    at = 0
    for g in range(len(lumped)):
        if lumped[g] < 0:
            continue
        at += k
        for b in range(k):
            i = lumped[g] + b
            particle_share[i] = max(value[g, b], 0.0)
            particle_group[i] = g
            for o in range(outputs):
                particle_a[i, o] = vector[g, o, b]
            for c in range(q):
                particle_w[i, c] = vector[g, outputs + c, b]
    for j in range(len(group)):
        g = group[j]
        if lumped[g] < 0:
            first[j] = at
            mix[j, 0] = 1.0
            particle_share[at] = share[j]
            particle_group[at] = g
            for o in range(outputs):
                particle_a[at, o] = a[j, o]
            for c in range(q):
                particle_w[at, c] = w[j, c]
            at += 1
            continue
        first[j] = lumped[g]
        for b in range(k):
            s = 0.0
            for o in range(outputs):
                s += vector[g, o, b] * a[j, o]
            for c in range(q):
                s += vector[g, outputs + c, b] * w[j, c]
            mix[j, b] = s


@njit(cache=True, error_model="numpy", fastmath=FAST)
def read_off(members, mix, particle, log_scale, w, a, scale):
    """Neurons as combinations of particles (a, w), (K, C + q), into the rows that are theirs."""
    count, outputs = len(particle), a.shape[1]
    for i in range(len(members)):
        j = members[i]
        scale[j] = log_scale[i]
        for o in range(outputs):
            t = 0.0
            for b in range(count):
                t += mix[i, b] * particle[b, o]
            a[j, o] = t
        for c in range(w.shape[1]):
            t = 0.0
            for b in range(count):
                t += mix[i, b] * particle[b, outputs + c]
            w[j, c] = t


def particles(
    group: ndarray, groups: int, w: ndarray, a: ndarray, share: ndarray
) -> tuple[ndarray, ndarray, ndarray, int, ndarray, ndarray, ndarray, ndarray]:
    """The particles of all groups.

    **Returns** for each neuron its first particle and its coefficients `mix` (m, K) of that and the
    following ones; for each group its first particle if it is lumped, else -1; the number K of
    particles of a lumped group; and the particles' weights, outputs, shares and groups.
    """
    (m, q), outputs = w.shape, a.shape[1]
    k = q + outputs
    lumped = np.empty(groups, np.int64)
    moment = group_moments(group, groups, w, a, share, lumped)
    any_lumped = len(moment) > 0
    largest = np.abs(moment).max(axis=(1, 2), initial=0.0)
    safe = np.where(largest > 0.0, largest, 1.0)
    value, vector = np.linalg.eigh(moment / safe[:, None, None])
    count = k * int(np.sum(lumped >= 0)) + int(np.sum(lumped[group] < 0))
    first, mix = np.empty(m, np.int64), np.zeros((m, k if any_lumped else 1))
    particle_w, particle_a = np.empty((count, q)), np.empty((count, outputs))
    particle_share, particle_group = np.empty(count), np.empty(count, np.int64)
    spread_particles(
        group, lumped, value * largest[:, None], vector, w, a, share, first, mix, particle_w,
        particle_a, particle_share, particle_group,
    )  # fmt: skip
    return first, mix, lumped, k, particle_w, particle_a, particle_share, particle_group
