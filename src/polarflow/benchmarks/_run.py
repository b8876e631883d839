"""Measuring: all methods on one problem in turns, and how the engine's cost grows."""

import json
import os
import platform
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PolarflowError
from ..losses import MarginLoss
from ..networks import TwoLayer
from ._cases import CASES, Case
from ._methods import (
    Budget,
    Method,
    Outcome,
    adaptive,
    descent,
    descent_by_loss,
    engine,
    extrapolated_descent,
    has_torch,
    torch_descent,
)
from ._peak import peak
from ._scaling import SCALINGS
from ._scaling import measure as measure_scaling
from ._table import table

if TYPE_CHECKING:
    from ..flow import Problem

REPEATS = 5
AGAIN = 3.0
"""A method is called again until it has had its repeats, or so many seconds in all."""
WHOLE, PART = 120.0, 10.0
"""Budgets in seconds of methods with steps of fixed cost; PyTorch has a quarter of the first."""
QUICK_WHOLE, QUICK_PART = 4.0, 1.0
QUICK_CHECK = 1e8
"""The quick form leaves out a check whose iterations times width are more."""
QUICK = ("two-points", "width", "squared-relu-late", "cost-scale")
FILE = "summary.json"
FIRST_ORDER = ("compiled GD", "GD on ln loss")


def names() -> tuple[str, ...]:
    """The names of the cases, and of the families whose cost is followed."""
    return (*CASES, *SCALINGS)


