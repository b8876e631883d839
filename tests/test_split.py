"""Squared-ReLU units on examples that fall into orthogonal sets: parts keep sizes of their own."""

import numpy as np
import pytest
from reference.digits import ManyDigits
from scipy.integrate import solve_ivp

import polarflow as pf
from polarflow.flow.smooth import SmoothEngine, smooth_engine
from polarflow.flow.smooth._split import Parts, SplitEngine
from polarflow.networks import SquaredRelu, gaussian


def _problem(
    seed: int, sizes: tuple[int, ...], n: int, d: int, m: int, k: float, turned: bool = True
) -> pf.Problem:
    """n examples in each of some orthogonal spaces of those sizes; a start of about e^-k.

    They are orthogonal to rounding, or, along the axes, exactly.
    """
    rng = np.random.default_rng([11, seed])
    frame, start, x = np.linalg.qr(rng.standard_normal((d, d)))[0], 0, []
    frame = frame if turned else np.eye(d)
    for size in sizes:
        x.append(rng.standard_normal((n, size)) @ frame[start : start + size])
        start += size
    inputs = np.concatenate(x)
    network = SquaredRelu(m, tuple(int(s) for s in rng.choice([-1, 1], m)))
    initial = gaussian(network, d, log10_scale=-k / np.log(10), seed=seed)
    data = pf.Data(inputs, rng.standard_normal(len(inputs)))
    return pf.problem(data, network, initial, loss=pf.Square())


def _on_orthogonal_inputs(problem: pf.Problem, times: list[float]) -> np.ndarray:
    """Losses: u = w_j.x_k > 0 obeys (ln u)' = 2 s_j |x_k|^2 r_k / n, and no sign changes."""
    x, y, network = problem.data.x, problem.data.y, problem.network
    assert isinstance(network, SquaredRelu) and network.signs is not None
    z = problem.initial.direction @ x.T
    unit, k = np.nonzero(z > 0.0)
    sign, rate = np.array(network.signs)[unit], 2.0 * np.sum(x**2, axis=1)[k] / len(x)
    log_u = np.log(z[unit, k]) + problem.initial.log_norm[unit]

    def residual(u: np.ndarray) -> np.ndarray:
        return y - np.bincount(k, sign * np.exp(2.0 * np.minimum(u, 5.0)), len(x))

    def slopes(_: float, u: np.ndarray) -> np.ndarray:
        by = -2.0 * sign * np.exp(2.0 * np.minimum(u, 5.0))
        return (sign * rate)[:, None] * np.where(k[:, None] == k, by, 0.0)

    found = solve_ivp(
        lambda _, u: sign * rate * residual(u)[k],
        (0.0, times[-1]), log_u, "Radau", times, jac=slopes, rtol=1e-10, atol=1e-10,
    )  # fmt: skip
    return np.array([np.mean(residual(u) ** 2) / 2.0 for u in found.y.T])


@pytest.mark.parametrize("m, k", [(6, 300.0), (30, 100.0)])
def test_on_orthogonal_inputs_each_example_is_fitted_when_its_own_equation_says(m, k) -> None:
    problem = _problem(1, (1,) * 8, 1, 12, m, k)
    times = [k * c for c in (1.0, 2.0, 4.0, 8.0, 16.0)]
    exact = _on_orthogonal_inputs(problem, times)
    assert exact[0] > 3.0 * exact[-1]
    flow = pf.gradient_flow(
        problem, stop=pf.Stop(time=times[-1]), rtol=1e-9, record_times=times, points=10
    )
    np.testing.assert_allclose(np.exp(flow.recorded.log_loss), exact, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 3])
def test_parts_in_orthogonal_planes_are_those_of_many_digits(seed: int) -> None:
    problem, times = _problem(seed, (2, 2), 3, 5, 4, 60.0, turned=False), [60.0, 200.0, 400.0]
    flow = pf.gradient_flow(
        problem, stop=pf.Stop(time=times[-1]), rtol=1e-8, record_times=times, points=10
    )
    network, start = problem.network, problem.initial
    assert isinstance(network, SquaredRelu) and network.signs is not None
    signs = [int(s) for s in network.signs]
    x, y = problem.data.x, problem.data.y
    reference = ManyDigits(x, y, signs, start.log_norm, start.direction, 1e-11, 500)
    for i, time in enumerate(times):
        reference.until(time)
        assert np.exp(flow.recorded.log_loss[i]) == pytest.approx(reference.loss, abs=1e-8)
        size = [reference.log_singular_values([j])[0] for j in range(4)]
        np.testing.assert_allclose(flow.recorded.log_norm[i], size, atol=1e-6)


@pytest.mark.parametrize("sizes, n", [((1, 1, 1), 2), ((2, 1), 3)])
def test_blocks_and_ncf_are_those_of_the_units(sizes: tuple[int, ...], n: int) -> None:
    problem = _problem(5, sizes, n, 5, 4, 3.0)
    split, whole = smooth_engine(problem, 1e-8), SmoothEngine(problem, 1e-8)
    assert isinstance(split, SplitEngine)
    one, two = split.initial(), whole.initial()
    found, expected = split.blocks(one), whole.blocks(two)
    np.testing.assert_allclose(found.log_norm, expected.log_norm, atol=1e-13)
    np.testing.assert_allclose(found.direction, expected.direction, atol=1e-13)
    np.testing.assert_allclose(split.ncf(one), whole.ncf(two), atol=1e-13)
    first, second = split.measure([one])[0], whole.measure([two])[0]
    np.testing.assert_allclose(first.prediction, second.prediction, rtol=1e-12)
    assert first.log_loss == pytest.approx(second.log_loss, abs=1e-14)
    assert first.log_grad_norm == pytest.approx(second.log_grad_norm, abs=1e-12)


def test_examples_fall_into_the_orthogonal_sets_that_there_are() -> None:
    x = np.array(
        [[1.0, 1.0, 0, 0], [0, 0, 2.0, 0], [0, 0, 0, 0], [1.0, -1.0, 0, 0], [0, 3.0, 0, 0]]
    )
    parts = Parts.of(x)
    assert parts.sets == (0, 1, -1, 0, 0) and [len(b) for b in parts.bases] == [2, 1]
    np.testing.assert_allclose(parts.x @ parts.x.T, x @ x.T, atol=1e-14)
    assert (parts.x[1, :2] == 0.0).all() and (parts.x[[0, 3, 4], 2] == 0.0).all()


def test_where_parts_are_too_many_a_note_says_what_is_not_known() -> None:
    flow = pf.gradient_flow(
        _problem(7, (2, 1), 4, 6, 60, 5.0), stop=pf.Stop(time=0.1), rtol=1e-6, points=5
    )
    assert any("orthogonal to each other" in note for note in flow.notes)


def test_a_unit_that_is_orthogonal_to_a_set_to_rounding_never_leaves_along_it() -> None:
    frame = np.linalg.qr(np.random.default_rng(6).standard_normal((3, 3)))[0]
    start = pf.block_state(np.array([-3.0]), frame[:1])
    assert np.abs(frame[:1] @ frame[1:].T).max() < 1e-15
    problem = pf.problem(pf.Data(frame, np.ones(3)), SquaredRelu(1), start, loss=pf.Square())
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=1e3), rtol=1e-8, points=10)
    assert np.exp(flow.final.log_loss[0]) == pytest.approx(1.0 / 3.0, abs=1e-12)
