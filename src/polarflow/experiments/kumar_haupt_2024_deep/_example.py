"""The examples of figures 1 to 5: networks read out by 1^T, with a teacher's labels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy import ndarray

from .._base import Claim, Deviation
from .._flow import FlowEvidence, FlowSetting, follow
from .._overlay import Overlay, common_times, descent_agrees

if TYPE_CHECKING:
    from ... import Problem, Progress, Trajectory
    from ...networks import BlockState, Deep

DIMENSION, EXAMPLES = 10, 100
ASIDE = 1e-4
"""Tolerance of the flows that only show what the printed numbers would give."""
COMPARED = 0.95
"""The part of the time over which gradient descent is compared: near the end, where w grows like an
inverse power of the time that is left until the blow-up, its delay is of the order of that time."""
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Example:
    """A network with the read-out 1^T, and labels of a teacher of the same kind, but narrow.

    **Attributes:**

    - `formula`: H in words.
    - `widths`, `teacher`: rows of the matrices of the network and of the teacher.
    - `powers`: of the activations, max(z, 0)^p with p = 1 or 2; 0 stands for the linear one.
    - `log10_scale`: w(0) is ten to this times a random unit vector.
    - `reduction`: of the half squares, in the loss that is followed.
    - `stream`: tells the random numbers of the examples apart.
    - `printed`: the last step of the paper's figure.
    """

    formula: str
    widths: tuple[int, ...]
    teacher: tuple[int, ...]
    powers: tuple[int, ...]
    log10_scale: float
    reduction: Reduction
    stream: int
    printed: int

    @property
    def network(self) -> "Deep":
        from ...networks import Activation, Deep

        found = {
            0: Activation("linear"),
            1: Activation("relu"),
            2: Activation("relu_power", 2.0),
        }
        return Deep(self.widths, tuple(found[p] for p in self.powers), readout="ones")

    def problem(
        self,
        seed: int,
        log10_scale: float | None = None,
        reduction: Reduction | None = None,
        loss: str = "square",
    ) -> "Problem":
        """The problem for one seed; scale, reduction and loss are the example's if not given."""
        from ...data import Data
        from ...flow import problem
        from ...losses import LOSSES
        from ...networks import sphere

        scale = self.log10_scale if log10_scale is None else log10_scale
        rng = np.random.default_rng([seed, self.stream])
        x = rng.standard_normal((EXAMPLES, DIMENSION))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        matrices = [
            rng.standard_normal(shape)
            for shape in zip(self.teacher, (DIMENSION, *self.teacher), strict=False)
        ]
        h = x
        for matrix, power in zip(matrices, self.powers, strict=True):
            h = h @ matrix.T
            h = np.maximum(h, 0.0) ** power if power else h
        initial = sphere(self.network, DIMENSION, log10_scale=scale, seed=seed)
        data = Data(x, h.sum(axis=1), name="a teacher's labels")
        reduced = LOSSES[loss](reduction or self.reduction)
        return problem(data, self.network, initial, loss=reduced)


SQUARED = Example(
    "1^T max(W_2 W_1 x, 0)^2", (20, 20), (2, 3), (0, 2), -1.0, "mean", stream=3, printed=99_100
)
"""Figures 1 to 3, of order 4."""
RELU = Example(
    "1^T max(W_3 max(W_2 max(W_1 x, 0), 0), 0)", (20, 20, 20), (2, 3, 3), (1, 1, 1), -2.0, "sum",
    stream=4, printed=80_000,
)  # fmt: skip
"""Figures 4 and 5, of order 3."""


