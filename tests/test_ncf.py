"""The NCF of a neuron, its Clarke subdifferential and the least-norm solver."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear, minimize_scalar

from polarflow.ncf import kkt_distance, ncf
from polarflow.ncf._clarke import minimum_norm


@pytest.mark.parametrize("seed", range(40))
def test_the_least_norm_solver_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng([seed, 21])
    q = int(rng.integers(2, 9))
    s = int(rng.integers(1, q + 1))
    base, normals = rng.standard_normal(q), rng.standard_normal((s, q))
    ends = rng.standard_normal((2, s)) * rng.choice([0.1, 1.0, 10.0])
    lower, upper = ends.min(axis=0), ends.max(axis=0)
    nu, status = np.empty(s), np.empty(s, dtype=np.int8)
    assert minimum_norm(base, normals, lower, upper, nu, status)
    exact = lsq_linear(normals.T, -base, bounds=(lower, upper), method="bvls", tol=1e-15)
    norm = np.linalg.norm(base + nu @ normals)
    np.testing.assert_allclose(
        norm, np.linalg.norm(base + exact.x @ normals), rtol=1e-9, atol=1e-12
    )
    assert (lower - 1e-12 <= nu).all() and (nu <= upper + 1e-12).all()


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_kkt_distance_is_the_spherical_gradient_off_kinks(slope: float) -> None:
    rng = np.random.default_rng(5)
    x, z = rng.standard_normal((6, 3)), rng.standard_normal(6)
    v = rng.standard_normal(4)
    v /= np.linalg.norm(v)
    gradient = np.zeros(4)
    for i in range(4):
        step = 1e-6 * np.eye(4)[i]
        gradient[i] = (ncf((v + step)[None], x, z, slope) - ncf((v - step)[None], x, z, slope))[
            0
        ] / 2e-6
    tangent = gradient - (gradient @ v) * v
    np.testing.assert_allclose(
        kkt_distance(v[None], x, z, slope)[0], np.linalg.norm(tangent), rtol=1e-8
    )
    # Euler's identity for a 2-homogeneous function.
    np.testing.assert_allclose(gradient @ v, 2 * ncf(v[None], x, z, slope)[0], rtol=1e-8)


@pytest.mark.parametrize("opposite", [False, True])
def test_kkt_distance_on_a_kink_minimises_over_its_multiplier(opposite: bool) -> None:
    # One kink, carried by two parallel or opposite examples that share their multiplier.
    x = np.array([[1.0, 0.0], [-2.0 if opposite else 2.0, 0.0], [0.5, 1.0]])
    z = np.array([-0.8, 0.5, 1.0])
    v = np.array([1.0, 0.0, 1.0]) / np.sqrt(2.0)

    def distance(share: float) -> float:
        active = np.array([share, 1.0 - share if opposite else share, 1.0])
        force = (z * active) @ x
        gradient = np.concatenate([[v[1:] @ force], v[0] * force])
        return float(np.linalg.norm(gradient - (gradient @ v) * v))

    best = minimize_scalar(distance, bounds=(0.0, 1.0), method="bounded", options={"xatol": 1e-12})
    exact = min(best.fun, distance(0.0), distance(1.0))
    np.testing.assert_allclose(kkt_distance(v[None], x, z)[0], exact, atol=1e-9)


def test_a_kkt_point_has_distance_zero() -> None:
    # A fully active neuron aligned with sum_k z_k x_k.
    x, z = np.eye(3), np.array([0.3, 0.4, 1.2])
    u = z / np.linalg.norm(z)
    v = np.concatenate([[1.0], u]) / np.sqrt(2.0)
    assert kkt_distance(v[None], x, z)[0] < 1e-15
    np.testing.assert_allclose(ncf(v[None], x, z)[0], np.linalg.norm(z) / 2)
