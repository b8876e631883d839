"""The phases of section 4 on orthonormal inputs, for initial scales that vanish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim
from .._flow import RTOL, follow
from ._setting import key_groups

if TYPE_CHECKING:
    from ... import Problem, Progress, Solution
    from ...limit import SaddlePath

LABELS = (1.0, -0.6, 0.8, -0.4)
WIDTH = 32
EPSILON = 0.1
"""The lemmas' epsilon; r(1 - eps) > 1 + 3 eps holds for these labels."""
EXPONENTS = (10, 30, 100, 300, 1000)
"""The initial scales are 10 to the power of minus these."""
LARGER = (12, 14, 16)
"""Scales at which what is missing at the second saddle is far from rounding."""


@dataclass(frozen=True)
class Setting:
    """Four orthonormal inputs, and scales down to 1e-1000."""

    labels: tuple[float, ...] = LABELS
    width: int = WIDTH
    exponents: tuple[int, ...] = EXPONENTS

    def problem(self, seed: int, exponent: float) -> "Problem":
        """The flow's problem at the scale 10^-exponent."""
        from ... import Data, Square, TwoLayer, balanced, problem

        n = len(self.labels)
        x = np.linalg.qr(np.random.default_rng([seed, 7]).standard_normal((n, n)))[0]
        network = TwoLayer(self.width)
        initial = balanced(network, n, log10_scale=-float(exponent), seed=seed)
        return problem(Data(x, np.array(self.labels)), network, initial, loss=Square("mean"))

    def seed(self) -> int:
        """The first seed for which S_{+,1} and S_{-,1} are not empty."""
        return next(s for s in range(1000) if all(g.any() for g in key_groups(self.problem(s, 1))))

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """The limit path, and a flow for every scale, recorded at the lemmas' times."""
        from ...limit import saddle_path

        seed = self.seed()
        plus, minus = forces(self.problem(seed, 1))
        flows = []
        for exponent in self.exponents:
            unit = exponent * np.log(10.0)
            times = np.array([EPSILON / minus, (1 + 3 * EPSILON) / plus, (1 - EPSILON) / minus])
            end = (1 + 3 * EPSILON * plus / minus) / minus
            recorded = unit * np.array([*times, end, 2.0 * end])
            flows.append(follow(self.problem(seed, exponent), recorded, progress=progress))
        late = (1 - EPSILON) / minus * np.log(10.0)
        larger = tuple(follow(self.problem(seed, k), (k * late,)) for k in LARGER)
        return Evidence(self, seed, saddle_path(self.problem(seed, 1)), tuple(flows), larger)


def forces(problem: "Problem") -> tuple[float, float]:
    """|D_+| and |D_-|, D_+- = (1/n) sum over +-y_k > 0 of y_k x_k."""
    x, y = problem.data.x, problem.data.y
    return (
        float(np.linalg.norm(y[y > 0] @ x[y > 0])) / len(y),
        float(np.linalg.norm(y[y < 0] @ x[y < 0])) / len(y),
    )


