"""The rescaled flow s(t) = w(t/delta^{L-2})/delta against the NCF flow u(t), theorem 5.1."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from ...errors import PolarflowError
from .._base import Claim
from ._example import SQUARED

if TYPE_CHECKING:
    from ... import Progress

FRACTIONS = (0.5, 0.9, 0.99)
DECIMALS = (-0.5, -0.75, -1.0)
RTOL = 1e-11
"""Far below the smallest distance, 7e-9."""
DESCENTS = (10_000, 20_000)
"""Iterations of gradient descent up to the blow-up time, of which the fractions are multiples."""


@dataclass(frozen=True)
class Setting:
    """The example of figure 1 from unit directions times delta, for several delta."""

    seed: int

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        from ... import Stop, gradient_flow

        ncf = SQUARED.problem(self.seed, 0.0, loss="correlation")
        whole = gradient_flow(ncf, stop=Stop(log_time=50.0), rtol=RTOL, progress=progress)
        if whole.status != "blow_up":
            raise PolarflowError(whole.message or "the NCF flow has not become infinite")
        log_end = float(whole.final.log_time[0])
        logs = log_end + np.log(FRACTIONS)
        limit = gradient_flow(
            ncf, stop=Stop(log_time=float(logs[-1])), rtol=RTOL, record_log_times=logs
        )
        work = [whole.summary()["work"], limit.summary()["work"]]
        distance = np.zeros((len(DECIMALS), len(FRACTIONS)))
        for i, decimal in enumerate(DECIMALS):
            shift = -(SQUARED.network.order - 2.0) * decimal * np.log(10.0)
            flow = gradient_flow(
                SQUARED.problem(self.seed, decimal),
                stop=Stop(log_time=float(logs[-1] + shift)),
                rtol=RTOL,
                record_log_times=logs + shift,
                progress=progress,
            )
            work.append(flow.summary()["work"])
            s, u = flow.recorded.weights() / 10.0**decimal, limit.recorded.weights()
            distance[i] = _relative(s, u)
            if i == 0:
                paths = [self._descend(log_end + shift, count) for count in DESCENTS]
                first = np.array([_relative(path, s) for path in paths]), _relative(paths[0], u)
        return Evidence(self.seed, log_end, distance, *first, work)

    def _descend(self, log_end: float, count: int) -> ndarray:
        """Gradient descent from the largest delta, rescaled, at the fractions."""
        from ...comparators import gradient_descent

        problem, record = SQUARED.problem(self.seed, DECIMALS[0]), np.array(FRACTIONS) * count
        index = np.rint(record).astype(int)
        descent = gradient_descent(problem, float(np.exp(log_end)) / count, index[-1], index)
        return descent.trajectory.weights() / 10.0 ** DECIMALS[0]


def _relative(path: ndarray, other: ndarray) -> ndarray:
    """|path - other| / |other| at each time, for one block."""
    gap = np.linalg.norm((path - other)[:, 0], axis=1)
    return np.asarray(gap / np.linalg.norm(other[:, 0], axis=1))


@dataclass(frozen=True)
class Evidence:
    """The distances at each fraction of the blow-up time.

    **Attributes:**

    - `log_blow_up`: ln of that time.
    - `distance`: |s - u|/|u| for each delta.
    - `descent`: |s_GD - s|/|s| for the largest delta, with a step and with half of it.
    - `descended`: |s_GD - u|/|u| with the first of them.
    - `costs`: of the flows.
    """

    seed: int
    log_blow_up: float
    distance: ndarray
    descent: ndarray
    descended: ndarray
    costs: list[dict[str, Any]]

    @property
    def slopes(self) -> ndarray:
        """The order in delta fitted at each fraction of the blow-up time."""
        log_delta = np.array(DECIMALS) * np.log(10.0)
        return np.array([np.polyfit(log_delta, np.log(d), 1)[0] for d in self.distance.T])

    def parameters(self) -> dict[str, Any]:
        return {
            "example": "that of figure 1, under the mean of half squares",
            "log10_delta": list(DECIMALS),
            "fractions_of_the_blow_up_time": list(FRACTIONS),
            "blow_up_time": float(np.exp(self.log_blow_up)),
            "rtol": RTOL,
            "seed": self.seed,
        }

    def comparison(self) -> list[dict[str, Any]]:
        return [
            {
                "method": "gradient descent",
                "delta": 10.0 ** DECIMALS[0],
                "iterations_to_the_blow_up_time": count,
                "relative_distances_from_the_flow": line.tolist(),
            }
            for count, line in zip(DESCENTS, self.descent, strict=True)
        ]

    def work(self) -> dict[str, Any]:
        return {key: sum(cost[key] for cost in self.costs) for key in self.costs[0]}


SETTING = Setting(seed=0)


def _order(e: Evidence, k: int) -> Claim:
    return Claim(
        name=f"order-at-{FRACTIONS[k]:g}",
        statement=(
            f"The order in delta of |s(t) - u(t)|/|u(t)| at t = {FRACTIONS[k]:g} T*, fitted over "
            f"delta = 10^{DECIMALS[0]:g} to 10^{DECIMALS[-1]:g}."
        ),
        measured=float(e.slopes[k]),
        bound=(3.9, 4.1),
        relation="in",
        reason="The residual differs from the labels by H(s) delta^L: the order is L = 4.",
    )


def at_half(e: Evidence) -> Claim:
    """The order at half of the blow-up time."""
    return _order(e, 0)


def at_nine_tenths(e: Evidence) -> Claim:
    """The order at nine tenths of it."""
    return _order(e, 1)


def close(e: Evidence) -> Claim:
    """The order near the blow-up time."""
    return _order(e, 2)


def descent_agrees(e: Evidence) -> Claim:
    """The authors' method follows the flow."""
    ratio = e.descent[0] / e.descent[1]
    return Claim(
        name="descent-to-first-order",
        statement=(
            "Gradient descent agrees with the flow to first order in the step: |w_GD - w|/|w| with "
            f"{DESCENTS[0]} iterations up to T*, over that with twice as many; at the fraction "
            "where the ratio is farthest from 2."
        ),
        measured=float(ratio[np.argmax(np.abs(ratio - 2.0))]),
        bound=(1.8, 2.2),
        relation="in",
        reason="Euler's method is of first order: 2 in the limit of small steps.",
    )


CLAIMS = (at_half, at_nine_tenths, close, descent_agrees)


def draw(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """The distance against delta, one line for each fraction of the blow-up time."""
    from ...plotting.style import COLUMN, GREY, new_figure, save, style

    delta = 10.0 ** np.array(DECIMALS)
    figure, (ax,) = new_figure(1.5 * COLUMN, 2.6)
    with style():
        for fraction, line, crude in zip(FRACTIONS, e.distance.T, e.descended, strict=True):
            (flow,) = ax.plot(delta, line, marker="o", ms=3, label=f"$t = {fraction:g}\\,T^*$")
            ax.plot(delta[0], crude, "x", color=flow.get_color(), ms=5)
        ax.plot([], [], "kx", ms=5, label=f"gradient descent,\n{DESCENTS[0]} steps to $T^*$")
        fourth = e.distance[0, 0] * (delta / delta[0]) ** 4
        ax.plot(delta, fourth, color=GREY, linestyle=":", label="order 4")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel(r"$\delta$")
        ax.set_ylabel(r"$\|s(t) - u(t)\|/\|u(t)\|$")
        figure.legend(loc="outside right center")
    return save(figure, folder, "rescaling")
