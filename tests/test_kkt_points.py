"""All KKT points of one neuron: closed forms, brute force, index theorems, certificates."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from polarflow.ncf import KKTPoint, KKTSet, kkt_distance, ncf, squared_points, two_layer_points
from polarflow.ncf._certificate import NeuronCertifier

HALF = np.sqrt(0.5)


def two_layer_g(w: np.ndarray, x: np.ndarray, z: np.ndarray, slope: float) -> np.ndarray:
    t = w @ x.T
    return np.maximum(t, slope * t) @ z


def squared(u: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.maximum(u @ x.T, 0) ** 2 @ z


def circle(count: int) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False) + 0.123 / count
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def turns(values: np.ndarray) -> int:
    """Local extremes of a sampled closed curve."""
    rising = np.diff(values, append=values[0]) > 0
    return int((rising != np.roll(rising, 1)).sum())


def check(found: KKTSet, order: int = 2) -> None:
    assert found.complete
    for p in found.points:
        assert abs(np.linalg.norm(p.direction) - 1) < 1e-14
        assert p.kkt_residual < 1e-13 and p.order_defect < 1e-13
        if p.certified is not None:
            assert p.certified and p.radius is not None and p.radius <= 1e-10
    places = np.array([np.append(p.direction, 9.0 * (p.sign or 0)) for p in found.points])
    apart, _ = cKDTree(places).query(places, k=min(2, len(places)))
    assert (np.atleast_2d(apart.T)[-1] > 1e-7).all() or len(places) == 1


@pytest.mark.parametrize("slope", [0.0, 0.3, -0.5])
@pytest.mark.parametrize("seed", range(8))
def test_in_the_plane_the_points_are_the_extremes_of_the_sampled_circle(
    seed: int, slope: float
) -> None:
    """On a circle every KKT point of G with G != 0 is an extreme, and the zeros are crossings."""
    rng = np.random.default_rng([seed, 5])
    x, z = rng.standard_normal((7, 2)), rng.standard_normal(7)
    if slope == 0.0:  # no direction is off for all examples
        x, z = np.concatenate([x, [[-2.0, 0.1], [0.1, 2.0]]]), np.append(z, [0.3, -0.4])
    found = two_layer_points(x, z, slope)
    check(found)
    g = two_layer_g(circle(400_000), x, z, slope)
    moving = [p for p in found.points if p.value != 0.0]
    assert len(moving) == 2 * turns(g)
    crossings = int((np.sign(g) != np.sign(np.roll(g, 1))).sum())
    poles = [p for p in found.points if not p.direction[1:].any()]
    assert len(found.points) - len(moving) - len(poles) == crossings
    assert found.points[0].value == pytest.approx(np.abs(g).max() / 2, rel=1e-4)
    for p in moving:
        assert abs(p.direction[0]) == pytest.approx(HALF, abs=1e-15)
    for p in found.points:
        if p.value == 0.0 and p.direction[1:].any():
            assert (p.type, p.strict, p.dimension, p.direction[0]) == ("saddle", True, 0, 0.0)
    # w = 0 is a KKT point if G has no direction of one sign: here it never has both.
    assert len(poles) == (2 if (g > 0).all() or (g < 0).all() else 0) or crossings
    for p in poles:
        if not crossings:
            assert p.type == ("minimum" if p.direction[0] * g[0] > 0 else "maximum")


@pytest.mark.parametrize("seed", range(8))
def test_squared_units_in_the_plane(seed: int) -> None:
    rng = np.random.default_rng([seed, 6])
    x = np.concatenate([rng.standard_normal((6, 2)), -np.eye(2)])
    z = rng.standard_normal(8)
    found = squared_points(x, z, (1, -1))
    check(found)
    value = squared(circle(400_000), x, z)
    for sign in (1, -1):
        mine = [p for p in found.points if p.sign == sign]
        assert len(mine) == turns(value)
        assert max(p.value for p in mine) == pytest.approx((sign * value).max(), rel=1e-8)
        kinds = [p.type for p in mine]
        assert kinds.count("maximum") == kinds.count("minimum") == len(mine) // 2


def around(u: np.ndarray, radius: float, count: int) -> np.ndarray:
    """Points of the unit sphere of R^3 on a small circle around u."""
    basis = np.linalg.svd(u[None])[2][1:]
    w = u + radius * circle(count) @ basis
    return w / np.linalg.norm(w, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["relu", "leaky", "squared"])
def test_on_the_sphere_indices_add_up_to_two(seed: int, kind: str) -> None:
    """Poincare-Hopf: 1 - (changes of sign of f - f(u) around u)/2 adds up to Euler's number 2."""
    rng = np.random.default_rng([seed, 7])
    x, z = rng.standard_normal((9, 3)), rng.standard_normal(9)
    slope = {"relu": 0.0, "leaky": 0.2}.get(kind)
    if kind != "leaky":  # no direction is off for all examples
        x, z = np.concatenate([x, -np.eye(3), np.ones((1, 3))]), np.append(z, rng.random(4))
    if slope is None:
        found = squared_points(x, z)
        points = [p.direction for p in found.points]
    else:
        found = two_layer_points(x, z, slope)
        points = [
            p.direction[1:] / HALF for p in found.points if p.value != 0 and p.direction[0] > 0
        ]
        flat = [p for p in found.points if p.value == 0 and p.direction[1:].any()]
        assert all(p.dimension == 1 for p in flat)
    check(found)
    total = 0.0
    for u in points:
        ring = around(u, 1e-4, 100_001)
        if slope is None:
            change = squared(ring, x, z) - squared(u[None], x, z)
        else:
            change = two_layer_g(ring, x, z, slope) - two_layer_g(u[None], x, z, slope)
        total += 1 - turns_of_sign(change) / 2
    assert total == 2


