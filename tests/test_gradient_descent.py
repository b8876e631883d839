"""Gradient descent against a few lines of NumPy and closed forms; the NTK against its formula."""

from dataclasses import replace

import numpy as np
import pytest

import polarflow as pf
from polarflow.comparators import gradient_descent, ntk_interpolant
from polarflow.comparators._ntk import ntk_features
from polarflow.networks import SquaredRelu, gaussian


def make(width=60, n=3, d=4, seed=0, slope=0.0, scale=0.3, loss=None):
    rng = np.random.default_rng(seed)
    data = pf.Data(rng.standard_normal((n, d)), rng.standard_normal(n))
    network = pf.TwoLayer(width, "leaky_relu" if slope else "relu", slope)
    initial = pf.balanced(network, d, scale=scale, seed=seed)
    return pf.problem(data, network, initial, loss=loss or pf.Square("mean", scale=2.0))


def by_hand(problem, step, iterations):
    x, y = problem.data.x, problem.data.y
    weights = problem.initial.weights()
    a, w = weights[:, 0].copy(), weights[:, 1:].copy()
    for _ in range(iterations):
        z = w @ x.T
        active = np.where(z > 0, 1.0, problem.network.slope)
        r = problem.loss.residual((active * z).T @ a, y)
        a, w = a + step * (active * z) @ r, w + step * a[:, None] * ((active * r) @ x)
    return np.concatenate([a[:, None], w], axis=1)


@pytest.mark.parametrize("width", [1, 60, 1300])
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("loss", [pf.Square("mean", scale=2.0), pf.Square("sum")])
def test_it_takes_the_steps_of_the_definition(width, slope, loss):
    problem = make(width=width, slope=slope, loss=loss, scale=1 / width**0.5)
    descent = gradient_descent(problem, 1e-3, 300, record=[0, 300])
    expected = by_hand(problem, 1e-3, 300)
    assert descent.status == "ok"
    np.testing.assert_allclose(descent.trajectory.weights()[1], expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        descent.trajectory.weights()[0], problem.initial.weights(), rtol=1e-14
    )


@pytest.mark.parametrize("coordinates", ["weights", "examples"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 3), (9, 8), (7, 20), (20, 30)])
@pytest.mark.parametrize(("precision", "close"), [("double", 1e-12), ("single", 2e-5)])
def test_every_form_takes_the_same_steps(coordinates, n, d, precision, close):
    problem = make(width=40, n=n, d=d, slope=0.1, scale=0.2)
    descent = gradient_descent(
        problem, 1e-3, 200, record=[0, 100, 200], precision=precision, coordinates=coordinates
    )
    expected = by_hand(problem, 1e-3, 200)
    error = np.abs(descent.trajectory.weights()[2] - expected).max()
    assert error < close * np.abs(expected).max()
    assert descent.trajectory.loss.dtype == float


def squared(loss=None, scale=0.5):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((7, 3))
    data = pf.Data(x, np.where(x[:, 0] > 0, 1.0, -1.0))
    network = SquaredRelu(6, (1.0, -1.0) * 3)
    initial = gaussian(network, 3, scale=scale, seed=1)
    return pf.problem(data, network, initial, loss=loss or pf.Square("mean"))


