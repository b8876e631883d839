"""The search for KKT points: flows, shares, types, orbits, flat sets; and the balanced walk."""

import numpy as np
import pytest

from polarflow import PolarflowError, TwoLayer
from polarflow.ncf import kkt_points, two_layer_points, two_layer_search
from polarflow.ncf._bends import bends
from polarflow.ncf._block import blocks_of
from polarflow.ncf._sphere import Sphere
from polarflow.ncf._walk import walk
from polarflow.networks import Activation, Deep, Diagonal, SmoothTwoLayer, SquaredRelu


def data(seed: int, n: int = 12, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 31])
    return rng.standard_normal((n, d)), rng.standard_normal(n)


def test_the_search_finds_what_the_enumeration_lists() -> None:
    x, z = data(0)
    listed = kkt_points(SquaredRelu(5), x, z)
    found = kkt_points(SquaredRelu(5), x, z, method="search", starts=100)
    assert listed.complete and not found.complete
    assert found.proof["unresolved_share"] == 0
    assert sum(p.share or 0 for p in found.points) == pytest.approx(1.0)
    for p in found.points:
        assert p.kkt_residual < 1e-12 and p.order_defect < 1e-12
        near = min(listed.points, key=lambda q: float(np.linalg.norm(q.direction - p.direction)))
        assert np.linalg.norm(near.direction - p.direction) < 1e-9
        assert (near.type, near.certified) == (p.type, p.certified)
        if p.share:
            assert p.type == "maximum"
    tops = [p for p in listed.points if p.type == "maximum"]
    assert len([p for p in found.points if p.type == "maximum"]) == len(tops)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_a_diagonal_network_has_closed_form_points(depth: int) -> None:
    """c (u^L - v^L) on the circle: axes, and for L = 2 nothing else."""
    x, z = data(1, d=2)
    found = kkt_points(Diagonal(depth), x, z, starts=30)
    c = np.abs(z @ x)
    for block in (0, 1):
        mine = [p for p in found.points if p.block == block]
        axes = [p for p in mine if np.abs(p.direction).max() > 1 - 1e-12]
        assert {round(abs(p.value) / c[block], 9) for p in axes} == {1.0}
        for p in mine:
            u, v = p.direction
            if p not in axes:  # u^(L-1), -v^(L-1) proportional to u, v
                assert u ** (depth - 2) == pytest.approx(-(v ** (depth - 2)), abs=1e-9)
        assert max(p.value for p in mine) == pytest.approx(c[block])


def test_a_deep_linear_network_is_of_rank_one_and_its_maxima_are_flat() -> None:
    """W_1 = e q^T, W_2 = f e^T, A = f^T with unit e, f turns by two rotations, 2 + 2 dimensions."""
    x, z = data(2)
    network = Deep((3, 3), (Activation("linear"), Activation("linear")))
    found = kkt_points(network, x, z, starts=16)
    top = found.points[0]
    q = np.linalg.norm(z @ x)
    # Three factors of norm 1/sqrt(3).
    assert top.value == pytest.approx(q * 3**-1.5, rel=1e-12)
    assert (top.type, top.dimension, top.share) == ("maximum", 4, 1.0)
    assert top.singular_values is not None
    for layer in top.singular_values:
        assert layer[0] == pytest.approx(1.0)
        assert max(layer[1:], default=0.0) < 1e-12


def test_permuted_neurons_share_an_orbit() -> None:
    x, z = data(3)
    network = Deep((3,), (Activation("relu_power", 2.0),))
    found = kkt_points(network, x, z, starts=40)
    assert found.order == 3
    best = [p for p in found.points if p.value > found.points[0].value - 1e-9]
    assert len(best) > 1 and {p.orbit for p in best} == {best[0].orbit}
    # One neuron alone carries a maximum: the value is that of the two-layer block of order 3.
    single = kkt_points(SmoothTwoLayer(1, Activation("relu_power", 2.0)), x, z, starts=40)
    assert best[0].value == pytest.approx(single.points[0].value, rel=1e-10)
    for p in best:
        assert p.singular_values is not None and p.singular_values[0][1] < 1e-10


def test_an_even_block_pairs_its_points() -> None:
    x, z = data(4)
    found = kkt_points(SmoothTwoLayer(2, Activation("polynomial", 3.0)), x, z, starts=20)
    top = [p for p in found.points if p.value > found.points[0].value - 1e-9]
    assert len(top) == 2 and top[0].orbit == top[1].orbit
    np.testing.assert_allclose(top[0].direction, -top[1].direction, atol=1e-9)
    assert top[0].direction[0] ** 2 == pytest.approx(0.25)  # |a|^2 : |w|^2 = 1 : 3


