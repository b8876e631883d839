"""Losses: derivatives, logarithms where floats end, margins and their smoothed inverse."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest

import polarflow as pf
from polarflow.losses import LOSSES, Loss, MarginLoss

BINARY = (pf.Logistic, pf.Exponential)
N = 5


def labels(loss: Loss, outputs: int, rng: np.random.Generator) -> np.ndarray:
    shape = (N,) if outputs == 1 else (N, outputs)
    if isinstance(loss, pf.CrossEntropy):
        return np.append(np.arange(outputs), rng.integers(0, outputs, N))[:N].astype(float)
    if isinstance(loss, MarginLoss):
        return rng.choice([-1.0, 1.0], shape)
    return rng.standard_normal(shape)


def cases() -> list[tuple[Loss, int]]:
    found = []
    for kind in LOSSES.values():
        for outputs in (1, 3) if kind is not pf.CrossEntropy else (2, 4):
            found.append((kind("mean", 3.0), outputs))
            found.append((kind("sum", 0.5), outputs))
    return found


@pytest.mark.parametrize(("loss", "outputs"), cases())
def test_the_residual_is_minus_the_derivative(loss: Loss, outputs: int) -> None:
    rng = np.random.default_rng(3)
    y = labels(loss, outputs, rng)
    h = rng.standard_normal((N,) if outputs == 1 else (N, outputs))
    r = loss.residual(h, y)
    assert r.shape == h.shape
    step = 1e-5
    for index in np.ndindex(h.shape):
        change = np.zeros_like(h)
        change[index] = step
        slope = (loss.value(h + change, y) - loss.value(h - change, y)) / (2 * step)
        np.testing.assert_allclose(-slope, r[index], rtol=1e-7, atol=1e-9)
    log_norm, unit = loss.log_residual(h, y)
    np.testing.assert_allclose(np.exp(log_norm) * unit, r, rtol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(unit), 1.0, rtol=1e-14)
    # A batch of predictions is as good as one after the other.
    batch = np.stack([h, 2 * h, h - 1.0])[None]
    np.testing.assert_allclose(loss.value(batch, y)[0, 2], loss.value(h - 1.0, y))
    np.testing.assert_allclose(loss.residual(batch, y)[0, 1], loss.residual(2 * h, y))
    assert loss.log_residual(batch, y)[0].shape == (1, 3)


def exact(loss: Loss, z: list[float]) -> tuple[mpmath.mpf, list[mpmath.mpf]]:
    """The loss and |r_k| for margins z, with 60 digits."""
    terms, sizes = [], []
    for one in z:
        u = mpmath.exp(-mpmath.mpf(one))
        logistic = isinstance(loss, pf.Logistic)
        terms.append(mpmath.log1p(u) if logistic else u)
        sizes.append(u / (1 + u) if logistic else u)
    factor = mpmath.mpf(loss.factor(len(z)))
    return factor * mpmath.fsum(terms), [factor * s for s in sizes]


@pytest.mark.parametrize("kind", BINARY)
@pytest.mark.parametrize(
    "z",
    [
        [0.5, -2.0, 3.0],
        [29.0, 30.5, 33.0],
        [-50.0, 2.0, 800.0],
        [740.0, 745.5, 760.0],
        [1e6, 1e6 + 0.5, 1e6 + 2.0],
        [1e10, 1e10 + 1.0, 1e10 + 3.0],
        [-1e6, 5.0, 1e6],
    ],
)
def test_logarithms_of_margin_losses_are_accurate_everywhere(kind: type, z: list[float]) -> None:
    loss = kind("mean", 2.0)
    y = np.array([1.0, -1.0, 1.0])
    with mpmath.workdps(60):
        value, sizes = exact(loss, z)
        norm = mpmath.sqrt(mpmath.fsum(s * s for s in sizes))
        log_value, log_norm = float(mpmath.log(value)), float(mpmath.log(norm))
        unit = np.array([float(s / norm) for s in sizes])
        total = value / mpmath.mpf(loss.factor(3))
        inverse = float(
            -mpmath.log(mpmath.expm1(total)) if kind is pf.Logistic else -mpmath.log(total)
        )
    h = y * np.array(z)
    np.testing.assert_allclose(loss.log_value(h, y), log_value, rtol=1e-14, atol=1e-14)
    found, direction = loss.log_residual(h, y)
    np.testing.assert_allclose(found, log_norm, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(direction, y * unit, rtol=1e-12, atol=1e-300)
    smoothed = loss.smoothed_margin(loss.log_value(h, y), 3)
    np.testing.assert_allclose(smoothed, inverse, rtol=1e-13)
    np.testing.assert_array_equal(loss.margins(h, y), z)


def test_cross_entropy_of_two_classes_is_the_logistic_loss() -> None:
    z = np.array([-3.0, 0.2, 50.0, 900.0, 1e8])
    sign = np.array([1.0, -1.0, -1.0, 1.0, 1.0])
    h = np.stack([np.zeros(5), sign * z], axis=1)
    classes = (sign > 0).astype(float)
    one_hot = np.eye(2)[classes.astype(int)]
    plain, soft = pf.Logistic("mean", 2.0), pf.CrossEntropy("mean", 2.0)
    for y in (classes, one_hot):
        np.testing.assert_allclose(soft.log_value(h, y), plain.log_value(sign * z, sign))
        np.testing.assert_allclose(soft.margins(h, y), z)
        log_norm, unit = soft.log_residual(h, y)
        expected, direction = plain.log_residual(sign * z, sign)
        np.testing.assert_allclose(log_norm, expected + 0.5 * np.log(2.0), rtol=1e-14)
        np.testing.assert_allclose(unit[:, 1], direction / np.sqrt(2.0), rtol=1e-12)
        np.testing.assert_allclose(unit[:, 0], -unit[:, 1], rtol=1e-15)


def test_cross_entropy_far_from_the_origin() -> None:
    # Margins 1e6 and 1e6 + 1 to the other classes: p_c = e^{-margin}.
    soft = pf.CrossEntropy("sum")
    h = np.array([[2e6, 1e6, 1e6 - 1.0], [2e6, 2.5e6, 0.0]])
    log_norm, unit = soft.log_residual(h, np.array([0.0, 1.0]))
    p = np.array([1.0, np.exp(-1.0)])
    expected = np.zeros((2, 3))
    expected[1] = [-1.0, 1.0, 0.0]
    np.testing.assert_allclose(log_norm, -5e5 + 0.5 * np.log(2.0), rtol=1e-15)
    np.testing.assert_allclose(unit, expected / np.sqrt(2.0), atol=1e-15)
    log_norm, unit = soft.log_residual(h[:1], np.array([0.0]))
    expected = np.array([[p.sum(), -p[0], -p[1]]])
    size = np.linalg.norm(expected)
    np.testing.assert_allclose(log_norm, -1e6 + np.log(size), rtol=1e-15)
    np.testing.assert_allclose(unit, expected / size, rtol=1e-9)


def test_square_loss_of_tiny_and_of_no_residuals() -> None:
    loss = pf.Square("sum")
    y = np.array([0.0, 0.0])
    np.testing.assert_allclose(loss.log_value(np.array([3e-200, 4e-200]), y), np.log(12.5) - 400 *
                               np.log(10.0), rtol=1e-15)  # fmt: skip
    log_norm, unit = loss.log_residual(y, y)
    assert np.isneginf(log_norm) and (unit == 0.0).all() and np.isneginf(loss.log_value(y, y))


def test_correlation_is_linear() -> None:
    loss = pf.Correlation("sum")
    y = np.array([1.0, -2.0])
    assert loss.value(np.array([3.0, 1.0]), y) == -1.0
    assert np.isnan(loss.log_value(np.array([3.0, 1.0]), y))
    np.testing.assert_array_equal(loss.residual(np.array([3.0, 1.0]), y), y)


@pytest.mark.parametrize("log_sum", [-1e6, -700.0, -30.5, -29.5, -3.0, 0.0, 2.0, 6.0])
def test_the_inverse_undoes_the_logistic_loss(log_sum: float) -> None:
    loss = pf.Logistic("sum")
    z = loss.inverse(np.array(log_sum))
    np.testing.assert_allclose(
        loss.log_value(z[None], np.array([1.0])), log_sum, rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize(
    ("kind", "y", "message"),
    [
        (pf.Logistic, [1.0, 0.5], r'data\.y\[1\] is 0\.5; the loss "logistic" needs labels -1'),
        (pf.Exponential, [0.0, 1.0], r"data\.y\[0\] is 0"),
        (pf.CrossEntropy, [0.0, 1.5], r"data\.y\[1\] is 1\.5.*class numbers"),
        (pf.CrossEntropy, [-1.0, 1.0], r"data\.y\[0\] is -1"),
        (pf.CrossEntropy, [[1.0, 1.0], [0.0, 1.0]], r"data\.y\[0\] is \[1\.0, 1\.0\].*single 1"),
        (pf.CrossEntropy, [0.0, 0.0], "single class"),
    ],
)
def test_labels_of_another_kind_are_refused(kind: type, y: list, message: str) -> None:
    with pytest.raises(pf.PolarflowError, match=message):
        kind().check_labels(np.array(y))


def test_the_factor_of_a_loss() -> None:
    assert Fraction(pf.Logistic("mean", 2.0).factor(4)) == Fraction(1, 2)
    assert pf.Exponential("sum", 2.0).factor(4) == 2.0
    assert pf.CrossEntropy().outputs(np.array([0.0, 3.0])) == 4
    with pytest.raises(pf.PolarflowError, match=r"loss\.scale"):
        pf.Logistic(scale=0.0)
