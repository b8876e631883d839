r"""How far a flow is off, told by the flow followed a second time, at half the tolerance.

Where an error is proportional to the tolerance, as it is with kinks that are rounded off over a
width in proportion to it, the two differ by half of it. What is told is twice their difference.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from ..flow import Engine, FlowRecord, Moment, Problem, Progress, Snapshot, Stop, integrate
from ..networks import BlockState, TwoLayer
from ..saddles import visited_saddles

#: The part of the tolerance at which the flow is followed again, and 1/(1 - that).
SHARE, _FACTOR = 0.5, 2.0
#: Of the trajectory's points, about so many are compared beside the recorded ones.
_POINTS = 24
#: The second time may take so many times the field evaluations of the first.
_MOST = 4.0


@dataclass(frozen=True)
class ErrorEstimate:
    """Twice the differences of a flow from the same flow at half its tolerance.

    **Attributes:**

    - `rtol`: the second tolerance.
    - `loss`: of the loss relative to itself, the largest at the recorded times, at the end and at
      points of the trajectory between.
    - `weights`: of all weights relative to their norm, likewise.
    - `final_log_time`: of ln t at the end, each flow at its own; zero where a time ends the run.
    - `final_direction`: of w/|w| there.
    - `saddle_log_times`: of ln t of entering and leaving saddles, the largest; None if there are
      none to compare.
    - `complete`: whether the second flow came to the same end through as many saddles. Otherwise
      what it reached is compared, and `final_log_time` and `final_direction` are None.
    - `field_evaluations`, `seconds`: what it cost.
    """

    rtol: float
    loss: float
    weights: float
    final_log_time: float | None
    final_direction: float | None
    saddle_log_times: float | None
    complete: bool
    field_evaluations: int
    seconds: float


def locates_kinks(problem: Problem) -> bool:
    """Whether a problem's network has no kinks, or its engine locates them."""
    network = problem.network
    if isinstance(network, TwoLayer):
        return True
    return not any(group.kinks for group in network.groups(problem.data.dimension))


def error_estimate(
    first: FlowRecord,
    engine: Engine[Any],
    requests: Iterable[Moment],
    progress: Callable[[Progress], None] | None,
) -> ErrorEstimate:
    """Follow a flow again with another engine, of half the tolerance, and compare.

    **Raises:** `KeyboardInterrupt` if interrupted; `Halt` if the start is all that can be had.
    """
    begin = perf_counter()
    chosen = np.linspace(0, len(first.snapshots) - 1, _POINTS + 1).round().astype(int)[1:-1]
    some = [first.snapshots[k] for k in np.unique(chosen)]
    known = {Moment(at.time, at.log_time): at for at in some if np.isfinite(at.log_time)}
    known |= {moment: first.recorded[moment] for moment in requests if moment in first.recorded}

    def tell(news: Progress) -> None:
        assert progress is not None
        progress(replace(news, checking=True))

    second = integrate(
        engine,
        first.problem,
        _stop(first),
        requests=known,
        points=8,
        progress=None if progress is None else tell,
        most_evaluations=_MOST * first.engine.evaluations,
    )
    if second.status == "interrupted":
        raise KeyboardInterrupt
    saddles = [visited_saddles(record) for record in (first, second)]
    complete = first.stop_reason == second.stop_reason and len(saddles[0]) == len(saddles[1])
    pairs = [(at, second.recorded[m]) for m, at in known.items() if m in second.recorded]
    ends = first.snapshots[-1], second.snapshots[-1]
    times = [
        (getattr(a, name), getattr(b, name))
        for a, b in zip(*saddles, strict=False)
        for name in ("log_time_enter", "log_time_leave")
    ]
    gaps = [abs(a - b) for a, b in times if None not in (a, b) and np.isfinite([a, b]).all()]
    compared = [*pairs, ends] if complete else pairs
    return ErrorEstimate(
        rtol=engine.rtol,
        loss=_FACTOR * max((_loss(first, *pair) for pair in compared), default=np.nan),
        weights=_FACTOR
        * max((_weights(first, second, *pair) for pair in compared), default=np.nan),
        final_log_time=_FACTOR * abs(ends[0].log_time - ends[1].log_time) if complete else None,
        final_direction=_FACTOR * _weights(first, second, *ends, unit=True) if complete else None,
        saddle_log_times=_FACTOR * max(gaps) if gaps else None,
        complete=complete,
        field_evaluations=int(np.ceil(engine.evaluations)),
        seconds=perf_counter() - begin,
    )


def _stop(first: FlowRecord) -> Stop:
    """What ends the second flow: at the latest where the first could not go on."""
    end = first.snapshots[-1].log_time
    if first.status not in ("limit", "unresolved", "not_finite") or not np.isfinite(end):
        return first.stop
    own = first.stop.end()[0].log_time
    return replace(first.stop, time=None, log_time=min(end, own))


def _loss(record: FlowRecord, a: Snapshot, b: Snapshot) -> float:
    """How far two losses differ, relative to the larger."""
    if np.isfinite([a.log_loss, b.log_loss]).all():
        return float(-np.expm1(-abs(a.log_loss - b.log_loss)))
    problem = record.problem
    shape = problem.prediction_shape
    values = [
        float(problem.loss.value(at.prediction.reshape(shape), problem.data.y)) for at in (a, b)
    ]
    size = max(abs(v) for v in values)
    return abs(values[0] - values[1]) / size if size else 0.0


def _weights(
    first: FlowRecord, second: FlowRecord, a: Snapshot, b: Snapshot, unit: bool = False
) -> float:
    """How far two states differ, relative to the larger; or their directions w/|w|."""
    blocks = first.engine.blocks(a.state), second.engine.blocks(b.state)
    tops = [float(np.max(each.log_norm)) for each in blocks]
    if not np.isfinite(tops).all():
        return 0.0 if tops[0] == tops[1] else 1.0
    if unit:
        left, right = (_scaled(each, top) for each, top in zip(blocks, tops, strict=True))
        return float(np.linalg.norm(left / np.linalg.norm(left) - right / np.linalg.norm(right)))
    left, right = (_scaled(each, max(tops)) for each in blocks)
    return float(np.linalg.norm(left - right) / max(np.linalg.norm(left), np.linalg.norm(right)))


def _scaled(state: BlockState, log_scale: float) -> np.ndarray:
    with np.errstate(under="ignore"):
        return np.asarray(np.exp(state.log_norm - log_scale)[:, None] * state.direction)