@pytest.mark.parametrize(
    ("loss", "steps"),
    [
        (pf.Square("sum"), "constant"),
        (pf.Logistic("mean"), "constant"),
        (pf.Logistic("mean"), "by_loss"),
        (pf.Exponential("sum"), "by_loss"),
    ],
)
def test_any_network_and_loss_take_the_steps_of_the_definition(loss, steps):
    problem, step, iterations = squared(loss), 0.01, 300
    x, y = problem.data.x, problem.data.y
    signs, u, time = np.array(problem.network.signs), problem.initial.weights(), 0.0
    for _ in range(iterations):
        z = np.maximum(u @ x.T, 0.0)
        h = signs @ z**2
        gradient = -2.0 * signs[:, None] * ((z * loss.residual(h, y)) @ x)
        own = step / (loss.value(h, y) if steps == "by_loss" else 1.0)
        own *= min(1.0, 0.1 * np.linalg.norm(u) / (own * np.linalg.norm(gradient)))
        u, time = u - own * gradient, time + own
    descent = gradient_descent(problem, step, iterations, [0, iterations], steps=steps)
    assert descent.status == "ok"
    end = descent.trajectory.weights()[1]
    np.testing.assert_allclose(end, u, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(descent.trajectory.time[1], time, rtol=1e-12)
    h = signs @ np.maximum(u @ x.T, 0.0) ** 2
    np.testing.assert_allclose(descent.trajectory.log_loss[1], loss.log_value(h, y), rtol=1e-9)


def test_a_two_layer_network_under_the_logistic_loss_descends_along_its_gradient():
    problem = replace(make(width=9, slope=0.2), loss=pf.Logistic("sum"))
    problem = replace(problem, data=pf.Data(problem.data.x, np.sign(problem.data.y)))
    path = gradient_descent(problem, 1e-7, 1, [0, 1]).trajectory
    slope = (path.loss[0] - path.loss[1]) / 1e-7
    np.testing.assert_allclose(slope, path.grad_norm[0] ** 2, rtol=1e-4)


def test_descent_on_the_logarithm_of_the_loss_goes_beyond_the_range_of_floats():
    # One example and one unit with u.x > 0: p = u.x obeys h = p^2, and ln l falls by steps.
    data = pf.Data(np.array([[1.0, 0.0]]), np.array([1.0]))
    initial = pf.block_state(np.zeros(1), np.array([[1.0, 0.0]]))
    problem = pf.problem(data, SquaredRelu(1), initial, loss=pf.Exponential("sum"))
    path = gradient_descent(problem, 0.01, 400, [0, 400], steps="by_loss").trajectory
    # p grows by the factor 1 + 0.02 a step, since the gradient of -ln l = p^2 is 2p.
    np.testing.assert_allclose(path.log_loss[1], -(1.02**800), rtol=1e-10)
    assert path.loss[1] == 0.0
    assert np.isfinite(path.log_time[1])


def test_any_network_follows_the_flow_to_first_order_in_the_step():
    problem, end = squared(), 2.0
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=end), rtol=1e-9).final.weights()[0]
    errors = [
        np.abs(gradient_descent(problem, end / n, n, [n]).trajectory.weights()[0] - flow).max()
        for n in (1000, 2000, 4000)
    ]
    np.testing.assert_allclose(np.array(errors[:-1]) / errors[1:], 2.0, atol=0.05)


def test_a_single_neuron_follows_the_logistic_equation_to_first_order_in_the_step():
    # One example, one balanced neuron on it: u = |w|^2 obeys u' = 2 |x| (y - |x| u) u.
    x, y, start, end = np.array([[3.0, 4.0]]), np.array([2.0]), 1e-3, 0.3
    direction = np.array([[1.0, 0.6, 0.8]]) / np.sqrt(2)
    initial = pf.block_state(np.array([0.5 * np.log(2 * start)]), direction)
    problem = pf.problem(pf.Data(x, y), pf.TwoLayer(1), initial, loss=pf.Square("sum"))
    limit = y[0] / 5
    exact = limit / (1 + (limit / start - 1) * np.exp(-2 * 5 * y[0] * end))
    errors = []
    for iterations in (2000, 4000, 8000):
        descent = gradient_descent(problem, end / iterations, iterations, record=[iterations])
        errors.append(abs(descent.trajectory.weights()[0, 0, 0] ** 2 - exact))
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(order, 1.0, atol=0.05)


def test_records_loss_and_gradient_belong_to_the_recorded_weights():
    problem = make()
    descent = gradient_descent(problem, 1e-3, 50, record=[7, 0, 50, 7])
    assert descent.iteration.tolist() == [0, 7, 50]
    np.testing.assert_allclose(descent.trajectory.time, [0.0, 0.007, 0.05])
    trajectory = descent.trajectory
    for i in range(3):
        h = problem.network.predict(trajectory.state(i), problem.data.x)
        np.testing.assert_allclose(trajectory.prediction[i], h, rtol=1e-12)
        np.testing.assert_allclose(trajectory.loss[i], problem.loss.value(h, problem.data.y))
    np.testing.assert_allclose(np.linalg.norm(trajectory.direction, axis=2), 1.0)
    slope = (trajectory.loss[0] - gradient_descent(problem, 1e-7, 1, [1]).trajectory.loss[0]) / 1e-7
    np.testing.assert_allclose(slope, trajectory.grad_norm[0] ** 2, rtol=1e-4)


def test_the_derivative_of_relu_at_zero_is_zero():
    x, y = np.array([[1.0, 0.0]]), np.array([1.0])
    initial = pf.block_state(np.zeros(1), np.array([[1.0, 0.0, 1.0]]) / np.sqrt(2))
    problem = pf.problem(pf.Data(x, y), pf.TwoLayer(1), initial)
    weights = gradient_descent(problem, 0.1, 20, record=[0, 20]).trajectory.weights()
    np.testing.assert_array_equal(weights[0], weights[1])


def test_divergence_is_a_status():
    descent = gradient_descent(make(scale=2.0), 10.0, 1000)
    assert descent.status == "diverged"
    assert len(descent.iteration) < 1001


