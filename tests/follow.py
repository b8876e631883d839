"""The engine on the random problems of `reference.problems`, and how far it is from a reference."""

import numpy as np
from reference.inclusion import Path
from reference.problems import Case

import polarflow as pf

LOSSES = {
    "square": pf.Square,
    "logistic": pf.Logistic,
    "exponential": pf.Exponential,
    "cross_entropy": pf.CrossEntropy,
    "correlation": pf.Correlation,
}


def problem(case: Case) -> pf.Problem:
    """The same problem in the words of polarflow."""
    activation = {0.0: "relu", -1.0: "abs"}.get(case.slope, "leaky_relu")
    several = {} if case.outputs == 1 else {"outputs": case.outputs}
    network = pf.TwoLayer(len(case.theta), activation, case.slope, **several)
    y = case.y[:, 0] if case.outputs == 1 else case.y
    if case.loss == "cross_entropy":
        y = np.argmax(case.y, axis=1)
    state = pf.block_state(case.log_scale, case.theta)
    loss = LOSSES[case.loss](case.reduction, case.scale)
    return pf.problem(pf.Data(case.x, y, False, "random"), network, state, loss=loss)


def follow(case: Case, rtol: float, branching: str = "off") -> pf.Solution:
    """The engine's flow, recorded at the case's times."""
    return pf.gradient_flow(
        problem(case),
        stop=pf.Stop(time=case.times[-1]),
        rtol=rtol,
        branching=branching,
        record_times=list(case.times),
    )


def error(solution: pf.Solution, path: Path) -> float:
    """The largest error of a neuron relative to its own norm, over neurons and times."""
    recorded = solution.recorded
    factor = np.exp(recorded.log_norm - path.log_norm())
    mine = factor[..., None] * recorded.direction
    exact = path.theta / np.sqrt((path.theta**2).sum(-1, keepdims=True))
    return float(np.sqrt(((mine - exact) ** 2).sum(-1)).max())


def counts(solution: pf.Solution) -> tuple[int, int, int]:
    """Crossings, entries into slides, branchings."""
    events = solution.events
    return events.crossings, events.slides, events.branchings


def reference_counts(path: Path) -> tuple[int, int, int]:
    return path.count("cross"), path.count("slide"), path.count("branch")
