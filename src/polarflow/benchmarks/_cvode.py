"""The rival from SUNDIALS: CVODE's Adams formulas in polar coordinates, no knowledge of kinks.

The corrector is solved by Newton and GMRES, so that no Jacobian is formed; products with the
Jacobian are differences of the field, and counted.
"""

from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._methods import Outcome
from ._polar import outcome, signs, start, unfinished

if TYPE_CHECKING:
    from ..flow import Problem


class _Capped(Exception):
    """More field evaluations were asked for than are allowed."""


@cache
def _field() -> Any:
    from numba import njit

    @njit(cache=True)
    def field(state, change, x, turned, y, factor, slope, sign):
        m, (n, d) = sign.shape[0], x.shape
        rho, u = state[:m], state[m:].reshape(m, d)
        z = np.dot(u, turned)
        h = np.zeros(n)
        for j in range(m):
            share = sign[j] * np.exp(2.0 * rho[j])
            for k in range(n):
                h[k] += share * (z[j, k] if z[j, k] > 0.0 else slope * z[j, k])
        for k in range(n):
            h[k] = factor * (y[k] - h[k])
        for j in range(m):
            for k in range(n):
                z[j, k] = sign[j] * h[k] * (1.0 if z[j, k] > 0.0 else slope)
        force = np.dot(z, x)
        for j in range(m):
            along = 0.0
            for i in range(d):
                along += force[j, i] * u[j, i]
            change[j] = along
            for i in range(d):
                change[m + j * d + i] = force[j, i] - along * u[j, i]

    return field


def integrate(problem: "Problem", times: tuple[float, ...], rtol: float, cap: int) -> Outcome:
    """Follow the flow to the times, with at most `cap` field evaluations."""
    from sksundae.cvode import CVODE

    field = _field()
    x, y = np.array(problem.data.x), np.array(problem.data.y)
    turned, sign = x.T.copy(), signs(problem)
    factor, slope = problem.loss.factor(len(y)), problem.two_layer.slope
    evaluations = 0

    def velocity(_: float, state: np.ndarray, change: np.ndarray) -> None:
        nonlocal evaluations
        if evaluations >= cap:
            raise _Capped
        evaluations += 1
        field(state, change, x, turned, y, factor, slope, sign)

    rho, u = start(problem)
    solver = CVODE(
        velocity, method="Adams", linsolver="gmres", rtol=rtol, atol=rtol, max_num_steps=cap
    )
    begin = perf_counter()
    try:
        solution = solver.solve(np.array([0.0, *times]), np.concatenate([rho, u.ravel()]))
    except _Capped:
        return unfinished(perf_counter() - begin, evaluations, "stopped at the cap")
    seconds = perf_counter() - begin
    if not solution.success:
        return unfinished(seconds, evaluations, str(solution.message))
    states, m = np.asarray(solution.y)[1:], len(rho)
    return outcome(
        problem, states[:, :m], states[:, m:].reshape(-1, *u.shape), seconds, evaluations
    )
