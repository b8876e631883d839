r"""Where blocks of vanishing size go under a constant residual, each by itself.

With $ds = e^{(L-2)\rho} dt$ direction and size of a block follow

$$v' = (I - vv^T)\nabla N_r(v),\quad \rho' = L N_r(v),\quad t' = e^{-(L-2)\rho},$$

so that its direction moves on one curve whatever its size, to a KKT point v with the growth rate
$g = L N_r(v)$ (Kumar & Haupt, 2024). For L = 2 s is the time, and $\rho = g s + $ a constant in the
end. For L > 2 a block with g > 0 becomes infinite at the finite time $\int_0^\infty t' ds$.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._separable import Blocks

#: Error allowed in a step, of directions, of ln norms, and of times relative to themselves.
_TOLERANCE = 1e-11
#: A direction that moves slower than this on the residual's own clock has arrived.
_STILL = 1e-9
#: So long on that clock a direction is followed, in so many steps at most.
_LONGEST, _STEPS = 1e8, 20_000
#: Newton's method may move a direction that has arrived by as much.
_NEAR = 1e-3
#: Growth rates below this share of the residual's scale are none.
NO_GROWTH = 1e-9


@dataclass(frozen=True)
class Limits:
    """Where blocks go.

    **Attributes:**

    - `unit`: the KKT points, shape `(M, p)`.
    - `growth`: L N_r there, 0 if it is below rounding.
    - `gain`: the constant beyond g s in ln of the size; for g = 0 all that it grows.
    - `blow_up`: for L > 2 and g > 0 the time at which a block of norm 1 is infinite; else inf.
    - `kkt`: |(I - vv^T) grad N_r| at the end.
    - `arrived`: whether the direction has come to rest.
    - `entry`, `entry_time`: the direction and s since which it has been on the same sides of all
      bends.
    """

    unit: Float[ndarray, "M p"]
    growth: Float[ndarray, " M"]
    gain: Float[ndarray, " M"]
    blow_up: Float[ndarray, " M"]
    kkt: Float[ndarray, " M"]
    arrived: Float[ndarray, " M"]
    entry: Float[ndarray, "M p"]
    entry_time: Float[ndarray, " M"]


class SphereFlow:
    """The flow of all blocks under one residual.

    **Arguments:**

    - `blocks`: of the network.
    - `residual`: r, `(n,)` or `(n, C)`.
    - `scale`: the size that gradients of N_r typically have, which sets the clock.
    """

    def __init__(self, blocks: Blocks, residual: ndarray, scale: float) -> None:
        self.blocks, self.residual, self.scale = blocks, residual, scale
        self.entry, self.entry_time = np.zeros((0, 0)), np.zeros(0)

    def limits(self, unit: ndarray, moving: ndarray) -> Limits:
        """Where the blocks of a mask go; the others keep their directions."""
        v, rho, t, s, arrived = self._follow(unit, moving, np.full(len(unit), np.inf))
        v = self._polished(v, moving & arrived)
        value, gradient = self.blocks.ncf(v, self.residual)
        along = np.sum(gradient * v, axis=1)
        growth = np.where(np.abs(along) > NO_GROWTH * self.scale, along, 0.0)
        level = self.blocks.level
        with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
            rest = np.exp(-level * rho) / (level * growth)
            blow_up = np.where(moving & (growth > 0.0) & (level > 0.0), t + rest, np.inf)
        return Limits(
            unit=v,
            growth=np.where(moving, growth, 0.0),
            gain=np.where(moving, rho - growth * s, 0.0),
            blow_up=blow_up,
            kkt=np.linalg.norm(gradient - along[:, None] * v, axis=1),
            arrived=arrived | ~moving,
            entry=self.entry,
            entry_time=self.entry_time / self.scale,
        )

    def advance(self, unit: ndarray, moving: ndarray, time: ndarray) -> tuple[ndarray, ndarray]:
        """Directions, and by how much ln norms have grown, after times of blocks of norm 1."""
        v, rho, t, s, arrived = self._follow(unit, moving, time)
        # A block that has arrived goes on in closed form.
        late = moving & arrived & (t < time)
        if late.any():
            _, gradient = self.blocks.ncf(v, self.residual)
            g, level = np.sum(gradient * v, axis=1), self.blocks.level
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                left = np.exp(-level * rho) - level * g * (time - t)
                rho = np.where(late, -np.log(left) / level, rho)
        return v, rho

    def _follow(
        self, unit: ndarray, moving: ndarray, end: ndarray
    ) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
        """v, rho, t, s where directions are at rest or the time is `end`, and which are at rest.

        Every block has steps of its own (Dormand & Prince, 1980, order 5).
        """
        m, p = unit.shape
        y = np.concatenate([unit, np.zeros((m, 2))], axis=1)
        s, step = np.zeros(m), np.full(m, 0.01)
        arrived, going = np.zeros(m, dtype=bool), moving.copy()
        slope = self._speed(y)
        sides = self.blocks.bends(unit) > 0.0
        self.entry, self.entry_time = unit.copy(), np.zeros(m)
        arrived |= going & self._still(slope, p)
        going &= ~arrived
        for _ in range(_STEPS):
            if not going.any():
                break
            h = np.where(going, step, 0.0)
            new, last, error = self._step(y, slope, h)
            good = going & (error <= 1.0)
            over = good & (new[:, p + 1] >= end)
            if over.any():
                y[over], s[over] = self._onto(y, slope, s, h, over, end)
                going[over] = good[over] = False
            y[good], slope[good] = new[good], last[good]
            s[good] += h[good]
            y[good, :p] /= np.linalg.norm(y[good, :p], axis=1, keepdims=True)
            now = self.blocks.bends(y[:, :p]) > 0.0
            crossed = (now != sides).any(axis=1)
            self.entry[crossed], self.entry_time[crossed] = y[crossed, :p], s[crossed]
            sides = now
            with np.errstate(divide="ignore"):
                factor = np.clip(0.9 * np.maximum(error, 1e-30) ** -0.2, 0.2, 5.0)
            step = np.where(going, step * factor, step)
            there = going & good & (self._still(slope, p) | (s > _LONGEST))
            arrived |= there & self._still(slope, p)
            going &= ~there
        return y[:, :p], y[:, p], y[:, p + 1], s / self.scale, arrived

    def _still(self, slope: ndarray, p: int) -> ndarray:
        return np.linalg.norm(slope[:, :p], axis=1) <= _STILL

    def _speed(self, y: ndarray) -> ndarray:
        """d(v, rho, t)/ds on the residual's own clock."""
        p = y.shape[1] - 2
        v = y[:, :p] / np.linalg.norm(y[:, :p], axis=1, keepdims=True)
        _, gradient = self.blocks.ncf(v, self.residual)
        gradient = gradient / self.scale
        along = np.sum(gradient * v, axis=1)
        with np.errstate(over="ignore", under="ignore"):
            pace = np.exp(-self.blocks.level * y[:, p]) / self.scale
        return np.concatenate(
            [gradient - along[:, None] * v, along[:, None], pace[:, None]], axis=1
        )

    def _step(self, y: ndarray, slope: ndarray, h: ndarray) -> tuple[ndarray, ndarray, ndarray]:
        """A step, the speed after it, and its error in units of what is allowed."""
        from scipy.integrate import RK45

        k = np.zeros((7, *y.shape))
        k[0] = slope
        with np.errstate(invalid="ignore", over="ignore"):
            for i in range(1, 6):
                k[i] = self._speed(y + h[:, None] * np.tensordot(RK45.A[i, :i], k[:i], axes=1))
            new = y + h[:, None] * np.tensordot(RK45.B, k[:6], axes=1)
            k[6] = self._speed(new)
            error = np.abs(h[:, None] * np.tensordot(RK45.E, k, axes=1))
            error[:, -1] /= np.maximum(new[:, -1], 1e-300)
        size = error.max(axis=1) / _TOLERANCE
        return new, k[6], np.where(np.isfinite(size), size, 1e30)

    def _onto(
        self, y: ndarray, slope: ndarray, s: ndarray, h: ndarray, over: ndarray, end: ndarray
    ) -> tuple[ndarray, ndarray]:
        """The states at which the times are `end`, inside steps that pass it."""
        low, high = np.zeros(len(h)), h.copy()
        at = h.copy()
        for _ in range(60):
            new, last, _ = self._step(y, slope, np.where(over, at, 0.0))
            late = new[:, -1] - end
            high, low = np.where(late >= 0.0, at, high), np.where(late < 0.0, at, low)
            guess = at - late / np.maximum(last[:, -1], 1e-300)
            inside = (guess > low) & (guess < high)
            before, at = at, np.where(inside, guess, 0.5 * (low + high))
            if (np.abs(at - before) <= 1e-15 * np.abs(h))[over].all():
                break
        new, _, _ = self._step(y, slope, np.where(over, at, 0.0))
        new[:, :-2] /= np.linalg.norm(new[:, :-2], axis=1, keepdims=True)
        return new[over], (s + at)[over]

    def _polished(self, v: ndarray, chosen: ndarray) -> ndarray:
        """The KKT points by Newton's method."""
        v = v.copy()
        seen: list[tuple[int, ndarray, ndarray]] = []
        for j in np.flatnonzero(chosen):
            sphere = self.blocks.sphere(int(j), self.residual)
            p = sphere.block.size
            if p == 1:
                continue
            kind = hash((sphere.block.apply, sphere.block.constant.tobytes()))
            near = [to for k, start, to in seen if k == kind and np.abs(start - v[j]).max() < 1e-12]
            if near:
                v[j] = near[0]
                continue
            start = v[j].copy()
            found, residual = sphere.newton(start[:p], self.scale)
            if residual <= 1e-11 and np.linalg.norm(found - start[:p]) < _NEAR:
                v[j, :p] = found
            seen.append((kind, start, v[j].copy()))
        return v
