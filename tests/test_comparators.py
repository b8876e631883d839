"""Convex programs against closed forms, brute force and their own certificates."""

import numpy as np
import pytest
from scipy.optimize import linprog

from polarflow import PolarflowError, TwoLayer, balanced, problem
from polarflow.comparators import (
    global_margin,
    hard_margin,
    least_variation_norm,
    local_margin,
    most_margin,
    ntk_margin,
    orthogonal_variation_norm,
)
from polarflow.comparators._ntk import ntk_change, ntk_features
from polarflow.comparators._program import Program
from polarflow.data import Data, named
from polarflow.experiments._measure import linear_variation_norm
from polarflow.ncf._nonnegative import nonnegative
from polarflow.ncf._peaks import activity
from polarflow.ncf._regions import most_regions, regions
from polarflow.networks import Diagonal, SquaredRelu, gaussian

RELU = TwoLayer(1)


def network(slope: float) -> TwoLayer:
    if slope < 0.0:
        return TwoLayer(1, "abs")
    return TwoLayer(1, "leaky_relu", slope) if slope else RELU


def circle(count: int) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("n, d", [(5, 2), (7, 3), (8, 4), (6, 6), (4, 9)])
def test_regions_are_as_many_as_cover_counts(n: int, d: int) -> None:
    x = np.random.default_rng([n, d]).standard_normal((n, d))
    patterns = {row.tobytes() for row in regions(x) @ x.T > 0}
    assert len(patterns) == len(regions(x)) == most_regions(x)


def test_regions_of_dependent_inputs_are_those_that_samples_meet() -> None:
    rng = np.random.default_rng(2)
    x = rng.integers(-1, 2, size=(7, 3)).astype(float)  # parallel, opposite and zero inputs
    x[0] = 0.0
    live = x[np.linalg.norm(x, axis=1) > 0]
    met = {row.tobytes() for row in rng.standard_normal((20000, 3)) @ live.T > 0}
    assert {row.tobytes() for row in regions(x) @ live.T > 0} == met


