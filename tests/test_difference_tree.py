"""Sums over patterns along a tree of differences, and remembered pseudo-inverses."""

import numpy as np
import pytest

from polarflow.flow.kinks._field import group_forces
from polarflow.flow.kinks._patterns import sliding_inverses
from polarflow.flow.kinks._tree import difference_tree, tree_forces, tree_values


def alike(seed: int, groups: int, planes: int) -> np.ndarray:
    """Patterns that differ from one of three in about a twentieth of the hyperplanes."""
    rng = np.random.default_rng(seed)
    base = rng.choice([-1, 1], (3, planes))
    own = base[rng.integers(3, size=groups)]
    other = rng.choice([-2, -1, 0, 1, 2], (groups, planes))
    return np.where(rng.random((groups, planes)) < 0.05, other, own).astype(np.int8)


@pytest.mark.parametrize(("groups", "planes"), [(20, 40), (90, 75), (60, 130)])
def test_sums_along_the_tree_are_those_of_the_matrix(groups: int, planes: int) -> None:
    side = alike(groups, groups, planes)
    side[3] = -1
    rng = np.random.default_rng(1)
    normals = rng.normal(size=(planes, planes - 3))
    on = rng.normal(size=(planes, 2))
    tree = difference_tree(side, normals.shape[1])
    active = (side > 0).astype(float)
    assert 0 < len(tree[3]) < active.sum()
    for jump in (on, 0.3 * on):
        expected, found = np.empty((2, groups, 2, normals.shape[1]))
        group_forces(active, on, jump, normals, expected)
        tree_forces(tree, on, jump, normals, found)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        if jump is on:
            # What is off everywhere doesn't move, not even by rounding.
            assert not found[3].any()
    moment, value = rng.normal(size=(groups, normals.shape[1])), np.empty(planes)
    expected = np.sum((active.T @ moment) * normals, axis=1)
    tree_values(tree, moment, normals, value)
    np.testing.assert_allclose(value, expected, atol=1e-12)


def test_there_is_no_tree_where_patterns_have_nothing_in_common() -> None:
    side = np.random.default_rng(0).choice([-1, 1], (40, 60)).astype(np.int8)
    assert len(difference_tree(side, 60)[3]) == 0


def test_pseudo_inverses_are_remembered_by_what_slides() -> None:
    rng = np.random.default_rng(2)
    planes, q = 30, 24
    normals = rng.normal(size=(planes, q))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    keys = rng.integers(-(2**40), 2**40, size=planes, dtype=np.int64)
    side = alike(3, 50, planes)
    nothing = np.empty((0, planes), np.int8), np.empty(0, np.int64), np.empty((0, 1, q))
    slides, inverse = sliding_inverses(side, normals, keys, *nothing)
    later = np.concatenate([side[::-1], alike(4, 20, planes)])
    known = sliding_inverses(later, normals, keys, side, slides, inverse)
    fresh = sliding_inverses(later, normals, keys, *nothing)
    np.testing.assert_array_equal(known[0], (later == 0).sum(axis=1))
    for count, found, expected, own in zip(*known, fresh[1], later, strict=True):
        np.testing.assert_array_equal(found[:count], expected[:count])
        np.testing.assert_allclose(found[:count], np.linalg.pinv(normals[own == 0]).T, atol=1e-12)
