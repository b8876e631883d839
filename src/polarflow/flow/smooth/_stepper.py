"""Implicit multistep integration by CVODE, each step kept as the polynomial that CVODE made it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from .._collocation import interpolation
from .._logs import log_sum
from ._field import Field

#: Nodes of a step's polynomial in [0, 1]: as many as determine one of the method's largest order.
_NODES = 0.5 - 0.5 * np.cos(np.pi * np.arange(6) / 5)
#: Systems above this size are solved by Krylov iteration with Jacobian-vector products.
DENSE = 900
_KRYLOV = 30
#: Gauss-Legendre points for the time that passes in a piece of a step.
_GAUSS, _GAUSS_WEIGHT = np.polynomial.legendre.leggauss(8)
#: In a piece the logarithm of the clock's speed changes by at most this.
_CHANGE = 2.0
#: Time that passes this many nats more slowly than elsewhere in a step is not resolved.
_NEGLIGIBLE = 42.0


class StepError(Exception):
    """The solver could not go on."""


class Torn(StepError):
    """Sides were wrong at the start, and with the right ones a bundle is torn there."""


@dataclass(frozen=True)
class Step:
    """One step: the clock from `start` to `end`, and a polynomial.

    It has the values `nodes`, `(k, N)`, at `start + length * grid`. With `last`, the last number
    of a vector is a function of the others, found anew; it takes vectors `(k, N - 1)`. `passed`
    is the logarithm of the time that passes in the step, if that is known.
    """

    start: float
    end: float
    length: float
    grid: ndarray
    nodes: ndarray
    last: Callable[[ndarray], ndarray] | None = None
    passed: float | None = None

    def known(self, s: ndarray) -> ndarray:
        """The vectors at clock readings `(k,)`, shape `(k, N)`, without their `last` numbers."""
        u = (np.asarray(s, dtype=float) - self.start) / self.length
        return interpolation(self.grid, u) @ self.nodes

    def at(self, s: ndarray) -> ndarray:
        """The vectors at clock readings `(k,)`, shape `(k, N)`."""
        found = self.known(s)
        if self.last is not None:
            found[:, -1] = self.last(found[:, :-1])
        return found


class Session:
    """One run of CVODE from a vector on, in a clock that starts at zero."""

    def __init__(self, field: Field, y: ndarray, clock: ndarray, late: bool, rtol: float) -> None:
        from sksundae import cvode

        self.field, self.clock, self.late = field, clock, late
        self.evaluations = self.products = 0
        self.s = 0.0
        self.y = y
        size = len(y)
        # CVODE bounds the root mean square of errors over tolerances, which would let one number,
        # such as rho, be off by the root of how many there are.
        rtol = rtol / np.sqrt(size)
        atol = np.full(size, rtol)
        options: dict[str, Any] = {}
        if size <= DENSE:
            options["linsolver"] = "dense" if size <= 80 else "lapackdense"
            options["jacfn"] = self._jacobian
        else:
            options |= {"linsolver": "gmres", "krylov_dim": _KRYLOV}
            options["jactimes"] = cvode.CVODEJacTimes(None, self._product)
        # Logarithms of norms and unit vectors have absolute errors; ln p and ln R, where they are
        # far below zero, relative ones.
        relative = rtol if late else 1e-14
        first = 1e-3 / max(field.spread, 1e-300)
        self._solver = cvode.CVODE(
            self._velocity, method="BDF", rtol=relative, atol=atol, first_step=first, **options
        )
        self._solver.init_step(0.0, y)

    def _velocity(self, s: float, y: ndarray, out: ndarray) -> None:
        self.evaluations += 1
        out[:] = self.field.compiled(y, self.clock, self.late)

    def _jacobian(self, s: float, y: ndarray, dy: ndarray, out: ndarray) -> None:
        self.products += len(y)
        out[:] = self.field.jacobian(y, self.clock, self.late)

    def _product(self, s: float, y: ndarray, dy: ndarray, v: ndarray, out: ndarray) -> None:
        self.products += 1
        out[:] = self.field.product(y, self.clock, self.late, v)

    def step(self) -> Step:
        """One accepted step."""
        start = self.s
        for _ in range(2):
            # After an interpolation CVODE returns the end of the last step once more.
            result = self._solver.step(1e300, method="onestep")
            if not result.success or not np.isfinite(result.y).all():
                raise StepError(str(result.message).strip())
            if result.t > start:
                break
        else:
            raise StepError("the step has become too small for the clock")
        self.s = float(result.t)
        inner = [
            self._solver.step(t, method="normal").y for t in start + _NODES[1:-1] * (self.s - start)
        ]
        nodes = np.array([self.y, *inner, result.y])
        last = self.field.log_sums if self.late else None
        step = Step(start, self.s, self.s - start, _NODES, nodes, last)
        self.y = np.array(result.y)
        return step


def log_elapsed(
    field: Field, step: Step, start: float, ends: ndarray, clock: ndarray, late: bool
) -> ndarray:
    """The logarithm of the time from one clock reading in a step to later ones, `(k,)`.

    t = int e^-mu ds by Gauss-Legendre quadrature on pieces in which mu changes little.
    """
    edge = np.unique(np.concatenate([np.linspace(start, float(ends[-1]), 9), ends]))
    mu = field.log_speed(step.at(edge), clock, late)
    for _ in range(60):
        # What counts for a later reading is what passes most quickly until then.
        least = np.minimum.accumulate(mu)[np.searchsorted(edge, ends)]
        floor = least[np.searchsorted(ends, edge[1:])] + _NEGLIGIBLE
        low = np.minimum(mu[:-1], mu[1:])
        split = (np.abs(np.diff(mu)) > _CHANGE) & (low < floor)
        if not split.any():
            break
        middle = 0.5 * (edge[:-1] + edge[1:])[split]
        order = np.argsort(np.concatenate([edge, middle]), kind="stable")
        mu = np.concatenate([mu, field.log_speed(step.at(middle), clock, late)])[order]
        edge = np.concatenate([edge, middle])[order]
    half = 0.5 * np.diff(edge)
    s = (edge[:-1, None] + half[:, None]) + half[:, None] * _GAUSS
    mu = field.log_speed(step.at(s.ravel()), clock, late).reshape(s.shape)
    with np.errstate(divide="ignore", under="ignore"):
        passed = log_sum(np.log(_GAUSS_WEIGHT) - mu) + np.log(half)
        total = np.concatenate([[-np.inf], np.logaddexp.accumulate(passed)])
    return total[np.searchsorted(edge, ends)]
