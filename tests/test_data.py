"""Data sets: shapes, files, the sets known by name, and errors that name what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polarflow import Data, PolarflowError
from polarflow.data import NAMED, digits, load, named, teacher_student

FINITE = st.floats(-1e6, 1e6)


@given(arrays(float, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=FINITE))
def test_a_bias_appends_one_column_of_ones(x: np.ndarray) -> None:
    y = np.arange(len(x), dtype=float)
    plain, biased = Data.from_arrays(x, y), Data.from_arrays(x, y, bias=True)
    assert (plain.examples, plain.dimension) == x.shape
    assert biased.dimension == plain.dimension + 1
    np.testing.assert_array_equal(biased.x[:, :-1], x)
    np.testing.assert_array_equal(biased.x[:, -1], 1.0)


def test_data_are_copied_and_read_only() -> None:
    x = np.ones((2, 2))
    data = Data(x, np.ones(2))
    x[0, 0] = 5.0
    assert data.x[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        data.x[0, 0] = 5.0


def test_a_vector_of_inputs_is_one_number_a_row() -> None:
    assert Data.from_arrays([1, 2, 3], [1, 2, 3]).x.shape == (3, 1)


def test_a_column_of_labels_is_a_vector() -> None:
    assert Data(np.ones((3, 2)), np.ones((3, 1))).y.shape == (3,)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([[1.0], [2.0]], [1.0], "x has 2 rows and y has 1 labels"),
        ([[1.0, np.nan]], [1.0], r"x\[0\]\[1\] = nan; every number must be finite"),
        ([[1.0]], [np.inf], r"y\[0\] = inf"),
        ([[1.0], [2.0, 3.0]], [1.0, 2.0], "x is not an array of real numbers"),
        ([["a"]], [1.0], "x is not an array of real numbers"),
        ([[1j]], [1.0], "x is not an array of real numbers"),
        (np.zeros((0, 2)), [], r"shape \(0, 2\); at least one example"),
        (np.zeros((2, 0)), [1.0, 2.0], r"shape \(2, 0\)"),
        (np.zeros((2, 2, 2)), [1.0, 2.0], r"x has shape \(2, 2, 2\); it must be n x d"),
        (np.zeros((2, 2)), np.zeros((2, 2, 2)), r"y has shape \(2, 2, 2\); it must hold n labels"),
    ],
)
def test_wrong_arrays_are_named(x: object, y: object, words: str) -> None:
    with pytest.raises(PolarflowError, match=words):
        Data.from_arrays(x, y)  # type: ignore[arg-type]


def test_a_bias_that_is_not_there_is_refused() -> None:
    with pytest.raises(PolarflowError, match="last column of x must be 1"):
        Data(np.zeros((2, 2)), np.ones(2), bias=True)


def test_files_give_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal(4)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    table = np.column_stack([x, y]).tolist()
    lines = [",".join(map(repr, row)) for row in table]
    (tmp_path / "plain.csv").write_text("\n".join(lines))
    (tmp_path / "headed.csv").write_text("\n".join(["u, v, w, label", "", *lines, ""]))
    for name in ("d.npz", "plain.csv", "headed.csv"):
        data = load(tmp_path / name, bias=True)
        np.testing.assert_array_equal(data.x, np.column_stack([x, np.ones(4)]))
        np.testing.assert_array_equal(data.y, y)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no example"),
        ("x,y\n", "holds no example"),
        ("1,2\n3\n", "line 2 has 1 columns; expected are 2"),
        ("1\n", "line 1 has 1 columns; expected are at least 2"),
        ("1,2\n3,four\n", "line 2: 'four' is not a number"),
        ("1,two\n", "line 1: 'two' is not a number"),
        ("a,b\nc,d\n", "line 2: 'c' is not a number"),
        ("1,nan\n", r"y\[0\] = nan"),
    ],
)
def test_a_wrong_csv_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(PolarflowError, match=words) as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_wrong_npz_is_named_with_its_array(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((2, 1)), z=np.ones(2))
    with pytest.raises(PolarflowError, match=r"a\.npz: there is no array y; .* holds x, z"):
        load(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", x=np.array([[None]]), y=np.ones(1))
    with pytest.raises(PolarflowError, match=r"b\.npz: not an \.npz file of plain numerical"):
        load(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_text("no archive")
    with pytest.raises(PolarflowError, match=r"c\.npz: not an \.npz file"):
        load(tmp_path / "c.npz")
    with pytest.raises(PolarflowError, match="no such file"):
        load(tmp_path / "d.npz")
    with pytest.raises(PolarflowError, match=r"must end in \.npz or \.csv"):
        load(tmp_path / "e.txt")


def test_the_two_points_are_orthogonal_with_their_bias() -> None:
    x = named("two-points").x
    assert x[0] @ x[1] == 0.0


def test_every_toy_set_has_its_points() -> None:
    sizes = {name: named(name).examples for name in NAMED if name.endswith("-points")}
    assert sizes == {"two-points": 2, "five-points": 5, "three-points": 3}
    with pytest.raises(PolarflowError, match="'two-points', 'five-points', 'three-points'"):
        named("four-points")


def test_a_teacher_labels_its_students_inputs() -> None:
    data = teacher_student(examples=7, dimension=3, teacher_width=2, bias=True, seed=5)
    rng = np.random.default_rng([5, 0])
    w = rng.standard_normal((2, 4)) / np.sqrt(2 * 4)
    a = rng.standard_normal(2) / np.sqrt(2)
    x = rng.standard_normal((7, 3))
    np.testing.assert_array_equal(data.x[:, :3], x)
    expected = [sum(a[j] * max(0.0, w[j] @ row) for j in range(2)) for row in data.x]
    np.testing.assert_allclose(data.y, expected, rtol=1e-14)


def test_the_teachers_scales_are_those_of_the_paper() -> None:
    # y given x has variance |x|^2 / (2 d p) with outputs N(0, 1/p), summed over p neurons.
    d, p = 150, 6
    y = np.concatenate([teacher_student(20, d, p, seed=seed).y for seed in range(300)])
    assert np.var(y) == pytest.approx(1 / (2 * p), rel=0.15)


def test_digits_are_balanced_and_scaled() -> None:
    data = digits(classes=(3, 8), count=21, seed=1)
    assert data.x.shape == (21, 64)
    assert (data.y == -1).sum() == 11 and (data.y == 1).sum() == 10
    assert data.x.min() >= 0.0 and data.x.max() <= 1.0
    assert len(np.unique(data.x, axis=0)) == 21
    np.testing.assert_array_equal(data.x, digits(classes=(3, 8), count=21, seed=1).x)
    assert not np.array_equal(data.x, digits(classes=(3, 8), count=21, seed=2).x)


def test_digits_keep_their_class() -> None:
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    data = digits(classes=(0, 1), count=10)
    for row, label in zip(data.x, data.y, strict=True):
        source = targets[np.flatnonzero((images == 16 * row).all(axis=1))]
        assert set(source) == {1 if label > 0 else 0}


def test_digits_are_centred_then_normalised() -> None:
    centred = digits(count=12, centre=True)
    np.testing.assert_allclose(centred.x.mean(axis=0), 0.0, atol=1e-14)
    normed = digits(count=12, centre=True, normalise=True)
    np.testing.assert_allclose(np.linalg.norm(normed.x, axis=1), 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": (1, 1)}, "two different digits"),
        ({"classes": (1, 10)}, "two different digits"),
        ({"count": 1}, "data.count is 1"),
        ({"count": 1000}, "asks for 500 images of the digit 0; there are 178"),
    ],
)
def test_impossible_choices_of_digits_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(PolarflowError, match=words):
        digits(**arguments)  # type: ignore[arg-type]


def test_a_teacher_without_neurons_is_refused() -> None:
    with pytest.raises(PolarflowError, match="data.teacher_width is 0; it must be at least 1"):
        teacher_student(teacher_width=0)
