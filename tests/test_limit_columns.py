"""What is small inside blocks that act as one: exponents of singular values."""

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from polarflow.limit._columns import _eliminated, _Term


def singular_exponents(terms: list[_Term], most: int, digits: int = 120) -> np.ndarray:
    """ln of the singular values of the sum of delta^-exponent f g^T over -ln(delta)."""
    with mpmath.workdps(12 * digits):
        scale = mpf(10) ** digits
        total = mpmath.zeros(len(terms[0].f), len(terms[0].g))
        for term in terms:
            f, g = mpmath.matrix(term.f.tolist()), mpmath.matrix(term.g.tolist())
            total += scale ** mpf(term.exponent) * f * g.T
        values = sorted(mpmath.svd_r(total, compute_uv=False), reverse=True)
        return np.array([float(mpmath.log(v, scale)) for v in values[:most]])


@pytest.mark.parametrize("seed", range(6))
def test_elimination_finds_the_exponents_of_singular_values(seed: int) -> None:
    rng = np.random.default_rng([seed, 21])
    d, q = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    terms = [
        _Term(float(-rng.uniform(0.0, 3.0)), f, rng.standard_normal(q))
        for f in np.linalg.qr(rng.standard_normal((d, d)))[0]
        for _ in range(2)
    ]
    if seed % 2:
        # Entries of their own exponents: products of two others may exceed an entry.
        terms = [
            _Term(float(-rng.uniform(0.0, 3.0)), f, rng.standard_normal() * g)
            for f in np.eye(d)
            for g in np.eye(q)
        ]
    most = min(d, q)
    found = [column[0].exponent for column in _eliminated(terms, most)]
    np.testing.assert_allclose(found, singular_exponents(terms, most), atol=0.05)


def test_terms_of_one_exponent_that_are_one_column_are_counted_once() -> None:
    f, g = np.eye(3), np.array([1.0, 2.0, -1.0])
    columns = _eliminated([_Term(-0.5, f[0], g), _Term(-0.5, f[1], 2.0 * g)], 3)
    assert [len(column) for column in columns] == [2]
    assert [part.exponent for part in columns[0]] == [-0.5, -0.5]
