"""Units that share a direction: parts below rounding, and the saddles that these decide about."""

import numpy as np
import pytest
from reference.digits import ManyDigits

import polarflow as pf
from polarflow.flow.smooth._mixture import orthogonalise, tear
from polarflow.flow.smooth._rest import Rest
from polarflow.flow.smooth._sides import _growth
from polarflow.networks import SquaredRelu, gaussian


def _problem(seed: int, shape: tuple[int, int, int], k: float) -> pf.Problem:
    """Normal data and labels, random signs, a start of about e^-k."""
    rng = np.random.default_rng([7, seed])
    n, d, m = shape
    data = pf.Data(rng.standard_normal((n, d)), rng.standard_normal(n))
    network = SquaredRelu(m, tuple(int(s) for s in rng.choice([-1, 1], m)))
    start = gaussian(network, d, log10_scale=-k / np.log(10), seed=seed)
    return pf.problem(data, network, start, loss=pf.Square())


def _reference(problem: pf.Problem, tolerance: float, bits: int) -> ManyDigits:
    network, start = problem.network, problem.initial
    assert isinstance(network, SquaredRelu) and network.signs is not None
    signs = [int(s) for s in network.signs]
    x, y = problem.data.x, problem.data.y
    return ManyDigits(x, y, signs, start.log_norm, start.direction, tolerance, bits)


@pytest.mark.parametrize("rtol", [1e-6, 1e-8, 1e-11])
def test_a_saddle_is_left_by_parts_of_active_units_as_with_many_digits(rtol: float) -> None:
    # Two units of one direction are at rest from t = 100 on. What is left of their difference,
    # e^-61 at first, is felt at t = 1200.
    problem, times = _problem(21, (4, 2, 4), 60.0), (60.0, 600.0, 1100.0, 1300.0)
    flow = pf.gradient_flow(
        problem, stop=pf.Stop(time=times[-1]), rtol=rtol, record_times=times, points=20
    )
    reference, found = _reference(problem, 1e-12, 260), np.exp(flow.recorded.log_loss)
    allowed = [10.0 * rtol * 0.23, 1e-11, 1e-10, 1e-6]
    for i, time in enumerate(times):
        reference.until(time)
        assert found[i] == pytest.approx(reference.loss, abs=allowed[i])


def test_the_time_at_a_saddle_left_by_parts_is_proportional_to_ln_delta() -> None:
    rates = []
    for k in (100.0, 400.0, 1600.0):
        stop = pf.Stop(loss=0.005)
        flow = pf.gradient_flow(_problem(21, (4, 2, 4), k), stop=stop, rtol=1e-8, points=20)
        assert flow.status == "ok"
        rates.append(np.exp(flow.final.log_time[0]) / k)
    # The distance to the limit falls like 1/k.
    assert rates[1] - rates[2] == pytest.approx((rates[0] - rates[1]) / 4.0, rel=0.1)


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_a_unit_that_its_examples_repel_returns_from_where_it_came_to(rtol: float) -> None:
    # Unit 2 sees one example, which repels it until t = 15. What that sees of it is e^-26 then;
    # by t = 37 it has grown beyond what it never saw.
    problem, times = _problem(102, (3, 2, 6), 50.0), (15.0, 37.0)
    flow = pf.gradient_flow(
        problem, stop=pf.Stop(time=37.0), rtol=rtol, record_times=times, points=20
    )
    reference = _reference(problem, 1e-12, 260)
    for i, time in enumerate(times):
        reference.until(time)
        size = [reference.log_singular_values([j])[0] for j in range(6)]
        # The reference's own error is 3e-7: it is relative to the whole unit.
        np.testing.assert_allclose(flow.recorded.log_norm[i], size, atol=6e-7 + 10.0 * rtol)


