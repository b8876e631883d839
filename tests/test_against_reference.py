"""The engine against independent event-located solvers in 80-bit arithmetic.

The references (tests/reference) share neither code nor method with the engine: Gauss collocation,
every event cutting the step, in polar coordinates (`located`, balanced ReLU flows) or in scaled
plain ones with faces enumerated (`inclusion`, every kind). tests/convergence.py makes the table
of docs/trust.md.
"""

import numpy as np
import pytest
from follow import counts, error, follow, reference_counts
from reference.arrangement import Arrangement, distance_to_hull
from reference.located import solve
from reference.problems import KINDS, LONG, case

import polarflow as pf
from polarflow.flow.kinks._pencil import outside


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


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in KINDS],
)
def test_every_kind_of_problem(name: str) -> None:
    checked = 0
    for seed in range(1 if name in LONG else 2):
        random = case(seed, **KINDS[name])
        path = random.reference()
        if path.count("branch"):
            continue
        solution = follow(random, 1e-10)
        assert solution.status == "ok"
        assert error(solution, path) < 2e-9
        assert counts(solution) == reference_counts(path)
        exact = path.loss.astype(float)
        np.testing.assert_allclose(solution.recorded.loss, exact, rtol=1e-8)
        checked += 1
    assert checked > 0


def test_a_neuron_held_where_three_kinks_share_a_line_is_let_go_in_time() -> None:
    """Of three kinks through a line six patterns exist, not eight: their hull is less than the box.

    One of the three is convex. The neuron was held until the box of one choice of its side let go,
    and was off by 5e-5 at any tolerance.
    """
    settings: dict = {**KINDS["three kinks on a line"], "m": 12, "log10_scale": -1.0}
    random = case(9, **{**settings, "times": (4.0, 10.0)})
    path = random.reference()
    let_go = [event for event in path.events if event[1:] in ((4, 4, "leave"), (4, 5, "leave"))]
    assert len(let_go) == 2 and (path.side[0, 4, 3:] == 0).all()
    solution = follow(random, 1e-10)
    assert error(solution, path) < 1e-9
    assert counts(solution) == reference_counts(path)


@pytest.mark.parametrize("seed", [4, 5])
def test_a_slide_that_an_event_of_another_neuron_ends_ends_in_time(seed: int) -> None:
    """A large neuron meets the hyperplane of an example with the label zero: what holds others
    beside it changes its sign, which the series of the residual doesn't know."""
    problem = case(seed, **KINDS["a zero label"])
    path = problem.reference()
    for rtol in (1e-5, 1e-6):
        assert error(follow(problem, rtol), path) < rtol


def test_the_hull_of_the_sectors_is_that_of_the_enumerated_cells() -> None:
    rng = np.random.default_rng(5)
    found = set()
    for trial in range(200):
        k = 3 + trial % 3
        flat = rng.standard_normal((k, 2))
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        base, pull = rng.standard_normal(2), rng.standard_normal(k)
        on = rng.integers(0, 2, k).astype(float)
        cells = Arrangement(flat).cells(tuple(range(k)))
        points = base + (((cells > 0) - on) * pull) @ flat
        apart = outside(base, pull, on, flat, np.empty((2 * k, 2)))
        away = distance_to_hull(points) > 1e-9
        assert (apart > 0.0) == away
        if away:  # the distance itself, by the nearest point of all segments
            low, high = points[:, None], points[None, :]
            along = high - low
            square = np.maximum((along**2).sum(-1, keepdims=True), 1e-300)
            part = np.clip(-(low * along).sum(-1, keepdims=True) / square, 0.0, 1.0)
            least = np.linalg.norm(low + part * along, axis=-1).min()
            np.testing.assert_allclose(apart, least, rtol=1e-9)
        found.add(away)
    assert found == {True, False}


@pytest.mark.parametrize(
    "name", ["Gaussian, n > d", "leaky, opposite inputs", "labels of one sign"]
)
def test_the_error_is_proportional_to_the_tolerance(name: str) -> None:
    cases = [case(seed, **KINDS[name]) for seed in (2, 3)]
    paths = [c.reference() for c in cases]
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        worst = max(error(follow(c, rtol), p) for c, p in zip(cases, paths, strict=True))
        assert worst < 10 * rtol
    assert worst > 1e-13
