"""The methods: each follows a flow to given times, and says what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..losses import MarginLoss
from ..networks import BlockState
from ..networks._blocks import part_of

if TYPE_CHECKING:
    from ..flow import Problem

PROBE = 500
"""Iterations of gradient descent that show how long all of them would take."""
LONGEST_RECORD = 200_000
"""Iterations that are all recorded."""


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
    - `weights`: at the wanted times, shape `(T, m, p)`, and `loss` there, shape `(T,)`, its
      logarithm for losses of classification; None where they were not reached.
    - `note`: why it did not finish, or what else there is to say.
    - `compile_seconds`: what compiling took on the way.
    """

    seconds: float
    field_evaluations: int
    measured: int
    weights: Float[ndarray, "T m p"] | None
    loss: Float[ndarray, " T"] | None
    note: str = ""
    compile_seconds: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether it reached the end, or would."""
        return self.weights is not None or self.measured < self.field_evaluations

    @property
    def whole(self) -> bool:
        """Whether all of it was run."""
        return self.measured == self.field_evaluations


def reached(
    problem: "Problem", weights: Float[ndarray, "T m p"], seconds: float, evaluations: int
) -> Outcome:
    """What a method that finished has reached."""
    network, data = problem.network, problem.data
    states = [BlockState(*part_of(w)) for w in weights]
    prediction = np.array([network.predict(state, data.x) for state in states])
    return Outcome(seconds, evaluations, evaluations, weights, loss_of(problem, prediction))


def loss_of(problem: "Problem", prediction: ndarray) -> Float[ndarray, " T"]:
    """The loss at predictions, or its logarithm for a loss of classification."""
    own, y = problem.loss, problem.data.y
    late = isinstance(own, MarginLoss)
    return np.asarray(own.log_value(prediction, y) if late else own.value(prediction, y))


def unfinished(seconds: float, evaluations: int, note: str) -> Outcome:
    """What a method leaves that was stopped."""
    return Outcome(seconds, evaluations, evaluations, None, None, note)


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
    """`gradient_flow`, with the engine that the network asks for."""

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        from ..flow import Stop
        from ..solution import gradient_flow

        begin = perf_counter()
        solution = gradient_flow(
            problem, stop=Stop(time=times[-1]), rtol=rtol, record_times=times, points=50
        )
        # The smooth engine compiles each problem anew, or loads it.
        seconds = perf_counter() - begin - solution.work.compile_seconds
        done = solution.status == "ok"
        evaluations = solution.work.field_evaluations
        return Outcome(
            seconds=seconds,
            field_evaluations=evaluations,
            measured=evaluations,
            weights=solution.recorded.weights() if done else None,
            loss=loss_of(problem, solution.recorded.prediction) if done else None,
            note=solution.message,
            compile_seconds=solution.work.compile_seconds,
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
        probe = min(PROBE, total)
        expected = run(problem, [probe]).seconds * total / probe
        if expected > budget.whole:
            part = max(PROBE, int(total * (budget.part / expected)))
            return Outcome(run(problem, [part]).seconds * (total / part), total, part, None, None)
        result = run(problem, record)
        if result.status != "ok":
            return Outcome(result.seconds, total, total, None, None, result.status)
        path = result.trajectory
        loss = loss_of(problem, path.prediction)
        return Outcome(result.seconds, total, total, path.weights(), loss)

    words = f"step {step:.0e}" + (", Gram" if coordinates == "examples" else "")
    return Method("compiled GD", words, follow, lambda problem, _: run(problem, [1]))


def descent_by_loss(step: float, budget: Budget) -> Method:
    """Gradient descent with steps divided by the loss, on a loss of classification.

    Every iteration is recorded, and the weights at a time are interpolated in its logarithm.
    """

    def run(problem: "Problem", iterations: int) -> Any:
        from ..comparators import gradient_descent

        every = range(iterations + 1)
        return gradient_descent(problem, step, iterations, every, steps="by_loss")

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        wanted, iterations = np.log(times), PROBE
        while True:
            result = run(problem, iterations)
            path = result.trajectory
            if path.log_time[-1] >= wanted[-1] or result.status != "ok":
                break
            if 2.0 * result.seconds > budget.whole or iterations > LONGEST_RECORD:
                note = f"at ln t = {path.log_time[-1]:.3g} of {wanted[-1]:.3g}"
                return unfinished(result.seconds, iterations, note)
            iterations *= 2
        if result.status != "ok":
            return unfinished(result.seconds, iterations, result.status)
        used = int(np.searchsorted(path.log_time, wanted[-1]))
        last = np.searchsorted(path.log_time, wanted)
        low, high = path.log_time[last - 1], path.log_time[last]
        share = ((wanted - low) / (high - low))[:, None, None]
        states = path.select(last - 1).weights(), path.select(last).weights()
        weights = (1.0 - share) * states[0] + share * states[1]
        return reached(problem, weights, result.seconds * used / iterations, used)

    return Method("GD on ln loss", f"step {step:.0e}", follow, lambda problem, _: run(problem, 1))


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


def adaptive(name: str, rtol: float, cap: int) -> Method:
    """An adaptive solver, `"tsit5"` of Diffrax or `"cvode"` of SUNDIALS, in `chart` coordinates."""
    from . import _cvode, _tsit5
    from ._charts import chart

    ready: dict[int, tuple[Any, ...]] = {}

    def solver(problem: "Problem") -> tuple[Any, ...]:
        if id(problem) not in ready:
            own = chart(problem)
            ready[id(problem)] = (own, _tsit5.solver(own) if name == "tsit5" else own.velocity())
        return ready[id(problem)]

    def follow(problem: "Problem", times: tuple[float, ...]) -> Outcome:
        integrate: Any = _tsit5.integrate if name == "tsit5" else _cvode.integrate
        return integrate(problem, *solver(problem), times, rtol, cap)

    def prepare(problem: "Problem", times: tuple[float, ...]) -> None:
        count = len(times)
        follow(problem, tuple(1e-6 * times[0] * (k + 1) / count for k in range(count)))

    title = "Diffrax Tsit5" if name == "tsit5" else "SUNDIALS CVODE"
    return Method(title, f"rtol {rtol:.0e}", follow, prepare)