@dataclass(frozen=True)
class Evidence:
    """The path in the limit, and the flows from the largest scale to the smallest.

    `larger` are flows at the scales `LARGER`, recorded late at the second saddle.
    """

    setting: Setting
    seed: int
    path: "SaddlePath"
    flows: tuple["Solution", ...]
    larger: tuple["Solution", ...]

    @property
    def problem(self) -> "Problem":
        """The problem at the smallest scale."""
        return self.flows[-1].problem

    @property
    def force(self) -> tuple[float, float]:
        """|D_+| and |D_-|."""
        return forces(self.problem)

    @property
    def log_scale(self) -> np.ndarray:
        """-ln lambda of every flow."""
        return np.array(self.setting.exponents) * np.log(10.0)

    def levels(self) -> list[float]:
        """The losses half-way from one saddle to the next."""
        loss = [saddle.rest.loss for saddle in self.path.saddles]
        return [0.5 * (a + b) for a, b in zip(loss, loss[1:], strict=False)]

    def leaving(self) -> np.ndarray:
        """When each flow is half-way from one saddle to the next in the loss."""
        times = []
        for flow in self.flows:
            path, row = flow.trajectory, []
            for level in self.levels():
                i = int(np.argmax(path.loss < level))
                near = np.linspace(path.time[i - 1], path.time[i], 9)
                for _ in range(12):
                    loss = flow.evaluate(near).loss
                    i = int(np.argmax(loss < level))
                    near = np.linspace(near[i - 1], near[i], 9)
                row.append(float(near[-1]))
            times.append(row)
        return np.array(times)

    def missing(self, flow: "Solution", at: int) -> float:
        """|sum |w_j|^2 - n |D_+|| over S_{+,1} at a recorded time, over n |D_+|."""
        group, _ = key_groups(self.problem)
        mass = float(np.sum(np.exp(2.0 * flow.recorded.state(at).log_norm[group]))) / 2.0
        return abs(mass / (len(self.problem.data.y) * self.force[0]) - 1.0)

    def share(self) -> float:
        """q: the largest |D_S|/|D_+| of neurons with a > 0 that are active on a part S."""
        x, y, start = self.problem.data.x, self.problem.data.y, self.problem.initial.direction
        rest = start[(start[:, 0] > 0) & ~key_groups(self.problem)[0]]
        forces = ((rest[:, 1:] @ x.T > 0) & (y > 0)) * y @ x / len(y)
        return float(np.linalg.norm(forces, axis=1).max()) / self.force[0]

    def parameters(self) -> dict[str, Any]:
        """What was followed, and which of the printed bounds say something at these scales."""
        data, (plus, minus) = self.problem.data, self.force
        r = plus / minus
        powers = {"eps": EPSILON, "1 - r eps": 1 - r * EPSILON}
        powers |= {f"eps/{k}": EPSILON / k for k in (2, 5, 14, 15, 29, 240)}
        return {
            "x": data.x.tolist(),
            "y": data.y.tolist(),
            "bias": False,
            "width": self.setting.width,
            "initialisation": "balanced, lambda = 10^-k",
            "k": list(self.setting.exponents),
            "epsilon": EPSILON,
            "r": r,
            "loss": "mean squared error with one half",
            "rtol": RTOL,
            "seed": self.seed,
            "seed_criterion": "the first seed from 0 for which S_{+,1} and S_{-,1} are not empty",
            "bounds": [
                {
                    "bound": f"lambda^({name})",
                    "scale": f"1e-{k}",
                    "value": float(10.0 ** (-k * power)),
                    "vacuous": bool(10.0 ** (-k * power) > 0.5),
                }
                for k in self.setting.exponents
                for name, power in powers.items()
            ],
        }

    def comparison(self) -> list[dict[str, Any]]:
        """The measured leaving times next to the limit's."""
        times = self.leaving() / self.log_scale[:, None]
        return [
            {
                "method": "flow against the limit of vanishing initialisation",
                "scale": f"1e-{k}",
                "leaving_times": row.tolist(),
                "limit": self.path.escape_rates.tolist(),
            }
            for k, row in zip(self.setting.exponents, times, strict=True)
        ]

    def work(self) -> dict[str, Any]:
        """What the flow from the smallest scale cost."""
        return dict(self.flows[-1].summary()["work"])


