"""Users' own models: gradients equal to their own, homogeneity found, what breaks it named."""

import importlib.util

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import polarflow as pf
from polarflow.networks import from_equinox, from_flax, from_function, from_torch

jax.config.update("jax_enable_x64", True)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((5, 3))
W1, W2 = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 4))
A = RNG.standard_normal(4)


def gradient(network, state, x, cotangent):
    """sum_k z_k dH(x_k)/dw by the network's own block."""
    (group,) = network.groups(x.shape[1])
    flat = jnp.asarray(state.weights()[0])
    constant = jnp.asarray(group.constants[0])
    _, pull = jax.vjp(lambda w: group.apply(w, constant, jnp.asarray(x)), flat)
    return np.asarray(pull(jnp.asarray(cotangent))[0])


FUNCTIONS = {
    "relu": (lambda w, x: jax.nn.relu(x @ w["a"].T) @ w["c"], 2.0, ""),
    "three": (lambda w, x: jax.nn.relu(jax.nn.relu(x @ w["a"].T) @ w["b"].T) @ w["c"], 3, ""),
    "square": (lambda w, x: jnp.sum((x @ w["a"].T @ w["b"].T) ** 2, axis=1), 4.0, ""),
    "quotient": (lambda w, x: (x @ w["a"].T) ** 3 @ w["c"] / jnp.sqrt(jnp.sum(w["b"] ** 2)), 3, ""),
    "max": (lambda w, x: jnp.max(x @ w["a"].T, axis=1), 1.0, ""),
    # A bias of the first layer is a weight of the constant 1; one further on is of another order.
    "first bias": (lambda w, x: jax.nn.relu(x @ w["a"].T + w["c"]) @ w["c"], 2, ""),
    "bias": (
        lambda w, x: jax.nn.relu(x @ w["a"].T @ w["b"].T + w["c"]) @ w["c"],
        None,
        "'c' is a bias",
    ),
    "skip": (
        lambda w, x: (x @ w["a"].T + jax.nn.relu(x @ w["a"].T @ w["b"].T)) @ w["c"],
        None,
        "degrees 1 and 2 in the weights are added, as a skip",
    ),
    "normalisation": (
        lambda w, x: (x @ w["a"].T) / jnp.sqrt(jnp.sum((x @ w["a"].T) ** 2) + 1e-5) @ w["c"],
        None,
        "as the epsilon of a normalisation",
    ),
    "tanh": (lambda w, x: jnp.tanh(x @ w["a"].T) @ w["c"], None, "tanh is not homogeneous"),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_homogeneity_is_found_and_what_breaks_it_is_named(name):
    function, order, reason = FUNCTIONS[name]
    network, state = from_function(function, {"a": W1, "b": W2, "c": A}, X)
    assert network.homogeneity.order == order
    assert reason in network.homogeneity.reason
    assert (network.homogeneity.defect < 1e-10) == (order is not None)
    expected = np.asarray(function({"a": W1, "b": W2, "c": A}, X))
    assert np.allclose(network.predict(state, X), expected, rtol=1e-12)


def test_a_network_that_is_not_homogeneous_is_followed_in_ordinary_coordinates():
    """One weight, H = x sinh w on one point with label 0."""
    network, start = from_function(
        lambda w, x: jnp.sinh(x[:, 0] * w["slope"]), {"slope": 0.5}, [[1.0], [-1.0]]
    )
    assert network.homogeneity.order is None
    data = pf.Data(np.array([[1.0]]), np.array([0.0]))
    flow = pf.gradient_flow(
        pf.problem(data, network, start, loss=pf.Square("sum")), stop=pf.Stop(time=1.0), rtol=1e-9
    )
    # w' = -sinh w cosh w: tanh w = tanh w_0 e^-t.
    w = float(flow.final.weights()[0, 0, 0])
    assert np.tanh(w) == pytest.approx(np.tanh(0.5) * np.exp(-1.0), rel=1e-8)


def test_equinox_modules():
    key = jax.random.PRNGKey(0)
    model = eqx.nn.MLP(3, 2, 4, 2, use_bias=False, use_final_bias=False, key=key, dtype=float)
    network, state = from_equinox(model, X)
    assert network.homogeneity.order == 3 and network.outputs == 2
    z = RNG.standard_normal((5, 2))
    own = eqx.filter_grad(lambda m: jnp.sum(jax.vmap(m)(X) * z))(model)
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(own)])
    assert np.allclose(gradient(network, state, X, z), expected, rtol=1e-13, atol=1e-14)
    biased = eqx.nn.MLP(3, 1, 4, 1, key=key, dtype=float)
    assert "is a bias" in from_equinox(biased, X)[0].homogeneity.reason
    with pytest.raises(pf.PolarflowError, match="keeps state"):
        from_equinox(eqx.nn.BatchNorm(3, "batch", mode="batch"), X)


