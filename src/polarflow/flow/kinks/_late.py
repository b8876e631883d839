"""Late windows: collocation with the distribution of the residual as the only unknown.

Once the examples are fitted, a loss of classification falls for ever: margins z and norms grow,
and the residual is carried by few examples. With q_i = -dl/dz_i / factor, R = sum_i q_i and
p = q / R, the weights move in the time d tau = factor R dt under p alone: they grow like
e^{gamma tau}, the logarithm of the loss like e^{2 gamma tau}, and p hardly changes. But p is
slaved: p_i = q(z_i)/R, where z moves at the rates of the kernel, z' = M K M^T p, of the size of z.
An explicit step would have to resolve 1/z.

So p, a polynomial in tau through the nodes of Radau IIA, is the unknown. Given p, neurons move by
the same rides as in any window, through all their kinks. At the nodes their states predict
margins, and these a distribution, which must be p. Newton's iteration for u = ln p takes, at every
node i,

    du_i + B_i M K_i M^T sum_j h A_ij p_j du_j + lambda_i 1 = ln q(z_i) - lse - u_i,  p_i.du_i = 0,

B = -d ln q / dz. Where the kernel is large, p is determined by z to its own rounding divided by
the kernel: no digit is lost at a loss of exp(-1e10), although ln q is then known to 1e-6 only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from .._collocation import Collocation, radau
from .._logs import log_sum
from ._shares import Margins
from ._stiff import STAGES

_NEWTON = 14
#: Margins whose share of the residual moves them by less than this are iterated by substitution.
_WEAK = 0.02
#: The largest linear system that a Newton step may solve.
_LARGEST = 1500


class Ridden(Protocol):
    """Neurons along a given residual: what a late window asks of the engine's windows."""

    def predictions(self, offsets: ndarray) -> ndarray:
        """Predictions at offsets, shape `(T, n, C)`; each counts as a field evaluation."""

    def states(self, offsets: ndarray) -> Sequence[Any]:
        """States at increasing offsets."""

    def accept(self, offset: float) -> None:
        """Count what happened up to an offset as done."""

    def first_event(self, after: float) -> float:
        """The first time after an offset at which a neuron that can be felt meets a kink; inf."""


@dataclass(frozen=True)
class Field:
    """What late windows need of an engine.

    **Attributes:**

    - `ride(coefficients, length)`: all neurons, from the window's start, along the residual that
      is the polynomial of the given coefficients, shape `(orders, n, C)`, up to the length.
    - `kernel(state)`: the kernel K with h' = K r inside the patterns, over examples and outputs.
    """

    ride: Callable[[ndarray, float], Ridden]
    kernel: Callable[[Any], ndarray]


@dataclass(frozen=True)
class LateSeries:
    """A late window: neurons ride along p, a polynomial; `log_rate` is ln(factor R).

    **Attributes:**

    - `ridden`: the neurons along M^T p.
    - `length`: how far the window reaches.
    - `coefficient`: of p in the offset, shape `(STAGES, margins)`.
    - `offset`, `log_rate`: offsets from 0 to `length`, and ln(factor R) there.
    - `fastest`: the fastest rate at the end, of relaxation of p or of fall of R.
    """

    ridden: Ridden
    length: float
    coefficient: ndarray
    offset: ndarray
    log_rate: ndarray
    fastest: float

    def weights(self, offsets: ndarray) -> ndarray:
        """p at offsets."""
        return offsets[:, None] ** np.arange(len(self.coefficient)) @ self.coefficient

    def rate(self, offsets: ndarray) -> ndarray:
        """ln(factor R) at offsets, by interpolation."""
        from scipy.interpolate import BarycentricInterpolator

        return BarycentricInterpolator(self.offset, self.log_rate)(offsets)

    def log_elapsed(self, offsets: ndarray) -> ndarray:
        """ln of the physical time, the integral of d tau / (factor R), from 0 to each offset.

        The integrand grows by factors that no float holds and is largest at the end: panels
        double in width from there. The logarithm has the relative accuracy of ln R; the time
        itself, relative to itself, the absolute one.
        """
        from scipy.interpolate import BarycentricInterpolator

        rate = BarycentricInterpolator(self.offset, self.log_rate)
        node, weight = np.polynomial.legendre.leggauss(12)
        result = np.empty(len(offsets))
        for i, end in enumerate(offsets):
            near = end - min(1e-3 * self.length, 0.5 * end)
            slope = float(rate(near) - rate(end)) / (end - near)
            first = min(1.0 / max(slope, 1.0 / end), end)
            edges = [0.0]
            while edges[-1] < end and edges[-1] < 60.0 * first:
                edges.append(min(end, first if len(edges) == 1 else 2.0 * edges[-1]))
            low, high = np.array(edges[:-1]), np.array(edges[1:])
            half = 0.5 * (high - low)
            at = end - (0.5 * (high + low)[:, None] + half[:, None] * node)
            logs = -rate(at.reshape(-1)) + np.log((half[:, None] * weight).reshape(-1))
            result[i] = log_sum(logs)
        return result


