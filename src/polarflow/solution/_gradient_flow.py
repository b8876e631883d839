"""Following a flow: the public face of the engines."""

from collections.abc import Callable, Sequence
from functools import cache
from time import perf_counter

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data import Data
from ..errors import PolarflowError
from ..flow import Problem, Progress, Stop, integrate
from ..flow import problem as make_problem
from ..losses import Square
from ..networks import TwoLayer, balanced
from ..saddles import visited_saddles
from ._solution import Events, Solution, Work

BRANCHINGS = ("off", "on", "stay", "stop")


@cache
def _compiled() -> float:
    """Load or compile the engine's loops on a tiny flow; returns the seconds it took.

    Two opposite neurons on two examples meet a kink, jump, and pass through windows, so that
    every loop is called once.
    """
    begin = perf_counter()
    data = Data(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -0.5]), False, "warm-up")
    network = TwoLayer(4)
    tiny = make_problem(data, network, balanced(network, 2, log10_scale=-30.0), loss=Square())
    record = integrate(
        tiny,
        Stop(time=200.0),
        rtol=1e-6,
        branching="off",
        record_times=np.zeros(0),
        points=10,
        progress=None,
    )
    if record.status == "interrupted":
        raise KeyboardInterrupt
    return perf_counter() - begin


def gradient_flow(
    problem: Problem,
    *,
    stop: Stop,
    rtol: float = 1e-8,
    branching: str = "off",
    record_times: Sequence[float] | ndarray = (),
    points: int = 400,
    inputs: Float[ndarray, "q d"] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Solution:
    """Follow the gradient flow of a problem until a stop is reached.

    **Arguments:**

    - `problem`: data, network, loss and initial state.
    - `stop`: when to end; its values are reached, not passed.
    - `rtol`: relative tolerance of the weights of every neuron, in [1e-13, 1e-2].
    - `branching`: the side taken where a kink repels from both: `"off"` (relu'(0) = 0), `"on"`,
      `"stay"` (Clarke's least-norm element) or `"stop"`.
    - `record_times`: flow times at which `recorded` is wanted; those after the end are left out.
    - `points`: about how many states the trajectory keeps.
    - `inputs`: inputs, bias included, at which the learned function is wanted, shape `(q, d)`.
    - `progress`: called now and then with a `Progress`.

    **Returns:** a `Solution`; a flow that can't go on is told by its status.

    **Raises:** `PolarflowError` for arguments that are not allowed; `KeyboardInterrupt` if
    interrupted before the flow has begun.
    """
    if not 1e-13 <= rtol <= 1e-2:
        raise PolarflowError(f"flow.rtol is {rtol}; it must lie in [1e-13, 1e-2].")
    if branching not in BRANCHINGS:
        raise PolarflowError(
            f"flow.branching is {branching!r}; allowed are {', '.join(BRANCHINGS)}."
        )
    if points < 2:
        raise PolarflowError(f"record.points is {points}; it must be at least 2.")
    wanted = np.asarray(record_times, dtype=float).reshape(-1)
    if not (np.isfinite(wanted).all() and (wanted >= 0).all()):
        raise PolarflowError("record.times must be finite and not negative.")
    dimension = problem.data.dimension
    query = np.zeros((0, dimension)) if inputs is None else np.asarray(inputs, dtype=float)
    if query.ndim != 2 or query.shape[1] != dimension:
        raise PolarflowError(
            f"record.inputs has shape {query.shape}; each input needs {dimension} numbers, bias "
            "included."
        )
    if not isinstance(problem.loss, Square):
        raise PolarflowError(
            f'loss.kind is "{problem.loss.kind}"; the kink-exact engine follows "square" only.'
        )
    compile_seconds = _compiled()
    record = integrate(
        problem,
        stop,
        rtol=rtol,
        branching=branching,
        record_times=wanted,
        points=points,
        progress=progress,
    )
    at = {s.time: s for s in record.recorded}
    recorded = [at[t] for t in wanted if t in at]
    engine = record.engine
    crossings, slides, branchings = (int(c) for c in engine.counts)
    return Solution(
        problem=problem,
        status=record.status,
        stop_reason=record.stop_reason,
        message=record.message,
        trajectory=record.trajectory(record.snapshots, query),
        recorded=record.trajectory(recorded, query),
        final=record.trajectory(record.snapshots[-1:], query),
        saddles=visited_saddles(record),
        events=Events(crossings, slides, branchings),
        work=Work(
            field_evaluations=int(np.ceil(engine.evaluations)),
            steps=record.steps,
            seconds=record.seconds,
            compile_seconds=compile_seconds,
        ),
        balancedness_drift=engine.drift,
        inputs=query,
        _record=record,
    )
