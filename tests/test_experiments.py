"""Published figures: the claims hold, could fail, and rest on measurements that are right."""

import json
from dataclasses import replace

import numpy as np
import pytest

import polarflow as pf
from polarflow import experiments
from polarflow.experiments import _measure as measure
from polarflow.experiments.boursier_2022._high_dimension import SETTING as HIGH
from polarflow.experiments.boursier_2022._high_dimension import single_precision_start
from polarflow.experiments.boursier_2022._setting import key_groups
from polarflow.experiments.kumar_haupt_2024 import _plane as plane

CLAIM_KEYS = {"name", "statement", "measured", "bound", "relation", "holds", "reason"}


SLOW = {
    "orthogonal-relu-fig6",
    "orthogonal-relu-fig7",
    "two-homogeneous-fig1",
    "deep-homogeneous-fig1",
    "deep-homogeneous-fig2",
    "deep-homogeneous-fig3",
    "deep-homogeneous-fig4",
    "deep-homogeneous-fig5",
    "deep-homogeneous-rescaling",
    "deep-homogeneous-saddle",
    "directional-deep-linear",
    "directional-fig1",
    "directional-mexican-hat",
    "two-homogeneous-fig3",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in experiments.names()
    ],
)
def test_every_claim_of_every_figure_holds(name, tmp_path):
    summary = experiments.reproduce(name, tmp_path, quick=True)
    failed = [claim for claim in summary["claims"] if not claim["holds"]]
    assert not failed
    assert summary["claims"]
    assert all(set(claim) == CLAIM_KEYS for claim in summary["claims"])
    assert len({claim["name"] for claim in summary["claims"]}) == len(summary["claims"])
    for deviation in summary["deviations"]:
        assert set(deviation) == {"name", "printed", "found", "evidence"}
    assert isinstance(summary["parameters"]["seed"], int)
    endings = sorted(path.rsplit(".", 1)[1] for path in summary["figures"])
    assert endings == ["pdf", "png"]
    assert all((tmp_path / path).stat().st_size > 5000 for path in summary["figures"])
    assert json.loads(json.dumps(summary, allow_nan=False))["name"] == name


def test_the_film_is_made_unless_quick(tmp_path, monkeypatch):
    from polarflow.experiments.boursier_2022 import _drawing

    monkeypatch.setattr(_drawing, "FILM_FRAMES", 3)
    summary = experiments.reproduce("orthogonal-relu-fig2", tmp_path)
    films = [p for p in summary["figures"] if p.endswith((".mp4", ".gif"))]
    assert len(films) == 1
    assert (tmp_path / films[0]).stat().st_size > 1000


def test_claims_fail_where_they_are_wrong():
    # From an initialisation that is not small there is no plateau, and the flow leaves at once.
    figure = experiments.experiment("orthogonal-relu-fig3")
    evidence = replace(figure.setting, scale=0.5).gather(True, None)
    failed = {claim(evidence).name for claim in figure.claims if not claim(evidence).holds}
    assert {"leaves-first-saddle", "leaves-second-saddle"} <= failed
    figure = experiments.experiment("orthogonal-relu-fig5")
    evidence = replace(figure.setting, scale=0.01).gather(True, None)
    failed = {claim(evidence).name for claim in figure.claims if not claim(evidence).holds}
    assert {"weights-hardly-move", "zero-loss"} <= failed


def test_a_start_made_in_single_precision_loses_its_balance_where_squares_are_subnormal():
    def imbalance(setting):
        start = single_precision_start(setting.problem(2)).initial.direction
        return np.abs(np.abs(start[:, 0]) / np.linalg.norm(start[:, 1:], axis=1) - 1.0).max()

    assert imbalance(replace(HIGH, log10_scale=-10.0)) < 1e-6
    assert 0.01 < imbalance(HIGH) < 0.04


def test_gradient_descent_in_two_precisions_stands_beside_the_flow_in_high_dimension(tmp_path):
    small = replace(
        HIGH, examples=8, dimension=12, width=10, log10_scale=-3.0, iterations=3000,
        frames=(0, 1000, 2000),
    )  # fmt: skip
    evidence = small.gather(False, None)
    double, single = evidence.comparison()
    assert double["largest_loss_difference"] < 0.02 * evidence.loss(0)
    assert single["largest_loss_difference"] < 0.02 * evidence.loss(0)
    assert small.gather(True, None).comparison() == []
    assert small.gather(True, None) is small.gather(True, None)


