"""The late phase of classification in the kink-exact engine: closed forms down to e^-1e10."""

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize

import polarflow as pf
from polarflow.flow import integrate
from polarflow.flow.kinks import KinkExactEngine

RTOL = 1e-8


def aligned(x: np.ndarray, sign: list[float], log_scale: list[float]) -> pf.BlockState:
    """One balanced neuron (a, w) along each row of x; ln|a| = ln|w| = log_scale."""
    unit = x / np.linalg.norm(x, axis=1)[:, None]
    direction = np.concatenate([np.array(sign)[:, None], unit], axis=1) / np.sqrt(2.0)
    return pf.block_state(np.array(log_scale) + 0.5 * np.log(2.0), direction)


def follow(
    x: np.ndarray, y: np.ndarray, loss: Any, initial: pf.BlockState, rtol: float = RTOL, **stop: Any
) -> pf.Solution:
    network = pf.TwoLayer(len(initial.log_norm))
    problem = pf.problem(pf.Data(x, y), network, initial, loss=loss)
    solution = pf.gradient_flow(problem, stop=pf.Stop(**stop), rtol=rtol)
    assert solution.status == "ok", solution.message
    return solution


def log_time(kind: str, z: float, log_start: float, speed: float) -> float:
    """ln t at which a margin with z' = speed q(z) z is z, from exp(log_start).

    The exponential loss has q = e^{-z}: t = (Ei(z) - Ei(start)) / speed; the logistic loss has
    q = 1/(1 + e^z), which adds ln(z / start).
    """
    with mp.workdps(40):
        start = mp.exp(mp.mpf(log_start))
        total = mp.ei(mp.mpf(z)) - mp.ei(start)
        if kind != "exponential":
            total += mp.log(mp.mpf(z)) - mp.mpf(log_start)
        return float(mp.log(total / speed))


@pytest.mark.parametrize(
    ("log_loss", "rtol"), [(-2.0, 1e-9), (-40.0, 1e-9), (-1e6, 1e-8), (-1e10, 1e-8)]
)
@pytest.mark.parametrize("loss", [pf.Exponential("sum"), pf.Logistic("sum")])
def test_one_neuron_from_1e_minus_1000(loss: Any, log_loss: float, rtol: float) -> None:
    """h = |x| a^2 obeys h' = 2 |x| q(h) h, all the way from 1e-1000."""
    x, start = np.array([[1.0, 0.5]]), -1000.0 * np.log(10.0)
    size = float(np.linalg.norm(x))
    solution = follow(x, np.array([1.0]), loss, aligned(x, [1.0], [start]), rtol, log_loss=log_loss)
    z = float(solution.final.prediction[0, 0])
    assert z == pytest.approx(float(loss.inverse(np.array(log_loss))), rel=1e-12)
    wanted = log_time(loss.kind, z, 2.0 * start + np.log(size), 2.0 * size)
    # ln t is z to leading order: a margin has the relative accuracy rtol.
    assert solution.final.log_time[0] == pytest.approx(wanted, rel=rtol)
    assert solution.work.field_evaluations < 700
    assert solution.late is not None
    assert solution.late.normalized_margin[-1] == pytest.approx(0.5 * size, rel=1e-12)
    assert solution.late.alignment_angle[-1] < 1e-14
    assert solution.late.path_length[-1] < 1e-9


@pytest.mark.parametrize("loss", [pf.Exponential("mean", scale=2.0), pf.Logistic("sum")])
def test_orthogonal_examples_do_not_meet(loss: Any) -> None:
    """Each margin follows its own closed form; the path of w/|w| is the angle between the two."""
    x, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, -1.0])
    start = np.array([-3.0, -4.0])
    initial = aligned(x, [1.0, -1.0], start.tolist())
    solution = follow(x, y, loss, initial, log_time=1e6)
    size = np.linalg.norm(x, axis=1)
    speed = 2.0 * loss.factor(2) * size
    margin = (y * solution.final.prediction[0]).tolist()
    for k in range(2):
        reached = log_time(loss.kind, margin[k], 2.0 * start[k] + np.log(size[k]), speed[k])
        assert reached == pytest.approx(1e6, rel=1e-9)
    # Their difference, of order one, is what the residual is made of: p_k is proportional to e^-z.
    with mp.workdps(40):
        exact = [
            mp.findroot(lambda z, s=s: mp.log(mp.ei(z) / s) - mp.mpf("1e6"), 1e6) for s in speed
        ]
    late = solution.late
    assert late is not None
    norm = 2.0 * sum(float(z) / s for z, s in zip(exact, size, strict=True))
    assert late.normalized_margin[-1] == pytest.approx(float(min(exact)) / norm, rel=1e-8)
    weights = np.exp(solution.trajectory.log_norm)
    angle = np.arctan2(weights[:, 1], weights[:, 0])
    assert late.path_length[-1] == pytest.approx(np.abs(np.diff(angle)).sum(), rel=1e-3)
    assert late.path_length[-1] >= np.abs(np.diff(angle)).sum() - 1e-9
    # -grad l has the blocks 2 q_k |x_k| a_k, in the directions of the neurons.
    ratio = float(mp.exp(exact[0] - exact[1])) * size[1] / size[0]
    last = weights[-1]
    wanted = np.arctan2(ratio * last[1], last[0]) - angle[-1]
    assert late.alignment_angle[-1] == pytest.approx(abs(wanted), abs=1e-9)


