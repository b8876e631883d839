"""The smooth engine against closed forms, conserved quantities, and the contract of a run."""

import json
from pathlib import Path

import mpmath
import numpy as np
import pytest

import polarflow as pf
from polarflow.cli.app import main
from polarflow.losses import Correlation, Exponential, Logistic, Square
from polarflow.networks import (
    Activation,
    Deep,
    Diagonal,
    SquaredRelu,
    block_state,
    equal_pairs,
    gaussian,
    sphere,
)

LINEAR = Activation("linear")
ONE = pf.Data(np.array([[1.0]]), np.array([1.0]))


def scalar_chain(layers: int, log10_scale: float) -> tuple[Deep, pf.BlockState]:
    """h(x) = w^L x as a product of L equal weights w = 10^log10_scale."""
    network = Deep((1,) * (layers - 1), (LINEAR,) * (layers - 1))
    log_norm = log10_scale * np.log(10.0) + 0.5 * np.log(layers)
    return network, block_state(np.array([log_norm]), np.full((1, layers), layers**-0.5))


def test_diagonal_network_from_1e_200_against_its_closed_form():
    """u = delta e^theta, v = delta e^-theta with theta' = 2 (y - 2 delta^2 sinh 2 theta)."""
    times = [100.0, 229.5, 230.0, 230.5, 231.0, 233.0]
    network = Diagonal(2)
    initial = equal_pairs(network, 1, log10_scale=-200)
    problem = pf.problem(ONE, network, initial, loss=Square("sum"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=233.0), rtol=1e-11, record_times=times)
    with mpmath.workdps(450):
        c = 2 * mpmath.mpf(10) ** -400
        root = mpmath.sqrt(1 + c * c)
        high, low = (1 + root) / c, (1 - root) / c
        for time, h in zip(times, flow.recorded.prediction[:, 0], strict=True):
            ratio = (1 - low) / (high - 1) * mpmath.exp(4 * mpmath.mpf(time) * root)
            w = (low + ratio * high) / (1 + ratio)
            assert abs(h / (c / 2 * (w - 1 / w)) - 1) < 1e-9


