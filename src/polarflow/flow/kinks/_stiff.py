"""Stiff windows: Radau IIA collocation with the residual at the nodes as the only unknown.

Late in a fit the residual relaxes at the rates of the kernel K (r' = -factor K r), fast against
the motion of the neurons. Given r, a polynomial through the nodes, neurons move by the same rides
as in any window, kinks included. What the states then predict at the nodes must be that r:
a simplified Newton iteration with I + H factor A (x) K, diagonal in the eigenvectors of K.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy import ndarray

from ._error import CapError
from ._motion import neuron_series
from ._patterns import ON, SLIDE, plane_forces, pseudo_inverse
from ._state import Series

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._state import KinkState

STAGES = 6
_SERIES = 16
_NEWTON = 12


@dataclass(frozen=True)
class Collocation:
    """Nodes in (0, 1], the Runge-Kutta matrix, polynomial coefficients from nodal values."""

    node: ndarray
    matrix: ndarray
    coefficient: ndarray


@cache
def radau(stages: int = STAGES) -> Collocation:
    """The Radau IIA method of order 2 * stages - 1."""
    from scipy.special import roots_jacobi

    inner, _ = roots_jacobi(stages - 1, 1.0, 0.0)
    node = np.append((inner + 1.0) / 2.0, 1.0)
    power = np.arange(stages)
    coefficient = np.linalg.inv(node[:, None] ** power)
    integral = node[:, None] ** (power + 1) / (power + 1)
    return Collocation(node, integral @ coefficient, coefficient)


def kernel(engine: "KinkExactEngine", state: "KinkState", big: ndarray | None = None) -> ndarray:
    """The n x n kernel K with r' = -factor K r inside the patterns of a state.

    Only the neurons marked `big` count, by default all that can be felt.
    """
    planes = engine.planes
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * state.log_scale) * np.abs(state.sign)
    if big is None:
        big = share > 1e-12 * share.max(initial=0.0)
    share, side, w = share[big], state.side[big], state.w[big]
    of = side[:, planes.plane]
    act = np.where(of == ON, planes.plus, np.where(of == SLIDE, 0.0, planes.minus))
    act[:, planes.plane < 0] = 0.0
    normal = planes.normals[planes.plane]
    value = act * (w @ normal.T)
    gram = normal @ normal.T
    result = (value * share[:, None]).T @ value + ((act * share[:, None]).T @ act) * gram
    for j in np.nonzero((side == SLIDE).any(axis=1))[0]:
        basis = np.linalg.qr(planes.normals[side[j] == SLIDE].T)[0]
        part = act[j][:, None] * (normal @ basis)
        result -= share[j] * part @ part.T
    return result


@njit(cache=True, error_model="numpy")
def given_series(
    w,
    a,
    group,
    group_side,
    residual,
    length,
    normals,
    plane,
    plus,
    minus,
    tolerance,
    weight,
    output,
    force,
    multiplier,
    on_force,
    off_force,
    must_ride,
):
    """Taylor series of every neuron along a given residual; marks those it doesn't reach for."""
    m, q = w.shape
    groups, p = group_side.shape
    order = weight.shape[1] - 1
    degree = residual.shape[0] - 1
    for i in range(degree + 1):
        plane_forces(residual[i], plane, plus, minus, on_force[i], off_force[i])
    inverse = np.empty((p, q))
    for g in range(groups):
        slides = pseudo_inverse(group_side[g], normals, inverse)
        # A series of order zero takes the forces alone.
        neuron_series(
            group_side[g], normals, on_force, off_force, degree, inverse, slides, 0,
            weight[0], output[0], force[g], multiplier[g],
        )  # fmt: skip
    for j in range(m):
        g = group[j]
        weight[j, 0, :] = w[j]
        output[j, 0] = a[j]
        last = 0.0
        power = 1.0
        for i in range(order):
            power *= length
            s = 0.0
            for c in range(q):
                weight[j, i + 1, c] = 0.0
            for b in range(max(0, i - degree), i + 1):
                al = output[j, b]
                for c in range(q):
                    s += weight[j, b, c] * force[g, i - b, c]
                    weight[j, i + 1, c] += al * force[g, i - b, c]
            output[j, i + 1] = s / (i + 1)
            last = abs(output[j, i + 1])
            for c in range(q):
                weight[j, i + 1, c] /= i + 1
                last = max(last, abs(weight[j, i + 1, c]))
        must_ride[j] = last * power > tolerance


