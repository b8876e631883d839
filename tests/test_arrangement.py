"""Faces of arrangements of hyperplanes, and the two counts of cells."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from polarflow.ncf._arrangement import (
    complement,
    count_cells,
    distinct_hyperplanes,
    faces,
    simple_count,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def spanning(rows: np.ndarray) -> np.ndarray:
    """The rows in coordinates of their span."""
    _, singular, vectors = np.linalg.svd(rows, full_matrices=False)
    return unit(rows @ vectors[singular > 1e-9].T)


def braid(n: int) -> np.ndarray:
    """Hyperplanes w_i = w_j in R^n."""
    return np.array([np.eye(n)[i] - np.eye(n)[j] for i, j in combinations(range(n), 2)])


@pytest.mark.parametrize(
    ("h", "r"), [(1, 1), (2, 2), (7, 2), (400, 2), (3, 3), (9, 3), (30, 3), (10, 4), (9, 5), (6, 6)]
)
def test_faces_in_general_position_are_as_many_as_zaslavsky_says(h: int, r: int) -> None:
    found = faces(unit(np.random.default_rng([h, r]).standard_normal((h, r))))
    assert found.general and found.margin > 0
    assert found.cells == simple_count(h, r)
    # Faces of dimension f are the cells that the other hyperplanes cut out of an intersection.
    for f in range(1, r + 1):
        expected = comb(h, r - f) * simple_count(h - (r - f), f)
        assert (found.dimension == f).sum() == expected
    # They partition R^r, whose Euler characteristic with compact support is (-1)^r.
    assert ((-1.0) ** found.dimension).sum() == (-1) ** r
    assert len(np.unique(found.sign, axis=0)) == len(found.sign)


@pytest.mark.parametrize(("n", "cells", "total"), [(3, 6, 13), (4, 24, 75), (5, 120, 541)])
def test_the_braid_arrangement_has_n_factorial_cells(n: int, cells: int, total: int) -> None:
    """A face is an ordering with ties: Fubini's numbers. No general position here."""
    found = faces(spanning(braid(n)))
    assert (found.cells, len(found.sign)) == (cells, total)
    assert count_cells(braid(n)) == cells
    assert found.general == (n == 3)


def test_the_arrangement_of_type_b_has_its_weyl_group_of_cells() -> None:
    rows = [np.eye(3)[i] + s * np.eye(3)[j] for i, j in combinations(range(3), 2) for s in (1, -1)]
    normals = unit(np.array([*rows, *np.eye(3)]))
    assert faces(normals).cells == count_cells(normals) == 2**3 * 6


@pytest.mark.parametrize("seed", range(6))
def test_special_positions_agree_with_deletion_and_restriction(seed: int) -> None:
    """Normals with small integers meet in many ways."""
    rng = np.random.default_rng(seed)
    r = int(rng.integers(2, 5))
    rows = rng.integers(-1, 2, (9, r)).astype(float)
    normals, _, _ = distinct_hyperplanes(unit(rows[rows.any(axis=1)]))
    inside = spanning(normals)
    found = faces(inside)
    assert found.cells == count_cells(normals)
    assert ((-1.0) ** found.dimension).sum() == (-1) ** inside.shape[1]
    # Random directions see cells that are listed, and no others.
    seen = np.unique(np.sign(rng.standard_normal((20_000, inside.shape[1])) @ inside.T), axis=0)
    listed = {tuple(s) for s in found.sign[found.dimension == inside.shape[1]].tolist()}
    assert {tuple(s) for s in seen.astype(int).tolist()} <= listed


def test_incidence_and_order_of_faces() -> None:
    normals = unit(np.random.default_rng(3).standard_normal((6, 3)))
    found = faces(normals)
    face, ray = found.incidence.T
    on_ray = np.sign(np.round(found.ray @ normals.T, 9))
    # A ray lies in the closure of a face: its signs are those of the face, or zero.
    assert ((on_ray[ray] == 0) | (on_ray[ray] == found.sign[face])).all()
    low, high = found.below.T
    assert ((found.sign[low] == 0) | (found.sign[low] == found.sign[high])).all()
    assert (found.dimension[low] < found.dimension[high]).all()
    # Every face but the origin covers another.
    assert set(high) == set(np.flatnonzero(found.dimension > 0))


def test_parallel_rows_are_one_hyperplane() -> None:
    rows = unit(np.array([[1.0, 2.0], [-3.0, -6.0], [0.0, 1.0], [2.0, 4.0]]))
    normals, which, sign = distinct_hyperplanes(rows)
    assert which.tolist() == [0, 0, 1, 0] and sign.tolist() == [1, -1, 1, 1]
    np.testing.assert_allclose(sign[:, None] * normals[which], rows, atol=1e-15)


def test_the_complement_is_orthonormal() -> None:
    rows = np.random.default_rng(0).standard_normal((2, 5))
    basis = complement(rows)
    np.testing.assert_allclose(basis @ rows.T, 0, atol=1e-14)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-14)