def test_what_a_float_cannot_hold_is_refused():
    problem = make()
    tiny = pf.balanced(problem.network, problem.data.dimension, log10_scale=-1000)
    with pytest.raises(pf.PolarflowError, match="block 0 starts at norm 1e-1000"):
        gradient_descent(pf.problem(problem.data, problem.network, tiny), 1e-3, 10)
    tiny = pf.balanced(problem.network, problem.data.dimension, log10_scale=-50)
    with pytest.raises(pf.PolarflowError, match="float32 can only follow norms above 1e-38"):
        gradient_descent(
            pf.problem(problem.data, problem.network, tiny), 1e-3, 10, precision="single"
        )
    with pytest.raises(pf.PolarflowError, match='steps is "by_loss" and loss.kind "square"'):
        gradient_descent(problem, 1e-3, 10, steps="by_loss")
    with pytest.raises(pf.PolarflowError, match="coordinates 'examples'; for this network"):
        gradient_descent(squared(), 1e-3, 10, coordinates="examples")
    with pytest.raises(pf.PolarflowError, match="precision is 'half'; allowed are double and"):
        gradient_descent(problem, 1e-3, 10, precision="half")


@pytest.mark.parametrize(
    ("step", "iterations", "record", "message"),
    [
        (0.0, 10, None, "step is 0.0"),
        (1e-3, 0, None, "iterations is 0"),
        (1e-3, 10, [11], "record holds 11"),
        (1e-3, 10, [], "record is empty"),
    ],
)
def test_wrong_arguments_are_named(step, iterations, record, message):
    with pytest.raises(pf.PolarflowError, match=message):
        gradient_descent(make(), step, iterations, record)


def test_ntk_features_are_the_gradient_of_the_network():
    problem = make(width=5, slope=0.3)
    weights = problem.initial.weights()
    x = problem.data.x

    def h(flat):
        block = flat.reshape(weights.shape)
        z = x @ block[:, 1:].T
        return np.maximum(z, problem.network.slope * z) @ block[:, 0]

    nudge = 1e-6 * np.eye(weights.size)
    flat = weights.ravel()
    slopes = np.array([(h(flat + e) - h(flat - e)) / 2e-6 for e in nudge]).T
    np.testing.assert_allclose(
        ntk_features(problem.network, weights, x), slopes, rtol=1e-7, atol=1e-8
    )


def test_ntk_interpolant_is_the_kernel_interpolant_through_the_labels():
    problem = make(width=30, n=6, d=3)
    ntk = ntk_interpolant(problem)
    x, y = problem.data.x, problem.data.y
    np.testing.assert_allclose(ntk(x), y, atol=1e-12)
    assert ntk.residual < 1e-12
    query = np.random.default_rng(1).standard_normal((20, 3))
    weights = problem.initial.weights()
    at_x, at_q = (ntk_features(problem.network, weights, p) for p in (x, query))
    start = problem.network.predict(problem.initial, query)
    missing = y - problem.network.predict(problem.initial, x)
    kernel = at_x @ at_x.T
    by_kernel = start + at_q @ at_x.T @ np.linalg.solve(kernel, missing)
    np.testing.assert_allclose(ntk(query), by_kernel, rtol=1e-9)
    np.testing.assert_allclose(ntk.smallest_eigenvalue, np.linalg.eigvalsh(kernel)[0], rtol=1e-9)


def test_the_lazy_limit_of_gradient_descent_is_the_ntk_interpolant():
    # Neurons in pairs of opposite sign make h_0 = 0: weights of norm alpha then move by 1/alpha,
    # and both the curvature of h and the kinks that neurons cross are felt less and less.
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal(4)
    w = np.repeat(rng.standard_normal((40, 3)), 2, axis=0)
    sign = np.tile([1.0, -1.0], 40)
    direction = np.concatenate([(sign * np.linalg.norm(w, axis=1))[:, None], w], axis=1)
    norm = np.linalg.norm(direction, axis=1)
    query = rng.standard_normal((50, 3))
    distances = []
    for alpha in (0.25, 16.0):
        initial = pf.block_state(np.log(alpha * norm), direction / norm[:, None])
        problem = pf.problem(
            pf.Data(x, y), pf.TwoLayer(80), initial, loss=pf.Square("sum", scale=1 / alpha**2)
        )
        final = gradient_descent(problem, 1e-4, 80000, record=[80000]).trajectory
        assert final.loss[0] < 1e-12
        learned = problem.network.predict(final.state(0), query)
        distances.append(np.abs(learned - ntk_interpolant(problem)(query)).max())
    assert distances[0] > 1e-2
    assert distances[1] < 1e-6
