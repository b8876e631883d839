"""Figure 1: twenty squared ReLU units on fifty unit inputs of the plane."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._base import Claim, Deviation
from .._flow import FlowEvidence, FlowSetting, follow
from .._overlay import Overlay, common_times, descent_agrees

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution, Trajectory

WIDTH, EXAMPLES = 20, 50


@dataclass(frozen=True)
class Setting(FlowSetting):
    """H(x) = sum_{i<=20} max(0, u_i.x)^2, labels 5 max(0, x_1)^2 + 4 max(0, -x_1)^2."""

    def problem(self, seed: int, reduction: Any = "mean") -> "Problem":
        from ...data import Data
        from ...flow import problem
        from ...losses import Square
        from ...networks import SquaredRelu, gaussian

        x = np.random.default_rng([seed, 3]).standard_normal((EXAMPLES, 2))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        y = 5.0 * np.maximum(x[:, 0], 0.0) ** 2 + 4.0 * np.maximum(-x[:, 0], 0.0) ** 2
        network = SquaredRelu(WIDTH)
        initial = gaussian(network, 2, scale=1e-5, seed=seed)
        return problem(Data(x, y, name="unit inputs"), network, initial, loss=Square(reduction))

    def seed(self) -> int:
        return 0

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        problem, times = self.problem(self.seed()), common_times(self.step, self.iterations)
        return Evidence(self.seed(), problem, follow(problem, times, progress=progress), self)


@dataclass(frozen=True)
class Evidence(FlowEvidence):
    """The flow, and where the paper's loss as printed leads."""

    setting: Setting

    @property
    def step(self) -> float:
        return self.setting.step

    @cached_property
    def overlay(self) -> Overlay:
        """Gradient descent with the paper's step."""
        return Overlay(self.problem, self.solution, self.step, self.step)

    @cached_property
    def kkt_angles(self) -> ndarray:
        """The angles of the KKT points of the NCF of the labels on the circle."""
        from scipy.optimize import brentq

        x, y = self.problem.data.x, self.problem.data.y

        def turn(angle: float) -> float:
            cosine, sine = np.cos(angle), np.sin(angle)
            on = np.maximum(x @ np.array([cosine, sine]), 0.0)
            return float(y @ (on * (x @ np.array([-sine, cosine]))))

        grid = np.linspace(-np.pi, np.pi, 4001)
        value = np.array([turn(a) for a in grid])
        change = np.flatnonzero(np.sign(value[:-1]) * np.sign(value[1:]) < 0)
        return np.array([brentq(turn, grid[i], grid[i + 1], xtol=1e-14) for i in change])

    @cached_property
    def settled(self) -> "Solution":
        """The flow of the NCF of the labels from the same weights, for forty times as long."""
        from ...flow import problem
        from ...losses import Correlation

        own = self.problem
        ncf = problem(own.data, own.network, own.initial, loss=Correlation("mean"))
        return follow(ncf, (40.0 * self.solution.final.time[0],), points=50)

    def distance(self, solution: "Solution") -> ndarray:
        """How far the angle of each unit is from a KKT point at the end, in radians."""
        direction = solution.final.direction[0]
        angle = np.arctan2(direction[:, 1], direction[:, 0])
        gap = np.abs(np.angle(np.exp(1j * (angle[:, None] - self.kkt_angles))))
        return gap.min(axis=1)

    @cached_property
    def printed(self) -> int:
        """The iteration at which the sum of half squares has lost one per cent of the loss."""
        from ... import Stop, gradient_flow

        problem = self.setting.problem(self.seed, "sum")
        loss = 0.99 * 0.5 * float(np.sum(problem.data.y**2))
        flow = gradient_flow(problem, stop=Stop(loss=loss), rtol=1e-7)
        return round(float(flow.final.time[0]) / self.step)

    def parameters(self) -> dict[str, Any]:
        return {
            "network": f"squared ReLU, {WIDTH} units, signs +1",
            "data": f"{EXAMPLES} uniform unit inputs of the plane",
            "initial_scale": 1e-5,
            "loss": "(1/n) sum of half squares",
            "rtol": 1e-9,
            "seed": self.seed,
            **self.setting.schedule(),
        }

    def comparison(self) -> list[dict[str, Any]]:
        return self.overlay.comparison


