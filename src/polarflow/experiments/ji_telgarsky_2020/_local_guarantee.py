"""Proposition 4.6: margins of squared-ReLU networks, local and global."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim
from .._flow import finished

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...comparators import MarginGame

RTOL = 1e-8


@dataclass(frozen=True)
class Setting:
    """Points on the unit circle, labels of a quadratic function, signs (-1)^j."""

    examples: int = 10
    width: int = 24
    scale: float = 0.3
    log_loss: float = -1000.0

    def problem(self, seed: int) -> "Problem":
        """The flow's problem."""
        from ... import Data, problem
        from ...losses import Logistic
        from ...networks import SquaredRelu, gaussian

        angle = np.random.default_rng([seed, 11]).uniform(0.0, 2.0 * np.pi, self.examples)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        y = np.where(np.cos(2.0 * angle) + 0.3 * np.sin(angle) > 0, 1.0, -1.0)
        network = SquaredRelu(self.width, tuple((-1.0) ** j for j in range(self.width)))
        initial = gaussian(network, 2, scale=self.scale, seed=seed)
        return problem(Data(x, y), network, initial, loss=Logistic("sum"))

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """One flow, deep into the late phase."""
        from ... import Stop, gradient_flow

        problem = self.problem(0)
        stop = Stop(log_loss=self.log_loss)
        solution = gradient_flow(problem, stop=stop, rtol=RTOL, points=300, progress=progress)
        return Evidence(self, problem, finished(solution))