def test_a_weight_that_decays_far_below_rounding_keeps_its_digits():
    """u v = delta^2 for ever in a diagonal pair: v is 1e-200 when u is 1."""
    initial = equal_pairs(Diagonal(2), 1, log10_scale=-100)
    problem = pf.problem(ONE, Diagonal(2), initial, loss=Square("sum"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(loss=1e-6), rtol=1e-9)
    u, v = flow.final.direction[0, 0]
    assert np.log(u) + np.log(v) + 2 * flow.final.log_norm[0, 0] == pytest.approx(
        -200 * np.log(10), abs=1e-7
    )


@pytest.mark.parametrize(("layers", "log10_scale"), [(3, -3.0), (4, -50.0), (3, -1000.0)])
def test_deep_scalar_nets_against_their_closed_form(layers, log10_scale):
    """w' = w^{L-1} (1 - w^L): ln t at which w = 0.9, from any start."""
    network, initial = scalar_chain(layers, log10_scale)
    problem = pf.problem(ONE, network, initial, loss=Square("sum"))
    loss = 0.5 * (1 - 0.9**layers) ** 2
    flow = pf.gradient_flow(problem, stop=pf.Stop(loss=loss), rtol=1e-10)
    with mpmath.workdps(60):
        start = mpmath.mpf(log10_scale) * mpmath.log(10)
        # In units of t delta^{L-2}; beyond 50 nats the integrand is nothing.
        end = mpmath.log(mpmath.mpf("0.9"))
        marks = [start + k for k in range(0, 50, 2) if start + k < end]
        value = mpmath.quad(
            lambda z: mpmath.exp(-(layers - 2) * (z - start)) / (1 - mpmath.exp(layers * z)),
            [*marks, end],
        )
        expected = float(mpmath.log(value) - (layers - 2) * start)
    assert flow.stop_reason == "loss"
    assert abs(flow.final.log_time[0] - expected) < 1e-9 * max(1.0, abs(expected) * 1e-3)
    assert np.isclose(np.exp(flow.final.log_norm[0, 0]), 0.9 * layers**0.5, rtol=1e-9)


def test_the_ncf_flow_blows_up_at_its_time():
    """w' = w^{L-1}: infinite at 1/((L-2) delta^{L-2}), which the run names."""
    network, initial = scalar_chain(4, -30.0)
    problem = pf.problem(ONE, network, initial, loss=Correlation("sum"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_time=1e4), rtol=1e-10)
    assert flow.status == "blow_up"
    assert "infinite in finite time" in flow.message
    assert abs(flow.final.log_time[0] - (60 * np.log(10) - np.log(2))) < 1e-9


def test_work_does_not_grow_with_the_smallness_of_the_start():
    """4-homogeneous network: from 1e-3 and 1e-1000 to 0.98 of the time of the first escape."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    data = pf.Data(x, np.sum(np.maximum(x @ rng.standard_normal((4, 2)), 0) ** 2, axis=1))
    network = Deep((4, 4), (LINEAR, Activation("relu_power", 2)), "ones")
    work, grown = [], []
    for log10_scale in (-3.0, -1000.0):
        initial = sphere(network, 4, log10_scale=log10_scale, seed=1)
        problem = pf.problem(data, network, initial, loss=Square("sum"))
        stop = pf.Stop(log_time=12.265 - 2 * np.log(10) * (log10_scale + 3))
        flow = pf.gradient_flow(problem, stop=stop, rtol=1e-6)
        work.append(flow.work.field_evaluations)
        grown.append(flow.final.log_norm[0, 0] - initial.log_norm[0])
    assert work[1] < 1.2 * work[0]
    assert grown[1] == pytest.approx(grown[0], abs=1e-4) and grown[0] > 1.0


def test_krylov_iteration_follows_the_same_flow_as_a_dense_jacobian(monkeypatch):
    """Networks of more than 900 weights; here the limit is lowered instead."""
    from polarflow.flow.smooth import SmoothEngine, _engine, _stepper

    rng = np.random.default_rng(5)
    x = rng.standard_normal((6, 3))
    network = Deep((4, 3), (LINEAR, Activation("relu_power", 2.0)))
    initial = gaussian(network, 3, scale=0.3, seed=4)
    problem = pf.problem(pf.Data(x, np.abs(rng.standard_normal(6))), network, initial)
    stop = pf.Stop(time=20.0)
    dense = pf.gradient_flow(problem, stop=stop, rtol=1e-8)
    monkeypatch.setattr(_engine, "COLLOCATED", 3)
    monkeypatch.setattr(SmoothEngine, "_explicit", lambda *_: False)
    by_steps = pf.gradient_flow(problem, stop=stop, rtol=1e-8)
    assert np.allclose(by_steps.final.weights(), dense.final.weights(), rtol=0.0, atol=1e-6)
    monkeypatch.setattr(_stepper, "DENSE", 3)
    krylov = pf.gradient_flow(problem, stop=stop, rtol=1e-8)
    assert np.abs(dense.final.direction[0] - initial.direction).max() > 0.05
    assert np.allclose(krylov.final.weights(), dense.final.weights(), rtol=0.0, atol=1e-6)
    assert np.any(krylov.final.weights() != dense.final.weights())


def test_squared_relu_layers_keep_their_symmetries():
    """Permuting units permutes the answer, rotating the data rotates it; the loss never rises."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    network = SquaredRelu(4, (1.0, -1.0, 1.0, -1.0))
    initial = gaussian(network, 3, scale=0.3, seed=2)
    stop = pf.Stop(time=4.0)
    base = pf.gradient_flow(pf.problem(pf.Data(x, y), network, initial), stop=stop)
    assert np.all(np.diff(base.trajectory.loss) <= 1e-9 * base.trajectory.loss[:-1])
    q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    order = [2, 3, 0, 1]
    turned = pf.BlockState(initial.log_norm[order], initial.direction[order] @ q)
    other = pf.gradient_flow(pf.problem(pf.Data(x @ q, y), network, turned), stop=stop)
    assert np.allclose(other.final.prediction, base.final.prediction, rtol=1e-6, atol=1e-7)
    assert np.allclose(other.final.weights()[0], base.final.weights()[0][order] @ q, atol=1e-6)


@pytest.mark.parametrize("log_loss", [-1e4, -1e10])
@pytest.mark.parametrize("loss", [Logistic("sum"), Exponential("mean")])
def test_late_phase_keeps_its_identities(loss, log_loss):
    """Two orthogonal inputs, a scalar chain for each coordinate: ln of the loss against time.

    With h_k = w_k^2, w_k' = 2 w_k q_k and z = w^2, z' = 4 z q: for the exponential loss alone
    t = (Ei(z) - Ei(z_0))/4 when both start equally.
    """
    data = pf.Data(np.eye(2), np.ones(2))
    network = Diagonal(2)
    initial = block_state(np.zeros(2), np.tile([1.0, 0.0], (2, 1)))
    problem = pf.problem(data, network, initial, loss=loss)
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=log_loss), rtol=1e-9)
    z = float(np.exp(2 * flow.final.log_norm[0, 0]))
    assert flow.final.prediction[0] == pytest.approx(np.full(2, z), rel=1e-7)
    factor = loss.factor(2)
    assert z - np.log(2 * factor) == pytest.approx(-log_loss, rel=1e-7)
    # t ~ e^z / (4 z factor) (1 + 1/z + 2/z^2 + ...)
    series = np.log1p(1 / z + 2 / z**2 + 6 / z**3)
    expected = z - np.log(4 * z * factor) + series
    assert flow.final.log_time[0] - expected == pytest.approx(0.0, abs=1e-7 * z)
    assert flow.final.log_time[0] + flow.final.log_loss[0] == pytest.approx(
        expected - z + np.log(2 * factor), abs=1e-6 - 1e-14 * log_loss
    )
    assert flow.work.field_evaluations < 400