@pytest.mark.parametrize("slope", [-1.0, 0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("margin", [False, True])
def test_orthogonal_inputs_have_the_closed_form(slope: float, seed: int, margin: bool) -> None:
    rng = np.random.default_rng([seed, 5])
    x = np.linalg.qr(rng.standard_normal((5, 5)))[0] * rng.uniform(0.5, 2.0, (5, 1))
    y = rng.standard_normal(5)
    if seed == 3:
        y = np.abs(y)
    if margin:
        y = np.sign(y)
    of = most_margin if margin else least_variation_norm
    closed = of(Data(x, y), network(slope))
    program = Program(x, y, slope, margin, None, 200, 0).solve()
    for found in (closed, program):
        assert found.exact
        np.testing.assert_allclose(found.value, orthogonal_variation_norm(x, y, slope), rtol=1e-12)
        np.testing.assert_allclose(found.dual_value, found.value, rtol=1e-12)
        np.testing.assert_allclose(found(x), y, atol=1e-12)
    u = rng.standard_normal((4000, 5))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    z = u @ x.T
    assert np.abs(np.maximum(z, slope * z) @ closed.dual).max() <= 1.0 + 1e-12


def test_two_points_have_the_norm_of_the_paper() -> None:
    # Boursier et al. (2022), figure 2: |theta|^2 -> 2 (1/sqrt(5) + 1/sqrt(1.25)).
    found = least_variation_norm(named("two-points"), RELU)
    np.testing.assert_allclose(found.param_norm**2, 2 / np.sqrt(5) + 2 / np.sqrt(1.25), rtol=1e-12)


@pytest.mark.parametrize("slope", [0.0, 0.4])
@pytest.mark.parametrize("margin", [False, True])
def test_the_program_agrees_with_a_fine_dictionary(slope: float, margin: bool) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal((6, 2))
    y = rng.choice([-1.0, 1.0], size=6) if margin else rng.standard_normal(6)
    program = most_margin if margin else least_variation_norm
    found = program(Data(x, y), network(slope))
    assert abs(found.gap) <= 1e-10 * found.value and found.violation <= 1e-10
    # Neurons on kinks enter at first order, so that the dictionary has them.
    kinks = np.stack([-x[:, 1], x[:, 0]], axis=1) / np.linalg.norm(x, axis=1, keepdims=True)
    z = x @ np.concatenate([circle(4000), kinks, -kinks]).T
    features = np.maximum(z, slope * z)
    features = np.concatenate([features, -features], axis=1)
    if margin:
        fit = {"A_ub": -y[:, None] * features, "b_ub": -np.ones(6)}
    else:
        fit = {"A_eq": features, "b_eq": y}
    coarse = linprog(np.ones(features.shape[1]), **fit, bounds=(0, None)).fun
    # A dictionary of spacing 2 pi / 4000 costs a little more.
    assert found.value * (1 - 1e-9) <= coarse <= found.value * (1 + 1e-5)
    # The dual certificate, on directions that the program has not seen.
    assert np.abs(found.dual @ features / found.height).max() <= 1.0 + 1e-12


@pytest.mark.parametrize("slope, intercept", [(1.0, 0.2), (1.0, 2.0), (-0.3, 1.0)])
def test_a_line_on_a_wide_interval_costs_what_a_line_costs(slope: float, intercept: float) -> None:
    half = np.geomspace(0.03, 1e5, 16)
    t = np.concatenate([-half[::-1], [0.0], half])
    data = Data(np.stack([t, np.ones(33)], axis=1), slope * t + intercept, bias=True)
    expected = linear_variation_norm(slope, intercept)
    np.testing.assert_allclose(least_variation_norm(data, RELU).value, expected, rtol=2e-5)


@pytest.mark.parametrize(("n", "d"), [(4, 2), (8, 3), (7, 5), (12, 2), (9, 9)])
@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("margin", [False, True])
def test_certificates_close_on_random_problems(n: int, d: int, slope: float, margin: bool) -> None:
    # Flipped patterns once had slopes off by rounding, and cones on the wrong side of a kink:
    # networks that did not fit were called exact.
    for seed in (0, 2):
        rng = np.random.default_rng([n, d, seed])
        x, y = rng.standard_normal((n, d)), rng.standard_normal(n)
        if margin:
            y = np.sign(y)
        found = (most_margin if margin else least_variation_norm)(Data(x, y), network(slope))
        assert found.exact and found.violation <= 1e-11 * max(1.0, found.value)
        assert -1e-13 <= found.gap / found.value <= 1e-8
        z = x @ found.direction.T
        own = np.maximum(z, slope * z) @ (found.sign * found.mass)
        missed = np.maximum(1.0 - y * own, 0.0) if margin else own - y
        np.testing.assert_allclose(np.abs(missed).max(), found.violation, atol=1e-12 * found.value)
        u = rng.standard_normal((5000, d))
        v = x @ (u / np.linalg.norm(u, axis=1, keepdims=True)).T
        heights = np.abs(found.dual @ np.maximum(v, slope * v))
        assert heights.max() <= found.height * (1.0 + 1e-12)


def test_sampled_patterns_reach_the_enumerated_minimum() -> None:
    rng = np.random.default_rng(11)
    data = Data(rng.standard_normal((8, 5)), rng.standard_normal(8))
    exact = least_variation_norm(data, RELU)
    program = Program(data.x, data.y, 0.0, False, None, 100, 0)
    program.exact, program.all = False, activity(program.starts, program.x, 0.0)
    sampled = program.solve()
    assert exact.exact and not sampled.exact
    np.testing.assert_allclose(sampled.value, exact.value, rtol=1e-8)


def test_more_inputs_than_can_be_enumerated() -> None:
    rng = np.random.default_rng(12)
    x = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    y = rng.standard_normal(20)
    found = Program(x, y, 0.0, False, None, 40, 0).solve()
    assert not found.exact
    np.testing.assert_allclose(found.value, orthogonal_variation_norm(x, y), rtol=1e-9)


def test_non_negative_least_squares_where_gradients_vanish() -> None:
    # SciPy's nnls alone passes the optimum here: the solution is max(target, 0) in the basis.
    rng = np.random.default_rng(0)
    for _ in range(50):
        basis = np.linalg.qr(rng.standard_normal((20, 20)))[0]
        target = np.maximum(rng.standard_normal(20), 0.0) * rng.choice([-1.0, 1.0], 20)
        found = nonnegative(basis, basis @ target)
        np.testing.assert_allclose(found, np.maximum(target, 0.0), atol=1e-12)


def test_labels_that_no_network_fits_are_refused() -> None:
    x, y = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([1.0, 3.0])
    with pytest.raises(PolarflowError, match="No two-layer network"):
        least_variation_norm(Data(x, y), RELU)
    assert least_variation_norm(Data(x, 0 * y), RELU).value == 0.0


@pytest.mark.parametrize("n, d", [(8, 3), (30, 3), (12, 40)])
def test_hard_margin_has_its_certificate(n: int, d: int) -> None:
    rng = np.random.default_rng([n, d])
    x, w = rng.standard_normal((n, d)), rng.standard_normal(d)
    y = np.sign(x @ w)
    found = hard_margin(x, y)
    margins = y * (x @ found.weight)
    np.testing.assert_allclose(margins.min(), 1.0, rtol=1e-12)
    np.testing.assert_allclose(found.dual_value, found.value, rtol=1e-11)
    np.testing.assert_allclose(margins[found.support], 1.0, rtol=1e-11)
    np.testing.assert_allclose(found.weight, (found.multipliers * y) @ x, rtol=1e-10)
    assert found.margin >= (y * (x @ w)).min() / np.linalg.norm(w)


def test_hard_margin_refuses_what_is_not_separable() -> None:
    with pytest.raises(PolarflowError, match="separates"):
        hard_margin(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([1.0, -1.0]))


def test_the_ntk_margin_is_a_margin_of_the_linearised_network() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], size=6)
    net = TwoLayer(40)
    found = ntk_margin(problem(Data(x, y), net, balanced(net, 3, log10_scale=-1000.0)))
    np.testing.assert_allclose(np.linalg.norm(found.displacement), 1.0, rtol=1e-12)
    np.testing.assert_allclose((y * found(x)).min(), found.margin, rtol=1e-10)
    np.testing.assert_allclose(found.svm.gap, 0.0, atol=1e-10 * found.svm.value)