@pytest.mark.parametrize("start", [(0.6, 0.8), (-0.8, 0.6), (-0.6, -0.8), (-1.0, 0.0), (0.0, 1.0)])
def test_the_closed_form_of_the_plane_example_solves_its_equation(start):
    time = np.linspace(0.0, 2.0, 2001)
    u = plane.ascended(start, time)
    np.testing.assert_allclose(u[0], start, atol=1e-15)
    moving = np.abs(u[:-2, 1]) > 1e-2 if start[1] else np.zeros(len(u) - 2, dtype=bool)
    slope = (u[2:] - u[:-2]) / (time[2] - time[0])
    exact = np.stack([np.abs(u[1:-1, 1]), u[1:-1, 0] * np.sign(u[1:-1, 1])], axis=1)
    np.testing.assert_allclose(slope[moving], exact[moving], atol=1e-5)
    if not moving.all():
        assert u[-1, 1] == pytest.approx(0.0, abs=1e-15)
        assert u[-1, 0] == pytest.approx(-np.sqrt(start[0] ** 2 - start[1] ** 2))


@pytest.mark.parametrize("delta", [0.0, 1e-300, 1e-3, 0.09])
def test_the_closed_form_near_the_saddle_solves_its_equation(delta):
    time = np.linspace(0.0, 1.5, 3001)
    u = plane.descended(delta, time)
    np.testing.assert_allclose(u[0], [1.0 + delta, delta], rtol=1e-12, atol=1e-16)
    slope = (u[2:] - u[:-2]) / (time[2] - time[0])
    pull = -2.0 * (u[1:-1, 0] * u[1:-1, 1] - 1.0)
    exact = pull[:, None] * u[1:-1, ::-1]
    np.testing.assert_allclose(slope, exact, atol=1e-5)


def test_a_start_beside_a_kink_is_not_on_it_however_near():
    for side in (1.0, -1.0):
        for choice in ("on", "off", "stay", "stop"):
            solution = pf.gradient_flow(
                plane.descent((1.0, side * 1e-300)), stop=pf.Stop(time=0.5), branching=choice
            )
            assert solution.status == "ok"
            assert solution.events.branchings == 0
            assert np.sign(solution.final.weights()[0, 0, 1]) == side


@pytest.mark.parametrize(
    ("relation", "measured", "bound", "holds"),
    [
        ("<=", 1.0, 1.0, True),
        ("<=", 1.1, 1.0, False),
        (">=", 1.0, 1.0, True),
        (">=", 0.9, 1.0, False),
        ("==", 2, 2, True),
        ("==", 3, 2, False),
        ("in", 1.5, (1.0, 2.0), True),
        ("in", 2.5, (1.0, 2.0), False),
        ("<=", float("nan"), 1.0, False),
        ("in", 1.5, (float("nan"), float("nan")), False),
    ],
)
def test_a_claim_holds_when_the_relation_does(relation, measured, bound, holds):
    claim = experiments.Claim("a", "b", measured, bound, relation, "c")
    assert claim.holds is holds


def test_names_descriptions_and_unknown_names():
    assert experiments.names() == tuple(experiments.describe())
    assert "orthogonal-relu-fig2" in experiments.names()
    with pytest.raises(pf.PolarflowError, match="must be one of orthogonal-relu-fig2"):
        experiments.experiment("orthogonal-relu-fig9")


def test_key_groups_are_those_of_equations_5_and_6():
    data = pf.Data([[1.0, 0.0], [0.0, 1.0]], [2.0, -1.0])
    w = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]])
    sign = np.array([1.0, -1.0, 1.0, -1.0])
    direction = np.concatenate([sign[:, None] * np.sqrt(2), w], axis=1) / 2
    problem = pf.problem(data, pf.TwoLayer(4), pf.block_state(np.zeros(4), direction))
    positive, negative = key_groups(problem)
    assert positive.tolist() == [True, False, False, False]
    assert negative.tolist() == [False, True, False, False]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_planar_ncf_maxima_are_the_maxima_on_a_fine_grid(seed, sign):
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((6, 2)), rng.standard_normal(6)
    angle = np.linspace(-np.pi, np.pi, 200_000, endpoint=False)
    u = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    value = sign * np.maximum(u @ x.T, 0) @ z
    peak = (value > np.roll(value, 1)) & (value > np.roll(value, -1)) & (value > 1e-6)
    found = measure.planar_ncf_maxima(x, z, sign)
    assert len(found) == np.sum(peak)
    for maximum in found:
        nearest = np.argmin(measure.angles_to(u[peak], maximum.direction))
        assert measure.angles_to(u[peak], maximum.direction)[nearest] < 0.01
        np.testing.assert_allclose(maximum.value, value[peak][nearest], rtol=1e-4)


