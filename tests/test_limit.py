"""The path in the limit of vanishing initialisation against closed forms and against flows."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

import polarflow as pf
from polarflow import comparators
from polarflow.comparators import least_variation_norm, orthogonal_variation_norm
from polarflow.data import Data, named
from polarflow.experiments.boursier_2022._high_dimension import SETTING as HIGH
from polarflow.flow import Problem
from polarflow.limit import refine, saddle_path
from polarflow.networks import BlockState, Diagonal, balanced, block_state, gaussian

HIGH_SMALL = replace(HIGH, examples=20, dimension=40, width=40)


def start(data: Data, width: int, seed: int = 0, scale: float = 1e-6, **kwargs) -> Problem:
    network = pf.TwoLayer(width, **kwargs)
    return pf.problem(data, network, balanced(network, data.dimension, scale=scale, seed=seed))


def scaled(problem: Problem, log_scale: float) -> Problem:
    """All initial weights multiplied by exp(log_scale)."""
    state = problem.initial
    return replace(problem, initial=BlockState(state.log_norm + log_scale, state.direction))


def leaving_times(problem: Problem, losses: list[float]) -> np.ndarray:
    """The times at which a flow is half-way, in the loss, from one level to the next."""
    halves = [0.5 * (a + b) for a, b in zip(losses, losses[1:], strict=False)]
    times = []
    for half in halves:
        end = pf.gradient_flow(problem, stop=pf.Stop(loss=half), rtol=1e-9, points=2)
        assert end.stop_reason == "loss"
        times.append(float(end.final.time[0]))
    return np.array(times)


def placed(n: int, y: np.ndarray, orthonormal: np.ndarray) -> Problem:
    """Orthonormal data with a fully active neuron of each sign, and some others."""
    rng = np.random.default_rng([n, 8])
    w = rng.standard_normal((6, n))
    w[:2] = np.abs(w[:2])
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    sign = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    direction = np.concatenate([sign[:, None], w @ orthonormal], axis=1) / np.sqrt(2.0)
    state = block_state(rng.uniform(-1.0, 1.0, 6), direction)
    return pf.problem(Data(orthonormal, y), pf.TwoLayer(6), state)


@pytest.fixture(scope="module")
def orthonormal() -> Problem:
    rng = np.random.default_rng(4)
    x = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    return placed(5, np.array([1.0, -0.7, 0.8, -0.4, 0.6]), x)


def test_orthonormal_data_follow_the_phases_of_the_paper(orthonormal: Problem) -> None:
    # Boursier et al. (2022), lemmas 2-5, as lambda -> 0.
    y, n = orthonormal.data.y, 5
    plus, minus = (np.linalg.norm(y[s * y > 0]) / n for s in (1.0, -1.0))
    path = saddle_path(orthonormal)
    assert path.complete and not path.ties
    np.testing.assert_allclose(path.escape_rates, [1.0 / plus, 1.0 / minus], rtol=1e-12)
    losses = [s.rest.loss for s in path.saddles]
    expected = [np.sum(y**2) / (2 * n), np.sum(y[y < 0] ** 2) / (2 * n), 0.0]
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-25)
    assert all(s.rest.grad_norm < 1e-12 for s in path.saddles)
    assert all(s.kkt_residual is None or s.kkt_residual < 1e-12 for s in path.saddles)
    square = path.summary()["final"]["param_norm"] ** 2
    np.testing.assert_allclose(square, 2 * n * (plus + minus), rtol=1e-10)
    np.testing.assert_allclose(
        square, 2 * orthogonal_variation_norm(orthonormal.data.x, y), rtol=1e-10
    )


def test_leaving_times_converge_to_the_coefficients(orthonormal: Problem) -> None:
    # t_k / (-ln delta) - c_k = O(1 / (-ln delta)): the numerator is a constant to 1e-6.
    path = saddle_path(orthonormal)
    losses = [s.rest.loss for s in path.saddles]
    logs = np.log(10.0) * np.array([10.0, 30.0, 100.0, 1000.0])
    times = np.array([leaving_times(scaled(orthonormal, -log), losses) for log in logs])
    error = times / logs[:, None] - path.escape_rates
    constant = error * logs[:, None]
    np.testing.assert_allclose(constant[1:], np.tile(constant[-1], (3, 1)), atol=1e-5)
    assert (np.abs(error[-1]) < 5e-3).all()


@pytest.mark.parametrize("name", ["two-points", "five-points"])
def test_toy_data_leave_their_saddles_when_the_path_says(name: str) -> None:
    problem = start(named(name), 60)
    path = saddle_path(problem)
    losses = [s.rest.loss for s in path.saddles]
    early, late = (leaving_times(scaled(problem, -log), losses) for log in (300.0, 600.0))
    np.testing.assert_allclose((late - early) / 300.0, path.escape_rates, rtol=1e-6)


@pytest.mark.parametrize("kwargs", [{}, {"activation": "leaky_relu", "slope": 0.2}])
def test_random_data_leave_their_saddles_when_the_path_says(kwargs: dict) -> None:
    rng = np.random.default_rng(21)
    data = Data(rng.standard_normal((4, 3)), rng.standard_normal(4))
    problem = start(data, 30, **kwargs)
    path = saddle_path(problem)
    losses = [s.rest.loss for s in path.saddles]
    assert len(losses) > 2 and (np.diff(losses) < 0).all()
    early, late = (leaving_times(scaled(problem, -log), losses) for log in (500.0, 1000.0))
    np.testing.assert_allclose((late - early) / 500.0, path.escape_rates, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_unbalanced_neurons_leave_their_saddles_when_the_path_says(seed: int) -> None:
    # Some have |a| < |w|, and change the sign of a while they align.
    rng = np.random.default_rng(123)
    data = Data(rng.standard_normal((8, 3)), rng.standard_normal(8))
    network = pf.TwoLayer(40, "leaky_relu", 0.3)
    problem = pf.problem(data, network, gaussian(network, 3, scale=1e-6, seed=seed))
    path = saddle_path(problem)
    assert path.complete
    losses = [s.rest.loss for s in path.saddles]
    early, late = (leaving_times(scaled(problem, -log), losses) for log in (1000.0, 2000.0))
    np.testing.assert_allclose((late - early) / 1000.0, path.escape_rates, rtol=1e-4)


@pytest.mark.parametrize("label", [1e-2, 1e-4])
def test_a_neuron_leaves_however_slowly_it_grows(label: float) -> None:
    # One input has two labels, so that the residual stays large; |D_-| = label / n.
    x = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    path = saddle_path(start(Data(x, np.array([1.2, -1.0, 0.5, -label])), 80, seed=1))
    assert path.complete and len(path.saddles) == 3
    np.testing.assert_allclose(path.escape_rates[1], 4.0 / label, rtol=1e-9)
    np.testing.assert_allclose(path.end.loss, 2.0 * 1.1**2 / 8.0, rtol=1e-12)


def test_a_loss_without_rest_points_has_no_path() -> None:
    problem = replace(start(Data(np.eye(2), np.ones(2)), 4), loss=pf.Correlation())
    with pytest.raises(pf.PolarflowError, match=r"loss\.kind"):
        saddle_path(problem)


def test_the_path_in_high_dimension_is_complete_and_flows_keep_to_it() -> None:
    # The data of figures 6 and 7 of Boursier et al.: tens of kinks under every neuron.
    problem = HIGH.problem(HIGH.seed())
    path = saddle_path(problem)
    assert path.complete and not path.notes and len(path.saddles) > 4
    assert all(s.rest.grad_norm < 1e-14 for s in path.saddles)
    assert all(s.kkt_residual < 1e-12 for s in path.saddles[:-1])
    small = HIGH_SMALL.problem(4)
    path = saddle_path(small)
    assert path.complete and len(path.saddles) > 3
    losses = [s.rest.loss for s in path.saddles]
    start = small.initial.log_norm.max()
    early, late = (leaving_times(scaled(small, -log - start), losses) for log in (400.0, 800.0))
    np.testing.assert_allclose((late - early) / 400.0, path.escape_rates, rtol=1e-5)


@pytest.mark.slow
def test_a_saddle_that_is_left_soon_needs_a_small_start() -> None:
    # It is left 0.0236 (-ln delta) after the origin: at e^-1000 the flow is not at rest there yet.
    problem = HIGH_SMALL.problem(3)
    path = saddle_path(problem)
    start = problem.initial.log_norm.max()
    flows = [
        pf.gradient_flow(
            scaled(problem, -log - start), stop=pf.Stop(grad_norm=1e-10, time=1e3 * log), rtol=1e-9
        )
        for log in (1e4, 1e5)
    ]
    for flow in flows:
        losses = [s.loss for s in flow.saddles[:-1]]
        np.testing.assert_allclose(losses, [s.rest.loss for s in path.saddles[:-1]], rtol=1e-9)
    left = [np.array([s.time_leave for s in flow.saddles[:-1]]) for flow in flows]
    errors = [t / log - path.escape_rates for t, log in zip(left, (1e4, 1e5), strict=True)]
    np.testing.assert_allclose(errors[1] / errors[0], 0.1, rtol=2e-2)
    entry = path.saddles[2].to_dict()
    assert entry["next_exponent"] is None or entry["next_exponent"] < 0.0


def test_equal_growth_rates_are_a_tie() -> None:
    problem = placed(2, np.array([1.0, -1.0]), np.eye(2))
    path = saddle_path(problem)
    assert len(path.ties) == 1 and path.ties[0].saddle == 0
    assert len(path.ties[0].blocks) == 2
    np.testing.assert_allclose(path.escape_rates, [2.0], rtol=1e-12)


def test_three_points_end_in_a_minimum_that_is_not_global() -> None:
    data = named("three-points")
    problem = start(data, 60)
    path = saddle_path(problem)
    assert path.complete and path.end.loss > 0.01
    assert path.end.grad_norm < 1e-12
    assert (path.saddles[-1].growth <= 0.0).all()
    best = least_variation_norm(data, pf.TwoLayer(60))
    assert best.exact and abs(best.gap) < 1e-10 * best.value
    assert problem.loss.value(best(data.x), data.y) < 1e-20
    # It has no more neurons than the network that got stuck.
    assert len(best.mass) <= 60


def test_a_rest_point_is_refined_to_rounding_and_its_kernel_counted() -> None:
    problem = start(named("five-points"), 60)
    saddle = saddle_path(problem).saddles[1].rest
    rng = np.random.default_rng(0)
    blurred = saddle.state.direction + 1e-5 * rng.standard_normal(saddle.state.direction.shape)
    blurred /= np.linalg.norm(blurred, axis=1, keepdims=True)
    log_norm = saddle.state.log_norm + 1e-5 * rng.standard_normal(60)
    again = refine(problem, BlockState(log_norm, blurred), saddle.active, on_kink=1e-3)
    assert again.grad_norm < 1e-14
    np.testing.assert_allclose(again.loss, saddle.loss, rtol=1e-8)
    # Three neurons of two weights and an output weight, one of whose products is determined.
    assert saddle.index == 0 and len(saddle.spectrum) == saddle.kernel + np.sum(
        saddle.spectrum > 1e-9 * saddle.spectrum[-1]
    )


def least_l1(x: np.ndarray, y: np.ndarray) -> float:
    return float(linprog(np.ones(2 * x.shape[1]), A_eq=np.hstack([x, -x]), b_eq=y).fun)


def diagonal(x: np.ndarray, y: np.ndarray, depth: int, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    direction = rng.uniform(0.5, 1.0, (x.shape[1], 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    state = block_state(rng.uniform(-0.3, 0.3, x.shape[1]), direction)
    return Problem(Data(x, y), Diagonal(depth), state, pf.Square())


def test_diagonal_networks_on_orthogonal_columns_learn_one_coefficient_after_the_other() -> None:
    x = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 4)))[0]
    coefficient = np.array([1.5, -0.8, 0.3, -2.0])
    path = saddle_path(diagonal(x, x @ coefficient, 2))
    # |beta_j| leaves at 1 / (2 |g_j|) with g_j = beta_j / n.
    order = np.argsort(-np.abs(coefficient))
    np.testing.assert_allclose(path.escape_rates, 3.0 / np.abs(coefficient[order]), rtol=1e-12)
    assert [s.leaving[0] for s in path.saddles[:-1]] == order.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_diagonal_networks_end_in_the_interpolant_of_least_l1_norm(seed: int) -> None:
    rng = np.random.default_rng([seed, 31])
    x, y = rng.standard_normal((5, 9)), rng.standard_normal(5)
    path = saddle_path(diagonal(x, y, 2))
    assert path.complete
    found = np.sum(np.exp(2.0 * path.end.state.log_norm))
    np.testing.assert_allclose(found, least_l1(x, y), rtol=1e-9)
    assert path.end.loss < 1e-25 and (np.diff(path.escape_rates) > 0).all()


@pytest.mark.parametrize("depth, scales", [(2, (1e-15, 1e-30)), (3, (1e-3, 1e-4))])
def test_diagonal_networks_leave_their_saddles_when_the_path_says(
    depth: int, scales: tuple[float, float]
) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((3, 4)), rng.standard_normal(3)
    problem = diagonal(x, y, depth)
    path = saddle_path(problem)
    losses = np.array([s.rest.loss for s in path.saddles])
    weights = problem.initial.weights().T.reshape(-1)
    sign = np.repeat([1.0, -1.0], 4)
    errors = []
    for scale in scales:
        unit = -np.log(scale) if depth == 2 else scale ** (2 - depth)

        def speed(t: float, log_size: np.ndarray) -> np.ndarray:
            part = sign * np.exp(depth * log_size)
            force = np.tile(x.T @ (y - x @ (part[:4] + part[4:])) / 3, 2)
            return depth * np.exp((depth - 2) * log_size) * sign * force

        end = 1.1 * unit * path.escape_rates[-1]
        followed = solve_ivp(
            speed, (0, end), np.log(scale * weights), method="LSODA", rtol=1e-8, atol=1e-8,
            max_step=2.0 if depth == 2 else np.inf,
        )  # fmt: skip
        part = np.exp(depth * followed.y) * sign[:, None]
        loss = np.sum((y[:, None] - x @ (part[:4] + part[4:])) ** 2, axis=0) / 6
        halves = 0.5 * (losses[1:] + losses[:-1])
        times = np.array([followed.t[np.argmax(loss < half)] for half in halves]) / unit
        errors.append(np.abs(times - path.escape_rates))
    assert (errors[1] <= 0.6 * errors[0] + 1e-3 * path.escape_rates).all()
    assert (errors[1] <= 0.1 * path.escape_rates).all()


def test_saddles_tell_their_spectrum_and_the_kkt_points_that_blocks_came_to(
    orthonormal: Problem,
) -> None:
    y, n = orthonormal.data.y, 5
    origin, second, end = (s.to_dict() for s in saddle_path(orthonormal).saddles)
    assert origin["hessian_spectrum"] == [] and end["kkt_points"] == []
    # A unit that is fully active on its sign's examples climbs at |D_+-|, the quickest first.
    plus, minus = (y * (s * y > 0) @ orthonormal.data.x / n for s in (1.0, -1.0))
    first = origin["kkt_points"][0]
    np.testing.assert_allclose(first["growth"], np.linalg.norm(plus), rtol=1e-12)
    unit = np.concatenate([[1.0], plus / np.linalg.norm(plus)]) / np.sqrt(2.0)
    np.testing.assert_allclose(first["direction"], unit, atol=1e-12)
    assert first["leaves"] and first["blocks"] == origin["leaving_blocks"]
    growths = [point["growth"] for point in origin["kkt_points"]]
    assert growths == sorted(growths, reverse=True) and len(growths) > 2
    np.testing.assert_allclose(second["kkt_points"][0]["growth"], np.linalg.norm(minus), rtol=1e-12)
    # H = J^T J / n of a = |w| = (n |D_+|)^(1/2): 2 |D_+| along (a, w), and a^2/n = |D_+| across,
    # for each further example that the unit is active on.
    size, felt = np.linalg.norm(plus), int(np.sum(y > 0))
    expected = [size] * (felt - 1) + [2.0 * size]
    np.testing.assert_allclose(second["hessian_spectrum"], expected, rtol=1e-10)
    # It lies on the other examples' kinks and moves along them: rescaling (a, w) alone is free.
    assert second["hessian_kernel"] == 1


def test_the_verb_writes_the_path(command, tmp_path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[data]\nname = "two-points"\n[network]\nwidth = 60\n[loss]\nscale = 2.0\n')
    done = command("saddles", spec, "--out", tmp_path / "out", "--compare")
    assert done.code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["status"] == "ok" and "flow" not in summary["spec"]
    rates = [s["escape_rate"] for s in summary["saddles"]]
    np.testing.assert_allclose(rates[:2], [1 / np.sqrt(5), 1 / np.sqrt(1.25)], rtol=1e-12)
    assert rates[2] is None
    needed = {"index", "log_time_enter", "log_time_leave", "loss", "grad_norm", "active_blocks"}
    assert needed | {"residual_norm", "kkt_residual"} <= summary["saddles"][0].keys()
    least = next(c for c in summary["comparison"] if c["name"] == "least_variation_norm")
    np.testing.assert_allclose(least["ratio"], 1.0, rtol=1e-10)
    assert least["exact"] and not least["lower_loss"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "least norm" in page and f"{rates[0]:.6g}" in page
    assert {p.suffix for p in (tmp_path / "out" / "figures").iterdir()} == {".pdf", ".png"}


@pytest.mark.parametrize(
    ("error", "code", "note"),
    [(RuntimeError("no solver."), 0, "no solver."), (KeyboardInterrupt(), 130, "interrupted.")],
)
def test_a_comparison_that_fails_costs_no_path(
    command, tmp_path, monkeypatch, error: BaseException, code: int, note: str
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(comparators, "compare", fails)
    spec = tmp_path / "spec.toml"
    spec.write_text('[data]\nname = "two-points"\n[network]\nwidth = 60\n')
    done = command("saddles", spec, "--out", tmp_path / "out", "--compare", "--quiet")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert done.code == code and len(summary["saddles"]) == 3
    assert summary["notes"][-1] == f"Not compared: {note}" and "comparison" not in summary
