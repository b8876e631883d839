"""Gradient descent with a small step, in plain coordinates: the other independent method.

theta <- theta - h grad l(theta) with relu'(0) = 0, for one hidden layer, any slope, loss and
number of outputs. Its error is of first order in h. Where neurons only cross kinks or slide along
them the error is no smooth function of h, but `flow` still removes most of it by extrapolation
to h = 0 and returns how far the last two steps were apart.
"""

import numpy as np
from numba import njit

KINDS = {"square": 0, "logistic": 1, "exponential": 2, "correlation": 3, "cross_entropy": 4}


@njit(cache=True)
def _descend(x, y, kind, factor, slope, theta, h, steps):
    n, d = x.shape
    outputs = y.shape[1]
    m = len(theta)
    z = np.empty((m, n))
    r = np.empty((n, outputs))
    move = np.empty(outputs + d)
    for _ in range(steps):
        r[:] = 0.0
        for j in range(m):
            for k in range(n):
                s = 0.0
                for i in range(d):
                    s += theta[j, outputs + i] * x[k, i]
                z[j, k] = s
                if s < 0.0:
                    s *= slope
                for c in range(outputs):
                    r[k, c] += theta[j, c] * s
        for k in range(n):
            if kind == 4:
                top = r[k].max()
                total = 0.0
                for c in range(outputs):
                    r[k, c] = np.exp(r[k, c] - top)
                    total += r[k, c]
                for c in range(outputs):
                    r[k, c] = factor * (y[k, c] - r[k, c] / total)
            else:
                for c in range(outputs):
                    h_kc, y_kc = r[k, c], y[k, c]
                    if kind == 0:
                        r[k, c] = factor * (y_kc - h_kc)
                    elif kind == 1:
                        r[k, c] = factor * y_kc / (1.0 + np.exp(y_kc * h_kc))
                    elif kind == 2:
                        r[k, c] = factor * y_kc * np.exp(-y_kc * h_kc)
                    else:
                        r[k, c] = factor * y_kc
        for j in range(m):
            move[:] = 0.0
            for k in range(n):
                on = z[j, k] > 0.0
                s = 1.0 if on else slope
                if s == 0.0:
                    continue
                pull = 0.0
                for c in range(outputs):
                    move[c] += r[k, c] * s * z[j, k]
                    pull += r[k, c] * theta[j, c]
                for i in range(d):
                    move[outputs + i] += s * pull * x[k, i]
            for i in range(outputs + d):
                theta[j, i] += h * move[i]


def descend(x, y, kind, factor, slope, theta, times, h):
    """Weights (T, m, C + d) of gradient descent with steps of about h at increasing times."""
    theta, now, out = np.array(theta, float), 0.0, []
    x, y = np.ascontiguousarray(x, float), np.ascontiguousarray(y, float)
    for t in times:
        steps = max(1, round((t - now) / h))
        _descend(x, y, KINDS[kind], factor, slope, theta, (t - now) / steps, steps)
        out.append(theta.copy())
        now = t
    return np.array(out)


def flow(x, y, kind, factor, slope, theta, times, h):
    """Extrapolation of descent with h and h/2 to h = 0: weights (T, m, C + d), and how far the
    two were apart at each time."""
    coarse, fine = (descend(x, y, kind, factor, slope, theta, times, q) for q in (h, h / 2))
    return 2 * fine - coarse, np.abs(fine - coarse).max(axis=(1, 2))
