r"""Steps of high order: Radau IIA collocation, the distribution of the residual as an unknown.

The unknowns at the nodes are x = (rho, v) of all blocks and, with a loss of classification,
u = ln p, where the weights q_k of the residual are R p_k, R their sum. Between them they obey

$$x' = f(x, p), \qquad u = \ln q(z(x)) - \ln R(z(x)),$$

with z the margins. The second is an equation, not a differential one: late in training p is
determined by where the margins may go, to their rounding divided by the kernel dz/dx df/dp, of the
size of z. So no digit of p is lost at a loss of e^-1e10, where ln q(z) itself is known to 1e-6;
and the weights, moved by p alone, see nothing stiff. Newton's iteration for both takes

$$\delta x_i - h \sum_j A_{ij} (f_x - f_p C)_j \delta x_j = \ldots, \qquad
  \delta u_i = \ln q - \ln R - u_i - C_i \delta x_i, \quad C = -d(\ln q - \ln R)/dx.$$

Two things bend the flow. Activations like max(0, z)^2 are polynomials on each side of zero: a step
goes on with the polynomials that it began with, and ends where the first z changes sign. An
example that becomes a support vector turns from p = 0 to p > 0 in a layer of width 1/z: a step
ends before a layer that ln p is about to reach.
"""

from collections.abc import Callable

import numpy as np
from numpy import ndarray

from .._collocation import interpolation, radau
from ._field import Field
from ._linear import largest_rate, solve_stages
from ._stepper import Step, StepError, Torn

STAGES = 6
_NEWTON = 9
#: A step is at most so many times as long as the one before.
_GROWTH = 10.0
#: Residuals of Newton's iteration, in units of what a step may be off by.
_SOLVED = 0.02
#: Steps shorter than this over the largest rate would be stable without Newton's iteration.
_SHORT = 1.0
#: How many roundings of a number the estimate of its error may be off by.
_ROUNDINGS = 16.0
#: Numbers that are renewed to within this go on as they did; else steps are shorter at first.
_KNOWN, _CAREFUL = 1e-3, 0.5
#: The weight of the latest step among those before.
_MEMORY = 0.2
#: Weights of the residual below e^-_UNFELT are not felt.
_UNFELT = 25.0
#: Where in a step signs are looked at, and where, beyond it, weights of the residual are.
_INSIDE = np.linspace(0.0, 1.0, 4 * STAGES + 1)
_AHEAD = np.linspace(0.0, 4.0, 33)[1:]
#: How far a number may be behind a bend that has just been met, beside its size in the step.
_MET = 1e-8


