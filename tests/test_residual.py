"""The residual in logs and its Taylor series, against 50-digit arithmetic."""

import mpmath as mp
import numpy as np
import pytest

from polarflow.flow.kinks._residual import CODE, extend_residual, scaled_residual

ORDER = 7
KINDS = list(CODE)
OUTPUTS = {"cross_entropy": (2, 4)}
CASES = [(kind, outputs) for kind in KINDS for outputs in OUTPUTS.get(kind, (1, 3))]
FACTOR = 0.7


def labels(kind, rng, n, outputs):
    if kind in ("square", "correlation"):
        return rng.standard_normal((n, outputs))
    if kind == "cross_entropy":
        return np.eye(outputs)[rng.integers(outputs, size=n)]
    return rng.choice([-1.0, 1.0], size=(n, outputs))


def exact(kind, h, y):
    """The residual of one example in extended precision, of values or of functions of time."""
    if kind == "square":
        return [mp.mpf(FACTOR) * (b - a) for a, b in zip(h, y, strict=True)]
    if kind == "correlation":
        return [mp.mpf(FACTOR) * b for b in y]
    if kind == "exponential":
        return [mp.mpf(FACTOR) * b * mp.exp(-b * a) for a, b in zip(h, y, strict=True)]
    if kind == "logistic":
        return [mp.mpf(FACTOR) * b / (1 + mp.exp(b * a)) for a, b in zip(h, y, strict=True)]
    own = int(np.argmax(y))
    p = [1 / mp.fsum(mp.exp(b - a) for b in h) for a in h]
    rest = mp.fsum(p[c] for c in range(len(h)) if c != own)
    return [mp.mpf(FACTOR) * (rest if c == own else -p[c]) for c in range(len(h))]


@pytest.mark.parametrize("size", [0.0, 1.0, 30.0, 2000.0])
@pytest.mark.parametrize(("kind", "outputs"), CASES)
def test_residuals_of_any_size(kind: str, outputs: int, size: float) -> None:
    rng = np.random.default_rng(5)
    n = 6
    h, y = size * rng.standard_normal((n, outputs)), labels(kind, rng, n, outputs)
    s = np.empty((n, outputs))
    unit = scaled_residual(CODE[kind], h, y, FACTOR, s)
    with mp.workdps(50):
        r = [exact(kind, map_mp(h[k]), map_mp(y[k])) for k in range(n)]
        norm = mp.sqrt(mp.fsum(v * v for row in r for v in row))
        if kind in ("square", "correlation"):
            assert unit == 0.0
        else:
            # An error of one rounding of the predictions is one of e^-h relative to itself.
            assert unit == pytest.approx(float(mp.log(norm)), rel=4e-16, abs=1e-14)
        scaled = np.array([[float(v * mp.exp(-mp.mpf(unit))) for v in row] for row in r])
    np.testing.assert_allclose(s, scaled, rtol=1e-14 * max(size, 4.0), atol=1e-300)


def map_mp(row):
    return [mp.mpf(float(v)) for v in row]


@pytest.mark.parametrize("shift", [0.0, 900.0])
@pytest.mark.parametrize(("kind", "outputs"), CASES)
def test_taylor_coefficients_are_derivatives(kind: str, outputs: int, shift: float) -> None:
    """A large shift of the margins leaves residuals far below the smallest float."""
    rng = np.random.default_rng(11)
    n = 4
    y = labels(kind, rng, n, outputs)
    h = rng.standard_normal((ORDER + 1, n, outputs))
    h[0] += shift * y
    s, rate = np.zeros((2, ORDER + 1, n, outputs))
    unit = scaled_residual(CODE[kind], h[0], y, FACTOR, s[0])
    for i in range(ORDER):
        extend_residual(CODE[kind], i, h, y, FACTOR, unit, s, rate)
    with mp.workdps(60):
        for k in range(n):

            def at(t, k=k):
                values = [
                    mp.fsum(mp.mpf(float(h[i, k, c])) * t**i for i in range(ORDER + 1))
                    for c in range(outputs)
                ]
                return exact(kind, values, map_mp(y[k]))

            for c in range(outputs):
                wanted = mp.taylor(lambda t, c=c, at=at: at(t)[c], 0, ORDER, chop=False)
                for i, value in enumerate(wanted):
                    value = float(value * mp.exp(-mp.mpf(unit)))
                    assert s[i, k, c] == pytest.approx(value, rel=1e-11, abs=1e-13)
