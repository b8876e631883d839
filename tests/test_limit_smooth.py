"""The path in the limit for networks of smooth blocks: closed forms, other methods, flows."""

from dataclasses import replace

import numpy as np
import pytest

import polarflow as pf
from polarflow.data import Data
from polarflow.errors import PolarflowError
from polarflow.flow import Problem
from polarflow.limit import refine, saddle_path
from polarflow.limit._smooth_path import SmoothWalk
from polarflow.networks import (
    Activation,
    BlockState,
    Deep,
    Diagonal,
    Network,
    Parallel,
    SmoothTwoLayer,
    SquaredRelu,
    block_state,
    gaussian,
)


def start(data: Data, network: Network, seed: int = 0) -> Problem:
    return pf.problem(data, network, gaussian(network, data.dimension, scale=1.0, seed=seed))


def leaving_times(problem: Problem, losses: list[float], log_scale: float) -> np.ndarray:
    """The times at which a flow, all weights scaled, is half-way from one level to the next."""
    state = BlockState(problem.initial.log_norm + log_scale, problem.initial.direction)
    scaled = replace(problem, initial=state)
    times = []
    for a, b in zip(losses, losses[1:], strict=False):
        end = pf.gradient_flow(scaled, stop=pf.Stop(loss=0.5 * (a + b)), rtol=1e-9, points=2)
        assert end.stop_reason == "loss"
        times.append(float(end.final.time[0]))
    return np.array(times)


