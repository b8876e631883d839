"""Reference solver for the gradient flow of two-layer ReLU networks with square loss.

Method, chosen to share nothing with a Taylor-series engine: 80-bit floats, the flow written
in polar coordinates (rho_j = ln|w_j|, u_j = w_j/|w_j|), Gauss collocation of order 32
solved by Picard iteration inside one fixed activation pattern (the smooth field, extended
beyond the kinks), and every event of every neuron located by repeating the step until it ends
on the kink.  Slow, simple, and meant to be certain.

Per neuron j and example k the pattern holds one of

    OFF    u_j.x_k < 0             contributes nothing
    ON     u_j.x_k > 0             contributes r_k x_k to D_j
    SLIDE  u_j.x_k = 0, held       contributes lam r_k x_k, 0 < lam < 1, with D_j.x_k = 0
    REST   u_j.x_k = 0, off        D_j.x_k = 0 without it: ReLU'(0) = 0, stays off

A step ends where u_j.x_k changes sign or where a multiplier lam meets 0 or 1.
"""

from itertools import product

import numpy as np

from .gauss import LD, Gauss, basis, legendre, unproject
from .gauss import solve as solve_linear

GAUSS = Gauss(16)

OFF, ON, SLIDE, REST = 0, 1, 2, 3
NOISE = LD(1e-18)  # margins smaller than this have no sign
REL = LD(1e-15)  # a slope D.x_k below REL * sum |r_i||x_i||x_k| is zero to rounding
H_ZERO = LD(1e-9)  # a margin negative from the start of a step this short is an event at its start


