"""The assumption for directional convergence near a rest point, where it holds and where not."""

import json

import numpy as np
import pytest

import polarflow as pf
from polarflow.data import Data, named
from polarflow.flow import Problem
from polarflow.limit import neighbourhood, refine, saddle_path
from polarflow.networks import BlockState, Diagonal, SquaredRelu, balanced, block_state


def diagonal(x: np.ndarray, y: np.ndarray) -> Problem:
    d = x.shape[1]
    state = block_state(np.zeros(d), np.tile([0.8, 0.6], (d, 1)))
    return Problem(Data(x, y), Diagonal(2), state, pf.Square())


def test_a_definite_hessian_has_a_ball() -> None:
    # (u^2 - 1)^2 / 2 around u = 1: <u - 1, grad> = 2 (u - 1)^2 u (u + 1) > 0.
    path = saddle_path(diagonal(np.eye(2), np.array([1.0, 0.4])))
    near = neighbourhood(diagonal(np.eye(2), np.array([1.0, 0.4])), path.saddles[1].rest)
    assert near is not None and near.holds and near.radius == 0.1
    assert near.kernel == 0 and near.semidefinite and near.manifold and near.minimum
    assert near.counterexample == (None,) * 4 and min(near.share) == 1.0
    # The Hessian is 4 / n, and so is the limit of |grad|^2 / (2 (L - L_n)).
    np.testing.assert_allclose(near.lojasiewicz[-1], 2.0, rtol=1e-3)


@pytest.mark.parametrize("name", ["two-points", "five-points"])
def test_rescaling_leaves_no_ball_however_small(name: str) -> None:
    data = named(name)
    problem = pf.problem(data, pf.TwoLayer(60), balanced(pf.TwoLayer(60), 2, scale=1e-6))
    path = saddle_path(problem)
    assert neighbourhood(problem, path.saddles[0].rest) is None
    for saddle in path.saddles[1:]:
        near = neighbourhood(problem, saddle.rest)
        assert near is not None and near.semidefinite and near.kernel > 0 and near.manifold
        assert near.minimum and all(rate is not None and rate > 0.05 for rate in near.lojasiewicz)
        assert not near.holds and near.radius == 0.0
        bad = np.array(near.counterexample, dtype=float)
        # The cosine falls like the distance: the inequality fails at every radius.
        assert (bad < 0.0).all() and (np.abs(bad[1:] / bad[:-1] - 0.1) < 0.08).all()


def test_the_hyperbola_fails_where_it_is_known_to() -> None:
    # (ab - 1)^2 / 2 around (1, 1): at ab = 1 + e, a = 1 + s the product is e (e - s^2).
    problem = Problem(
        Data(np.ones((1, 1)), np.ones(1)), pf.TwoLayer(1),
        block_state(np.zeros(1), np.sqrt([[0.5, 0.5]])), pf.Square(),
    )  # fmt: skip
    rest = refine(problem, BlockState(np.array([0.5 * np.log(2.0)]), np.sqrt([[0.5, 0.5]])),
                  np.array([True]))  # fmt: skip
    near = neighbourhood(problem, rest)
    assert near is not None and rest.kernel == 1 and near.radius == 0.0
    # The least product is -s^4 / 4, the gradient's norm s^2 / sqrt(2), the distance s sqrt(2).
    s = 1e-3
    assert near.counterexample[2] is not None
    assert -1.0 * s < near.counterexample[2] < -0.05 * s


def test_a_saddle_of_the_active_weights_has_neither() -> None:
    x, y = np.eye(2), np.array([2.0, 1.0])
    state = block_state(np.zeros(1), np.array([[0.8, 0.6]]))
    problem = Problem(Data(x, y), SquaredRelu(1), state, pf.Square())
    near = neighbourhood(problem, saddle_path(problem).saddles[1].rest)
    assert near is not None and not near.semidefinite and not near.minimum
    assert near.radius == 0.0 and min(near.share) < 1.0


def test_the_verb_tells_the_neighbourhoods(command, tmp_path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text('[data]\nname = "two-points"\n[network]\nwidth = 20\n')
    assert command("saddles", spec, "--out", tmp_path / "out", "--quiet").code == 0
    saddles = json.loads((tmp_path / "out" / "summary.json").read_text())["saddles"]
    assert saddles[0]["neighbourhood"] is None
    assert saddles[1]["neighbourhood"]["minimum"] and not saddles[1]["neighbourhood"]["holds"]
