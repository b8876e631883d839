"""The counterexample: on the homogeneous Mexican hat the direction of the flow does not converge.

Ji & Telgarsky (2020) name it, after Lyu & Li (2020, appendix J), as what satisfies all of their
assumptions but definability.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._base import Claim
from .._flow import POINTS, finished, follow

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...losses import Loss

RTOL = 1e-8
START, TURN = 2.0, 0.5
"""The spiral's u at the start, and the angle in radians by which the second start is beside it."""


@dataclass(frozen=True)
class Setting:
    """One example of label 1: the exponential loss from the spiral, the NCF from beside it.

    **Attributes:**

    - `log_loss`: how far the exponential loss is followed.
    - `time`: how long the flow of the NCF is followed; ln|w| grows to twice that.
    - `quick_log_loss`, `quick_time`: the same in the quick form.
    """

    log_loss: float = -1e6
    time: float = 150.0
    quick_log_loss: float = -30.0
    quick_time: float = 50.0

    def problem(self, loss: "Loss", turn: float = 0.0) -> "Problem":
        """The flow from a unit vector of the spiral, turned around the axis."""
        from ... import Data, block_state, problem
        from ._hat import MexicanHat, on_spiral

        x, y, z = on_spiral(START)
        cosine, sine = np.cos(turn), np.sin(turn)
        unit = np.array([[cosine * x - sine * y, sine * x + cosine * y, z]])
        data = Data(np.array([[1.0]]), np.array([1.0]), name="one example")
        return problem(data, MexicanHat(), block_state(np.zeros(1), unit), loss=loss)

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        from ... import Correlation, Exponential, Stop, gradient_flow

        fitted = finished(
            gradient_flow(
                self.problem(Exponential("sum")),
                stop=Stop(log_loss=self.quick_log_loss if quick else self.log_loss),
                rtol=RTOL,
                points=POINTS // 2,
                progress=progress,
            )
        )
        end = self.quick_time if quick else self.time
        climbing = follow(
            self.problem(Correlation("sum"), TURN),
            (end,),
            rtol=RTOL,
            points=POINTS // 2,
            progress=progress,
        )
        return Evidence(self, fitted, climbing)


