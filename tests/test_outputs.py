"""Networks with several outputs, and unbalanced starts, from the labels to the pictures."""

import json
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