def turns_of_sign(values: np.ndarray) -> int:
    return int((np.sign(values) != np.sign(np.roll(values, 1))).sum())


@pytest.mark.parametrize("kind", ["relu", "squared"])
def test_random_ascent_ends_in_a_listed_maximum(kind: str) -> None:
    rng = np.random.default_rng(11)
    x, z = rng.standard_normal((10, 4)), rng.standard_normal(10)
    w = rng.standard_normal((60, 4))
    found = two_layer_points(x, z) if kind == "relu" else squared_points(x, z)
    check(found)
    for i in range(6000):
        w /= np.linalg.norm(w, axis=1, keepdims=True)
        t = np.maximum(w @ x.T, 0)
        g = (z * (t > 0)) @ x if kind == "relu" else 2 * (z * t) @ x
        w += (0.3 / (i + 10) ** 0.6 if kind == "relu" else 0.01) * (
            g - (g * w).sum(axis=1, keepdims=True) * w
        )
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    value = two_layer_g(w, x, z, 0.0) / 2 if kind == "relu" else squared(w, x, z)
    tops = [p for p in found.points if p.type == "maximum" and p.dimension == 0]
    ends = np.array([p.direction[-4:] * (1 / HALF if kind == "relu" else 1) for p in tops])
    values = np.array([p.value for p in tops])
    for end, height in zip(w, value, strict=True):
        if height > 1e-2:  # the others have died
            near = int(np.argmin(np.linalg.norm(ends - end, axis=1)))
            assert np.linalg.norm(ends[near] - end) < 2e-2
            assert values[near] == pytest.approx(height, abs=2e-3)


def test_every_maximum_is_one_and_every_minimum_too() -> None:
    rng = np.random.default_rng(12)
    x, z = rng.standard_normal((9, 3)), rng.standard_normal(9)
    for found, of in (
        (two_layer_points(x, z), lambda v: ncf(v, x, z)),
        (squared_points(x, z), lambda v: squared(v, x, z)),
    ):
        for p in found.points:
            step = rng.standard_normal((8000, len(p.direction)))
            step *= np.repeat([1e-2, 1e-3, 1e-4, 1e-5], 2000)[:, None]
            near = p.direction + step
            change = of(near / np.linalg.norm(near, axis=1, keepdims=True)) - p.value
            change = change[6000:] if p.type != "saddle" else change
            if p.type == "saddle" and p.dimension == 0:
                assert change.min() < 0 < change.max()
            elif p.type == "maximum":
                assert change.max() < 1e-14
            elif p.type == "minimum":
                assert change.min() > -1e-14


def test_symmetric_data_with_equal_labels_give_eigenvectors() -> None:
    """Kumar & Haupt (2024), G.1: the KKT points are the eigenvectors of sum_k y_k x_k x_k^T."""
    rng = np.random.default_rng(1)
    half, y = rng.standard_normal((6, 4)), rng.standard_normal(6)
    found = squared_points(np.concatenate([half, -half]), np.concatenate([y, y]))
    check(found)
    assert found.proof["cells"] == 1
    values, vectors = np.linalg.eigh((half * y[:, None]).T @ half)
    assert len(found.points) == 8
    for value, q in zip(values, vectors.T, strict=True):
        mine = [p for p in found.points if abs(p.value - value) < 1e-12]
        assert len(mine) == 2 and mine[0].orbit == mine[1].orbit
        np.testing.assert_allclose(mine[0].direction, -mine[1].direction, atol=1e-14)
        assert abs(mine[0].direction @ q) == pytest.approx(1, abs=1e-13)
    kinds = [p.type for p in found.points]
    assert (kinds[:2], kinds[-2:]) == (["maximum"] * 2, ["minimum"] * 2)
    assert kinds[2:-2] == ["saddle"] * 4