def test_two_classes_are_a_logistic_loss() -> None:
    """Cross-entropy with a = (alpha, -alpha): z = h_1 - h_2 has z' = 2 sqrt(2) |x| q(z) z."""
    x, size, start = np.array([[0.6, 0.8]]), 1.0, -50.0
    direction = np.array([[0.5, -0.5, 0.6 / np.sqrt(2), 0.8 / np.sqrt(2)]])
    initial = pf.block_state(np.array([start]), direction)
    network = pf.TwoLayer(1, outputs=2)
    data = pf.Data(x, np.array([[1.0, 0.0]]))
    problem = pf.problem(data, network, initial, loss=pf.CrossEntropy("sum"))
    solution = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-1e5), rtol=RTOL)
    h = solution.final.prediction[0, 0]
    assert h[0] == pytest.approx(-h[1], rel=1e-10)
    # z = 2 sqrt(2) |x| alpha^2, and |w|^2 = 2 alpha^2 is half of exp(2 log_norm).
    log_start = 2.0 * start + np.log(np.sqrt(2.0) * size / 2.0)
    wanted = log_time("logistic", float(h[0] - h[1]), log_start, 2.0 * np.sqrt(2.0) * size)
    assert solution.final.log_time[0] == pytest.approx(wanted, rel=1e-9)


def cone(seed: int, n: int, d: int, m: int) -> tuple[np.ndarray, np.ndarray, pf.BlockState]:
    """Positive inputs and weights, labels 1: every neuron is active on all examples for ever."""
    rng = np.random.default_rng(seed)
    x = 0.2 + rng.random((n, d))
    w = 0.2 + rng.random((m, d))
    norm = np.linalg.norm(w, axis=1)
    direction = np.concatenate([np.ones((m, 1)), w / norm[:, None]], axis=1) / np.sqrt(2.0)
    return x, np.ones(n), pf.block_state(np.log(norm), direction)


def hard_margin(x: np.ndarray) -> np.ndarray:
    """The least vector with x b >= 1, from its dual by bounded minimisation."""
    gram = x @ x.T
    found = minimize(
        lambda c: (0.5 * c @ gram @ c - c.sum(), gram @ c - 1.0),
        np.ones(len(x)), jac=True, bounds=[(0, None)] * len(x), method="L-BFGS-B",
        options={"ftol": 1e-30, "gtol": 1e-13, "maxiter": 100000},
    )  # fmt: skip
    return x.T @ found.x


def test_the_direction_of_active_neurons_is_the_hard_margin() -> None:
    """All a_j w_j add up to a linear predictor, whose direction converges.

    What a neuron has across the limit stays, while its norm grows like the root of -ln loss.
    """
    x, y, initial = cone(1, 6, 3, 5)
    best = hard_margin(x)
    angles = []
    for log_loss in (-1e4, -1e6, -1e8):
        solution = follow(x, y, pf.Logistic("mean"), initial, log_loss=log_loss)
        assert solution.events.crossings == 0
        weights = np.exp(solution.final.log_norm[0])[:, None] * solution.final.direction[0]
        b = weights[:, 0] @ weights[:, 1:]
        cosine = b / np.linalg.norm(b) - best / np.linalg.norm(best)
        angles.append(float(np.linalg.norm(cosine)))
        assert solution.work.field_evaluations < 1500
        late = solution.late
        assert late is not None
        assert late.smoothed_margin_drop is not None
        assert late.smoothed_margin_drop < 1e-8
    assert angles[0] < 0.1
    assert angles[1] / angles[0] == pytest.approx(0.1, rel=0.02)
    assert angles[2] / angles[1] == pytest.approx(0.1, rel=0.02)
    # A network of norm |w|^2 = 2 |b| has the margin 1 / |best| of the direction.
    assert late.normalized_margin[-1] == pytest.approx(0.5 / np.linalg.norm(best), rel=1e-6)
    assert late.alignment_angle[-1] < 1e-4