class StiffSolver:
    """Proposes stiff windows and keeps their length between calls."""

    def __init__(self, engine: "KinkExactEngine") -> None:
        self.engine = engine
        self.active = False
        self.length = 0.0
        self._waiting = 0

    def restart(self) -> None:
        """Forget what was learnt: the state is a new one."""
        self.active = False
        self._waiting = 0

    def notice(self, length: float, bound: float) -> None:
        """Learn of an explicit window: several in a row at the edge of stability start us."""
        self._waiting = self._waiting + 1 if bound * length > 1.0 else 0
        if self._waiting >= 6:
            self.active = True
            self.length = 4.0 * length
            self._waiting = 0

    def window(self, state: "KinkState", residual: ndarray, longest: float):
        """The series of a stiff window and its length, or None where it doesn't pay."""
        engine = self.engine
        method = radau()
        values, vectors = np.linalg.eigh(engine.factor * kernel(engine, state))
        values = np.maximum(values, 0.0)
        edge = 4.0 / max(float(values[-1]), 1e-300)
        allowed = engine.step_tolerance
        self.length = max(self.length, 6.0 * edge)
        length = min(self.length, longest)
        for _ in range(40):
            if length < min(3.0 * edge, longest):
                self.active = False
                return None
            try:
                solved = self._solve(method, state, residual, length, values, vectors, allowed)
            except CapError:
                # A trial residual far from the solution: not the flow's fault.
                solved = None
            if solved is None:
                length *= 0.4
                continue
            series, error = solved
            ratio = 0.8 * (allowed / max(error, 1e-300)) ** (1.0 / STAGES)
            if error <= allowed:
                if length >= self.length or ratio < 1.0:
                    self.length = length * min(max(ratio, 0.5), 4.0)
                return series, length
            length *= max(0.2, min(ratio, 0.8))
        self.active = False
        return None

    def _solve(self, method, state, residual, length, values, vectors, allowed):
        engine, planes = self.engine, self.engine.planes
        system = np.eye(STAGES) + (length * values)[:, None, None] * method.matrix
        inverse = np.linalg.inv(system)
        nodal = np.tile(residual, (STAGES, 1))
        size = float(np.abs(residual).max())
        target = 0.02 * allowed / (planes.spread * length)
        floor = 4e-16 * engine.factor * float(np.abs(engine.label).max())
        previous = np.inf
        between = np.sort(
            np.concatenate([method.node, 0.5 * (method.node + np.append(0.0, method.node[:-1]))])
        )
        for iteration in range(_NEWTON):
            series = self._ride(method, state, nodal, length)
            window = engine.open(state, length, series)
            offsets = length * method.node
            engine.evaluations += STAGES + 1
            reached = np.array([engine.residual(s) for s in window.states(offsets)])
            if not np.isfinite(reached).all():
                return None
            defect = (reached - nodal) @ vectors
            change = np.einsum("kij,jk->ik", inverse, defect) @ vectors.T
            nodal = nodal + change
            moved = float(np.abs(change).max())
            if moved <= max(target, floor):
                break
            if moved > 0.7 * previous and iteration > 3 or np.abs(nodal).max() > 10.0 * size:
                return None
            previous = moved
        else:
            return None
        series = self._ride(method, state, nodal, length)
        window = engine.open(state, length, series)
        offsets = length * between
        states = window.states(offsets)
        engine.evaluations += len(offsets) + 1
        power = between[:, None] ** np.arange(STAGES)
        error = np.array([engine.residual(s) for s in states]) - power @ (
            method.coefficient @ nodal
        )
        # The integral of the error of r, by the trapezoidal rule, is what moves the neurons.
        steps = np.diff(np.append(0.0, offsets))
        middle = 0.5 * (error + np.vstack([error[:1], error[:-1]]))
        integral = np.cumsum(steps[:, None] * middle, axis=0)
        return series, planes.spread * float(np.linalg.norm(integral, axis=1).max())

    def _ride(self, method, state, nodal, length):
        engine, planes = self.engine, self.engine.planes
        m, q = state.w.shape
        p = len(planes.normals)
        group, group_side = engine.groups(state)
        groups = len(group_side)
        most = max(1, int(np.max(np.sum(group_side == SLIDE, axis=1), initial=0)))
        top = _SERIES + 1
        residual = (method.coefficient @ nodal) / length ** np.arange(STAGES)[:, None]
        weight, output = np.empty((m, top, q)), np.empty((m, top))
        force = np.empty((groups, STAGES, q))
        multiplier = np.empty((groups, STAGES, most))
        on_force, off_force = np.empty((STAGES, p)), np.empty((STAGES, p))
        must_ride = np.empty(m, dtype=np.bool_)
        tolerance = engine.series_tolerance
        given_series(
            state.w, state.sign, group, group_side, residual, length, planes.normals, planes.plane,
            planes.plus, planes.minus, tolerance, weight, output, force, multiplier, on_force,
            off_force, must_ride,
        )  # fmt: skip
        with np.errstate(under="ignore"):
            share = np.exp(2.0 * state.log_scale)
        first, _, _ = engine.first_events(
            group, group_side, share, weight, output, multiplier, on_force, off_force,
            _SERIES, STAGES - 1, length,
        )  # fmt: skip
        first[must_ride] = 0.0
        return Series(share, first, weight, output, _SERIES, residual, STAGES - 1)
