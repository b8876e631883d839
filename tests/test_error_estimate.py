"""Networks whose kinks are not located: their accuracy, and the estimate of it."""

import json
from pathlib import Path

import numpy as np
import pytest

import polarflow as pf
from polarflow.cli.app import main
from polarflow.comparators import gradient_descent
from polarflow.flow import integrate
from polarflow.networks import Activation, Convolutional, Deep, gaussian
from polarflow.solution._engines import engine_for

TIMES = np.array([2.0, 5.0, 10.0, 20.0])


def deep_relu(seed: int) -> pf.Problem:
    """Six examples, two hidden layers of four units; most seeds slide along kinks."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal(6)
    network = Deep((4, 4), (Activation("relu"), Activation("relu")))
    return pf.problem(pf.Data(x, y), network, gaussian(network, 3, scale=0.1, seed=seed))


def follow(problem: pf.Problem, rtol: float, **options: object) -> pf.Solution:
    stop = pf.Stop(time=float(TIMES[-1]))
    return pf.gradient_flow(problem, stop=stop, rtol=rtol, record_times=TIMES, **options)  # type: ignore[arg-type]


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of weights at the recorded times, relative to their norm."""
    gap = np.linalg.norm(a - b, axis=(1, 2)) / np.linalg.norm(b, axis=(1, 2))
    return float(gap.max())


@pytest.mark.parametrize("seed", [1, 2])
def test_gradient_descent_tends_to_the_flow_of_a_deep_relu_network(seed: int) -> None:
    """To first order in the step, which an error of the flow would spoil."""
    problem = deep_relu(seed)
    flow = follow(problem, 1e-7, check=False)
    gaps = []
    for step in (4e-4, 2e-4, 1e-4):
        index = np.rint(TIMES / step).astype(int)
        descent = gradient_descent(problem, step, int(index[-1]), index)
        assert np.allclose(descent.trajectory.time, TIMES)
        gaps.append(apart(descent.trajectory.weights(), flow.recorded.weights()))
    assert gaps[2] < 5e-6
    assert 2.5 < gaps[0] / gaps[2] < 5.0


def test_gradient_descent_tends_to_the_flow_of_a_network_with_max_pooling() -> None:
    """It slides along ties of the maxima from an early time on."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 25)), rng.standard_normal(5)
    network = Convolutional((1, 5, 5), (2,), 2, 2)
    problem = pf.problem(pf.Data(x, y), network, gaussian(network, 25, scale=0.3, seed=0))
    flow = follow(problem, 1e-6)
    assert flow.status == "ok"
    assert flow.error_estimate is not None and flow.error_estimate.weights < 1e-5
    gaps = []
    for step in (1e-3, 5e-4):
        index = np.rint(TIMES / step).astype(int)
        descent = gradient_descent(problem, step, int(index[-1]), index)
        gaps.append(apart(descent.trajectory.weights(), flow.recorded.weights()))
    assert gaps[1] < 2e-4 and 1.5 < gaps[0] / gaps[1] < 2.5


def test_krylov_steps_slide_along_kinks_as_dense_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from polarflow.flow.smooth import _stepper

    dense = follow(deep_relu(1), 1e-7, check=False)
    monkeypatch.setattr(_stepper, "DENSE", 3)
    krylov = follow(deep_relu(1), 1e-7, check=False)
    assert 0.0 < apart(krylov.recorded.weights(), dense.recorded.weights()) < 1e-7


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_the_estimate_tells_the_error(seed: int) -> None:
    problem = deep_relu(seed)
    flow, exact = follow(problem, 1e-5), follow(problem, 1e-8, check=False)
    assert exact.error_estimate is None
    there = flow.trajectory.select(np.arange(4, len(flow.trajectory), 4))
    true = exact.evaluate(there.time)
    error = apart(there.weights(), true.weights())
    loss = np.abs(there.loss / true.loss - 1.0).max()
    estimate = flow.error_estimate
    assert estimate is not None and estimate.complete and estimate.rtol == 5e-6
    assert 0.3 * error < estimate.weights < 3.0 * error
    assert 0.3 * loss < estimate.loss < 3.0 * loss
    assert error < 3e-4
    assert estimate.final_log_time == 0.0 and estimate.final_direction <= estimate.weights
    assert estimate.field_evaluations < 2.0 * flow.work.field_evaluations


def test_a_loss_as_a_stop_has_an_error_in_time() -> None:
    problem = deep_relu(1)
    stop = pf.Stop(loss=float(follow(problem, 1e-5, check=False).recorded.loss[2]))
    flow = pf.gradient_flow(problem, stop=stop, rtol=1e-5)
    exact = pf.gradient_flow(problem, stop=stop, rtol=1e-8, check=False)
    error = abs(flow.final.log_time[0] - exact.final.log_time[0])
    assert flow.error_estimate is not None
    assert 0.3 * error < flow.error_estimate.final_log_time < 3.0 * error


def test_any_flow_can_be_checked() -> None:
    x, y = np.array([[1.0, 0.3], [-0.4, 1.0]]), np.array([1.0, -0.7])
    network = pf.TwoLayer(6)
    initial = pf.balanced(network, 2, log10_scale=-5.0)
    problem = pf.problem(pf.Data(x, y), network, initial)
    assert pf.gradient_flow(problem, stop=pf.Stop(time=40.0)).error_estimate is None
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=40.0), rtol=1e-6, check=True)
    assert flow.error_estimate is not None and flow.error_estimate.complete
    assert flow.error_estimate.weights < 1e-5 and flow.error_estimate.saddle_log_times < 1e-5


def test_an_interrupt_of_the_second_run_keeps_the_first() -> None:
    def interrupt(news: pf.Progress) -> None:
        if news.checking:
            raise KeyboardInterrupt

    flow = follow(deep_relu(1), 1e-5, progress=interrupt)
    assert flow.status == "interrupted" and "second time" in flow.message
    assert flow.error_estimate is None and len(flow.recorded) == len(TIMES)
    assert flow.final.time[0] == TIMES[-1]


def test_evaluations_may_be_limited() -> None:
    problem = deep_relu(1)
    engine = engine_for(problem, 1e-5, "off")
    record = integrate(engine, problem, pf.Stop(time=20.0), most_evaluations=200.0)
    assert record.status == "limit" and 0.0 < record.snapshots[-1].time < 20.0
    assert 200.0 < engine.evaluations < 1000.0


SPEC = """
[data]
x = [[1.0, 0.2], [0.3, -1.0], [-0.5, 0.8]]
y = [1.0, -0.5, 0.3]
[network]
kind = "deep"
widths = [3, 3]
activation = "relu"
[init]
scale = 0.3
seed = 1
[flow]
rtol = 1e-5
time = 10.0
"""


def test_the_summary_and_the_report_tell_the_estimate(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    out = tmp_path / "out"
    assert main(["run", str(tmp_path / "spec.toml"), "--out", str(out), "--quiet"]) == 0
    estimate = json.loads((out / "summary.json").read_text())["error_estimate"]
    assert 0.0 < estimate["weights"] < 1e-3 and 0.0 < estimate["loss"] < 1e-3
    assert estimate["complete"] is True
    page = (out / "report.html").read_text()
    assert "How far it is off" in page and "Kinks are not located" in page
    again = ["--set", "flow.check=false", "--out", str(out), "--overwrite", "--quiet"]
    assert main(["run", str(tmp_path / "spec.toml"), *again]) == 0
    assert json.loads((out / "summary.json").read_text())["error_estimate"] is None
    assert "How far it is off" not in (out / "report.html").read_text()