@pytest.mark.skipif(importlib.util.find_spec("flax") is None, reason="flax is an extra")
def test_flax_modules():
    from flax import linen, nnx

    class Linen(linen.Module):
        train: bool = False
        normal: bool = False

        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Dense(4, use_bias=False)(x))
            if self.normal:
                x = linen.BatchNorm(use_running_average=not self.train)(x)
            return linen.Dense(1, use_bias=False)(x)

    z = RNG.standard_normal((5, 1))
    module = Linen()
    variables = module.init(jax.random.PRNGKey(1), X)
    network, state = from_flax(module, X, variables)
    assert network.homogeneity.order == 2
    wide = jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, dtype=float), variables)
    own = jax.grad(lambda v: jnp.sum(module.apply(v, X) * z))(wide)
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(own)])
    assert np.allclose(gradient(network, state, X, z), expected, rtol=1e-13, atol=1e-14)
    normal = Linen(normal=True)
    variables = normal.init(jax.random.PRNGKey(1), X)
    assert from_flax(normal, X, variables)[0].homogeneity.order is None
    with pytest.raises(pf.PolarflowError, match="updates its state"):
        from_flax(Linen(train=True, normal=True), X, variables)

    class Net(nnx.Module):
        def __init__(self, rngs, normal=False):
            self.first = nnx.Linear(3, 4, use_bias=False, rngs=rngs, param_dtype=float)
            self.norm = nnx.BatchNorm(4, rngs=rngs) if normal else lambda x: x
            self.last = nnx.Linear(4, 1, use_bias=False, rngs=rngs, param_dtype=float)

        def __call__(self, x):
            return self.last(self.norm(nnx.relu(self.first(x))))

    model = Net(nnx.Rngs(0))
    network, state = from_flax(model, X)
    assert network.homogeneity.order == 2
    own = nnx.grad(lambda m: jnp.sum(m(X) * z))(model)
    expected = np.concatenate([np.ravel(leaf) for leaf in jax.tree_util.tree_leaves(own)])
    assert np.allclose(gradient(network, state, X, z), expected, rtol=1e-13, atol=1e-14)
    with pytest.raises(pf.PolarflowError, match=r"norm is a BatchNorm in training"):
        from_flax(Net(nnx.Rngs(0), normal=True), X)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is an extra")
@pytest.mark.filterwarnings("ignore")
def test_torch_modules():
    import torch

    torch.manual_seed(0)
    nn = torch.nn
    images = RNG.standard_normal((4, 3, 10, 10))
    cases = [
        (nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False)), X, 2),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False)), X, 2),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), X, None),
        (
            nn.Sequential(
                nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                nn.Linear(64, 5, bias=False), nn.LeakyReLU(0.1), nn.Linear(5, 2, bias=False),
            ),
            images,
            3,
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2),
                       nn.Flatten(), nn.Linear(64, 2)).eval(), images, None),
    ]  # fmt: skip
    for module, x, order in cases:
        network, state = from_torch(module, x)
        assert network.homogeneity.order == order
        flat = x.reshape(len(x), -1)
        z = RNG.standard_normal((len(x), network.outputs))
        double = module.double()
        value = double(torch.as_tensor(x))
        assert np.allclose(network.predict(state, flat), value.detach().numpy(), rtol=1e-12)
        (value * torch.as_tensor(z)).sum().backward()
        own = np.concatenate([p.grad.numpy().ravel() for p in double.parameters()])
        found = gradient(network, state, flat, z)
        assert np.abs(found - own).max() < 1e-13 * max(1.0, np.abs(own).max())
    with pytest.raises(pf.PolarflowError, match="BatchNorm1d in training"):
        from_torch(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), X)
    with pytest.raises(pf.PolarflowError, match=r"operation \w+ is not known"):
        from_torch(nn.Sequential(nn.Linear(3, 4), nn.Softshrink()), X)


def test_a_model_and_inputs_that_do_not_fit_are_refused_in_a_sentence():
    model = eqx.nn.Linear(4, 1, key=jax.random.PRNGKey(0))
    with pytest.raises(pf.PolarflowError, match=r"does not take inputs of shape \(5, 3\)"):
        from_equinox(model, X)


@pytest.mark.skipif(importlib.util.find_spec("flax") is None, reason="flax is an extra")
def test_flax_modules_that_need_more_are_refused_in_a_sentence():
    from flax import linen, nnx

    with pytest.raises(pf.PolarflowError, match="what its init returned"):
        from_flax(linen.Dense(1), X)

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(3, 1, use_bias=False, rngs=rngs)

        def __call__(self, x):
            return self.last(self.drop(x))

    module = Net(nnx.Rngs(0))
    with pytest.raises(pf.PolarflowError, match="drop is a Dropout in training"):
        from_flax(module, X)
    module.eval()
    assert from_flax(module, X)[0].homogeneity.order == 1


def test_a_normalisation_that_has_no_value_at_some_weights_is_followed_where_it_has():
    def function(w, x):
        h = jnp.maximum(x @ w["u"].T, 0.0) ** 2
        return h / jnp.linalg.norm(h, axis=1, keepdims=True) @ w["a"]

    start = {"u": np.array([[1.0, 0.2, 0.1], [0.3, 1.0, -0.2]]), "a": np.array([0.7, -0.4])}
    x, y = np.abs(X), np.array([0.5, -0.2, 0.3, 0.1, 0.4])
    network, state = from_function(function, start, x)
    assert network.homogeneity.order == 1
    problem = pf.problem(pf.Data(x, y), network, state, loss=pf.Square())
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=1.0), rtol=1e-9, points=5)

    def loss(w):
        return jnp.mean((function(w, jnp.asarray(x)) - y) ** 2) / 2.0

    slope = jax.jit(jax.grad(lambda w: loss({"u": w[:6].reshape(2, 3), "a": w[6:]})))
    first = np.concatenate([start["u"].ravel(), start["a"]])
    path = solve_ivp(
        lambda _, w: -np.asarray(slope(w)), (0, 1), first, "DOP853", rtol=1e-12, atol=1e-13
    )
    end = path.y[:, -1]
    expected = float(loss({"u": end[:6].reshape(2, 3), "a": end[6:]}))
    assert flow.status == "ok"
    assert np.exp(flow.final.log_loss[0]) == pytest.approx(expected, rel=1e-8)
    # Where every unit is off for an example there is no value.
    _, state = from_function(function, {**start, "u": -start["u"] - 1.0}, x)
    problem = pf.problem(pf.Data(x, y), network, state, loss=pf.Square())
    flow = pf.gradient_flow(problem, stop=pf.Stop(time=1.0))
    assert flow.status == "not_finite" and "not a number" in flow.message
