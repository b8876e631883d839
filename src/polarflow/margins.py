r"""The late phase of classification: margins, and how the weights align with the gradient.

For an L-homogeneous network h(x; w) on separable data and a loss that falls like e^{-z} with the
margins z_k = y_k h_k (cross-entropy: h_y minus the largest other output), the norm grows for ever
while the direction w/|w| converges, and -grad l with it (Lyu & Li, 2020; Ji & Telgarsky, 2020,
Theorems 3.1 and 4.1). The *normalised margin* is $\min_k z_k / |w|^L$; the *smoothed margin*
$\ell^{-1}(\sum_k \ell(z_k)) / |w|^L$ never falls once $\sum_k \ell(z_k) < \ell(0)$, their
Assumption 2.3, and has the same limit.

All of it is computed from logarithms and unit vectors: norms, losses and gradients may leave the
range of floats.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .flow import FlowRecord, Problem, Snapshot
from .losses import MarginLoss
from .networks import BlockState, TwoLayer

#: Predictions of weights with -L ln|w| beyond this underflow.
_UNDERFLOW = 600.0


@dataclass(frozen=True)
class Late:
    """Margins and alignment along a flow, at T times.

    **Attributes:**

    - `margin`: the normalised margin of each example, z_k/|w|^L, shape `(T, n)`; nan where the
      predictions underflow.
    - `smoothed_margin`: the smoothed margin, shape `(T,)`; -inf where it can't be held.
    - `alignment_angle`: of w and -grad l, in radians, shape `(T,)`; nan without a gradient.
    - `path_length`: of w/|w| from the start, shape `(T,)`; nan where it was not followed.
    - `path_error`: an upper estimate of the error of the last `path_length`.
    - `fitted`: where sum_k l(z_k) < l(0), shape `(T,)`.
    """

    margin: Float[ndarray, "T n"]
    smoothed_margin: Float[ndarray, " T"]
    alignment_angle: Float[ndarray, " T"]
    path_length: Float[ndarray, " T"]
    path_error: float
    fitted: ndarray

    @property
    def normalized_margin(self) -> Float[ndarray, " T"]:
        """The least normalised margin of all examples."""
        return self.margin.min(axis=1)

    @property
    def smoothed_margin_drop(self) -> float | None:
        """The largest relative fall of the smoothed margin below what it was before, once fitted.

        Zero in exact arithmetic; None if there are no two such times.
        """
        values = self.smoothed_margin[self.fitted]
        if len(values) < 2:
            return None
        best = np.maximum.accumulate(values)
        return float(np.max((best - values) / best))


def alignment_angle(
    log_norm: Float[ndarray, " m"],
    order: float,
    value: Float[ndarray, " m"],
    distance: Float[ndarray, " m"],
) -> float:
    """The angle between w and -grad l, in radians.

    Block j moves by e^{(L-1) rho_j} (L N_j v_j + tau_j), with tau_j orthogonal to v_j. The angle is
    taken from the part of -grad l across w, so that it is accurate near zero.

    **Arguments:**

    - `log_norm`: rho_j.
    - `order`: L.
    - `value`: N_j = N_r(v_j), nan for blocks that don't live.
    - `distance`: |tau_j|, the least norm of (I - vv^T) dN_r(v_j).

    **Returns:** nan if w or the gradient vanishes.
    """
    top = float(log_norm.max(initial=-np.inf))
    if not np.isfinite(top):
        return float("nan")
    with np.errstate(under="ignore"):
        size = np.exp(log_norm - top)
        speed = size ** (order - 1)
    radial = speed * order * np.nan_to_num(value)
    across = speed * np.nan_to_num(distance)
    largest = max(np.abs(radial).max(), across.max())
    if not largest > 0.0:
        return float("nan")
    radial, across = radial / largest, across / largest
    norm = float(np.linalg.norm(size))
    along = float(size @ radial) / norm
    rest = radial - along / norm * size
    return float(np.arctan2(np.hypot(np.linalg.norm(rest), np.linalg.norm(across)), along))


def homogeneity(problem: Problem) -> float | None:
    """The order L of a network all of whose blocks have it; None for any other."""
    network: Any = problem.network
    if isinstance(network, TwoLayer):
        return float(network.order)
    orders = network.row_orders(problem.data.dimension)
    return float(orders[0]) if np.all(orders == orders[0]) else None


def late_phase(record: FlowRecord, snapshots: list[Snapshot]) -> Late | None:
    """Margins and alignment at snapshots of a flow.

    None unless its loss is one of margins and all blocks of its network have one order.
    """
    problem, engine = record.problem, record.engine
    loss, order = problem.loss, homogeneity(problem)
    if not isinstance(loss, MarginLoss) or order is None:
        return None
    margin = np.empty((len(snapshots), problem.data.examples))
    smoothed, angle = np.empty((2, len(snapshots)))
    fitted = np.zeros(len(snapshots), dtype=bool)
    for i, at in enumerate(snapshots):
        blocks = engine.blocks(at.state)
        unit = -order * _log_size(blocks)
        alone = float(loss.smoothed_margin(np.array(at.log_loss), problem.data.examples))
        fitted[i] = alone > 0.0
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            smoothed[i] = alone * np.exp(unit)
            margin[i] = loss.margins(at.prediction, problem.data.y) * np.exp(unit)
        if unit > _UNDERFLOW:
            margin[i] = np.nan
        value, distance = engine.ncf(at.state)
        angle[i] = alignment_angle(blocks.log_norm, order, value, distance)
    return Late(
        margin=margin,
        smoothed_margin=smoothed,
        alignment_angle=angle,
        path_length=np.array([at.path_length for at in snapshots]),
        path_error=record.path_error,
        fitted=fitted,
    )


def _log_size(blocks: BlockState) -> float:
    """ln|w|."""
    top = float(blocks.log_norm.max(initial=-np.inf))
    if not np.isfinite(top):
        return 0.0
    with np.errstate(under="ignore"):
        return top + 0.5 * float(np.log(np.sum(np.exp(2.0 * (blocks.log_norm - top)))))
