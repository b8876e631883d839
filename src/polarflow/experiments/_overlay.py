"""Gradient descent beside the flow of a smooth network: drawn over it, and compared with it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy import ndarray

from ._base import Claim
from ._flow import differences

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .. import Problem, Solution, Trajectory
    from ..comparators import Descent

DASHES: Any = (0, (4.0, 2.0))
DOTS: Any = (0, (1.0, 1.5))
RECORDS = 100


def common_times(step: float, iterations: int) -> tuple[float, ...]:
    """Even times at which both the flow and gradient descent are recorded, 0 and the end too."""
    even = np.unique(np.linspace(0, iterations, RECORDS + 1).round())
    return tuple((even * step).tolist())


@dataclass(frozen=True)
class Overlay:
    """Gradient descent from the flow's own start, with a step and with half of it.

    **Attributes:**

    - `problem`, `solution`: the flow, recorded at `common_times(step, ...)`.
    - `step`: the step that is drawn.
    - `paper`: the paper's step; a quick form may take a longer one.
    - `share`: the part of the flow's time over which the two are compared.
    """

    problem: "Problem"
    solution: "Solution"
    step: float
    paper: float
    share: float = 1.0

    def _descend(self, halvings: int) -> "Descent":
        from ..comparators import gradient_descent

        record = np.rint(self.solution.recorded.time / self.step).astype(int)
        half = 2**halvings
        return gradient_descent(self.problem, self.step / half, half * record[-1], half * record)

    @cached_property
    def descent(self) -> "Descent":
        """Gradient descent with the step."""
        return self._descend(0)

    @cached_property
    def finer(self) -> "Descent":
        """Gradient descent with half of it, recorded at the same times."""
        return self._descend(1)

    @property
    def iteration(self) -> ndarray:
        """Where on the paper's axis of iterations the records of `descent` stand."""
        return np.asarray(self.descent.trajectory.time / self.paper)

    def distance(self, descent: "Descent") -> dict[str, Any]:
        """Largest differences from the flow up to the share of its time, for a summary.

        That of weights is |w_GD - w|/|w|, w all weights.
        """
        time = descent.trajectory.time
        chosen = np.flatnonzero(time <= self.share * time[-1])
        flow, path = (t.select(chosen) for t in (self.solution.recorded, descent.trajectory))
        w = flow.weights()
        gap, size = (np.sqrt(np.sum(v**2, axis=(1, 2))) for v in (path.weights() - w, w))
        found = differences(flow, path, descent.step, "gradient descent")
        return {**found, "largest_weight_distance": float(np.max(gap / size))}

    @cached_property
    def comparison(self) -> list[dict[str, Any]]:
        """How far gradient descent is from the flow, with the step and with half of it."""
        return [self.distance(run) for run in (self.descent, self.finer)]

    def claim(self) -> Claim:
        """Halving the step halves the distance."""
        coarse, fine = (each["largest_weight_distance"] for each in self.comparison)
        part = "" if self.share == 1.0 else f" over the first {self.share:.0%} of the time"
        return Claim(
            name="descent-to-first-order",
            statement=(
                "Gradient descent agrees with the flow to first order in the step: the largest "
                f"|w_GD - w|/|w|{part} with the step {self.step:g}, over that with half of it."
            ),
            measured=coarse / fine,
            bound=(1.8, 2.2),
            relation="in",
            reason="Euler's method is of first order: 2 in the limit of small steps.",
        )

    def draw(self, ax: "Axes", values: "Callable[[Trajectory], ndarray]") -> None:
        """Gradient descent as a dashed line over the paper's iterations."""
        from ..plotting.style import DESCENT

        drawn = np.asarray(values(self.descent.trajectory))
        for line in drawn.reshape(len(drawn), -1).T:
            ax.plot(self.iteration, line, color=DESCENT, linewidth=1.0, linestyle=DASHES, zorder=4)
        ax.lines[-1].set_label(label(self.step))


def label(step: float) -> str:
    """What a legend says of gradient descent."""
    return f"gradient descent, step {step:g}"


class Overlaid(Protocol):
    """What has gradient descent beside it."""

    @property
    def overlay(self) -> Overlay:
        """Gradient descent beside the flow."""


def descent_agrees(e: Overlaid) -> Claim:
    """The authors' method follows the flow."""
    return e.overlay.claim()
