"""Figure 3: the constrained NCF over the angle, and the angles of the hidden weights over time."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim, Deviation
from .._flow import FlowEvidence, FlowSetting, follow
from .._overlay import DASHES, Overlay, common_times, descent_agrees, label

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...data import Data
    from ...ncf import KKTSet

EXAMPLES = 50
WIDTH = 20
SCALE = 1e-5
NEAR = 1e-2
"""Radians from a KKT point that count as being there, at the figure's end."""


def unit_inputs(seed: int) -> "Data":
    """Unit inputs in the plane, labelled by 5 max(0, x_1)^2 + 4 max(0, -x_1)^2."""
    from ...data import Data

    angle = np.random.default_rng([seed, 0]).uniform(-np.pi, np.pi, EXAMPLES)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    y = 5 * np.maximum(x[:, 0], 0) ** 2 + 4 * np.maximum(-x[:, 0], 0) ** 2
    return Data(x, y, name="unit inputs in the plane")


@dataclass(frozen=True)
class AngleSetting(FlowSetting):
    """Squared ReLU on the unit inputs.

    The loss is printed as a sum of halves of squares; only with the mean over the examples does
    it hardly change in 50 000 steps of 5e-5, as figure 1 shows.
    """

    def problem(self, seed: int, correlation: bool = False) -> "Problem":
        """The flow's problem for one seed, or that of its NCF."""
        from ...flow import problem
        from ...losses import LOSSES
        from ...networks import SquaredRelu, gaussian

        network = SquaredRelu(WIDTH)
        initial = gaussian(network, 2, scale=SCALE, seed=seed)
        loss = LOSSES["correlation" if correlation else "square"]("mean")
        return problem(unit_inputs(seed), network, initial, loss=loss)

    def seed(self) -> int:
        """The paper names none."""
        return 0

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "AngleEvidence":
        """Follow the flow and that of the NCF, and list the KKT points."""
        from ...ncf import squared_points

        task, times = self.problem(self.seed()), self.times
        climbing = follow(self.problem(self.seed(), True), (times[-1], 10 * times[-1]))
        return AngleEvidence(
            self.seed(),
            task,
            follow(task, common_times(self.step, self.iterations), progress=progress),
            self,
            climbing,
            squared_points(task.data.x, task.data.y),
        )