def test_the_flow_on_the_sphere_keeps_to_the_flow_of_the_weights() -> None:
    """dw/dt = grad N(w) from the same start, by SciPy, ends in the same direction."""
    from scipy.integrate import solve_ivp

    x, z = data(5)
    (block,) = blocks_of(SquaredRelu(1), 3)
    sphere = Sphere(block, x, z[:, None])
    rng = np.random.default_rng(0)
    starts = rng.standard_normal((6, 3))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    ends = sphere.flow(starts, 10.0, 1e-4)
    for start, end in zip(starts, ends, strict=True):
        solved = solve_ivp(
            lambda t, w: 2 * (z * np.maximum(x @ w, 0)) @ x,
            (0, 8.0 / np.abs(z @ x**2).max()),
            start,
            rtol=1e-7,
            atol=1e-12,
        )
        last = solved.y[:, -1] / np.linalg.norm(solved.y[:, -1])
        assert last @ end > start @ end - 1e-9
        back, *_ = sphere.flow(np.tile(last, (6, 1)), 10.0, 1e-4)
        np.testing.assert_allclose(back, end, atol=1e-2)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_walks_end_in_listed_points_and_never_descend(slope: float) -> None:
    x, z = data(6)
    listed = two_layer_points(x, z, slope)
    found = two_layer_search(x, z, slope, starts=80)
    assert found.proof["unresolved_share"] == 0
    assert sum(p.share or 0 for p in found.points) == pytest.approx(1.0)
    for p in found.points:
        if p.value:
            near = min(np.linalg.norm(q.direction - p.direction) for q in listed.points)
            assert near < 1e-12 and p.certified
        if p.share and p.value > 0:
            assert p.type == "maximum"


def test_a_walk_agrees_with_small_steps() -> None:
    x, z = data(7, n=9)
    b = bends(x, z, 1, 0.1)
    rng = np.random.default_rng(1)
    for start in rng.standard_normal((5, 3)):
        end = walk(b, start)
        assert end.done
        u = start / np.linalg.norm(start)
        for i in range(20_000):
            t = x @ u
            g = (z * np.where(t > 0, 1.0, 0.1)) @ x
            u = u + 2e-3 / (1 + i / 2000) * (g - (g @ u) * u) / np.linalg.norm(z)
            u /= np.linalg.norm(u)
        assert np.linalg.norm(u - end.end) < 3e-2  # steps of 2e-4 chatter about kinks


def test_bad_targets_get_a_sentence() -> None:
    x, z = data(9)
    with pytest.raises(PolarflowError, match="z has 11 numbers; needed are 12"):
        kkt_points(TwoLayer(1), x, z[:-1])
    with pytest.raises(PolarflowError, match="z is zero"):
        kkt_points(TwoLayer(1), x, 0 * z)
    with pytest.raises(PolarflowError, match="positive nowhere"):
        kkt_points(SquaredRelu(1), x, -np.abs(z))
    with pytest.raises(PolarflowError, match='method = "enumerate" is for'):
        kkt_points(Diagonal(2), x, z, method="enumerate")
    many = np.random.default_rng(0).standard_normal((200, 6))
    with pytest.raises(PolarflowError, match="too many to"):
        kkt_points(TwoLayer(1), many, many[:, 0], method="enumerate")
    assert not kkt_points(TwoLayer(1), many[:20], many[:20, 0], method="search").complete


def test_labels_of_several_outputs() -> None:
    """sum_c a_c z_c.s(w.x) of a linear neuron is bilinear: singular values of Z^T X."""
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((10, 3)), rng.standard_normal((10, 2))
    found = kkt_points(SmoothTwoLayer(1, Activation("linear"), 2), x, z, starts=30)
    s = np.linalg.svd(z.T @ x, compute_uv=False)
    values = sorted({round(p.value, 9) for p in found.points}, reverse=True)
    assert values == pytest.approx([s[0] / 2, s[1] / 2, 0.0, -s[1] / 2, -s[0] / 2], abs=1e-8)


def test_figures_of_neurons_in_the_plane_and_in_space() -> None:
    from polarflow.plotting.correlation import ncf_figures, profiles

    x, z = data(10, d=2)
    network = TwoLayer(1)
    found = kkt_points(network, x, z)
    above, below = profiles(found, network, x, z)
    for profile in (above, below):
        values = [p.value for p in profile.points]
        balanced = [p.direction[0] != 0 for p in profile.points]
        np.testing.assert_allclose(profile.of(profile.hidden)[balanced], np.array(values)[balanced])
    assert set(ncf_figures(found, network, x, z)) == {"circle", "field"}
    x, z = data(10)
    units = SquaredRelu(2)
    assert set(ncf_figures(kkt_points(units, x, z), units, x, z)) == {"sphere"}
    walked = kkt_points(network, x, z, method="search", starts=10)
    assert set(ncf_figures(walked, network, x, z)) == {"sphere", "shares"}
    x, z = data(10, d=4)
    assert set(ncf_figures(kkt_points(network, x, z), network, x, z)) == {"values"}


def test_the_interval_test_proves_points_of_deep_blocks_and_refuses_others() -> None:
    from polarflow.ncf._balls import certify_block

    x, z = data(3, n=6)
    network = Deep((2,), (Activation("relu_power", 2.0),))
    found = kkt_points(network, x, z, starts=10)
    tops = [p for p in found.points if p.type == "maximum" and p.dimension == 0]
    assert tops and all(p.certified and (p.radius or 1.0) < 1e-10 for p in tops)
    (block,) = blocks_of(network, 3)
    top = tops[0]
    near = top.direction + 1e-4 * np.random.default_rng(0).standard_normal(block.size)
    assert certify_block(block, x, z[:, None], near, top.multiplier) == (False, None)
    # Where the gradient jumps the enclosure of the Hessian proves nothing.
    kinked, *_ = blocks_of(Deep((2,), (Activation("relu"),)), 3)
    assert certify_block(kinked, x, z[:, None], near, 1.0) == (None, None)
