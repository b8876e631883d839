"""What an experiment is: a setting, the claims about it, and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from xarray import Dataset

    from .. import Problem, Solution
    from ..comparators import Descent
    from ..networks import BlockState

Relation = Literal["<=", ">=", "==", "in"]

RTOL = 1e-9
"""Tolerance of the flow in every experiment; it is far below every bound."""


FINER = 10
"""How many times finer the second run of gradient descent is."""


@dataclass(frozen=True)
class Setting:
    """A two-layer ReLU network on a toy set of points, from a balanced Gaussian initialisation.

    The loss is the mean squared error without one half, on which the authors' code runs gradient
    descent; iteration i is the flow's time i * step.

    **Attributes:**

    - `data`: the name of the toy set; a bias is appended.
    - `width`: m.
    - `scale`: lambda = scale / sqrt(m), the standard deviation of an initial hidden weight.
    - `step`: the step of gradient descent, in units of flow time.
    - `iterations`: how many of them the flow is followed for.
    - `frames`: the iterations at which the paper shows the network.
    """

    data: str
    width: int
    scale: float
    step: float
    iterations: int
    frames: tuple[int, ...]

    @property
    def initial_scale(self) -> float:
        """lambda."""
        return self.scale / self.width**0.5

    @property
    def times(self) -> tuple[float, ...]:
        """Flow times of the frames and of the end, in order."""
        return tuple(i * self.step for i in sorted({*self.frames, self.iterations}))

    def problem(self, seed: int) -> "Problem":
        """The flow's problem for one seed."""
        from ..data import named
        from ..flow import problem
        from ..losses import Square
        from ..networks import TwoLayer, balanced

        data, network = named(self.data), TwoLayer(self.width)
        initial = balanced(network, data.dimension, scale=self.initial_scale, seed=seed)
        return problem(data, network, initial, loss=Square("mean", scale=2.0))

    def seed(self) -> int:
        """The first seed, from 0, whose initial neurons meet assumption 3 of the paper.

        Some neuron with a > 0 is active on every example of positive label, and some neuron with
        a < 0 on every example of negative label (equations 5 and 6). The paper names no seed.
        """
        return next(s for s in range(1000) if all(g.any() for g in key_groups(self.problem(s))))


def key_groups(problem: "Problem") -> tuple[np.ndarray, np.ndarray]:
    """The sets S_{+,1} and S_{-,1} of the paper as masks over neurons, from the initial state."""
    a, w = problem.initial.direction[:, 0], problem.initial.direction[:, 1:]
    active, y = w @ problem.data.x.T >= 0, problem.data.y
    positive = (a > 0) & active[:, y > 0].all(axis=1)
    negative = (a < 0) & active[:, y < 0].all(axis=1)
    return positive, negative


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, measured.

    **Attributes:**

    - `name`, `statement`: what is claimed, in words.
    - `measured`, `bound`: numbers; `bound` is an interval for the relation `"in"`.
    - `relation`: how `measured` must stand to `bound`.
    - `reason`: where the bound comes from.
    """

    name: str
    statement: str
    measured: float
    bound: float | tuple[float, float]
    relation: Relation
    reason: str

    @property
    def holds(self) -> bool:
        """Whether it does; nothing that is not a number holds."""
        if isinstance(self.bound, tuple):
            low, high = self.bound
            return self.relation == "in" and bool(low <= self.measured <= high)
        if self.relation == "<=":
            return bool(self.measured <= self.bound)
        if self.relation == ">=":
            return bool(self.measured >= self.bound)
        return self.relation == "==" and bool(self.measured == self.bound)

    def to_dict(self) -> dict[str, Any]:
        """The claim as it stands in summary.json."""
        return {
            "name": self.name,
            "statement": self.statement,
            "measured": float(self.measured),
            "bound": list(self.bound) if isinstance(self.bound, tuple) else float(self.bound),
            "relation": self.relation,
            "holds": self.holds,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Deviation:
    """A statement of the paper that does not hold as printed, and what was found instead.

    **Attributes:**

    - `name`, `printed`, `found`: what the paper says and what is the case.
    - `evidence`: the numbers.
    """

    name: str
    printed: str
    found: str
    evidence: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The deviation as it stands in summary.json."""
        return {
            "name": self.name,
            "printed": self.printed,
            "found": self.found,
            "evidence": self.evidence,
        }


@dataclass(frozen=True)
class Evidence:
    """What claims and drawings look at.

    **Attributes:**

    - `setting`, `seed`, `problem`: what was followed.
    - `solution`: the flow.
    - `descent`: gradient descent with the paper's step from the same weights.
    """

    setting: Setting
    seed: int
    problem: "Problem"
    solution: "Solution"
    descent: "Descent"

    @cached_property
    def finer_descent(self) -> "Descent":
        """Gradient descent with a tenth of the paper's step, recorded at the same times."""
        from ..comparators import gradient_descent

        return gradient_descent(
            self.problem,
            self.setting.step / FINER,
            self.setting.iterations * FINER,
            (FINER * self.descent.iteration).tolist(),
        )

    @cached_property
    def dataset(self) -> "Dataset":
        """The trajectory as the figures want it."""
        return self.solution.to_xarray()

    def index(self, iteration: int) -> int:
        """Where in `solution.recorded` a frame's iteration stands."""
        wanted = iteration * self.setting.step
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


@dataclass(frozen=True)
class Experiment:
    """A published figure.

    **Attributes:**

    - `name`: what `polarflow reproduce` calls it.
    - `title`: one line.
    - `paper`: where the figure is.
    - `setting`: its parameters.
    - `claims`, `deviations`: each measures one statement on the evidence; a deviation is None
      where the statement holds after all.
    - `draw`: writes the figures into a folder, and the animation unless `quick`; returns paths.
    """

    name: str
    title: str
    paper: str
    setting: Setting
    claims: tuple[Callable[[Evidence], Claim], ...]
    draw: Callable[[Evidence, Path, bool], list[Path]]
    deviations: tuple[Callable[[Evidence], Deviation | None], ...] = field(default=())