def separable(seed: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of classes about distant means, and their numbers."""
    rng = np.random.default_rng(seed)
    label = np.arange(9) % outputs
    mean = 3.0 * np.linalg.qr(rng.standard_normal((3, 3)))[0][:outputs]
    return rng.standard_normal((9, 3)) + mean[label], label


@pytest.mark.parametrize("kind", ["deep", "squared_relu", "softmax"])
def test_few_evaluations_to_a_loss_of_e_to_the_minus_1e6(kind):
    """From a small start, with margins that never fall beyond the tolerance."""
    x, label = separable(1, 3 if kind == "softmax" else 2)
    data, loss = pf.Data(x, 2.0 * label - 1.0), Logistic("sum")
    network: pf.networks.Network = Deep((4, 4), (LINEAR, LINEAR))
    if kind == "squared_relu":
        network = SquaredRelu(6, (1.0, -1.0) * 3)
    if kind == "softmax":
        network = Deep((4, 4), (LINEAR, LINEAR), outputs=3)
        data, loss = pf.Data(x, np.eye(3)[label]), pf.CrossEntropy("sum")
    initial = gaussian(network, 3, log10_scale=-2, seed=2)
    problem = pf.problem(data, network, initial, loss=loss)
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-1e6))
    assert flow.status == "ok"
    assert flow.final.log_loss[0] == pytest.approx(-1e6, rel=1e-12)
    assert flow.work.field_evaluations < 2500
    assert flow.late is not None and flow.late.smoothed_margin_drop < 1e-7
    # l' = -|grad l|^2, and ln t grows with -ln l but for a slower term: t |grad l|^2 / l -> 1.
    assert flow.final.log_time[0] + 2 * flow.final.log_grad_norm[0] - flow.final.log_loss[
        0
    ] == pytest.approx(0.0, abs=1e-4)


def test_two_classes_of_a_deep_network_are_a_logistic_loss():
    """h = (alpha, -alpha) w x: with alpha = s/2, w = s/sqrt 2 one has z = s^2/sqrt 2 for x = 1.

    z' = |grad z|^2 q = (2 w^2 + 4 alpha^2) q = 2 s^2 q = 2 sqrt 2 q z, q = 1/(1 + e^z), so that
    2 sqrt 2 t = Ei(z) + ln z, from the start on.
    """
    network = Deep((1,), (LINEAR,), outputs=2)
    direction = np.array([[2**-0.5, 0.5, -0.5]])
    data = pf.Data(np.array([[1.0]]), np.array([[1.0, 0.0]]))
    initial = block_state(np.array([-20.0]), direction)
    problem = pf.problem(data, network, initial, loss=pf.CrossEntropy("sum"))
    for log_loss in (-1.0, -1e10):
        flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=log_loss), rtol=1e-9)
        h = flow.final.prediction[0, 0]
        z, start = float(h[0] - h[1]), float(np.exp(-40.0) * 2**-0.5)
        with mpmath.workdps(40):
            total = mpmath.ei(z) + mpmath.log(z) - mpmath.ei(start) - mpmath.log(start)
            expected = float(mpmath.log(total / mpmath.sqrt(8)) + mpmath.mpf(log_loss))
        found = flow.final.log_time[0] + flow.final.log_loss[0]
        assert found == pytest.approx(expected, abs=1e-7 - 2e-14 * log_loss)


def test_a_deep_linear_network_ends_in_the_hard_margin_direction():
    """To 1e-9 at a loss of e^-1e10; the direction is found by bounded minimisation of the dual."""
    from scipy.optimize import minimize

    x, label = separable(3, 2)
    y = 2.0 * label - 1.0
    signed = y[:, None] * x
    gram = signed @ signed.T
    dual = minimize(
        lambda c: (0.5 * c @ gram @ c - c.sum(), gram @ c - 1.0), np.ones(len(y)), jac=True,
        bounds=[(0, None)] * len(y), method="L-BFGS-B",
        options={"ftol": 1e-30, "gtol": 1e-14, "maxiter": 100000},
    )  # fmt: skip
    on = dual.x > 1e-6 * dual.x.max()
    weight = np.linalg.solve(gram[np.ix_(on, on)], np.ones(on.sum()))
    best = signed[on].T @ weight
    assert weight.min() > 0.0 and (signed @ best).min() > 1.0 - 1e-12
    network = Deep((3, 3), (LINEAR, LINEAR))
    initial = gaussian(network, 3, log10_scale=-2, seed=2)
    problem = pf.problem(pf.Data(x, y), network, initial, loss=Logistic("mean"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-1e10))
    first, second, last = network.matrices(flow.final.direction[0, 0], 3)
    found = (last @ second @ first)[0]
    assert np.linalg.norm(found / np.linalg.norm(found) - best / np.linalg.norm(best)) < 1e-9
    assert flow.work.field_evaluations < 2500


def test_bends_are_located(monkeypatch):
    """max(0, z)^2 bends at z = 0: long steps agree with short ones of another method."""
    from polarflow.flow.smooth import _engine

    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    network = SquaredRelu(6, (1.0, -1.0) * 3)
    problem = pf.problem(pf.Data(x, y), network, gaussian(network, 3, scale=0.3, seed=5))
    stop = pf.Stop(time=40.0)
    errors, work = [], []
    monkeypatch.setattr(_engine, "COLLOCATED", 0)
    exact = pf.gradient_flow(problem, stop=stop, rtol=1e-11)
    monkeypatch.setattr(_engine, "COLLOCATED", 1000)
    signs = [np.sign(x @ v.T) for v in exact.trajectory.direction]
    assert np.abs(np.diff(signs, axis=0)).sum() > 10  # each counts two
    for rtol in (1e-6, 1e-8, 1e-10):
        flow = pf.gradient_flow(problem, stop=stop, rtol=rtol)
        errors.append(np.abs(flow.final.weights() - exact.final.weights()).max())
        work.append(flow.work.field_evaluations)
    assert errors[0] < 1e-6 and errors[1] < 1e-8 and errors[2] < 1e-9
    assert work[2] < 3 * work[0] and work[2] < exact.work.field_evaluations / 2


def test_explicit_steps_and_collocation_are_one_flow(monkeypatch):
    """Steps in compiled code, bends located or not, and those of order 11: weights and times."""
    from polarflow.flow.smooth import SmoothEngine, _engine

    rng = np.random.default_rng(3)
    x = rng.standard_normal((20, 2))
    network = SquaredRelu(8, (1.0, -1.0) * 4)
    data = pf.Data(x, np.abs(x[:, 0]) - 0.5 * x[:, 1])
    problem = pf.problem(data, network, gaussian(network, 2, scale=1e-2, seed=5))
    stop, times = pf.Stop(time=1.0), np.array([0.1, 0.3, 1.0])

    def follow(rtol):
        return pf.gradient_flow(problem, stop=stop, rtol=rtol, record_times=times)

    located = [follow(rtol) for rtol in (1e-6, 1e-9)]
    with monkeypatch.context() as patch:
        patch.setattr(_engine, "COLLOCATED", 0)
        passed_over = follow(1e-9)
    with monkeypatch.context() as patch:
        patch.setattr(SmoothEngine, "_explicit", lambda *_: False)
        exact = follow(1e-11)
    for flow, bound in zip((*located, passed_over), (1e-6, 1e-9, 3e-8), strict=True):
        assert np.allclose(flow.recorded.weights(), exact.recorded.weights(), rtol=0.0, atol=bound)
        assert np.allclose(flow.recorded.log_loss, exact.recorded.log_loss, rtol=0.0, atol=bound)
    products = [flow.work.jacobian_products for flow in (passed_over, located[1], exact)]
    assert products[0] == 0 and products[1] < products[2]


def test_the_time_of_an_escape_is_known_to_the_tolerance(monkeypatch):
    """CVODE bounds a mean over all numbers: one of them, the norm, sets the time."""
    from polarflow.flow.smooth import SmoothEngine, _engine

    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 8))
    network = Deep((9, 8), (Activation("relu_power", 2.0), LINEAR))
    initial = sphere(network, 8, log10_scale=-1.5, seed=2)
    problem = pf.problem(pf.Data(x, 3.0 * np.tanh(x[:, 0])), network, initial)
    stop = pf.Stop(max_saddles=1)
    exact = pf.gradient_flow(problem, stop=stop, rtol=1e-10).final.log_time[0]
    for explicit in (True, False):
        monkeypatch.setattr(_engine, "COLLOCATED", 0)
        if not explicit:
            monkeypatch.setattr(SmoothEngine, "_explicit", lambda *_: False)
        for rtol in (1e-5, 1e-7):
            flow = pf.gradient_flow(problem, stop=stop, rtol=rtol)
            assert abs(flow.final.log_time[0] - exact) < 12.0 * rtol


@pytest.mark.parametrize("loss", [Logistic("sum"), Exponential("mean")])
def test_a_loss_that_can_not_be_reached_is_told(loss):
    """Only positive units, labels of both signs: the loss tends to a number above zero."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 2)), np.array([1.0, -1.0, 1.0, -1.0, -1.0])
    network = SquaredRelu(10)
    initial = gaussian(network, 2, log10_scale=-1, seed=2)
    problem = pf.problem(pf.Data(x, y), network, initial, loss=loss)
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-1e3))
    assert flow.status == "at_rest"
    assert "can't be reached" in flow.message
    assert flow.work.field_evaluations < 10_000
    # Another loss that is to be reached first does end the run.
    above = flow.final.log_loss[0] + 1e-9
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=above))
    assert (flow.status, flow.stop_reason) == ("ok", "log_loss")


