"""The engine against an independent event-located solver in 80-bit arithmetic.

The reference (tests/reference/located.py) shares neither code nor method with the engine: Gauss
collocation in polar coordinates, every event cutting the step.
"""

import numpy as np
import pytest
from reference.located import solve

import polarflow as pf


def compare(
    problem: pf.Problem, times: list[float], rtol: float, count_events: bool = False
) -> tuple[float, float, float]:
    """Largest errors of the weights, of the log-norms, and of |r| relative to that of y."""
    solution = pf.gradient_flow(
        problem, stop=pf.Stop(time=times[-1]), rtol=rtol, record_times=times
    )
    assert solution.status == "ok"
    initial = problem.initial
    w = np.asarray(initial.direction[:, 1:], dtype=np.longdouble)
    size = np.sqrt((w * w).sum(axis=1))
    exact = solve(
        problem.data.x,
        problem.data.y,
        np.sign(initial.direction[:, 0]),
        initial.log_norm - np.log(np.longdouble(2.0)) / 2,
        w / size[:, None],
        problem.loss.factor(problem.data.examples),
        times,
    )
    if count_events:
        kinds = [event[3] for event in exact["events"]]
        assert solution.events.crossings == kinds.count("cross")
        assert solution.events.slides == kinds.count("slide")
    measured = solution.recorded
    norm = np.exp(exact["log_w"])
    weights = norm[:, :, None] * exact["u"]
    mine = measured.weights()[:, :, 1:]
    log_w = measured.log_norm - 0.5 * np.log(2.0)
    unit = np.sqrt(problem.loss.value(np.zeros_like(problem.data.y), problem.data.y))
    return (
        float(np.abs(mine - weights).max()),
        float(np.abs(log_w - exact["log_w"]).max()),
        float(np.abs(np.sqrt(measured.loss) - np.sqrt(exact["loss"])).max() / unit),
    )


def on_a_line(x: list[float], y: list[float], scale: float, seed: int) -> pf.Problem:
    data = pf.Data.from_arrays(np.array(x)[:, None], y, bias=True)
    network = pf.TwoLayer(60)
    initial = pf.balanced(network, 2, scale=scale / 60**0.5, seed=seed)
    return pf.problem(data, network, initial, loss=pf.Square("mean", 2.0))


@pytest.mark.parametrize(
    ("scale", "end", "seed"), [(1e-6, 15.0, 0), (1e-6, 15.0, 3), (1e-40, 95.0, 1)]
)
def test_two_points(scale: float, end: float, seed: int) -> None:
    problem = on_a_line([-0.5, 2.0], [-1.0, 1.0], scale, seed)
    times = [1.0, 0.4 * end, 0.6 * end, end]
    weights, log_norms, residual = compare(problem, times, 1e-10)
    assert weights < 1e-9 and log_norms < 1e-9 and residual < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_five_points(seed: int) -> None:
    problem = on_a_line([-1.5, -1.0, 0.0, 0.25, 2.0], [0.7, -0.3, -0.3, 0.4, 0.2], 1e-4, seed)
    weights, log_norms, residual = compare(problem, [10.0, 30.0, 60.0, 100.0], 1e-10)
    assert weights < 1e-9 and log_norms < 1e-8 and residual < 1e-9


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n", "d"), [(4, 5), (8, 3), (6, 2)])
def test_random_problems(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng([seed, n, d])
    y = rng.standard_normal(n)
    if seed == 1:
        y = np.abs(y)
    if seed == 2:
        y[0] = 0.0
    data = pf.Data(rng.standard_normal((n, d)), y, False, "random")
    network = pf.TwoLayer(12)
    problem = pf.problem(data, network, pf.balanced(network, d, scale=1e-3, seed=seed))
    weights, log_norms, residual = compare(problem, [2.0, 8.0, 20.0], 1e-10)
    # Once the data are fitted to rounding, multipliers are noise: events count before that.
    compare(problem, [6.0], 1e-10, count_events=True)
    assert weights < 1e-9 and log_norms < 1e-8 and residual < 1e-9
