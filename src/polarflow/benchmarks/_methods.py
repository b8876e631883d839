"""The methods: each follows a flow to given times, and says what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    from ..flow import Problem


@dataclass(frozen=True)
class Outcome:
    """One run of one method.

    **Attributes:**

    - `seconds`: wall-clock seconds of the whole call, first-call compilation included.
    - `field_evaluations`: how often the residual and all velocities were formed.
    - `weights`: at the wanted times, shape `(T, m, 1+d)`; `loss` there, shape `(T,)`.
    - `finished`: whether the end was reached.
    """

    seconds: float
    field_evaluations: int
    weights: Float[ndarray, "T m p"]
    loss: Float[ndarray, " T"]
    finished: bool


@dataclass(frozen=True)
class Method:
    """A way to follow a flow.

    **Attributes:**

    - `name`, `setting`: what the table says, such as `"engine"` and `"rtol 1e-08"`.
    - `follow`: runs it on a problem to increasing times.
    """

    name: str
    setting: str
    follow: "Callable[[Problem, tuple[float, ...]], Outcome]"


def engine(rtol: float) -> Method:
    """The kink-exact engine."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ..flow import Stop
        from ..solution import gradient_flow

        begin = perf_counter()
        solution = gradient_flow(
            problem, stop=Stop(time=times[-1]), rtol=rtol, record_times=times, points=50
        )
        return Outcome(
            seconds=perf_counter() - begin,
            field_evaluations=solution.work.field_evaluations,
            weights=solution.recorded.weights(),
            loss=solution.recorded.loss,
            finished=solution.status == "ok",
        )

    return Method("engine", f"rtol {rtol:.0e}", follow)


def descent(step: float) -> Method:
    """Gradient descent, compiled and vectorised; one field evaluation an iteration."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ..comparators import gradient_descent

        record = [round(t / step) for t in times]
        begin = perf_counter()
        result = gradient_descent(problem, step, record[-1], record)
        return Outcome(
            seconds=perf_counter() - begin,
            field_evaluations=record[-1],
            weights=result.trajectory.weights(),
            loss=result.trajectory.loss,
            finished=result.status == "ok",
        )

    return Method("compiled GD", f"step {step:.0e}", follow)


def extrapolated_descent(step: float) -> Method:
    """Gradient descent with a step and its half, extrapolated to step zero (Richardson)."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        coarse = descent(step).follow(problem, times)
        fine = descent(step / 2.0).follow(problem, times)
        return Outcome(
            seconds=coarse.seconds + fine.seconds,
            field_evaluations=coarse.field_evaluations + fine.field_evaluations,
            weights=2.0 * fine.weights - coarse.weights,
            loss=2.0 * fine.loss - coarse.loss,
            finished=coarse.finished and fine.finished,
        )

    return Method("extrapolated GD", f"steps {step:.0e}, {step / 2:.0e}", follow)


def tsit5(rtol: float) -> Method:
    """Diffrax' Tsit5 on the polar form of the same field, unaware of kinks."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ._tsit5 import integrate

        begin = perf_counter()
        log_norm, direction, evaluations, finished = integrate(problem, np.array(times), rtol)
        seconds = perf_counter() - begin
        # Times that were not reached are infinite.
        with np.errstate(under="ignore", invalid="ignore"):
            w = np.exp(log_norm)[:, :, None] * direction
            a = np.sign(problem.initial.direction[:, 0]) * np.linalg.norm(w, axis=2)
            z = w @ problem.data.x.T
            hidden = np.maximum(z, problem.network.slope * z)
            loss = problem.loss.value(np.einsum("tjk,tj->tk", hidden, a), problem.data.y)
        weights = np.concatenate([a[:, :, None], w], axis=2)
        return Outcome(seconds, evaluations, weights, loss, finished)

    return Method("Diffrax Tsit5", f"rtol {rtol:.0e}", follow)


def has_diffrax() -> bool:
    """Whether the optional extra `bench` is installed."""
    from importlib.util import find_spec

    return find_spec("diffrax") is not None
