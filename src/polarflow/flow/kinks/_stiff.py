"""Stiff windows: Radau IIA collocation with the residual at the nodes as the only unknown.

Late in a fit the residual relaxes at the rates of the kernel K (r' = -factor K r), fast against
the motion of the neurons. Given r, a polynomial through the nodes, neurons move by the same rides
as in any window, kinks included. What the states then predict at the nodes must be that r:
a simplified Newton iteration with I + H factor A (x) K, diagonal in the eigenvectors of K.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from .._collocation import radau
from .._engine import Halt
from ._kernel import LARGEST, kernel
from ._patterns import SLIDE
from ._residual import SQUARE
from ._rides import ride_window
from ._series import given_series

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._moves import Parts, Window
    from ._state import Field, KinkState

STAGES = 6
_SERIES = 30
_NEWTON = 12
#: How often all neurons ride in a stiff window, at least.
_RIDES = 5
#: Explicit windows after which stiff ones that didn't pay are tried again, at most.
_LONGEST_PAUSE = 128
#: Explicit windows shorter than this, in units of the fastest relaxation, are not bound by it; nor
#: those shorter than a part of the length at which a Taylor series of their order is stable, which
#: is about 1.3 + 0.38 order.
_STABLE, _PART = 4.0, 0.7


def ride_along(
    engine: "KinkExactEngine",
    state: "KinkState",
    field: "Field",
    parts: "Parts",
    residual: ndarray,
    length: float,
) -> "Window":
    """All neurons along a given residual: a polynomial, coefficients of shape `(orders, n, C)`."""
    planes = engine.planes
    p, q = planes.normals.shape
    orders, _, outputs = residual.shape
    groups = len(parts.group_side)
    most = max(1, int(np.max(np.sum(parts.group_side == SLIDE, axis=1), initial=0)))
    top = _SERIES + 1
    count = len(parts.w)
    weight, output = np.empty((count, top, q)), np.empty((count, top, outputs))
    raw = np.empty((orders, groups, outputs, q))
    force = np.empty((groups, orders, outputs, q))
    multiplier = np.empty((groups, orders, most, outputs))
    on, jump = np.empty((2, orders, p, outputs))
    must_ride = np.empty(count, dtype=np.bool_)
    given_series(
        parts.w, parts.a, parts.particle_group, parts.group_side, parts.active, parts.tree,
        residual, length, planes.normals, planes.plane, planes.plus, planes.minus, parts.slides,
        parts.inverse, engine.series_tolerance, weight, output, on, jump, raw, force, multiplier,
        must_ride,
    )  # fmt: skip
    return ride_window(
        engine, state, field, parts, (weight, output, _SERIES),
        (on, jump, raw, multiplier, orders - 1), length, must_ride=must_ride[parts.first],
    )  # fmt: skip


class StiffSolver:
    """Proposes stiff windows and keeps their length between calls."""

    def __init__(self, engine: "KinkExactEngine") -> None:
        self.engine = engine
        self.active = False
        self.length = 0.0
        self._waiting = 0
        self._work = 0.0
        self._rate = np.inf
        self._explicit = np.inf
        self._stable = _STABLE
        self._pause, self._longest_pause = 0, 16

    def restart(self) -> None:
        """Forget what was learnt: the state is a new one."""
        self.active = False
        self._waiting = 0
        self._rate = np.inf
        self._pause, self._longest_pause = 0, 16

    def spend(self, work: float) -> None:
        """Learn of work that was done."""
        self._work += work

    def advanced(self, length: float) -> None:
        """Learn that an explicit window was taken: its work for a unit of time."""
        rate = self._work / max(length, 1e-300)
        self._rate = rate if self._rate == np.inf else 0.8 * self._rate + 0.2 * rate
        self._work = 0.0
        self._pause = max(0, self._pause - 1)

    def notice(self, length: float, bound: float, order: int) -> None:
        """Learn of an explicit window: several in a row at the edge of stability start us."""
        self._stable = min(_STABLE, _PART * (1.3 + 0.38 * order))
        self._waiting = self._waiting + 1 if bound * length > 1.0 else 0
        self._explicit = max(self._explicit, length) if self._waiting > 1 else length
        if self._waiting >= 6 and self._pause == 0:
            self.active = True
            self.length = 4.0 * length
            self._waiting = 0

    def _judge(self, length: float) -> None:
        """Stop for a while if explicit windows would have done the same for much less work."""
        if self._work > 2.0 * self._rate * length:
            self.active = False
            self._pause = self._longest_pause
            self._longest_pause = min(2 * self._longest_pause, _LONGEST_PAUSE)
        else:
            self._longest_pause = 16
        self._work = 0.0

    def window(self, state: "KinkState", field: "Field", longest: float) -> "Window | None":
        """A stiff window, or None where it doesn't pay."""
        engine = self.engine
        if engine.kind != SQUARE or engine.label.size > LARGEST:
            return None
        method = radau(STAGES)
        self._work = 0.0
        values, vectors = np.linalg.eigh(engine.factor * kernel(engine, state))
        values = np.maximum(values, 0.0)
        if self._explicit * values[-1] < self._stable:
            self.active = False
            self._pause = self._longest_pause
            return None
        self._explicit = np.inf
        edge = 4.0 / max(float(values[-1]), 1e-300)
        allowed = engine.allowed(field.residual)
        self.length = max(self.length, 6.0 * edge)
        length = min(self.length, longest)
        parts = engine.parts(state, field)
        for _ in range(40):
            if length < min(3.0 * edge, longest) or self._work > 4.0 * self._rate * self.length:
                break
            try:
                solved = self._solve(method, state, field, parts, length, values, vectors, allowed)
            except Halt:
                # A trial residual far from the solution: not the flow's fault.
                solved = None
            if not self.active:
                break
            if solved is None:
                length *= 0.4
                continue
            window, error = solved
            # Rounding of the predictions is no error of the collocation.
            error -= 4e-16 * engine.factor * float(np.abs(engine.label).max()) * (
                engine.planes.spread * length
            )  # fmt: skip
            ratio = 0.8 * (allowed / max(error, 1e-300)) ** (1.0 / STAGES)
            if error <= allowed:
                if length >= self.length or ratio < 1.0:
                    self.length = length * min(max(ratio, 0.5), 4.0)
                self._judge(length)
                return window
            length *= max(0.2, min(ratio, 0.8))
        self.active = False
        self._judge(0.0)
        return None

    def _solve(self, method, state, field, parts, length, values, vectors, allowed):
        engine, planes = self.engine, self.engine.planes
        shape = field.residual.shape
        system = np.eye(STAGES) + (length * values)[:, None, None] * method.matrix
        inverse = np.linalg.inv(system)
        residual = field.residual.reshape(-1)
        # The first guess is what the kernel of the moment would do.
        decay = np.exp(-length * method.node[:, None] * values)
        nodal = (decay * (vectors.T @ residual)) @ vectors.T
        size = float(np.abs(residual).max())
        target = 0.02 * allowed / (planes.spread * length)
        floor = 4e-16 * engine.factor * float(np.abs(engine.label).max())
        previous = np.inf
        between = np.sort(
            np.concatenate([method.node, 0.5 * (method.node + np.append(0.0, method.node[:-1]))])
        )
        for iteration in range(_NEWTON):
            window = self._ride(method, state, field, parts, nodal.reshape(STAGES, *shape), length)
            engine.evaluations += STAGES + 1
            if _RIDES * window.work > self._rate * length:
                # Events are most of the work, and are all met again in each iteration.
                self.active = False
                return None
            reached = self._residuals(window, length * method.node)
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
        window = self._ride(method, state, field, parts, nodal.reshape(STAGES, *shape), length)
        offsets = length * between
        engine.evaluations += len(offsets) + 1
        power = between[:, None] ** np.arange(STAGES)
        error = self._residuals(window, offsets) - power @ (method.coefficient @ nodal)
        # The integral of the error of r, by the trapezoidal rule, is what moves the neurons.
        steps = np.diff(np.append(0.0, offsets))
        middle = 0.5 * (error + np.vstack([error[:1], error[:-1]]))
        integral = np.cumsum(steps[:, None] * middle, axis=0)
        return window, planes.spread * float(np.linalg.norm(integral, axis=1).max())

    def _residuals(self, window: "Window", offsets: ndarray) -> ndarray:
        engine = self.engine
        predictions = window.predictions(offsets)
        return (engine.factor * (engine.label - predictions)).reshape(len(offsets), -1)

    def _ride(self, method, state, field, parts, nodal, length):
        scale = length ** np.arange(STAGES)[:, None, None]
        residual = np.tensordot(method.coefficient, nodal, 1) / scale
        self.spend(len(parts.w) * 4 * _SERIES)
        window = ride_along(self.engine, state, field, parts, residual, length)
        self.spend(window.work)
        return window