@dataclass(frozen=True)
class Evidence:
    """The flow, and the margin programs at its end."""

    setting: Setting
    problem: "Problem"
    solution: "Solution"

    @property
    def sign(self) -> np.ndarray:
        """The signs of the units."""
        return (-1.0) ** np.arange(self.setting.width)

    def shares(self, at: int) -> np.ndarray:
        """|w_j|^2 / |W|^2 at a point of the trajectory."""
        path = self.solution.trajectory
        return np.exp(2.0 * (path.log_norm[at] - path.log_param_norm[at]))

    def margins(self, at: int) -> np.ndarray:
        """y_k h(x_k) / |W|^2 at a point of the trajectory."""
        x, y = self.problem.data.x, self.problem.data.y
        direction = self.solution.trajectory.direction[at]
        return y * (np.maximum(x @ direction.T, 0.0) ** 2 @ (self.sign * self.shares(at)))

    @property
    def margin(self) -> float:
        """The normalised margin at the end."""
        return float(self.margins(-1).min())

    @property
    def square(self) -> float:
        """|W|^2 at the end."""
        return float(np.exp(2.0 * self.solution.final.log_param_norm[0]))

    @cached_property
    def local(self) -> "MarginGame":
        """The best mixture of the directions at the end."""
        from ...comparators import local_margin

        x, y = self.problem.data.x, self.problem.data.y
        return local_margin(x, y, self.solution.final.direction[0], self.sign)

    @cached_property
    def best(self) -> "MarginGame":
        """The best mixture of all directions."""
        from ...comparators import global_margin

        x, y = self.problem.data.x, self.problem.data.y
        return global_margin(x, y, hints=self.solution.final.direction[0])

    @cached_property
    def covering(self) -> float:
        """The least eps of the covering condition at the end.

        The largest distance of a unit vector from the directions of either sign; on the circle it
        is met half-way between neighbours.
        """
        direction = self.solution.final.direction[0]
        angle = np.arctan2(direction[:, 1], direction[:, 0])
        largest = 0.0
        for sign in (1.0, -1.0):
            own = np.sort(angle[self.sign == sign])
            gaps = np.diff(np.append(own, own[0] + 2.0 * np.pi))
            largest = max(largest, 2.0 * float(np.sin(min(gaps.max() / 2.0, np.pi) / 2.0)))
        return largest

    def parameters(self) -> dict[str, Any]:
        """What was followed."""
        data = self.problem.data
        return {
            "x": data.x.tolist(),
            "y": data.y.tolist(),
            "width": self.setting.width,
            "signs": "(-1)^j",
            "initialisation": f"gaussian, scale {self.setting.scale:g}",
            "loss": "sum of ln(1 + exp(-y h))",
            "log_loss": self.setting.log_loss,
            "rtol": RTOL,
            "seed": 0,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """The margins next to each other."""
        return [
            {
                "method": "margin programs",
                "flow": self.margin,
                "local": self.local.margin,
                "local_dual": self.local.dual_value,
                "global": self.best.margin,
                "global_dual": self.best.dual_value,
                "exact": self.best.exact,
                "covering": self.covering,
            }
        ]

    def work(self) -> dict[str, Any]:
        """What the flow cost."""
        return dict(self.solution.summary()["work"])


def fits(e: Evidence) -> Claim:
    """The assumption, met on the way."""
    return Claim(
        name="fits",
        statement="All examples are classified: the smallest normalised margin at the end.",
        measured=e.margin,
        bound=0.0,
        relation=">=",
        reason="The proposition is about the flow after L < l(0).",
    )


def local_equality(e: Evidence) -> Claim:
    """Part 1."""
    return Claim(
        name="local-guarantee",
        statement=(
            "The limit margin is the largest one of mixtures of the limit directions: what is "
            "missing, in units of ln(n)/|W|^2."
        ),
        measured=(e.local.margin - e.margin) * e.square / float(np.log(e.setting.examples)),
        bound=1.0,
        relation="<=",
        reason=(
            "Not at infinity yet, the flow maximises a soft minimum over n examples at the "
            "temperature 1/|W|^2, which is off by at most ln(n)/|W|^2."
        ),
    )


def local_certificate(e: Evidence) -> Claim:
    """The minimax theorem."""
    return Claim(
        name="local-certificate",
        statement="Both sides of the local program agree: relative gap.",
        measured=abs(e.local.gap) / e.local.margin,
        bound=1e-9,
        relation="<=",
        reason="Accuracy of the linear program.",
    )


def feasible(e: Evidence) -> Claim:
    """No network is better than the global program."""
    return Claim(
        name="global-bound",
        statement="No margin exceeds that of the best measure on the sphere: flow over global.",
        measured=e.margin / e.best.dual_value,
        bound=1.0 + 1e-9,
        relation="<=",
        reason="The dual value bounds every network's margin.",
    )


def global_guarantee(e: Evidence) -> Claim:
    """Part 2."""
    return Claim(
        name="global-guarantee",
        statement="The margin is within 4 eps of the global one, eps the measured covering.",
        measured=e.best.margin - e.local.margin,
        bound=4.0 * e.covering,
        relation="<=",
        reason="The proposition; the covering is taken at the end of the flow. "
        + ("It is vacuous here: no margin exceeds 1." if 4.0 * e.covering > 1.0 else ""),
    )


CLAIMS = (fits, local_equality, local_certificate, feasible, global_guarantee)
SETTING = Setting()


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Left, margins against the loss; right, the directions at the end on the circle."""
    from ...plotting.style import (
        FUNCTION,
        GREY,
        NEGATIVE,
        PAGE,
        POSITIVE,
        new_figure,
        save,
        style,
    )

    figure, (left, right) = new_figure(PAGE, 2.7, 1, 2)
    path = e.solution.trajectory
    chosen = np.flatnonzero(path.log_loss < -1.0)
    with style():
        margins = np.array([e.margins(int(i)) for i in chosen])
        left.semilogx(-path.log_loss[chosen], margins, color=GREY, linewidth=0.6)
        left.semilogx(-path.log_loss[chosen], margins.min(axis=1), color=POSITIVE,
                      label="smallest")  # fmt: skip
        left.axhline(e.local.margin, color=FUNCTION, linewidth=0.9, linestyle=(0, (4, 2)),
                     label="best of its directions")  # fmt: skip
        left.axhline(e.best.margin, color=NEGATIVE, linewidth=0.9, linestyle=(0, (1, 1.5)),
                     label="best of all directions")  # fmt: skip
        left.set_ylim(0.0, 3.0 * e.best.margin)
        left.set_xlabel(r"$-\ln$ loss")
        left.set_ylabel(r"$y_k h(x_k) / \|W\|^2$")
        left.legend(loc="upper right")
        around = np.linspace(0.0, 2.0 * np.pi, 200)
        right.plot(np.cos(around), np.sin(around), color=GREY, linewidth=0.5)
        share, direction = e.shares(-1), path.direction[-1]
        for sign, colour in ((1.0, POSITIVE), (-1.0, NEGATIVE)):
            own = e.sign == sign
            tip, data = direction[own], e.problem.data
            size = 6.0 + 400.0 * share[own]
            right.scatter(tip[:, 0], tip[:, 1], s=size, color=colour, alpha=0.7, linewidths=0)
            near = 0.8 * data.x[data.y == sign]
            right.scatter(near[:, 0], near[:, 1], marker="x", s=16, color=colour, linewidths=0.9)
        right.set_aspect("equal")
        right.set_xticks([-1, 0, 1])
        right.set_yticks([-1, 0, 1])
        right.set_title("units (discs, by share) and examples (crosses)")
    return save(figure, folder, "local-guarantee")