@dataclass(frozen=True)
class AngleEvidence(FlowEvidence):
    """The flow beside the flow of the NCF from the same weights.

    **Attributes:**

    - `setting`: the schedule.
    - `climbing`: the flow of the NCF, to ten times the figure's end.
    - `points`: all KKT points of the NCF of the labels.
    """

    setting: FlowSetting
    climbing: "Solution"
    points: "KKTSet"

    @property
    def step(self) -> float:
        """The paper's step."""
        return self.setting.step

    @cached_property
    def overlay(self) -> Overlay:
        """Gradient descent with the paper's step."""
        return Overlay(self.problem, self.solution, self.step, self.step)

    @cached_property
    def kkt_angles(self) -> np.ndarray:
        """The angles of the KKT points."""
        return angles(np.array([p.direction for p in self.points.points]))

    @cached_property
    def final(self) -> np.ndarray:
        """The angles of the hidden weights at the figure's end."""
        return angles(self.solution.recorded.direction[-1])

    @cached_property
    def limits(self) -> np.ndarray:
        """Where the NCF flow takes each weight, the last digits by Newton's method."""
        from ...ncf import flow_limits
        from ...networks import SquaredRelu

        data, end = self.climbing.problem.data, self.climbing.recorded.direction[-1]
        return flow_limits(SquaredRelu(len(end)), data.x, data.y, end)

    def distance(self, angle: np.ndarray) -> np.ndarray:
        """From each angle to the nearest KKT point."""
        return np.abs(turned(angle[:, None] - self.kkt_angles[None])).min(axis=1)

    def parameters(self) -> dict[str, Any]:
        """What the paper says, and what it leaves open."""
        return {
            **self.setting.schedule(),
            "x": self.problem.data.x.tolist(),
            "y": self.problem.data.y.tolist(),
            "inputs": "angles uniform on the circle",
            "width": WIDTH,
            "initialisation": f"every weight from N(0, ({SCALE:g})^2)",
            "loss": "(1/n) sum_k (h_k - y_k)^2 / 2",
            "seed": self.seed,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """The flow against that of the NCF, and against gradient descent."""
        return [
            *self.overlay.comparison,
            {
                "method": "flow of the NCF from the same weights",
                "at_time": self.setting.times[-1],
                "largest_angle_difference": self.drift,
            },
        ]

    @property
    def drift(self) -> float:
        """The largest difference of an angle from the NCF flow's, at the figure's end."""
        return float(np.abs(turned(self.final - angles(self.climbing.recorded.direction[0]))).max())


def angles(directions: np.ndarray) -> np.ndarray:
    """The angles of vectors in the plane."""
    return np.asarray(np.arctan2(directions[..., 1], directions[..., 0]))


def turned(difference: np.ndarray) -> np.ndarray:
    """Differences of angles, in [-pi, pi)."""
    return (difference + np.pi) % (2 * np.pi) - np.pi


SETTING = AngleSetting(step=5e-5, iterations=50_000, frames=(0,))


def loss_stays(e: AngleEvidence) -> Claim:
    """Figure 1: the loss barely changes."""
    return Claim(
        name="loss-barely-changes",
        statement="The loss barely changes up to iteration 50 000: its relative fall.",
        measured=1.0 - e.loss(e.setting.iterations) / e.loss(0),
        bound=1e-3,
        relation="<=",
        reason="less than the width of the line in the figure",
    )


def norm_small(e: AngleEvidence) -> Claim:
    """Figure 1: the norm of the weights remains small."""
    return Claim(
        name="norm-stays-small",
        statement="The norm of all weights stays small: its value at iteration 50 000.",
        measured=float(np.exp(e.solution.recorded.log_param_norm[-1])),
        bound=0.1,
        relation="<=",
        reason="predictions of the order of its square stay below a percent of the labels",
    )


def angles_are_those_of_the_ncf_flow(e: AngleEvidence) -> Claim:
    """Lemma 5.2: near the origin the weights follow the flow of the NCF."""
    fall = 1.0 - e.loss(e.setting.iterations) / e.loss(0)
    return Claim(
        name="angles-follow-the-ncf",
        statement=(
            "The weights move along the flow of the NCF: the largest difference of an angle at "
            "iteration 50 000, in radians."
        ),
        measured=e.drift,
        bound=max(100 * fall, 1e-6),
        relation="<=",
        reason="the residual has changed by the loss's relative fall, and the angles by a multiple",
    )


def limits_are_kkt_points(e: AngleEvidence) -> Claim:
    """Theorem 5.1: the limits are KKT points."""
    return Claim(
        name="limits-are-kkt-points",
        statement=(
            "The flow of the NCF, continued, takes every angle to a KKT point of the curve: the "
            "largest distance, in radians."
        ),
        measured=float(e.distance(angles(e.limits)).max()) if e.points.complete else np.nan,
        bound=1e-9,
        relation="<=",
        reason="rounding",
    )


def limits_are_maxima(e: AngleEvidence) -> Claim:
    """Figure 3: the weights sit on the tops of the curve."""
    tops = np.array([p.type == "maximum" for p in e.points.points])
    nearest = np.abs(turned(angles(e.limits)[:, None] - e.kkt_angles[None])).argmin(axis=1)
    return Claim(
        name="limits-are-maxima",
        statement="All of these KKT points are maxima of the NCF: how many weights' are.",
        measured=float(tops[nearest].sum()),
        bound=float(WIDTH),
        relation="==",
        reason="the flow leaves a neighbourhood of the others from almost every start",
    )


def angles_close_in(e: AngleEvidence) -> Claim:
    """Figure 3: on the circle the NCF flow climbs, so that no angle turns back."""
    path = angles(e.solution.trajectory.direction)
    rest = np.abs(turned(path - angles(e.limits)[None]))
    return Claim(
        name="angles-close-in",
        statement=(
            "Every angle closes in on its KKT point throughout: the largest rise of a distance, "
            "in radians."
        ),
        measured=float(np.diff(rest, axis=0).max()),
        bound=1e-6,
        relation="<=",
        reason="the flow climbs the curve, which has no other top on the way; the residual moves",
    )


CLAIMS = (
    loss_stays,
    norm_small,
    angles_are_those_of_the_ncf_flow,
    limits_are_kkt_points,
    limits_are_maxima,
    angles_close_in,
    descent_agrees,
)


def not_all_there(e: AngleEvidence) -> Deviation | None:
    """Figure 3: every final angle on a KKT point."""
    distance = e.distance(e.final)
    if (distance <= NEAR).all():
        return None
    later = e.climbing.trajectory
    far = np.array([e.distance(angles(d)).max() for d in later.direction])
    there = int(np.flatnonzero(far > NEAR)[-1]) + 1
    at = float(later.time[min(there, len(later) - 1)])
    loss = follow(e.problem, (at,)).recorded.loss[-1]
    return Deviation(
        name="every-final-angle-on-a-kkt-point",
        printed="At iteration 50 000 all weights have converged in direction to KKT points.",
        found=(
            f"{int((distance <= NEAR).sum())} of {WIDTH} angles lie within {NEAR:g} rad of one; "
            "the others are on their way. The flow of the NCF brings all of them there by "
            f"iteration {at / e.step:.0f}; by then the loss has fallen by "
            f"{1.0 - loss / e.loss(0):.1%}. The mean instead of the printed sum makes time fifty "
            "times slower for both."
        ),
        evidence={
            "distances": np.sort(distance).tolist(),
            "largest_distance": float(distance.max()),
            "iteration_when_all_are_there": at / e.step,
            "relative_fall_of_the_loss_then": float(1.0 - loss / e.loss(0)),
        },
    )


DEVIATIONS = (not_all_there,)


def draw(e: AngleEvidence, folder: Path, quick: bool) -> list[Path]:
    """The curve above, the angles over time below, on one axis of angles."""
    from ...networks import SquaredRelu
    from ...plotting import style
    from ...plotting.correlation import draw_circle, profiles

    data = e.problem.data
    (profile,) = profiles(e.points, SquaredRelu(1), data.x, data.y)
    figure, (above, below) = style.new_figure(
        style.COLUMN * 1.2, 4.4, rows=2, sharex=True, height_ratios=(1, 1.3)
    )
    with style.style():
        draw_circle(above, profile)
        above.set_xlabel("")
        handles, _ = above.get_legend_handles_labels()
        figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
        iteration = e.solution.trajectory.time / e.setting.step / 1000
        runs: tuple[tuple[Any, Any, dict[str, Any]], ...] = (
            (e.solution.trajectory, iteration, {"color": style.POSITIVE, "lw": 0.7}),
            (
                e.overlay.descent.trajectory,
                e.overlay.iteration / 1000,
                {"color": style.DESCENT, "lw": 1.0, "ls": DASHES},
            ),
        )
        for trajectory, at, look in runs:
            for line in np.unwrap(angles(trajectory.direction), axis=0).T:
                # A line that leaves one side comes in on the other.
                for turn in (-2 * np.pi, 0.0, 2 * np.pi):
                    below.plot(line + turn, at, **look)
        below.lines[-1].set_label(label(e.step))
        below.legend(loc="lower left")
        for p, at in zip(e.points.points, e.kkt_angles, strict=True):
            if p.type == "maximum":
                below.axvline(at, color=style.NEGATIVE, lw=0.8, ls="--", zorder=0)
        below.plot(e.final, np.full(WIDTH, iteration[-1]), "o", ms=3, color=style.NEGATIVE)
        below.set_xlabel("angle of the hidden weight")
        below.set_ylabel("iteration / 1000")
        below.set_ylim(iteration[-1], 0.0)
    return style.save(figure, folder, "angles")
