"""Theorem 5.3: near a saddle the small weights follow the NCF flow of the saddle's residual."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ...errors import PolarflowError
from .._base import Claim
from .._flow import finished

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...networks import BlockState, Deep, Parallel

EXAMPLES = 40
ASIDE = 0.1
"""Inputs have |x_1| of at least this, so that the fitting unit feels those with x_1 > 0 alone."""
WIDTHS = (5, 5)
ORDER = 4.0
FRACTIONS = (0.5, 0.9, 0.99)
DECIMALS = (-1.0, -1.25, -1.5)
RTOL = 1e-9


def fitting() -> "Deep":
    """H_n(x) = max(0, u.x)^4."""
    from ...networks import Activation, Deep

    return Deep((1,), (Activation("relu_power", ORDER),), readout="ones")


def growing() -> "Deep":
    """H_z(x) = 1^T max(W_2 W_1 x, 0)^2."""
    from ...networks import Activation, Deep

    return Deep(WIDTHS, (Activation("linear"), Activation("relu_power", 2.0)), readout="ones")


def network() -> "Parallel":
    """H_n + H_z."""
    from ...networks import Parallel

    return Parallel((fitting(), growing()))


SADDLE = np.array([5.0**0.25, 0.0])
"""The weights of H_n at the saddle, where it fits 5 max(0, x_1)^4."""


@dataclass(frozen=True)
class Setting:
    """Unit inputs in the plane, labels 5 max(0, x_1)^4 + 4 max(0, -x_1)^4, and the saddle."""

    decimals: tuple[float, ...] = DECIMALS

    def inputs(self, seed: int) -> ndarray:
        """Unit vectors, none near the second axis."""
        angle = np.random.default_rng([seed, 5]).uniform(-np.pi, np.pi, 4 * EXAMPLES)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return x[np.abs(x[:, 0]) >= ASIDE][:EXAMPLES]

    def problem(self, seed: int, decimal: float) -> "Problem":
        """From the saddle plus delta (p_n, p_z), delta = 10^decimal."""
        from ... import Data, Square, problem
        from ...networks import BlockState

        x = self.inputs(seed)
        y = 5.0 * np.maximum(x[:, 0], 0.0) ** 4 + 4.0 * np.maximum(-x[:, 0], 0.0) ** 4
        p_n, p_z = self._aside(seed)
        u, own = SADDLE + 10.0**decimal * p_n, network()
        log_norm = np.array([np.log(np.linalg.norm(u)), decimal * np.log(10.0)])
        direction = np.zeros(own.shape(2))
        direction[0, :2], direction[1, : len(p_z)] = u / np.linalg.norm(u), p_z
        return problem(Data(x, y), own, BlockState(log_norm, direction), loss=Square("sum"))

    def climb(self, seed: int) -> "Problem":
        """The flow of the NCF of the saddle's residual from p_z."""
        from ... import Data, problem
        from ...losses import Correlation
        from ...networks import BlockState

        x = self.inputs(seed)
        residual = 4.0 * np.maximum(-x[:, 0], 0.0) ** 4
        start = BlockState(np.zeros(1), self._aside(seed)[1][None])
        return problem(Data(x, residual), growing(), start, loss=Correlation("sum"))

    def _aside(self, seed: int) -> tuple[ndarray, ndarray]:
        """The unit vectors p_n and p_z."""
        rng = np.random.default_rng([seed, 6])
        parts = rng.standard_normal(2), rng.standard_normal(growing().shape(2)[1])
        return parts[0] / np.linalg.norm(parts[0]), parts[1] / np.linalg.norm(parts[1])

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """The NCF flow to its blow-up, and flows from near the saddle at parts of that time."""
        from ... import Stop, gradient_flow

        seed, whole = 0, None
        for seed in range(20):
            whole = gradient_flow(self.climb(seed), stop=Stop(log_time=30.0), rtol=RTOL)
            if whole.status == "blow_up":
                break
        if whole is None or whole.status != "blow_up":
            raise PolarflowError("The NCF flow of no seed becomes infinite.")
        log_end = float(whole.final.log_time[0])
        logs = log_end + np.log(FRACTIONS)

        def follow(task: "Problem", shift: float) -> "Solution":
            times = logs + shift
            return finished(
                gradient_flow(
                    task, stop=Stop(log_time=float(times[-1])), rtol=RTOL, record_log_times=times,
                    progress=progress,
                )
            )  # fmt: skip

        limit = follow(self.climb(seed), 0.0)
        flows = tuple(
            follow(self.problem(seed, decimal), -(ORDER - 2.0) * decimal * np.log(10.0))
            for decimal in self.decimals
        )
        return Evidence(self, seed, whole, limit, flows)


