"""The reference solver is itself proved here: closed form, self-convergence in the tolerance,
the step length and the order, an independent 34-digit solver in Cartesian coordinates, and the
differential inclusion checked by a box-constrained least-squares routine."""

import decimal
from decimal import Decimal as Dec
from itertools import product
from operator import mul

import numpy as np
import pytest
from reference import located
from reference.gauss import Gauss
from reference.located import LD, OFF, ON, REST, SLIDE, solve
from scipy.optimize import lsq_linear

X1, Y1 = np.array([[-0.5, 1.0], [2.0, 1.0]]), np.array([-1.0, 1.0])
X2 = np.c_[[-1.5, -1.0, 0.0, 0.25, 2.0], np.ones(5)]
Y2 = np.array([0.7, -0.3, -0.3, 0.4, 0.2])


def start(m, d, scale, seed):
    g = np.random.default_rng(seed)
    w = g.standard_normal((m, d)).astype(LD)
    size = np.sqrt((w * w).sum(1))
    return g.choice([-1.0, 1.0], m), np.log(size) + np.log(LD(scale)), w / size[:, None]


def weights(o):
    return np.exp(o["log_w"])[..., None] * o["u"]


def apart(a, b):
    """Largest error of a neuron's weights relative to its own norm, over neurons and times."""
    d = weights(a) - weights(b)
    return float((np.sqrt((d * d).sum(-1)) / np.exp(b["log_w"])).max())


def small(seed):
    g = np.random.default_rng(1000 + seed)
    n, d, m = int(g.integers(4, 9)), int(g.integers(3, 6)), int(g.integers(10, 21))
    x, y = g.standard_normal((n, d)), g.standard_normal(n)
    return (x, y, *start(m, d, "1e-3", seed), LD(1) / n)


PROBLEMS = {
    "two points": ((X1, Y1, *start(60, 2, LD("1e-6") / np.sqrt(LD(60)), 0), 1), [5, 10, 15], 28),
    "two points, 1e-40": ((X1, Y1, *start(60, 2, LD("1e-40") / np.sqrt(LD(60)), 0), 1), [45], 28),
    "five points": (
        (X2, Y2, *start(60, 2, LD("1e-4") / np.sqrt(LD(60)), 0), LD(2) / 5),
        [15, 30],
        60,
    ),
    "n > d": (small(1), [10, 25], 60),
    "n < d": (small(13), [10, 30], 40),
}


# ------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("scale", ["1e-3", "1e-100"])
@pytest.mark.parametrize("label", [0.7, -1.3])
def test_one_aligned_neuron(scale, label):
    """h = a w.x on one example solves the logistic equation h' = 2 kappa |x| h (y - h)."""
    x, kappa = np.array([[0.6, -0.8, 1.5]]), LD(0.75)
    xn = np.sqrt((x.astype(LD) ** 2).sum())
    s, y = np.sign(label), LD(abs(label))
    lw = np.log(LD(scale))
    half = (np.log(y / xn) - 2 * lw) / (2 * kappa * xn * y)  # about where h = y/2
    t = np.array([0.3, 0.9, 1.0, 1.05, 1.5], LD) * half
    o = solve(x, [label], [s], [lw], x / xn, kappa, t)
    # h0/y underflows no longdouble
    h0 = xn * np.exp(2 * lw)
    h = y / (1 + (y / h0 - 1) * np.exp(-2 * kappa * xn * y * t))
    got = xn * np.exp(2 * o["log_w"][:, 0])
    assert np.abs(got / h - 1).max() < 3e-16  # 2 log_w near -460 is itself good to 3e-17
    assert not o["events"]


