"""The NCF at one point against finite differences, and at KKT points."""

import numpy as np
import pytest

import polarflow as pf
from polarflow.ncf import kkt_points, local_ncf
from polarflow.networks import SquaredRelu


def differences(f, v: np.ndarray, h: float = 1e-5) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of f, and the Hessian of f(v/|v|), by central differences."""
    eye = np.eye(len(v))
    gradient = np.array([(f(v + h * e) - f(v - h * e)) / (2 * h) for e in eye])

    def on_sphere(w: np.ndarray) -> float:
        return f(w / np.linalg.norm(w))

    hessian = np.empty((len(v), len(v)))
    for i, e in enumerate(eye):
        for j, d in enumerate(eye):
            corners = [on_sphere(v + h * (a * e + b * d)) for a in (1, -1) for b in (1, -1)]
            hessian[i, j] = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * h * h)
    across = eye - np.outer(v, v)
    return gradient, across @ hessian @ across


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_two_layer_neuron(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    x, z = rng.standard_normal((6, 3)), rng.standard_normal((6, outputs))
    network = pf.TwoLayer(1, "leaky_relu", 0.3, outputs)
    v = rng.standard_normal(outputs + 3)
    v /= np.linalg.norm(v)

    def value(w: np.ndarray) -> float:
        t = x @ w[outputs:]
        return float(np.maximum(t, 0.3 * t) @ (z @ w[:outputs]))

    found = local_ncf(network, x, z if outputs > 1 else z[:, 0], v)
    gradient, hessian = differences(value, v)
    assert found.value == pytest.approx(value(v), rel=1e-14)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-8)
    assert found.hessian is not None
    np.testing.assert_allclose(found.hessian, hessian, atol=1e-4)
    np.testing.assert_allclose(found.tangent @ v, 0.0, atol=1e-14)


def test_blocks_that_are_differentiated() -> None:
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((5, 2)), rng.standard_normal(5)
    v = rng.standard_normal(2)
    v /= np.linalg.norm(v)
    found = local_ncf(SquaredRelu(3), x, z, v)
    gradient, hessian = differences(lambda u: float(z @ np.maximum(x @ u, 0.0) ** 2), v)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-8)
    np.testing.assert_allclose(found.hessian, hessian, atol=1e-4)
    # Euler's identity: <v, grad N> = L N.
    assert found.gradient @ v == pytest.approx(2 * found.value, rel=1e-12)


def test_at_kkt_points_nothing_is_left_along_the_sphere() -> None:
    x = np.array([[1.0, 0.2], [-0.4, 1.0], [0.3, -1.0], [-1.0, -0.7], [0.8, 0.9]])
    z = np.array([1.0, -0.5, 0.7, 0.4, -1.2])
    for point in kkt_points(pf.TwoLayer(1), x, z).points:
        found = local_ncf(pf.TwoLayer(1), x, z, point.direction)
        assert np.linalg.norm(found.tangent) < 1e-12
        assert (found.hessian is None) == bool(point.on_kinks)
        if found.hessian is not None and point.type == "maximum":
            assert np.linalg.eigvalsh(found.hessian).max() < 1e-12


def test_wrong_points_are_told() -> None:
    x, z = np.eye(2), np.ones(2)
    with pytest.raises(pf.PolarflowError, match=r"shape \(2,\); the block has 3"):
        local_ncf(pf.TwoLayer(1), x, z, [1.0, 0.0])
    with pytest.raises(pf.PolarflowError, match="norm 2; it must be a unit vector"):
        local_ncf(pf.TwoLayer(1), x, z, [2.0, 0.0, 0.0])
    with pytest.raises(pf.PolarflowError, match="block is 5"):
        local_ncf(SquaredRelu(3), x, z, [1.0, 0.0], block=5)
