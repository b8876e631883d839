"""Experiments on one flow that a paper shows at certain iterations of gradient descent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PolarflowError

if TYPE_CHECKING:
    from xarray import Dataset

    from .. import Problem, Progress, Solution, Trajectory
    from ..comparators import Descent
    from ..networks import BlockState

RTOL = 1e-9
"""Tolerance of the flow in every experiment that states no other; far below every bound."""
POINTS = 800
COMPARED = 400


@dataclass(frozen=True)
class FlowSetting:
    """Iterations of gradient descent as times of the flow: iteration i is the time i * step.

    A setting of a paper adds what is followed, `problem(seed)`, and which `seed()` is taken.

    **Attributes:**

    - `step`: the step of gradient descent, in units of flow time.
    - `iterations`: how many of them the flow is followed for.
    - `frames`: the iterations at which the paper shows the network.
    """

    step: float
    iterations: int
    frames: tuple[int, ...]

    @property
    def times(self) -> tuple[float, ...]:
        """Flow times of the frames and of the end, in order."""
        return tuple(i * self.step for i in sorted({*self.frames, self.iterations}))

    def problem(self, seed: int) -> "Problem":
        """The flow's problem for one seed."""
        raise NotImplementedError

    def seed(self) -> int:
        """The seed that is taken."""
        raise NotImplementedError

    def schedule(self) -> dict[str, Any]:
        """These attributes as a summary's `parameters` say them."""
        return {
            "step": self.step,
            "iterations": self.iterations,
            "frames": list(self.frames),
            "time": self.times[-1],
        }


@dataclass(frozen=True)
class FlowEvidence:
    """The flow of a setting.

    **Attributes:**

    - `seed`, `problem`: what was followed.
    - `solution`: the flow, recorded at the setting's times.
    """

    seed: int
    problem: "Problem"
    solution: "Solution"

    @property
    def step(self) -> float:
        """The paper's step of gradient descent."""
        raise NotImplementedError

    @cached_property
    def dataset(self) -> "Dataset":
        """The trajectory as the figures want it."""
        return self.solution.to_xarray()

    def index(self, iteration: int) -> int:
        """Where in `solution.recorded` a frame's iteration stands."""
        wanted = iteration * self.step
        at = int(np.argmin(np.abs(self.solution.recorded.time - wanted)))
        assert abs(self.solution.recorded.time[at] - wanted) <= 1e-9 * max(wanted, 1.0)
        return at

    def state(self, iteration: int) -> "BlockState":
        """The weights at a frame's iteration."""
        return self.solution.recorded.state(self.index(iteration))

    def prediction(self, iteration: int) -> np.ndarray:
        """The predictions at a frame's iteration, shape `(n,)`."""
        return np.asarray(self.solution.recorded.prediction[self.index(iteration)])

    def loss(self, iteration: int) -> float:
        """The loss at a frame's iteration."""
        return float(self.solution.recorded.loss[self.index(iteration)])

    def work(self) -> dict[str, Any]:
        """What the flow cost."""
        return dict(self.solution.summary()["work"])


def follow(
    problem: "Problem",
    times: Sequence[float],
    *,
    rtol: float = RTOL,
    points: int = POINTS,
    progress: "Callable[[Progress], None] | None" = None,
    **options: Any,
) -> "Solution":
    """The flow up to the last of some times, recorded at all of them.

    `options` go to `gradient_flow`.

    **Raises:** `PolarflowError` if it could not go on; `KeyboardInterrupt` if it was interrupted.
    """
    from .. import Stop, gradient_flow

    solution = gradient_flow(
        problem,
        stop=Stop(time=times[-1]),
        rtol=rtol,
        record_times=times,
        points=points,
        progress=progress,
        check=False,
        **options,
    )
    return finished(solution)


def finished(solution: "Solution") -> "Solution":
    """A flow that came to its stop.

    **Raises:** `PolarflowError` if it could not go on; `KeyboardInterrupt` if it was interrupted.
    """
    if solution.status == "interrupted":
        raise KeyboardInterrupt
    if solution.status != "ok":
        raise PolarflowError(solution.message)
    return solution


def distance(solution: "Solution", descent: "Descent", method: str) -> dict[str, Any]:
    """How far gradient descent is from the flow: largest differences over the recorded times."""
    times = descent.trajectory.time
    chosen = np.flatnonzero(times <= solution.trajectory.time[-1])
    chosen = chosen[:: max(1, len(chosen) // COMPARED)]
    flow = solution.evaluate(times[chosen])
    return differences(flow, descent.trajectory.select(chosen), descent.step, method)


def differences(
    flow: "Trajectory", descent: "Trajectory", step: float, method: str
) -> dict[str, Any]:
    """The largest differences between the flow and gradient descent at the same times."""
    loss = np.abs(flow.loss - descent.loss)
    prediction = np.abs(flow.prediction - descent.prediction)
    return {
        "method": method,
        "step": step,
        "largest_loss_difference": float(loss.max()),
        "at_time": float(descent.time[np.argmax(loss)]),
        "largest_prediction_difference": float(prediction.max()),
    }
