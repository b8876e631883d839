"""Running an experiment: the flow, gradient descent beside it, claims, figures, summary."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PolarflowError
from ._base import RTOL, Evidence, Experiment
from ._registry import experiment

if TYPE_CHECKING:
    from .. import Progress

FIGURES = "figures"
POINTS = 800
DESCENT_RECORDS = 2000
COMPARED = 400


def reproduce(
    name: str,
    out: str | Path,
    quick: bool = False,
    progress: "Callable[[Progress], None] | None" = None,
) -> dict[str, Any]:
    """Reproduce a published figure and measure what the paper says of it.

    Figures are written to `out/figures` as PDF and PNG, with a film beside them.

    **Arguments:**

    - `name`: one of `names()`.
    - `out`: an existing or new folder.
    - `quick`: leave out the film.
    - `progress`: called by the engine now and then.

    **Returns:** the summary: `name`, `paper`, `parameters` (the seed among them), `claims`
    [{name, statement, measured, bound, relation, holds, reason}], `deviations` [{name, printed,
    found, evidence}], `comparison` with gradient descent, `work`, and `figures`, paths relative to
    `out`.

    **Raises:** `PolarflowError` for an unknown name, or if the flow could not go on.
    """
    chosen = experiment(name)
    evidence = gather(chosen, progress)
    claims = [measure(evidence).to_dict() for measure in chosen.claims]
    deviations = [found.to_dict() for find in chosen.deviations if (found := find(evidence))]
    paths = chosen.draw(evidence, Path(out) / FIGURES, quick)
    return {
        "name": chosen.name,
        "title": chosen.title,
        "paper": chosen.paper,
        "parameters": parameters(chosen, evidence.seed),
        "claims": claims,
        "deviations": deviations,
        "comparison": compare(evidence),
        "work": evidence.solution.summary()["work"],
        "figures": [str(path.relative_to(out)) for path in paths],
    }


def gather(chosen: Experiment, progress: "Callable[[Progress], None] | None" = None) -> Evidence:
    """Follow the flow of an experiment, and gradient descent with the paper's step.

    **Raises:** `PolarflowError` if the flow could not go on; `KeyboardInterrupt` if it was
    interrupted.
    """
    from .. import Stop, gradient_flow
    from ..comparators import gradient_descent

    setting = chosen.setting
    seed = setting.seed()
    problem = setting.problem(seed)
    solution = gradient_flow(
        problem,
        stop=Stop(time=setting.times[-1]),
        rtol=RTOL,
        record_times=setting.times,
        points=POINTS,
        progress=progress,
    )
    if solution.status == "interrupted":
        raise KeyboardInterrupt
    if solution.status != "ok":
        raise PolarflowError(f"{chosen.name}: {solution.message}")
    record = np.linspace(0, setting.iterations, DESCENT_RECORDS + 1).round().astype(int)
    descent = gradient_descent(
        problem, setting.step, setting.iterations, [*record.tolist(), *setting.frames]
    )
    return Evidence(setting, seed, problem, solution, descent)


def parameters(chosen: Experiment, seed: int) -> dict[str, Any]:
    """The parameters in words and numbers, the choices that the paper leaves open among them."""
    setting = chosen.setting
    data = setting.problem(seed).data
    return {
        "data": setting.data,
        "x": data.x[:, :-1].tolist(),
        "y": data.y.tolist(),
        "bias": True,
        "width": setting.width,
        "initial_scale": setting.initial_scale,
        "initialisation": f"balanced, lambda = {setting.scale:g}/sqrt({setting.width})",
        "loss": "mean squared error without one half",
        "step": setting.step,
        "iterations": setting.iterations,
        "frames": list(setting.frames),
        "time": setting.times[-1],
        "rtol": RTOL,
        "seed": seed,
        "seed_criterion": "the first seed from 0 for which S_{+,1} and S_{-,1} are not empty",
    }


def compare(evidence: Evidence) -> list[dict[str, Any]]:
    """How far gradient descent is from the flow, with the paper's step and with a tenth of it."""
    times = evidence.descent.trajectory.time
    chosen = np.flatnonzero(times <= evidence.solution.trajectory.time[-1])
    chosen = chosen[:: max(1, len(chosen) // COMPARED)]
    flow = evidence.solution.evaluate(times[chosen])
    result = []
    for descent in (evidence.descent, evidence.finer_descent):
        loss = np.abs(flow.loss - descent.trajectory.loss[chosen])
        prediction = np.abs(flow.prediction - descent.trajectory.prediction[chosen])
        result.append(
            {
                "method": "gradient descent in float64 from the same weights",
                "step": descent.step,
                "largest_loss_difference": float(loss.max()),
                "at_time": float(times[chosen][np.argmax(loss)]),
                "largest_prediction_difference": float(prediction.max()),
            }
        )
    return result
