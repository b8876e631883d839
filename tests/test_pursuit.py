"""Neuron pursuit: rest points found cell by cell, closed forms, and margins of classes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import polarflow as pf
from polarflow.comparators import most_margin, orthogonal_variation_norm
from polarflow.data import Data, digits, named
from polarflow.flow import Problem
from polarflow.limit import pursue, saddle_path
from polarflow.limit._blocks import distance, growth
from polarflow.limit._cells import settle_in_cells
from polarflow.networks import BlockState, SquaredRelu, balanced, gaussian


def start(data: Data, width: int) -> Problem:
    network = pf.TwoLayer(width)
    return pf.problem(data, network, balanced(network, data.dimension, scale=1e-6))


def test_pursuit_on_orthonormal_data_takes_two_neurons() -> None:
    rng = np.random.default_rng(4)
    x = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    y = np.array([1.0, -0.4, 0.7, -0.6, 0.3])
    orthonormal = start(Data(x, y), 60)
    steps = pursue(orthonormal)
    assert [int(step.rest.active.sum()) for step in steps] == [0, 1, 2]
    assert steps[-1].rest.loss < 1e-20 and steps[-1].sign is None and steps[0].exact
    square = np.sum(np.exp(2.0 * steps[-1].rest.state.log_norm))
    np.testing.assert_allclose(square, 2 * orthogonal_variation_norm(x, y), rtol=1e-9)
    # Half the growth rates at the first saddles: |D+| and |D-| (Boursier et al., 2022, lemma 2).
    rates = [np.linalg.norm(y[sign * y > 0]) / 5 for sign in (1.0, -1.0)]
    np.testing.assert_allclose([s.value for s in steps[:2]], rates, rtol=1e-9)


def test_pursuit_passes_the_minimum_in_which_the_flow_gets_stuck() -> None:
    problem = start(named("three-points"), 60)
    stuck = saddle_path(problem).end.loss
    steps = pursue(problem)
    losses = [step.rest.loss for step in steps]
    assert (np.diff(losses) < 0).all() and losses[-1] < 1e-20 < stuck
    assert all(step.rest.grad_norm < 1e-12 for step in steps)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_rest_is_found_cell_by_cell(seed: int, slope: float) -> None:
    """From anywhere the loss falls to a point where no neuron has a force, on kinks or off them."""
    rng = np.random.default_rng([seed, 8])
    x, y = rng.standard_normal((14, 4)), rng.standard_normal(14)
    network = pf.TwoLayer(3, "leaky_relu", slope)
    begin = balanced(network, 4, scale=1.0, seed=seed)
    problem = pf.problem(Data(x, y), network, begin, loss=pf.Square("mean"))
    rest = settle_in_cells(problem, begin)
    assert rest is not None
    h, before = network.predict(rest, x), network.predict(begin, x)
    assert problem.loss.value(h, y) < problem.loss.value(before, y)
    lives = np.isfinite(rest.log_norm)
    r = problem.loss.residual(h, y)
    unit = rest.direction[lives]
    force = np.hypot(growth(problem, unit, r), distance(problem, unit, r))
    assert lives.any() and force.max() < 1e-9 * np.abs(r).max()
    on_kinks = np.abs(unit[:, 1:] @ x.T) < 1e-12
    assert on_kinks.any()


@pytest.mark.parametrize("seed", range(4))
def test_labels_that_a_cell_fits_are_fitted_in_it(seed: int) -> None:
    """On a polytope of minima no kink holds, near which of them the search may begin."""
    rng = np.random.default_rng([seed, 31])
    x, network = rng.standard_normal((40, 12)), pf.TwoLayer(8)
    begin = balanced(network, 12, scale=1.0, seed=seed)
    # Neurons of other sizes and the same patterns.
    other = BlockState(begin.log_norm + rng.uniform(-3.0, 3.0, 8), begin.direction)
    y = network.predict(other, x)
    problem = pf.problem(Data(x, y), network, begin, loss=pf.Square("mean"))
    rest = settle_in_cells(problem, begin)
    assert rest is not None
    assert problem.loss.value(network.predict(rest, x), y) < 1e-24


def test_a_neuron_that_grows_slowly_beside_stiff_ones_comes_to_its_rest_point() -> None:
    """Two hundred images: others relax a hundred million times while the fifth neuron grows."""
    data = digits((3, 8), 200, centre=True)
    steps = pursue(start(data, 1))
    losses = [step.rest.loss for step in steps]
    assert (np.diff(losses) < 0).all() and losses[-1] < 1e-20
    assert all(step.rest.grad_norm < 1e-9 for step in steps)


def test_pursuit_of_classes_ends_when_they_are_separated() -> None:
    """The margin in the end, the largest of all widths, and what pursuit says of that."""
    rng = np.random.default_rng(9)
    x = np.c_[rng.standard_normal((7, 2)), np.ones(7)]
    y = np.where(rng.random(7) > 0.5, 1.0, -1.0)
    data = Data(x, y)
    problem = replace(start(data, 2), loss=pf.Logistic("sum"))
    steps = pursue(problem)
    losses = [step.rest.loss for step in steps]
    assert (np.diff(losses) < 0).all() and losses[-1] <= 1.0001e-20
    assert steps[0].margin is None and steps[-1].sign is None and steps[-1].exact
    last = steps[-1]
    assert last.margin is not None and last.margin_bound is not None
    best = 0.5 / most_margin(data, problem.two_layer).value
    assert 0.4 * best < last.margin <= best * (1.0 + 1e-9) <= last.margin_bound * (1.0 + 1e-9)
    assert all(step.margin <= 1e-9 for step in steps[1:-1] if step.margin is not None)


def test_pursuit_of_classes_that_cannot_be_separated_ends_at_the_least_loss() -> None:
    x = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    problem = replace(start(Data(x, np.array([1.0, -1.0, 1.0])), 2), loss=pf.Logistic("sum"))
    end = pursue(problem)[-1]
    # One input has both labels: ln 2 for each of them is the least.
    np.testing.assert_allclose(end.rest.loss, 2.0 * np.log(2.0), rtol=1e-4)
    assert end.sign is None


def test_pursuit_says_what_it_is_not_for() -> None:
    data = Data(np.eye(2), np.array([1.0, -1.0]))
    problem = replace(start(data, 2), loss=pf.Correlation())
    with pytest.raises(pf.PolarflowError, match="loss.kind"):
        pursue(problem)
    several = pf.TwoLayer(2, outputs=2)
    two = pf.problem(Data(np.eye(2), np.eye(2)), several, balanced(several, 2, scale=1.0))
    with pytest.raises(pf.PolarflowError, match="network.outputs = 2"):
        pursue(two)
    squares = SquaredRelu(2)
    with pytest.raises(pf.PolarflowError, match="activation"):
        pursue(pf.problem(data, squares, gaussian(squares, 2, scale=1.0)))


def test_the_verb_pursue(command, tmp_path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[data]\nname = "two-points"\n')
    assert command("pursue", spec, "--out", tmp_path / "out", "--quiet").code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [step["blocks"] for step in summary["steps"]] == [0, 1, 2]
    assert summary["final"]["loss"] < 1e-20
    none = command("pursue", spec, "--out", tmp_path / "none", "--blocks", "0")
    assert none.code == 2 and "--blocks" in none.err[0] and not (tmp_path / "none").exists()
