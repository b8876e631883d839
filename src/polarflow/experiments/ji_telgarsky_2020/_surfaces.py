"""Figure 1: prediction surfaces of a wide squared-ReLU network, early and late, and of its NTK."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from .._base import Claim
from .._flow import finished

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...comparators import NtkMargin

RTOL = 1e-6
GRID = 61
CHUNK = 5_000_000
"""Units times inputs that are evaluated together."""


@dataclass(frozen=True)
class Setting:
    """Points of the square labelled by a random network with bias; a 1 is appended to inputs.

    **Attributes:**

    - `drawn`, `kept`: points drawn uniformly from [-1, 1]^2, and those of largest margin kept.
    - `teacher`: width of the ReLU network that labels, less the median of its values.
    - `width`, `quick_width`: units of the squared-ReLU network, with random fixed signs.
    - `log_loss`, `quick_log_loss`: where the late surface is taken.
    - `seed`: of everything.
    """

    drawn: int = 120
    kept: int = 60
    teacher: int = 12
    width: int = 10_000
    quick_width: int = 300
    log_loss: float = -1e5
    quick_log_loss: float = -1e3
    seed: int = 0

    def problem(self, quick: bool) -> "Problem":
        """The flow's problem; weights from N(0, 1/sqrt(m)), so that outputs are of order one."""
        from ... import Data, problem
        from ...losses import Logistic
        from ...networks import SquaredRelu, gaussian

        rng = np.random.default_rng([self.seed, 3])
        x = np.append(rng.uniform(-1.0, 1.0, (self.drawn, 2)), np.ones((self.drawn, 1)), axis=1)
        hidden, output = rng.standard_normal((self.teacher, 3)), rng.standard_normal(self.teacher)
        value = np.maximum(x @ hidden.T, 0.0) @ output
        value -= np.median(value)
        chosen = np.sort(np.argsort(-np.abs(value))[: self.kept])
        width = self.quick_width if quick else self.width
        signs = np.random.default_rng([self.seed, 4]).choice([-1.0, 1.0], width)
        network = SquaredRelu(width, tuple(signs.tolist()))
        initial = gaussian(network, 3, scale=width**-0.25, seed=self.seed)
        data = Data(x[chosen], np.sign(value[chosen]), name="a random network's labels")
        return problem(data, network, initial, loss=Logistic("sum"))

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        from ... import Stop, gradient_flow

        problem = self.problem(quick)
        stop = Stop(log_loss=self.quick_log_loss if quick else self.log_loss)
        solution = gradient_flow(problem, stop=stop, rtol=RTOL, points=400, progress=progress)
        return Evidence(self, problem, finished(solution))


