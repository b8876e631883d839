"""Benchmarks: structure, counts and errors; no test depends on a clock."""

import json

import numpy as np
import pytest

import polarflow as pf
from polarflow import benchmarks
from polarflow.benchmarks import _methods as methods
from polarflow.benchmarks import _run, _scaling
from polarflow.benchmarks._cases import CASES, student, wide
from polarflow.losses import MarginLoss

QUICK = methods.Budget(1.0, 0.05)


@pytest.mark.slow
def test_a_run_says_what_each_method_cost_and_how_far_off_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(_run, "has_torch", lambda: False)
    shown = []
    result = benchmarks.run(["two-points", "cost-scale"], tmp_path, repeats=1, show=shown.append)
    assert json.loads((tmp_path / "summary.json").read_text()) == result
    (case,) = result["cases"]
    by_method = {(row["method"], row["setting"]): row for row in case["rows"]}
    ours = by_method["engine", "rtol 1e-08"]
    descent = by_method["compiled GD", "step 1e-03"]
    assert descent["field_evaluations"] == 20_000
    assert ours["field_evaluations"] < 2000
    assert ours["time_ratio"] == ours["evaluation_ratio"] == 1.0
    assert ours["weight_error"] < 1e-7
    assert 1e-4 < descent["weight_error"] < 1e-2
    # Gradient descent extrapolated to step zero shares nothing with the engine.
    assert case["reference"]["weight_error"] < 1e-6
    for name in ("Diffrax Tsit5", "SUNDIALS CVODE"):
        rival = by_method[name, "rtol 1e-08"]
        assert rival["finished"] and rival["weight_error"] < 1e-5
        assert rival["field_evaluations"] > ours["field_evaluations"]
    assert len(shown) == 1
    for text in ("two-points", "compiled GD", "not installed", "1000", "holds", "exponents"):
        assert text in shown[0]
    assert sorted(result["figures"]) == [
        f"figures/{name}.{kind}" for name in ("growth", "methods") for kind in ("pdf", "png")
    ]
    assert all((tmp_path / path).stat().st_size > 3000 for path in result["figures"])


@pytest.mark.parametrize("name", ["cost-scale", "cost-scale-oblique"])
def test_the_cost_hardly_grows_with_the_logarithm_of_the_scale(name):
    measured = _scaling.measure(_scaling.SCALINGS[name], False, lambda _: None)
    assert [row["size"] for row in measured["rows"]][-1] == 1000
    assert all(row["finished"] for row in measured["rows"])
    assert [bound["bound"] for bound in measured["bounds"]] == [2.0, 1.2]
    assert all(bound["holds"] for bound in measured["bounds"])
    held = [row["descent_iterations"] is not None for row in measured["rows"]]
    assert held == [row["size"] <= 300 for row in measured["rows"]]


def test_exponents_are_those_of_powers():
    sizes = [10.0, 20.0, 40.0, 80.0]
    assert _scaling.exponent(sizes, [3.0 * s**1.5 for s in sizes]) == pytest.approx(1.5)
    assert _scaling.exponent(sizes[:3], [1.0, None, 2.0]) is None


@pytest.mark.slow
@pytest.mark.parametrize("rival", ["tsit5", "cvode"])
@pytest.mark.parametrize(
    ("name", "times"),
    [("two-points", (1.0, 6.0)), ("squared-relu", (0.1, 0.2)), ("deep-linear-late", (1.0, 10.0))],
)
def test_adaptive_rivals_follow_the_same_flow_until_they_are_stopped(rival, name, times):
    problem = CASES[name].build()
    theirs = methods.adaptive(rival, 1e-7, 100_000).follow(problem, times)
    ours = methods.engine(1e-9).follow(problem, times)
    assert theirs.finished
    assert theirs.field_evaluations > 6
    np.testing.assert_allclose(theirs.weights, ours.weights, atol=1e-5)
    np.testing.assert_allclose(theirs.loss, ours.loss, atol=1e-5)
    stopped = methods.adaptive(rival, 1e-7, 12).follow(problem, times)
    assert not stopped.finished
    assert stopped.note
    assert stopped.field_evaluations <= 13


@pytest.mark.slow
def test_descent_on_the_logarithm_of_the_loss_is_of_first_order_in_the_step():
    problem, times = CASES["squared-relu-late"].build(), (1.0, 5.0)
    ours = methods.engine(1e-8).follow(problem, times)
    runs = [
        methods.descent_by_loss(step, methods.Budget(1e3, 1.0)).follow(problem, times)
        for step in (2e-3, 1e-3)
    ]
    errors = [_run._errors(problem, run, ours) for run in runs]
    for key in ("weight_error", "loss_error"):
        assert 1.7 < errors[0][key] / errors[1][key] < 2.3
    assert runs[1].field_evaluations > 1.8 * runs[0].field_evaluations


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["single", "double"])
def test_the_script_in_pytorch_takes_the_same_steps(precision):
    pytest.importorskip("torch")
    problem = student(9, 4, 20, -1.0)
    times = (0.01, 0.05)
    compiled = methods.descent(1e-3, methods.Budget(1e3, 1.0)).follow(problem, times)
    theirs = methods.torch_descent(1e-3, methods.Budget(1e3, 1.0), precision).follow(problem, times)
    assert theirs.whole
    close = 1e-6 if precision == "single" else 1e-13
    np.testing.assert_allclose(theirs.weights, compiled.weights, atol=close)
    np.testing.assert_allclose(theirs.loss, compiled.loss, atol=close)


def test_a_part_is_measured_and_scaled_where_the_whole_would_take_too_long():
    problem = wide(2000)
    outcome = methods.descent(1e-6, QUICK).follow(problem, (10.0,))
    assert outcome.field_evaluations == 10_000_000
    assert methods.PROBE <= outcome.measured < outcome.field_evaluations
    assert outcome.finished and not outcome.whole
    assert outcome.weights is None
    assert outcome.seconds > QUICK.whole


def test_cases_are_what_they_say():
    assert set(benchmarks.names()) == {*CASES, *_scaling.SCALINGS}
    high = CASES["high-dimension"].build()
    assert high.data.x.shape == (75, 150)
    assert high.network.width == 200
    assert CASES["width"].build().network.width == 20_000
    many = CASES["many-examples"].build()
    assert (many.data.x.shape, many.network.width) == ((10_000, 10), 1000)
    for case in CASES.values():
        assert case.reference_rtol < 0.02 * case.rtol
        steps = np.array(case.times) / case.step
        np.testing.assert_allclose(steps, np.round(steps), rtol=1e-12)
        problem = case.build()
        if isinstance(problem.network, pf.TwoLayer):
            assert problem.loss.factor(10) == pytest.approx(0.2)
        # A loss of classification is checked by Tsit5, and descended by its logarithm too.
        late = isinstance(problem.loss, MarginLoss)
        assert late == (case.check_rtol is not None) == bool(case.by_loss)


def test_unknown_cases_and_repeats_are_named():
    with pytest.raises(pf.PolarflowError, match="'three-points' is no case"):
        benchmarks.run(["three-points"])
    with pytest.raises(pf.PolarflowError, match="repeats is 0"):
        benchmarks.run(repeats=0)
