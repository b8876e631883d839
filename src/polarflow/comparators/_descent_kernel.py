"""The compiled loop of gradient descent on a two-layer (leaky) ReLU network.

Imported only when gradient descent is run: importing it compiles the one kernel it holds, or loads
it from Numba's cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit

BLOCK = 512
"""Neurons handled together: a block's weights, activations and gradients stay in the first cache,
so that a step reads and writes the memory of a wide network once."""


# Sums may be reassociated (that is what vectorises them); NaN and infinity keep their meaning,
# because divergence is recognised by them.
@njit(
    "int64(f8[:,::1], f8[::1], f8, f8, f8, f8[::1], f8[:,::1], i8[::1], f8[:,::1], f8[:,:,::1],"
    " f8[:,::1])",
    cache=True,
    error_model="numpy",
    fastmath={"reassoc", "nsz", "contract", "arcp"},
)
def descend(x, y, kappa, slope, step, a, w, record, record_a, record_w, record_h):
    """Step `a` (m,) and `w` (d, m) in place; fill the records; return how many were filled.

    One step is w_j += step a_j D_j and a_j += step <D_j, w_j> with
    D_j = kappa sum_k (y_k - h_k) s'(<w_j, x_k>) x_k; the second is sum_k r_k s(<w_j, x_k>) because
    s is homogeneous. Both right-hand sides are taken before the step. `record` is increasing and
    not empty. The loop ends early, with fewer records, at a prediction that is not finite.
    """
    n, d = x.shape
    m = a.shape[0]
    z = np.empty((n, m))
    gradient = np.empty((d, BLOCK))
    change = np.empty(BLOCK)
    h = np.empty(n)
    r = np.zeros(n)
    filled = 0
    iteration = 0
    while True:
        for k in range(n):
            h[k] = 0.0
        for first in range(0, m, BLOCK):
            last = min(first + BLOCK, m)
            size = last - first
            aj = a[first:last]
            if iteration > 0:
                for i in range(d):
                    for j in range(size):
                        gradient[i, j] = 0.0
                for k in range(n):
                    zk = z[k, first:last]
                    rk = r[k]
                    for j in range(size):
                        zk[j] = rk if zk[j] > 0.0 else rk * slope
                    for i in range(d):
                        xki = x[k, i]
                        gi = gradient[i]
                        for j in range(size):
                            gi[j] += xki * zk[j]
                for j in range(size):
                    change[j] = 0.0
                for i in range(d):
                    wi = w[i, first:last]
                    gi = gradient[i]
                    for j in range(size):
                        change[j] += wi[j] * gi[j]
                        wi[j] += aj[j] * gi[j]
                for j in range(size):
                    aj[j] += change[j]
            for k in range(n):
                zk = z[k, first:last]
                for j in range(size):
                    zk[j] = 0.0
                for i in range(d):
                    xki = x[k, i]
                    wi = w[i, first:last]
                    for j in range(size):
                        zk[j] += xki * wi[j]
                total = 0.0
                for j in range(size):
                    total += aj[j] * (zk[j] if zk[j] > 0.0 else slope * zk[j])
                h[k] += total
        if iteration == record[filled]:
            record_a[filled] = a
            record_w[filled] = w
            record_h[filled] = h
            filled += 1
            if filled == record.shape[0] or not np.isfinite(h.sum()):
                return filled
        for k in range(n):
            r[k] = step * kappa * (y[k] - h[k])
        iteration += 1