@dataclass(frozen=True)
class Evidence:
    """The flows.

    **Attributes:**

    - `whole`, `limit`: the NCF flow to its blow-up, and recorded at parts of that time.
    - `flows`: from near the saddle, at the same parts, times delta^-(L-2).
    """

    setting: Setting
    seed: int
    whole: "Solution"
    limit: "Solution"
    flows: tuple["Solution", ...]

    @property
    def delta(self) -> ndarray:
        """The distances from the saddle."""
        return 10.0 ** np.array(self.setting.decimals)

    @cached_property
    def distance(self) -> ndarray:
        """|w_z/delta - u|/|u| for each delta and fraction."""
        found = []
        for flow, delta in zip(self.flows, self.delta, strict=True):
            s, u = flow.recorded.weights()[:, 1] / delta, self.limit.recorded.weights()[:, 0]
            found.append(np.linalg.norm(s - u, axis=1) / np.linalg.norm(u, axis=1))
        return np.array(found)

    @cached_property
    def answer(self) -> ndarray:
        """How far w_n is from the minimum that the small weights leave it, for each delta.

        Relative, at 0.9 of the blow-up time. To first order the minimum is at
        -(J^T J)^-1 J^T H_z(X) from the saddle, J the derivative of H_n(X) there.
        """
        x, found = self.setting.inputs(self.seed), []
        (group,) = growing().groups(2)
        slope = 4.0 * np.maximum(x @ SADDLE, 0.0)[:, None] ** 3 * x
        for flow in self.flows:
            at = flow.recorded.state(1)
            unit = np.asarray(group.apply(at.direction[1], group.constants[0], x)[:, 0])
            push = float(np.exp(ORDER * at.log_norm[1])) * unit
            minimum = -np.linalg.solve(self.hessian, slope.T @ push)
            off = at.weights()[0, :2] - SADDLE - minimum
            found.append(np.linalg.norm(off) / np.linalg.norm(minimum))
        return np.array(found)

    def order(self, values: ndarray) -> float:
        """The power of delta that is fitted to numbers, one for each delta."""
        return float(np.polyfit(np.log(self.delta), np.log(values), 1)[0])

    @cached_property
    def hessian(self) -> ndarray:
        """That of the loss in w_n at the saddle: it fits there, so that it is J^T J."""
        x = self.setting.inputs(self.seed)
        slope = 4.0 * np.maximum(x @ SADDLE, 0.0)[:, None] ** 3 * x
        return np.asarray(slope.T @ slope)

    @cached_property
    def saddle_gradient(self) -> float:
        """The norm of the gradient at the saddle; that in w_z is 0, H_z being of order 4."""
        x, y = self.flows[0].problem.data.x, self.flows[0].problem.data.y
        z = np.maximum(x @ SADDLE, 0.0)
        return float(np.linalg.norm(((y - z**4) * 4.0 * z**3) @ x))

    def alignment(self, state: "BlockState") -> float:
        """1 - cos of w and the gradient of the NCF of the residual."""
        import jax

        x, r = self.limit.problem.data.x, self.limit.problem.data.y
        (group,) = growing().groups(2)
        v = state.direction[0]
        force = np.asarray(jax.grad(lambda w: r @ group.apply(w, group.constants[0], x)[:, 0])(v))
        unit = force / np.linalg.norm(force)
        return 0.5 * float(np.sum((unit - v) ** 2))

    def parameters(self) -> dict[str, Any]:
        return {
            "x": self.setting.inputs(self.seed).tolist(),
            "y": "5 max(0, x_1)^4 + 4 max(0, -x_1)^4",
            "network": "H_n + H_z, H_n = max(0, u.x)^4, H_z = 1^T max(W_2 W_1 x, 0)^2, 5x2 and 5x5",
            "saddle": "u = (5^(1/4), 0), W_1 = W_2 = 0",
            "initialisation": "the saddle plus delta (p_n, p_z), random unit vectors",
            "loss": "sum of half squares",
            "delta": self.delta.tolist(),
            "blow_up_time_of_the_ncf_flow": float(np.exp(self.whole.final.log_time[0])),
            "fractions_of_that_time": list(FRACTIONS),
            "rtol": RTOL,
            "seed": self.seed,
            "seed_criterion": "the first seed from 0 for which the NCF flow becomes infinite",
        }

    def comparison(self) -> list[dict[str, Any]]:
        return [
            {
                "method": "NCF flow of the saddle's residual",
                "delta": float(delta),
                "relative_distances_at_the_fractions": row.tolist(),
            }
            for delta, row in zip(self.delta, self.distance, strict=True)
        ]

    def work(self) -> dict[str, Any]:
        return dict(self.flows[-1].summary()["work"])


SETTING = Setting()


def at_rest(e: Evidence) -> Claim:
    """It is a saddle."""
    return Claim(
        name="saddle-at-rest",
        statement="The gradient at the saddle vanishes: its norm.",
        measured=e.saddle_gradient,
        bound=1e-12,
        relation="<=",
        reason="rounding",
    )


