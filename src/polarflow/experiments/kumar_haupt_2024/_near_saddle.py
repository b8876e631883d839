"""Figure 4: squared ReLU units in the plane, started near a saddle that fits half of the labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._base import Claim, Deviation
from .._flow import FlowSetting, follow
from ._angles import (
    NEAR,
    SCALE,
    WIDTH,
    AngleEvidence,
    angles,
    loss_stays,
    turned,
    unit_inputs,
)

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution

FITTING = 10
"""Units at (sqrt(1/2), 0), which fit 5 max(0, x_1)^2 together; the others are zero."""
NEARER = (0.1, 0.01)
"""Parts of the distance from the saddle from which the flow is followed too."""


@dataclass(frozen=True)
class Setting(FlowSetting):
    """The data of figure 3 and the saddle of ten units plus a small Gaussian."""

    scale: float = SCALE

    def problem(self, seed: int) -> "Problem":
        """The flow's problem for one seed."""
        from ...flow import problem
        from ...networks import SquaredRelu, block_state

        u = saddle() + self.scale * np.random.default_rng([seed, 6]).standard_normal((WIDTH, 2))
        norm = np.linalg.norm(u, axis=1)
        return problem(
            unit_inputs(seed), SquaredRelu(WIDTH), block_state(np.log(norm), u / norm[:, None])
        )

    def seed(self) -> int:
        """The first for which a small unit starts in the flat set; the paper names none."""
        return next(s for s in range(1000) if self._born_flat(self.problem(s)))

    @staticmethod
    def _born_flat(task: "Problem") -> bool:
        low, high = flat_arc(task.data.x)
        small = angles(task.initial.direction[FITTING:])
        return bool(((small > low) & (small < high)).any())

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """Follow the flow, that of the residual's NCF from the same small units, and its points."""
        from ...data import Data
        from ...flow import problem
        from ...losses import Correlation
        from ...ncf import squared_points
        from ...networks import BlockState, SquaredRelu

        task, times = self.problem(self.seed()), self.times
        x, y = task.data.x, task.data.y
        residual = y - np.sum(np.maximum(x @ saddle().T, 0.0) ** 2, axis=1)
        initial = task.initial
        small = BlockState(initial.log_norm[FITTING:], initial.direction[FITTING:])
        own = SquaredRelu(WIDTH - FITTING)
        climb = problem(Data(x, residual), own, small, loss=Correlation("mean"))
        seed = self.seed()
        nearer = [replace(self, scale=SCALE * factor).problem(seed) for factor in NEARER]
        return Evidence(
            seed,
            task,
            follow(task, times, progress=progress),
            self,
            follow(climb, (times[-1],)),
            squared_points(x, residual),
            tuple(follow(each, times) for each in nearer),
        )


def saddle() -> ndarray:
    """The weights at the saddle, shape `(20, 2)`."""
    u = np.zeros((WIDTH, 2))
    u[:FITTING, 0] = np.sqrt(0.5)
    return u


def flat_arc(x: ndarray) -> tuple[float, float]:
    """The angles at which no input with x_1 < 0 is felt: none lies within a right angle."""
    felt = angles(x[x[:, 0] < 0.0])
    return (
        float((felt[felt < 0.0] + np.pi / 2).max(initial=-np.pi / 2)),
        float((felt[felt > 0.0] - np.pi / 2).min(initial=np.pi / 2)),
    )


