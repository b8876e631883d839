"""Patterns as a tree of differences, which sums over all of them are cheaper along.

Many patterns of a trained network differ from another one in a few hyperplanes only. D of a
pattern is that of its parent, plus or minus the forces of those, and what a group adds to the
predictions on a hyperplane is passed up the tree: sums over few differences in place of a product
with the matrix of all patterns.
"""

import numpy as np
from numba import njit

from ._field import group_forces
from ._patterns import FAST, LEAN, add, dot

#: A term of a sum along the tree, in units of one in a matrix product.
_TERM = 5.0
#: What comparing 64 hyperplanes of two patterns costs, in units of all products that use a tree.
_COMPARE = 0.75


@njit(cache=True, error_model="numpy")
def _count_bits(x):
    one = np.uint64(1)
    x = x - ((x >> one) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(cache=True, error_model="numpy")
def difference_tree(group_side, q):
    """A spanning tree of patterns with the least number of differences (Prim's algorithm).

    Its root is the pattern that is off everywhere, whether a neuron has it or not.

    **Returns** the patterns in an order in which parents come first; the parent of each pattern, -1
    for the root; where the differences of each in that order begin; and the hyperplanes in which
    they are, with +1 where the pattern is on and its parent off, else -1. There are no differences
    at all if sums of vectors of `q` numbers along the tree would not be cheaper than a product of
    matrices.
    """
    groups, p = group_side.shape
    order = np.arange(groups)
    parent = np.full(groups, -1)
    start = np.zeros(groups + 1, np.int64)
    none = np.empty(0, np.int64)
    no_sign = np.empty(0, np.int8)
    words = (p + 63) // 64
    if groups < 2 or _COMPARE * groups * words > p * q:
        return order, parent, start, none, no_sign
    bits = np.zeros((groups, words), np.uint64)
    nearest = np.zeros(groups, np.int64)
    for g in range(groups):
        for h in range(p):
            if group_side[g, h] > 0:
                bits[g, h // 64] |= np.uint64(1) << np.uint64(h % 64)
                nearest[g] += 1
    waiting = np.arange(groups)
    new = int(np.argmin(nearest))
    total = 0
    for i in range(groups):
        order[i] = new
        total += nearest[new]
        # It goes out of those that wait, and the others are compared with it.
        best, place = p + 1, -1
        left = groups - i
        b = 0
        while b < left:
            g = waiting[b]
            if g == new:
                left -= 1
                waiting[b] = waiting[left]
                continue
            apart = 0
            for c in range(words):
                apart += _count_bits(bits[g, c] ^ bits[new, c])
            if apart < nearest[g]:
                nearest[g], parent[g] = apart, new
            if nearest[g] < best:
                best, place = nearest[g], g
            b += 1
        new = place
    if _TERM * (total + groups) > groups * p:
        return order, parent, start, none, no_sign
    plane = np.empty(total, np.int64)
    sign = np.empty(total, np.int8)
    count = 0
    for i in range(groups):
        g = order[i]
        start[i] = count
        for h in range(p):
            on = group_side[g, h] > 0
            if on != (parent[g] >= 0 and group_side[parent[g], h] > 0):
                plane[count] = h
                sign[count] = 1 if on else -1
                count += 1
    start[groups] = count
    return order, parent, start, plane, sign


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def _add_differences(tree, root, o, jump, normals, force):
    order, parent, start, plane, sign = tree
    for i in range(len(order)):
        g = order[i]
        own = force[g, o]
        source = force[parent[g], o] if parent[g] >= 0 else root
        for c in range(len(own)):
            own[c] = source[c]
        for b in range(start[i], start[i + 1]):
            h = plane[b]
            add(own, jump[h, o] if sign[b] > 0 else -jump[h, o], normals[h])


@njit(cache=True, error_model="numpy", fastmath=FAST)
def tree_forces(tree, on, jump, normals, force):
    """D (G, C, q) of every pattern along a tree: `group_forces`."""
    p, q = normals.shape
    root = np.empty(q)
    for o in range(on.shape[1]):
        root[:] = 0.0
        for h in range(p):
            off = on[h, o] - jump[h, o]
            if off != 0.0:
                add(root, off, normals[h])
        _add_differences(tree, root, o, jump, normals, force)


@njit(cache=True, error_model="numpy")
def pattern_forces(tree, active, on, jump, normals, force):
    """D (G, C, q) of every pattern, along the tree if there is one; not projected."""
    if len(tree[3]):
        tree_forces(tree, on, jump, normals, force)
    else:
        group_forces(active, on, jump, normals, force)


@njit(cache=True, error_model="numpy", fastmath=FAST, **LEAN)
def tree_values(tree, moment, normals, on_value):
    """Sums (p,) of w.e over the groups that are on, from their sums (G, q) of w, which are lost."""
    order, parent, start, plane, sign = tree
    on_value[:] = 0.0
    for i in range(len(order) - 1, -1, -1):
        g = order[i]
        own = moment[g]
        for b in range(start[i], start[i + 1]):
            t = dot(own, normals[plane[b]])
            on_value[plane[b]] += t if sign[b] > 0 else -t
        if parent[g] >= 0:
            add(moment[parent[g]], 1.0, own)