def test_a_time_after_rest_is_reached_and_what_is_not_followed_is_told():
    """Two contradictory examples come to rest, a third is fitted for ever: its margin is ln t."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 2)), np.array([1.0, -1.0, 1.0, -1.0, -1.0])
    network = SquaredRelu(10)
    initial = gaussian(network, 2, log10_scale=-1, seed=2)
    problem = pf.problem(pf.Data(x, y), network, initial, loss=Logistic("sum"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=1e30))
    assert flow.status == "ok" and flow.work.field_evaluations < 3000 and not flow.notes
    assert flow.final.log_grad_norm[0] < -33.0

    x, y = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0, 1.0])
    initial = gaussian(SquaredRelu(4), 2, log10_scale=-1, seed=2)
    problem = pf.problem(pf.Data(x, y), SquaredRelu(4), initial, loss=Exponential("sum"))
    times = np.array([1e6, 1e9, 1e30])
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=1e30), record_times=times)
    assert flow.status == "ok" and any("below rounding" in note for note in flow.notes)
    # One active unit u: h' = 4 h e^-h, so that ln t is h - ln(4 h) and a smaller term.
    h = flow.recorded.prediction[:2, 2]
    assert h - np.log(4.0 * h) == pytest.approx(np.log(times[:2]), abs=0.2)


SPEC = """
[data]
x = [[1.0, 0.2], [0.3, -1.0], [-0.5, 0.8], [-1.0, -0.4], [0.6, 0.6]]
y = [1.0, 0.5, 0.3, 0.8, 0.2]
[network]
kind = "squared_relu"
width = 6
[init]
log10_scale = -20
[flow]
loss = 1e-3
[record]
times = [1.0, 1e9]
inputs = [[1.0, 0.0]]
"""


def test_the_contract_of_a_run(tmp_path: Path):
    (tmp_path / "spec.toml").write_text(SPEC)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "spec.toml"), "--out", str(out), "--quiet"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "ok" and summary["stop_reason"] == "loss"
    assert summary["final"]["loss"] == pytest.approx(1e-3, rel=1e-8)
    assert len(summary["final"]["outputs"]) == 1 and len(summary["final"]["predictions"]) == 5
    first, unreached = summary["recorded"]
    assert first["time"] == 1.0 and first["loss"] == pytest.approx(0.202, rel=1e-12)
    assert unreached["loss"] is None
    origin = summary["saddles"][0]
    assert origin["log_time_enter"] is None and origin["active_blocks"] == 0
    assert origin["kkt_residual"] < 0.01
    assert summary["work"]["field_evaluations"] > 0 and summary["work"]["compile_seconds"] > 0
    assert (out / "report.html").is_file() and (out / "figures" / "directions.png").is_file()


def test_a_saddle_that_rounding_would_leave_is_told():
    """Deep linear network, from 1e-2 and from 1e-12: right to the end, or stopped with a reason."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((12, 3))
    teacher = np.array([[2.0, 0.0, 0.0], [0.0, 0.7, 0.0]])
    network = Deep((3, 3), (LINEAR, LINEAR), outputs=2)
    data = pf.Data(x, x @ teacher.T)
    status = []
    for log10_scale in (-2.0, -12.0):
        initial = gaussian(network, 3, log10_scale=log10_scale, seed=1)
        problem = pf.problem(data, network, initial, loss=Square("mean"))
        status.append(pf.gradient_flow(problem, stop=pf.Stop(loss=1e-8)).status)
    assert status == ["ok", "unresolved"]
    # A minimum whose residual no linear network can climb is no such saddle.
    noisy = pf.Data(x, x @ teacher.T + 0.1 * rng.standard_normal((12, 2)))
    problem = pf.problem(noisy, network, gaussian(network, 3, scale=0.1, seed=1))
    flow = pf.gradient_flow(problem, stop=pf.Stop(grad_norm=1e-9))
    assert (flow.status, flow.stop_reason) == ("ok", "grad_norm")


