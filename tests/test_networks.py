"""Networks as sums of blocks: formulas, orders, layouts of their states, random starts."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import polarflow as pf
from polarflow.networks import (
    Activation,
    BlockState,
    Convolutional,
    Deep,
    Diagonal,
    Network,
    Parallel,
    SmoothTwoLayer,
    SquaredRelu,
    equal_pairs,
    gaussian,
    sphere,
)

LINEAR = Activation("linear")
RELU = Activation("relu")
SQUARE = Activation("relu_power", 2)
DIMENSION = 4

NETWORKS: dict[str, tuple[Network, float]] = {
    "squared_relu": (SquaredRelu(3, (1.0, -1.0, 1.0)), 2),
    "diagonal": (Diagonal(2), 2),
    "diagonal-3": (Diagonal(3), 3),
    "two_layer-cubic": (SmoothTwoLayer(3, Activation("polynomial", 3), 2), 4),
    "two_layer-power": (SmoothTwoLayer(3, Activation("relu_power", 1.5)), 2.5),
    "deep-linear": (Deep((3, 2), (LINEAR, LINEAR)), 3),
    "deep-relu": (Deep((3, 2), (RELU, RELU), outputs=2), 3),
    "deep-ones": (Deep((3, 2), (LINEAR, SQUARE), "ones"), 4),
    "deep-leaky-power": (Deep((3, 2), (Activation("leaky_relu", 2, 0.5),) * 2), 7),
    "deep-frozen": (Deep((3, 2), (LINEAR, SQUARE), "ones", 1, {2: np.eye(2, 3)}), 2),
    "convolutional": (Convolutional((1, 5, 5), (2,), 2, 2, (3,)), 3),
}


def inputs(name: str, n: int = 6) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((n, 25 if name == "convolutional" else 4))


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_are_homogeneous_of_the_stated_order(name):
    """H(x; c w) = c^L H(x; w) for c > 0, and every row of a state has the order L."""
    network, order = NETWORKS[name]
    x = inputs(name)
    state = gaussian(network, x.shape[1], scale=1.0, seed=1)
    value = network.predict(state, x)
    assert value.shape == ((len(x),) if network.outputs == 1 else (len(x), network.outputs))
    assert np.abs(value).max() > 0
    larger = BlockState(state.log_norm + np.log(1.7), state.direction)
    assert np.allclose(network.predict(larger, x), 1.7**order * value, rtol=1e-12)
    assert np.all(network.row_orders(x.shape[1]) == order)


def test_formulas():
    """The networks are what their formulas say, weights being laid out as documented."""
    x, rng = inputs("any"), np.random.default_rng(0)

    def state(rows: np.ndarray) -> BlockState:
        norm = np.linalg.norm(rows, axis=1)
        return BlockState(np.log(norm), rows / norm[:, None])

    u = rng.standard_normal((3, 4))
    expected = np.maximum(x @ u.T, 0) ** 2 @ [1.0, -1.0, 1.0]
    assert np.allclose(NETWORKS["squared_relu"][0].predict(state(u), x), expected)

    pairs = rng.standard_normal((4, 2))
    expected = x @ (pairs[:, 0] ** 3 - pairs[:, 1] ** 3)
    assert np.allclose(Diagonal(3).predict(state(pairs), x), expected)

    first, second, last = (rng.standard_normal(s) for s in ((3, 4), (2, 3), (2, 2)))
    flat = np.concatenate([first.ravel(), second.ravel(), last.ravel()])[None, :]
    hidden = np.maximum(np.maximum(x @ first.T, 0) @ second.T, 0)
    assert np.allclose(NETWORKS["deep-relu"][0].predict(state(flat), x), hidden @ last.T)

    expected = np.sum(np.maximum(x @ first.T @ second.T, 0) ** 2, axis=1)
    assert np.allclose(NETWORKS["deep-ones"][0].predict(state(flat[:, :18]), x), expected)
    frozen = Deep((3, 2), (LINEAR, SQUARE), "ones", 1, {2: second})
    assert np.allclose(frozen.predict(state(flat[:, :12]), x), expected)

    rows = rng.standard_normal((3, 6))
    expected = (x @ rows[:, 2:].T) ** 3 @ rows[:, :2]
    assert np.allclose(NETWORKS["two_layer-cubic"][0].predict(state(rows), x), expected)


def test_convolution_and_pooling_by_loops():
    network, x = NETWORKS["convolutional"][0], inputs("convolutional", 3)
    state = gaussian(network, 25, scale=1.0)
    w = state.weights()[0]
    kernel, first = w[:8].reshape(2, 1, 2, 2), w[8:32].reshape(3, 8)
    last = w[32:].reshape(1, 3)
    for k, image in enumerate(x.reshape(3, 5, 5)):
        maps = np.zeros((2, 4, 4))
        for c, i, j in np.ndindex(maps.shape):
            maps[c, i, j] = max(np.sum(kernel[c, 0] * image[i : i + 2, j : j + 2]), 0.0)
        pooled = maps.reshape(2, 2, 2, 2, 2).max(axis=(2, 4))
        hidden = np.maximum(first @ pooled.ravel(), 0.0)
        assert network.predict(state, x)[k] == pytest.approx((last @ hidden)[0])


def test_parallel_networks_add_up_and_pad_their_rows():
    parts = (SquaredRelu(2), Deep((3,), (RELU,)), Diagonal(2))
    network = Parallel(parts)
    x = inputs("any")
    state = gaussian(network, DIMENSION, scale=0.5, seed=3)
    assert state.direction.shape == (2 + 1 + 4, 15) == network.shape(DIMENSION)
    again = network.join(network.split(state, DIMENSION), DIMENSION)
    assert np.allclose(again.weights(), state.weights(), rtol=1e-14)
    network.check_state(state, DIMENSION)
    w = state.weights()
    alone = [w[:2, :4], w[2:3], w[3:, :2]]
    total = 0.0
    for part, rows in zip(parts, alone, strict=True):
        norm = np.linalg.norm(rows, axis=1)
        total = total + part.predict(BlockState(np.log(norm), rows / norm[:, None]), x)
    assert np.allclose(network.predict(state, x), total)
    wrong = np.array(state.direction)
    wrong[0, 10] = 0.1
    with pytest.raises(pf.PolarflowError, match=r"direction\[0\] has numbers beyond the 4"):
        network.check_state(BlockState(state.log_norm, wrong), DIMENSION)


def test_a_diagonal_pair_keeps_both_weights_at_any_ratio():
    """u and v are followed each by itself: splitting and joining loses neither."""
    log_u, log_v = -700.0, -400.0
    network = Diagonal(2)
    joined = network.join([(np.array([log_u, log_v]), np.array([[1.0], [-1.0]]))], 1)
    assert joined.log_norm[0] == pytest.approx(log_v)
    (again, sign), *_ = network.split(joined, 1)
    assert np.allclose(again, [log_u, log_v], rtol=1e-14)
    assert np.array_equal(sign[:, 0], [1.0, -1.0])


def test_random_starts():
    """The numbers of a gaussian start are standard; a sphere's have the norm asked for."""
    network = SquaredRelu(500)
    state = gaussian(network, 8, log10_scale=-1000, seed=2)
    weights = np.exp(state.log_norm + 1000 * np.log(10.0))[:, None] * state.direction
    assert np.mean(weights) == pytest.approx(0.0, abs=4 / np.sqrt(4000))
    assert np.mean(weights**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 4000))
    ball = sphere(Parallel((SquaredRelu(3), Deep((3,), (RELU,)))), 4, scale=0.1, seed=2)
    assert np.sum(ball.weights() ** 2) == pytest.approx(0.01)
    assert not ball.direction[:3, 4:].any()
    pairs = equal_pairs(Diagonal(2), 3, scale=0.1)
    assert np.allclose(pairs.weights(), 0.1)
    with pytest.raises(pf.PolarflowError, match="exactly one of scale and log10_scale"):
        gaussian(network, 8)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SquaredRelu(0), "network.width is 0"),
        (lambda: SquaredRelu(2, (1.0,)), "network.signs has 1 numbers; 2 are needed"),
        (lambda: SquaredRelu(2, (1.0, 0.5)), r"network.signs\[1\] is 0.5; it must be -1 or 1"),
        (lambda: Diagonal(1), "network.depth is 1; it must be at least 2"),
        (lambda: Activation("relu", 2), '"relu" has power 1'),
        (lambda: Activation("relu_power", 0.5), "network.power is 0.5; it must be at least 1"),
        (lambda: Activation("tanh"), "must be one of"),
        (lambda: Deep((), ()), "network.widths is"),
        (lambda: Deep((3,), (RELU, RELU)), "1 are needed, one for each hidden layer"),
        (lambda: Deep((3,), (RELU,), frozen={0: np.eye(3)}), "counted from 1, .* to 2"),
        (lambda: Parallel(()), "at least one network"),
        (lambda: Parallel((SquaredRelu(1), Deep((2,), (RELU,), outputs=2))), "same number"),
        (lambda: Convolutional((1, 5, 5), (2,)).groups(24), "25 numbers; the inputs have 24"),
        (lambda: Convolutional((1, 3, 3), (2, 2), 3).groups(9), "too small"),
    ],
)  # fmt: skip
def test_errors_are_sentences(make, sentence):
    with pytest.raises(pf.PolarflowError, match=sentence):
        make()