@dataclass(frozen=True)
class Setting(FlowSetting):
    """The flow of an example from a vanishing start.

    **Attributes:** beside those of `FlowSetting`

    - `example`: what is followed.
    - `rtol`, `quick_rtol`: of the flow; its error grows towards the blow-up like that of gradient
      descent, which must stay far above it.
    - `longer`: how many times longer the step of gradient descent is in the quick form.
    """

    example: Example
    rtol: float
    quick_rtol: float
    longer: int

    def problem(self, seed: int) -> "Problem":
        return self.example.problem(seed)

    def seed(self) -> int:
        return 0

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        if (self, quick) not in _FOLLOWED:
            problem = self.problem(self.seed())
            longer, rtol = (self.longer, self.quick_rtol) if quick else (1, self.rtol)
            step = longer * self.step
            times = common_times(step, self.iterations // longer)
            solution = follow(problem, times, rtol=rtol, points=400, progress=progress)
            overlay = Overlay(problem, solution, step, self.step, COMPARED)
            _FOLLOWED[self, quick] = Evidence(self.seed(), problem, solution, self, overlay, rtol)
        return _FOLLOWED[self, quick]


@dataclass(frozen=True)
class Evidence(FlowEvidence):
    """The flow and its alignment with the NCF of the labels, and gradient descent beside it."""

    setting: Setting
    overlay: Overlay
    rtol: float

    @property
    def step(self) -> float:
        return self.setting.step

    def cosines(self, trajectory: "Trajectory") -> ndarray:
        """grad N(v).v / |grad N(v)|, N the NCF of the labels, at every time of a trajectory."""
        import jax
        import jax.numpy as jnp

        (group,) = self.problem.network.groups(DIMENSION)  # type: ignore[union-attr]
        x, y = jnp.asarray(self.problem.data.x), jnp.asarray(self.problem.data.y)
        own = jnp.asarray(group.constants[0])

        def cosine(v: Any) -> Any:
            slope = jax.grad(lambda w: y @ group.apply(w, own, x)[:, 0])(v)
            return slope @ v / jnp.linalg.norm(slope)

        return np.asarray(jax.vmap(cosine)(trajectory.direction[:, 0]))

    @cached_property
    def alignment(self) -> ndarray:
        """The cosine of w and the gradient of the NCF along the flow."""
        return self.cosines(self.solution.trajectory)

    def matrices(self, state: "BlockState") -> list[ndarray]:
        """W_1/|w|, W_2/|w|, ..."""
        return self.problem.network.matrices(state.direction[0], DIMENSION)  # type: ignore[union-attr]

    @cached_property
    def printed(self) -> int:
        """The iteration at which the sum of half squares has lost ten per cent of the loss."""
        from ... import Stop, gradient_flow

        problem = self.setting.example.problem(self.seed, reduction="sum")
        loss = 0.9 * 0.5 * float(np.sum(problem.data.y**2))
        flow = gradient_flow(problem, stop=Stop(loss=loss), rtol=ASIDE, check=False)
        return round(float(flow.final.time[0]) / self.step)

    @cached_property
    def averaged(self) -> float:
        """The alignment at the figure's last step under the mean of half squares."""
        from ... import Stop, gradient_flow

        example = self.setting.example
        problem = example.problem(self.seed, reduction="mean")
        stop = Stop(time=example.printed * self.step)
        flow = gradient_flow(problem, stop=stop, rtol=ASIDE, check=False)
        return float(self.cosines(flow.final)[0])

    def parameters(self) -> dict[str, Any]:
        example = self.setting.example
        wide = zip(example.widths, (DIMENSION, *example.widths), strict=False)
        narrow = zip(example.teacher, (DIMENSION, *example.teacher), strict=False)
        return {
            "network": f"{example.formula}, W {', '.join(f'{a} x {b}' for a, b in wide)}",
            "data": f"{EXAMPLES} uniform unit inputs, a teacher of "
            f"{', '.join(f'{a} x {b}' for a, b in narrow)}",
            "initialisation": f"{10.0**example.log10_scale:g} times a uniform unit vector",
            "loss": f"{'(1/n) ' if example.reduction == 'mean' else ''}sum of half squares",
            "rtol": self.rtol,
            "seed": self.seed,
            **self.setting.schedule(),
        }

    def comparison(self) -> list[dict[str, Any]]:
        return self.overlay.comparison


_FOLLOWED: dict[tuple[Setting, bool], Evidence] = {}
"""Three figures show one flow, and two another."""

SETTING = Setting(
    step=5e-3, iterations=351_900, frames=(0,), example=SQUARED, rtol=1e-9, quick_rtol=1e-8,
    longer=50,
)  # fmt: skip
"""The end is chosen: just before the loss has lost one per cent."""
RELU_SETTING = Setting(
    step=1e-3, iterations=5_750, frames=(0,), example=RELU, rtol=1e-7, quick_rtol=1e-6, longer=5
)
"""The end is chosen: the loss has lost a twentieth of one per cent."""


def aligned(e: Evidence) -> Claim:
    """The weights align with the gradient of the NCF."""
    return Claim(
        name="alignment",
        statement="The cosine of w and the gradient of the NCF of the labels at the end.",
        measured=float(e.alignment[-1]),
        bound=0.98,
        relation=">=",
        reason="In the figure the cosine comes to one to the eye.",
    )


def loss_stays(e: Evidence) -> Claim:
    """The loss has barely moved."""
    return Claim(
        name="loss-barely-moves",
        statement="The loss at the end over that at the start.",
        measured=float(e.solution.final.loss[0] / e.solution.trajectory.loss[0]),
        bound=0.98,
        relation=">=",
        reason="In the figure the line is level to the eye.",
    )


def _ratio(e: Evidence, layer: int, name: str) -> Claim:
    values = np.linalg.svd(e.matrices(e.solution.final.state(0))[layer], compute_uv=False)
    return Claim(
        name=name,
        statement=f"The second singular value of W_{layer + 1} over the first at the end.",
        measured=float(values[1] / values[0]),
        bound=0.2,
        relation="<=",
        reason="At the start the ratio is above 0.8; rank one would be 0.",
    )


def first_low_rank(e: Evidence) -> Claim:
    """W_1 tends to rank one."""
    return _ratio(e, 0, "first-matrix-low-rank")


def second_low_rank(e: Evidence) -> Claim:
    """W_2 tends to rank one."""
    return _ratio(e, 1, "second-matrix-low-rank")


def third_low_rank(e: Evidence) -> Claim:
    """W_3 tends to rank one."""
    return _ratio(e, 2, "third-matrix-low-rank")


def norm_stays_small(e: Evidence) -> Claim:
    """The norm of the weights has grown, and is small."""
    return Claim(
        name="norm-grows-and-is-small",
        statement="The norm of all weights at the end.",
        measured=float(np.exp(e.solution.final.log_param_norm[0])),
        bound=(2.0 * 10.0**e.setting.example.log10_scale, 0.25),
        relation="in",
        reason="The paper: it increases by a factor, and remains small.",
    )


def printed_end(e: Evidence) -> Deviation | None:
    """Neither reading of the printed loss gives the figure at the printed step."""
    example = e.setting.example
    if e.printed >= example.printed or e.averaged >= 0.98:
        return None
    mean = example.reduction == "mean"
    return Deviation(
        name="loss-as-printed" if mean else "last-step-as-printed",
        printed=(
            f"The square loss is the sum of half squares, from {10.0**example.log10_scale:g} times "
            f"a unit vector, and at the figure's last step, {example.printed}, the weights are "
            "aligned and the loss has barely changed."
        ),
        found=(
            "Under that loss the flow leaves the origin long before; under the mean it is not "
            f"aligned by then. {'The mean' if mean else 'The sum'} is followed here until just "
            "before the loss moves."
        ),
        evidence={
            "iteration_of_ten_per_cent_under_the_sum": e.printed,
            "alignment_at_the_printed_step_under_the_mean": e.averaged,
            "followed_to": e.setting.iterations,
        },
    )


ALIGNMENT = (aligned, loss_stays, descent_agrees)
LOW_RANK = (first_low_rank, second_low_rank, descent_agrees)
DEVIATIONS = (printed_end,)
RELU_ALIGNMENT = (*ALIGNMENT, norm_stays_small)
RELU_LOW_RANK = (*LOW_RANK, third_low_rank)
