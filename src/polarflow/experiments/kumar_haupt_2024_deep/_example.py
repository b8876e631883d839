"""The example of figures 1 to 3: H(x; W) = 1^T max(W_2 W_1 x, 0)^2 with a teacher's labels."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy import ndarray

from .._base import Claim, Deviation
from .._flow import FlowEvidence, FlowSetting, follow

if TYPE_CHECKING:
    from ... import Problem, Progress
    from ...networks import BlockState

WIDTH, DIMENSION, EXAMPLES = 20, 10, 100
ORDER, RTOL = 4.0, 1e-6
PRINTED = 99_100
"""The last step of the figure."""
Reduction = Literal["mean", "sum"]


def network_problem(
    seed: int, log10_scale: float, reduction: Reduction = "mean", loss: str = "square"
) -> "Problem":
    """The problem from w(0) = 10^log10_scale times a random unit vector."""
    from ...data import Data
    from ...flow import problem
    from ...losses import LOSSES
    from ...networks import Activation, Deep, sphere

    rng = np.random.default_rng([seed, 3])
    x = rng.standard_normal((EXAMPLES, DIMENSION))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    first, second = rng.standard_normal((2, DIMENSION)), rng.standard_normal((3, 2))
    y = np.sum(np.maximum(x @ first.T @ second.T, 0.0) ** 2, axis=1)
    network = Deep(
        (WIDTH, WIDTH), (Activation("linear"), Activation("relu_power", 2.0)), readout="ones"
    )
    initial = sphere(network, DIMENSION, log10_scale=log10_scale, seed=seed)
    data = Data(x, y, name="a teacher's labels")
    return problem(data, network, initial, loss=LOSSES[loss](reduction))


@dataclass(frozen=True)
class Setting(FlowSetting):
    """From 0.1 times a unit vector, under the mean of half squares."""

    def problem(self, seed: int) -> "Problem":
        return network_problem(seed, -1.0)

    def seed(self) -> int:
        return 0

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        if self not in _FOLLOWED:
            problem = self.problem(self.seed())
            solution = follow(problem, self.times, rtol=RTOL, points=400, progress=progress)
            _FOLLOWED[self] = Evidence(self.seed(), problem, solution, self)
        return _FOLLOWED[self]


@dataclass(frozen=True)
class Evidence(FlowEvidence):
    """The flow and its alignment with the NCF of the labels."""

    setting: Setting

    @property
    def step(self) -> float:
        return self.setting.step

    @cached_property
    def alignment(self) -> ndarray:
        """grad N(v).v / |grad N(v)| along the trajectory, N the NCF of the labels."""
        import jax
        import jax.numpy as jnp

        (group,) = self.problem.network.groups(DIMENSION)  # type: ignore[union-attr]
        x, y = jnp.asarray(self.problem.data.x), jnp.asarray(self.problem.data.y)
        own = jnp.asarray(group.constants[0])

        def cosine(v: Any) -> Any:
            slope = jax.grad(lambda w: y @ group.apply(w, own, x)[:, 0])(v)
            return slope @ v / jnp.linalg.norm(slope)

        return np.asarray(jax.vmap(cosine)(self.solution.trajectory.direction[:, 0]))

    def matrices(self, state: "BlockState") -> list[ndarray]:
        """W_1/|w| and W_2/|w|."""
        return self.problem.network.matrices(state.direction[0], DIMENSION)  # type: ignore[union-attr]

    @cached_property
    def printed(self) -> int:
        """The iteration at which the sum of half squares has lost ten per cent of the loss."""
        from ... import Stop, gradient_flow

        problem = network_problem(self.seed, -1.0, "sum")
        loss = 0.9 * 0.5 * float(np.sum(problem.data.y**2))
        flow = gradient_flow(problem, stop=Stop(loss=loss), rtol=1e-6)
        return round(float(flow.final.time[0]) / self.step)

    def parameters(self) -> dict[str, Any]:
        return {
            "network": f"1^T max(W_2 W_1 x, 0)^2, W_1 {WIDTH} x {DIMENSION}, W_2 {WIDTH} x {WIDTH}",
            "data": f"{EXAMPLES} uniform unit inputs, a teacher of 2 x {DIMENSION} and 3 x 2",
            "initialisation": "0.1 times a uniform unit vector",
            "loss": "(1/n) sum of half squares",
            "rtol": RTOL,
            "seed": self.seed,
            **self.setting.schedule(),
        }

    def comparison(self) -> list[dict[str, Any]]:
        return []


_FOLLOWED: dict[Setting, Evidence] = {}
"""Three figures show one flow."""

SETTING = Setting(step=5e-3, iterations=351_900, frames=(0,))
"""The end is chosen: just before the loss has lost one per cent."""


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


def printed_loss(e: Evidence) -> Deviation | None:
    """With the sum of half squares the flow leaves the origin before the figure ends."""
    if e.printed >= PRINTED:
        return None
    return Deviation(
        name="loss-as-printed",
        printed=(
            "The square loss is the sum of half squares, from 0.1 times a unit vector, and the "
            "figure ends at step 99 100."
        ),
        found=(
            "Under that loss the flow leaves the origin long before; under the mean it is not "
            "aligned by then. The mean is followed here until just before the loss moves."
        ),
        evidence={"iteration_of_ten_per_cent": e.printed, "followed_to": e.setting.iterations},
    )


ALIGNMENT = (aligned, loss_stays)
LOW_RANK = (first_low_rank, second_low_rank)
DEVIATIONS = (printed_loss,)