def _units(seed: int, m: int, n: int, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    v = rng.standard_normal((m, p))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return rng.uniform(-3.0, 0.0, m), v, rng.standard_normal((n, p))


def _inside(v: np.ndarray, x: np.ndarray, share: float) -> np.ndarray:
    """Directions with this much of their parts in the span of examples."""
    basis = np.linalg.qr(x.T)[0]
    moved = v - (1.0 - share) * (v @ basis) @ basis.T
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def test_what_is_put_aside_and_taken_back_leaves_units_as_they_are() -> None:
    rho, v, x = _units(6, 3, 5, 4)
    alive, rest = np.ones(3, bool), Rest.none(3, 5, 4)
    side = v @ x.T > 0.0
    # The bundle of the first two has one pattern, and parts that it doesn't see.
    side[1] = side[0] = np.array([True, False, True, False, False])
    v[:2] = _inside(v[:2], x[side[0]], 1e-4)
    before = np.exp(rho)[:, None] * v
    mix, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((2, 2)))
    blocks = mix @ before[:2]
    rest.put_aside(np.array([0, 1]), mix, (rho, v), alive, x, side[0])
    assert np.abs(v[:2] @ np.linalg.svd(x[side[0]])[2][2:].T).max() < 1e-14
    moving = mix @ (np.exp(rho[:2])[:, None] * v[:2])
    still = np.exp(rest.log_norm[:2])[:, None] * rest.unit[:2]
    np.testing.assert_allclose(moving + still, blocks, atol=1e-14)
    numbers = rest.sign[:2] * np.exp(rest.log_number[:2])
    np.testing.assert_allclose(numbers, still @ x.T, atol=1e-14)
    # Two units of their own again, of which one takes back what two examples see.
    size = np.linalg.norm(moving, axis=1)
    rho[:2], v[:2] = np.log(size), moving / size[:, None]
    rho[0] -= 40.0
    taken = np.zeros((3, 5), bool)
    taken[0, 1] = True
    rest.take_back(taken, rho, v, alive, x)
    found = np.exp(rest.log_norm[0]) * rest.unit[0] + np.exp(rho[0]) * v[0]
    np.testing.assert_allclose(found, still[0] + np.exp(-40.0) * moving[0], atol=1e-14)
    assert not np.isfinite(rest.log_number[0, [0, 1, 2]]).any()
    np.testing.assert_allclose(rest.unit[0] @ x[:3].T, 0.0, atol=1e-14)


def test_a_repeated_example_sees_nothing_of_a_rest_once_the_other_took_it_back() -> None:
    rho, v, x = _units(8, 1, 4, 5)
    x[3], alive, rest = x[1], np.ones(1, bool), Rest.none(1, 4, 5)
    side = np.array([True, False, False, False])
    v = _inside(v, x[side], 1e-4)
    rest.put_aside(np.array([0]), np.eye(1), (rho, v), alive, x, side)
    rho[0] -= 40.0
    before = np.exp(rest.log_norm[0]) * rest.unit[0] + np.exp(rho[0]) * v[0]
    taken = np.array([[False, True, False, True]])
    rest.take_back(taken, rho, v, alive, x)
    assert np.isfinite(rest.log_number[0]).tolist() == [False, False, True, False]
    found = np.exp(rest.log_norm[0]) * rest.unit[0] + np.exp(rho[0]) * v[0]
    np.testing.assert_allclose(found, before, atol=1e-14)


def test_an_example_near_to_what_moves_is_seen_from_the_beginning() -> None:
    # The second example is nearly the first: what moves would soon reach it.
    rho, v, x = _units(9, 1, 3, 4)
    x[1] = x[0] + 1e-6 * x[2]
    side, rest = np.array([True, False, False]), Rest.none(1, 3, 4)
    v = _inside(v, x[:1], 1e-4)
    rest.put_aside(np.array([0]), np.eye(1), (rho, v), np.ones(1, bool), x, side)
    assert rest.large[0] and np.isfinite(rest.log_norm[0])
    assert np.isfinite(rest.log_number[0]).tolist() == [False, False, False]
    np.testing.assert_allclose(rest.unit[0] @ x.T, 0.0, atol=1e-12)


