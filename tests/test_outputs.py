"""Networks with several outputs, and unbalanced starts, from the labels to the pictures."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import polarflow as pf
from polarflow.networks import dominated, gaussian, sphere


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_network_is_the_sum_of_its_neurons(outputs: int) -> None:
    network = pf.TwoLayer(5, "leaky_relu", 0.2, outputs)
    state = gaussian(network, 4, scale=0.7, seed=2)
    x = np.random.default_rng(0).standard_normal((6, 4))
    expected = np.zeros((6, outputs))
    for block in state.weights():
        z = x @ block[outputs:]
        expected += np.where(z > 0, z, 0.2 * z)[:, None] * block[:outputs]
    h = network.predict(state, x)
    assert h.shape == ((6,) if outputs == 1 else (6, outputs))
    np.testing.assert_allclose(h.reshape(6, outputs), expected, rtol=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
def test_starts_have_the_sizes_that_they_promise(outputs: int) -> None:
    network = pf.TwoLayer(400, outputs=outputs)
    log10 = -1000.0
    unit = log10 * np.log(10.0)

    def parts(state: pf.BlockState) -> tuple[np.ndarray, np.ndarray]:
        shape = (400, outputs + 3)
        assert state.direction.shape == shape
        weights = np.exp(state.log_norm - unit)[:, None] * state.direction
        return np.linalg.norm(weights[:, :outputs], axis=1), weights[:, outputs:]

    a, w = parts(pf.balanced(network, 3, log10_scale=log10, seed=1))
    np.testing.assert_allclose(a, np.linalg.norm(w, axis=1), rtol=1e-12)
    assert abs(np.std(w) - 1.0) < 0.1

    a, w = parts(dominated(network, 3, log10_scale=log10, seed=1))
    gap = a**2 - np.sum(w * w, axis=1)
    assert (gap > 0).all() and abs(np.mean(gap) - 1.0) < 0.3 and abs(np.std(w) - 1.0) < 0.1

    a, w = parts(gaussian(network, 3, log10_scale=log10, seed=1))
    assert abs(np.mean(a**2) - outputs) < 0.4 and abs(np.std(w) - 1.0) < 0.1

    a, w = parts(sphere(network, 3, log10_scale=log10, seed=1))
    np.testing.assert_allclose(np.sum(a**2) + np.sum(w * w), 1.0, rtol=1e-11)


def test_signs_of_a_dominated_start_are_even() -> None:
    state = dominated(pf.TwoLayer(1000), 2, scale=1.0, seed=3)
    assert 420 < (state.direction[:, 0] > 0).sum() < 580


@pytest.mark.parametrize(
    ("y", "loss", "outputs", "message"),
    [
        (np.zeros((2, 3)), pf.Square(), 1, "network.outputs is 1; the labels need 3"),
        (np.zeros(2), pf.Square(), 2, "network.outputs is 2; the labels need 1"),
        (np.array([0.0, 2.0]), pf.CrossEntropy(), 2, "is 2; the labels need 3 at least"),
        (np.array([0.0, 2.0]), pf.Logistic(), 1, r"data.y\[0\] is 0"),
    ],
)
def test_outputs_must_be_those_of_the_labels(
    y: np.ndarray, loss: pf.Square, outputs: int, message: str
) -> None:
    network = pf.TwoLayer(2, outputs=outputs)
    start = gaussian(network, 2, scale=1.0)
    with pytest.raises(pf.PolarflowError, match=message):
        pf.problem(pf.Data(np.eye(2), y), network, start, loss=loss)
    wrong = gaussian(pf.TwoLayer(3, outputs=outputs), 2, scale=1.0)
    with pytest.raises(pf.PolarflowError, match="directions have shape"):
        pf.problem(pf.Data(np.eye(2), y), network, wrong, loss=loss)


def test_more_classes_than_the_labels_show_are_allowed() -> None:
    network = pf.TwoLayer(2, outputs=5)
    data = pf.Data(np.eye(2), np.array([0.0, 2.0]))
    start = gaussian(network, 2, scale=1.0)
    problem = pf.problem(data, network, start, loss=pf.CrossEntropy())
    assert problem.prediction_shape == (2, 5)


def test_labels_in_a_spec_may_be_rows(tmp_path: Path) -> None:
    from polarflow.spec import assemble, load_spec

    path = tmp_path / "flow.toml"
    path.write_text(
        "[data]\nx = [[1.0, 0.0], [0.0, 1.0]]\ny = [[1, 0, 2], [0.5, 1, -1]]\n[flow]\ntime = 1.0\n"
    )
    plan = assemble(load_spec(path), path)
    assert plan.problem.network.outputs == 3 and plan.problem.prediction_shape == (2, 3)
    assert json.loads(json.dumps(plan.spec.given()))["data"]["y"][1] == [0.5, 1.0, -1.0]
    for labels, message in (
        ("[[1, 2], [true, 2]]", "data.y[1][0] = true: must be a number"),
        ("[1, [2, 3]]", "data.y[0] = 1: must be a list of numbers"),
        ("3", "data.y = 3: must be a list of numbers, or a list of lists of numbers"),
    ):
        with pytest.raises(pf.PolarflowError) as error:
            load_spec(path, [f"data.y={labels}"])
        assert message in str(error.value)


@pytest.mark.parametrize("kinks", [0, 1, 2])
def test_the_kkt_distance_with_several_outputs_is_least_over_the_multipliers(kinks: int) -> None:
    from polarflow.ncf import kkt_distance, ncf

    rng = np.random.default_rng(kinks)
    x, z = rng.standard_normal((5, 4)), rng.standard_normal((5, 2))
    a, w = rng.standard_normal(2), rng.standard_normal(4)
    if kinks:
        q = np.linalg.qr(x[:kinks].T)[0]
        w -= q @ (q.T @ w)
    v = np.concatenate([a, w])
    v /= np.linalg.norm(v)
    a, w = v[:2], v[2:]

    def distance(multiplier: np.ndarray) -> float:
        side = (x @ w > 0).astype(float)
        side[:kinks] = multiplier
        gradient = np.concatenate([(side * (x @ w)) @ z, (side * (z @ a)) @ x])
        return float(np.linalg.norm(gradient - (gradient @ v) * v))

    value = np.maximum(x @ w, 0.0) @ (z @ a)
    np.testing.assert_allclose(ncf(v[None], x, z)[0], value, rtol=1e-12)
    found = kkt_distance(v[None], x, z)[0]
    grid = np.linspace(0.0, 1.0, 201)
    best = min(distance(np.array(m)) for m in product(grid, repeat=kinks))
    assert found <= best + 1e-12
    np.testing.assert_allclose(found, best, atol=2e-3 if kinks else 1e-12)
    # One column of labels is one output.
    single = np.concatenate([[0.6], w / np.linalg.norm(w) * 0.8])[None]
    np.testing.assert_allclose(kkt_distance(single, x, z[:, :1]), kkt_distance(single, x, z[:, 0]))


def test_a_run_with_several_outputs_from_spec_to_report(command, tmp_path: Path) -> None:
    from polarflow.store import read_summary, read_trajectory

    path = tmp_path / "flow.toml"
    path.write_text(
        "[data]\nx = [[1.0, 0.2], [-0.3, 1.0], [-1.0, -0.9]]\ny = [0, 1, 2]\nbias = true\n"
        "[network]\nwidth = 15\n[init]\nlog10_scale = -20\n"
        '[loss]\nkind = "cross_entropy"\n[flow]\nloss = 0.05\n'
        "[record]\ninputs = [[0.0, 0.0], [1.0, 0.2]]\n"
    )
    assert command("run", path, "--out", tmp_path / "out", "--quiet").code == 0
    summary = read_summary(tmp_path / "out")
    final = summary["final"]
    assert final["loss"] == pytest.approx(0.05, rel=1e-7)
    h = np.array(final["predictions"])
    assert h.shape == (3, 3) and np.array(final["outputs"]).shape == (2, 3)
    log_p = h[range(3), range(3)] - np.logaddexp.reduce(h, axis=1)
    np.testing.assert_allclose(-log_p.mean(), 0.05, rtol=1e-7)
    np.testing.assert_allclose(final["outputs"][1], h[0], rtol=1e-12)
    dataset = read_trajectory(tmp_path / "out")
    assert dataset.prediction.dims == ("time", "example", "component")
    assert dataset.parameter.values.tolist() == ["a0", "a1", "a2", "w0", "w1", "w2"]
    assert (tmp_path / "out" / "report.html").exists()
    figures = {file.stem for file in (tmp_path / "out" / "figures").iterdir()}
    assert figures == {"loss", "log_norms", "alignment", "projection", "late"}


def test_a_class_that_no_example_has_is_one_more_output() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 3)), np.array([0, 1, 1, 0, 1])
    network = pf.TwoLayer(6, outputs=4)
    start = gaussian(network, 3, scale=0.3, seed=0)
    losses = []
    for labels in (y, np.eye(4)[y]):
        problem = pf.problem(pf.Data.from_arrays(x, labels), network, start, loss=pf.CrossEntropy())
        losses.append(pf.gradient_flow(problem, stop=pf.Stop(time=2.0), rtol=1e-9).final.loss)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12)
