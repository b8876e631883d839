"""Which engine follows a problem, and what compiling it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..flow import Engine, Problem
from ..networks import TwoLayer


@dataclass
class Compiling:
    """The seconds that compiling took, or loading what was compiled before."""

    seconds: float = 0.0


def engine_for(problem: Problem, rtol: float, branching: str) -> Engine[Any]:
    """The engine for a problem: the kink-exact one for two-layer (leaky) ReLU networks."""
    if not isinstance(problem.network, TwoLayer):
        from ..flow.smooth import smooth_engine

        return smooth_engine(problem, rtol)
    from ..flow.kinks import KinkExactEngine

    return KinkExactEngine(problem, rtol, branching)


def engine_above_rounding(problem: Problem, rtol: float) -> Engine[Any]:
    """The same without what follows, or reports, parts of weights below rounding.

    The path in the limit knows these by itself, and needs no more between two rest points.
    """
    if isinstance(problem.network, TwoLayer):
        return engine_for(problem, rtol, "off")
    from ..flow.smooth import SmoothEngine

    return SmoothEngine(problem, rtol, above_rounding=True)


@contextmanager
def compiling(engine: Engine[Any]) -> Iterator[Compiling]:
    """What is compiled inside, by XLA or by Numba."""
    from ..flow.smooth import SmoothEngine

    spent = Compiling()
    if isinstance(engine, SmoothEngine):
        before = engine.compile_seconds
        try:
            yield spent
        finally:
            spent.seconds = engine.compile_seconds - before
        return
    from numba.core.event import TimingListener, install_listener

    timer = TimingListener()
    try:
        with install_listener("numba:compiler_lock", timer):
            yield spent
    finally:
        spent.seconds = timer.duration if timer.done else 0.0
