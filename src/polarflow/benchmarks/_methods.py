"""The methods: each follows a flow to given times, and says what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    from ..flow import Problem

PROBE = 500
"""Iterations of gradient descent that show how long all of them would take."""


@dataclass(frozen=True)
class Budget:
    """Seconds that a method with steps of fixed cost may take.

    **Attributes:**

    - `whole`: a run expected to take longer is measured on a part of its steps.
    - `part`: for about so long.
    """

    whole: float
    part: float


@dataclass(frozen=True)
class Outcome:
    """One run of one method.

    **Attributes:**

    - `seconds`: wall-clock seconds of the whole run, without compiling; those of the measured
      part scaled to the whole where only a part was run.
    - `field_evaluations`: how often the residual and all velocities are formed in the whole run.
    - `measured`: how many of them were made; fewer where only a part was run.
    - `weights`: at the wanted times, shape `(T, m, 1+d)`, and `loss` there, shape `(T,)`; None
      where they were not reached.
    - `note`: why it did not finish, or what else there is to say.
    """

    seconds: float
    field_evaluations: int
    measured: int
    weights: Float[ndarray, "T m p"] | None
    loss: Float[ndarray, " T"] | None
    note: str = ""

    @property
    def finished(self) -> bool:
        """Whether it reached the end, or would."""
        return self.weights is not None or self.measured < self.field_evaluations

    @property
    def whole(self) -> bool:
        """Whether all of it was run."""
        return self.measured == self.field_evaluations


Follow = Callable[["Problem", tuple[float, ...]], Outcome]


@dataclass(frozen=True)
class Method:
    """A way to follow a flow.

    **Attributes:**

    - `name`, `setting`: what the table says, such as `"engine"` and `"rtol 1e-08"`.
    - `follow`: runs it on a problem to increasing times.
    - `prepare`: compiles what `follow` needs for a problem.
    """

    name: str
    setting: str
    follow: Follow
    prepare: "Callable[[Problem, tuple[float, ...]], Any]"


def engine(rtol: float) -> Method:
    """The kink-exact engine."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ..flow import Stop
        from ..solution import gradient_flow

        begin = perf_counter()
        solution = gradient_flow(
            problem, stop=Stop(time=times[-1]), rtol=rtol, record_times=times, points=50
        )
        seconds = perf_counter() - begin
        done = solution.status == "ok"
        evaluations = solution.work.field_evaluations
        return Outcome(
            seconds=seconds,
            field_evaluations=evaluations,
            measured=evaluations,
            weights=solution.recorded.weights() if done else None,
            loss=solution.recorded.loss if done else None,
            note=solution.message,
        )

    def prepare(problem: "Problem", times: tuple[float, ...]) -> None:
        follow(problem, (1e-6 * times[0],))

    return Method("engine", f"rtol {rtol:.0e}", follow, prepare)


def descent(step: float, budget: Budget, coordinates: str = "weights") -> Method:
    """Gradient descent, compiled and vectorised; one field evaluation an iteration."""

    def run(problem: "Problem", record: list[int]) -> Any:
        from ..comparators import gradient_descent

        return gradient_descent(
            problem,
            step,
            record[-1],
            record,
            coordinates=coordinates,  # type: ignore[arg-type]
        )

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        record = [round(t / step) for t in times]
        total = record[-1]
        begin = perf_counter()
        run(problem, [min(PROBE, total)])
        expected = (perf_counter() - begin) * total / min(PROBE, total)
        if expected > budget.whole:
            part = max(PROBE, int(total * budget.part / expected))
            begin = perf_counter()
            run(problem, [part])
            return Outcome((perf_counter() - begin) * total / part, total, part, None, None)
        begin = perf_counter()
        result = run(problem, record)
        seconds = perf_counter() - begin
        if result.status != "ok":
            return Outcome(seconds, total, total, None, None, result.status)
        trajectory = result.trajectory
        return Outcome(seconds, total, total, trajectory.weights(), trajectory.loss)

    words = f"step {step:.0e}" + (", Gram" if coordinates == "examples" else "")
    return Method("compiled GD", words, follow, lambda problem, _: run(problem, [1]))


def extrapolated_descent(step: float, coordinates: str = "weights") -> Method:
    """Gradient descent with a step and its half, extrapolated to step zero (Richardson)."""
    endless = Budget(np.inf, np.inf)

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        coarse = descent(step, endless, coordinates).follow(problem, times)
        fine = descent(step / 2.0, endless, coordinates).follow(problem, times)
        evaluations = coarse.field_evaluations + fine.field_evaluations
        if coarse.weights is None or fine.weights is None:
            return Outcome(coarse.seconds, evaluations, evaluations, None, None, "diverged")
        assert coarse.loss is not None and fine.loss is not None
        return Outcome(
            seconds=coarse.seconds + fine.seconds,
            field_evaluations=evaluations,
            measured=evaluations,
            weights=2.0 * fine.weights - coarse.weights,
            loss=2.0 * fine.loss - coarse.loss,
        )

    words = f"steps {step:.0e}, {step / 2:.0e}"
    return Method("extrapolated GD", words, follow, lambda problem, times: None)


def torch_descent(step: float, budget: Budget, precision: str) -> Method:
    """Gradient descent as the papers' scripts write it, in PyTorch."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ._torch import descend

        return descend(problem, step, times, precision, budget)

    def prepare(problem: "Problem", times: tuple[float, ...]) -> None:
        from ._torch import descend

        descend(problem, step, (3 * step,), precision, budget)

    words = f"step {step:.0e}, {'float32' if precision == 'single' else 'float64'}"
    return Method("PyTorch GD", words, follow, prepare)


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    from importlib.util import find_spec

    return find_spec("torch") is not None


def tsit5(rtol: float, cap: int) -> Method:
    """Diffrax' Tsit5 on the polar form of the same field, unaware of kinks."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ._tsit5 import integrate

        return integrate(problem, times, rtol, cap)

    def prepare(problem: "Problem", times: tuple[float, ...]) -> None:
        follow(problem, tuple(1e-6 * t for t in times))

    return Method("Diffrax Tsit5", f"rtol {rtol:.0e}", follow, prepare)


def cvode(rtol: float, cap: int) -> Method:
    """SUNDIALS' CVODE, Adams formulas, on the polar form of the same field."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ._cvode import integrate

        return integrate(problem, times, rtol, cap)

    def prepare(problem: "Problem", times: tuple[float, ...]) -> None:
        follow(problem, tuple(1e-6 * t for t in times))

    return Method("SUNDIALS CVODE", f"rtol {rtol:.0e}", follow, prepare)
