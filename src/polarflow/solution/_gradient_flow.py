"""Following a flow: the public face of the engines."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Engine, Halt, Moment, Problem, Progress, Stop, integrate
from ..margins import late_phase
from ..saddles import visited_saddles
from ._check import SHARE, error_estimate, locates_kinks
from ._engines import compiling, engine_for
from ._solution import Events, Solution, Work

#: No engine keeps a smaller tolerance.
_FINEST = 1e-13

BRANCHINGS = ("off", "on", "stay", "stop")


def gradient_flow(
    problem: Problem,
    *,
    stop: Stop,
    rtol: float = 1e-8,
    branching: str = "off",
    record_times: Sequence[float] | ndarray = (),
    record_log_times: Sequence[float] | ndarray = (),
    points: int = 400,
    inputs: Float[ndarray, "q d"] | None = None,
    progress: Callable[[Progress], None] | None = None,
    check: bool | None = None,
) -> Solution:
    """Follow the gradient flow of a problem until a stop is reached.

    **Arguments:**

    - `problem`: data, network, loss and initial state.
    - `stop`: when to end; its values are reached, not passed.
    - `rtol`: relative tolerance of the weights of every neuron, in [1e-13, 1e-2].
    - `branching`: the side taken where a kink repels from both: `"off"` (relu'(0) = 0), `"on"`,
      `"stay"` (Clarke's least-norm element) or `"stop"`.
    - `record_times`, `record_log_times`: flow times, or their natural logarithms, at which
      `recorded` is wanted; those after the end are left out.
    - `points`: about how many states the trajectory keeps.
    - `inputs`: inputs, bias included, at which the learned function is wanted, shape `(q, d)`.
    - `progress`: called now and then with a `Progress`.
    - `check`: whether the flow is followed a second time, at half the tolerance, and the
      solution's `error_estimate` made from the difference; unless given, where the network has
      kinks that its engine doesn't locate. It takes at most four times the first's evaluations.

    **Returns:** a `Solution`; a flow that can't go on is told by its status.

    **Raises:** `PolarflowError` for arguments that are not allowed; `KeyboardInterrupt` if
    interrupted before the flow has begun.
    """
    if not _FINEST <= rtol <= 1e-2:
        raise PolarflowError(f"flow.rtol is {rtol}; it must lie in [1e-13, 1e-2].")
    if branching not in BRANCHINGS:
        raise PolarflowError(
            f"flow.branching is {branching!r}; allowed are {', '.join(BRANCHINGS)}."
        )
    if points < 2:
        raise PolarflowError(f"record.points is {points}; it must be at least 2.")
    requests = _moments(record_times, record_log_times)
    dimension = problem.data.dimension
    query = np.zeros((0, dimension)) if inputs is None else np.asarray(inputs, dtype=float)
    if query.ndim != 2 or query.shape[1] != dimension:
        raise PolarflowError(
            f"record.inputs has shape {query.shape}; each input needs {dimension} numbers, bias "
            "included."
        )
    if check is None:
        check = not locates_kinks(problem)
    make = partial(engine_for, problem, branching=branching)
    return followed(
        problem,
        make,
        stop=stop,
        rtol=rtol,
        requests=requests,
        points=points,
        inputs=query,
        progress=progress,
        check=check,
    )


def followed(
    problem: Problem,
    make: Callable[[float], Engine[Any]],
    *,
    stop: Stop,
    rtol: float,
    points: int,
    requests: tuple[Moment, ...] = (),
    inputs: Float[ndarray, "q d"] | None = None,
    progress: Callable[[Progress], None] | None = None,
    check: bool = False,
) -> Solution:
    """The flow of a problem as an engine follows it that is made for a tolerance."""
    query = np.zeros((0, problem.data.dimension)) if inputs is None else inputs
    engine = make(rtol)
    begin = perf_counter()
    try:
        with compiling(engine) as compiled:
            record = integrate(
                engine, problem, stop, requests=requests, points=points, progress=progress
            )
    except Halt as halt:  # before there was anything to keep
        raise PolarflowError(halt.message) from None
    seconds = perf_counter() - begin - compiled.seconds
    notes, estimate = list(engine.counts().get("notes", ())), None
    if check and record.status != "interrupted":
        finer = make(max(SHARE * rtol, _FINEST))
        try:
            with compiling(finer):
                estimate = error_estimate(record, finer, requests, progress)
        except Halt as halt:
            notes.append(f"The error could not be estimated: {halt.message}")
        except KeyboardInterrupt:
            record.status = record.stop_reason = "interrupted"
            record.message = (
                "Interrupted while the flow was followed a second time, to estimate its error; "
                "the numbers of the first are whole."
            )
    if estimate is not None and not estimate.complete:
        notes.append(
            "At half the tolerance the flow did not come to the same end through as many saddles; "
            "the error is estimated from what it reached."
        )
    reached = [record.recorded[moment] for moment in requests if moment in record.recorded]
    counts = engine.counts()
    return Solution(
        problem=problem,
        status=record.status,
        stop_reason=record.stop_reason,
        message=record.message,
        notes=tuple(notes),
        requests=requests,
        trajectory=record.trajectory(record.snapshots, query),
        recorded=record.trajectory(reached, query),
        final=record.trajectory(record.snapshots[-1:], query),
        saddles=visited_saddles(record),
        late=late_phase(record, record.snapshots),
        events=Events(*(counts.get(f.name) for f in fields(Events))),
        work=Work(
            field_evaluations=int(np.ceil(engine.evaluations)),
            jacobian_products=counts.get("jacobian_products", 0),
            steps=record.steps,
            seconds=seconds,
            compile_seconds=compiled.seconds,
        ),
        error_estimate=estimate,
        balancedness_drift=counts.get("balancedness_drift"),
        inputs=query,
        _record=record,
    )


def _moments(
    times: Sequence[float] | ndarray, log_times: Sequence[float] | ndarray
) -> tuple[Moment, ...]:
    """Requested times, those given by their logarithms last."""
    plain = np.asarray(times, dtype=float).reshape(-1)
    logs = np.asarray(log_times, dtype=float).reshape(-1)
    if not (np.isfinite(plain).all() and (plain >= 0).all()):
        raise PolarflowError("record.times must be finite and not negative.")
    if not np.isfinite(logs).all():
        raise PolarflowError("record.log_times must be finite.")
    return (
        *(Moment.of_time(time) for time in plain.tolist()),
        *(Moment.of_log_time(log_time) for log_time in logs.tolist()),
    )