def test_oblique_neuron_dies_on_the_kink_and_stays():
    """One example: a neuron of the wrong sign is pushed out to the kink and dies there, while a
    second one fits the label.  The components across x are conserved."""
    x = np.array([[2.0, 1.0]])
    u = np.array([[0.6, 0.8], [0.8, 0.6]], LD)
    lw = np.log(np.array([0.5, 0.01], LD))
    o = solve(x, [-1.0], [1, -1], lw, u, 1, [0.1, 0.2, 0.5, 2, 20])
    across = weights(o) @ np.array([-1, 2], LD)
    w0 = np.exp(lw)[:, None] * u / np.sqrt((u * u).sum(1))[:, None]
    assert np.abs(across / (w0 @ np.array([-1, 2], LD)) - 1).max() < 1e-16
    assert [e[1:] for e in o["events"]] == [(0, 0, "cross")]
    assert o["pattern"][-1].tolist() == [[REST], [ON]]
    assert np.abs(weights(o)[-1, 0] @ x[0]) < 1e-18
    assert o["loss"][-1] < 1e-24


def test_dead_on_a_kink_is_not_revived():
    """Orthogonal examples.  Neuron 1 overshoots example 0, so that neuron 0 is pushed to its
    kink and stops there, off; neuron 2, growing on example 1, then pulls h_0 below its label.
    The residual now has the sign that would revive neuron 0, and it must stay off."""
    q = np.linalg.qr(np.random.default_rng(3).standard_normal((3, 3)))[0]
    x, y = q * np.array([1.0, 1.3, 0.7])[:, None], np.array([1.0, -3.0, 0.8])
    u = np.array([0.1 * q[0] + q[2], q[0] + 0.2 * q[2], q[0] + 0.4 * q[1]])
    o = solve(x, y, [1, 1, -1], np.log(np.array([0.5, 1.4, 0.3], LD)), u, 1, np.arange(1, 121) / 8)
    g = o["u"] @ x.astype(LD).T
    r0 = 1 - (np.array([1, 1, -1]) * np.exp(2 * o["log_w"]) * np.maximum(g[..., 0], 0)).sum(1)
    dead = o["pattern"][:, 0, 0] == REST
    died = int(np.argmax(dead))
    assert dead[died:].all() and r0[died - 1] < -0.01 and (r0[died:] > 0.01).any()
    assert np.abs(g[died:, 0, 0]).max() < 1e-18
    assert (o["pattern"][:, 0, 2] == ON).all()  # alive elsewhere


# ------------------------------------------------------------------ self-convergence


def order(monkeypatch, stages):
    monkeypatch.setattr(located, "GAUSS", Gauss(stages))


@pytest.mark.parametrize("name", PROBLEMS)
def test_self_convergence(name, monkeypatch):
    args, times, least = PROBLEMS[name]
    coarse = solve(*args, times)
    fine = solve(*args, times, tol=1e-18, reach=1.0)
    assert apart(coarse, fine) < 2e-16
    assert len(fine["events"]) >= least
    assert sorted(e[1:] for e in coarse["events"]) == sorted(e[1:] for e in fine["events"])
    one, two = (sorted((*e[1:], e[0]) for e in o["events"]) for o in (coarse, fine))
    assert max(abs(a[3] - b[3]) for a, b in zip(one, two, strict=True)) < 1e-10
    assert max(coarse["worst_landing"], fine["worst_landing"]) < 1
    order(monkeypatch, 11)
    other = solve(*args, times)
    assert apart(other, fine) < 2e-16
    assert sorted(e[1:] for e in other["events"]) == sorted(e[1:] for e in fine["events"])


def test_a_poor_tolerance_is_seen(monkeypatch):
    """The comparison above can fail: with a low order and no tolerance the runs do part."""
    args, times, _ = PROBLEMS["n > d"]
    fine = solve(*args, times)
    order(monkeypatch, 4)
    gaps = [apart(solve(*args, times, tol=tol), fine) for tol in (1e-4, 1e-8)]
    assert gaps[0] > 1e-12 and gaps[1] < gaps[0] / 100


# ------------------------------------------------------------------ the inclusion