def test_a_repeated_eigenvalue_gives_a_flat_sphere() -> None:
    q = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    found = squared_points(np.concatenate([q, -q]), np.array([3.0, 1, 1, 1] * 2))
    assert [(p.dimension, p.type) for p in found.points] == [
        (0, "maximum"),
        (0, "maximum"),
        (2, "minimum"),
    ]
    assert abs(found.points[2].direction @ q[0]) < 1e-14
    assert found.to_dict()["flat_sets"] == [
        {"dimension": 2, "value": pytest.approx(1.0), "point": 2, "orbit": 1}
    ]


@pytest.mark.parametrize("d", [2, 3, 5])
@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_symmetric_data_with_odd_labels_give_four_points_and_a_flat_set(
    d: int, slope: float
) -> None:
    """Kumar & Haupt (2024), G.2: (+-1, +-q/|q|)/sqrt(2), and a = 0 with w orthogonal to q."""
    rng = np.random.default_rng(d)
    half, y = rng.standard_normal((5, d)), rng.standard_normal(5)
    found = two_layer_points(np.concatenate([half, -half]), np.concatenate([y, -y]), slope)
    check(found)
    q = (1 + slope) * y @ half
    size = np.linalg.norm(q)
    moving = [p for p in found.points if p.value != 0]
    assert sorted(p.value for p in moving) == pytest.approx([-size / 2] * 2 + [size / 2] * 2)
    for p in moving:
        assert p.certified and abs(abs(p.direction[0]) - HALF) < 1e-15
        np.testing.assert_allclose(np.abs(p.direction[1:] @ q) / size, HALF, atol=1e-14)
    assert len({p.orbit for p in moving}) == 2
    flat = [p for p in found.points if p.value == 0]
    assert [p.dimension for p in flat] == ([0, 0] if d == 2 else [d - 2])
    for p in flat:
        assert p.direction[0] == 0 and abs(p.direction[1:] @ q) < 1e-14 * size


def test_a_neuron_that_is_off_everywhere_lies_in_a_flat_set() -> None:
    found = two_layer_points(np.eye(3), np.array([1.0, 2.0, -1.0]))
    check(found)
    assert max(p.dimension for p in found.points) == 3
    # A single example: G is zero on a half space.
    single = two_layer_points(np.array([[0.0, 2.0]]), np.array([1.5]))
    assert [p.value for p in single.points] == pytest.approx([1.5, 0.0, -1.5])
    assert [p.dimension for p in single.points] == [0, 2, 0]


def test_on_the_line() -> None:
    """d = 1: N(a, w) = a (p max(w, 0) + m min(w, 0)) on a circle."""
    found = two_layer_points(np.array([[1.0], [-2.0]]), np.array([3.0, -0.5]), 0.1)
    check(found)
    p, m = 3.0 + 0.1, 0.3 + 1.0
    expected = {(1, 1): p / 2, (-1, 1): -p / 2, (1, -1): -m / 2, (-1, -1): m / 2}
    assert len(found.points) == 4
    for point in found.points:
        a, w = np.sign(point.direction).astype(int)
        assert point.value == pytest.approx(expected[a, w])
    # With a kink whose two sides pull apart w = 0 is a KKT point as well.
    poles = two_layer_points(np.array([[1.0], [-2.0]]), np.array([3.0, 0.5]))
    kinds = {round(q.direction[0]): q.type for q in poles.points if q.value == 0}
    assert kinds == {1: "minimum", -1: "maximum"}


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_parallel_examples_share_a_kink(slope: float) -> None:
    """Merging x, 2x and -x into one example with two slopes changes no KKT point."""
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((5, 2)), rng.standard_normal(5)
    together = two_layer_points(x, z, slope)
    third = 1 / 3
    apart = two_layer_points(
        np.concatenate([x, x[:1] * 0.5]),
        np.concatenate([[third * z[0]], z[1:], [4 * third * z[0]]]),
        slope,
    )
    check(apart)
    assert [p.value for p in apart.points] == pytest.approx([p.value for p in together.points])
    assert apart.proof["hyperplanes"] == 5
    kinked = [p for p in apart.points if 0 in p.on_kinks]
    assert all(5 in p.on_kinks for p in kinked)


def test_dependent_kinks_need_the_hull_of_adjacent_gradients() -> None:
    """Three kinks meet in a line of R^3: eight combinations of sides, of which six exist."""
    angle = np.array([0.1, 1.2, 2.4])
    x = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    x = np.concatenate([x, [[0.3, -0.2, 1.0]]])
    rng = np.random.default_rng(0)
    differs = 0
    for _ in range(20):
        z = rng.standard_normal(4)
        v = np.array([HALF, 0, 0, HALF])
        near = v[1:] + 1e-6 * rng.standard_normal((4000, 3))
        force = np.unique(np.round(((near @ x.T > 0) * z) @ x, 12), axis=0)
        distance = kkt_distance(v[None], x, z)[0]
        gradient = np.column_stack([force @ v[1:], v[0] * force])
        gradient -= (gradient @ v)[:, None] * v
        assert distance == pytest.approx(least_in_hull(gradient), abs=1e-7)
        differs += distance > least_in_box(x, z, v) + 1e-6
    assert differs  # the box of multipliers is larger than the hull


