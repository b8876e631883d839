"""The rival from Diffrax: Tsit5 in the coordinates of a chart, an adaptive step."""

from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..networks._evaluate import jax64
from ._methods import Outcome, reached, unfinished

if TYPE_CHECKING:
    from ..flow import Problem
    from ._charts import Chart

STAGES = 6
"""Field evaluations of an attempted step: seven stages, the first of them reused."""


def solver(chart: "Chart") -> Any:
    """The compiled integration of a chart's field: takes start, times, tolerance, steps."""
    jax64()
    import diffrax
    import equinox

    field = chart.jax_field()

    @equinox.filter_jit
    def solve(state: Any, times: Any, rtol: Any, atol: Any, steps: int) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: field(y)),
            diffrax.Tsit5(),
            t0=0.0,
            t1=times[-1],
            dt0=None,
            y0=state,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=steps,
            throw=False,
        )
        finished = solution.result == diffrax.RESULTS.successful
        return solution.ys, solution.stats["num_steps"], finished

    return solve


def integrate(
    problem: "Problem", chart: "Chart", solve: Any, times: tuple[float, ...], rtol: float, cap: int
) -> Outcome:
    """Follow the flow to the times, with at most `cap` field evaluations."""
    atol = rtol * chart.unit
    begin = perf_counter()
    states, steps, finished = jax64().block_until_ready(
        solve(chart.start, np.array(times), np.float64(rtol), np.float64(atol), cap // STAGES)
    )
    seconds = perf_counter() - begin
    evaluations = STAGES * int(steps) + 1
    if not bool(finished):
        return unfinished(seconds, evaluations, f"stopped after {int(steps)} attempted steps")
    return reached(problem, chart.weights(np.asarray(states)), seconds, evaluations)