def test_the_features_of_any_network_are_its_gradients() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((6, 3)), rng.choice([-1.0, 1.0], size=6)
    signs = tuple(rng.choice([-1.0, 1.0], size=30).tolist())
    net = SquaredRelu(30, signs)
    w, delta = rng.standard_normal((2, 30, 3))
    by_hand = 2.0 * np.array(signs)[:, None] * np.maximum(x @ w.T, 0.0)[:, :, None] * x[:, None]
    np.testing.assert_allclose(ntk_features(net, w, x), by_hand.reshape(6, -1), rtol=1e-12)
    np.testing.assert_allclose(
        ntk_change(net, w, delta, x), by_hand.reshape(6, -1) @ delta.ravel(), rtol=1e-11
    )
    found = ntk_margin(problem(Data(x, y), net, gaussian(net, 3, log10_scale=-1000.0)))
    np.testing.assert_allclose((y * found(x)).min(), found.margin, rtol=1e-10)
    np.testing.assert_allclose(found.svm.gap, 0.0, atol=1e-10 * found.svm.value)
    diagonal = Diagonal(2)
    with pytest.raises(PolarflowError, match="blocks of one shape"):
        ntk_margin(problem(Data(x, y), diagonal, gaussian(diagonal, 3, scale=1.0)))


@pytest.mark.parametrize("d", [2, 3])
def test_squared_relu_margins_are_games_with_certificates(d: int) -> None:
    rng = np.random.default_rng([d, 9])
    x, y = rng.standard_normal((7, d)), rng.choice([-1.0, 1.0], size=7)
    best = global_margin(x, y)
    assert best.exact
    np.testing.assert_allclose(best.dual_value, best.margin, rtol=1e-8)
    np.testing.assert_allclose((y * best(x)).min(), best.margin, rtol=1e-12)
    u = rng.standard_normal((5000, d))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    height = (best.weights * y) @ np.maximum(x @ u.T, 0.0) ** 2
    assert np.abs(height).max() <= best.dual_value * (1 + 1e-9)
    # With its own directions the local program gives the same; with fewer it gives less.
    local = local_margin(x, y, best.direction, best.sign)
    np.testing.assert_allclose(local.margin, best.margin, rtol=1e-10)
    fewer = local_margin(x, y, best.direction[1:], best.sign[1:])
    assert fewer.margin < best.margin and abs(fewer.gap) < 1e-12


def test_a_program_that_runs_out_of_time_says_how_far_it_is() -> None:
    rng = np.random.default_rng(2)
    data = Data(rng.standard_normal((9, 3)), rng.standard_normal(9))
    network = TwoLayer(2)
    whole = least_variation_norm(data, network)
    cut = least_variation_norm(data, network, seconds=0.0)
    assert whole.exact and abs(whole.gap) < 1e-9 * whole.value and cut.gap > 1e-4 * whole.value
    assert cut.dual_value <= whole.value * (1 + 1e-9) <= cut.value * (1 + 2e-9)
    assert cut.violation < 1e-9
