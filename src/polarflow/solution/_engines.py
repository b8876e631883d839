"""Which engine follows a problem, and what it costs to have it ready."""

from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from ..data import Data
from ..flow import Engine, Problem, Stop, integrate
from ..flow import problem as make_problem
from ..networks import TwoLayer, balanced


def engine_for(problem: Problem, rtol: float, branching: str) -> Engine[Any]:
    """The engine for a problem: the kink-exact one for two-layer (leaky) ReLU networks."""
    if not isinstance(problem.network, TwoLayer):
        from ..flow.smooth import SmoothEngine

        return SmoothEngine(problem, rtol)
    from ..flow.kinks import KinkExactEngine

    return KinkExactEngine(problem, rtol, branching)


def ready(engine: Engine[Any]) -> float:
    """Load or compile what an engine needs; returns the seconds it took."""
    from ..flow.smooth import SmoothEngine

    return engine.prepare() if isinstance(engine, SmoothEngine) else _kink_exact_ready()


@cache
def _kink_exact_ready() -> float:
    """A tiny flow: two opposite neurons on two examples meet a kink, jump, and pass windows."""
    begin = perf_counter()
    data = Data(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -0.5]), False, "warm-up")
    network = TwoLayer(4)
    tiny = make_problem(data, network, balanced(network, 2, log10_scale=-30.0))
    record = integrate(engine_for(tiny, 1e-6, "off"), tiny, Stop(time=200.0), points=10)
    if record.status == "interrupted":
        raise KeyboardInterrupt
    return perf_counter() - begin