@dataclass(frozen=True)
class Evidence(AngleEvidence):
    """The flow beside that of the NCF of the saddle's residual from the same small units.

    `climbing` goes to the figure's end; `points` are those of the NCF of the residual where it
    isn't flat; `nearer` are flows from nearer to the saddle, see `NEARER`.
    """

    nearer: tuple["Solution", ...]

    @cached_property
    def residual(self) -> ndarray:
        """y - H at the saddle: 4 max(0, -x_1)^2."""
        return np.asarray(self.climbing.problem.data.y)

    @cached_property
    def flat(self) -> tuple[float, float]:
        """The arc on which no input with a residual is felt: each point of it is a KKT point."""
        return flat_arc(self.problem.data.x)

    def in_flat(self, angle: ndarray) -> ndarray:
        """Whether angles lie in the flat arc."""
        low, high = self.flat
        return np.asarray((angle >= low) & (angle <= high))

    @cached_property
    def kkt_angles(self) -> ndarray:
        """The angles of the KKT points at which the NCF is positive."""
        return np.array([angles(p.direction) for p in self.points.points if p.value > 0.0])

    def distance(self, angle: ndarray) -> ndarray:
        """From each angle to the nearest KKT point; 0 in the flat arc."""
        return np.where(self.in_flat(angle), 0.0, super().distance(angle))

    @cached_property
    def start(self) -> ndarray:
        """The angles of the small units at the start."""
        return angles(self.problem.initial.direction[FITTING:])

    @cached_property
    def final(self) -> ndarray:
        """The angles of the small units at the figure's end."""
        return angles(self.solution.recorded.direction[-1][FITTING:])

    def away(self, flow: "Solution") -> ndarray:
        """The distance of all weights from the saddle along a flow."""
        path = flow.trajectory
        with np.errstate(under="ignore"):
            u = np.exp(path.log_norm)[:, :, None] * path.direction
        return np.asarray(np.linalg.norm(u - saddle(), axis=(1, 2)))

    def parameters(self) -> dict[str, Any]:
        """What the paper says, and what it leaves open."""
        return {
            **self.setting.schedule(),
            "x": self.problem.data.x.tolist(),
            "y": self.problem.data.y.tolist(),
            "inputs": "angles uniform on the circle, as in figure 3",
            "width": WIDTH,
            "saddle": f"u_i = (sqrt(1/2), 0) for {FITTING} units, 0 for the others",
            "initialisation": f"the saddle plus N(0, ({SCALE:g})^2) in every weight",
            "loss": "(1/n) sum_k (h_k - y_k)^2 / 2",
            "seed": self.seed,
            "seed_criterion": "the first seed from 0 for which a small unit starts in the flat set",
            "flat_arc": list(self.flat),
            "in_the_flat_arc": int(self.in_flat(self.start).sum()),
        }

    def comparison(self) -> list[dict[str, Any]]:
        """The small units against the flow of the residual's NCF."""
        return [
            {
                "method": "flow of the NCF of the saddle's residual from the same small units",
                "at_time": self.setting.times[-1],
                "largest_angle_difference": self.drift,
            }
        ]


SETTING = Setting(step=5e-5, iterations=50_000, frames=(0,))


def residual_is_the_other_half(e: Evidence) -> Claim:
    """Appendix D: the saddle's residual."""
    x = e.problem.data.x
    gap = np.abs(e.residual - 4.0 * np.maximum(-x[:, 0], 0.0) ** 2)
    return Claim(
        name="residual",
        statement="The residual at the saddle is 4 max(0, -x_1)^2: the largest difference.",
        measured=float(gap.max()),
        bound=1e-14,
        relation="<=",
        reason="rounding",
    )


def saddle_is_at_rest(e: Evidence) -> Claim:
    """Appendix D: it is a saddle."""
    x = e.problem.data.x
    forces = [2.0 * (e.residual * np.maximum(x @ u, 0.0)) @ x for u in saddle()]
    return Claim(
        name="saddle-at-rest",
        statement="The gradient at the saddle vanishes: its largest component.",
        measured=float(np.abs(forces).max()),
        bound=1e-14,
        relation="<=",
        reason="rounding",
    )


def weights_stay(e: Evidence) -> Claim:
    """Figure 4(a): the weights stay near the saddle."""
    return Claim(
        name="near-the-saddle",
        statement="The largest distance of all weights from the saddle, to iteration 50 000.",
        measured=float(e.away(e.solution).max()),
        bound=0.1,
        relation="<=",
        reason="The saddle's own norm is sqrt(5); predictions change by its square, a percent.",
    )


def angles_follow_the_ncf(e: Evidence) -> Claim:
    """Theorem 5.4: near the saddle the small weights climb the NCF of its residual."""
    moved = float(e.away(e.solution).max())
    return Claim(
        name="angles-follow-the-residuals-ncf",
        statement=(
            "The small units move along the flow of the NCF of the saddle's residual: the largest "
            "difference of an angle at iteration 50 000, in radians."
        ),
        measured=e.drift,
        bound=max(10.0 * moved, 1e-6),
        relation="<=",
        reason="the residual differs from the saddle's by a multiple of the distance to it",
    )


