"""Gauss collocation on [0, 1] in 80-bit floats, and the linear algebra that NumPy lacks there."""

import mpmath
import numpy as np
from numpy import ndarray

LD = np.longdouble
DENSE = 64


def legendre(n, z):
    """Shifted Legendre polynomials P_0..P_n on [0, 1] at z, by recurrence."""
    p = [z * 0 + 1, 2 * z - 1]
    for k in range(1, n):
        p.append(((2 * k + 1) * (2 * z - 1) * p[k] - k * p[k - 1]) / (k + 1))
    return p[: n + 1]


class Gauss:
    """Tables of the method with `stages` nodes, of order 2 stages.

    `nodes` and `weights` of the quadrature; `quad` integrates values at the nodes up to each
    node; `coef` gives their shifted Legendre coefficients; `grid_matrix` interpolates values at
    `points` (zero, the nodes, one) on `grid`, fine enough to see every change of sign.
    """

    def __init__(self, stages: int) -> None:
        s = self.stages = stages
        with mpmath.workdps(45):
            nodes, weights = zip(*(_node(s, i) for i in range(s)), strict=True)
            values = [legendre(s, z) for z in nodes]
            coef = [[(2 * q + 1) * weights[i] * values[i][q] for i in range(s)] for q in range(s)]
            quad = []
            for z in nodes:
                p = legendre(s + 1, z)
                prim = [z] + [(p[q + 1] - p[q - 1]) / (2 * (2 * q + 1)) for q in range(1, s)]
                quad.append([sum(prim[q] * coef[q][i] for q in range(s)) for i in range(s)])
            points = [mpmath.mpf(0), *nodes, mpmath.mpf(1)]
            bary = [
                1 / mpmath.fprod(4 * (a - b) for q, b in enumerate(points) if q != i)
                for i, a in enumerate(points)
            ]
            big = max(abs(v) for v in bary)
            self.nodes, self.weights = _array(nodes), _array(weights)
            self.coef = np.array([_array(v) for v in coef])
            self.quad = np.array([_array(v) for v in quad])
            self.points, self.bary = _array(points), _array([v / big for v in bary])
        grid = np.sort(np.concatenate([np.arange(1, DENSE, dtype=LD) / DENSE, self.points]))
        self.grid = grid[np.concatenate([[True], np.diff(grid) > 1e-6])]
        self.grid_matrix = np.array([self.row(t) for t in self.grid], dtype=LD)

    def row(self, tau) -> ndarray:
        """Interpolation row at tau for values at `points`."""
        d = tau - self.points
        hit = np.nonzero(d == 0)[0]
        if len(hit):
            unit = np.zeros(len(d), LD)
            unit[hit[0]] = 1
            return unit
        w = self.bary / d
        return w / w.sum()

    def slope(self, values, tau):
        """The derivative at tau of the polynomial through values at `points`."""
        e = LD(1) / 2**12
        lo, hi = max(tau - e, LD(0)), min(tau + e, LD(1))
        return (self.row(hi) @ values - self.row(lo) @ values) / (hi - lo)

    def root(self, v, a, b):
        """A zero in [a, b], where the polynomial changes sign, by the Illinois method."""
        fa, fb, side = self.row(a) @ v, self.row(b) @ v, 0
        for _ in range(100):
            t = (a * fb - b * fa) / (fb - fa)
            ft = self.row(t) @ v
            if ft == 0 or abs(b - a) < 1e-18 or not a < t < b:
                break
            if ft * fb > 0:
                b, fb = t, ft
                fa = fa / 2 if side == -1 else fa
                side = -1
            else:
                a, fa = t, ft
                fb = fb / 2 if side == 1 else fb
                side = 1
            if abs(ft) < 1e-19:
                break
        return t

    def first(self, E, noise):
        """The first violation of E >= 0, E (points, columns) being values at `points`.

        None, ("start", [columns]) for columns negative from the start on, or ("root", column,
        tau, slope).
        """
        lo, hi = E.min(0), E.max(0)
        cand = np.nonzero(lo < 0.25 * (hi - lo) + 2 * noise)[0]
        if not len(cand):
            return None
        V = self.grid_matrix @ E[:, cand]
        firsts = []
        for c in range(len(cand)):
            v, nz = V[:, c], noise[cand[c]]
            bad = np.nonzero(v < -nz)[0]
            tau = self.grid[bad[0]] if len(bad) else None
            # a dip between grid points
            mid = np.nonzero((v[1:-1] <= v[:-2]) & (v[1:-1] <= v[2:]) & (v[1:-1] >= -nz))[0] + 1
            for i in mid:
                if len(bad) and i > bad[0]:
                    break
                top = max(v[i - 1], v[i + 1])
                if top < 10 * nz or v[i] > top - v[i] + nz:
                    continue
                a, b = self.grid[i - 1], self.grid[i + 1]
                for _ in range(60):
                    t1, t2 = a + (b - a) * LD("0.381966"), a + (b - a) * LD("0.618034")
                    if self.row(t1) @ E[:, cand[c]] < self.row(t2) @ E[:, cand[c]]:
                        b = t2
                    else:
                        a = t1
                if self.row((a + b) / 2) @ E[:, cand[c]] < -nz:
                    tau = (a + b) / 2
                    break
            if tau is not None:
                pos = np.nonzero((v > nz) & (self.grid < tau))[0]
                firsts.append((tau, self.grid[pos[-1]] if len(pos) else None, cand[c]))
        if not firsts:
            return None
        start = [c for tau, a, c in firsts if a is None]
        if start:
            return "start", start
        earliest = min(f[0] for f in firsts)
        best = None
        for tau, a, c in firsts:
            if a < earliest:
                t = self.root(E[:, c], a, tau)
                if best is None or t < best[0]:
                    best = (t, c)
        return "root", best[1], best[0], self.slope(E[:, best[1]], best[0])


