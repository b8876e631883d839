"""Which engine follows a problem, and what it costs to have it ready."""

from functools import cache
from time import perf_counter
from typing import Any

import numpy as np

from ..data import Data
from ..errors import PolarflowError
from ..flow import Engine, Problem, Stop, integrate
from ..flow import problem as make_problem
from ..networks import TwoLayer, balanced

#: The losses that each engine follows.
_KINK_EXACT = ("square", "correlation", "logistic", "exponential", "cross_entropy")


def engine_for(problem: Problem, rtol: float, branching: str) -> Engine[Any]:
    """The engine for a problem: the kink-exact one for two-layer (leaky) ReLU networks.

    **Raises:** `PolarflowError` if no engine follows such a problem.
    """
    from ..flow.kinks import KinkExactEngine

    if problem.loss.kind not in _KINK_EXACT:
        raise PolarflowError(
            f'loss.kind is "{problem.loss.kind}"; the kink-exact engine follows '
            f"{' and '.join(_KINK_EXACT)} only."
        )
    if not isinstance(problem.network, TwoLayer):
        raise PolarflowError(f'network.kind is "{problem.network.kind}"; no engine follows it.')
    return KinkExactEngine(problem, rtol, branching)


def ready(problem: Problem) -> float:
    """Load or compile the loops of a problem's engine; returns the seconds it took."""
    return _kink_exact_ready()


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
