"""The path in the limit for networks of smooth blocks: closed forms, other methods, flows."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

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


def cartesian(problem: Problem, level: float, logs: list[float], longest: float) -> np.ndarray:
    """The times at which squared-ReLU units reach a loss, by an explicit method in the weights."""
    x, y = problem.data.x, problem.data.y
    assert isinstance(problem.network, SquaredRelu) and problem.network.signs is not None
    sign, shape = np.array(problem.network.signs), problem.initial.direction.shape

    def residual(w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = np.maximum(w.reshape(shape) @ x.T, 0.0)
        return z, y - sign @ z**2

    def field(_: float, w: np.ndarray) -> np.ndarray:
        z, r = residual(w)
        return (2.0 * sign[:, None] * ((z * r) @ x)).ravel() / len(y)

    def reached(_: float, w: np.ndarray) -> float:
        return float(np.sum(residual(w)[1] ** 2)) / (2 * len(y)) - level

    reached.terminal = True  # type: ignore[attr-defined]
    times = []
    for log in logs:
        start = np.exp(-log) * problem.initial.weights().ravel()
        followed = solve_ivp(
            field, (0.0, longest * log), start, "DOP853", events=reached, rtol=1e-12, atol=1e-60
        )
        times.append(float(followed.t_events[0][0]))
    return np.array(times)


def two_units(seed: int) -> Problem:
    rng = np.random.default_rng([seed, 3])
    data = Data(rng.standard_normal((4, 3)), np.abs(rng.standard_normal(4)) + 0.3)
    return start(data, SquaredRelu(2, (1.0, 1.0)), seed)


@pytest.mark.parametrize("seed", [37, 34])
def test_squared_relu_leaves_its_saddles_when_the_path_says(seed: int) -> None:
    # t_k / (-ln delta) - c_k = O(1 / (-ln delta)): the numerator is a constant.
    problem = two_units(seed)
    path = saddle_path(problem)
    assert path.complete and len(path.saddles) == 3
    assert all(s.kkt_residual is None or s.kkt_residual < 1e-13 for s in path.saddles)
    losses = [s.rest.loss for s in path.saddles]
    logs = np.log(10.0) * np.array([30.0, 100.0, 1000.0])
    times = np.array([leaving_times(problem, losses, -log) for log in logs])
    constant = times - path.escape_rates * logs[:, None]
    np.testing.assert_allclose(constant[1:], np.tile(constant[-1], (2, 1)), atol=1e-5)
    np.testing.assert_allclose(constant[0], constant[-1], atol=1e-2)


@pytest.mark.parametrize("seed, rtol", [(6, 5e-3), (14, 1e-3), (17, 1e-3)])
def test_units_that_came_together_part_when_the_path_says(seed: int, rtol: float) -> None:
    # The parts are about 1e-9 of the units at e^-22, so that floats still hold them.
    problem = two_units(seed)
    path = saddle_path(problem)
    assert path.saddles[1].rest.index > 0 and path.saddles[1].leaving == (0, 1)
    losses = [s.rest.loss for s in path.saddles]
    for k in range(2):
        level = 0.5 * (losses[k] + losses[k + 1])
        times = cartesian(problem, level, [16.0, 22.0], 3.0 * path.escape_rates[k])
        rate = (times[1] - times[0]) / 6.0
        np.testing.assert_allclose(rate, path.escape_rates[k], rtol=rtol)
    assert "apart" in path.notes[0]


@pytest.mark.parametrize("seed, end", [(11, 0.562748190297994), (15, 0.9809246288517036)])
def test_a_unit_that_comes_late_lies_beside_the_other_and_does_not_part(
    seed: int, end: float
) -> None:
    # It comes to the other's KKT point e^-31 and e^-62 of its size. In Taylor series of 200 digits
    # from e^-200 the loss is `end` at three times the time at which an example that is active on
    # neither could have been climbed: the bends on which it lies are those of a unit of its size.
    path = saddle_path(two_units(seed))
    assert path.complete and [s.rest.index for s in path.saddles] == [0, 0]
    np.testing.assert_allclose(path.end.loss, end, rtol=1e-9)
    size = path.end.state.log_norm
    assert abs(size[0] - size[1]) > 25.0


def test_units_that_act_as_one_part_after_another_unit_has_left() -> None:
    # Four units act as one, beside a fifth that leaves in between: what is small in them goes
    # through a flow between two rest points before it grows to the end. Leaving times integrated
    # in the weights, in Taylor series of 60 and 80 digits from e^-40 and e^-70.
    rng = np.random.default_rng([1, 5])
    data = Data(rng.standard_normal((6, 3)), np.abs(rng.standard_normal(6)) + 0.3)
    path = saddle_path(start(data, SquaredRelu(5, (1.0,) * 5), 1))
    times = np.array([[12.9113, 41.6835, 104.2903], [22.7433, 64.8558, 188.3194]])
    np.testing.assert_allclose(path.escape_rates, (times[1] - times[0]) / 30.0, rtol=1e-3)
    assert [s.leaving for s in path.saddles[:-1]] == [(0, 1, 2, 3), (4,), (0, 1, 2, 3)]


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
    scales = np.exp([-8.0, -12.0, -70.0, -600.0])
    times = np.array([leaving_times(problem, losses, np.log(s)) * s for s in scales])
    errors = np.abs(times / path.escape_rates - 1.0)
    assert (errors[0] < 3e-3).all() and (errors[1] < 0.05 * errors[0]).all()
    # On these plateaus a block at rest could relax 1e30 and 1e260 times before another moves.
    assert (errors[2:] < 1e-7).all()


def test_a_loss_that_ends_is_not_taken_for_one_at_which_blocks_still_turn() -> None:
    x = np.array([[0.3, -1.2], [1.1, 0.4], [-0.7, 0.9], [0.2, 0.8]])
    data = Data(x, np.array([1.0, -0.4, 0.6, 1.2]))
    network = SmoothTwoLayer(6, Activation("relu_power", 2.0))
    initial = gaussian(network, 2, scale=1e-12, seed=0)
    problem = pf.problem(data, network, initial, loss=pf.Square())
    end = pf.gradient_flow(problem, stop=pf.Stop(loss=1e-3), rtol=1e-8, points=50)
    # The signs of the labels allow no more; the third saddle, at 0.0828, is left.
    assert end.status == "at_rest"
    path = saddle_path(problem)
    losses = [s.rest.loss for s in path.saddles]
    np.testing.assert_allclose(end.final.loss[0], losses[-1], rtol=1e-9)
    np.testing.assert_allclose([s.loss for s in end.saddles], losses, rtol=1e-6)


def five_units(seed: int) -> Problem:
    rng = np.random.default_rng([seed, 5])
    data = Data(rng.standard_normal((6, 3)), np.abs(rng.standard_normal(6)) + 0.3)
    return start(data, SquaredRelu(5, (1.0,) * 5), seed)


def twelve_units(seed: int) -> Problem:
    rng = np.random.default_rng([6, seed])
    data = Data(rng.standard_normal((6, 3)), rng.standard_normal(6))
    network = SquaredRelu(12, tuple(int(s) for s in rng.choice([-1, 1], 12)))
    return start(data, network, seed)


@pytest.mark.parametrize(
    "problem, count",
    [
        # Units that grow a thousand times as slowly as others did, and join them.
        (five_units(3), 4),
        (five_units(6), 3),
    ],
    ids=["slow", "slow-and-many"],
)
def test_flows_from_tiny_starts_leave_later_saddles_when_the_path_says(
    problem: Problem, count: int
) -> None:
    path = saddle_path(problem)
    losses = [s.rest.loss for s in path.saddles]
    assert path.complete and len(losses) == count
    assert (np.diff(losses) < -1e-3 * losses[0]).all()
    halves = 0.5 * (np.array(losses[1:]) + losses[:-1])
    times = []
    for log in (2500.0, 7500.0):
        state = BlockState(problem.initial.log_norm - log, problem.initial.direction)
        stop = pf.Stop(loss=float(halves[-1]))
        flow = pf.gradient_flow(replace(problem, initial=state), stop=stop, rtol=1e-8, points=400)
        along = flow.trajectory
        times.append([along.time[np.argmax(along.loss <= 1.000001 * h)] for h in halves])
    early, late = np.array(times)
    np.testing.assert_allclose((late - early) / 5000.0, path.escape_rates, rtol=3e-4)


def test_a_rest_point_approached_like_a_power_of_time_is_on_the_path() -> None:
    path = saddle_path(twelve_units(83))
    assert path.complete and len(path.saddles) == 5
    assert all(s.rest.grad_norm < 1e-9 for s in path.saddles)


def test_units_of_one_direction_keep_it_however_small_some_of_them_are() -> None:
    # By factors of e^72 and e^178 beside the largest: rounding of Newton's steps, which is of the
    # size of that, would turn them to anywhere, and let them leave what the flow stays at.
    problem = twelve_units(82)
    path = saddle_path(problem)
    state = BlockState(problem.initial.log_norm - 7000.0, problem.initial.direction)
    stop = pf.Stop(time=20.0 * 7000.0)
    flow = pf.gradient_flow(replace(problem, initial=state), stop=stop, rtol=1e-8, points=50)
    assert path.complete
    np.testing.assert_allclose(path.end.loss, 3.47262963e-6, rtol=1e-7)
    np.testing.assert_allclose(float(flow.final.loss[0]), path.end.loss, rtol=1e-6)


def both_signs(seed: int, n: int, d: int, m: int) -> Problem:
    """m units of both signs on n examples in dimension d, all normal."""
    rng = np.random.default_rng([61, n, d, m, seed])
    y = rng.standard_normal(n)
    data = Data(rng.standard_normal((n, d)), y)
    return start(data, SquaredRelu(m, tuple(float(s) for s in rng.choice([-1, 1], m))), seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed, shape",
    [
        # Bundles that part at last; small units turn, and leave, while active ones grow apart.
        (0, (6, 3, 6)),
        (24, (6, 3, 12)),
        (29, (6, 3, 12)),
        # Small units on hyperplanes must not leave them by rounding while large ones flow.
        (11, (6, 3, 12)),
        # What is left of a unit's distance to two hyperplanes passes one of them as it grows.
        (42, (5, 3, 8)),
        # Units that leave so slowly that the gradient is that of a rest point.
        (33, (6, 3, 12)),
        # Others.
        (53, (5, 3, 8)),
        (8, (5, 3, 8)),
        (0, (8, 4, 14)),
    ],
)
def test_paths_of_random_problems_are_those_of_flows_from_tiny_starts(
    seed: int, shape: tuple[int, int, int]
) -> None:
    # (t(e^-70000) - t(e^-7000)) / 63000 at the loss half-way to the next saddle: what is left is of
    # higher order in 1/(-ln delta), or powers of a slow valley.
    problem = both_signs(seed, *shape)
    path = saddle_path(problem)
    assert path.complete
    losses = [s.rest.loss for s in path.saddles]
    halves = 0.5 * (np.array(losses[1:]) + losses[:-1])
    times = []
    for log in (7e3, 7e4):
        state = BlockState(problem.initial.log_norm - log, problem.initial.direction)
        stop = pf.Stop(time=(1.1 * path.escape_rates[-1] + 2.0) * log)
        flow = pf.gradient_flow(
            replace(problem, initial=state), stop=stop, rtol=1e-8, points=1500
        ).trajectory
        np.testing.assert_allclose(flow.loss[-1], losses[-1], rtol=1e-3, atol=1e-9)
        # Between two points of the trajectory ln of the loss is taken as linear in time.
        first = [int(np.argmax(flow.loss <= h)) for h in halves]
        share = [
            np.log(flow.loss[i - 1] / h) / np.log(flow.loss[i - 1] / flow.loss[i])
            for i, h in zip(first, halves, strict=True)
        ]
        before, after = flow.time[np.array(first) - 1], flow.time[first]
        times.append(before + np.array(share) * (after - before))
    np.testing.assert_allclose((times[1] - times[0]) / 63e3, path.escape_rates, rtol=2e-3)


def test_units_at_one_kkt_point_may_differ_in_size_beyond_floats_squares() -> None:
    # By factors of e^36 to e^370: squares of such columns are no floats.
    path = saddle_path(twelve_units(82))
    assert path.complete
    np.testing.assert_allclose(path.escape_rates[:2], [0.700211, 3.631505], rtol=1e-6)


def test_blocks_that_rest_from_the_beginning_let_nothing_turn() -> None:
    # Parting units that are at rest at once: the flow between two saddles takes no time.
    rng = np.random.default_rng([6, 77])
    data = Data(rng.standard_normal((6, 3)), rng.standard_normal(6))
    network = SquaredRelu(12, tuple(int(s) for s in rng.choice([-1, 1], 12)))
    path = saddle_path(start(data, network, seed=77))
    losses = [s.rest.loss for s in path.saddles]
    assert path.complete and all(np.diff(losses) <= 1e-12)


def test_a_flow_that_only_decays_ends_where_its_loss_does() -> None:
    # h = (u_1^3 - v_1^3) x_1 + (u_2^3 - v_2^3) x_2: u_1 and v_1 have the wrong signs to fit y_1,
    # and decay like powers of t for ever.
    data = Data(np.eye(2), np.array([-1.0, 0.5]))
    state = block_state(np.full(2, -30.0), np.array([[0.8, -0.6], [0.6, 0.8]]))
    problem = pf.problem(data, Diagonal(3), state, loss=pf.Square())
    end = pf.gradient_flow(problem, stop=pf.Stop(loss=1e-6))
    assert end.status == "at_rest"
    np.testing.assert_allclose(end.final.loss[0], 0.25, rtol=1e-9)


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


def test_squared_relu_units_on_orthonormal_inputs_leave_in_order() -> None:
    # A unit active on x_k alone climbs r_k z_k^2: it leaves at 1/(2 |r_k|) and fits the example.
    x = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]
    y = np.array([0.7, -1.1, 0.4, 1.6])
    network = SquaredRelu(4, tuple(np.sign(y)))
    unit = (1.2 * np.eye(4) - 0.2) @ x
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    state = block_state(np.array([0.3, -0.2, 0.0, 0.1]), unit)
    path = saddle_path(Problem(Data(x, y), network, state, pf.Square()))
    order = np.argsort(-np.abs(y))
    assert path.complete and [s.leaving for s in path.saddles[:-1]] == [(j,) for j in order]
    np.testing.assert_allclose(path.escape_rates, 4.0 / (2.0 * np.abs(y[order])), rtol=1e-12)
    losses = [np.sum(y[order[k:]] ** 2) / 8.0 for k in range(5)]
    np.testing.assert_allclose([s.rest.loss for s in path.saddles], losses, atol=1e-15)
    assert all(s.rest.grad_norm < 1e-14 for s in path.saddles)


@pytest.mark.parametrize("units", [1, 2])
def test_units_with_all_examples_active_fit_one_label_after_the_other(units: int) -> None:
    # z_jk = u_j.x_k grows at 2 r_k in absolute terms whatever the others do: what is small beside
    # the units' large parts leaves the saddle when a unit of its own would.
    x = np.linalg.qr(np.random.default_rng(6).standard_normal((3, 3)))[0]
    y = np.array([2.0, 0.5, 1.0])
    z = np.array([[0.6, 0.64, 0.48], [0.36, 0.48, 0.8]])[:units]
    problem = Problem(
        Data(x, y), SquaredRelu(units), block_state(np.zeros(units), z @ x), pf.Square()
    )
    path = saddle_path(problem)
    np.testing.assert_allclose(path.escape_rates, 3.0 / (2.0 * y[[0, 2, 1]]), rtol=1e-9)
    losses = [5.25 / 6.0, 1.25 / 6.0, 0.25 / 6.0, 0.0]
    np.testing.assert_allclose([s.rest.loss for s in path.saddles], losses, atol=1e-13)
    indices = [s.rest.index for s in path.saddles]
    assert indices == [0, 2 * units, units, 0] and path.complete
    # All units grow alike in every coordinate: their shares are those of the start.
    end = path.end.state.weights() @ x.T
    np.testing.assert_allclose(end[-1] * z[0], end[0] * z[-1], atol=1e-6)


def test_a_small_unit_turns_away_from_a_point_that_has_become_a_saddle() -> None:
    # Both units go to x_1. The larger residual is fitted by the first; the second, which comes
    # later as it is smaller by delta, has x_2 left to climb: z_2 rises at 2 r_2 all the time.
    data = Data(np.eye(2), np.array([2.0, 1.0]))
    unit = np.array([[1.0, -0.2], [0.8, 0.6]])
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    path = saddle_path(Problem(data, SquaredRelu(2), block_state(np.zeros(2), unit), pf.Square()))
    np.testing.assert_allclose(path.escape_rates, [0.5, 1.0], rtol=1e-9)
    assert path.complete and [s.leaving for s in path.saddles[:-1]] == [(0, 1), (1,)]


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