class RadauSession:
    """One run of collocation from a vector on, in a clock that starts at zero.

    **Arguments:**

    - `field`: the equations.
    - `y`: x, and ln p and ln R with a loss of classification.
    - `clock`: the blocks that set it.
    - `tolerance`: how far any number of x may be off inside a step.
    - `sides`: those of the bends, if they are known.
    """

    def __init__(
        self,
        field: Field,
        y: ndarray,
        clock: ndarray,
        tolerance: float,
        sides: ndarray | None = None,
    ) -> None:
        self.field, self.clock, self.tolerance = field, clock, tolerance
        self.late = field.residual.margin
        self.evaluations = self.products = 0
        self.s = 0.0
        self.method = radau(STAGES)
        self.x, self.u = y[: field.size], y[field.size : -1] if self.late else np.zeros(0)
        self.length = 0.05 / max(field.spread, 1e-300)
        #: x and u on the grid of the last step, where in it that ended, and its length.
        self._last: tuple[ndarray, float, float] | None = None
        #: How much of an error Newton's iteration leaves, relative to its square.
        self._curvature = 1e3
        self._side = np.zeros(field.bends) if sides is None else sides.copy()
        #: Which numbers changed their sides at the end of the latest step.
        self.crossed = np.zeros(field.bends, bool)
        #: dx/ds at the start of the next step, if it is known, and the numbers that have sides.
        self._slope: ndarray | None = None
        #: The share of the latest steps that ended at bends and were short enough for an explicit
        #: method.
        self.bent = 0.0
        self._z = np.zeros(field.bends)
        self._rate = np.inf
        self._weight = np.asarray(field.weights())
        self._begin(sides is not None)

    def follow(self, before: "RadauSession", s: float, renew: Callable[[ndarray], ndarray]) -> None:
        """Learn from a session that was left at s in its last step, its vectors renewed."""
        if before._last is None:
            return
        nodes, cut, length = before._last
        cut += (s - before.s) / length
        nodes = np.hstack([renew(nodes[:, : self.field.size]), nodes[:, self.field.size :]])
        here = np.concatenate([self.x, self.u])
        found = interpolation(self.method.grid, np.array([cut]))[0] @ nodes
        known = np.abs(found - here) <= _KNOWN
        self._last = (np.where(known, nodes, here), cut, length)
        self.length = min(before.length, _GROWTH * length) * (1.0 if known.all() else _CAREFUL)
        self._curvature = before._curvature

    @property
    def sides(self) -> ndarray:
        """The sides of the bends that the next step begins with."""
        return self._side

    def _begin(self, known: bool) -> None:
        """The sides of the bends at the start, layer after layer, if they aren't known."""
        before = None
        for _ in range(64):
            motion, z = self._here()
            if known or (before is not None and np.array_equal(before, self._side)):
                break
            before, self._side = self._side, (z > 0.0).astype(float)
            if not self.field.bends:
                break
        self._slope, self._z = motion, z

    def _here(self) -> tuple[ndarray, ndarray]:
        """dx/ds at the start of a step, and the numbers that have sides."""
        self.evaluations += 1
        motion, _, z = self.field.at_stage(np.append(self.x, self.u), self.clock, self._side)
        return np.asarray(motion), np.asarray(z)

    def _first_slope(self, y: ndarray) -> ndarray:
        """dx/ds at the start of a step that begins at a bend.

        ln p there is that of the step's own polynomial. What the step before ended with would do
        for x, but not for the force, which it moves by more than all that is estimated.
        """
        self.evaluations += 1
        u = interpolation(self.method.node, np.zeros(1))[0] @ y[:, self.field.size :]
        return np.asarray(self.field.at_stage(np.append(self.x, u), self.clock, self._side)[0])

    def step(self) -> Step:
        """One accepted step."""
        for _ in range(200):
            if not self.length > 1e-15 * self.s:
                break
            step = self._attempt(self.length)
            if step is not None:
                return step
        raise StepError("the step has become too small for the clock")

    def _attempt(self, length: float) -> Step | None:
        """A step of a length, or None; then `length` or the sides are new."""
        method = self.method
        solved = self._solve(self._guess(length), length)
        if solved is None:
            self.length = 0.3 * length
            return None
        y, z = solved
        x, size = y[:, : self.field.size], self.field.size
        slope = method.slope @ (x - self.x) / length
        start = method.coefficient[0] @ slope
        known = self._slope if self._slope is not None else self._first_slope(y)
        error = method.between * length * self._size(start - known)
        grow = 0.9 * (self.tolerance / max(error, 1e-300)) ** (1.0 / (STAGES + 1))
        if not error <= self.tolerance:
            self.length = length * max(0.1, min(grow, 0.9))
            return None
        z = np.vstack([self._z, z])
        sides = self._side.copy()
        cut = self._first_change(z)
        self.crossed = self._side != sides
        if cut == 0.0:
            if self.field.torn(self._side, sides):
                raise Torn("bends are crossed again and again")
            return None
        nodes = np.vstack([np.concatenate([self.x, self.u]), y])
        self._last = (nodes, cut, length)
        if cut < 1.0:
            end = method.through(np.array([cut]))[0] @ nodes
            self._slope, self._z = None, method.through(np.array([cut]))[0] @ z
        else:
            end = nodes[-1]
            self._slope, self._z = slope[-1], z[-1]
        first, self.s = self.s, self.s + cut * length
        self.x, self.u = end[:size], end[size:]
        self.length = length * min(_GROWTH, max(0.2, grow), self._until_layer(nodes, cut))
        bent = cut < 1.0 and cut * length * self._rate < _SHORT
        self.bent += _MEMORY * (float(bent) - self.bent)
        if self.late:
            nodes = np.column_stack([nodes, np.zeros(STAGES + 1)])
        last = self.field.log_sums if self.late else None
        return Step(first, self.s, length, method.grid, nodes, last)

    def _size(self, error: ndarray) -> float:
        """The largest error of vectors of x; less than a few roundings of a number is none."""
        rounding = _ROUNDINGS * np.finfo(float).eps * np.abs(self.x) / self.tolerance
        weight = self._weight / np.maximum(1.0, rounding)
        return float((weight * np.abs(error)).max(initial=0.0))

    def _guess(self, length: float) -> ndarray:
        """x and u at the nodes: the last step's polynomial, continued."""
        here = np.concatenate([self.x, self.u])
        if self._last is None:
            return np.tile(here, (STAGES, 1))
        nodes, cut, before = self._last
        ratio = length / before
        degree = STAGES if ratio < 1.4 else 3 if ratio < 2.6 else 1
        grid = self.method.grid[-(degree + 1) :]
        ahead = np.append(cut, cut + ratio * self.method.node)
        values = interpolation(grid, ahead) @ nodes[-(degree + 1) :]
        step = values[1:] - values[0]
        step[:, self.field.size :] = np.clip(step[:, self.field.size :], -1e300, 30.0)
        return here + step

    def _solve(self, y: ndarray, length: float) -> tuple[ndarray, ndarray] | None:
        """x and u at the nodes, and the numbers whose signs the sides are."""
        size = self.field.size
        matrix = length * self.method.matrix
        last = np.inf
        for iteration in range(_NEWTON):
            x, u = y[:, :size], y[:, size:]
            u = u - np.logaddexp.reduce(u, axis=1, keepdims=True) if self.late else u
            self.evaluations += STAGES
            self.products += STAGES * y.shape[1]
            found = self.field.stages(np.hstack([x, u]), self.clock, self._side)
            motion, share, z, derivative = (np.asarray(a) for a in found)
            gap = share - u
            by_p, pull = derivative[:, :size, size:], derivative[:, size:, :size]
            with np.errstate(over="ignore", invalid="ignore"):
                total = derivative[:, :size, :size] + by_p @ pull
                right = self.x - x + matrix @ (motion + np.einsum("ink,ik->in", by_p, gap))
            if not (np.isfinite(right).all() and np.isfinite(total).all()):
                return None
            change = solve_stages(length, total, right)
            if change is None:
                return None
            moved = gap + np.einsum("ikn,in->ik", pull, change)
            # u + kappa e^u = b is solved from any start if e^u grows linearly and falls in logs.
            base = np.maximum(u, -_UNFELT)
            excess = np.maximum(u + moved - base, 0.0)
            moved = np.where(excess > 0.0, base - u + np.log1p(excess), moved)
            felt = length * np.abs(np.einsum("ink,ik->in", by_p, moved)).max(initial=0.0)
            error = max(self._size(change), float(felt))
            y = np.hstack([x + change, u + moved])
            if iteration and last < 0.1:
                self._curvature = max(0.3 * self._curvature, min(error / last**2, 1e6), 1.0)
            if error * min(1.0, self._curvature * error) < _SOLVED * self.tolerance:
                self._rate = largest_rate(total[-1])
                return y, z
            if iteration > 1 and error > 0.9 * last:
                return None
            last = error
        return None

    def _first_change(self, z: ndarray) -> float:
        """Where in a step a bend is met first, 1.0 if none is, and its side is changed.

        0.0 if sides were wrong from the beginning: they are right then.
        """
        if not self.field.bends:
            return 1.0
        sign = 2.0 * self._side - 1.0
        inner = self.method.through(_INSIDE) @ (sign * z)
        # So near to zero the polynomials of both sides are the same, to the tolerance.
        size = np.abs(inner).max(axis=0)
        wrong = inner < -(1e-12 * size + 0.1 * self.tolerance * size.max())
        # A bend was met where the step begins, to the accuracy of its root.
        wrong[0] &= wrong[1] | (inner[0] < -_MET * size)
        met = np.flatnonzero(wrong.any(axis=0))
        if not len(met):
            return 1.0
        index = np.argmax(wrong[:, met], axis=0)
        roots = self._roots((sign * z)[:, met], inner[:, met], index)
        first = float(roots.min())
        changed = met[roots <= first + 1e-10]
        self._side[changed] = 1.0 - self._side[changed]
        return 0.0 if first < 1e-10 else first

    def _roots(self, nodal: ndarray, inner: ndarray, index: ndarray) -> ndarray:
        """Where polynomials leave the positive numbers, in the piece before `_INSIDE[index]`."""
        columns = np.arange(len(index))
        before = np.maximum(index - 1, 0)
        low = _INSIDE[before]
        high = np.where(inner[before, columns] > 0.0, low + _INSIDE[1], low)
        # Only those can be the first.
        earliest = np.flatnonzero(low <= high.min())
        roots, power = high.copy(), np.arange(STAGES + 1)
        coefficients = self.method.monomials @ nodal[:, earliest]
        low, high = low[earliest], high[earliest]
        for _ in range(48):
            middle = 0.5 * (low + high)
            above = np.sum(middle[:, None] ** power * coefficients.T, axis=1) > 0.0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        roots[earliest] = 0.5 * (low + high)
        return roots

    def _until_layer(self, nodes: ndarray, cut: float) -> float:
        """How far the next step may reach, in units of this one, before an example is felt."""
        size = self.field.size
        now = self.u
        far = now < -2.0 * _UNFELT
        if not self.late or not far.any():
            return np.inf
        ahead = interpolation(self.method.grid, cut + _AHEAD) @ nodes[:, size:][:, far]
        level = -_UNFELT + 1e-4 * now[far]
        reached = (ahead > level).any(axis=1)
        if not reached.any():
            return np.inf
        index = int(np.argmax(reached))
        before = ahead[index - 1] if index else now[far]
        start = _AHEAD[index - 1] if index else 0.0
        rise = np.maximum(ahead[index] - before, 1e-300)
        share = np.clip((level - before) / rise, 0.0, 1.0)
        step = float(share[ahead[index] > level].min())
        return max(start + step * (_AHEAD[index] - start), 1e-6)