SETTING = Setting(step=5e-5, iterations=50_000, frames=(0,))


def loss_stays(e: Evidence) -> Claim:
    """The loss hardly changes."""
    return Claim(
        name="loss-hardly-changes",
        statement="The loss at the end over that at the start.",
        measured=float(e.solution.final.loss[0] / e.solution.trajectory.loss[0]),
        bound=0.999,
        relation=">=",
        reason="In the figure the line is level to the eye; a thousandth is its width.",
    )


def norm_stays(e: Evidence) -> Claim:
    """The norm of the weights stays small."""
    return Claim(
        name="norm-stays-small",
        statement="The norm of all weights at the end.",
        measured=float(np.exp(e.solution.final.log_param_norm[0])),
        bound=0.05,
        relation="<=",
        reason="A norm of one is needed to fit labels of size five; h then is below 0.3 per cent.",
    )


def angles_settle(e: Evidence) -> Claim:
    """Every unit settles on a KKT direction of the NCF that it climbs."""
    return Claim(
        name="angles-on-kkt-points",
        statement=(
            "The largest angle of a unit from a KKT point of the NCF, in radians, on the NCF flow "
            "followed for forty times as long as the figure."
        ),
        measured=float(e.distance(e.settled).max()),
        bound=1e-6,
        relation="<=",
        reason="The angle to an attracting KKT point decays exponentially.",
    )


def printed_loss(e: Evidence) -> Deviation | None:
    """With the loss as printed the units leave the origin long before the figure ends."""
    if e.printed >= e.setting.iterations:
        return None
    return Deviation(
        name="loss-as-printed",
        printed="The square loss is the sum of (1/2)(h - y)^2, and GD takes 50 000 steps of 5e-5.",
        found=(
            "Under that loss one per cent of the loss is lost long before; the figure fits the "
            "mean over the examples, which is followed here."
        ),
        evidence={"iteration_of_one_per_cent": e.printed, "iterations": e.setting.iterations},
    )


def unsettled(e: Evidence) -> Deviation | None:
    """At the figure's end some units are still on their way."""
    largest = float(e.distance(e.solution).max())
    if largest <= 1e-2:
        return None
    return Deviation(
        name="angles-at-the-end",
        printed="At iteration 50 000 the angles have settled on KKT directions.",
        found="Some units are still turning then, and settle while the norms grow on.",
        evidence={"largest_angle_from_a_kkt_point": largest},
    )


CLAIMS = (loss_stays, norm_stays, angles_settle, descent_agrees)
DEVIATIONS = (printed_loss, unsettled)


def _angles(path: "Trajectory") -> ndarray:
    """The angles of the units, with a gap where one passes from pi to -pi."""
    angle = np.arctan2(path.direction[:, :, 1], path.direction[:, :, 0])
    angle[1:][np.abs(np.diff(angle, axis=0)) > np.pi] = np.nan
    return np.asarray(angle)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Loss, norm and angles of the flow and of gradient descent, with the KKT points."""
    from ...plotting.style import GREY, PAGE, new_figure, save, style

    path = e.solution.trajectory
    iteration = path.time / e.step
    figure, axes = new_figure(PAGE, 2.4, 1, 3)
    with style():
        axes[0].plot(iteration, path.loss / path.loss[0], color="black")
        axes[0].set_ylim(0.0, 1.05)
        axes[0].set_ylabel("loss over its start")
        axes[1].plot(iteration, np.exp(path.log_param_norm), color="black")
        axes[1].set_yscale("log")
        axes[1].set_ylabel("norm of all weights")
        axes[2].plot(iteration, _angles(path), linewidth=0.8)
        e.overlay.draw(axes[0], lambda t: t.loss / t.loss[0])
        e.overlay.draw(axes[1], lambda t: np.exp(t.log_param_norm))
        e.overlay.draw(axes[2], _angles)
        axes[0].legend(loc="lower left")
        for kkt in e.kkt_angles:
            axes[2].axhline(kkt, color=GREY, linewidth=0.6, linestyle=":")
        axes[2].set_ylim(-np.pi, np.pi)
        axes[2].set_ylabel("angle of $u_i$ [rad], KKT dotted")
        for ax in axes:
            ax.set_xlabel("iterations")
            ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    return save(figure, folder, "fig1")