@pytest.mark.parametrize("powers", [(1, 1), (1, 2), (3, 1)])
def test_deep_networks_keep_their_balance(powers):
    """|W_i|^2/k_i - |W_{i+1}|^2/k_{i+1} stays; with other orders than k_i it does not."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((6, 3))
    data = pf.Data(x, x @ np.array([1.0, -0.5, 0.2]) ** 2)
    activations = tuple(Activation("leaky_relu" if p > 1 else "linear", p) for p in powers)
    network = Deep((3, 3), activations)
    initial = gaussian(network, 3, scale=0.5, seed=3)
    problem = pf.problem(data, network, initial)
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=2.0), rtol=1e-9)
    assert flow.work.jacobian_products > 0
    assert flow.balancedness_drift < 1e-8
    first, last = (
        network.matrices(np.exp(state.log_norm[0]) * state.direction[0], 3)
        for state in (initial, flow.final.state(0))
    )
    order = [powers[0] * powers[1], powers[1], 1]
    size = [[np.sum(w**2) / k for w, k in zip(ws, order, strict=True)] for ws in (first, last)]
    kept = np.abs(np.diff(size[1]) - np.diff(size[0])) / np.sum(size[1])
    assert kept.max() < 1e-8
    moved = np.abs(np.array(size[1]) - size[0]) / np.sum(size[1])
    assert moved.max() > 0.01


def test_networks_without_layers_keep_no_balance():
    problem = pf.problem(ONE, Diagonal(2), equal_pairs(Diagonal(2), 1, log10_scale=-2))
    assert pf.gradient_flow(problem, stop=pf.Stop(time=1.0)).balancedness_drift is None


@pytest.mark.parametrize("depth", [3, 4])
def test_diagonal_networks_of_depth_leave_their_saddles_from_any_start(depth):
    """From 1e-60 and 1e-300 the saddles are the same, and times grow by the factor delta^(2-L)."""
    x = np.random.default_rng(0).standard_normal((3, 5))
    data = pf.Data(x, x @ np.array([1.0, 0.0, 0.0, -2.0, 0.0]))
    network, met, left = Diagonal(depth), [], []
    for log10_scale in (-60.0, -300.0):
        initial = equal_pairs(network, 5, log10_scale=log10_scale)
        flow = pf.gradient_flow(pf.problem(data, network, initial), stop=pf.Stop(loss=1e-8))
        assert (flow.status, flow.stop_reason) == ("ok", "loss")
        met.append([saddle.loss for saddle in flow.saddles])
        left.append([saddle.log_time_leave for saddle in flow.saddles])
    assert len(met[0]) > 1
    assert met[1] == pytest.approx(met[0], rel=1e-6)
    shift = (depth - 2) * 240.0 * np.log(10.0)
    assert np.subtract(left[1], left[0]) == pytest.approx(shift, abs=1e-6 * shift)


def test_a_deep_linear_network_from_1e_minus_30_is_fitted():
    """Three layers, one output: the loss is reached, and ends at the least squares with noise."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((8, 3)), 0.1 * rng.standard_normal(8)
    y = x @ np.array([1.0, -0.5, 0.3])
    network = Deep((3, 3), (LINEAR, LINEAR))
    initial = gaussian(network, 3, log10_scale=-30, seed=1)
    fitted = pf.gradient_flow(pf.problem(pf.Data(x, y), network, initial), stop=pf.Stop(loss=1e-8))
    assert (fitted.status, fitted.stop_reason) == ("ok", "loss")
    problem = pf.problem(pf.Data(x, y + noise), network, initial)
    flow = pf.gradient_flow(problem, stop=pf.Stop(loss=1e-8))
    least = np.linalg.lstsq(x, y + noise)[1][0] / 16
    assert flow.status == "at_rest" and flow.final.loss[0] == pytest.approx(least, rel=1e-10)