def assumption(e: Evidence) -> Claim:
    """Assumption 2, by lemma 5.4."""
    return Claim(
        name="assumption-2",
        statement=(
            "Assumption 2 holds, by lemma 5.4: the smallest eigenvalue of the Hessian of the loss "
            "in w_n at the saddle."
        ),
        measured=float(np.linalg.eigvalsh(e.hessian)[0]),
        bound=1e-3,
        relation=">=",
        reason="positive, well beyond rounding",
    )


def stays(e: Evidence) -> Claim:
    """Equation (16) for the weights that fit, made sharp."""
    return Claim(
        name="fitting-weights-answer",
        statement=(
            "|w_n - w_n(saddle)| <= C delta: the weights that fit answer the small ones, with "
            "w_n - w_n(saddle) = -(J^T J)^-1 J^T H_z(X; w_z) (1 + O(delta^2)), of the order "
            "delta^4: the order in delta of the relative difference of the two sides at "
            "0.9 T* delta^-(L-2)."
        ),
        measured=e.order(e.answer),
        bound=(1.9, 2.1),
        relation="in",
        reason=(
            "the order 2 of the lag: the small weights move in a time of delta^-2, those that fit "
            "in one of order one"
        ),
    )


def follows(e: Evidence) -> Claim:
    """The rescaled small weights follow the NCF flow; so |w_z| <= B delta, equation (16)."""
    return Claim(
        name="follows-the-ncf-flow",
        statement=(
            "w_z(t delta^-(L-2))/delta tends to the NCF flow u(t) of the saddle's residual: the "
            "order in delta of the relative distance at 0.5 T*."
        ),
        measured=e.order(e.distance[:, 0]),
        bound=(2.7, 3.3),
        relation="in",
        reason=(
            "w_n is off by delta for a time of order one, a part delta^2 of T* delta^-2: the "
            "order is 3; H_z itself changes the residual by delta^4."
        ),
    )


def shrinks(e: Evidence) -> Claim:
    """Near the blow-up time as well."""
    return Claim(
        name="distance-shrinks",
        statement="The largest ratio of distances for neighbouring delta, at 0.5, 0.9 and 0.99 T*.",
        measured=float((e.distance[1:] / e.distance[:-1]).max()),
        bound=0.5,
        relation="<=",
        reason="Order 3 makes it 0.18 for a delta smaller by 10^-0.25; half is asked for.",
    )


def aligned(e: Evidence) -> Claim:
    """The NCF flow goes to a KKT point."""
    return Claim(
        name="aligns-with-a-kkt-point",
        statement=(
            "Towards T* the direction of the NCF flow tends to a KKT point of (17): 1 - cos of w "
            "and the gradient of the NCF where it becomes infinite."
        ),
        measured=e.alignment(e.whole.final.state(0)),
        bound=1e-6,
        relation="<=",
        reason="u grows without bound while its direction converges (theorem 5.3)",
    )


CLAIMS = (at_rest, assumption, stays, follows, shrinks, aligned)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Left, the distance to the NCF flow against delta; right, norms over the time."""
    from ...plotting.style import GREY, NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    figure, (left, right) = new_figure(PAGE, 2.6, 1, 2)
    with style():
        for fraction, line in zip(FRACTIONS, e.distance.T, strict=True):
            left.loglog(e.delta, line, "o-", ms=3, label=f"$t = {fraction:g}\\,T^*$")
        third = e.distance[0, 0] * (e.delta / e.delta[0]) ** 3
        left.loglog(e.delta, third, color=GREY, linestyle=":", label="order 3")
        left.set_xlabel(r"$\delta$")
        left.set_ylabel(r"$\|w_z/\delta - u\|/\|u\|$")
        left.legend()
        end = float(e.whole.final.log_time[0])
        for i, (flow, decimal) in enumerate(zip(e.flows, e.setting.decimals, strict=True)):
            path, log = flow.trajectory, decimal * np.log(10.0)
            time = np.exp(path.log_time + (ORDER - 2.0) * log - end)
            away = np.linalg.norm(path.weights()[:, 0, :2] - SADDLE, axis=1)
            shade = 1.0 - 0.3 * i
            right.plot(time, np.exp(path.log_norm[:, 1] - log), color=POSITIVE, alpha=shade,
                       label=r"$\|w_z\|/\delta$" if i == 0 else None)  # fmt: skip
            right.plot(time, away / 10.0**decimal, color=NEGATIVE, alpha=shade,
                       label=r"$\|w_n - \bar w_n\|/\delta$" if i == 0 else None)  # fmt: skip
        path = e.limit.trajectory
        right.plot(np.exp(path.log_time - end), np.exp(path.log_norm[:, 0]), color="black",
                   linestyle=(0, (4, 2)), label=r"$\|u\|$, the NCF flow")  # fmt: skip
        right.set_yscale("log")
        right.set_ylim(1e-4, None)
        right.set_xlabel(r"time $\cdot\,\delta^{L-2}/T^*$")
        right.legend()
    return save(figure, folder, "saddle")