class _Flow:
    def __init__(self, x, y, sign, kappa):
        self.x, self.y, self.kappa = np.array(x, LD), np.array(y, LD), LD(kappa)
        self.n, self.d = self.x.shape
        self.sign = np.array(sign, LD)
        self.m = len(self.sign)
        self.xn = np.sqrt((self.x**2).sum(1))
        self.xh = self.x / np.where(self.xn > 0, self.xn, 1)[:, None]
        self.gram = self.x @ self.x.T
        cos = np.abs(self.xh @ self.xh.T) - np.eye(self.n)
        if (cos > 1 - 1e-12).any():
            raise ValueError("two examples share a kink: their multipliers are not unique")
        self.rhs_count = 0
        self.noise_r = 2e-19 * self.kappa * (np.abs(self.y).max() + LD(1e-300))
        m, n, d = self.m, self.n, self.d
        self.pat = np.zeros((m, n), int)
        self.D = np.zeros((m, n, d), LD)  # D_j = r @ D[j]
        self.XM = np.zeros((m, d, n), LD)
        self.still = np.zeros((m, n), bool)  # pairs without events
        self.q = {}  # neuron -> orthonormal basis of its held kinks
        self.slides = {}  # neuron -> (kinks, coefficients (len, n) of lam_k r_k in r)
        self.rests = {}  # neuron -> (kinks, coefficients (len, n) of D.x_k in r)

    # -------------------------------------------------------------- pattern

    def lam_coef(self, on, held):
        """Rows c with lam_k r_k = c_k @ r for the held kinks, and P x_i on the on-set."""
        xs = self.x[held]
        rhs = -(self.gram[held] * on[None, :])
        return solve_linear(xs @ xs.T, rhs)

    def install(self, js):
        for j in js:
            pat = self.pat[j]
            on = (pat == ON).astype(LD)
            sl, re = np.nonzero(pat == SLIDE)[0], np.nonzero(pat == REST)[0]
            for store in (self.q, self.slides, self.rests):
                store.pop(j, None)
            xo = self.x * on[:, None]
            if len(sl):
                self.slides[j] = (sl, self.lam_coef(on, sl))
            if len(re) and (on.any() or len(sl)):
                qs = basis(self.x[sl]) if len(sl) else ()
                self.rests[j] = (re, unproject(xo, qs) @ self.x[re].T)
            if len(sl) or len(re):
                self.q[j] = basis(self.x[np.concatenate([sl, re])])
                xo = unproject(xo, self.q[j])
                xo = np.where(np.sqrt((xo**2).sum(1))[:, None] <= 4e-19 * self.xn[:, None], 0, xo)
            self.D[j] = xo
            # off, and D_j.x_k = 0 whatever r: w_j.x_k is conserved, so it keeps its sign
            dot = np.abs(xo @ self.x.T)
            zero = (dot <= 4e-16 * np.multiply.outer(self.xn, self.xn)).all(0)
            self.still[j] = (pat == REST) | (self.xn == 0) | ((pat == OFF) & zero)
            self.XM[j] = (self.x * on[:, None]).T
        self.DM = np.ascontiguousarray(self.D.transpose(1, 0, 2)).reshape(self.n, -1)
        self.HM = self.XM.reshape(-1, self.n)
        pairs = [(j, k) for j, (ks, _) in self.slides.items() for k in ks]
        self.sl_j = np.array([p[0] for p in pairs], int)
        self.sl_k = np.array([p[1] for p in pairs], int)
        self.sl_c = (
            np.concatenate([c for _, c in self.slides.values()])
            if pairs
            else np.zeros((0, self.n), LD)
        )
        pairs = [(j, k) for j, (ks, _) in self.rests.items() for k in ks]
        self.re_j = np.array([p[0] for p in pairs], int)
        self.re_k = np.array([p[1] for p in pairs], int)
        self.re_c = (
            np.concatenate([c.T for _, c in self.rests.values()])
            if pairs
            else np.zeros((0, self.n), LD)
        )

    def slope_zero(self, j, k, r, use):
        """What D_j.x_k can be by rounding alone, for the examples in `use`."""
        return (
            REL * ((np.abs(r) * self.xn)[use].sum() + 0) * self.xn[k]
            + 10 * self.noise_r * self.xn[k] ** 2
        )

    def decide(self, j, kinks, came, r):
        """States of the kinks of neuron j it stands on: the consistent choice of multipliers.

        For kinks with s r_k < 0 this is the box-constrained least squares min |D|; a kink with
        s r_k > 0 repels, and is crossed.  `came` holds the states just before.
        """
        s = self.sign[j]
        base = (self.pat[j] == ON).astype(LD)
        base[kinks] = 0
        found = []
        for combo in product((OFF, ON, SLIDE), repeat=len(kinks)):
            if any(c == SLIDE and s * r[k] >= 0 for c, k in zip(combo, kinks, strict=False)):
                continue
            on = base.copy()
            on[[k for c, k in zip(combo, kinks, strict=False) if c == ON]] = 1
            held = np.array([k for c, k in zip(combo, kinks, strict=False) if c == SLIDE], int)
            ok = True
            mult = on * r
            if len(held):
                try:
                    cf = self.lam_coef(on, held) @ r
                except np.linalg.LinAlgError:
                    continue
                lam = cf / r[held]
                if (lam < -1e-15).any() or (lam > 1 + LD(1e-15)).any():
                    continue
                mult = mult.copy()
                mult[held] = cf
            D = mult @ self.x
            states, use = [], on > 0
            use[held] = True
            for c, k in zip(combo, kinks, strict=False):
                if c != SLIDE:
                    zero = self.slope_zero(j, k, r, use)
                    p = s * (D @ self.x[k])
                    if (c == OFF and p > zero) or (c == ON and p < -zero):
                        ok = False
                        break
                    if c == OFF and abs(p) <= zero:
                        c = REST
                states.append(c)
            if ok:
                changed = sum(
                    a != b and not (a == OFF and b == REST)
                    for a, b in zip(states, came, strict=False)
                )
                found.append((len(held), changed, D @ D, states))
        if not found:
            raise RuntimeError(f"no consistent pattern: neuron {j}, kinks {kinks}")
        # several only where a slope is zero to rounding: fewest held, then fewest changed
        return min(found, key=lambda f: f[:3])[3]

    # -------------------------------------------------------------- field

    def residual(self, rho, u):
        b = self.sign * np.exp(2 * rho)
        h = (b[..., None] * u).reshape(*rho.shape[:-1], -1) @ self.HM
        return self.kappa * (self.y - h)

    def rhs(self, Y):
        """Y (S, m + m d) -> derivative, and r (S, n)."""
        S, m, d = len(Y), self.m, self.d
        self.rhs_count += S
        rho, u = Y[:, :m], Y[:, m:].reshape(S, m, d)
        r = self.residual(rho, u)
        D = (r @ self.DM).reshape(S, m, d)
        Du = D[..., 0] * u[..., 0]
        for i in range(1, d):
            Du = Du + D[..., i] * u[..., i]
        F = np.empty_like(Y)
        F[:, :m] = self.sign * Du
        F[:, m:] = (self.sign[:, None] * (D - Du[..., None] * u)).reshape(S, -1)
        return F, r

    def step(self, Y0, h, guess):
        """Collocation step: stage values, derivatives, end value, tail; None if not convergent."""
        F, last = guess, None
        Z = h * (GAUSS.quad @ F)
        if not np.abs(Z).max() < 50:
            return None
        for it in range(40):
            F, r = self.rhs(Y0 + Z)
            Zn = h * (GAUSS.quad @ F)
            diff = np.abs(Zn - Z).max()
            Z = Zn
            if diff <= 3e-19 or (
                last is not None and diff < 2e-17 * (1 + np.abs(Z).max()) and diff > last / 2
            ):
                break
            if not diff < 50 or (it > 8 and diff > last):
                return None
            last = diff
        else:
            return None
        Y1 = Y0 + h * (GAUSS.weights @ F)
        tail = np.abs(GAUSS.coef[-2:] @ F)
        return dict(h=h, F=F, Y=Y0 + Z, r=r, Y1=Y1, err=h * tail.max())

    def tidy(self, Y):
        """Back on the sphere, and exactly on the held kinks."""
        m, d = self.m, self.d
        u = Y[m:].reshape(m, d).copy()
        for j, q in self.q.items():
            u[j] = unproject(u[j], q)
        u /= np.sqrt((u**2).sum(1))[:, None]
        return np.concatenate([Y[:m], u.ravel()])

    # -------------------------------------------------------------- events

    def margins(self, Y, r):
        """(S, m n + 2 slides): positive while the pattern holds; and the noise of each."""
        S, m, d, n = len(Y), self.m, self.d, self.n
        g = Y[:, m:].reshape(S * m, d) @ self.xh.T
        g = g.reshape(S, m, n)
        E = np.where(self.pat == ON, g, -g)
        E[:, self.still] = 1
        E = E.reshape(S, m * n)
        noise = np.full(m * n + 2 * len(self.sl_j), NOISE, LD)
        if len(self.sl_j):
            # lam >= 0 and lam <= 1, times r_k (never divided by it: r_k may vanish past the event)
            sg = -self.sign[self.sl_j]
            c, rk = sg * (r @ self.sl_c.T), sg * r[:, self.sl_k]
            size = np.abs(rk[0])
            two = np.concatenate([c / size, (rk - c) / size], axis=1)
            two[:, np.tile(size < 1000 * self.noise_r, 2)] = 1  # fitted to rounding: nothing moves
            E = np.concatenate([E, two], axis=1)
            noise[m * n :] += np.tile(20 * self.noise_r / size, 2)
        return E, noise

    def name(self, c):
        """Column of the margins -> (neuron, example, state a multiplier takes or None)."""
        mn, ns = self.m * self.n, len(self.sl_j)
        if c < mn:
            return (*divmod(int(c), self.n), None)
        i = (int(c) - mn) % ns
        return int(self.sl_j[i]), int(self.sl_k[i]), OFF if c < mn + ns else ON

    def detect(self, Y0, r0, st):
        """First violation within a step.

        None, ('start', [pairs]) for margins negative from the start on, or
        ('root', pair, tau, slope).
        """
        r1 = self.residual(st["Y1"][: self.m], st["Y1"][self.m :].reshape(self.m, self.d))
        Y = np.concatenate([Y0[None], st["Y"], st["Y1"][None]])
        E, noise = self.margins(Y, np.concatenate([r0[None], st["r"], r1[None]]))
        return GAUSS.first(E, noise)

    def change(self, j, k, to, Y, r, log):
        """The event of neuron j at kink k: new pattern."""
        old = self.pat[j].copy()
        if to is not None:
            if old[k] != SLIDE:  # already changed at this very time
                return j
            if self.together(j, r):
                # several multipliers meet their bounds at once (their common on-set has r = 0):
                # decide by the residuals just after
                F, _ = self.rhs(Y[None])
                Y = Y + F[0] * (LD(1e-7) / np.abs(F).max())
                held = np.nonzero((old == SLIDE) | (old == REST))[0]
                r = self.residual(Y[: self.m], Y[self.m :].reshape(self.m, self.d))
                self.pat[j, held] = self.decide(j, list(held), old[held].tolist(), r)
                for i in held:
                    if old[i] == SLIDE and self.pat[j, i] != SLIDE:
                        log("leave", j, i)
                    elif old[i] == REST and self.pat[j, i] in (ON, SLIDE):
                        log("cross" if self.pat[j, i] == ON else "slide", j, i)
                return j
            self.pat[j, k] = to
            log("leave", j, k)
            kinks = []
        else:
            kinks = [k]
        held = np.nonzero((self.pat[j] == SLIDE) | (self.pat[j] == REST))[0]
        if kinks or (self.pat[j] == REST).any():
            kinks = sorted({*kinks, *held.tolist()})
            # leaving alone changes no other multiplier: only then may kinks be empty
            new = self.decide(j, kinks, [old[i] for i in kinks], r)
            self.pat[j, kinks] = new
        for i in kinks:
            a, b = old[i], self.pat[j, i]
            if b == SLIDE and a != SLIDE:
                log("slide", j, i)
            elif a == SLIDE and b != SLIDE:
                log("leave", j, i)
            elif (a == ON) != (b == ON):
                log("cross", j, i)
        return j

    def together(self, j, r):
        """Whether more than one multiplier of neuron j is at a bound."""
        ks, cf = self.slides[j]
        lam = (cf @ r) / r[ks]
        near = LD(1e-13) + 20 * self.noise_r / np.abs(r[ks])
        return (np.minimum(np.abs(lam), np.abs(1 - lam)) <= near).sum() > 1

    def rest_changed(self, r):
        """Pairs at rest whose slope D.x_k is no longer zero."""
        if not len(self.re_j):
            return []
        out = []
        slope = self.re_c @ r
        for i, (j, k) in enumerate(zip(self.re_j, self.re_k, strict=False)):
            use = (self.pat[j] == ON) | (self.pat[j] == SLIDE)
            if abs(slope[i]) > 100 * self.slope_zero(j, k, r, use):
                out.append((int(j), int(k)))
        return out