@dataclass(frozen=True)
class Evidence:
    """The two flows and their windings.

    **Attributes:**

    - `fitted`: the flow of the exponential loss, from the spiral.
    - `climbing`: the flow of the NCF, from beside it.
    """

    setting: Setting
    fitted: "Solution"
    climbing: "Solution"

    def winding(self, solution: "Solution") -> tuple[ndarray, ndarray]:
        """The swept angle theta and u along a flow."""
        from ._hat import winding

        theta, u = winding(solution.trajectory.direction[:, 0])
        start = START + (TURN if solution is self.climbing else 0.0)
        return theta + (start - theta[0]), u

    @cached_property
    def theta(self) -> ndarray:
        """The swept angle of the flow of the loss."""
        return self.winding(self.fitted)[0]

    @cached_property
    def u(self) -> ndarray:
        """u along it."""
        return self.winding(self.fitted)[1]

    @property
    def resolution(self) -> float:
        """What the tolerance of the direction means for u = 1/(1 - r^2) at the end."""
        from ._hat import SIGMA

        return 2.0 * RTOL / SIGMA * float(self.u[-1]) ** 2

    @cached_property
    def growth(self) -> ndarray:
        """ln|w| over its start by the closed form, at the u of the flow."""
        from ._hat import growth

        return growth(self.u)

    @cached_property
    def alignment(self) -> ndarray:
        """The angle of w and the gradient of Phi along the flow of the NCF, in radians."""
        import jax

        from ._hat import hat

        one = jax.numpy.ones((1, 1))
        slope = jax.vmap(jax.grad(lambda w: hat(w, None, one)[0, 0]))
        direction = self.climbing.trajectory.direction[:, 0]
        gradient = np.asarray(slope(jax.numpy.asarray(direction)))
        along = np.sum(gradient * direction, axis=1)
        across = np.linalg.norm(gradient - along[:, None] * direction, axis=1)
        return np.arctan2(across, along)

    def parameters(self) -> dict[str, Any]:
        from ._hat import PITCH, SIGMA

        return {
            "function": "|w|^2 (1 - f) on R^3, f the Mexican hat on the sphere",
            "sine_of_the_rim": SIGMA,
            "c": PITCH,
            "start": f"the spiral at u = {START:g}, |w| = 1; beside it by {TURN:g} rad",
            "log_loss": float(self.fitted.final.log_loss[0]),
            "ncf_time": float(self.climbing.final.time[0]),
            "rtol": RTOL,
            "seed": 0,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """The flow of the loss and the closed form."""
        grown = self.fitted.trajectory.log_norm[:, 0] - self.fitted.trajectory.log_norm[0, 0]
        return [
            {
                "method": "closed form",
                "largest_difference_of_theta_and_u": float(np.abs(self.theta - self.u).max()),
                "largest_difference_of_ln_norm": float(np.abs(grown - self.growth).max()),
            }
        ]

    def work(self) -> dict[str, Any]:
        works = [flow.summary()["work"] for flow in (self.fitted, self.climbing)]
        return {key: sum(work[key] for work in works) for key in works[0]}


def on_the_closed_form(e: Evidence) -> Claim:
    """The path of the direction is the spiral."""
    return Claim(
        name="on-the-spiral",
        statement="The direction keeps to the spiral theta = u: the largest difference in radians.",
        measured=float(np.abs(e.theta - e.u).max()),
        bound=e.resolution,
        relation="<=",
        reason="The tolerance in the direction, taken to u = 1/(1 - r^2) at the end.",
    )


def in_time(e: Evidence) -> Claim:
    """It goes along the spiral as fast as it should."""
    grown = e.fitted.trajectory.log_norm[:, 0] - e.fitted.trajectory.log_norm[0, 0]
    return Claim(
        name="speed-on-the-spiral",
        statement="ln|w| at each u is that of the closed form: the largest difference.",
        measured=float(np.abs(grown - e.growth).max()),
        bound=e.resolution,
        relation="<=",
        reason="d ln|w|/du is below one, so that the same resolution holds.",
    )


def winds(e: Evidence) -> Claim:
    """The winding angle keeps growing."""
    return Claim(
        name="keeps-winding",
        statement="The swept angle never falls: the least increase from record to record, in rad.",
        measured=float(np.diff(e.theta).min()),
        bound=0.0,
        relation=">=",
        reason="theta = u, which grows as long as the flow moves.",
    )


def turns(e: Evidence) -> Claim:
    """It goes around and around."""
    theta, _ = e.winding(e.climbing)
    time = e.climbing.trajectory.time
    late = time >= 0.1 * time[-1]
    slope = np.polyfit(np.log(time[late]), theta[late], 1)[0]
    return Claim(
        name="turns-in-a-tenfold-time",
        statement=(
            "On the flow of the NCF the angle grows in proportion to ln t: the full turns in the "
            f"last factor of ten, of {(theta[-1] - theta[0]) / (2 * np.pi):.1f} in all."
        ),
        measured=float(slope * np.log(10.0) / (2.0 * np.pi)),
        bound=_turns_in_ten(),
        relation="in",
        reason="u tends to ln(t)/c from below: ln(10)/(2 pi c) turns, less ten per cent at most.",
    )


def _turns_in_ten() -> tuple[float, float]:
    from ._hat import PITCH

    limit = float(np.log(10.0)) / (2.0 * float(np.pi) * PITCH)
    return 0.9 * limit, limit


def attracts(e: Evidence) -> Claim:
    """Other starts come to the spiral."""
    theta, u = e.winding(e.climbing)
    from ._hat import SIGMA

    return Claim(
        name="attracts",
        statement=f"The flow that starts {TURN:g} rad beside the spiral ends on it: theta - u.",
        measured=float(abs(theta[-1] - u[-1])),
        bound=2.0 * RTOL / SIGMA * float(u[-1]) ** 2,
        relation="<=",
        reason="The offset falls like exp(-4 c u^5 / 5); what is left is the tolerance, as above.",
    )


def no_finite_length(e: Evidence) -> Claim:
    """The path of the direction has no finite length, against theorem 3.1."""
    from ._hat import SIGMA

    late = e.fitted.late
    assert late is not None
    least = SIGMA * np.sqrt(1.0 - 1.0 / START) * float(e.theta[-1] - e.theta[0])
    return Claim(
        name="no-finite-length",
        statement=(
            "The length of the path of w/|w| over the swept angle times the radius of the spiral "
            "where it starts: it grows with the angle."
        ),
        measured=float(late.path_length[-1]) / least,
        bound=1.0,
        relation=">=",
        reason="The spiral only widens, and length is at least radius times angle.",
    )


def margin(e: Evidence) -> Claim:
    """The margin converges all the same."""
    from ._hat import PITCH

    late = e.fitted.late
    assert late is not None
    wanted = -np.expm1(-PITCH * e.u[-1])
    return Claim(
        name="margin-converges",
        statement="The normalised margin is 1 - exp(-c u), which tends to 1: the difference.",
        measured=float(abs(late.normalized_margin[-1] - wanted)),
        bound=PITCH * e.resolution,
        relation="<=",
        reason="f = exp(-c u) on the spiral, with u known to the resolution above.",
    )


def aligns(e: Evidence) -> Claim:
    """Gradients align."""
    return Claim(
        name="gradients-align",
        statement="The angle of w and the gradient at the end of the flow of the NCF, in radians.",
        measured=float(e.alignment[-1]),
        bound=0.02,
        relation="<=",
        reason="On the spiral it is about exp(-c u)/2 with c u = 4 or more.",
    )


def alignment_improves(e: Evidence) -> Claim:
    """They align more and more."""
    late = e.fitted.late
    assert late is not None
    return Claim(
        name="alignment-improves",
        statement=(
            "The angle of w and -grad l falls along the flow of the loss, from "
            f"{late.alignment_angle[0]:.2f} to {late.alignment_angle[-1]:.2f} rad: its largest rise"
        ),
        measured=float(np.diff(late.alignment_angle).max()),
        bound=0.0,
        relation="<=",
        reason="On the spiral it is a decreasing function of u.",
    )


CLAIMS = (
    winds,
    turns,
    on_the_closed_form,
    in_time,
    attracts,
    no_finite_length,
    margin,
    aligns,
    alignment_improves,
)
SETTING = Setting()


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """The path seen from above, the swept angle against ln|w|, and how w and its gradient align."""
    from ...plotting.style import GREY, NEGATIVE, PAGE, POSITIVE, new_figure, save, style
    from ._hat import SIGMA, growth, on_spiral

    figure, axes = new_figure(PAGE, 2.5, 1, 3)
    with style():
        last = float(e.u[-1])
        path = np.array([on_spiral(u) for u in np.linspace(START, last, 4000)]) / SIGMA
        axes[0].plot(path[:, 0], path[:, 1], color=POSITIVE, linewidth=0.7)
        around = np.linspace(0.0, 2.0 * np.pi, 400)
        axes[0].plot(np.cos(around), np.sin(around), color=GREY, linewidth=0.6, linestyle=":")
        axes[0].plot(*path[0, :2], "o", color=POSITIVE, markersize=3.5)
        axes[0].set_aspect("equal")
        axes[0].set_xticks([-1, 0, 1])
        axes[0].set_yticks([-1, 0, 1])
        axes[0].set_title(r"(a) $w/\|w\|$ from above, over $\sigma$")
        flows = ((e.climbing, NEGATIVE, "NCF"), (e.fitted, POSITIVE, "exponential loss"))
        for flow, colour, name in flows:
            theta, _ = e.winding(flow)
            grown = flow.trajectory.log_norm[:, 0]
            axes[1].plot(grown[1:], theta[1:] / (2.0 * np.pi), color=colour, label=name)
        u = np.linspace(START, e.winding(e.climbing)[1][-1], 300)
        axes[1].plot(growth(u)[1:], u[1:] / (2.0 * np.pi), color="black", linestyle=(0, (2, 2)),
                     linewidth=0.8, label="closed form")  # fmt: skip
        axes[1].set_xscale("log")
        axes[1].set_xlabel(r"$\ln \|w\|$")
        axes[1].set_title("(b) full turns")
        axes[1].legend(loc="upper left")
        late = e.fitted.late
        assert late is not None
        axes[2].plot(e.winding(e.climbing)[0] / (2.0 * np.pi), e.alignment, color=NEGATIVE)
        axes[2].plot(e.theta / (2.0 * np.pi), late.alignment_angle, color=POSITIVE)
        axes[2].set_yscale("log")
        axes[2].set_xlabel("full turns")
        axes[2].set_title("(c) angle of $w$ and the gradient [rad]")
    return save(figure, folder, "mexican-hat")