@pytest.mark.parametrize("seed", [2, 13])
def test_velocity_is_the_minimum_norm_element(seed):
    x, y, sign, lw, u, kappa = small(seed)
    e, mids = 1e-4, np.arange(3.05, 40, 3.0)
    o = solve(x, y, sign, lw, u, kappa, np.sort(np.concatenate([mids - e, mids, mids + e])))
    sliding = 0
    for i, t in enumerate(mids):
        if any(t - 2 * e < ev[0] < t + 2 * e for ev in o["events"]):
            continue
        lo, mid, hi = 3 * i, 3 * i + 1, 3 * i + 2
        um, w2 = o["u"][mid].astype(float), np.exp(2 * o["log_w"][mid]).astype(float)
        g = o["u"][mid] @ x.astype(LD).T
        r = float(kappa) * (y - (sign * w2) @ np.maximum(g.astype(float), 0))
        for j in range(len(sign)):
            on = np.asarray(g[j] > 1e-15)
            kink = np.nonzero((np.abs(g[j]) <= 1e-15) & (sign[j] * r < 0))[0]
            D = (r * on) @ x
            if len(kink):
                fit = lsq_linear(
                    (r[kink, None] * x[kink]).T, -D, bounds=(0, 1), tol=1e-15, method="bvls"
                )
                D = D + (fit.x * r[kink]) @ x[kink]
                sliding += 1
            du = (o["u"][hi, j] - o["u"][lo, j]).astype(float) / (2 * e)
            dr = float(o["log_w"][hi, j] - o["log_w"][lo, j]) / (2 * e)
            assert abs(dr - sign[j] * (D @ um[j])) < 1e-6
            assert np.abs(du - sign[j] * (D - (D @ um[j]) * um[j])).max() < 1e-6
    assert sliding > 10


def test_loss_falls_and_slides_stay_on_their_kink():
    args, _, _ = PROBLEMS["five points"]
    times = np.linspace(1, 40, 40)
    o = solve(*args, times)
    assert (np.diff(o["loss"]) < 0).all()
    held = (o["pattern"] == SLIDE) | (o["pattern"] == REST)
    g = o["u"] @ X2.astype(LD).T
    assert held.any() and np.abs(g[held]).max() < 1e-18
    assert (g[o["pattern"] == ON] > -1e-17).all() and (g[o["pattern"] == OFF] < 1e-17).all()


# ------------------------------------------------------------------ 34 digits, Cartesian


def dec(v):
    return Dec(np.format_float_scientific(LD(v), precision=30, unique=False))


def gauss(a, b):
    a, b, n = [row[:] for row in a], b[:], len(a)
    for i in range(n):
        p = max(range(i, n), key=lambda q: abs(a[q][i]))
        a[i], a[p], b[i], b[p] = a[p], a[i], b[p], b[i]
        for q in range(n):
            if q != i:
                f = a[q][i] / a[i][i]
                a[q] = [v - f * w for v, w in zip(a[q], a[i], strict=False)]
                b[q] -= f * b[i]
    return [b[i] / a[i][i] for i in range(n)]


def dot(a, b):
    return sum(map(mul, a, b))


