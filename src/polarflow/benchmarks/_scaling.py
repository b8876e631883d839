"""How the cost grows: with the smallness of the initialisation, width, examples and dimension."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ._cases import flow_setting, student, wide

if TYPE_CHECKING:
    from ..flow import Problem

SCALE_STOP = 1e-10
"""The loss at which the runs end whose cost is compared across scales."""
DECIMALS = (-2, -4, -8, -12, -25, -50, -100, -200, -500, -1000)
PROBE = 300
"""Iterations of gradient descent that are timed; its cost is that of an iteration times them."""


@dataclass(frozen=True)
class Scaling:
    """A family of flows in one size.

    **Attributes:**

    - `name`: what the table calls it; `title`: what is varied on what.
    - `symbol`: what the size is called.
    - `sizes`: its values, increasing; `quick` takes the first of them.
    - `build`: the problem of a size.
    - `time`, `loss`: where its flows end.
    - `step`: of gradient descent.
    - `bounds`: how many times the field evaluations at the given size those at the last may take.
    """

    name: str
    title: str
    symbol: str
    sizes: tuple[float, ...]
    build: "Callable[[float], Problem]"
    time: float | None = None
    loss: float | None = None
    step: float = 1e-3
    rtol: float = 1e-8
    quick: int = 3
    bounds: dict[float, float] = field(default_factory=dict)


def _scaled(name: str) -> "Callable[[float], Problem]":
    """A published experiment's problem from lambda = 10^-size."""

    def build(size: float) -> "Problem":
        from ..flow import problem
        from ..networks import balanced

        setting = flow_setting(name)
        base = setting.problem(setting.seed())
        initial = balanced(
            base.two_layer, base.data.dimension, log10_scale=-size, seed=setting.seed()
        )
        return problem(base.data, base.two_layer, initial, loss=base.loss)

    return build


SCALINGS: dict[str, Scaling] = {
    each.name: each
    for each in (
        Scaling(
            "cost-scale",
            "two points of Boursier et al., figure 2, from lambda = 10^-s",
            "s",
            tuple(-float(d) for d in DECIMALS),
            _scaled("orthogonal-relu-fig2"),
            loss=SCALE_STOP,
            quick=len(DECIMALS),
            bounds={12.0: 2.0, 100.0: 1.2},
        ),
        Scaling(
            "cost-scale-oblique",
            "five points of Boursier et al., figure 4, from lambda = 10^-s",
            "s",
            tuple(-float(d) for d in DECIMALS),
            _scaled("orthogonal-relu-fig4"),
            loss=SCALE_STOP,
            bounds={12.0: 2.0, 100.0: 1.2},
        ),
        Scaling(
            "cost-width",
            "three points on the line, width m",
            "m",
            (100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0),
            lambda m: wide(int(m)),
            time=2000.0,
        ),
        Scaling(
            "cost-examples",
            "a teacher's labels, d = 20, m = 50, n examples",
            "n",
            (10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
            lambda n: student(int(n), 20, 50, -6.0),
            time=60.0,
            rtol=1e-6,
        ),
        Scaling(
            "cost-dimension",
            "a teacher's labels, n = 20, m = 50, d numbers in an example",
            "d",
            (10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
            lambda d: student(20, int(d), 50, -6.0),
            time=60.0,
            rtol=1e-6,
        ),
    )
}


def measure(scaling: Scaling, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Rows {size, seconds, field_evaluations, steps, flow_time, descent_seconds, ...}.

    The seconds of gradient descent are those of an iteration, from a few hundred, times the
    iterations that the flow's time asks for.
    """
    sizes = scaling.sizes[: scaling.quick] if quick else scaling.sizes
    rows = []
    for size in sizes:
        say(f"{scaling.name}: {scaling.symbol} = {size:g}")
        rows.append(_row(scaling, size))
    done = [row for row in rows if row["finished"]]
    cost = {row["size"]: row["field_evaluations"] for row in done}
    last = max(cost, default=0.0)
    bounds = [
        {
            "statement": f"evaluations at {scaling.symbol} = {last:g} over those at {size:g}",
            "measured": cost[last] / cost[size],
            "bound": bound,
            "holds": cost[last] <= bound * cost[size],
        }
        for size, bound in scaling.bounds.items()
        if size in cost and last == scaling.sizes[-1]
    ]
    return {
        "name": scaling.name,
        "title": scaling.title,
        "symbol": scaling.symbol,
        "stop": {"time": scaling.time, "loss": scaling.loss},
        "rtol": scaling.rtol,
        "step": scaling.step,
        "rows": rows,
        "exponents": {
            key: exponent([row["size"] for row in done], [row[key] for row in done])
            for key in ("seconds", "field_evaluations", "steps", "descent_seconds")
        },
        "bounds": bounds,
    }


def _row(scaling: Scaling, size: float) -> dict[str, Any]:
    from ..comparators import gradient_descent
    from ..flow import Stop
    from ..solution import gradient_flow

    problem = scaling.build(size)
    solution = gradient_flow(
        problem, stop=Stop(time=scaling.time, loss=scaling.loss), rtol=scaling.rtol, points=50
    )
    time = float(solution.final.time[-1])
    held = bool((problem.initial.log_norm > np.log(np.finfo(float).tiny)).all())
    seconds = None
    if held:
        probes = [gradient_descent(problem, scaling.step, PROBE, [PROBE]) for _ in range(3)]
        seconds = min(probe.seconds for probe in probes) / PROBE * time / scaling.step
    return {
        "size": size,
        "seconds": solution.work.seconds,
        "field_evaluations": solution.work.field_evaluations,
        "steps": solution.work.steps,
        "flow_time": time,
        "descent_iterations": time / scaling.step if held else None,
        "descent_seconds": seconds,
        "finished": solution.status == "ok",
    }


def exponent(sizes: list[float], cost: list[float | None]) -> float | None:
    """The slope of ln cost against ln size by least squares; None for fewer than three points."""
    pairs = [(s, c) for s, c in zip(sizes, cost, strict=True) if c]
    if len(pairs) < 3:
        return None
    x, y = np.log(np.array(pairs)).T
    return float(np.polyfit(x, y, 1)[0])
