"""The compiled field of a two-layer network in polar coordinates, loaded when it is wanted."""

import numpy as np
from numba import njit


@njit(cache=True)
def field(state, change, x, turned, y, factor, slope, sign):
    m, (n, d) = sign.shape[0], x.shape
    rho, u = state[:m], state[m:].reshape(m, d)
    z = np.dot(u, turned)
    h = np.zeros(n)
    for j in range(m):
        share = sign[j] * np.exp(2.0 * rho[j])
        for k in range(n):
            h[k] += share * (z[j, k] if z[j, k] > 0.0 else slope * z[j, k])
    for k in range(n):
        h[k] = factor * (y[k] - h[k])
    for j in range(m):
        for k in range(n):
            z[j, k] = sign[j] * h[k] * (1.0 if z[j, k] > 0.0 else slope)
    force = np.dot(z, x)
    for j in range(m):
        along = 0.0
        for i in range(d):
            along += force[j, i] * u[j, i]
        change[j] = along
        for i in range(d):
            change[m + j * d + i] = force[j, i] - along * u[j, i]
