"""The rival from SUNDIALS: CVODE in the coordinates of a chart.

In polar coordinates of a two-layer ReLU network, unaware of kinks: Adams formulas, the corrector
solved by Newton and GMRES, so that no Jacobian is formed; products with the Jacobian are
differences of the field, and counted. In the weights of other networks: BDF with a dense Jacobian
by differences, which are counted too.
"""

from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from ._methods import Outcome, reached, unfinished

if TYPE_CHECKING:
    from ..flow import Problem
    from ._charts import Chart, Velocity


class _Capped(Exception):
    """More field evaluations were asked for than are allowed."""


def integrate(
    problem: "Problem",
    chart: "Chart",
    fill: "Velocity",
    times: tuple[float, ...],
    rtol: float,
    cap: int,
) -> Outcome:
    """Follow the flow to the times, with at most `cap` field evaluations."""
    from sksundae.cvode import CVODE

    evaluations = 0

    def velocity(_: float, state: np.ndarray, change: np.ndarray) -> None:
        nonlocal evaluations
        if evaluations >= cap:
            raise _Capped
        evaluations += 1
        fill(state, change)

    options = {"method": "Adams", "linsolver": "gmres"} if chart.kinks else {"method": "BDF"}
    solver = CVODE(velocity, rtol=rtol, atol=rtol * chart.unit, max_num_steps=cap, **options)
    begin = perf_counter()
    try:
        solution = solver.solve(np.array([0.0, *times]), chart.start)
    except _Capped:
        return unfinished(perf_counter() - begin, evaluations, "stopped at the cap")
    seconds = perf_counter() - begin
    if not solution.success:
        return unfinished(seconds, evaluations, str(solution.message))
    weights = chart.weights(np.asarray(solution.y)[1:])
    return reached(problem, weights, seconds, evaluations)
