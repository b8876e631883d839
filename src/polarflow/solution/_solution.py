"""What a flow that was followed leaves."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..flow import FlowRecord, Moment, Problem, Trajectory
from ..margins import Late
from ..saddles import Saddle
from ._check import ErrorEstimate

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True)
class Events:
    """How often neurons met kinks: crossings, entries into slides, branchings.

    None where the engine doesn't locate kinks.
    """

    crossings: int | None
    slides: int | None
    branchings: int | None


@dataclass(frozen=True)
class Work:
    """What a run cost.

    `field_evaluations` counts each time the residual is formed and the velocities of all blocks
    are taken, each order of a Taylor series and rejected trials of root-finding included; one
    neuron's advance between two of its events counts 1/m. Products of the Jacobian with a vector,
    or columns of it, are counted apart in `jacobian_products`. `seconds` is the engine alone,
    `compile_seconds` what loading and compiling its loops took before.
    """

    field_evaluations: int
    jacobian_products: int
    steps: int
    seconds: float
    compile_seconds: float


@dataclass(frozen=True)
class Solution:
    """A gradient flow that was followed.

    **Attributes:**

    - `problem`: what was followed.
    - `status`: `"ok"`, or the kind of what kept the flow from going on.
    - `stop_reason`: the stop that ended it (`"time"`, `"loss"`, ...), or the status.
    - `message`: a sentence about the status; empty if all is well.
    - `notes`: sentences about what the result doesn't say.
    - `requests`: the times asked for, in that order.
    - `trajectory`: the flow at times dense where it moves.
    - `recorded`: the flow at exactly the requested times, those after the end left out.
    - `final`: the flow at its end, a trajectory of length one.
    - `saddles`: the saddles visited, in order.
    - `late`: margins and alignment along the trajectory, for losses of classification.
    - `events`, `work`: counts.
    - `error_estimate`: from the flow at half the tolerance; None where that wasn't followed.
    - `balancedness_drift`: for two-layer (leaky) ReLU networks the largest relative change of
      |a|^2 - |w|^2 in one step, before the balance is restored exactly. For others that are
      homogeneous in each layer, of order k_i in layer i, how far b_i = |W_i|^2/k_i -
      |W_{i+1}|^2/k_{i+1} has gone from its start: the largest |b_i(t) - b_i(0)| over layers,
      blocks and times, relative to |W_i|^2/k_i + |W_{i+1}|^2/k_{i+1} at the start or at t,
      whichever is larger. None for networks that don't keep one.
    - `inputs`: where the learned function was recorded, shape `(q, d)`, bias included.
    """

    problem: Problem
    status: str
    stop_reason: str
    message: str
    notes: tuple[str, ...]
    requests: tuple[Moment, ...]
    trajectory: Trajectory
    recorded: Trajectory
    final: Trajectory
    saddles: tuple[Saddle, ...]
    late: Late | None
    events: Events
    work: Work
    error_estimate: ErrorEstimate | None
    balancedness_drift: float | None
    inputs: Float[ndarray, "q d"]
    _record: FlowRecord

    def evaluate(
        self,
        times: Sequence[float] | ndarray = (),
        *,
        log_times: Sequence[float] | ndarray = (),
    ) -> Trajectory:
        """The flow at any times of the run, as exact as the run itself.

        It is followed again from the nearest recorded state. Times given by their natural
        logarithms come last.

        **Raises:** `PolarflowError` for a time outside the run.
        """
        moments = [
            *(Moment.of_time(t) for t in np.asarray(times, dtype=float).reshape(-1).tolist()),
            *(Moment.of_log_time(t) for t in np.asarray(log_times, dtype=float).tolist()),
        ]
        snapshots = self._record.evaluate(moments)
        return self._record.trajectory(snapshots, self.inputs)

    def to_xarray(self) -> "xarray.Dataset":
        """The trajectory and the saddles as a Dataset with named dimensions and units."""
        from ._dataset import to_dataset

        return to_dataset(self)

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`, without the spec; numbers that don't exist are None."""
        final = _entry(self.final, 0)
        final["grad_norm"] = _held(self.final.log_grad_norm[0])
        final["predictions"] = _number(self.final.prediction[0].tolist())
        final["outputs"] = _number(self.final.output[0].tolist())
        reached = iter(range(len(self.recorded)))
        entries = []
        for moment in self.requests:
            if moment in self._record.recorded:
                entry = _entry(self.recorded, next(reached))
            else:
                entry = {
                    "time": _held(moment.log_time, moment.time),
                    "log_time": _number(moment.log_time),
                }
            entries.append({key: entry.get(key) for key in _RECORDED})
        late = {} if self.late is None else {"late": _late(self.late)}
        return {
            "status": self.status,
            "stop_reason": self.stop_reason,
            "message": self.message,
            "notes": list(self.notes),
            "final": final,
            "recorded": entries,
            "saddles": [_of_saddle(s) for s in self.saddles],
            **late,
            "error_estimate": None if self.error_estimate is None else _plain(self.error_estimate),
            "conserved": {"balancedness_drift": _number(self.balancedness_drift)},
            "events": asdict(self.events),
            "work": asdict(self.work),
        }


_RECORDED = ("time", "log_time", "loss", "log_loss", "param_norm")
_SADDLE = (
    "index",
    "log_time_enter",
    "log_time_leave",
    "loss",
    "grad_norm",
    "active_blocks",
    "residual_norm",
    "kkt_residual",
)


def _late(late: Late) -> dict[str, Any]:
    """The end of the late phase."""
    return {
        "normalized_margin": _number(late.normalized_margin[-1]),
        "smoothed_margin": _number(late.smoothed_margin[-1]),
        "alignment_angle": _number(late.alignment_angle[-1]),
        "path_length": _number(late.path_length[-1]),
        "path_error": _number(late.path_error),
        "smoothed_margin_drop": _number(late.smoothed_margin_drop),
    }


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return [_number(each) for each in value]
    if value is None or isinstance(value, int):
        return value
    value = float(value)
    return value if isfinite(value) else None


def _plain(estimate: ErrorEstimate) -> dict[str, Any]:
    return {key: _number(value) for key, value in asdict(estimate).items()}


def _of_saddle(saddle: Saddle) -> dict[str, Any]:
    entry = {key: _number(getattr(saddle, key)) for key in _SADDLE}
    for key in ("loss", "grad_norm", "residual_norm"):
        entry[key] = _held(getattr(saddle, f"log_{key}"))
    return entry


def _held(log_value: float, value: float | None = None) -> float | None:
    """The number with a logarithm, or None if a float can't hold it; `value` is a better one."""
    if value is None:
        with np.errstate(over="ignore", under="ignore"):
            value = float(np.exp(log_value))
    lost = float(value) == 0.0 and not np.isneginf(log_value)
    return None if lost else _number(value)


def _entry(trajectory: Trajectory, i: int) -> dict[str, Any]:
    log_norm, log_time = trajectory.log_param_norm[i], trajectory.log_time[i]
    return {
        "time": _held(log_time, trajectory.time[i]),
        "log_time": _number(log_time),
        "loss": _held(trajectory.log_loss[i], trajectory.loss[i]),
        "log_loss": _number(trajectory.log_loss[i]),
        "param_norm": _held(log_norm),
        "log_param_norm": _number(log_norm),
    }
