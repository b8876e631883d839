"""The kink-exact flow: closed forms, conserved quantities, symmetries, stops, any scale."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import polarflow as pf
import polarflow.data
from polarflow.data import Data
from polarflow.flow.kinks._engine import KinkExactEngine
from polarflow.networks import block_state


def two_points(width: int = 60, seed: int = 0, **scale: float) -> pf.Problem:
    """The two-point experiment of Boursier et al. (2022), figure 2."""
    data = pf.Data.from_arrays([[-0.5], [2.0]], [-1.0, 1.0], bias=True)
    network = pf.TwoLayer(width)
    initial = pf.balanced(network, 2, seed=seed, **(scale or {"scale": 1e-6 / width**0.5}))
    return pf.problem(data, network, initial, loss=pf.Square("mean", 2.0))


def random_problem(
    seed: int, n: int = 6, d: int = 3, m: int = 12, scale: float = 1e-3, slope: float = 0.0
) -> pf.Problem:
    """Gaussian inputs and labels."""
    rng = np.random.default_rng([seed, 7])
    data = pf.Data(rng.standard_normal((n, d)), rng.standard_normal(n), False, "random")
    network = pf.TwoLayer(m, "leaky_relu" if slope else "relu", slope)
    return pf.problem(data, network, pf.balanced(network, d, scale=scale, seed=seed))


def one_neuron(x: float, y: float, log_size: float) -> pf.Problem:
    data = pf.Data(np.array([[x]]), np.array([y]), False, "one")
    state = pf.block_state(np.array([log_size]), np.array([[1.0, 1.0]]) / np.sqrt(2.0))
    return pf.problem(data, pf.TwoLayer(1), state, loss=pf.Square("sum"))


@pytest.mark.parametrize("log10", [-1.0, -6.0, -100.0, -1000.0])
def test_one_aligned_neuron_is_logistic(log10: float) -> None:
    # u = a^2 = w^2 obeys u' = 2 x (y - x u) u: logistic with rate 2xy and limit y/x.
    x, y = 2.0, 1.5
    log_size = log10 * np.log(10.0)
    problem = one_neuron(x, y, log_size)
    escape = -(log_size * 2.0 - np.log(2.0)) / (2 * x * y)
    times = escape + np.linspace(-0.5, 2.0, 11)
    times = times[times > 0]
    solution = pf.gradient_flow(
        problem, stop=pf.Stop(time=times[-1]), rtol=1e-11, record_times=times
    )
    log_u0 = 2 * log_size - np.log(2.0)
    exponent = log_u0 + 2 * x * y * times
    u = np.exp(exponent) / (1 + (x / y) * (np.exp(exponent) - np.exp(log_u0)))
    measured = np.exp(2 * solution.recorded.log_norm[:, 0]) / 2
    # At 1e-1000 the exponent itself, about 4600, carries rounding errors of 1e-12.
    np.testing.assert_allclose(measured, u, rtol=3e-10 if log10 > -500 else 2e-9)


def test_alignment_near_the_origin_is_closed_form() -> None:
    # One example: while the residual is constant, tanh of the radial angle grows linearly.
    x, y = np.array([[0.6, 0.8]]), np.array([1.0])
    v0 = np.array([1.0, 0.3, 0.2])
    v0[1:] /= np.linalg.norm(v0[1:])
    state = pf.block_state(np.array([-3000.0]), v0[None] / np.sqrt(2.0))
    problem = pf.problem(pf.Data(x, y, False, "one"), pf.TwoLayer(1), state, loss=pf.Square("sum"))
    times = np.array([0.1, 1.0, 3.0, 10.0])
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=10.0), record_times=times)
    cosine = solution.recorded.direction[:, 0, 1:] @ x[0] * np.sqrt(2.0)
    start = float(v0[1:] @ x[0])
    np.testing.assert_allclose(cosine, np.tanh(np.arctanh(start) + times), rtol=1e-13)


def test_a_neuron_that_turns_round_is_followed_through_its_smallest_norm() -> None:
    # Almost opposite to the example it shrinks by ten orders and grows again: a + p and a - p
    # are exact exponentials while the residual is constant.
    x, y = np.array([[1.0, 0.0]]), np.array([-1.0])
    angle = 1e-8
    w = np.array([np.cos(angle), np.sin(angle)])
    state = pf.block_state(np.array([-500.0]), np.concatenate([[1.0], w])[None] / np.sqrt(2.0))
    problem = pf.problem(pf.Data(x, y, False, "one"), pf.TwoLayer(1), state, loss=pf.Square("sum"))
    times = np.array([5.0, 15.0, 18.0])
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=18.0), record_times=times)
    across = np.sin(angle)
    exact = 0.5 * (2 * np.exp(-times) + across**2 / 2 * (np.exp(times) - np.exp(-times)))
    measured = np.exp(solution.recorded.log_norm[:, 0] + 500.0)
    np.testing.assert_allclose(measured, exact, rtol=1e-7)


def test_error_follows_the_tolerance() -> None:
    problem = random_problem(3)
    times = [5.0, 20.0]
    best = pf.gradient_flow(problem, stop=pf.Stop(time=20.0), rtol=1e-13, record_times=times)
    previous = np.inf
    for rtol in (1e-4, 1e-6, 1e-8, 1e-10):
        solution = pf.gradient_flow(problem, stop=pf.Stop(time=20.0), rtol=rtol, record_times=times)
        error = np.abs(solution.recorded.weights() - best.recorded.weights()).max()
        assert error < 30 * rtol
        previous = error
    assert previous < 1e-8


@pytest.mark.parametrize("slope", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (8, 2)])
def test_loss_never_rises_and_balance_holds(shape: tuple[int, int], slope: float) -> None:
    n, d = shape
    solution = pf.gradient_flow(
        random_problem(1, n, d, slope=slope), stop=pf.Stop(time=30.0), rtol=1e-9
    )
    assert solution.status == "ok"
    loss = solution.trajectory.loss
    assert (np.diff(loss) <= 1e-9 * loss[:-1]).all()
    v = solution.trajectory.direction
    np.testing.assert_allclose(np.abs(v[:, :, 0]), np.linalg.norm(v[:, :, 1:], axis=2), rtol=1e-12)
    assert solution.balancedness_drift < 1e-7


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n=st.integers(2, 6), d=st.integers(2, 5))
def test_symmetries(seed: int, n: int, d: int) -> None:
    problem = random_problem(seed, n, d, m=8)
    rng = np.random.default_rng([seed, 11])
    stop = pf.Stop(time=8.0)

    def end(data: pf.Data, initial: pf.BlockState, **options: object) -> np.ndarray:
        changed = pf.problem(data, problem.network, initial, **options)
        return pf.gradient_flow(changed, stop=stop, rtol=1e-10).final.weights()[0]

    x, y, initial = problem.data.x, problem.data.y, problem.initial
    base = end(problem.data, initial)
    tolerance = {"atol": 2e-8 * np.abs(base).max(), "rtol": 0.0}

    order = rng.permutation(8)
    permuted = end(problem.data, pf.BlockState(initial.log_norm[order], initial.direction[order]))
    np.testing.assert_allclose(permuted, base[order], **tolerance)

    shuffled = rng.permutation(n)
    np.testing.assert_allclose(
        end(pf.Data(x[shuffled], y[shuffled], False, "p"), initial), base, **tolerance
    )

    q = np.linalg.qr(rng.standard_normal((d, d)))[0]
    turned = initial.direction.copy()
    turned[:, 1:] = turned[:, 1:] @ q
    rotated = end(pf.Data(x @ q, y, False, "r"), pf.BlockState(initial.log_norm, turned))
    np.testing.assert_allclose(rotated[:, 1:] @ q.T, base[:, 1:], **tolerance)

    # Adding inputs that no weight reaches, and examples that are zero, changes nothing.
    wide = pf.Data(np.vstack([x, np.zeros((1, d))]), np.append(y, 0.7), False, "z")
    scale = float(n + 1) / n
    np.testing.assert_allclose(end(wide, initial, loss=pf.Square("mean", scale)), base, **tolerance)

    # Repeating an example is the same as weighting it.
    twice = pf.Data(np.vstack([x, x]), np.append(y, y), False, "2")
    np.testing.assert_allclose(end(twice, initial), base, **tolerance)


@pytest.mark.slow
def test_stiff_windows_keep_the_accuracy_on_images() -> None:
    # Explicit steps would be bound by stability: over 24 000 field evaluations to this time.
    data = pf.data.digits(classes=(0, 1), count=40)
    network = pf.TwoLayer(30)
    initial = pf.balanced(network, data.dimension, log10_scale=-8)
    problem = pf.problem(data, network, initial)
    ends = {}
    for rtol in (1e-5, 1e-7, 1e-9):
        solution = pf.gradient_flow(problem, stop=pf.Stop(time=1000.0), rtol=rtol)
        assert solution.work.field_evaluations < 12_000
        ends[rtol] = solution.final.weights()[0]
    assert np.abs(ends[1e-5] - ends[1e-9]).max() < 1e-4
    assert np.abs(ends[1e-7] - ends[1e-9]).max() < 1e-6


@pytest.mark.parametrize(("seed", "branching"), [(4, "on"), (42, "on"), (5, "off")])
def test_a_neuron_that_turns_in_a_jump_stays_on_the_side_that_was_chosen(
    seed: int, branching: str
) -> None:
    # Where a passes zero on a slide, rounding of |a|^2 - |w|^2 sent neurons across the kink again.
    rng = np.random.default_rng([7, seed])
    n, d = int(rng.integers(3, 8)), int(rng.integers(2, 4))
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    theta = rng.normal(size=(400, 1 + d))
    norm = np.linalg.norm(theta, axis=1)
    initial = pf.block_state(np.log(1e-9 * norm), theta / norm[:, None])
    loss = pf.Square("mean", 2.0)
    problem = pf.problem(pf.Data(x, y, False, "r"), pf.TwoLayer(400), initial, loss=loss)

    def follow(times: Sequence[float]) -> pf.Solution:
        return pf.gradient_flow(
            problem, stop=pf.Stop(time=8.0), rtol=1e-4, record_times=times, branching=branching
        )

    one, many = follow([8.0]), follow(list(np.linspace(0.1, 8.0, 80)))
    assert one.events == many.events and one.events.branchings > 0
    apart = one.recorded.direction[-1] - many.recorded.direction[-1]
    assert np.abs(apart).max() < 1e-5


def test_many_events_in_a_window_keep_the_tolerance() -> None:
    # Hundreds of neurons cross in one window: thirteen times don't tell how the residual changes.
    rng = np.random.default_rng(12)
    data = pf.Data.from_arrays(rng.normal(size=(7, 2)), rng.normal(size=7), bias=False)
    initial = pf.balanced(pf.TwoLayer(720), 2, scale=0.1 / 720**0.5, seed=12)
    problem = pf.problem(data, pf.TwoLayer(720), initial)
    times = np.linspace(0.2, 4.0, 20)

    def follow(rtol: float) -> pf.Trajectory:
        solution = pf.gradient_flow(problem, stop=pf.Stop(time=4.0), rtol=rtol)
        return solution.evaluate(times)

    exact = follow(1e-12)
    for rtol in (1e-6, 1e-8, 1e-9):
        found = follow(rtol)
        ratio = np.exp(found.log_norm - exact.log_norm)[..., None]
        error = np.linalg.norm(ratio * found.direction - exact.direction, axis=2)
        assert np.median(error, axis=1).max() < rtol


def test_time_and_labels_scale() -> None:
    problem = random_problem(5)
    stop = pf.Stop(time=6.0)
    base = pf.gradient_flow(problem, stop=stop, rtol=1e-10).final.weights()[0]
    # A loss multiplied by c runs c times faster.
    faster = pf.problem(problem.data, problem.network, problem.initial, loss=pf.Square("mean", 4.0))
    weights = pf.gradient_flow(faster, stop=pf.Stop(time=1.5), rtol=1e-10).final.weights()[0]
    np.testing.assert_allclose(weights, base, atol=1e-9)
    # Labels times c, weights times sqrt(c): time runs c times faster.
    c = 9.0
    scaled = pf.problem(
        pf.Data(problem.data.x, c * problem.data.y, False, "c"),
        problem.network,
        pf.BlockState(problem.initial.log_norm + 0.5 * np.log(c), problem.initial.direction),
    )
    weights = pf.gradient_flow(scaled, stop=pf.Stop(time=6.0 / c), rtol=1e-10).final.weights()[0]
    np.testing.assert_allclose(weights / np.sqrt(c), base, atol=1e-9)


def test_any_scale_costs_the_same() -> None:
    evaluations = {
        log10: pf.gradient_flow(
            two_points(log10_scale=log10), stop=pf.Stop(loss=1e-10), rtol=1e-10
        ).work.field_evaluations
        for log10 in (-12, -100, -1000)
    }
    assert evaluations[-1000] <= 1.2 * evaluations[-100]
    assert evaluations[-1000] <= 2.0 * evaluations[-12]


def test_two_points_visit_the_saddles_of_the_paper() -> None:
    solution = pf.gradient_flow(two_points(log10_scale=-40), stop=pf.Stop(grad_norm=1e-9))
    assert solution.stop_reason == "grad_norm"
    origin, middle, end = solution.saddles
    assert origin.active_blocks == 0 and origin.time_enter == 0.0
    np.testing.assert_allclose(origin.loss, 1.0, rtol=1e-12)
    # D+ = (2, 1), D- = (0.5, -1): the positive label is fitted, then the negative one.
    np.testing.assert_allclose(middle.loss, 0.5, rtol=1e-8)
    np.testing.assert_allclose(middle.residual_norm, 1.0, rtol=1e-8)
    assert origin.kkt_residual is not None and middle.kkt_residual is not None
    assert origin.kkt_residual < 1e-6 and middle.kkt_residual < 1e-6
    assert end.loss < 1e-15 and end.kkt_residual is None
    # Lemma 2 and Fact 1: leaving times -ln(lambda)/|D|, up to terms that lambda doesn't change.
    lam = 40 * np.log(10.0)
    assert abs(origin.time_leave - lam / 5**0.5) < 3.0
    assert abs(middle.time_leave - lam / 1.25**0.5) < 4.0


def test_stop_values_are_reached() -> None:
    problem = two_points()
    assert pf.gradient_flow(problem, stop=pf.Stop(time=3.25)).final.time[0] == 3.25
    by_log = pf.gradient_flow(problem, stop=pf.Stop(log_time=2.0))
    np.testing.assert_allclose(by_log.final.time[0], np.exp(2.0), rtol=1e-15)
    for loss in (0.7, 1e-3, 1e-9):
        solution = pf.gradient_flow(problem, stop=pf.Stop(loss=loss, time=100.0))
        assert solution.stop_reason == "loss"
        np.testing.assert_allclose(solution.final.loss[0], loss, rtol=1e-8)
    rest = pf.gradient_flow(problem, stop=pf.Stop(grad_norm=1e-7))
    np.testing.assert_allclose(rest.final.grad_norm[0], 1e-7, rtol=1e-6)
    two = pf.gradient_flow(problem, stop=pf.Stop(max_saddles=2))
    assert len(two.saddles) == 2 and two.saddles[1].time_leave == two.final.time[0]


def test_recorded_times_are_exact_and_evaluate_agrees() -> None:
    problem = two_points()
    times = [0.0, 1.0, 5.5, 9.0, 9.0, 12.0]
    solution = pf.gradient_flow(
        problem, stop=pf.Stop(time=12.0), rtol=1e-10, record_times=times, points=20
    )
    np.testing.assert_array_equal(solution.recorded.time, times)
    again = solution.evaluate(times)
    np.testing.assert_allclose(again.weights(), solution.recorded.weights(), atol=1e-10)
    assert len(solution.trajectory) <= 45
    with pytest.raises(pf.PolarflowError, match="outside the run"):
        solution.evaluate([13.0])


def test_recorded_inputs_give_the_learned_function() -> None:
    problem = two_points()
    inputs = np.array([[-0.5, 1.0], [2.0, 1.0], [0.3, 1.0]])
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=30.0), inputs=inputs)
    np.testing.assert_allclose(
        solution.final.output[0, :2], solution.final.prediction[0], atol=1e-14
    )
    np.testing.assert_allclose(
        problem.network.predict(solution.final.state(0), inputs), solution.final.output[0]
    )


def test_a_large_start_visits_no_saddle() -> None:
    data = pf.Data.from_arrays(
        [[-1.5], [-1.0], [0.0], [0.25], [2.0]], [0.7, -0.3, -0.3, 0.4, 0.2], bias=True
    )
    network = pf.TwoLayer(60)
    initial = pf.balanced(network, 2, scale=10 / 60**0.5)
    lazy = pf.problem(data, network, initial, loss=pf.Square("mean", 2.0))
    assert pf.gradient_flow(lazy, stop=pf.Stop(time=5.0)).saddles == ()


def test_rest_that_is_not_what_was_asked_for_is_told() -> None:
    # A positive neuron can't fit a negative label: it dies, and the loss stays at 1/2. On a line it
    # decays for ever instead, without reaching the loss.
    state = pf.block_state(np.array([-5.0]), np.array([[1.0, 0.6, 0.8]]) / np.sqrt(2.0))
    plane = pf.Data(np.array([[1.0, 0.0]]), np.array([-1.0]), False, "plane")
    problem = pf.problem(plane, pf.TwoLayer(1), state, loss=pf.Square("sum"))
    for case in (problem, one_neuron(1.0, -1.0, -5.0)):
        solution = pf.gradient_flow(case, stop=pf.Stop(loss=1e-3))
        assert solution.status == "at_rest" and "at rest" in solution.message
        np.testing.assert_allclose(solution.final.loss[0], 0.5, rtol=1e-4)


def test_an_exactly_opposed_neuron_decays_for_ever() -> None:
    # w = -|w| D/|D| to rounding: a unit neuron in a line inside the plane shrinks like exp(-t).
    x = np.array([[0.6, 0.8]])
    v = np.array([[1.0, 0.6, 0.8]]) / np.sqrt(2.0)
    problem = pf.problem(
        pf.Data(x, np.array([-1.0]), False, "one"),
        pf.TwoLayer(1),
        pf.block_state(np.array([0.5 * np.log(2.0) - 50.0]), v),
        loss=pf.Square("sum"),
    )
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=300.0), record_times=[30.0, 300.0])
    np.testing.assert_allclose(
        solution.recorded.log_norm[:, 0], 0.5 * np.log(2.0) - 50.0 - np.array([30.0, 300.0])
    )


@pytest.mark.parametrize(("label", "size"), [(-1.0, 1e-2), (-1.0, 1.0), (1.0, 2.0)])
def test_a_flow_that_only_shrinks(label: float, size: float) -> None:
    # u = a^2 obeys u' = 2 (y - u) u on x = 1, also where every neuron decays and none turns.
    problem = one_neuron(1.0, label, float(np.log(size * np.sqrt(2.0))))
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=2.0), rtol=1e-10)
    growth = np.exp(2 * label * 2.0)
    exact = size**2 * growth / (1 + size**2 / label * (growth - 1))
    measured = np.exp(2 * solution.final.log_norm[0, 0]) / 2
    np.testing.assert_allclose(measured, exact, rtol=1e-9)


def test_a_neuron_at_rest_on_a_shared_kink_leaves_when_it_must() -> None:
    # x and -x share a kink that holds neuron 0, which then has no velocity at all, until neuron 1
    # has turned the residual at -x and zero leaves Clarke's set. Times and weights are those of
    # an independent event-located solver.
    data = pf.Data.from_arrays([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]], [1.0, 0.2, 3.0])
    w = np.array([[0.02, -0.1], [-0.1, 0.1]])
    size = np.linalg.norm(w, axis=1)
    direction = np.concatenate([[[-1.0], [1.0]], w / size[:, None]], axis=1) / np.sqrt(2.0)
    state = pf.block_state(np.log(size * np.sqrt(2.0)), direction)
    problem = pf.problem(data, pf.TwoLayer(2), state, loss=pf.Square("sum"))
    solution = pf.gradient_flow(
        problem, stop=pf.Stop(time=5.0), rtol=1e-10, record_times=[0.19, 0.25, 0.31, 0.33, 5.0]
    )
    across = solution.recorded.direction[:, 0, 1]
    assert across[0] > 0 and across[1] == across[2] == 0 and across[3] < 0
    final = solution.final.weights()[0, 0, 1:]
    np.testing.assert_allclose(final, [-0.11948605, -0.11448872], atol=2e-8)


def test_a_gradient_that_jumps_at_a_kink_is_small_when_it_says_so() -> None:
    # The only neuron dies on its kink: the gradient jumps to zero there.
    state = pf.block_state(np.array([-5.0]), np.array([[1.0, 0.6, 0.8]]) / np.sqrt(2.0))
    data = pf.Data(np.array([[1.0, 0.0]]), np.array([-1.0]), False, "one")
    problem = pf.problem(data, pf.TwoLayer(1), state, loss=pf.Square("sum"))
    solution = pf.gradient_flow(problem, stop=pf.Stop(grad_norm=1e-9, time=100.0))
    assert solution.stop_reason == "grad_norm" and solution.final.grad_norm[0] <= 1e-9
    assert solution.events.crossings == 1


def test_a_neuron_dead_on_a_kink_stays_off() -> None:
    # Neuron 0 loses its only example while the residual there is negative, and ends exactly on
    # the kink. When the residual turns positive, relu'(0) = 0 keeps it dead.
    x = np.array([[1.0, 0.0], [0.6, 0.8]])
    data = pf.Data(x, np.array([0.5, -3.0]), False, "pair")
    w = np.array([[0.1, -1.0], [1.0, -0.8], [0.3, 1.0]])
    w /= np.linalg.norm(w, axis=1)[:, None]
    a = np.array([1.0, 1.0, -1.0])
    state = pf.block_state(
        np.log([1e-3, 2.0, 0.05]), np.concatenate([a[:, None], w], axis=1) / np.sqrt(2.0)
    )
    problem = pf.problem(data, pf.TwoLayer(3), state, loss=pf.Square("sum"))
    solution = pf.gradient_flow(problem, stop=pf.Stop(time=30.0), rtol=1e-10)
    residual = data.y[0] - solution.trajectory.prediction[:, 0]
    on_kink = np.abs(solution.trajectory.direction[:, 0, 1]) < 1e-14
    assert residual[0] < 0 and (residual[on_kink] > 0.1).any()
    assert on_kink[int(np.argmax(on_kink)) :].all()
    assert solution.events.branchings == 0


def test_branching_at_the_start_is_reported() -> None:
    # a > 0, residual > 0 on an example that the neuron touches: both sides lead away.
    data = pf.Data(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([1.0, 1.0]), False, "pair")
    state = pf.block_state(np.array([-5.0]), np.array([[1.0, 0.0, 1.0]]) / np.sqrt(2.0))
    problem = pf.problem(data, pf.TwoLayer(1), state, loss=pf.Square("sum"))
    ends = {}
    for branching in ("off", "on", "stay"):
        solution = pf.gradient_flow(problem, stop=pf.Stop(time=3.0), branching=branching)
        assert solution.events.branchings == 1
        ends[branching] = solution.final.direction[0, 0, 1]
    assert ends["off"] < -0.5 and ends["on"] > 0.5 and ends["stay"] == 0.0
    stopped = pf.gradient_flow(problem, stop=pf.Stop(time=3.0), branching="stop")
    assert stopped.status == "branching" and stopped.final.time[0] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rtol": 1.0}, "flow.rtol"),
        ({"branching": "left"}, "flow.branching"),
        ({"record_times": [-1.0]}, "record.times"),
        ({"points": 1}, "record.points"),
        ({"inputs": np.zeros((1, 3))}, "record.inputs"),
    ],
)
def test_wrong_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(pf.PolarflowError, match=message):
        pf.gradient_flow(two_points(), stop=pf.Stop(time=1.0), **options)


def test_compiling_on_the_way_is_no_time_of_the_flow() -> None:
    from numba import njit

    from polarflow.solution._engines import compiling

    doubled = njit(lambda x: 2.0 * x)
    pr = two_points(width=4)
    with compiling(KinkExactEngine(pr, 1e-8)) as first:
        assert doubled(1.0) == 2.0
    with compiling(KinkExactEngine(pr, 1e-8)) as again:
        assert doubled(1.0) == 2.0
    assert first.seconds > again.seconds == 0.0


def test_an_interrupt_keeps_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    from polarflow.flow.kinks import KinkExactEngine

    advance = KinkExactEngine.advance

    def interrupt(self: KinkExactEngine, state, *arguments):
        if state.time > 4.0:
            raise KeyboardInterrupt
        return advance(self, state, *arguments)

    monkeypatch.setattr(KinkExactEngine, "advance", interrupt)
    solution = pf.gradient_flow(two_points(), stop=pf.Stop(time=15.0), record_times=[1.0, 14.0])
    assert solution.status == "interrupted"
    assert 4.0 < solution.final.time[0] < 15.0 and len(solution.recorded) == 1


def test_times_beyond_the_floats_are_reached() -> None:
    # The loss is at rest, to rounding, long before e^1e6; what was recorded there is the end.
    solution = pf.gradient_flow(
        two_points(),
        stop=pf.Stop(log_time=1e6),
        record_times=[3.0],
        record_log_times=[2.0, 800.0, 2e6],
    )
    assert solution.status == "ok" and solution.stop_reason == "log_time"
    assert solution.final.log_time[0] == 1e6 and np.isinf(solution.final.time[0])
    np.testing.assert_array_equal(solution.recorded.log_time, [np.log(3.0), 2.0, 800.0])
    entries = solution.summary()["recorded"]
    assert [e["time"] for e in entries] == [3.0, float(np.exp(2.0)), None, None]
    assert [e["log_time"] for e in entries] == [np.log(3.0), 2.0, 800.0, 2e6]
    assert entries[2]["loss"] is not None and entries[3]["loss"] is None
    again = solution.evaluate([3.0], log_times=[2.0])
    np.testing.assert_allclose(again.weights(), solution.recorded.weights()[:2], atol=1e-9)


def test_a_loss_below_rounding_ends_at_rest() -> None:
    solution = pf.gradient_flow(two_points(), stop=pf.Stop(log_loss=-1e6))
    assert solution.status == "at_rest" and solution.final.log_loss[0] < -60.0


def test_the_gradient_at_a_vanishing_start_is_known_in_logs() -> None:
    start = pf.gradient_flow(two_points(log10_scale=-1000), stop=pf.Stop(time=1.0)).trajectory
    assert start.grad_norm[0] == 0.0
    # |grad l| is of the order of the weights' norm times the residual's correlation.
    assert abs(start.log_grad_norm[0] - start.log_param_norm[0]) < 3.0


def test_rest_amid_rounding_ends_a_run_whose_stop_is_out_of_reach() -> None:
    # More examples than neurons can fit: the flow converges, and what moves later is rounding.
    rng = np.random.default_rng(0)
    data = pf.Data(rng.standard_normal((12, 2)), rng.standard_normal(12), False, "many")
    network = pf.TwoLayer(6)
    problem = pf.problem(data, network, pf.balanced(network, 2, scale=1e-3))
    by_loss = pf.gradient_flow(problem, stop=pf.Stop(loss=1e-6))
    assert by_loss.status == "at_rest" and by_loss.work.steps < 200
    assert by_loss.saddles[-1].time_leave is None
    late = pf.gradient_flow(problem, stop=pf.Stop(log_time=50.0))
    assert late.stop_reason == "log_time" and late.final.log_time[0] == 50.0
    np.testing.assert_allclose(late.final.loss, by_loss.final.loss, rtol=1e-12)
    np.testing.assert_allclose(late.final.weights(), by_loss.final.weights(), atol=1e-8)


def test_a_time_too_early_for_floats_is_the_start() -> None:
    solution = pf.gradient_flow(two_points(), stop=pf.Stop(log_time=-2000.0))
    assert solution.stop_reason == "log_time" and solution.final.log_time[0] == -2000.0
    np.testing.assert_array_equal(solution.final.direction[0], solution.trajectory.direction[0])


@pytest.mark.parametrize("seed", range(8))
def test_a_start_on_several_kinks_takes_the_least_norm_velocity(seed: int) -> None:
    # Kinks that let go one by one may hold together: all of them are chosen at once.
    from scipy.optimize import lsq_linear

    rng = np.random.default_rng([seed, 77])
    x, y = rng.standard_normal((9, 12)), rng.uniform(0.5, 1.5, 9)
    w, kinks = rng.standard_normal(12), np.arange(5)
    across = np.linalg.qr(x[kinks].T)[0]
    for _ in range(2):
        w -= across @ (across.T @ w)
    direction = np.concatenate([[-1.0], w / np.linalg.norm(w)])[None] / np.sqrt(2.0)
    task = pf.problem(Data(x, y), pf.TwoLayer(1), block_state(np.array([-1e6]), direction))
    engine = KinkExactEngine(task, 1e-9)
    force = np.linalg.norm(engine.field(engine.initial()).force)
    residual, on = y / 9, x @ w > 1e-9
    best = lsq_linear(
        (residual[kinks, None] * x[kinks]).T, -residual[on] @ x[on], (0.0, 1.0), tol=1e-14
    )
    np.testing.assert_allclose(force, np.sqrt(2.0 * best.cost), rtol=1e-7)