def least_in_hull(points: np.ndarray) -> float:
    """The least norm in a hull, by trying the span of every subset of its corners."""
    best = np.inf
    for size in range(1, points.shape[1] + 2):
        for chosen in combinations(points, size):
            first, *others = chosen
            edges = np.array(others).reshape(size - 1, len(first)) - first
            share = np.linalg.pinv(edges.T) @ -first
            if (share >= -1e-9).all() and share.sum() <= 1 + 1e-9:
                best = min(best, float(np.linalg.norm(first + share @ edges)))
    return best


def least_in_box(x: np.ndarray, z: np.ndarray, v: np.ndarray) -> float:
    from scipy.optimize import lsq_linear

    base = z[3] * x[3]
    columns = np.column_stack([np.zeros(3), v[0] * z[:3, None] * x[:3]])
    gradient = np.concatenate([[v[1:] @ base], v[0] * base])
    solved = lsq_linear(columns.T, -(gradient - (gradient @ v) * v), bounds=(0, 1))
    return float(np.linalg.norm(gradient - (gradient @ v) * v + solved.x @ columns))


def test_certificates_prove_and_refuse() -> None:
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((8, 3)), rng.standard_normal(8)
    certifier = NeuronCertifier(x, z, 0.0)
    for p in two_layer_points(x, z).points:
        if p.value == 0:
            continue
        assert certifier.two_layer(p) == (True, p.radius)
        moved = p.direction + 1e-3 * rng.standard_normal(4)
        moved /= np.linalg.norm(moved)
        elsewhere = KKTPoint(moved, p.value * 1.3, p.type, True, p.on_kinks, p.kink_multipliers)
        assert certifier.two_layer(elsewhere) == (False, None)
    for p in squared_points(x, z).points:
        if p.dimension == 0 and not p.on_kinks:
            assert certifier.squared(p, 1)[0]
            wrong = KKTPoint(p.direction, p.value + 0.1, p.type, True)
            assert certifier.squared(wrong, 1) == (False, None)


@pytest.mark.slow
def test_two_thousand_examples_in_the_plane() -> None:
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((2000, 2)), rng.standard_normal(2000)
    found = two_layer_points(x, z)
    check(found)
    assert found.proof["cells"] == 4000
    g = two_layer_g(circle(20_000), x, z, 0.0)
    # Samples miss extremes that lie closer to each other than the samples do.
    assert len([p for p in found.points if p.value != 0]) >= 2 * turns(g)
    assert found.points[0].value == pytest.approx(np.abs(g).max() / 2, rel=1e-3)


def special_data(case: int) -> tuple[np.ndarray, np.ndarray]:
    """Data in special position: small integers, copies, axes, antipodes to rounding, a bias."""
    rng = np.random.default_rng([case, 8])
    d, n = int(rng.integers(1, 5)), int(rng.integers(2, 8))
    gauss = rng.standard_normal((n, d))
    angle = np.arange(2 * n) * np.pi / n
    x = [
        rng.integers(-1, 2, (n, d)).astype(float),
        np.concatenate([gauss, -gauss, 2 * gauss[:1]]),
        np.eye(d)[rng.integers(0, d, n)] * rng.choice([1.0, -1.0, 2.0], (n, 1)),
        np.stack([np.cos(angle), np.sin(angle)], axis=1),
        np.concatenate([rng.integers(-2, 3, (n, d)), np.ones((n, 1))], axis=1),
        gauss[:, :1] @ gauss[:1],
    ][case % 6]
    z = rng.integers(1, 3, len(x)) * rng.choice([1.0, -1.0], len(x))
    x[0] += not x[0].any()
    return x, z


@pytest.mark.parametrize("case", range(18))
def test_special_positions(case: int) -> None:
    """Complete, stationary, certified or exempt, and no sampled direction lies higher."""
    x, z = special_data(case)
    w = np.random.default_rng(case).standard_normal((20_000, x.shape[1]))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    for slope in (0.0, 0.3, -1.0):
        found = two_layer_points(x, z, slope)
        check(found)
        top = np.abs(two_layer_g(w, x, z, slope)).max() / 2
        assert top <= found.largest * (1 + 1e-12)
        assert found.largest <= top + 0.1 * np.abs(z) @ np.linalg.norm(x, axis=1)
    found = squared_points(x, z, (1, -1))
    check(found)
    assert np.abs(squared(w, x, z)).max() <= found.largest * (1 + 1e-12)