class Cartesian:
    """Gradient flow of (a, w) in decimal arithmetic: Gragg's method with extrapolation, each
    event found by the secant method on the step length."""

    LEVELS = 10

    def __init__(self, x, y, a, w, kappa):
        self.x = [[Dec(float(v)) for v in row] for row in x]
        self.y = [Dec(float(v)) for v in y]
        self.kappa, self.n, self.d, self.m = dec(kappa), len(y), len(x[0]), len(a)
        self.z = [v for aj, wj in zip(a, w, strict=False) for v in (aj, *wj)]
        self.s = [1 if v > 0 else -1 for v in a]
        self.xx = [[dot(p, q) for q in self.x] for p in self.x]
        self.t, self.events, self.pat = Dec(0), [], []
        for j in range(self.m):
            self.pat.append(["on" if dot(w[j], xk) > 0 else "off" for xk in self.x])

    def w(self, z, j):
        return z[j * (self.d + 1) + 1 : (j + 1) * (self.d + 1)]

    def res(self, z):
        h = [Dec(0)] * self.n
        for j in range(self.m):
            aj, wj = z[j * (self.d + 1)], self.w(z, j)
            for k in range(self.n):
                if self.pat[j][k] == "on":
                    h[k] += aj * dot(wj, self.x[k])
        return [self.kappa * (p - q) for p, q in zip(self.y, h, strict=False)]

    def pull(self, pat, r):
        """D and the multipliers (times r) of the sliding kinks."""
        on = [k for k in range(self.n) if pat[k] == "on"]
        held = [k for k in range(self.n) if pat[k] == "slide"]
        c = {k: r[k] for k in on}
        if held:
            rhs = [-sum((r[i] * self.xx[i][k] for i in on), Dec(0)) for k in held]
            c.update(
                zip(held, gauss([[self.xx[p][q] for q in held] for p in held], rhs), strict=False)
            )
        D = [dot(c.values(), [self.x[k][i] for k in c]) for i in range(self.d)]
        return D, {k: c[k] for k in held}

    def field(self, z):
        r, out = self.res(z), []
        for j in range(self.m):
            D, _ = self.pull(self.pat[j], r)
            out.append(dot(self.w(z, j), D))
            out += [z[j * (self.d + 1)] * v for v in D]
        return out

    def step(self, H):
        z0, f0, table = self.z, self.field(self.z), []
        for lev in range(1, self.LEVELS + 1):
            n = 2 * lev
            h = H / n
            a, b = z0, [p + h * q for p, q in zip(z0, f0, strict=False)]
            for _ in range(n - 1):
                a, b = b, [p + 2 * h * q for p, q in zip(a, self.field(b), strict=False)]
            row = [[(p + q + h * v) / 2 for p, q, v in zip(b, a, self.field(b), strict=False)]]
            for k, prev in enumerate(table, 1):
                f = (Dec(lev) / (lev - k)) ** 2 - 1
                row.append([p + (p - q) / f for p, q in zip(row[-1], prev, strict=False)])
            table = row
        size = [
            max(abs(v) for v in z0[j * (self.d + 1) : (j + 1) * (self.d + 1)])
            for j in range(self.m)
        ]
        err = max(
            abs(p - q) / size[i // (self.d + 1)]
            for i, (p, q) in enumerate(zip(row[-1], row[-2], strict=False))
        )
        return row[-1], err

    def margins(self, z):
        r, out = self.res(z), {}
        for j in range(self.m):
            wj = self.w(z, j)
            size = max(abs(v) for v in wj)
            _, c = self.pull(self.pat[j], r)
            for k in range(self.n):
                if self.pat[j][k] == "slide":
                    out[j, k, "off"] = -self.s[j] * c[k]
                    out[j, k, "on"] = -self.s[j] * (r[k] - c[k])
                elif self.pat[j][k] != "dead":
                    out[j, k, ""] = (
                        dot(wj, self.x[k]) / size * (1 if self.pat[j][k] == "on" else -1)
                    )
        return out

    def turn(self, j, k, to):
        if to:
            self.pat[j][k] = to
            self.events.append((self.t, j, k, "leave"))
            return
        old, r = self.pat[j][:], self.res(self.z)
        kinks = [i for i in range(self.n) if i == k or old[i] in ("slide", "dead")]
        for states in product(("off", "on", "slide"), repeat=len(kinks)):
            pat = old[:]
            for i, v in zip(kinks, states, strict=False):
                pat[i] = v
            D, c = self.pull(pat, r)
            fine = True
            for i in kinks:
                p, eps = self.s[j] * dot(D, self.x[i]), Dec("1e-22")
                if pat[i] == "slide":
                    fine &= self.s[j] * r[i] < 0 and 0 <= c[i] / r[i] <= 1
                elif pat[i] == "on":
                    fine &= p > eps
                else:
                    fine &= p < eps
                    pat[i] = "dead" if abs(p) <= eps else "off"
            if fine:
                break
        else:
            raise RuntimeError("no consistent pattern")
        self.pat[j] = pat
        for i in kinks:
            if old[i] != pat[i] and (old[i], pat[i]) not in (("off", "dead"), ("dead", "off")):
                kind = "slide" if pat[i] == "slide" else "leave" if old[i] == "slide" else "cross"
                self.events.append((self.t, j, i, kind))

    def run(self, T, H=Dec("0.3"), tol=Dec("1e-21")):
        T, top, H = Dec(T), H, H
        tiny = Dec("1e-25")
        while self.t < T:
            h = min(H, T - self.t)
            z, err = self.step(h)
            if err > tol:
                H = h * Dec("0.6")
                continue
            H = min(top, h * Dec("1.2") if h == H else H)
            before, after = self.margins(self.z), self.margins(z)
            bad = [q for q, v in after.items() if v < -tiny]
            # multipliers at their bound already: others left this very instant
            late = [q for q in bad if q[2] and before[q] < 1000 * tiny]
            if late:
                self.turn(*late[0])
                continue
            hit = None
            while bad:
                # the earliest of those that are past their kink, by the secant method
                q = min(bad, key=lambda q: before[q] / (before[q] - after[q]))
                lo, hi, flo, fhi, side = Dec(0), h, before[q], after[q], 0
                for _ in range(60):
                    h = lo + (hi - lo) * flo / (flo - fhi)
                    z, _ = self.step(h)
                    fm = self.margins(z)[q]
                    if abs(fm) < tiny / 100:
                        break
                    if fm > 0:
                        lo, flo, fhi, side = h, fm, fhi / (2 if side > 0 else 1), 1
                    else:
                        hi, fhi, flo, side = h, fm, flo / (2 if side < 0 else 1), -1
                else:
                    raise RuntimeError("event not located")
                hit, after = q, self.margins(z)
                bad = [p for p, v in after.items() if v < -tiny and p != q]
            assert h > 0
            self.z, self.t = z, self.t + h
            if hit:
                self.turn(*hit)
        return self


def net(events):
    """(neuron, example, kind, time), sorted, without a leave taken back within 1e-15: neurons
    that share their on-set share their multipliers, and leave together."""
    out = []
    for t, j, k, kind in sorted(events, key=lambda e: (e[1], e[2], e[0])):
        if (
            out
            and out[-1][:2] == (j, k)
            and {out[-1][2], kind} == {"leave", "slide"}
            and t - out[-1][3] < 1e-15
        ):
            out.pop()
        else:
            out.append((j, k, kind, t))
    return out


# d=2: three neurons slide on one kink and leave it at one instant; d=3: one slides on two kinks
CASES = {"d=2": (2, 5, 41), "d=3": (3, 5, 15)}


@pytest.mark.parametrize("name", CASES)
def test_34_digit_cartesian(name):
    d, n, seed = CASES[name]
    m, T = 3, 8
    g = np.random.default_rng(seed)
    x, y, w = g.standard_normal((n, d)), 2 * g.standard_normal(n), 1e-3 * g.standard_normal((m, d))
    sign = g.choice([-1, 1], m)
    wl = w.astype(LD)
    lw = np.log((wl * wl).sum(1)) / 2
    o = solve(x, y, sign, lw, wl, LD(2) / n, [T])
    with decimal.localcontext(prec=34):
        wd = [[Dec(float(v)) for v in row] for row in w]
        ad = [int(s) * dot(row, row).sqrt() for s, row in zip(sign, wd, strict=False)]
        c = Cartesian(x, y, ad, wd, LD(2) / n).run(T)
        gap = max(
            abs(dec(v) - p) / abs(c.z[j * (d + 1)])
            for j in range(m)
            for v, p in zip(weights(o)[0, j], c.w(c.z, j), strict=True)
        )
        loss = sum(v * v for v in c.res(c.z)) / (2 * c.kappa)
        assert gap < Dec("1e-16")
        assert abs(dec(o["loss"][0]) / loss - 1) < Dec("1e-16")
        one, two = net(o["events"]), net(c.events)
        assert [e[:3] for e in one] == [e[:3] for e in two]
        assert max(abs(Dec(p[3]) - q[3]) for p, q in zip(one, two, strict=True)) < Dec("1e-14")
        # balance, which the decimal solver is free to lose
        assert max(
            abs(dot(c.w(c.z, j), c.w(c.z, j)) / c.z[j * (d + 1)] ** 2 - 1) for j in range(m)
        ) < Dec("1e-20")
    assert {e[3] for e in o["events"]} == {"cross", "slide", "leave"}
