r"""Saddles that a flow visits, read off its visits (`flow/_visits.py` has their definition).

Blocks enter the gradient with their own size, so that only the macroscopic ones count in a visit.
While the flow leaves a saddle along a growing block, the loss has fallen by about one per cent
when the visit ends. Convergence to zero loss is no visit (there $|\nabla l|^2 / l$ keeps its size
while $\Lambda \to 0$), unless the run ends at rest.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from .flow import AT_REST, FlowRecord, Snapshot, Visit
from .losses import MarginLoss

#: A block is active at a saddle if exp(L log_norm), L its order, exceeds this share of the largest,
#: and a prediction exceeds FELT times the labels (times 1 for losses of classification).
_ACTIVE_SHARE = 1e-4
_FELT = 1e-3
#: A residual below this share of that of the zero network counts as zero.
_RESIDUAL = 1e-6


@dataclass(frozen=True)
class Saddle:
    """One visit to a saddle.

    **Attributes:**

    - `index`: 0 for the first, the origin for a vanishing initialisation.
    - `time_enter`, `time_leave`, `log_time_enter`, `log_time_leave`: flow times of the visit's ends
      and their natural logarithms; None where there is none (not left; the logarithm of zero).
    - `log_loss`, `log_grad_norm`, `log_residual_norm`: natural logarithms of the loss, |grad l|
      and |r| with r = -dl/dh at the closest approach; `loss`, `grad_norm` and `residual_norm` are
      the numbers, 0 where a float can't hold them.
    - `active_blocks`: the number of blocks that are not microscopic there.
    - `kkt_residual`: the largest over living microscopic blocks, on leaving, of
      dist(0, (I - vv^T) dN_r(v)) / (L max |N_r|), the maximum over the same blocks. At the end of
      a run that ended at rest, there. None where the saddle was not left, the residual vanishes
      or no microscopic block lives.
    """

    index: int
    time_enter: float
    time_leave: float | None
    log_time_enter: float | None
    log_time_leave: float | None
    log_loss: float
    log_grad_norm: float
    active_blocks: int
    log_residual_norm: float
    kkt_residual: float | None

    @property
    def loss(self) -> float:
        """The loss at the closest approach."""
        return _exp(self.log_loss)

    @property
    def grad_norm(self) -> float:
        """The norm of the loss's gradient there."""
        return _exp(self.log_grad_norm)

    @property
    def residual_norm(self) -> float:
        """The norm of the residual there."""
        return _exp(self.log_residual_norm)


def _exp(logarithm: float) -> float:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(logarithm))


def _saddle(record: FlowRecord, index: int, visit: Visit) -> Saddle:
    closest, leave = visit.closest, visit.leave
    at = leave
    if at is None and record.stop_reason in AT_REST:
        at = record.snapshots[-1]
    active = _active(record, closest)
    return Saddle(
        index=index,
        time_enter=visit.enter.time,
        time_leave=None if leave is None else leave.time,
        log_time_enter=_finite(visit.enter.log_time),
        log_time_leave=None if leave is None else _finite(leave.log_time),
        log_loss=closest.log_loss,
        log_grad_norm=closest.log_grad_norm,
        active_blocks=int(active.sum()),
        log_residual_norm=closest.log_residual,
        kkt_residual=None if at is None else _kkt_residual(record, at, active),
    )


def _finite(log_time: float) -> float | None:
    return log_time if np.isfinite(log_time) else None


def _active(record: FlowRecord, at: Snapshot) -> Bool[ndarray, " m"]:
    """The blocks that are not microscopic."""
    problem = record.problem
    orders = problem.network.row_orders(problem.data.dimension)
    log_size = np.nan_to_num(orders, nan=1.0) * record.engine.blocks(at.state).log_norm
    top = log_size.max()
    if not np.isfinite(top):
        return np.zeros(len(log_size), dtype=bool)
    label = problem.data.y
    unit = 1.0 if isinstance(problem.loss, MarginLoss) else np.abs(label).max(initial=0.0)
    if np.abs(at.prediction).max(initial=0.0) <= _FELT * unit:
        return np.zeros(len(log_size), dtype=bool)
    return log_size > top + np.log(_ACTIVE_SHARE)


def _kkt_residual(record: FlowRecord, at: Snapshot, active: Bool[ndarray, " m"]) -> float | None:
    problem = record.problem
    start, _ = problem.loss.log_residual(np.zeros(problem.prediction_shape), problem.data.y)
    if not at.log_residual > start + np.log(_RESIDUAL):
        return None
    value, distance = record.engine.ncf(at.state)
    living = ~active & np.isfinite(value) & np.isfinite(distance)
    top = np.abs(value[living]).max(initial=0.0)
    if not top > 0.0:
        return None
    orders = np.nan_to_num(problem.network.row_orders(problem.data.dimension), nan=1.0)
    return float((distance / orders)[living].max() / top)


def visited_saddles(record: FlowRecord) -> tuple[Saddle, ...]:
    """The saddles of a run in the order of their visits, the origin first."""
    return tuple(_saddle(record, i, visit) for i, visit in enumerate(record.visits))