@dataclass(frozen=True)
class Evidence:
    """The flow, and surfaces on a grid of the square."""

    setting: Setting
    problem: "Problem"
    solution: "Solution"

    @cached_property
    def first(self) -> int:
        """The first recorded time at which all examples are classified."""
        margin = self.solution.trajectory.prediction * self.problem.data.y
        return int(np.argmax(margin.min(axis=1) > 0.0))

    def at_log_loss(self, log_loss: float) -> int:
        """The first recorded time at which ln of the loss is that low."""
        return int(np.argmax(self.solution.trajectory.log_loss <= log_loss))

    @cached_property
    def inputs(self) -> ndarray:
        """The grid's points, with a 1 appended."""
        axis = np.linspace(-1.0, 1.0, GRID)
        first, second = np.meshgrid(axis, axis)
        return np.stack([first.ravel(), second.ravel(), np.ones(first.size)], axis=1)

    def surface(self, at: int) -> ndarray:
        """h/|w|^2 on the grid at a recorded time, `(GRID^2,)`."""
        path = self.solution.trajectory
        with np.errstate(under="ignore"):
            share = np.exp(2.0 * (path.log_norm[at] - path.log_param_norm[at]))
        signs = np.asarray(self.problem.network.signs)  # type: ignore[union-attr]
        parts = np.array_split(self.inputs, -(-len(self.inputs) * len(share) // CHUNK))
        return np.concatenate(
            [np.maximum(p @ path.direction[at].T, 0.0) ** 2 @ (signs * share) for p in parts]
        )

    @cached_property
    def ntk(self) -> "NtkMargin":
        """The max-margin predictor of the tangent kernel at the start."""
        from ...comparators import ntk_margin

        return ntk_margin(self.problem)

    @cached_property
    def surfaces(self) -> dict[str, ndarray]:
        """The three surfaces of the figure."""
        return {
            "ntk": self.ntk(self.inputs),
            "first": self.surface(self.first),
            "late": self.surface(-1),
        }

    def distance(self, one: ndarray, other: ndarray) -> float:
        """The distance in L^2 of the square between two surfaces, each scaled to norm one."""
        return float(np.linalg.norm(one / np.linalg.norm(one) - other / np.linalg.norm(other)))

    def parameters(self) -> dict[str, Any]:
        data = self.problem.data
        path = self.solution.trajectory
        return {
            "x": data.x.tolist(),
            "y": data.y.tolist(),
            "inputs": f"{self.setting.drawn} points uniform on [-1, 1]^2, the {self.setting.kept} "
            "of largest teacher's margin kept, a 1 appended",
            "labels": f"signs of a random ReLU network of width {self.setting.teacher} with bias, "
            "less the median of its values",
            "width": self.problem.initial.blocks,
            "initialisation": "gaussian, variance 1/sqrt(width)",
            "loss": "sum of ln(1 + exp(-y h))",
            "log_loss": float(path.log_loss[-1]),
            "log_loss_at_first_perfect_accuracy": float(path.log_loss[self.first]),
            "rtol": RTOL,
            "seed": self.setting.seed,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """Margins and surfaces next to each other."""
        shown = self.surfaces
        pairs = (("first", "ntk"), ("late", "ntk"), ("late", "first"))
        return [
            {
                "method": "surfaces",
                **{f"{a}_to_{b}": self.distance(shown[a], shown[b]) for a, b in pairs},
            },
        ]

    def work(self) -> dict[str, Any]:
        return dict(self.solution.summary()["work"])


SETTING = Setting()
CHANGED = 0.1
"""A distance of surfaces of norm one that is seen in the contour lines."""


def all_classified(e: Evidence) -> Claim:
    """The flow classifies all examples long before its end."""
    start = e.solution.trajectory.log_loss[0]
    return Claim(
        name="classifies-early",
        statement="At the first perfect accuracy ln(loss) is below its start by little: by",
        measured=float(start - e.solution.trajectory.log_loss[e.first]),
        bound=(0.0, 10.0),
        relation="in",
        reason="It lies near ln(n ln 2) at the latest, where the loss is below ln 2.",
    )


def still_changes(e: Evidence) -> Claim:
    """The surface still changes after the first perfect accuracy."""
    return Claim(
        name="surface-still-changes",
        statement=(
            "From first perfect accuracy on the surface still changes: distance in L^2 of the late "
            "one from it, both of norm one."
        ),
        measured=e.distance(e.surfaces["late"], e.surfaces["first"]),
        bound=CHANGED,
        relation=">=",
        reason="A tenth is seen in contour lines; orthogonal surfaces are sqrt(2) apart.",
    )


def not_the_ntk(e: Evidence) -> Claim:
    """The late surface is not the NTK's."""
    return Claim(
        name="differs-from-the-ntk",
        statement="The late surface differs from the NTK's: distance in L^2, both of norm one.",
        measured=e.distance(e.surfaces["late"], e.surfaces["ntk"]),
        bound=CHANGED,
        relation=">=",
        reason="As above.",
    )


def converges(e: Evidence) -> Claim:
    """In the end the surface stands still: the direction converges (theorem 3.1)."""
    end = float(e.solution.trajectory.log_loss[-1])
    before = e.surface(e.at_log_loss(0.1 * end))
    return Claim(
        name="surface-converges",
        statement=f"While -ln(loss) grows from {-0.1 * end:g} tenfold the surface moves by",
        measured=e.distance(e.surfaces["late"], before),
        bound=CHANGED,
        relation="<=",
        reason="The direction converges (theorem 3.1), so that late changes are no longer seen.",
    )


def ntk_certified(e: Evidence) -> Claim:
    """The NTK's max-margin predictor is what it is called."""
    svm = e.ntk.svm
    return Claim(
        name="ntk-certificate",
        statement="Both sides of the NTK's hard-margin program agree: relative gap.",
        measured=abs(svm.gap) / svm.value,
        bound=1e-6,
        relation="<=",
        reason="Accuracy of the active-set method.",
    )


def aligns(e: Evidence) -> Claim:
    """Gradients align (theorem 4.1)."""
    late = e.solution.late
    assert late is not None
    return Claim(
        name="gradients-align",
        statement="The angle of w and -grad l at the end, in radians.",
        measured=float(late.alignment_angle[-1]),
        bound=0.1,
        relation="<=",
        reason="It tends to zero (theorem 4.1); at the start it is above one.",
    )


CLAIMS = (all_classified, still_changes, not_the_ntk, converges, ntk_certified, aligns)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """The three contour maps, with the examples."""
    from ...plotting.style import NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    titles = {
        "ntk": "(a) NTK max margin",
        "first": "(b) first perfect accuracy",
        "late": rf"(c) $\ln \ell = {e.solution.trajectory.log_loss[-1]:.0f}$",
    }
    figure, axes = new_figure(PAGE, 2.6, 1, 3, sharey=True)
    axis, data = np.linspace(-1.0, 1.0, GRID), e.problem.data
    with style():
        for ax, (name, title) in zip(axes, titles.items(), strict=True):
            values = e.surfaces[name].reshape(GRID, GRID)
            top = float(np.abs(values).max())
            levels = np.linspace(-top, top, 21)
            ax.contourf(axis, axis, values, levels, cmap="RdBu_r", alpha=0.8)
            ax.contour(axis, axis, values, [0.0], colors="black", linewidths=1.0)
            for sign, marker, colour in ((1.0, "+", NEGATIVE), (-1.0, "_", POSITIVE)):
                shown = data.x[data.y == sign]
                ax.scatter(shown[:, 0], shown[:, 1], marker=marker, s=22, color=colour,
                           linewidths=1.1)  # fmt: skip
            ax.set_title(title)
            ax.set_aspect("equal")
            ax.set_xticks([-1, 0, 1])
            ax.set_yticks([-1, 0, 1])
    return save(figure, folder, "surfaces")
