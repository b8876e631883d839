"""The compiled loops of gradient descent on a two-layer (leaky) ReLU network.

Three forms of one iteration: for few examples of few numbers a loop over blocks of neurons, which
touches the memory of a wide network once; otherwise two matrix products; and, where there are
fewer examples than numbers in each, one product with the Gram matrix. Imported only when gradient
descent is run; a form is compiled for a precision, or loaded from Numba's cache, when it is first
asked for.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from numba import from_dtype, njit, types

BLOCK = 512
"""Neurons handled together: a block's weights, activations and gradients stay in the first cache,
so that a step reads and writes the memory of a wide network once."""
BLOCKS, PRODUCTS, GRAM = 0, 1, 2
SMALL = 8
"""From so many examples and so many numbers in each on, matrix products are quicker."""

# Sums may be reassociated (that is what vectorises them); NaN and infinity keep their meaning,
# because divergence is recognised by them.
_MATHS = {"reassoc", "nsz", "contract", "arcp"}
_loop = njit(cache=True, error_model="numpy", fastmath=_MATHS)
_inlined = njit(inline="always", error_model="numpy", fastmath=_MATHS)


@_inlined
def _step_block(x, slope, r, a, w, z, change, first, last):
    """Step a block of neurons; examples are taken three at a time, to touch w less often."""
    n, d = x.shape
    size = last - first
    zero = x.dtype.type(0.0)
    for j in range(size):
        change[j] = zero
    for k in range(n):
        zk = z[k, first:last]
        rk = r[k]
        rest = rk * slope
        for j in range(size):
            s = rk if zk[j] > zero else rest
            change[j] += s * zk[j]
            zk[j] = s
    for i in range(d):
        wi = w[i, first:last]
        for k in range(0, n - 2, 3):
            p, q, t = x[k, i], x[k + 1, i], x[k + 2, i]
            zp, zq, zt = z[k, first:last], z[k + 1, first:last], z[k + 2, first:last]
            for j in range(size):
                wi[j] += a[j] * (p * zp[j] + q * zq[j] + t * zt[j])
        for k in range(n - n % 3, n):
            p = x[k, i]
            zp = z[k, first:last]
            for j in range(size):
                wi[j] += a[j] * (p * zp[j])
    for j in range(size):
        a[j] += change[j]


@_inlined
def _predict_block(x, slope, a, w, z, h, first, last):
    """z = xw for a block of neurons, and its part of the predictions added to h."""
    n, d = x.shape
    size = last - first
    zero = x.dtype.type(0.0)
    for k in range(n):
        zk = z[k, first:last]
        p = x[k, 0]
        wp = w[0, first:last]
        if d == 1:
            for j in range(size):
                zk[j] = p * wp[j]
        else:
            q = x[k, 1]
            wq = w[1, first:last]
            for j in range(size):
                zk[j] = p * wp[j] + q * wq[j]
        for i in range(2, d):
            p = x[k, i]
            wp = w[i, first:last]
            for j in range(size):
                zk[j] += p * wp[j]
        total = zero
        for j in range(size):
            total += a[j] * (zk[j] if zk[j] > zero else slope * zk[j])
        h[k] += total


@_loop
def _predict(z, a, slope, h):
    """h_k = sum_j a_j s(z_kj)."""
    zero = z.dtype.type(0.0)
    for k in range(z.shape[0]):
        zk = z[k]
        total = zero
        for j in range(z.shape[1]):
            total += a[j] * (zk[j] if zk[j] > zero else slope * zk[j])
        h[k] = total


@_loop
def _forces(z, a, slope, r, force, change):
    """The matrix r_k s'(z_kj) a_j, and the sums over k of r_k s(z_kj)."""
    zero = z.dtype.type(0.0)
    for j in range(z.shape[1]):
        change[j] = zero
    for k in range(z.shape[0]):
        zk = z[k]
        fk = force[k]
        rk = r[k]
        rest = rk * slope
        for j in range(z.shape[1]):
            s = rk if zk[j] > zero else rest
            change[j] += s * zk[j]
            fk[j] = s * a[j]


@_loop
def _add(target, source):
    for i in range(target.shape[0]):
        ti = target[i]
        si = source[i]
        for j in range(target.shape[1]):
            ti[j] += si[j]


@_loop
def _descend(form, x, y, kappa, slope, step, a, w, record, record_a, record_w, record_h):
    """Step `a` (m,) and `w` (d, m) in place; fill the records; return how many were filled.

    One step is w_j += step a_j D_j and a_j += step <D_j, w_j> with
    D_j = kappa sum_k (y_k - h_k) s'(<w_j, x_k>) x_k; the second is sum_k r_k s(<w_j, x_k>) because
    s is homogeneous. Both right-hand sides are taken before the step. With the matrix of forces
    f_kj = step r_k s'(z_kj) a_j it is w += x'f and z = xw (`PRODUCTS`), or in the coordinates
    z = xw alone z += (xx')f, and w = w(0) + x' (sum of f) at records (`GRAM`). `record` is
    increasing and not empty. The loop ends early, with fewer records, at a prediction that is not
    finite.
    """
    n, d = x.shape
    m = a.shape[0]
    rows = 0 if form == BLOCKS else n
    turned = x.T.copy()
    matrix = np.dot(x, turned) if form == GRAM else turned
    z = np.dot(x, w)
    target = z if form == GRAM else w
    force = np.zeros((rows, m), x.dtype)
    moved = np.zeros((rows, m), x.dtype)
    motion = np.empty((0 if form == BLOCKS else matrix.shape[0], m), x.dtype)
    change = np.empty(max(m, BLOCK), x.dtype)
    h = np.empty(n, x.dtype)
    r = np.zeros(n, x.dtype)
    filled = 0
    iteration = 0
    while True:
        if form == BLOCKS:
            h[:] = x.dtype.type(0.0)
            for first in range(0, m, BLOCK):
                last = min(first + BLOCK, m)
                aj = a[first:last]
                if iteration > 0:
                    _step_block(x, slope, r, aj, w, z, change, first, last)
                _predict_block(x, slope, aj, w, z, h, first, last)
        else:
            if iteration > 0:
                _forces(z, a, slope, r, force, change)
                np.dot(matrix, force, motion)
                _add(target, motion)
                for j in range(m):
                    a[j] += change[j]
            if form == PRODUCTS:
                np.dot(x, w, z)
            else:
                _add(moved, force)
            _predict(z, a, slope, h)
        if iteration == record[filled]:
            record_a[filled] = a
            record_w[filled] = w + np.dot(turned, moved) if form == GRAM else w
            record_h[filled] = h
            filled += 1
            if filled == record.shape[0] or not np.isfinite(h.sum()):
                return filled
        for k in range(n):
            r[k] = step * kappa * (y[k] - h[k])
        iteration += 1


@cache
def loop(form: str, dtype: np.dtype[Any]) -> Callable[..., int]:
    """The compiled loop of a form, `"blocks"`, `"products"` or `"gram"`, in a precision."""
    number = from_dtype(dtype)
    vector, matrix = types.Array(number, 1, "C"), types.Array(number, 2, "C")
    stack, index = types.Array(number, 3, "C"), types.Array(types.int64, 1, "C")
    numbers = (types.int64, matrix, vector, number, number, number)
    _descend.compile((*numbers, vector, matrix, index, matrix, stack, matrix))
    return partial(_descend, {"blocks": BLOCKS, "products": PRODUCTS, "gram": GRAM}[form])
