"""Benchmarks: structure and counts; no test depends on a clock."""

import json

import numpy as np
import pytest

import polarflow as pf
from polarflow import benchmarks
from polarflow.benchmarks import _methods as methods
from polarflow.benchmarks import _run
from polarflow.benchmarks._cases import CASES


def test_a_run_says_what_each_method_cost_and_how_far_off_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "has_diffrax", lambda: False)
    monkeypatch.setattr(_run, "has_diffrax", lambda: False)
    shown = []
    result = benchmarks.run(["two-points"], tmp_path, repeats=1, show=shown.append)
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
    assert len(shown) == 1
    for text in ("two-points", "compiled GD", "not installed", "1e-1000", "holds"):
        assert text in shown[0]


@pytest.mark.parametrize("name", benchmarks.names())
def test_the_cost_hardly_grows_with_the_logarithm_of_the_scale(name):
    scales = _run._scales(CASES[name], lambda _: None)
    assert [row["log10_scale"] for row in scales["scales"]] == [-12, -100, -1000]
    assert all(row["finished"] for row in scales["scales"])
    assert [bound["bound"] for bound in scales["bounds"]] == [1.2, 2.0]
    assert all(bound["holds"] for bound in scales["bounds"])


@pytest.mark.slow
def test_the_rival_from_diffrax_follows_the_same_flow():
    pytest.importorskip("diffrax")
    problem = CASES["two-points"].problem()
    times = (1.0, 6.0)
    rival = methods.tsit5(1e-7).follow(problem, times)
    ours = methods.engine(1e-9).follow(problem, times)
    assert rival.finished
    assert rival.field_evaluations > 6
    np.testing.assert_allclose(rival.weights, ours.weights, atol=1e-5)
    np.testing.assert_allclose(rival.loss, ours.loss, atol=1e-5)


def test_unknown_cases_and_repeats_are_named():
    with pytest.raises(pf.PolarflowError, match="'three-points' is no case"):
        benchmarks.run(["three-points"])
    with pytest.raises(pf.PolarflowError, match="repeats is 0"):
        benchmarks.run(repeats=0)
