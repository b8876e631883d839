r"""Saddles that a flow visits, read off its visits.

A *visit* is an interval of time in which
$|\nabla l|^2 \le 0.01 \, \Lambda(r) \, l$ with $\Lambda(r) = \|X\|_2 |r|$: the loss decays slowly
compared with the fastest growth $\Lambda$ that any unit neuron can have under the residual r.
Blocks enter $|\nabla l|$ with their own size, so that only the macroscopic ones count. While the
flow leaves a saddle along a growing block, the loss has fallen by about one per cent when the
visit ends. Convergence to zero loss is no visit (there $|\nabla l|^2 / l$ keeps its size while
$\Lambda \to 0$), unless the run ends at rest. Two intervals between which the loss
falls by less than 5 per cent are one; one in which it falls by more than a fifth is a slow valley
and no saddle. The definition names only the state, and the ends
are located by root-finding, so that it doesn't depend on the steps taken.
"""

from dataclasses import dataclass

import numpy as np

from .flow import AT_REST, FlowRecord, Visit
from .ncf import kkt_distance, ncf

#: A block is active at a saddle if |a_j||w_j| exceeds this share of the sum over all blocks and
#: the loss feels it; residuals below RESIDUAL times the labels count as zero.
_ACTIVE_SHARE = 1e-4
_RESIDUAL = 1e-6


@dataclass(frozen=True)
class Saddle:
    """One visit to a saddle.

    **Attributes:**

    - `index`: 0 for the first, the origin for a vanishing initialisation.
    - `time_enter`, `time_leave`, `log_time_enter`, `log_time_leave`: flow times of the visit's ends
      and their natural logarithms; None where there is none (not left; the logarithm of zero).
    - `loss`, `grad_norm`, `residual_norm`: at the closest approach, |r| with r = -dl/dh.
    - `active_blocks`: the number of blocks that are not microscopic there.
    - `kkt_residual`: the largest over living microscopic blocks, on leaving, of
      dist(0, (I - vv^T) dN_r(v)) / (2 max |N_r|), the maximum over the same blocks. At the end of
      a run that ended at rest, there. None where the saddle was not left, the residual vanishes
      or no microscopic block lives.
    """

    index: int
    time_enter: float
    time_leave: float | None
    log_time_enter: float | None
    log_time_leave: float | None
    loss: float
    grad_norm: float
    active_blocks: int
    residual_norm: float
    kkt_residual: float | None


def _log(time: float | None) -> float | None:
    return float(np.log(time)) if time is not None and time > 0 else None


def _saddle(record: FlowRecord, index: int, visit: Visit) -> Saddle:
    engine = record.engine
    problem = engine.problem
    closest, leave = visit.closest, visit.leave
    x, y = problem.data.x, problem.data.y
    with np.errstate(under="ignore"):
        size = np.exp(2.0 * engine.log_norm(closest.state)) / 2.0
    felt = np.linalg.norm(x, axis=1).max(initial=0.0) * size > 1e-3 * np.abs(y).max(initial=0.0)
    active = (size > _ACTIVE_SHARE * size.sum()) & (felt | (closest.rest > 0.1))
    kkt = None
    at = leave
    if at is None and record.stop_reason in AT_REST:
        at = record.snapshots[-1]
    scale = engine.factor * float(np.linalg.norm(y))
    if at is not None and float(np.linalg.norm(at.residual)) > _RESIDUAL * scale:
        force = engine.field(at.state, count=False).force
        living = ~active & (np.linalg.norm(force, axis=1) > engine.rounding_speed(at.prediction))
        if living.any():
            v = engine.direction(at.state)[living]
            slope = problem.network.slope
            value = float(np.abs(ncf(v, x, at.residual, slope)).max())
            if value > 0:
                kkt = float(kkt_distance(v, x, at.residual, slope).max() / (2.0 * value))
    time_leave = leave.time if leave is not None else None
    return Saddle(
        index=index,
        time_enter=float(visit.enter.time),
        time_leave=None if time_leave is None else float(time_leave),
        log_time_enter=_log(visit.enter.time),
        log_time_leave=_log(time_leave),
        loss=float(closest.loss),
        grad_norm=float(closest.grad_norm),
        active_blocks=int(active.sum()),
        residual_norm=float(np.linalg.norm(closest.residual)),
        kkt_residual=kkt,
    )


def visited_saddles(record: FlowRecord) -> tuple[Saddle, ...]:
    """The saddles of a run in the order of their visits, the origin first."""
    return tuple(_saddle(record, i, visit) for i, visit in enumerate(record.visits))
