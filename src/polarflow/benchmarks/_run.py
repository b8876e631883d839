"""Measuring: all methods on one problem in turns, and the engine's cost against the scale."""

import json
import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import PolarflowError
from ._cases import CASES, Case
from ._methods import (
    Method,
    Outcome,
    descent,
    engine,
    extrapolated_descent,
    has_diffrax,
    tsit5,
)
from ._table import table

REPEATS = 5
RTOL = 1e-8
"""The engine's default tolerance: its row is what ratios are taken to."""
REFERENCE_RTOL = 1e-12
SCALE_STOP = 1e-10
"""The loss at which the runs end whose cost is compared across scales."""
SCALE_BOUNDS = {"-100": 1.2, "-12": 2.0}
"""How many times the field evaluations at these log10 scales those at 1e-1000 may take."""
FILE = "summary.json"


def names() -> tuple[str, ...]:
    """The names of the cases."""
    return tuple(CASES)


def run(
    names: Iterable[str] | None = None,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    repeats: int = REPEATS,
    show: Callable[[str], None] | None = print,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure the engine, compiled gradient descent and a plain adaptive solver.

    On each case every method follows the flow to the same times, in turns, so that ratios are
    those of one run on one machine. The first call of each is apart: its excess over the median is
    compiling, or loading from a cache. Errors are taken to the engine at a tolerance of 1e-12,
    whose own distance from extrapolated gradient descent, which shares nothing with it, is stated.

    **Arguments:**

    - `names`: cases; all by default, or the first with `quick`.
    - `out`: a folder, in which `summary.json` is written; none by default.
    - `quick`: one repeat only.
    - `repeats`: calls of each method beside the first; times are their medians. A method that did
      not finish is not called again.
    - `show`: what the table is given to.
    - `progress`: called with a few words before each part.

    **Returns:** `machine`, `versions`, `repeats` and `cases`: for each its `rows` [{method,
    setting, seconds, compile_seconds, field_evaluations, weight_error, loss_error, finished,
    time_ratio, ...}], its `reference`, and `scales` [{log10_scale, field_evaluations, ...}] with
    the `bounds` they must keep.

    **Raises:** `PolarflowError` for an unknown case or fewer than one repeat.
    """
    chosen = tuple(CASES)[: 1 if quick else None] if names is None else tuple(names)
    repeats = 1 if quick else repeats
    for name in chosen:
        if name not in CASES:
            raise PolarflowError(f"bench: {name!r} is no case; allowed are {', '.join(CASES)}.")
    if repeats < 1:
        raise PolarflowError(f"bench: repeats is {repeats}; it must be at least 1.")
    say = progress or (lambda _: None)
    result = {
        "machine": _machine(),
        "versions": _versions(),
        "repeats": repeats,
        "cases": [_measure(CASES[name], repeats, say) for name in chosen],
    }
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".partial-{FILE}"
        partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)
    if show is not None:
        show(table(result))
    return result


def methods(case: Case) -> list[Method]:
    """The methods of a case; those from Diffrax only where it is installed."""
    chosen = [engine(RTOL), engine(1e-4), descent(case.step), descent(case.step / 10)]
    return chosen + ([tsit5(1e-4), tsit5(RTOL)] if has_diffrax() else [])


def _measure(case: Case, repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    problem = case.problem()
    rivals = methods(case)
    first: list[Outcome] = []
    for method in rivals:
        say(f"{case.name}: {method.name}, {method.setting}")
        first.append(method.follow(problem, case.times))
    say(f"{case.name}: reference")
    reference = engine(REFERENCE_RTOL).follow(problem, case.times)
    check = extrapolated_descent(case.step / 10)
    independent = check.follow(problem, case.times)
    seconds: list[list[float]] = [[] for _ in rivals]
    for turn in range(repeats):
        say(f"{case.name}: turn {turn + 1} of {repeats}")
        for method, outcome, times in zip(rivals, first, seconds, strict=True):
            if outcome.finished:
                times.append(method.follow(problem, case.times).seconds)
    rows = [
        _row(method, outcome, times or [outcome.seconds], reference)
        for method, outcome, times in zip(rivals, first, seconds, strict=True)
    ]
    ours = rows[0]
    for row in rows:
        row["time_ratio"] = row["seconds"] / ours["seconds"]
        row["evaluation_ratio"] = row["field_evaluations"] / ours["field_evaluations"]
    for row, method in zip(rows, rivals, strict=True):
        if method.name == "compiled GD":
            row["seconds_to_match"] = _to_match(row, ours)
    return {
        "name": case.name,
        "experiment": case.experiment,
        "times": list(case.times),
        "reference": {
            "method": "engine",
            "setting": f"rtol {REFERENCE_RTOL:.0e}",
            "independent": f"{check.name}, {check.setting}",
            **_errors(independent, reference),
        },
        "rows": rows,
        "not_installed": [] if has_diffrax() else ["Diffrax Tsit5 (extra: bench)"],
        **_scales(case, say),
    }


def _row(method: Method, first: Outcome, times: list[float], reference: Outcome) -> dict[str, Any]:
    seconds = median(times)
    return {
        "method": method.name,
        "setting": method.setting,
        "seconds": seconds,
        "fastest_seconds": min(times),
        "compile_seconds": max(0.0, first.seconds - seconds),
        "field_evaluations": first.field_evaluations,
        **_errors(first, reference),
        "finished": first.finished,
    }


def _errors(outcome: Outcome, reference: Outcome) -> dict[str, float | None]:
    """The largest differences of any weight and of the loss at the wanted times."""
    if not outcome.finished or outcome.weights.shape != reference.weights.shape:
        return {"weight_error": None, "loss_error": None}
    return {
        "weight_error": float(np.max(np.abs(outcome.weights - reference.weights))),
        "loss_error": float(np.max(np.abs(outcome.loss - reference.loss))),
    }


def _to_match(row: dict[str, Any], ours: dict[str, Any]) -> float | None:
    """Seconds that a first-order method needs for the engine's error in the weights."""
    error, wanted = row["weight_error"], ours["weight_error"]
    if not error or not wanted or error > 0.1:
        return None
    return float(row["seconds"] * max(1.0, error / wanted))


def _scales(case: Case, say: Callable[[str], None]) -> dict[str, Any]:
    from ..flow import Stop
    from ..solution import gradient_flow

    rows = []
    for decimal in case.decimals:
        say(f"{case.name}: scale 1e{decimal}")
        solution = gradient_flow(
            case.scaled(decimal), stop=Stop(loss=SCALE_STOP), rtol=RTOL, points=50
        )
        rows.append(
            {
                "log10_scale": decimal,
                "field_evaluations": solution.work.field_evaluations,
                "steps": solution.work.steps,
                "seconds": solution.work.seconds,
                "time": float(solution.final.time[-1]),
                "finished": solution.status == "ok",
            }
        )
    cost = {str(row["log10_scale"]): row["field_evaluations"] for row in rows}
    smallest = str(min(case.decimals))
    bounds = [
        {
            "statement": f"evaluations at 1e{smallest} over those at 1e{decimal}",
            "measured": cost[smallest] / cost[decimal],
            "bound": bound,
            "holds": cost[smallest] <= bound * cost[decimal],
        }
        for decimal, bound in SCALE_BOUNDS.items()
    ]
    return {"scale_stop": {"loss": SCALE_STOP, "rtol": RTOL}, "scales": rows, "bounds": bounds}


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    models = [line.split(":", 1)[1] for line in text.splitlines() if line.startswith("model name")]
    return models[0].strip() if models else platform.processor()


def _versions() -> dict[str, str]:
    libraries = ["polarflow", "numpy", "numba"]
    if has_diffrax():
        libraries += ["jax", "diffrax"]
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
