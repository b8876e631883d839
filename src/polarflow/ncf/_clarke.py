"""The minimum-norm element of a Clarke subdifferential, in compiled loops.

On kinks w.e_i = 0, i in S, the subdifferential of a neuron's NCF in w is the zonotope
{d + sum_i nu_i e_i : lower_i <= nu_i <= upper_i} when the normals e_i are independent, so its
element of least norm solves a least-squares problem with bounds. The active-set method below is
the bounded-variable least squares of Stark and Parker (1995), on the normal equations, which are
small: S is the set of kinks that one neuron slides on.
"""

import numpy as np
from numba import njit

FREE, LOWER, UPPER = 0, -1, 1


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def _dot(u, v):
    t = 0.0
    for c in range(len(u)):
        t += u[c] * v[c]
    return t


@njit(cache=True, error_model="numpy")
def _solve_free(gram, rhs, status, nu, out, chol):
    """Solve for the free multipliers with the others fixed; dependent normals keep their value."""
    s = len(rhs)
    free = np.empty(s, np.int64)
    k = 0
    for i in range(s):
        if status[i] == FREE:
            free[k] = i
            k += 1
    for i in range(k):
        out[i] = rhs[free[i]]
        for j in range(s):
            if status[j] != FREE:
                out[i] -= gram[free[i], j] * nu[j]
    for i in range(k):
        for j in range(i + 1):
            t = gram[free[i], free[j]]
            for b in range(j):
                t -= chol[i, b] * chol[j, b]
            if i == j:
                chol[i, i] = np.sqrt(t) if t > 1e-13 * gram[free[i], free[i]] else np.inf
            else:
                chol[i, j] = t / chol[j, j]
    for i in range(k):
        for b in range(i):
            out[i] -= chol[i, b] * out[b]
        out[i] /= chol[i, i]
    for i in range(k - 1, -1, -1):
        for b in range(i + 1, k):
            out[i] -= chol[b, i] * out[b]
        out[i] /= chol[i, i]
    return free, k


@njit(cache=True, error_model="numpy")
def minimum_norm(base, normals, lower, upper, nu, status):
    """Minimise |base + sum_i nu_i normals_i| over lower <= nu <= upper.

    **Arguments:**

    - `base`: the vector d, shape `(q,)`.
    - `normals`: the vectors e_i as rows, shape `(s, q)`.
    - `lower`, `upper`: bounds, shape `(s,)`.
    - `nu`, `status`: outputs, shape `(s,)`; the status is `FREE`, `LOWER` or `UPPER`.

    **Returns:** True unless the iteration cap was met.
    """
    s = len(normals)
    gram = np.zeros((s, s))
    rhs = np.zeros(s)
    scale = _dot(base, base)
    for i in range(s):
        for j in range(i + 1):
            t = _dot(normals[i], normals[j])
            gram[i, j] = t
            gram[j, i] = t
        rhs[i] = -_dot(normals[i], base)
        scale += max(abs(lower[i]), abs(upper[i])) ** 2 * gram[i, i]
        status[i] = FREE
        nu[i] = 0.0
    tol = 1e-13 * np.sqrt(scale)
    trial = np.empty(s)
    chol = np.empty((s, s))

    free, k = _solve_free(gram, rhs, status, nu, trial, chol)
    inside = True
    for i in range(k):
        f = free[i]
        if trial[i] <= lower[f] + tol or trial[i] >= upper[f] - tol:
            inside = False
    if inside:
        for i in range(k):
            nu[free[i]] = trial[i]
        return True
    for i in range(k):
        f = free[i]
        if trial[i] <= lower[f] + tol:
            nu[f], status[f] = lower[f], LOWER
        elif trial[i] >= upper[f] - tol:
            nu[f], status[f] = upper[f], UPPER
        else:
            nu[f] = trial[i]

    for _ in range(20 * s + 20):
        # Bring the free multipliers to their optimum, fixing each one that meets a bound.
        while True:
            free, k = _solve_free(gram, rhs, status, nu, trial, chol)
            step = 1.0
            hit = -1
            for i in range(k):
                f = free[i]
                move = trial[i] - nu[f]
                if trial[i] < lower[f] + tol and move < 0.0:
                    t = max((lower[f] - nu[f]) / move, 0.0)
                elif trial[i] > upper[f] - tol and move > 0.0:
                    t = max((upper[f] - nu[f]) / move, 0.0)
                else:
                    continue
                if t < step or (t == step and hit < 0):
                    step, hit = t, f
            for i in range(k):
                f = free[i]
                nu[f] += step * (trial[i] - nu[f])
            if hit < 0:
                break
            if abs(nu[hit] - lower[hit]) <= abs(nu[hit] - upper[hit]):
                nu[hit], status[hit] = lower[hit], LOWER
            else:
                nu[hit], status[hit] = upper[hit], UPPER
        # Free the bound multiplier that violates optimality most.
        worst, best = -1, tol
        for i in range(s):
            if status[i] == FREE:
                continue
            g = -rhs[i]
            for j in range(s):
                g += gram[i, j] * nu[j]
            violation = -g if status[i] == LOWER else g
            if upper[i] - lower[i] > 2 * tol and violation > best * max(1.0, gram[i, i]):
                worst, best = i, violation
        if worst < 0:
            return True
        status[worst] = FREE
    return False