def test_the_absolute_value_is_an_activation_of_slope_minus_one():
    network = pf.TwoLayer(2, "abs")
    assert network.slope == -1.0
    assert pf.TwoLayer(2, "abs", -1.0) == network
    direction = np.array([[0.6, 0.8, 0.0], [-0.6, 0.0, 0.8]])
    state = pf.block_state(np.zeros(2), direction)
    x = np.array([[2.0, 1.0], [-1.0, -3.0]])
    np.testing.assert_allclose(
        network.predict(state, x), [0.48 * 2.0 - 0.48, 0.48 - 0.48 * 3.0], rtol=1e-14
    )
    with pytest.raises(pf.PolarflowError, match='slope is 0.5; that of "abs" is -1'):
        pf.TwoLayer(2, "abs", 0.5)


def test_what_jax_compiled_is_kept_where_the_environment_says(tmp_path: Path) -> None:
    """A second process compiles nothing; `off` keeps nothing; by default it is the user's."""
    from polarflow.networks._evaluate import compilation_cache

    assert compilation_cache({"POLARFLOW_CACHE": "off"}) is None
    assert compilation_cache({"POLARFLOW_CACHE": str(tmp_path)}).parent == tmp_path
    home = compilation_cache({})
    assert home is not None and "polarflow" in home.parts
    code = "from polarflow.networks._evaluate import jax64; jax64().jit(lambda x: x * x + 1)(2.0)"

    def entries(wanted: str) -> set[str]:
        environment = {**os.environ, "POLARFLOW_CACHE": wanted}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        return {path.name for path in tmp_path.rglob("*-cache")}

    assert not entries("off")
    first = entries(str(tmp_path))
    assert first
    assert entries(str(tmp_path)) == first