def start(seed: int, m: int, d: int, log10_scale: float) -> pf.BlockState:
    return pf.balanced(pf.TwoLayer(m), d, log10_scale=log10_scale, seed=seed)


def random_task(seed: int, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], size=n)


@pytest.mark.parametrize(("seed", "loss"), [(3, pf.Logistic("sum")), (6, pf.Exponential("mean"))])
def test_late_windows_agree_with_explicit_ones(seed: int, loss: Any) -> None:
    """On random data, with kinks crossed and slid on, to a loss of e^-40."""
    x, y = random_task(seed, 5, 5)
    problem = pf.problem(pf.Data(x, y), pf.TwoLayer(8), start(seed, 8, 5, -1.0), loss=loss)
    ends = []
    for rtol, late in ((1e-11, False), (RTOL, True)):
        engine = KinkExactEngine(problem, rtol)
        if not late:
            engine.late = None
        record = integrate(engine, problem, pf.Stop(log_loss=-40.0))
        assert record.status == "ok"
        ends.append((record.snapshots[-1], engine.blocks(record.snapshots[-1].state)))
    (exact, weights), (found, ours) = ends
    assert found.log_time == pytest.approx(exact.log_time, abs=1e-8)
    np.testing.assert_allclose(ours.log_norm, weights.log_norm, atol=10 * RTOL)
    np.testing.assert_allclose(ours.direction, weights.direction, atol=10 * RTOL)


def test_the_whole_way_on_random_data() -> None:
    """From 1e-1000 to e^-1e6 with kinks on the way; signs of labels and scales of time."""
    x, y = random_task(3, 4, 4)
    initial = start(3, 6, 4, -1000.0)
    solution = follow(x, y, pf.Logistic("mean"), initial, log_loss=-1e6)
    assert solution.final.log_loss[0] == pytest.approx(-1e6, rel=1e-12)
    assert solution.work.field_evaluations < 3000
    late = solution.late
    assert late is not None
    assert late.smoothed_margin_drop is not None
    assert late.smoothed_margin_drop < 1e-7
    flipped = initial.direction * np.array([-1.0] + [1.0] * 4)
    other = follow(
        x, -y, pf.Logistic("mean"), pf.block_state(initial.log_norm, flipped), log_loss=-1e6
    )
    assert other.final.log_time[0] == pytest.approx(solution.final.log_time[0], rel=1e-12)
    scaled = follow(x, y, pf.Logistic("mean", scale=3.0), initial, log_loss=-1e6 + np.log(3.0))
    shift = scaled.final.log_time[0] - solution.final.log_time[0]
    assert shift == pytest.approx(-np.log(3.0), abs=1e-3)
    np.testing.assert_allclose(
        scaled.final.log_norm[0], solution.final.log_norm[0], atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_neuron_that_fades_out_of_sight_ends_no_window(seed: int) -> None:
    x = np.array([[1.0, 0.4], [0.3, 1.2], [-0.8, 0.6], [-0.4, -1.1]])
    data = pf.Data(x, np.array([1.0, 1.0, -1.0, -1.0]))
    network = pf.TwoLayer(20)
    initial = pf.balanced(network, 2, scale=1e-3, seed=seed)
    problem = pf.problem(data, network, initial, loss=pf.Logistic())
    solution = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-1e6))
    assert solution.status == "ok"
    assert solution.work.field_evaluations < 2500


def test_the_late_phase_is_drawn() -> None:
    """The figure exists once the loss is below 1/e, and not before."""
    from matplotlib import pyplot

    from polarflow.plotting.late import has_late, late_figure

    x, y = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, -1.0])
    initial = aligned(x, [1.0, -1.0], [-1.0, -1.0])
    early = follow(x, y, pf.Logistic("sum"), initial, log_loss=0.0).to_xarray()
    late = follow(x, y, pf.Logistic("sum"), initial, log_loss=-1e3).to_xarray()
    assert not has_late(early)
    assert has_late(late)
    above, below = late_figure(late).axes
    assert len(above.lines) == 3
    assert below.lines[0].get_xdata()[-1] == pytest.approx(3.0, rel=1e-9)
    pyplot.close("all")
