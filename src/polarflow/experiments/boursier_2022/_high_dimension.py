"""What figures 6 and 7 share: 75 Gaussian examples in dimension 150, labelled by six neurons."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._flow import FlowEvidence, FlowSetting, distance, follow
from .._measure import macroscopic, unit_hidden

if TYPE_CHECKING:
    from ... import Problem, Progress
    from ...comparators import Descent

ALIGNED, SADDLE, FIRST_GROWN, END = 40_000, 75_000, 80_000, 200_000
RTOL = 1e-7
POINTS = 300
DESCENT_RECORDS = 200


@dataclass(frozen=True)
class HighDimension(FlowSetting):
    """A two-layer ReLU network on a random teacher's labels, from a tiny balanced initialisation.

    Inputs are standard Gaussian. The teacher has weights N(0, 1/(pd)) and outputs N(0, 1/p), p its
    number of neurons (the authors' code); the student starts at lambda = scale / sqrt(md).

    **Attributes:** beside those of `FlowSetting`

    - `examples`, `dimension`, `teacher_width`, `width`: n, d, p and m.
    - `log10_scale`: log10 of `scale`.
    - `chosen_seed`: of the data and of the initial weights.
    """

    examples: int
    dimension: int
    teacher_width: int
    width: int
    log10_scale: float
    chosen_seed: int

    def problem(self, seed: int) -> "Problem":
        """The flow's problem for one seed."""
        from ...data import teacher_student
        from ...flow import problem
        from ...losses import Square
        from ...networks import TwoLayer, balanced

        data = teacher_student(self.examples, self.dimension, self.teacher_width, seed=seed)
        network = TwoLayer(self.width)
        decimal = self.log10_scale - 0.5 * float(np.log10(self.width * self.dimension))
        initial = balanced(network, self.dimension, log10_scale=decimal, seed=seed)
        return problem(data, network, initial, loss=Square("mean", scale=2.0))

    def seed(self) -> int:
        """The paper names no seed; `SEED_CRITERION` says how this one was chosen."""
        return self.chosen_seed

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """The flow; and unless `quick`, gradient descent in double and in single precision."""
        if (self, quick) not in _LAST:
            problem = self.problem(self.seed())
            solution = follow(problem, self.times, rtol=RTOL, points=POINTS, progress=progress)
            _LAST.clear()
            _LAST[self, quick] = Evidence(self.seed(), problem, solution, self, quick)
        return _LAST[self, quick]


_LAST: "dict[tuple[HighDimension, bool], Evidence]" = {}
"""The evidence gathered last: figures 6 and 7 show the same flow."""

SEED_CRITERION = (
    "the first seed from 0 for which the iterations 75 000, which the paper gives for the saddle, "
    "and 80 000, its frame of the first cluster, lie in one visit to a saddle"
)

SETTING = HighDimension(
    step=1e-3,
    iterations=END,
    frames=(0, ALIGNED, SADDLE, FIRST_GROWN),
    examples=75,
    dimension=150,
    teacher_width=6,
    width=200,
    log10_scale=-20.0,
    chosen_seed=2,
)


def single_precision_start(problem: "Problem") -> "Problem":
    """The start as a script in single precision makes it.

    Hidden weights are rounded to float32, and |a_j| is the root of the square of the norm of w_j,
    all in float32. At lambda = 6e-23 the squares of the weights are of the size 3e-45, below the
    smallest normal number 1.2e-38, where neighbouring numbers are 1.4e-45 apart.
    """
    from ...flow import problem as make_problem
    from ...networks import block_state

    weights = problem.initial.weights().astype(np.float32)
    hidden = weights[:, 1:]
    with np.errstate(under="ignore"):
        norm = np.sqrt(np.sum(hidden * hidden, axis=1, dtype=np.float32))
        weights[:, 0] = np.sign(weights[:, 0]) * np.sqrt(norm * norm)
    exact = weights.astype(float)
    size = np.linalg.norm(exact, axis=1)
    initial = block_state(np.log(size), exact / size[:, None])
    return make_problem(problem.data, problem.network, initial, loss=problem.loss)


@dataclass(frozen=True)
class Evidence(FlowEvidence):
    """The flow, and gradient descent in two precisions where it was run.

    **Attributes:** beside those of `FlowEvidence`

    - `setting`: what was followed.
    - `quick`: gradient descent, which takes minutes, is left out.
    """

    setting: HighDimension
    quick: bool

    @property
    def step(self) -> float:
        """The paper's step of gradient descent."""
        return self.setting.step

    @property
    def record(self) -> list[int]:
        """The iterations at which gradient descent is recorded."""
        even = np.linspace(0, self.setting.iterations, DESCENT_RECORDS + 1).round().astype(int)
        return sorted({*even.tolist(), *self.setting.frames})

    @cached_property
    def descent(self) -> "Descent":
        """Gradient descent in double precision from the same weights."""
        from ...comparators import gradient_descent

        setting = self.setting
        return gradient_descent(self.problem, setting.step, setting.iterations, self.record)

    @cached_property
    def single_start(self) -> "Problem":
        """The same problem from the weights that single precision holds."""
        return single_precision_start(self.problem)

    @cached_property
    def single_descent(self) -> "Descent":
        """Gradient descent in single precision, from a start made in single precision."""
        from ...comparators import gradient_descent

        setting = self.setting
        return gradient_descent(
            self.single_start, setting.step, setting.iterations, self.record, precision="single"
        )

    @cached_property
    def big(self) -> np.ndarray:
        """The neurons that are macroscopic at the end, shape `(m,)`."""
        return macroscopic(self.state(END))

    def units(self, iteration: int) -> np.ndarray:
        """The directions w_j/|w_j| at a frame."""
        return unit_hidden(self.state(iteration))

    @property
    def sign(self) -> np.ndarray:
        """The signs of the output weights, which never change from a balanced start."""
        return np.sign(self.problem.initial.direction[:, 0])

    def key_direction(self, iteration: int, sign: float) -> np.ndarray:
        """The mean direction at a frame of the neurons of one sign that are big at the end."""
        mean = self.units(iteration)[self.big & (self.sign == sign)].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean))

    @cached_property
    def components(self) -> np.ndarray:
        """The two principal components of the final hidden weights, not centred, as columns."""
        _, _, rows = np.linalg.svd(self.state(END).weights()[:, 1:], full_matrices=False)
        return np.asarray(rows[:2].T)

    @cached_property
    def explained(self) -> np.ndarray:
        """The parts of sum_j |w_j|^2 along the principal components, not centred, decreasing."""
        spread = np.linalg.svd(self.state(END).weights()[:, 1:], compute_uv=False) ** 2
        return np.asarray(spread / spread.sum())

    def parameters(self) -> dict[str, Any]:
        """What was followed, in words and numbers."""
        setting = self.setting
        return {
            "data": "Gaussian inputs, labels of a random teacher",
            "examples": setting.examples,
            "dimension": setting.dimension,
            "bias": False,
            "teacher": (
                f"{setting.teacher_width} neurons, weights N(0, 1/(6 d)), outputs N(0, 1/6), from "
                "the authors' code"
            ),
            "width": setting.width,
            "log10_initial_scale": setting.log10_scale
            - 0.5 * float(np.log10(setting.width * setting.dimension)),
            "initialisation": "balanced, lambda = 1e-20/sqrt(m d)",
            "loss": "mean squared error without one half",
            **setting.schedule(),
            "rtol": RTOL,
            "seed": self.seed,
            "seed_criterion": SEED_CRITERION,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """Gradient descent in double and in single precision, against the flow."""
        if self.quick:
            return []
        return [
            distance(self.solution, self.descent, "gradient descent in float64, same weights"),
            distance(
                self.solution,
                self.single_descent,
                "gradient descent in float32, from a start made in float32",
            ),
        ]
