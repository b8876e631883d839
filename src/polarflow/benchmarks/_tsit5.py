"""The rival from Diffrax: polar coordinates, an adaptive step, no knowledge of kinks."""

from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._methods import Outcome
from ._polar import outcome, signs, start, unfinished

if TYPE_CHECKING:
    from ..flow import Problem

STAGES = 6
"""Field evaluations of an attempted step: seven stages, the first of them reused."""


@lru_cache(maxsize=1)
def _solver() -> Any:
    import diffrax
    import equinox
    import jax
    import jax.numpy as jnp

    def field(_: Any, state: Any, data: Any) -> Any:
        rho, u = state
        x, y, factor, slope, sign = data
        z = u @ x.T
        active = jnp.where(z > 0, 1.0, slope)
        h = jnp.sum((sign * jnp.exp(2.0 * rho))[:, None] * active * z, axis=0)
        force = sign[:, None] * ((active * (factor * (y - h))) @ x)
        along = jnp.sum(force * u, axis=1)
        return along, force - along[:, None] * u

    @equinox.filter_jit
    def solve(state: Any, data: Any, times: Any, rtol: Any, steps: int) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=times[-1],
            dt0=None,
            y0=state,
            args=data,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
            max_steps=steps,
            throw=False,
        )
        finished = solution.result == diffrax.RESULTS.successful
        return solution.ys, solution.stats["num_steps"], finished

    return jax, solve


def integrate(problem: "Problem", times: tuple[float, ...], rtol: float, cap: int) -> Outcome:
    """Follow the flow to the times, with at most `cap` field evaluations."""
    jax, solve = _solver()
    n = len(problem.data.y)
    data = (
        np.array(problem.data.x),
        np.array(problem.data.y),
        problem.loss.factor(n),
        problem.two_layer.slope,
        signs(problem),
    )
    begin = perf_counter()
    with jax.enable_x64(True):
        (rho, u), steps, finished = jax.block_until_ready(
            solve(start(problem), data, np.array(times), np.float64(rtol), cap // STAGES)
        )
        rho, u, steps, done = np.asarray(rho), np.asarray(u), int(steps), bool(finished)
    seconds = perf_counter() - begin
    evaluations = STAGES * steps + 1
    if not done:
        return unfinished(seconds, evaluations, f"stopped after {steps} attempted steps")
    return outcome(problem, rho, u, seconds, evaluations)