def solve(x, y, sign, log_w, u, kappa, times, tol=1e-16, reach=6.0):
    """The flow from log_w (m,), u (m, d) and a_j = sign_j |w_j|, at the increasing `times`.

    tol bounds the last series coefficients of a step; reach bounds step length times the
    fastest rate.  Returns arrays over times: log_w (T, m), u (T, m, d), loss (T,), pattern
    (T, m, n); events, a list of (time, neuron, example, "cross" | "slide" | "leave") in order;
    rhs, the evaluations of the field; steps and trials; worst_landing, the largest distance
    from a kink at which an event was taken, in units of NOISE.
    """
    f = _Flow(x, y, sign, kappa)
    m, n, d = f.m, f.n, f.d
    u = np.array(u, LD).reshape(m, d)
    u = u / np.sqrt((u**2).sum(1))[:, None]
    Y = np.concatenate([np.array(log_w, LD), u.ravel()])
    tol, times = LD(tol), np.array(times, LD)
    t = LD(0)
    events, steps = [], [0, 0]

    def res(Y):
        return f.residual(Y[:m], Y[m:].reshape(m, d))

    def log(kind, j, k):
        events.append((float(t), int(j), int(k), kind))

    # initial pattern
    g = u @ f.xh.T
    f.pat = np.where(g > NOISE, ON, OFF)
    f.install(range(m))
    r = res(Y)
    for j in range(m):
        kinks = np.nonzero((np.abs(g[j]) <= NOISE) & (f.xn > 0))[0]
        if len(kinks):
            f.pat[j, kinks] = f.decide(j, list(kinks), [OFF] * len(kinks), r)
    f.install(range(m))
    Y = f.tidy(Y)

    out_rho, out_u, out_loss, out_pat = [], [], [], []

    def record():
        r = res(Y)
        out_rho.append(Y[:m].copy())
        out_u.append(Y[m:].reshape(m, d).copy())
        out_loss.append((r * r).sum() / (2 * f.kappa))
        out_pat.append(f.pat.copy())

    hctl, prev, same, calm, worst = LD(0.01), None, {}, 0, 0

    def guess(h):
        """Stage derivatives from the last series (in tau of its step), else constant."""
        if prev is None:
            F, _ = f.rhs(Y[None])
            return np.repeat(F, GAUSS.stages, 0)
        start, length, cf = prev
        tau = (t - start + h * GAUSS.nodes) / length
        order = GAUSS.stages if tau[-1] <= LD(1.02) else min(GAUSS.stages, 7)
        P = np.array(legendre(order - 1, tau)[:order]).T
        return P @ cf[:order]

    def trial(h):
        nonlocal prev
        steps[1] += 1
        st = f.step(Y, h, guess(h))
        if st is None and prev is not None:
            prev = None
            st = f.step(Y, h, guess(h))
        return st

    def accept(st):
        nonlocal Y, t, prev
        steps[0] += 1
        Y = f.tidy(st["Y1"])
        t = t + st["h"]

    def keep(st):
        nonlocal prev
        prev = (t, st["h"], GAUSS.coef @ st["F"])

    def rests():
        for j, k in f.rest_changed(res(Y)):
            if f.pat[j, k] == REST:
                kinks = [int(i) for i in np.nonzero((f.pat[j] == SLIDE) | (f.pat[j] == REST))[0]]
                old = f.pat[j].copy()
                f.pat[j, kinks] = f.decide(j, kinks, old[kinks].tolist(), res(Y))
                for i in kinks:
                    if f.pat[j, i] == SLIDE and old[i] != SLIDE:
                        log("slide", j, i)
                    elif old[i] == SLIDE and f.pat[j, i] != SLIDE:
                        log("leave", j, i)
                    elif f.pat[j, i] == ON and old[i] != ON:
                        log("cross", j, i)
                f.install([j])

    def happen(pairs):
        nonlocal Y, same
        same = {c: v for c, v in same.items() if v[0] == t}
        r = res(Y)
        js = set()
        for c in [f.name(c) for c in pairs]:
            count = same.get(c, (t, 0))[1] + 1
            if count > 6:
                raise RuntimeError(f"neuron, example {c[:2]} chatters at t={t}")
            same[c] = (t, count)
            js.add(f.change(*c, Y, r, log))
        f.install(js)
        Y = f.tidy(Y)
        rests()

    for target in times:
        while t < target:
            h = min(hctl, target - t, LD(reach) / max(np.abs(f.rhs(Y[None])[0]).max(), LD(1e-30)))
            whole = h == target - t
            st = trial(h)
            if st is None:
                hctl, calm = h / 2, steps[0] + 10
                if h < 1e-12:
                    raise RuntimeError(f"Picard iteration fails at t={t}")
                continue
            if st["err"] > 4 * tol:
                hctl = h * max(LD(0.2), 0.9 * (tol / st["err"]) ** (LD(1) / GAUSS.stages))
                keep(st)
                continue
            grow = min(
                LD(2 if steps[0] > calm else 1),
                0.9 * (tol / max(st["err"], LD(1e-30))) ** (LD(1) / GAUSS.stages),
            )
            if not (whole and grow >= 1):
                hctl = h * grow
            r0 = res(Y)
            pairs = []
            for _ in range(200):
                ev = f.detect(Y, r0, st)
                if ev is None:
                    break
                whole = False
                keep(st)
                if ev[0] == "start":
                    if st["h"] <= H_ZERO:
                        pairs, st = ev[1], None
                        break
                    h = st["h"] / 8
                    st = trial(h)
                    if st is None:
                        break
                    pairs = []
                    continue
                _, c, tau, slope = ev
                slope = slope / st["h"]
                h = tau * st["h"]
                for _ in range(12):
                    st = trial(h)
                    if st is None:
                        break
                    E, nz = f.margins(np.stack([Y, st["Y1"]]), np.stack([r0, res(st["Y1"])]))
                    miss = E[1, c]
                    if abs(miss) <= nz[c] / 4 or slope == 0:
                        break
                    dh = -miss / slope
                    if abs(dh) > h / 2 or abs(dh) < 1e-19 * h:
                        break
                    h = h + dh
                if st is None:
                    pairs = []
                    break
                worst = max(worst, abs(miss) / nz[c])
                if abs(miss) > 100 * nz[c]:
                    raise RuntimeError(f"{f.name(c)} misses its event by {miss} at t={t + h}")
                pairs = [c]
            else:
                raise RuntimeError(f"event not located at t={t}")
            if st is None and not pairs:
                hctl, calm = h / 2, steps[0] + 10
                continue
            if st is not None:
                keep(st)
                accept(st)
                if whole:
                    t = target
            if pairs:
                happen(pairs)
            elif len(f.re_j):
                rests()
        record()

    return dict(
        log_w=np.array(out_rho, LD).reshape(len(times), m),
        u=np.array(out_u, LD).reshape(len(times), m, d),
        loss=np.array(out_loss, LD),
        pattern=np.array(out_pat).reshape(len(times), m, n),
        events=events,
        worst_landing=float(worst),  # in units of the noise of a margin
        rhs=f.rhs_count,
        steps=steps[0],
        trials=steps[1],
    )