@pytest.mark.parametrize(("slope", "intercept"), [(0.8, -0.6), (0.8, 0.1), (0.0, 1.0), (-1.0, 2.0)])
def test_variation_norm_of_a_linear_function_solves_the_linear_programme(slope, intercept):
    # Neurons on a fine grid of the circle; equality at every kink and at infinity is equality.
    from scipy.optimize import linprog

    angle = np.radians(np.arange(0, 360, 2.0))
    theta = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    theta[np.abs(theta) < 1e-12] = 0.0
    crossing = theta[(theta[:, 0] != 0)]
    at = np.unique(-crossing[:, 1] / crossing[:, 0])
    points = np.concatenate([np.stack([at, np.ones_like(at)], axis=1), [[1.0, 0.0], [-1.0, 0.0]]])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    values = np.maximum(points @ theta.T, 0)
    best = linprog(
        np.ones(2 * len(theta)),
        A_eq=np.hstack([values, -values]),
        b_eq=points @ [slope, intercept],
        bounds=(0, None),
    )
    assert best.success
    exact = measure.linear_variation_norm(slope, intercept)
    assert exact <= best.fun + 1e-7
    np.testing.assert_allclose(best.fun, exact, rtol=2e-3)


def test_groups_share_examples_and_directions_are_counted_around_the_circle():
    x = np.array([[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    left, middle, right = np.array([[-1.0, 0.5], [0.1, 1.0], [1.0, -0.5]])
    units = np.stack([left, right]) / np.linalg.norm(left)
    assert measure.groups_sharing_examples(units, x) == 2
    joined = np.vstack([units, middle / np.linalg.norm(middle)])
    assert measure.groups_sharing_examples(joined, x) == 1
    angles = np.radians([-179.9, 179.9, 10.0, 10.5, 40.0])
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert measure.distinct_directions(around, gap=1.0) == 3
    assert measure.distinct_directions(around[:0], gap=1.0) == 0


def test_macroscopic_neurons_carry_all_but_a_thousandth():
    direction = np.tile(np.array([1.0, 1.0]) / np.sqrt(2), (4, 1))
    state = pf.block_state(np.array([0.0, -1.0, -3.0, -2000.0]), direction)
    assert measure.macroscopic(state).tolist() == [True, True, True, False]
    state = pf.block_state(np.array([0.0, -4.0, -4.0, -2000.0]), direction)
    assert measure.macroscopic(state).tolist() == [True, False, False, False]


def test_first_fall_is_linear_between_points():
    time, loss = np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.8, 0.2])
    assert measure.first_fall(time, loss, 0.5) == pytest.approx(2.0)
    assert measure.first_fall(time, loss, 1.0) == 0.0
    assert np.isnan(measure.first_fall(time, loss, 0.1))


def test_the_mexican_hat_is_homogeneous_and_its_spiral_a_trajectory():
    import jax
    import jax.numpy as jnp

    from polarflow.experiments.ji_telgarsky_2020 import _hat as hat
    from polarflow.networks._evaluate import jax64

    jax64()
    one = jnp.ones((1, 1))

    def phi(w):
        return hat.hat(w, None, one)[0, 0]

    for u in (1.5, 4.0, 30.0):
        v = jnp.asarray(hat.on_spiral(u))
        np.testing.assert_allclose(phi(3.0 * v), 9.0 * phi(v), rtol=1e-14)
        np.testing.assert_allclose(1.0 - phi(v), np.exp(-hat.PITCH * u), rtol=1e-11)
        slope = jax.grad(phi)(v)
        turn = slope - (slope @ v) * v
        step = 1e-6
        tangent = (hat.on_spiral(u + step) - hat.on_spiral(u - step)) / (2 * step)
        along = turn @ tangent / np.linalg.norm(turn) / np.linalg.norm(tangent)
        np.testing.assert_allclose(along, 1.0, atol=1e-8)
        # d ln|w| / du = w.grad / (du/ds), and du/ds from the speed along the curve.
        rate = np.linalg.norm(turn) / np.linalg.norm(tangent)
        grown = hat.growth(np.array([u, u + 1e-3]))[1] / 1e-3
        np.testing.assert_allclose(grown, float(slope @ v) / rate, rtol=2e-3)
    # Beyond the rim the function is |w|^2, and the gradient is finite at the pole.
    np.testing.assert_allclose(phi(jnp.array([1.0, 2.0, 3.0])), 14.0, rtol=1e-15)
    assert np.isfinite(jax.grad(phi)(jnp.array([0.0, 0.0, 1.0]))).all()


def test_an_overlay_fails_where_the_flow_is_another():
    from polarflow.experiments._flow import follow
    from polarflow.experiments._overlay import Overlay, common_times

    setting = experiments.experiment("two-homogeneous-fig1").setting
    problem = setting.problem(0)
    times = common_times(0.01, 100)
    solution = follow(problem, times, rtol=1e-8)
    assert Overlay(problem, solution, 0.01, 0.01).claim().holds
    other = replace(problem, initial=setting.problem(1).initial)
    assert not Overlay(other, solution, 0.01, 0.01).claim().holds