def test_small_rests_go_with_the_columns_that_they_are_of() -> None:
    # Two columns with rests, e^-60 and e^-80 of them, and one without are turned into others.
    x = np.array([[1.0, 0.0, 0.0, 0.0], [0.3, -1.0, 0.2, 0.7], [0.0, 0.0, 1.0, 0.4]])
    rho, v = np.array([0.0, -1.0, -2.0]), np.tile(np.eye(4)[0], (3, 1))
    rest, alive = Rest.none(3, 3, 4), np.ones(3, bool)
    shift = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, -1.0, 0.5, 1.0]])
    for row, size in ((0, -60.0), (1, -80.0)):
        rest.keep_little(row, size, shift[row], x)
    assert rest.still[0].tolist() == [0.0, 0.0, 1.0]  # x_3 is orthogonal to what moves
    assert rest.sides(v @ x.T, rho, np.arange(3))[0].tolist() == [True, True, True]
    before = np.exp(rest.log_norm)[:, None] * rest.unit
    turn = np.eye(3)
    orthogonalise(rho, v, turn, alive)
    assert alive.tolist() == [True, False, False]
    assert rest.turned(np.arange(3), turn, 0, (rho, v), alive, x)
    after = np.exp(rho)[:, None] * v * alive[:, None]
    after[0] = np.exp(rest.log_norm[0]) * rest.unit[0]
    np.testing.assert_allclose(after, turn.T @ before, rtol=1e-12, atol=1e-45)
    assert rest.little.tolist() == [True, False, False]
    # What is torn off takes its share with it.
    rest.torn(0, np.array([0.0, -0.6, 0.8]), x)
    np.testing.assert_allclose(
        np.exp(rest.log_norm)[:, None] * rest.unit, np.outer([0.0, -0.6, 0.8], after[0]), rtol=1e-14
    )


def _both_signs(seed: int, m: int, n: int, log: float) -> pf.Problem:
    """Squared-ReLU units of both signs on n examples in dimension 3, from e^-log."""
    rng = np.random.default_rng([61, n, 3, m, seed])
    y = rng.standard_normal(n)
    data = pf.Data(rng.standard_normal((n, 3)), y)
    network = SquaredRelu(m, tuple(int(s) for s in rng.choice([-1, 1], m)))
    start = gaussian(network, 3, log10_scale=-log / np.log(10.0), seed=seed)
    return pf.problem(data, network, start, loss=pf.Square())


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
@pytest.mark.parametrize(
    "seed, level, rate",
    [
        # A unit lies along one example, which attracts it first and repels it later: what that
        # never saw of it, e^-2000 of the unit, tells when it leaves, not rounding.
        (6, 0.41, 1.5813),
        # A unit that its only active example repels passes a hyperplane on its way back inside a
        # step in which it grows by a factor of e^500.
        (11, 0.59, 9.4373),
    ],
)
def test_parts_that_active_examples_never_see_decide_later_leavings(
    seed: int, level: float, rate: float, rtol: float
) -> None:
    times = []
    for log in (3000.0, 30000.0):
        flow = pf.gradient_flow(_both_signs(seed, 12, 6, log), stop=pf.Stop(loss=level), rtol=rtol)
        assert flow.status == "ok"
        times.append(flow.final.time[0])
    assert (times[1] - times[0]) / 27000.0 == pytest.approx(rate, rel=1e-4)


def test_a_number_below_rounding_that_decides_is_an_error() -> None:
    # Unit 0 has fitted the one example that it sees beside two that push it to their hyperplanes;
    # one of these then attracts it.
    flow = pf.gradient_flow(_both_signs(8, 12, 6, 10000.0), stop=pf.Stop(loss=0.01), rtol=1e-9)
    assert flow.status == "unresolved"
    assert "hyperplane" in flow.message


