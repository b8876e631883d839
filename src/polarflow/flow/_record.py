"""What one run leaves behind, and the flow at any time of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._engine import Engine
from ._problem import Problem
from ._snapshot import Moment, Snapshot, reach, snapshot
from ._stop import Stop
from ._trajectory import Trajectory
from ._visits import Visit

#: The reasons to stop that mean rest.
AT_REST = ("grad_norm", "at_rest")


@dataclass
class FlowRecord:
    """All that one run leaves behind.

    **Attributes:**

    - `snapshots`: the trajectory, the start and the end included.
    - `recorded`: the snapshots at requested times, as far as they were reached.
    - `visits`: the visits to saddles.
    - `status`, `stop_reason`, `message`: how the run ended.
    - `path_error`: an upper estimate of the error of the last snapshot's `path_length`.
    - `steps`: windows used.
    """

    engine: Engine[Any]
    problem: Problem
    stop: Stop
    snapshots: list[Snapshot] = field(default_factory=list)
    recorded: dict[Moment, Snapshot] = field(default_factory=dict)
    visits: list[Visit] = field(default_factory=list)
    status: str = "ok"
    stop_reason: str = ""
    message: str = ""
    path_error: float = 0.0
    steps: int = 0

    def trajectory(self, snapshots: Sequence[Snapshot], inputs: ndarray) -> Trajectory:
        """Snapshots as arrays; `inputs` are those at which the network's values are wanted."""
        problem = self.problem
        count, shape = len(snapshots), problem.initial.direction.shape
        log_norm, direction = np.empty((count, shape[0])), np.empty((count, *shape))
        outputs = problem.prediction_shape[1:]
        output = np.zeros((count, len(inputs), *outputs))
        for i, at in enumerate(snapshots):
            blocks = self.engine.blocks(at.state)
            log_norm[i], direction[i] = blocks.log_norm, blocks.direction
            if len(inputs):
                output[i] = problem.network.predict(blocks, inputs)
        prediction = np.array([s.prediction for s in snapshots])
        prediction = prediction.reshape(count, *problem.prediction_shape)
        log_loss = np.array([s.log_loss for s in snapshots])
        with np.errstate(over="ignore", under="ignore"):
            loss = np.exp(log_loss)
        negative = np.isnan(log_loss)
        if negative.any():
            loss[negative] = problem.loss.value(prediction[negative], problem.data.y)
        return Trajectory(
            time=np.array([s.time for s in snapshots]),
            log_time=np.array([s.log_time for s in snapshots]),
            log_norm=log_norm,
            direction=direction,
            loss=loss,
            log_loss=log_loss,
            log_grad_norm=np.array([s.log_grad_norm for s in snapshots]),
            log_residual=np.array([s.log_residual for s in snapshots]),
            prediction=prediction,
            output=output,
        )

    def evaluate(self, moments: Sequence[Moment]) -> list[Snapshot]:
        """Snapshots at any times of the run, by following the flow again from the nearest one."""
        last = self.snapshots[-1]
        known = np.array([s.log_time for s in self.snapshots])
        result: dict[Moment, Snapshot] = {}
        current: Snapshot | None = None
        for moment in sorted(set(moments), key=lambda m: m.log_time):
            if not (0.0 <= moment.time and moment.reached(last.log_time)):
                raise PolarflowError(
                    f"evaluate: time {moment.time} is outside the run, [0, {last.time}]."
                )
            index = int(np.searchsorted(known, moment.log_time, side="right")) - 1
            base = self.snapshots[max(index, 0)]
            if current is None or current.log_time < base.log_time:
                current = base
            self.engine.restart()
            while not moment.reached(current.log_time):
                current = self._follow(current, moment)
            result[moment] = current.at(moment)
        return [result[moment] for moment in moments]

    def _follow(self, current: Snapshot, moment: Moment) -> Snapshot:
        """The end of a window, or the moment if the window holds it."""
        window = self.engine.advance(current.state, moment.log_time)
        if not np.isfinite(window.length):
            return current.at(moment)
        state = window.states(np.array([window.length]))[-1]
        if not state.log_time > moment.log_time:
            return snapshot(self.engine, state)
        offset = reach(window, 0.0, window.length, moment)
        return snapshot(self.engine, window.states(np.array([offset]))[-1]).at(moment)