def test_problems_of_one_shape_share_what_is_compiled():
    """Other data, labels and starts of the same shape compile nothing."""
    import jax

    from polarflow.flow.smooth import SmoothEngine

    compiled: list[str] = []

    def listen(event: str, duration: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    network, counts = SquaredRelu(5), []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        data = pf.Data(rng.standard_normal((7, 3)), rng.choice([-1.0, 1.0], 7))
        initial = gaussian(network, 3, log10_scale=-1, seed=seed)
        before = len(compiled)
        engine = SmoothEngine(pf.problem(data, network, initial, loss=Logistic("sum")), 1e-8)
        window = engine.advance(engine.initial(), np.inf)
        engine.measure(window.states(np.array([window.length])))
        counts.append(len(compiled) - before)
    assert 0 < counts[0] < 6 and counts[1] == 0


@pytest.mark.parametrize("kind", ["krylov", "direct"])
def test_large_systems_go_the_same_way_to_a_small_loss(kind, monkeypatch):
    """GMRES for the stages' systems, and CVODE, which large systems are stepped by."""
    from polarflow.flow.smooth import _engine, _linear

    x, label = separable(1, 2)
    network = Deep((4, 4), (LINEAR, LINEAR))
    initial = gaussian(network, 3, log10_scale=-1, seed=2)
    problem = pf.problem(pf.Data(x, 2.0 * label - 1.0), network, initial, loss=Logistic("sum"))
    stop = pf.Stop(log_loss=-1e4)
    base = pf.gradient_flow(problem, stop=stop)
    if kind == "krylov":
        monkeypatch.setattr(_linear, "DIRECT", 5)
    else:
        monkeypatch.setattr(_engine, "COLLOCATED", 0)
    other = pf.gradient_flow(problem, stop=stop)
    assert other.status == "ok"
    assert np.allclose(other.final.direction, base.final.direction, rtol=0.0, atol=1e-6)
    # ln t is -ln l and a slower term.
    total = [f.final.log_time[0] + f.final.log_loss[0] for f in (base, other)]
    assert total[1] == pytest.approx(total[0], abs=1e-5)
    assert (other.work.field_evaluations < 1.1 * base.work.field_evaluations) == (kind == "krylov")


@pytest.mark.parametrize("seed", range(3))
def test_squared_relu_with_the_exponential_loss_to_e_minus_100(seed):
    """Random labels, units of both signs: fitted, or told that it can't be."""
    rng = np.random.default_rng(seed)
    data = pf.Data(rng.standard_normal((5, 3)), rng.choice([-1.0, 1.0], 5))
    network = SquaredRelu(6, (1.0, -1.0) * 3)
    initial = gaussian(network, 3, log10_scale=-3, seed=seed)
    problem = pf.problem(data, network, initial, loss=Exponential("sum"))
    flow = pf.gradient_flow(problem, stop=pf.Stop(log_loss=-100.0), rtol=1e-6)
    assert flow.status in ("ok", "at_rest")
    if flow.status == "ok":
        assert flow.final.log_loss[0] == pytest.approx(-100.0, rel=1e-12)
    else:
        assert np.any(flow.final.prediction[0] * data.y <= 1e-6)