def test_a_step_goes_on_from_a_bend_that_was_met_to_the_accuracy_of_its_root() -> None:
    # At this tolerance a number is 5e-12 behind its bend where the step after begins.
    rng = np.random.default_rng([99, 2, 4, 3, 10])
    data = pf.Data(rng.standard_normal((4, 3)), rng.standard_normal(4))
    network = SquaredRelu(10, tuple(int(s) for s in rng.choice([-1, 1], 10)))
    start = gaussian(network, 3, log10_scale=-300.0 / np.log(10.0), seed=2)
    problem, times = pf.problem(data, network, start), (200.0, 500.0, 1500.0)
    coarse, fine = (
        pf.gradient_flow(problem, stop=pf.Stop(time=1500.0), rtol=rtol, record_times=times)
        for rtol in (1e-8, 1e-10)
    )
    assert fine.status == "ok"
    np.testing.assert_allclose(coarse.recorded.log_norm, fine.recorded.log_norm, atol=1e-6)


def test_numbers_below_rounding_grow_if_their_signs_stay() -> None:
    # One example attracts, one repels: z' = share z where z > 0, and x_1.x_2 of that to the other.
    angle = np.array([[0.6], [2.0]])
    x = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    assert _growth(x, np.array([-1.0, -2.0])) == 0.0
    assert x[0] @ x[1] > 0.0
    # The first pulls the unit to where the second sees it: both numbers are positive.
    both = np.linalg.eigvalsh(np.outer(x[0], x[0]) - 0.1 * np.outer(x[1], x[1])).max()
    assert _growth(x, np.array([1.0, -0.1])) == pytest.approx(both)
    # Of parallel ones the sum counts, and of opposite ones the one that sees the unit.
    assert _growth(x[[0, 0]], np.array([1.0, -20.0])) == 0.0
    assert _growth(x[[0, 0]] * [[1.0], [-1.0]], np.array([1.0, -20.0])) == pytest.approx(1.0)
    # Away from each other they don't meet.
    assert _growth(x * [[1.0], [-1.0]], np.array([1.0, -20.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("rtol", [1e-6, 1e-9])
def test_a_unit_that_falls_onto_several_hyperplanes_stays_there(rtol: float) -> None:
    # Of three examples in a plane two repel unit 0, and one alone would attract it.
    x = np.array(
        [[-2, -1, 2], [2, -2, -2], [2, -1, 0], [-1, -1, 1], [0, 0, -1], [1, -2, 1]], dtype=float
    )
    y = np.array([-2.0, -1.0, 0.0, 2.0, 0.0, -2.0])
    network = SquaredRelu(6, (1,) * 6)
    start = gaussian(network, 3, log10_scale=-3000.0 / np.log(10.0), seed=0)
    flow = pf.gradient_flow(
        pf.problem(pf.Data(x, y), network, start), stop=pf.Stop(time=15000.0), rtol=rtol
    )
    assert flow.status == "ok" and not flow.notes


def test_units_on_a_line_follow_the_closed_form() -> None:
    # Of the one positive unit h = (w x)^2 obeys h' = 4 x^2 (y - h) h. Units 1 and 3 see the other
    # example: their ratio stays. It repels unit 2: the product of that with unit 1 stays.
    x, y = np.array([1.5, -0.7]), np.array([0.8, -0.6])
    start = gaussian(SquaredRelu(4), 1, log10_scale=-40.0, seed=0)
    assert (start.direction[:, 0] > 0.0).tolist() == [True, False, False, False]
    network = SquaredRelu(4, (1, -1, 1, -1))
    problem = pf.problem(pf.Data(x[:, None], y), network, start, loss=pf.Square("sum"))
    times = [10.0, 25.0, 26.0, 30.0]
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=40.0), rtol=1e-9, record_times=times)
    rho, log_h = flow.recorded.log_norm, 2.0 * (start.log_norm[0] + np.log(x[0]))
    speed = 4.0 * x[0] ** 2 * y[0] * np.array(times)
    exact = log_h + speed - np.log1p(np.exp(log_h - np.log(y[0])) * np.expm1(speed))
    np.testing.assert_allclose(2.0 * (rho[:, 0] + np.log(x[0])), exact, atol=1e-8)
    np.testing.assert_allclose(rho[:, 1] - rho[:, 3], rho[0, 1] - rho[0, 3], atol=1e-8)
    np.testing.assert_allclose(rho[:, 1] + rho[:, 2], rho[0, 1] + rho[0, 2], atol=1e-8)
    assert rho[-1, 1] > rho[0, 1] + 10.0


def _columns(seed: int, sizes: np.ndarray, p: int) -> tuple[np.ndarray, np.ndarray]:
    v = np.random.default_rng(seed).standard_normal((len(sizes), p))
    return sizes.copy(), v / np.linalg.norm(v, axis=1, keepdims=True)


def _product(rho: np.ndarray, v: np.ndarray, alive: np.ndarray) -> np.ndarray:
    w = np.exp(rho)[:, None] * v * alive[:, None]
    return w.T @ w


def test_orthogonal_columns_make_up_the_same_blocks() -> None:
    rho, v = _columns(1, np.array([0.0, -3.0, 0.5, -9.0]), 3)
    before, mix, alive = np.exp(rho)[:, None] * v, np.eye(4), np.ones(4, bool)
    gram = _product(rho, v, alive)
    orthogonalise(rho, v, mix, alive)
    assert alive.sum() == 3
    np.testing.assert_allclose(_product(rho, v, alive), gram, rtol=1e-13)
    cosines = (v @ v.T)[np.ix_(alive, alive)]
    np.testing.assert_allclose(cosines, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(mix @ mix.T, np.eye(4), atol=1e-14)
    rows = np.exp(rho)[:, None] * v * alive[:, None]
    np.testing.assert_allclose(mix @ rows, before, atol=1e-14)


def test_columns_far_below_rounding_are_orthogonal_relative_to_themselves() -> None:
    rho, v = _columns(2, np.array([-200.0, 0.0, -500.0]), 3)
    expected = [v[1]]
    for row in (0, 2):
        rest = v[row].copy()
        for known in expected:
            rest -= (rest @ known) * known
        expected.append(rest / np.linalg.norm(rest))
    orthogonalise(rho, v, mix := np.eye(3), np.ones(3, bool))
    np.testing.assert_allclose(v[[1, 0, 2]], expected, atol=1e-13)
    assert rho[1] == pytest.approx(0.0, abs=1e-15) and rho[0] == pytest.approx(-200.0, abs=2.0)
    np.testing.assert_allclose(mix, np.eye(3), atol=1e-80)


def test_a_torn_bundle_leaves_its_blocks_and_their_small_parts() -> None:
    rho, v = _columns(3, np.array([0.0, -2.0, -1.0, -4.0]), 4)
    mix, alive, lead = np.eye(4), np.ones(4, bool), np.zeros(4, int)
    orthogonalise(rho, v, mix, alive)
    before = mix @ (np.exp(rho)[:, None] * v)
    tear(np.arange(4), np.array([0, 1, 0, 0]), rho, v, mix, lead, alive)
    assert lead.tolist() == [0, 1, 0, 0]
    assert not mix[np.ix_([0, 2, 3], [1])].any() and not mix[1, [0, 2, 3]].any()
    np.testing.assert_allclose(mix @ (np.exp(rho)[:, None] * v), before, atol=1e-14)


def test_the_third_column_of_three_keeps_its_size_where_two_blocks_are_torn_off() -> None:
    # Columns e^0, e^-100, e^-200: any two blocks hold parts of the sizes e^0 and e^-100.
    rho, v = _columns(4, np.array([0.0, -100.0, -200.0]), 3)
    q, _ = np.linalg.qr(np.random.default_rng(5).standard_normal((3, 3)))
    alive, lead = np.ones(3, bool), np.zeros(3, int)
    orthogonalise(rho, v, np.eye(3), alive)
    mix = q.copy()
    tear(np.arange(3), np.array([0, 0, 1]), rho, v, mix, lead, alive)
    assert sorted(rho[:2]) == pytest.approx([-100.0, 0.0], abs=3.0)
    assert rho[2] == pytest.approx(0.0, abs=3.0)
