"""What figures 2 to 5 share: a toy set of points on the line, and gradient descent beside the flow.

The loss is the mean squared error without one half, on which the authors' code runs gradient
descent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._flow import RTOL, FlowEvidence, FlowSetting, distance, follow

if TYPE_CHECKING:
    from ... import Problem, Progress
    from ...comparators import Descent

FINER = 10
"""How many times finer the second run of gradient descent is."""
DESCENT_RECORDS = 2000


@dataclass(frozen=True)
class Setting(FlowSetting):
    """A two-layer ReLU network on a toy set of points, from a balanced Gaussian initialisation.

    **Attributes:** beside those of `FlowSetting`

    - `data`: the name of the toy set; a bias is appended.
    - `width`: m.
    - `scale`: lambda = scale / sqrt(m), the standard deviation of an initial hidden weight.
    """

    data: str
    width: int
    scale: float

    @property
    def initial_scale(self) -> float:
        """lambda."""
        return self.scale / self.width**0.5

    def problem(self, seed: int) -> "Problem":
        """The flow's problem for one seed."""
        from ...data import named
        from ...flow import problem
        from ...losses import Square
        from ...networks import TwoLayer, balanced

        data, network = named(self.data), TwoLayer(self.width)
        initial = balanced(network, data.dimension, scale=self.initial_scale, seed=seed)
        return problem(data, network, initial, loss=Square("mean", scale=2.0))

    def seed(self) -> int:
        """The first seed, from 0, whose initial neurons meet assumption 3 of the paper.

        Some neuron with a > 0 is active on every example of positive label, and some neuron with
        a < 0 on every example of negative label (equations 5 and 6). The paper names no seed.
        """
        return next(s for s in range(1000) if all(g.any() for g in key_groups(self.problem(s))))

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """The flow, and gradient descent with the paper's step from the same weights."""
        from ...comparators import gradient_descent

        seed = self.seed()
        problem = self.problem(seed)
        solution = follow(problem, self.times, progress=progress)
        record = np.linspace(0, self.iterations, DESCENT_RECORDS + 1).round().astype(int)
        descent = gradient_descent(
            problem, self.step, self.iterations, [*record.tolist(), *self.frames]
        )
        return Evidence(seed, problem, solution, self, descent)


def key_groups(problem: "Problem") -> tuple[np.ndarray, np.ndarray]:
    """The sets S_{+,1} and S_{-,1} of the paper as masks over neurons, from the initial state."""
    a, w = problem.initial.direction[:, 0], problem.initial.direction[:, 1:]
    active, y = w @ problem.data.x.T >= 0, problem.data.y
    positive = (a > 0) & active[:, y > 0].all(axis=1)
    negative = (a < 0) & active[:, y < 0].all(axis=1)
    return positive, negative


@dataclass(frozen=True)
class Evidence(FlowEvidence):
    """The flow, and gradient descent from the same weights.

    **Attributes:** beside those of `FlowEvidence`

    - `setting`: what was followed.
    - `descent`: gradient descent with the paper's step.
    """

    setting: Setting
    descent: "Descent"

    @property
    def step(self) -> float:
        """The paper's step of gradient descent."""
        return self.setting.step

    @cached_property
    def finer_descent(self) -> "Descent":
        """Gradient descent with a tenth of the paper's step, recorded at the same times."""
        from ...comparators import gradient_descent

        return gradient_descent(
            self.problem,
            self.setting.step / FINER,
            self.setting.iterations * FINER,
            (FINER * self.descent.iteration).tolist(),
        )

    def parameters(self) -> dict[str, Any]:
        """What was followed, in words and numbers."""
        setting, data = self.setting, self.problem.data
        return {
            "data": setting.data,
            "x": data.x[:, :-1].tolist(),
            "y": data.y.tolist(),
            "bias": True,
            "width": setting.width,
            "initial_scale": setting.initial_scale,
            "initialisation": f"balanced, lambda = {setting.scale:g}/sqrt({setting.width})",
            "loss": "mean squared error without one half",
            **setting.schedule(),
            "rtol": RTOL,
            "seed": self.seed,
            "seed_criterion": "the first seed from 0 for which S_{+,1} and S_{-,1} are not empty",
        }

    def comparison(self) -> list[dict[str, Any]]:
        """Gradient descent with the paper's step and with a tenth of it, against the flow."""
        words = "gradient descent in float64 from the same weights"
        return [distance(self.solution, d, words) for d in (self.descent, self.finer_descent)]
