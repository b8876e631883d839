"""Cohorts: neurons of one pattern that are carried together give the flow that each gives alone."""

import numpy as np
import pytest

import polarflow as pf
from polarflow.flow.kinks import KinkExactEngine, _cohorts

KINDS = ("plain", "bias", "leaky", "two outputs", "zero label", "opposite inputs", "unbalanced")


def wide(kind: str, seed: int) -> pf.Problem:
    """A random problem with 700 neurons and few patterns."""
    rng = np.random.default_rng([31, KINDS.index(kind), seed])
    n, d = int(rng.integers(2, 6)), int(rng.integers(1, 4))
    x, y = rng.normal(size=(n, d)), rng.normal(size=n)
    network = pf.TwoLayer(700)
    if kind == "leaky":
        network = pf.TwoLayer(700, "leaky_relu", 0.3)
    if kind == "two outputs":
        network, y = pf.TwoLayer(700, outputs=2), rng.normal(size=(n, 2))
    if kind == "zero label":
        y[0] = 0.0
    if kind == "opposite inputs":
        x[-1] = -x[0]
    data = pf.Data.from_arrays(x, y, bias=kind == "bias")
    scale = 10.0 ** -rng.choice([2.0, 6.0])
    start = pf.balanced(network, data.dimension, scale=scale / 700**0.5, seed=seed)
    if kind == "unbalanced":
        theta = rng.normal(size=start.direction.shape)
        norm = np.linalg.norm(theta, axis=1)
        start = pf.block_state(np.log(scale * norm / 700**0.5), theta / norm[:, None])
    return pf.problem(data, network, start, loss=pf.Square("mean", 2.0))


def follow(problem: pf.Problem) -> pf.Solution:
    solution = pf.gradient_flow(
        problem, stop=pf.Stop(time=60.0), rtol=1e-8, record_times=(5.0, 15.0, 60.0), points=20
    )
    assert solution.status == "ok"
    return solution


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_cohorts_change_nothing(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = wide(kind, seed)
    formed = []
    carried = _cohorts._carried
    monkeypatch.setattr(_cohorts, "_carried", lambda *a: formed.append(1) or carried(*a))
    monkeypatch.setattr(_cohorts, "_LEAST", 30)
    monkeypatch.setattr(_cohorts, "_FEWEST", 200)
    together = follow(problem)
    assert formed
    monkeypatch.setattr(_cohorts, "_FEWEST", 701)
    formed.clear()
    alone = follow(problem)
    assert not formed
    assert together.events.crossings == alone.events.crossings
    assert together.events.slides == alone.events.slides
    one, other = together.recorded, alone.recorded
    ratio = np.exp(one.log_norm - other.log_norm)[..., None]
    apart = np.linalg.norm(ratio * one.direction - other.direction, axis=2)
    # A few neurons start so near a border that the flow itself takes them apart.
    assert np.quantile(apart, 0.99) < 1e-7 and np.median(apart) < 1e-8
    np.testing.assert_allclose(one.prediction, other.prediction, atol=1e-8)


def test_a_wide_network_becomes_few_rows() -> None:
    data = pf.Data.from_arrays(np.array([[-0.75], [-0.5], [0.125]]), [1.1, 0.1, 0.8], bias=True)
    network = pf.TwoLayer(20_000)
    start = pf.balanced(network, 2, scale=1e-3 / 20_000**0.5, seed=0)
    problem = pf.problem(data, network, start, loss=pf.Square("mean", 2.0))
    engine = KinkExactEngine(problem, 1e-8)
    state = engine.initial()
    while state.time < 12.0:
        window = engine.advance(state, 50.0)
        state = window.states(np.array([window.length]))[-1]
        window.accept(window.length)
    assert len(state.a) < 1000
    every = engine.blocks(state)
    assert every.direction.shape == (20_000, 3)
    np.testing.assert_allclose(np.linalg.norm(every.direction, axis=1), 1.0, rtol=1e-14)
    every.check_balanced()
    # What the rows predict is what all neurons do.
    weights = every.weights()
    hidden = np.maximum(weights[:, 1:] @ np.array([[-0.75, 1.0], [-0.5, 1.0], [0.125, 1.0]]).T, 0.0)
    np.testing.assert_allclose(engine.prediction(state)[:, 0], weights[:, 0] @ hidden, rtol=1e-9)