def limits_are_kkt_points(e: Evidence) -> Claim:
    """Theorem 5.4: the limits are KKT points of the residual's NCF, or flat."""
    return Claim(
        name="limits-are-kkt-points",
        statement=(
            "The flow of the NCF, continued, takes every small unit to a KKT point of positive "
            "value or leaves it in the flat arc: the largest distance, in radians."
        ),
        measured=float(e.distance(angles(e.limits)).max()) if e.points.complete else np.nan,
        bound=1e-6,
        relation="<=",
        reason="the angle to an attracting KKT point decays exponentially",
    )


def _turns(e: Evidence) -> ndarray:
    """The largest turn of a unit born on the flat arc, from far to near."""
    born = e.in_flat(e.start)
    paths = (angles(f.trajectory.direction[:, FITTING:][:, born]) for f in (e.solution, *e.nearer))
    return np.array([np.abs(turned(path - path[:1])).max(initial=0.0) for path in paths])


def born_flat_stay(e: Evidence) -> Claim:
    """Appendix D: weights that are born in the flat set stay there."""
    distances = SCALE * np.array([1.0, *NEARER])
    order = float(np.polyfit(np.log(distances), np.log(_turns(e)), 1)[0])
    return Claim(
        name="born-in-the-flat-set",
        statement=(
            "Small units that start on the flat arc of KKT points stay where they are, as the "
            "start tends to the saddle: the order in its distance of the largest turn, fitted over "
            f"{', '.join(f'{d:g}' for d in distances)}."
        ),
        measured=order,
        bound=(0.95, 1.05),
        relation="in",
        reason=(
            "At the inputs that they feel the residual is what the ten units' offsets make it: in "
            "proportion to the distance, until these units have settled."
        ),
    )


CLAIMS = (
    residual_is_the_other_half,
    saddle_is_at_rest,
    loss_stays,
    weights_stay,
    angles_follow_the_ncf,
    limits_are_kkt_points,
    born_flat_stay,
)


def not_all_there(e: Evidence) -> Deviation | None:
    """Figure 4(b): at the end every angle is on a KKT point."""
    distance = e.distance(e.final)
    if (distance <= NEAR).all():
        return None
    return Deviation(
        name="every-final-angle-on-a-kkt-point",
        printed="At iteration 50 000 the small units have converged to KKT points.",
        found=(
            f"{int((distance <= NEAR).sum())} of {len(distance)} lie within {NEAR:g} rad of one; "
            "the others are on their way to where the flow of the NCF takes them. The mean instead "
            "of the printed sum makes time fifty times slower."
        ),
        evidence={"distances": np.sort(distance).tolist()},
    )


DEVIATIONS = (not_all_there,)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Left, loss and distance over the iterations; right, the NCF above the angles over time."""
    from ...networks import SquaredRelu
    from ...plotting import style
    from ...plotting.correlation import draw_circle, profiles

    x = e.problem.data.x
    (profile,) = profiles(e.points, SquaredRelu(1), x, e.residual)
    path = e.solution.trajectory
    iteration = path.time / e.setting.step / 1000
    figure, (loss, above, away, below) = style.new_figure(
        style.PAGE, 4.2, 2, 2, height_ratios=(1, 1.3)
    )
    with style.style():
        loss.plot(iteration, path.loss / path.loss[0], color="black")
        loss.set_ylim(0.0, 1.05)
        loss.set_ylabel("loss over its start")
        away.plot(iteration, e.away(e.solution), color="black")
        away.set_yscale("log")
        away.set_ylabel("distance from the saddle")
        for ax in (loss, away):
            ax.set_xlabel("iteration / 1000")
        draw_circle(above, profile)
        above.set_xlabel("")
        above.axvspan(*e.flat, color=style.GREY, alpha=0.3, lw=0)
        below.axvspan(*e.flat, color=style.GREY, alpha=0.3, lw=0)
        for line in np.unwrap(angles(path.direction[:, FITTING:]), axis=0).T:
            for turn in (-2 * np.pi, 0.0, 2 * np.pi):
                below.plot(line + turn, iteration, color=style.POSITIVE, lw=0.7)
        for top in e.kkt_angles:
            below.axvline(top, color=style.NEGATIVE, lw=0.8, ls="--", zorder=0)
        below.plot(e.final, np.full(len(e.final), iteration[-1]), "o", ms=3, color=style.NEGATIVE)
        below.set_xlim(above.get_xlim())
        below.set_xlabel("angle of the small units")
        below.set_ylabel("iteration / 1000")
        below.set_ylim(iteration[-1], 0.0)
    return style.save(figure, folder, "fig4")