def test_squared_relu_leaves_its_saddles_when_the_path_says() -> None:
    rng = np.random.default_rng(3)
    data = Data(rng.standard_normal((6, 3)), rng.standard_normal(6))
    problem = start(data, SquaredRelu(12, (1.0, -1.0) * 6))
    path = saddle_path(problem)
    assert path.complete and len(path.saddles) == 4
    assert all(s.kkt_residual is None or s.kkt_residual < 1e-13 for s in path.saddles)
    losses = [s.rest.loss for s in path.saddles]
    logs = np.array([300.0, 1000.0, 2302.6])
    times = np.array([leaving_times(problem, losses[:3], -log) for log in logs])
    constant = times - path.escape_rates[:2] * logs[:, None]
    np.testing.assert_allclose(constant[1:], np.tile(constant[0], (2, 1)), rtol=1e-5)
    # Slow units need e^-1000 to come to their KKT points at the first saddle.
    late = leaving_times(problem, losses[2:], -6000.0) - leaving_times(problem, losses[2:], -3000.0)
    np.testing.assert_allclose(late / 3000.0, path.escape_rates[2], rtol=1e-6)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_blocks_followed_by_the_engine_keep_to_the_closed_path_of_diagonal_networks(
    depth: int,
) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((3, 4)), rng.standard_normal(3)
    direction = rng.uniform(0.5, 1.0, (4, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    state = block_state(rng.uniform(-0.3, 0.3, 4), direction)
    problem = Problem(Data(x, y), Diagonal(depth), state, pf.Square())
    closed, walked = saddle_path(problem), SmoothWalk(problem, 1e-9, 50).path()
    np.testing.assert_allclose(walked.escape_rates, closed.escape_rates, rtol=1e-10)
    assert [s.leaving for s in walked.saddles] == [s.leaving for s in closed.saddles]
    for one, other in zip(walked.saddles, closed.saddles, strict=True):
        np.testing.assert_allclose(one.rest.loss, other.rest.loss, atol=1e-15)
        assert one.order == other.order


def test_blocks_of_order_three_blow_up_when_the_flow_of_their_ncf_does() -> None:
    # t_k delta -> c_k, the difference like delta^2 or better.
    rng = np.random.default_rng(0)
    data = Data(rng.standard_normal((5, 3)), rng.standard_normal(5))
    problem = start(data, SmoothTwoLayer(8, Activation("relu_power", 2.0)))
    path = saddle_path(problem)
    assert path.complete and {s.order for s in path.saddles} == {3.0}
    losses = [s.rest.loss for s in path.saddles]
    scales = np.exp([-8.0, -12.0])
    times = np.array([leaving_times(problem, losses, np.log(s)) * s for s in scales])
    errors = np.abs(times / path.escape_rates - 1.0)
    assert (errors[0] < 3e-3).all() and (errors[1] < 0.05 * errors[0]).all()


def test_a_block_that_decays_on_a_longer_scale_has_to_make_up_for_it() -> None:
    # h = u^2 x_1 - v^3 x_2 with labels that push u down until v has fitted the second example.
    v = 0.6
    data = Data(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([0.5, -1.0]))
    network = Parallel((Diagonal(2), Diagonal(3)))
    axis = np.eye(2)
    state = BlockState(
        np.array([0.0, -np.inf, -np.inf, np.log(v)]), np.stack([axis[0], axis[0], axis[0], axis[1]])
    )
    problem = Problem(data, network, state, pf.Square())
    path = saddle_path(problem)
    # 1/v falls at 3/2; u falls at the rate 1/2 until then, and rises at 1/2 after.
    leaves = 1.0 / (1.5 * v)
    np.testing.assert_allclose(path.escape_rates, [leaves, 2.0 * leaves], rtol=1e-10)
    assert path.complete and [s.leaving for s in path.saddles[:-1]] == [(3,), (0,)]
    losses = [s.rest.loss for s in path.saddles]
    np.testing.assert_allclose(losses, [0.3125, 0.0625, 0.0], atol=1e-15)
    scales = np.exp([-6.0, -9.0])
    times = np.array([leaving_times(problem, losses, np.log(s)) * s for s in scales])
    errors = np.abs(times / path.escape_rates - 1.0)
    # (-ln delta) delta^(L-2) is what the shorter scale leaves.
    assert (errors[1] < 0.2 * errors[0]).all() and (errors[1] < 1e-2).all()


def test_shorter_scales_come_first_and_escape_rates_keep_their_logarithms() -> None:
    data = Data(np.eye(2), np.array([1.0, 0.5]))
    network = Parallel((SquaredRelu(1), Diagonal(3)))
    axis, log = np.eye(2), -2302.6
    state = BlockState(np.array([log, -np.inf, log]), np.stack([axis[0], axis[0], axis[0]]))
    path = saddle_path(Problem(data, network, state, pf.Square()))
    assert [s.order for s in path.saddles[:-1]] == [2.0, 3.0]
    entries = [s.to_dict() for s in path.saddles]
    np.testing.assert_allclose(entries[0]["escape_rate"], 1.0, rtol=1e-12)
    # 1/u falls at 3 r_2 = 3/4 from e^2302.6.
    np.testing.assert_allclose(entries[1]["log_escape_rate"], -log - np.log(0.75), rtol=1e-12)
    assert entries[1]["escape_order"] == 3


def test_a_deep_block_leaves_the_origin_at_the_blow_up_of_its_ncf() -> None:
    rng = np.random.default_rng(2)
    data = Data(rng.standard_normal((4, 2)), rng.standard_normal(4))
    network = Deep((3,), (Activation("relu_power", 2.0),))
    problem = start(data, network)
    first = saddle_path(problem, max_saddles=1).saddles[0]
    assert first.order == 3.0 and first.escape_rate is not None
    ncf = Problem(
        Data(data.x, problem.loss.residual(np.zeros(4), data.y)),
        network, problem.initial, pf.Correlation("sum"),
    )  # fmt: skip
    end = pf.gradient_flow(ncf, stop=pf.Stop(time=1e9), rtol=1e-10)
    assert end.status == "blow_up"
    np.testing.assert_allclose(end.final.time[0], first.escape_rate, rtol=1e-8)


def test_what_the_path_is_not_for() -> None:
    data = Data(np.eye(2), np.ones(2))
    deep = Deep((3, 2), (Activation("relu"), Activation("relu")))
    with pytest.raises(PolarflowError, match="kinks are not located"):
        saddle_path(start(data, deep))
    linear = Deep((3,), (Activation("linear"),), frozen={1: np.ones((3, 2))})
    with pytest.raises(PolarflowError, match="order 2 or more"):
        saddle_path(start(data, linear))


def test_a_blurred_rest_point_of_squared_relu_units_is_refined() -> None:
    rng = np.random.default_rng(3)
    data = Data(rng.standard_normal((6, 3)), rng.standard_normal(6))
    problem = start(data, SquaredRelu(12, (1.0, -1.0) * 6))
    saddle = saddle_path(problem).saddles[1].rest
    blurred = saddle.state.direction + 1e-5 * rng.standard_normal((12, 3))
    blurred /= np.linalg.norm(blurred, axis=1, keepdims=True)
    again = refine(problem, BlockState(saddle.state.log_norm, blurred), saddle.active)
    assert again.grad_norm < 1e-14
    np.testing.assert_allclose(again.loss, saddle.loss, rtol=1e-9)