def run(
    names: Iterable[str] | None = None,
    out: str | Path | None = None,
    *,
    quick: bool = False,
    repeats: int = REPEATS,
    show: Callable[[str], None] | None = print,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure the engine against gradient descent and adaptive solvers, and how its cost grows.

    On each case every method follows the flow to the same times, in turns, so that ratios are
    those of one run on one machine; compiling is apart. A method with steps of fixed cost that
    would take minutes is measured on a part of its steps and scaled to the whole; an adaptive
    solver is stopped after a number of field evaluations. Errors are taken to the engine at a
    tighter tolerance, whose distance from gradient descent extrapolated to step zero,
    which shares nothing with it, is stated.

    **Arguments:**

    - `names`: among `names()`; all by default, with `quick` a few.
    - `out`: a folder for `summary.json` and `figures/`; none by default.
    - `quick`: about a minute: small budgets, one call of each method.
    - `repeats`: calls of each method; times are their medians. Slow ones are called less often.
    - `show`: what the table is given to.
    - `progress`: called with a few words before each part.

    **Returns:** `machine`, `versions`, `repeats`, `seconds` and `cases`: for each its `rows`
    [{method, setting, seconds, compile_seconds, field_evaluations, measured_evaluations, whole,
    weight_error, loss_error, finished, time_ratio, ...}] and its `reference`; `scalings`: for each
    `rows` [{size, seconds, field_evaluations, ...}], the fitted `exponents` and the `bounds` that
    the evaluations must keep; `figures`, paths relative to `out`.

    **Raises:** `PolarflowError` for an unknown name or fewer than one repeat.
    """
    known = (*CASES, *SCALINGS)
    chosen = (QUICK if quick else known) if names is None else tuple(names)
    for name in chosen:
        if name not in known:
            raise PolarflowError(f"bench: {name!r} is no case; allowed are {', '.join(known)}.")
    if repeats < 1:
        raise PolarflowError(f"bench: repeats is {repeats}; it must be at least 1.")
    say = progress or (lambda _: None)
    begin = perf_counter()
    repeats = 1 if quick else repeats
    cases = [_measure(CASES[name], repeats, quick, say) for name in chosen if name in CASES]
    scalings = [measure_scaling(SCALINGS[name], quick, say) for name in chosen if name in SCALINGS]
    result: dict[str, Any] = {
        "machine": _machine(),
        "versions": _versions(),
        "quick": quick,
        "repeats": repeats,
        "seconds": perf_counter() - begin,
        "cases": cases,
        "scalings": scalings,
        "figures": [],
    }
    if out is not None:
        from ._drawing import draw

        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        result["figures"] = [str(p.relative_to(folder)) for p in draw(result, folder / "figures")]
        partial = folder / f".partial-{FILE}"
        partial.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)
    if show is not None:
        show(table(result))
    return result


def methods(case: Case, quick: bool) -> list[Method]:
    """The methods of a case, the engine's row that ratios are taken to first."""
    budget = Budget(QUICK_WHOLE, QUICK_PART) if quick else Budget(WHOLE, PART)
    torch_budget = Budget(QUICK_WHOLE, QUICK_PART) if quick else Budget(WHOLE / 4, PART)
    cap = case.cap // 10 if quick else case.cap
    chosen = [engine(rtol) for rtol in dict.fromkeys((case.rtol, *case.more_rtols))]
    chosen.append(descent(case.step, budget))
    chosen += [descent_by_loss(step, budget) for step in case.by_loss]
    if case.finer:
        chosen.append(descent(case.step / 10, budget))
    problem = case.build()
    kinks = isinstance(problem.network, TwoLayer)
    if kinks and gram_is_smaller(problem):
        chosen.append(descent(case.step, budget, "examples"))
    if kinks and has_torch():
        chosen += [torch_descent(case.step, torch_budget, p) for p in ("single", "double")]
    return [*chosen, adaptive("tsit5", case.rtol, cap), adaptive("cvode", case.rtol, cap)]


def gram_is_smaller(problem: "Problem") -> bool:
    """Whether products with the Gram matrix are fewer operations than those with the inputs."""
    n, d = problem.data.x.shape
    return bool(8 < n < 2 * d)


def _measure(case: Case, repeats: int, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    problem = case.build()
    kinks = isinstance(problem.network, TwoLayer)
    rivals = methods(case, quick)
    compiling: list[float] = []
    first: list[Outcome] = []
    for method in rivals:
        say(f"{case.name}: {method.name}, {method.setting}")
        begin = perf_counter()
        method.prepare(problem, case.times)
        compiling.append(perf_counter() - begin)
        first.append(method.follow(problem, case.times))
        compiling[-1] += first[-1].compile_seconds
    reference, check = _reference(case, quick, say)
    seconds = [[outcome.seconds] for outcome in first]
    for turn in range(1, repeats):
        say(f"{case.name}: turn {turn + 1} of {repeats}")
        for method, outcome, times in zip(rivals, first, seconds, strict=True):
            if outcome.finished and outcome.whole and sum(times) < AGAIN:
                times.append(method.follow(problem, case.times).seconds)
    rows = [
        _row(problem, method, outcome, times, compiled, reference)
        for method, outcome, times, compiled in zip(rivals, first, seconds, compiling, strict=True)
    ]
    ours = rows[0]
    for row in rows:
        row["time_ratio"] = row["seconds"] / ours["seconds"]
        row["evaluation_ratio"] = row["field_evaluations"] / ours["field_evaluations"]
        if row["method"] in FIRST_ORDER:
            row["seconds_to_match"] = _to_match(row, ours)
    return {
        "name": case.name,
        "source": case.source,
        "times": list(case.times),
        "reference": {"method": "engine", "setting": f"rtol {case.reference_rtol:.0e}", **check},
        "rows": rows,
        "relative": isinstance(problem.loss, MarginLoss),
        "not_installed": [] if has_torch() or not kinks else ["PyTorch GD"],
        "memory": peak(case.name) if case.memory else None,
    }


def _reference(
    case: Case, quick: bool, say: Callable[[str], None]
) -> tuple[Outcome, dict[str, Any]]:
    """The engine at a tight tolerance, and its distance from extrapolated gradient descent."""
    say(f"{case.name}: reference")
    problem = case.build()
    reference = engine(case.reference_rtol).follow(problem, case.times)
    steps = 3.0 * case.times[-1] / (case.check_step or 1.0)
    if case.check_rtol is not None:
        check = adaptive("tsit5", case.check_rtol, case.cap)
    elif case.check_step is None or (quick and steps * problem.initial.blocks > QUICK_CHECK):
        return reference, {"independent": None, "weight_error": None, "loss_error": None}
    else:
        gram = isinstance(problem.network, TwoLayer) and gram_is_smaller(problem)
        check = extrapolated_descent(
            8.0 * case.check_step if quick and gram else case.check_step,
            "examples" if gram else "weights",
        )
    independent = check.follow(problem, case.times)
    return reference, {
        "independent": f"{check.name}, {check.setting}",
        **_errors(problem, independent, reference),
    }


def _row(
    problem: "Problem",
    method: Method,
    first: Outcome,
    times: list[float],
    compiling: float,
    reference: Outcome,
) -> dict[str, Any]:
    return {
        "method": method.name,
        "setting": method.setting,
        "seconds": median(times),
        "fastest_seconds": min(times),
        "calls": len(times),
        "compile_seconds": compiling,
        "field_evaluations": first.field_evaluations,
        "measured_evaluations": first.measured,
        "whole": first.whole,
        **_errors(problem, first, reference),
        "finished": first.finished,
        "note": first.note,
    }


def _errors(problem: "Problem", outcome: Outcome, reference: Outcome) -> dict[str, float | None]:
    """The largest differences of any weight and of the loss at the wanted times.

    For a loss of classification they are relative: of w/|w|, and of the loss's logarithm.
    """
    missing: dict[str, float | None] = {"weight_error": None, "loss_error": None}
    if outcome.weights is None or reference.weights is None:
        return missing
    assert outcome.loss is not None and reference.loss is not None
    ours, exact, scale = outcome.weights, reference.weights, np.ones(len(reference.loss))
    if isinstance(problem.loss, MarginLoss):
        ours, exact = (w / np.linalg.norm(w, axis=(1, 2), keepdims=True) for w in (ours, exact))
        scale = np.abs(reference.loss)
    weights = float(np.max(np.abs(ours - exact)))
    loss = float(np.max(np.abs(outcome.loss - reference.loss) / scale))
    return {"weight_error": weights, "loss_error": loss} if np.isfinite(weights) else missing


def _to_match(row: dict[str, Any], ours: dict[str, Any]) -> float | None:
    """Seconds that a first-order method needs for the engine's error in the weights."""
    error, wanted = row["weight_error"], ours["weight_error"]
    if not error or not wanted or error > 0.1:
        return None
    return float(row["seconds"] * max(1.0, error / wanted))


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
    libraries = ["polarflow", "numpy", "numba", "jax", "diffrax", "scikit-sundae"]
    if has_torch():
        libraries.append("torch")
    return {"python": platform.python_version(), **{name: version(name) for name in libraries}}