def _node(s, i):
    z = (1 - mpmath.cos(mpmath.pi * (i + mpmath.mpf("0.75")) / (s + mpmath.mpf("0.5")))) / 2
    for _ in range(60):
        p = legendre(s, z)
        dp = s * ((2 * z - 1) * p[s] - p[s - 1]) / (2 * z * (z - 1))
        dz = p[s] / dp
        z -= dz
        if abs(dz) < mpmath.mpf(10) ** -42:
            break
    return z, 1 / (dp**2 * z * (1 - z))


def _array(values) -> ndarray:
    return np.array([LD(mpmath.nstr(v, 30)) for v in values], dtype=LD)


def solve(a, b):
    """Gaussian elimination with pivoting."""
    a, b, n = a.copy(), b.copy(), len(a)
    for i in range(n):
        p = i + int(np.argmax(np.abs(a[i:, i])))
        if a[p, i] == 0:
            raise np.linalg.LinAlgError("dependent kinks")
        a[[i, p]], b[[i, p]] = a[[p, i]], b[[p, i]]
        for q in range(i + 1, n):
            f = a[q, i] / a[i, i]
            a[q] -= f * a[i]
            b[q] -= f * b[i]
    for i in range(n - 1, -1, -1):
        b[i] = (b[i] - a[i, i + 1 :] @ b[i + 1 :]) / a[i, i]
    return b


def basis(rows):
    """Orthonormal basis of the span of the rows (Gram-Schmidt, repeated)."""
    q = []
    for v in rows:
        v = v / np.sqrt(v @ v)
        for _ in range(3):
            for e in q:
                v = v - (v @ e) * e
            left = np.sqrt(v @ v)
            if left < 1e-14:
                break
            v = v / left
        else:
            q.append(v)
    return np.array(q, dtype=LD).reshape(len(q), np.shape(rows)[1])


def unproject(v, q):
    """v, or its last axis, without its part in the span of the orthonormal rows q."""
    for _ in range(2):
        for e in q:
            v = v - np.multiply.outer(v @ e, e)
    return v
