"""Reference solver for the gradient flow of two-layer (leaky) ReLU networks of every kind.

Any loss, any number of outputs C, any slope below one, any start, any data. The flow is the
differential inclusion theta' in -dL (Clarke); along a solution the velocity is the element of
least norm. A neuron is (a, w), a in R^C; with the residual R (n x C) and c_k = r_k . a it moves by

    a' = sum_k s_k r_k (w.x_k),    w' in hull { sum_k s_k c_k x_k : patterns s next to w }.

On a set of hyperplanes the neuron moves along a *face* of their arrangement, and all patterns next
to that face give the same gradient along it: so a face is a possible motion if and only if that
common tangential gradient lies in the hull, and leads into the face. When a neuron meets a
hyperplane, all faces are tried. One is possible, as a rule; where several are, the flow is not
unique, and `branching` says which is taken: "off" the face with the most kinks off, "on" with the
most on, "stay" the smallest face. That includes the moment in which a single output weight a passes
zero while the neuron is held: attraction turns into repulsion. A kink on which a neuron stands
still because nothing moves it across, whatever the residual, is *at rest* on its side: that is
relu'(0) = 0, and not a branching.

Between events the pattern is fixed and the smooth field is integrated by Gauss collocation of
order 32 in 80-bit floats, theta_j = exp(sigma_j) v_j with v_j of order one, so that any scale can
be followed; each event is located and the step repeated to end on it.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import lsq_linear

from .arrangement import Arrangement, distance_to_hull
from .gauss import LD, Gauss, basis, legendre, unproject
from .gauss import solve as solve_linear
from .losses import Loss

GAUSS = Gauss(16)
NOISE = LD(1e-17)  # events are located so closely
FEW = 5  # so many independent hyperplanes at once are decided by trying all faces
BLUR = LD(1e-15)  # margins smaller than this have no sign: dependent normals are so to rounding
EQUAL = 1e-12  # decisions: relative size below which a number is zero
LATER = (1e-8, 1e-6, 1e-4)  # decisions look at the residual so many time units after the event


@dataclass
class Path:
    """The flow at the wanted times, and what happened on the way.

    `theta` (T, m, C + d) with factors exp(`log_scale`) (T, m); `residual` (T, n, C); `loss` (T,);
    `side` (T, m, H) is +1, -1 or 0 (held) by neuron and hyperplane; `events` are
    (time, neuron, hyperplane, "cross" | "slide" | "leave" | "branch").
    """

    time: list = field(default_factory=list)
    theta: list | np.ndarray = field(default_factory=list)
    log_scale: list | np.ndarray = field(default_factory=list)
    residual: list | np.ndarray = field(default_factory=list)
    loss: list | np.ndarray = field(default_factory=list)
    side: list | np.ndarray = field(default_factory=list)
    events: list = field(default_factory=list)
    steps: int = 0

    def weights(self):
        """theta with its factor, (T, m, C + d)."""
        return self.theta * np.exp(self.log_scale)[..., None]

    def log_norm(self):
        """ln |theta_j|, (T, m)."""
        return np.log(np.sqrt((self.theta**2).sum(-1))) + self.log_scale

    def count(self, kind: str) -> int:
        return sum(event[3] == kind for event in self.events)


class _Flow:
    def __init__(self, x, loss: Loss, slope, outputs, branching):
        self.x, self.loss, self.slope, self.branching = np.array(x, LD), loss, LD(slope), branching
        self.n, self.d = self.x.shape
        self.c = outputs
        self.arr = Arrangement(self.x)
        self.planes = len(self.arr.normals)
        self.xn = np.sqrt((self.x**2).sum(1))
        # a residual y - h below this is rounding, and holds or drives nothing
        self.noise = 1e-15 * loss.factor * np.abs(loss.y).max() if loss.kind == "square" else 0

    def start(self, theta, log_scale):
        self.v, self.sigma = np.array(theta, LD), np.array(log_scale, LD)
        self.m = m = len(self.v)
        self.normalise()
        # |a| = |w| is kept exactly: a neuron that decays along a ray would lose it to rounding
        lengths = self.lengths()
        self.balanced = np.abs(lengths[0] - lengths[1]) <= 1e-18 * lengths[1]
        self.side = np.ones((m, self.planes), int)
        self.rest = np.zeros((m, self.planes), bool)
        self.matrix = np.zeros((m, self.n, self.d), LD)
        self.q = [np.zeros((0, self.d), LD)] * m
        z = self.w(self.v) @ self.arr.normals.T
        self.side[z <= BLUR] = -1
        for j in range(m):
            self.install(j)
        events = []
        self.happen([(j, h) for j, h in np.argwhere(np.abs(z) <= BLUR)], events, count=False)
        return events

    def w(self, v):
        return v[..., self.c :]

    def lengths(self):
        """|a| and |w| of all neurons."""
        a, w = self.v[:, : self.c], self.v[:, self.c :]
        return np.sqrt((a**2).sum(1)), np.sqrt((w**2).sum(1))

    def normalise(self):
        """Bring v to order one; returns the factors taken out."""
        size = np.sqrt((self.v**2).sum(1))
        move = (size > 4) | ((size < 0.25) & (size > 0))
        factor = np.where(move, size, LD(1))
        self.v = self.v / factor[:, None]
        self.sigma = self.sigma + np.log(factor)
        return factor

    # -------------------------------------------------------------- pattern

    def slopes(self, side):
        """Slopes of all examples for the signs of all hyperplanes; zero where held."""
        s = side[self.arr.plane] * np.sign(self.arr.height)
        return np.where(s > 0, LD(1), np.where(s < 0, self.slope, LD(0)))

    def held(self, j):
        return tuple(int(h) for h in np.nonzero(self.side[j] == 0)[0])

    def install(self, j):
        z = self.held(j)
        self.q[j] = basis(self.arr.normals[list(z)])
        left = unproject(self.x, self.q[j])
        left[np.sqrt((left**2).sum(1)) <= 1e-17 * self.xn] = 0
        self.matrix[j] = self.slopes(self.side[j])[:, None] * left

    def still(self, j, h):
        """Whether no residual moves neuron j across hyperplane h."""
        push = np.abs(self.matrix[j] @ self.arr.normals[h])
        return bool((push <= 1e-15 * self.xn).all())

    # -------------------------------------------------------------- field

    def residual(self, v):
        """The residual (S, n, C) at states v (S, m, C + d)."""
        z = np.einsum("jnd,sjd->sjn", self.matrix, self.w(v))
        b = np.exp(2 * self.sigma)[:, None] * v[..., : self.c]
        return self.loss.residual(np.einsum("sjn,sjc->snc", z, b))

    def field(self, v):
        z = np.einsum("jnd,sjd->sjn", self.matrix, self.w(v))
        a = v[..., : self.c]
        b = np.exp(2 * self.sigma)[:, None] * a
        r = self.loss.residual(np.einsum("sjn,sjc->snc", z, b))
        f = np.empty_like(v)
        f[..., : self.c] = np.einsum("sjn,snc->sjc", z, r)
        f[..., self.c :] = np.einsum("sjn,jnd->sjd", np.einsum("snc,sjc->sjn", r, a), self.matrix)
        return f, r

    def step(self, v, h, guess):
        """A collocation step, or None if the iteration does not converge."""
        f, last = guess, None
        z = h * np.tensordot(GAUSS.quad, f, 1)
        for it in range(40):
            if not np.abs(z).max() < 50:
                return None
            f, _ = self.field(v + z)
            new = h * np.tensordot(GAUSS.quad, f, 1)
            diff = np.abs(new - z).max()
            z = new
            if diff <= 1e-18 or (last is not None and diff < 1e-16 and diff > last / 2):
                break
            if it > 8 and diff > last:
                return None
            last = diff
        else:
            return None
        end = v + h * np.tensordot(GAUSS.weights, f, 1)
        tail = np.abs(np.tensordot(GAUSS.coef[-2:], f, 1)).max()
        return h, f, np.concatenate([v[None], v + z, end[None]]), h * tail

    def tidy(self):
        for j, q in enumerate(self.q):
            if len(q):
                self.v[j, self.c :] = unproject(self.v[j, self.c :], q)
        a, w = self.lengths()
        equal = self.balanced & (w > 0)
        self.v[equal, : self.c] *= (w[equal] / a[equal])[:, None]

    # -------------------------------------------------------------- decisions

    def decide(self, j, hits, a, r):
        """All hyperplanes that hold neuron j, its signs there, and whether it had a choice."""
        k = self.arr.closure({*self.held(j), *np.nonzero(self.rest[j])[0].tolist(), *hits})
        c = r @ a
        size = (np.abs(c) * self.xn).sum()
        normals, heads = self.arr.normals, np.isin(self.arr.plane, k)
        if size == 0:
            return k, np.full(len(k), -1), False
        c = c / size
        base = np.where(heads, 0, self.slopes(self.side[j]) * c) @ self.x

        def pull(planes, signs):
            side = np.zeros(self.planes, int)
            side[list(planes)] = signs
            return np.where(np.isin(self.arr.plane, planes), self.slopes(side) * c, 0) @ self.x

        found = []
        few = len(k) <= FEW or self.arr.rank(k) < len(k)
        for face in self.arr.faces(k) if few else [self.least_norm_face(k, base, c)]:
            zero = tuple(h for h, s in zip(k, face, strict=True) if s == 0)
            free = tuple(h for h, s in zip(k, face, strict=True) if s != 0)
            signs = face[face != 0]
            g = base + pull(free, signs)
            q = basis(normals[list(zero)])
            lead = signs * (normals[list(free)] @ unproject(g, q))
            if (lead < -EQUAL).any():
                continue
            if zero and (few or len(zero) <= FEW):
                points = [q @ (g + pull(zero, cell)) for cell in self.arr.cells(zero)]
                if distance_to_hull(np.array(points)) > EQUAL:
                    continue
            elif zero:
                low, high = self.bounds(zero, c)
                n = normals[list(zero)]
                mu = solve_linear(n @ n.T, -(n @ g))
                if (mu < low - EQUAL).any() or (mu > high + EQUAL).any():
                    continue
            found.append((face, unproject(g, q)))
        if not found:
            raise RuntimeError(f"no face of the hyperplanes {k} is possible for neuron {j}")
        # at rest stays at rest, where that is possible
        rest = self.rest[j, list(k)]
        stays = [f for f in found if (f[0] == self.side[j, list(k)])[rest].all()]
        found = stays or found
        rank = {
            "off": lambda f: (-(f == -1).sum(), (f == 0).sum()),
            "on": lambda f: (-(f == 1).sum(), (f == 0).sum()),
            "stay": lambda f: ((f != 0).sum(), (f == 1).sum()),
        }[self.branching]
        # several faces may be one motion, where a neuron just stands still on a kink
        first = found[0][1]
        many = any(np.abs(v - first).max() > 1e-9 for _, v in found)
        return k, min((f for f, _ in found), key=rank), many

    def bounds(self, planes, c):
        """Between what the force along each normal can be, for independent hyperplanes."""
        up = self.arr.height > 0
        own = np.array([np.where(self.arr.plane == h, self.arr.height * c, 0) for h in planes])
        plus, minus = own @ np.where(up, LD(1), self.slope), own @ np.where(up, self.slope, LD(1))
        return np.minimum(plus, minus), np.maximum(plus, minus)

    def least_norm_face(self, planes, base, c):
        """Too many independent hyperplanes to try all faces: the one of the least-norm element."""
        low, high = (b.astype(float) for b in self.bounds(planes, c))
        normals = self.arr.unit[list(planes)]
        found = lsq_linear(
            normals.T, -base.astype(float), bounds=(low, high + 1e-300), method="bvls", tol=1e-15
        )
        force = normals @ (base.astype(float) + normals.T @ found.x)
        return np.where(np.abs(force) > 1e-9, np.sign(force), 0).astype(int)

    def later(self, part):
        """The state, and the residual, this part of a time unit later."""
        f, _ = self.field(self.v[None])
        later = self.v + f[0] * (LD(part) / max(np.abs(f).max(), LD(1e-300)))
        return later, self.residual(later[None])[0]

    def happen(self, hits, events, count=True):
        """Decide for all neurons that met something; hits are (neuron, hyperplane or None)."""
        for j, h in hits:
            if h is not None:  # exactly on what it has met
                on = basis(self.arr.normals[[*self.held(j), h]])
                self.v[j, self.c :] = unproject(self.v[j, self.c :], on)
        js: dict[int, list] = {}
        for j, h in hits:
            js.setdefault(int(j), []).extend([] if h is None else [int(h)])
        for part in LATER:
            later, r = self.later(part)
            decided = [(j, self.decide(j, hs, later[j, : self.c], r)) for j, hs in js.items()]
            # who leaves may do so slowly
            if all(
                hs or (self.side[j, list(d[0])] != d[1]).any()
                for (j, hs), (_, d) in zip(js.items(), decided, strict=True)
            ):
                break
        for j, (planes, signs, many) in decided:
            old = self.side[j].copy()
            self.side[j, list(planes)] = signs
            self.install(j)
            hit = js[j]
            for h in planes:
                self.rest[j, h] = self.side[j, h] != 0 and self.still(j, h)
                a, b = old[h], self.side[j, h]
                if many and (h in hit or a == 0):
                    events.append((j, h, "branch"))
                if a != b and count:
                    kind = "leave" if a == 0 else "slide" if b == 0 else "cross"
                    events.append((j, h, kind))
        self.tidy()

    # -------------------------------------------------------------- events

    def margins(self, v):
        """Columns (S, .) that are positive while the pattern holds, and what each stands for."""
        s = len(v)
        z = np.einsum("sjd,hd->sjh", self.w(v), self.arr.normals)
        e = np.where((self.side != 0) & ~self.rest, self.side * z, 1).reshape(s, -1)
        names = [(j, h) for j in range(self.m) for h in range(self.planes)]
        r = self.residual(v)
        extra = []
        for j in range(self.m):
            planes = self.held(j)
            if not planes or np.abs(r).max((1, 2)).min() <= self.noise:
                continue
            if self.c == 1:
                # all multipliers change their meaning where a passes zero
                a = v[:, j, 0]
                extra.append(a * np.sign(self.v[j, 0] if self.v[j, 0] else a[-1]))
                names.append((j, None))
            if self.arr.rank(planes) == len(planes):
                two = list(self.multipliers(j, planes, self.forces(v, r, j)))
                extra += two
                names += [(j, None)] * len(two)
        return (np.concatenate([e, np.array(extra).T], axis=1) if extra else e), names

    def forces(self, v, r, j):
        """c_k = r_k . a up to a positive or, with one output, any factor: (S, n)."""
        c = r[..., 0] if self.c == 1 else np.einsum("snc,sc->sn", r, v[:, j, : self.c])
        size = (np.abs(c[0]) * self.xn).sum()
        return c / size if size > 0 else c

    def multipliers(self, j, planes, c):
        """How far inside its bounds is the force that holds neuron j on each hyperplane."""
        n = self.arr.normals[list(planes)]
        free = (self.slopes(self.side[j])[:, None] * self.x) @ n.T
        mu = solve_linear(n @ n.T, -(c @ free).T)
        for i, h in enumerate(planes):
            own = c * np.where(self.arr.plane == h, self.arr.height, 0)
            up = self.arr.height > 0
            plus = own @ np.where(up, LD(1), self.slope)
            minus = own @ np.where(up, self.slope, LD(1))
            # which is the lower bound is kept within a step, so that both are smooth
            low, high = (plus, minus) if plus[0] <= minus[0] else (minus, plus)
            yield mu[i] - low
            yield high - mu[i]

    def gap(self, v, j):
        """Distance of zero from the hull for a neuron held on dependent hyperplanes."""
        planes = self.held(j)
        c = self.forces(v[None], self.residual(v[None]), j)[0]
        q = self.q[j]
        g = (self.slopes(self.side[j]) * c) @ self.x
        points = []
        for cell in self.arr.cells(planes):
            side = np.zeros(self.planes, int)
            side[list(planes)] = cell
            own = np.where(np.isin(self.arr.plane, planes), self.slopes(side) * c, 0)
            points.append(q @ (g + own @ self.x))
        return distance_to_hull(np.array(points))

    def first(self, values):
        """The first event along the polynomial through values at the collocation points."""
        e, names = self.margins(values)
        calm = np.abs(self.residual(values)).max((1, 2)).min() <= self.noise
        found = GAUSS.first(e, np.full(e.shape[1], BLUR))
        end = found[2] if found and found[0] == "root" else LD(0 if found else 1)
        for j in range(self.m):
            planes = self.held(j)
            if planes and self.arr.rank(planes) < len(planes) and not calm:

                def out(tau, j=j):
                    v = np.tensordot(GAUSS.row(tau), values, 1)
                    return self.gap(v, j) > EQUAL

                low = LD(0)
                for high in (GAUSS.points[1:-1:2]).tolist() + [end]:
                    high = min(high, end)
                    if out(high):
                        for _ in range(50):
                            mid = (low + high) / 2
                            low, high = (low, mid) if out(mid) else (mid, high)
                        end, found = high, ("gap", (j, None), high)
                        break
                    low = high
        if found is None:
            return None
        if found[0] == "start":
            return "start", [names[c] for c in found[1]], LD(0), None
        if found[0] == "gap":
            return found[0], [found[1]], found[2], None
        return "root", [names[found[1]]], found[2], (found[1], found[3])

    def together(self, name):
        """All pairs that meet an event at this very time, the given one included."""
        e, names = self.margins(np.stack([self.v, self.later(LATER[0])[0]]))
        now = np.nonzero((e[0] <= BLUR) & (e[1] < -BLUR))[0]
        return list(dict.fromkeys([name, *(names[c] for c in now)]))


def solve(
    x, loss, slope, theta, log_scale, times, outputs=1, branching="off", tol=1e-16, reach=4.0
) -> Path:
    """The flow from the blocks exp(log_scale_j) theta_j, theta (m, C + d), at increasing times."""
    f = _Flow(x, loss, slope, outputs, branching)
    path, t = Path(), LD(0)
    path.events = [(0.0, *e) for e in f.start(theta, log_scale)]
    tol, h_next, before, again, calm = LD(tol), LD(0.01), None, 0, 0

    def guess(h):
        if before is None:
            return np.repeat(f.field(f.v[None])[0], GAUSS.stages, 0)
        start, length, coef = before
        tau = (t - start + h * GAUSS.nodes) / length
        order = GAUSS.stages if tau[-1] <= LD(1.02) else min(GAUSS.stages, 7)
        p = np.array(legendre(order - 1, tau)[:order]).T
        return np.tensordot(p, coef[:order], 1)

    def trial(h):
        nonlocal before
        made = f.step(f.v, h, guess(h))
        if made is None and before is not None:
            before = None
            made = f.step(f.v, h, guess(h))
        return made

    for target in np.array(times, LD):
        while t < target:
            rate = max(np.abs(f.field(f.v[None])[0]).max(), LD(1e-300))
            h = min(h_next, target - t, LD(reach) / rate)
            whole = h == target - t
            made = trial(h)
            if made is None:
                h_next, calm = h / 2, path.steps + 10
                if h < 1e-13 * max(t, LD(1)):
                    raise RuntimeError(f"the iteration does not converge at t = {t}")
                continue
            keep = (t, made[0], np.tensordot(GAUSS.coef, made[1], 1))
            grow = 0.9 * (tol / max(made[3], LD(1e-30))) ** (LD(1) / GAUSS.stages)
            if made[3] > 4 * tol:
                h_next, before = h * max(LD(0.2), grow), keep
                continue
            if not (whole and grow >= 1):
                h_next = h * min(LD(2 if path.steps > calm else 1), grow)
            hits = []
            event = f.first(made[2])
            while event is not None:
                kind, hits, tau, column = event
                before, whole = keep, False
                if kind == "start":
                    if made[0] * rate <= 1e-9:
                        made = None
                        break
                    made = trial(made[0] / 8)
                    if made is None:
                        raise RuntimeError(f"the iteration does not converge at t = {t}")
                    event, hits = f.first(made[2]), []
                    continue
                made = trial(tau * made[0])
                for _ in range(8 if column else 0):
                    e = f.margins(made[2][[0, -1]])[0][1, column[0]]
                    if abs(e) < NOISE / 4 or column[1] == 0:
                        break
                    made = trial(made[0] * (1 - e / (column[1] * tau)))
                if column and abs(e) > 100 * NOISE:
                    raise RuntimeError(f"{hits} misses its event by {e} at t = {t}")
                break
            if made is not None:
                keep = (t, made[0], np.tensordot(GAUSS.coef, made[1], 1))
                f.v = made[2][-1]
                f.tidy()
                t = target if whole else t + made[0]
                path.steps += 1
                if made[0] * rate > 1e-9:
                    again = 0
                factor = f.normalise()
                before = (keep[0], keep[1], keep[2] / factor[:, None])
            if hits:
                again += 1
                if again > 50:
                    raise RuntimeError(f"events without end at t = {t}: {hits}")
                new: list = []
                f.happen(f.together(hits[0]) + hits, new)
                path.events += [(float(t), *e) for e in new]
        path.time.append(float(t))
        path.theta.append(f.v.copy())
        path.log_scale.append(f.sigma.copy())
        path.residual.append(f.residual(f.v[None])[0])
        path.side.append(np.where(f.rest, 2 * f.side, f.side))
        z = np.einsum("jnd,jd->jn", f.matrix, f.w(f.v))
        path.loss.append(loss.value(z.T @ (np.exp(2 * f.sigma)[:, None] * f.v[:, :outputs])))
    for name in ("time", "theta", "log_scale", "residual", "loss", "side"):
        setattr(path, name, np.array(getattr(path, name)))
    return path