def _unit(e: Evidence, at: int, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """The neurons of S_{+,1} or S_{-,1} at a recorded time: 1 - cos to D, and |w|^2."""
    state = e.flows[-1].recorded.state(at)
    group = key_groups(e.problem)[0 if sign > 0 else 1]
    x, y = e.problem.data.x, e.problem.data.y
    target = sign * (y[sign * y > 0] @ x[sign * y > 0])
    target /= np.linalg.norm(target)
    w = state.direction[group, 1:]
    w = w / np.linalg.norm(w, axis=1, keepdims=True)
    away = 0.5 * np.sum((w - target) ** 2, axis=1)
    return away, np.exp(2.0 * state.log_norm[group]) / 2.0


def _scale(e: Evidence) -> float:
    return float(-e.log_scale[-1])


def _aligned(sign: float) -> Callable[[Evidence], Claim]:
    name = "plus" if sign > 0 else "minus"

    def claim(e: Evidence) -> Claim:
        away, _ = _unit(e, 0, sign)
        return Claim(
            name=f"{name}-neurons-align",
            statement=(
                f"Lemma 2: at t1 = -eps ln(lambda)/|D-| the neurons of S_{'+' if sign > 0 else '-'}"
                ",1 are aligned: the largest 1 - cos, at the smallest scale."
            ),
            measured=float(away.max()),
            bound=max(2.0 * float(np.exp(EPSILON * _scale(e))), 1e-15),
            relation="<=",
            reason="2 lambda^eps; below 1e-15 it is a matter of rounding.",
        )

    return claim


def small_in_phase_one(e: Evidence) -> Claim:
    """Lemma 2 (iii)."""
    plus, minus = e.force
    first = e.flows[-1].recorded
    log_w = first.log_norm[0] - 0.5 * np.log(2.0)
    start = e.problem.initial.log_norm - 0.5 * np.log(2.0)
    c = float(start.max()) - _scale(e)
    return Claim(
        name="norms-stay-small",
        statement="Lemma 2: at t1 all neurons are small: ln max |w_j|, at the smallest scale.",
        measured=float(log_w.max()),
        bound=float(np.log(2.0) + c + (1 - EPSILON * plus / minus) * _scale(e)),
        relation="<=",
        reason="ln(2 c lambda^(1 - r eps)), c = max |w_j(0)|/lambda.",
    )


def intermediate_saddle(e: Evidence) -> Claim:
    """Fact 1 and lemma 3, as printed."""
    limit = len(e.problem.data.y) * e.force[0]
    bounds = np.exp(-EPSILON / 5 * e.log_scale)
    told = [(f, b) for f, b in zip(e.flows, bounds, strict=True) if b > RTOL]
    return Claim(
        name="second-saddle",
        statement=(
            "Fact 1: from (1 + 3 eps)/|D+| to (1 - eps)/|D-|, times -ln(lambda), the flow is at a "
            "saddle where S_+,1 fits the positive labels: the largest |sum |w_j|^2 - n|D+|| over "
            f"lambda^(eps/5), at the {len(told)} scales where that is beyond the tolerance of the "
            "flow."
        ),
        measured=max(e.missing(f, at) * limit / b for f, b in told for at in (1, 2)),
        bound=1.0,
        relation="<=",
        reason="The paper's lambda^(eps/5).",
    )


def saddle_rate(e: Evidence) -> Claim:
    """What is missing at the saddle, sharply."""
    power = 2.0 * (1.0 - e.share())
    logs = np.log(10.0) * np.array(LARGER)
    missing = np.log([e.missing(flow, 0) for flow in e.larger])
    return Claim(
        name="second-saddle-rate",
        statement=(
            "The positive neurons that are active on a part S of the positive examples have "
            "lambda^(2(1 - q)) of the mass at the second saddle, q = max |D_S|/|D+|, so that so "
            "much of n|D+| is missing in S_+,1: the order in lambda of what is missing at "
            f"(1 - eps)/|D-|, fitted over {', '.join(f'1e-{k}' for k in LARGER)}."
        ),
        measured=float(np.polyfit(-logs, missing, 1)[0]),
        bound=(power - 1e-3, power + 1e-3),
        relation="in",
        reason=(
            f"2(1 - q) = {power:.6g}; what is next to it is a part lambda^(2(1 - q)) of it, less "
            "than a thousandth at these scales."
        ),
    )


def saddle_loss(e: Evidence) -> Claim:
    """The loss at the intermediate saddle."""
    y = e.problem.data.y
    expected = float(np.sum(y[y < 0] ** 2)) / (2 * len(y))
    found = e.flows[-1].recorded.loss[1:3]
    return Claim(
        name="saddle-loss",
        statement="The loss at the second saddle is (1/2n) sum over y < 0 of y^2: relative error.",
        measured=float(np.max(np.abs(found / expected - 1.0))),
        bound=RTOL,
        relation="<=",
        reason="The tolerance of the flow.",
    )


def _leaves(which: int) -> Callable[[Evidence], Claim]:
    sign = "+-"[which]

    def claim(e: Evidence) -> Claim:
        times = e.leaving()[:, which]
        rate = (times[-1] - times[-2]) / (e.log_scale[-1] - e.log_scale[-2])
        return Claim(
            name=f"leaving-time-{which}",
            statement=(
                f"Saddle {which} is left at -ln(lambda)/|D{sign}| + O(1): the slope of the "
                "measured times over the two smallest scales, relative error."
            ),
            measured=float(abs(rate * e.force[which] - 1.0)),
            bound=1e-6,
            relation="<=",
            reason="The times are O(1) from the limit, by a constant that depends on no scale.",
        )

    return claim


def limit_path(e: Evidence) -> Claim:
    """The path without any plateau integrated."""
    return Claim(
        name="limit-path",
        statement="The path as lambda -> 0 has the escape rates 1/|D+| and 1/|D-|: relative error.",
        measured=float(np.max(np.abs(e.path.escape_rates * np.array(e.force) - 1.0))),
        bound=1e-10,
        relation="<=",
        reason="Rounding.",
    )


def final_norm(e: Evidence) -> Claim:
    """Theorem 1."""
    total = float(np.sum(np.exp(2.0 * e.flows[-1].final.log_norm[0])))
    limit = 2 * len(e.problem.data.y) * sum(e.force)
    return Claim(
        name="least-norm",
        statement="|theta|^2 -> 2n(|D+| + |D-|), the least of all interpolants: relative error.",
        measured=abs(total / limit - 1.0),
        bound=1e-10,
        relation="<=",
        reason="What the scale leaves is far below rounding; the rest point attracts.",
    )


def local_pl(e: Evidence) -> Claim:
    """Lemma 5."""
    _, minus = e.force
    path = e.flows[-1].recorded
    ratio = float(np.exp(2.0 * path.log_grad_norm[3] - path.log_loss[3]))
    return Claim(
        name="local-pl",
        statement="Lemma 5: near the interpolant |grad L|^2 / L is at least |D-|, at t3.",
        measured=ratio,
        bound=minus,
        relation=">=",
        reason="The lemma.",
    )


CLAIMS = (
    _aligned(1.0),
    _aligned(-1.0),
    small_in_phase_one,
    intermediate_saddle,
    saddle_rate,
    saddle_loss,
    _leaves(0),
    _leaves(1),
    limit_path,
    final_norm,
    local_pl,
)

SETTING = Setting()


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Left, the losses in scaled time; right, how the leaving times approach the limit."""
    from ...plotting.style import GREY, NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    figure, (left, right) = new_figure(PAGE, 2.6, 1, 2)
    with style():
        shades = np.linspace(0.75, 0.0, len(e.flows))
        for flow, log, k, shade in zip(
            e.flows, e.log_scale, e.setting.exponents, shades, strict=True
        ):
            left.plot(flow.trajectory.time / log, flow.trajectory.loss, color=str(shade),
                      label=f"$10^{{-{k}}}$")  # fmt: skip
        for rate, colour in zip(e.path.escape_rates, (POSITIVE, NEGATIVE), strict=False):
            left.axvline(rate, color=colour, linewidth=0.8, linestyle=(0, (4, 2)))
        left.set_xlim(0, 1.4 * e.path.escape_rates[-1])
        left.set_xlabel(r"time / $-\ln\lambda$")
        left.set_ylabel("loss")
        left.legend(title=r"$\lambda$")
        error = np.abs(e.leaving() / e.log_scale[:, None] - e.path.escape_rates)
        for which, (colour, sign) in enumerate(((POSITIVE, "+"), (NEGATIVE, "-"))):
            right.loglog(e.log_scale, error[:, which], "o-", color=colour, markersize=3.5,
                         label=f"$1/|D_{sign}|$")  # fmt: skip
        right.loglog(e.log_scale, 2.0 * error[0].max() * e.log_scale[0] / e.log_scale, color=GREY,
                     linewidth=0.8, linestyle=(0, (1, 1.5)),
                     label=r"$\propto 1/(-\ln\lambda)$")  # fmt: skip
        right.set_xlabel(r"$-\ln\lambda$")
        right.set_ylabel(r"|leaving time / $-\ln\lambda$ - limit|")
        right.legend()
    return save(figure, folder, "timeline")