def _tail(position: ndarray, value: ndarray) -> float:
    """The last two Chebyshev coefficients of the polynomial through values at points of [0, 1]."""
    series = np.polynomial.chebyshev.chebvander(2.0 * position - 1.0, len(position) - 1)
    return float(np.abs(np.linalg.solve(series, value)[-2:]).sum())


class LateSolver:
    """Proposes late windows and keeps what it learnt between calls.

    **Arguments:**

    - `margins`: those of the loss.
    - `reach`: a bound of the speed that each prediction's unit residual gives a unit neuron,
      shape `(n * C,)`.
    - `factor`: what multiplies the loss's sum.
    - `allowed`: what a window may do to any log-norm; and how far the interpolated ln R may be
      off, relative to its size at the window's start if that is above one.
    """

    def __init__(self, margins: Margins, reach: ndarray, factor: float, allowed: float) -> None:
        self.margins = margins
        self.log_factor = float(np.log(factor))
        self.allowed = allowed
        self.length = 0.0
        self._reach = reach[margins.plus]
        if margins.kind == "cross_entropy":
            self._reach = self._reach + reach[margins.minus]
        self._last: tuple[ndarray, float] | None = None
        self._obstacle = np.inf

    def restart(self) -> None:
        """Forget what was learnt: the next state doesn't follow the last."""
        self._last = None
        self.length = 0.0

    def _margins(self, ridden: Ridden, offsets: ndarray) -> ndarray:
        return np.array([self.margins.of(h) for h in ridden.predictions(offsets)])

    def _log_rate(self, z: ndarray) -> ndarray:
        """ln(factor R) at margins."""
        return log_sum(self.margins.log_weight(z)) + self.log_factor

    def _log_share(self, z: ndarray) -> ndarray:
        """ln p at margins."""
        logs = self.margins.log_weight(z)
        return logs - log_sum(logs)[..., None]

    def window(self, field: Field, prediction: ndarray, shortest: float = 0.0) -> LateSeries | None:
        """A late window from a state with given predictions.

        None where one longer than `shortest` isn't found.
        """
        self.field = field
        method = radau(STAGES)
        start = self.margins.of(prediction)
        log_p, log_rate = self._log_share(start), self._log_rate(start)
        if not np.isfinite(log_rate):
            return None
        length = self.length
        planned = True
        trial = shortest > 0.0
        for _ in range(2 if trial else 30):
            if planned and not length > shortest:
                return None
            solved = self._solve(method, self._guess(method, log_p, length), length, trial)
            if solved is None:
                if planned and self._obstacle < 0.9 * length:
                    length, planned = 0.98 * self._obstacle, False
                else:
                    length, planned = 0.4 * length, True
                continue
            logs, ridden, kernels, at_nodes = solved
            between = 0.5 * (method.node + np.append(0.0, method.node[:-1]))
            z = self._margins(ridden, length * between)
            rates = np.append(at_nodes, self._log_rate(z))
            error = self._effect(
                between[:, None] ** np.arange(STAGES) @ (method.coefficient @ np.exp(logs)),
                self._log_share(z),
                length * np.array([np.diag(k) for k in kernels]),
                length,
            )
            grow = 0.8 * (self.allowed / max(error, 1e-300)) ** (1.0 / STAGES)
            offset = np.concatenate([[0.0], length * method.node, length * between])
            rates = np.append(log_rate, rates)
            late = _tail(offset / length, rates)
            most = self.allowed * max(1.0, abs(float(log_rate)))
            longer = 0.9 * (most / max(late, 1e-300)) ** (1.0 / len(rates))
            if late > max(most, 1e-14 * float(np.abs(rates).max())):
                length, planned = length * max(0.2, min(longer, 0.9)), True
                continue
            grow = min(grow, longer)
            event = ridden.first_event(1e-7 * length)
            if error > self.allowed:
                if event < 0.999 * length and event < (2.0 * grow + 0.5) * length:
                    length, planned = 0.98 * event, False
                else:
                    length, planned = length * max(0.2, min(grow, 0.8)), True
                continue
            end = length
            relaxation, fall = self.rates(np.exp(logs[-1]), kernels[-1])
            if 0.95 * length < event <= 1.03 * length:
                end = event + 1e-11 * length
                offset = np.append(offset, end)
                rates = np.append(rates, self._log_rate(self._margins(ridden, offset[-1:])))
                # The distribution jumps to where the new patterns hold it, in a layer of this
                # thickness.
                self.length = min(length, 3.0 / max(relaxation, 1e-300))
                self._last = None
            else:
                self.length = length * min(max(grow, 0.3), 4.0)
                if not planned:
                    # The event that cut it is still ahead, and better foreseen from here.
                    ahead = self._ride(method, np.exp(logs), length, 2.0 * length)
                    event = min(ahead.first_event(end), 2.0 * length)
                    self.length = min(self.length, event - end)
                self._last = (logs, length)
            coefficient = (method.coefficient @ np.exp(logs)) / length ** np.arange(STAGES)[:, None]
            index = np.argsort(offset)
            return LateSeries(
                ridden, end, coefficient, offset[index], rates[index], max(relaxation, fall)
            )
        return None

    def _guess(self, method: Collocation, log_p: ndarray, length: float) -> ndarray:
        """ln p at the nodes: the last window's, continued; at first constant."""
        if self._last is None:
            return np.tile(log_p, (STAGES, 1))
        logs, before = self._last
        ahead = length / before
        degree = 5 if ahead < 0.6 else 3 if ahead < 1.5 else 2 if ahead < 3.0 else 1
        known = method.node[-(degree + 1) :] - 1.0
        fit = np.linalg.solve(np.vander(known, degree + 1), logs[-(degree + 1) :])
        step = np.vander(ahead * method.node, degree + 1) @ fit - fit[-1]
        return log_p + np.clip(step, -30.0, 30.0)

    def _ride(self, method: Collocation, p: ndarray, length: float, end: float) -> Ridden:
        coefficient = (method.coefficient @ p) / length ** np.arange(STAGES)[:, None]
        return self.field.ride(self.margins.spread(coefficient), end)

    def _solve(
        self, method: Collocation, logs: ndarray, length: float, trial: bool
    ) -> tuple[ndarray, Ridden, list[ndarray], ndarray] | None:
        """At the nodes ln p, the rides along it, the kernels and ln(factor R)."""
        kernels: list[ndarray] = []
        previous = np.inf
        for iteration in range(_NEWTON // 2 if trial else _NEWTON):
            logs = logs - log_sum(logs)[:, None]
            p = np.exp(logs)
            ridden = self._ride(method, p, length, length)
            z = self._margins(ridden, length * method.node)
            reached = self._log_share(z)
            gap = reached - logs
            if iteration == 0:
                # Where the guess meets a kink, should the iteration fail.
                self._obstacle = ridden.first_event(1e-7 * length)
            if not np.isfinite(gap).all():
                return None
            if iteration < 3:
                states = ridden.states(length * method.node)
                kernels = [self.margins.kernel(self.field.kernel(s)) for s in states]
            pull = length * np.array([np.diag(k) for k in kernels])
            error = self._effect(p, reached, pull, length)
            if error <= max(0.02 * self.allowed, 1e-15):
                return logs, ridden, kernels, self._log_rate(z)
            if iteration > (1 if trial else 3) and error > 0.8 * previous:
                return None
            previous = error
            strong = np.max(p * pull, axis=0) > _WEAK
            change = gap
            if strong.any():
                if STAGES * (np.count_nonzero(strong) + 1) > _LARGEST:
                    return None
                found = self._newton(method, p, z, gap, kernels, strong, length)
                if found is None:
                    return None
                inner, shift = found
                change = gap - shift
                change[:, strong] = inner
            # ln p + kappa p = b is solved from any start if p grows linearly and decays in logs.
            growing = (change > 0.0) & strong
            change = np.where(growing, np.log1p(np.maximum(change, 0.0)), change)
            logs = logs + np.clip(change, -200.0, 200.0)
        return None

    def _newton(
        self,
        method: Collocation,
        p: ndarray,
        z: ndarray,
        gap: ndarray,
        kernels: list[ndarray],
        strong: ndarray,
        length: float,
    ) -> tuple[ndarray, ndarray] | None:
        count = int(np.count_nonzero(strong))
        system = np.zeros((STAGES, count + 1, STAGES, count + 1))
        right = np.zeros((STAGES, count + 1))
        for i in range(STAGES):
            pulled = self.margins.slope(z[i], kernels[i])[np.ix_(strong, strong)]
            for j in range(STAGES):
                system[i, :count, j, :count] = length * method.matrix[i, j] * pulled * p[j, strong]
            system[i, :count, i, :count] += np.eye(count)
            system[i, :count, i, count] = 1.0
            system[i, count, i, :count] = p[i, strong]
            right[i, :count] = gap[i, strong]
        size = STAGES * (count + 1)
        try:
            found = np.linalg.solve(system.reshape(size, size), right.reshape(size))
        except np.linalg.LinAlgError:
            return None
        found = found.reshape(STAGES, count + 1)
        return found[:, :count], found[:, count:]

    def _effect(self, p: ndarray, reached: ndarray, pull: ndarray, length: float) -> float:
        """What the difference between p and the exp(reached) of the states does to log-norms.

        The true distribution is nearer to p than what the states reach, by the factor 1 + h K p
        by which the kernel pulls the two together; with a strong pull it differs from p only by
        what undoes the gap of the logarithms.
        """
        target = np.exp(reached)
        with np.errstate(divide="ignore", invalid="ignore"):
            gap = np.abs(reached - np.log(np.maximum(p, 0.0)))
        strong = np.abs(p) * np.minimum(gap, 1e300) / (1.0 + np.abs(p) * pull)
        weak = np.abs(target - p) / (1.0 + np.minimum(target, np.abs(p)) * pull)
        return float(np.max(self._reach * length * np.minimum(strong, weak)))

    def rates(self, p: ndarray, kernel: ndarray) -> tuple[float, float]:
        """How fast p relaxes and R falls: what an explicit step would have to resolve.

        The first is the largest eigenvalue of P^(1/2) K P^(1/2), as changes of p sum to zero; the
        second is p.K p.
        """
        some = p > 1e-12
        root = np.sqrt(p[some])
        matrix = root[:, None] * kernel[np.ix_(some, some)] * root
        fall = float(root @ matrix @ root)
        matrix = matrix - np.outer(root, root @ matrix)
        matrix = matrix - np.outer(matrix @ root, root)
        return float(np.linalg.norm(matrix, 2)), fall
