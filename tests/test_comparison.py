"""What a flow ended in, next to the comparators: in Python, in the summary, on the page."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from polarflow import Square, Stop, TwoLayer, balanced, gradient_flow, problem
from polarflow.comparators import ANSWERS, compare, least_l1_norm, least_variation_norm
from polarflow.comparators import _answers as answers
from polarflow.data import Data
from polarflow.errors import PolarflowError
from polarflow.losses import CrossEntropy, Logistic
from polarflow.networks import BlockState, SquaredRelu, gaussian
from polarflow.spec._models import Comparator

SPEC = """\
[data]
x = [[0.3, 0.0, 0.4], [0.0, 2.0, 0.0], [-0.8, 0.0, 0.6]]
y = [0.7, -0.5, 0.4]
[network]
width = 24
[init]
log10_scale = -40
seed = 2
[flow]
loss = 1e-22
"""


def run(command: Any, folder: Path, text: str, *options: str) -> tuple[int, dict[str, Any]]:
    path = folder / "spec.toml"
    path.write_text(text)
    done = command("run", path, "--out", folder / "out", "--quiet", *options)
    return done.code, json.loads((folder / "out" / "summary.json").read_text())


def test_a_spec_may_name_all_answers() -> None:
    assert get_args(Comparator) == tuple(ANSWERS)


def test_a_run_ends_in_the_least_norm(command: Any, tmp_path: Path) -> None:
    code, summary = run(command, tmp_path, SPEC)
    assert code == 0 and summary["notes"] == []
    least, kernel = summary["comparison"]
    assert least["name"] == "least_variation_norm" and least["exact"] and not least["lower_loss"]
    # (0.3, 0, 0.4), (-0.8, 0, 0.6) and (0, 2, 0) are orthogonal, of norms 1/2, 1 and 2.
    np.testing.assert_allclose(least["value"], np.hypot(1.4, 0.4) + 0.25, rtol=1e-14)
    np.testing.assert_allclose(least["ratio"], 1.0, atol=1e-10)
    assert least["angle"] < 1e-10 and "least norm of all networks" in least["statement"]
    assert kernel["name"] == "ntk_interpolant" and kernel["value"] > 1e38
    page = (tmp_path / "out" / "report.html").read_text()
    assert "next to what it might have been" in page and "It has the least norm" in page


@pytest.mark.parametrize("loss", [1e-2, 1.8e-5])
def test_a_norm_is_not_set_against_a_fit_before_the_labels_are_fitted(loss: float) -> None:
    """A run stopped on its way has less than the least norm of a fit, and doesn't fit.

    Its own predictions h cost nu.h at least, nu the multipliers of the labels.
    """
    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    x, y = q * np.array([1.0, 0.7, 1.3, 0.9])[:, None], np.array([0.9, -0.4, 0.5, -0.8])
    network = TwoLayer(40)
    task = problem(Data(x, y), network, balanced(network, 4, log10_scale=-30), loss=Square("mean"))
    flow = gradient_flow(task, stop=Stop(loss=loss))
    state = flow.final.state(0)
    least, kernel = compare(task, state).entries
    assert least["ratio"] < 1.0 and not least["fitted"] and not kernel["fitted"]
    said = least["statement"]
    assert "fit the labels" not in said and f"(loss {loss:.3g})" in said
    times = float(said.split("it has ")[1].split(" times")[0])
    nu = least_variation_norm(task.data, network)
    needed = nu.dual @ network.predict(state, x) / nu.height
    np.testing.assert_allclose(times, least["flow"] / needed, rtol=1e-6)
    # The difference is of second order in what is missing, and never negative.
    assert 1.0 - 1e-9 <= times < 1.0 + loss / np.mean(0.5 * y**2)
    assert f"(loss {loss:.3g})" in kernel["statement"]


def test_what_fails_or_is_not_wanted_is_not_there(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise ArithmeticError("it broke")

    monkeypatch.setattr(answers, "least_variation_norm", fails)
    code, summary = run(command, tmp_path, SPEC)
    assert code == 0 and [e["name"] for e in summary["comparison"]] == ["ntk_interpolant"]
    assert summary["notes"] == ["Not compared with least_variation_norm: ArithmeticError, it broke"]
    _, summary = run(command, tmp_path, SPEC + '[compare]\nanswers = "none"\n', "--overwrite")
    assert "comparison" not in summary and summary["notes"] == []
    wanted = SPEC + '[compare]\nanswers = ["hard_margin", "ntk_interpolant"]\n'
    _, summary = run(command, tmp_path, wanted, "--overwrite")
    assert [e["name"] for e in summary["comparison"]] == ["ntk_interpolant"]
    assert summary["notes"] == [
        "Not compared with hard_margin: it is for two classes and any network, with one output."
    ]


def test_an_interruption_keeps_the_flow_and_what_was_compared(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(answers, "ntk_interpolant", stop)
    code, summary = run(command, tmp_path, SPEC)
    assert code == 130 and summary["status"] == "interrupted"
    assert [e["name"] for e in summary["comparison"]] == ["least_variation_norm"]
    assert summary["notes"] == ["Not compared with ntk_interpolant: interrupted."]
    assert summary["final"]["loss"] <= 1e-22
    assert (tmp_path / "out" / "report.html").exists() and (tmp_path / "out" / "done").exists()


def test_a_name_that_is_none_is_told(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    done = command("run", path, "--set", "compare.answers=most_margins")
    assert done.code == 2 and len(done.err) == 1
    assert "'most_margins' is none of quick, all, none, least" in done.err[0]


def test_many_patterns_are_left_to_those_who_ask() -> None:
    rng = np.random.default_rng(4)
    network = TwoLayer(5)
    task = problem(
        Data(rng.standard_normal((40, 4)), rng.standard_normal(40)),
        network,
        balanced(network, 4, scale=1.0),
    )
    found = compare(task, task.initial, "quick")
    assert [e["name"] for e in found.entries] == ["ntk_interpolant"]
    assert found.notes == ("Not compared with least_variation_norm, which may take long.",)


def test_the_kernel_of_a_vanishing_start_is_a_function() -> None:
    # Its features are those of the unit weights; the start itself drops out.
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((4, 3)), rng.standard_normal(4)
    network, inputs = TwoLayer(30), rng.standard_normal((9, 3))
    found = []
    for exponent in (-7.0, -1000.0):
        task = problem(Data(x, y), network, balanced(network, 3, log10_scale=exponent))
        state = balanced(network, 3, scale=0.5, seed=1)
        (entry,) = compare(task, state, ["ntk_interpolant"], inputs=inputs).entries
        found.append(entry)
    small, tiny = found
    np.testing.assert_allclose(tiny["angle_at_inputs"], small["angle_at_inputs"], rtol=1e-9)
    assert np.isinf(tiny["value"]) and tiny["loss"] < 1e-20


def test_margins_of_a_network_that_has_the_largest() -> None:
    """Two neurons along the data classify orthonormal inputs best, at any norm."""
    x, y = np.eye(4), np.array([1.0, 1.0, 1.0, -1.0])
    unit = np.zeros((2, 5))
    unit[0] = np.array([1.0, *(np.array([1.0, 1.0, 1.0, 0.0]) / np.sqrt(3.0))]) / np.sqrt(2.0)
    unit[1] = np.array([-1.0, 0.0, 0.0, 0.0, 1.0]) / np.sqrt(2.0)
    # |a||w| is e^{2 rho}/2: sqrt(3) and 1 for margins of one.
    log_norm = 0.5 * np.log(2.0 * np.array([np.sqrt(3.0), 1.0]))
    network = TwoLayer(2)
    for shift in (0.0, 3000.0):  # e^6000 is beyond floats
        state = BlockState(log_norm + shift, unit)
        task = problem(Data(x, y), network, balanced(network, 4, scale=1.0), loss=Logistic("sum"))
        best = next(e for e in compare(task, state).entries if e["name"] == "most_margin")
        np.testing.assert_allclose(best["ratio"], 1.0, rtol=1e-12)
        np.testing.assert_allclose(best["margin_ratio"], 1.0, rtol=1e-12)
        np.testing.assert_allclose(best["value"], 0.5 / (1.0 + np.sqrt(3.0)), rtol=1e-12)
        assert best["neurons"] == 2 and best["angle"] < 1e-12


def test_squared_relu_next_to_its_games() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((5, 2)), np.array([1.0, -1.0, 1.0, 1.0, -1.0])
    network = SquaredRelu(12, tuple((-1.0) ** j for j in range(12)))
    task = problem(
        Data(x, y), network, gaussian(network, 2, scale=1.0, seed=1), loss=Logistic("sum")
    )
    found = {e["name"]: e for e in compare(task, task.initial, "quick").entries}
    local, best = found["local_margin"], found["global_margin"]
    assert local["value"] <= best["value"] * (1 + 1e-12) and best["exact"]
    h = network.predict(task.initial, x)
    own = np.min(y * h) / np.sum(np.exp(2.0 * task.initial.log_norm))
    np.testing.assert_allclose([local["flow"], best["flow"]], own, rtol=1e-12)


def test_labels_of_several_columns_have_nothing_to_be_next_to() -> None:
    network = TwoLayer(4, outputs=2)
    task = problem(
        Data(np.eye(2), np.array([0.0, 1.0])),
        network,
        balanced(network, 2, scale=1.0),
        loss=CrossEntropy(),
    )
    assert compare(task, task.initial).entries == ()


@pytest.mark.parametrize(("n", "d", "seed"), [(3, 3, 0), (5, 7, 7), (6, 9, 3)])
def test_orthonormal_flows_end_in_the_least_norm_at_the_rate_of_the_theory(
    n: int, d: int, seed: int
) -> None:
    """|theta|^2 -> 2n(|D+| + |D-|) (Boursier et al., 2022, theorem 1), to 1e-10.

    A neuron that is active on a part S of the examples of its sign grows at |D_S| until the saddle
    is left at -ln(lambda)/|D|, where its mass is lambda^{2(1 - |D_S|/|D|)}; the norm is too large
    by that power of the neuron for which it is least.
    """
    rng = np.random.default_rng([seed, 12])
    x = np.linalg.qr(rng.standard_normal((d, d)))[0][:n]
    y = rng.uniform(0.3, 1.2, n) * np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    network = TwoLayer(12)
    draw = balanced(network, d, scale=1.0, seed=seed)
    direction = draw.direction.copy()
    fully = np.stack([(y > 0) @ x, (y < 0) @ x])  # a fully active neuron of each sign
    fully /= np.linalg.norm(fully, axis=1, keepdims=True)
    direction[:2] = np.concatenate([[[1.0], [-1.0]], fully], axis=1) / np.sqrt(2.0)
    own = np.sign(direction[:, :1]) * y > 0
    on = own & (direction[:, 1:] @ x.T > 0)
    part = np.sqrt((on * y**2).sum(axis=1) / (own * y**2).sum(axis=1))
    power = float(np.min(2.0 * (1.0 - part)[part < 1.0 - 1e-12]))

    def end(exponent: float) -> tuple[float, float]:
        start = BlockState(draw.log_norm - exponent * np.log(10.0), direction)
        flow = gradient_flow(
            problem(Data(x, y), network, start, loss=Square("mean")), stop=Stop(loss=1e-26)
        )
        assert flow.status == "ok"
        # The saddle between. On orthonormal inputs the two signs move by themselves, m' = 2 m (Y -
        # m)/n with Y = n|D|: the fast one is at m = Y(1 - e), e = Y/m(0) exp(-2|D|t), the slow one
        # grows from m(0) by exp(2|D|t). Of the gradient's square, 2(Y^3 e^2 + y^2 m)/n^2 with Y, y
        # the fast and the slow force, the least over t tells t, and the loss is off by (2 - r^2/2)
        # m/y there, r = y/Y. The slow mass is at most that of all its neurons.
        signed = [np.sign(direction[:, 0]) == s for s in (1.0, -1.0)]
        size = [float(np.linalg.norm(y[s * y > 0])) for s in (1.0, -1.0)]
        fast, slow = (0, 1) if size[0] > size[1] else (1, 0)
        big, little, r = size[fast], size[slow], size[slow] / size[fast]
        first = 2.0 * start.log_norm[signed[fast]][0] - np.log(2.0)
        others = np.logaddexp.reduce(2.0 * start.log_norm[signed[slow]]) - np.log(2.0)
        exponential = np.log(2.0 * big**5 / (r * little**2)) - 2.0 * first - others
        off = 2.0 / little * np.exp(others + r / (2.0 + r) * exponential)
        if off < 1e-2:
            assert len(flow.saddles) == 2  # the end is not waited for
            found = flow.saddles[1].loss
            np.testing.assert_allclose(found, little**2 / (2 * n), rtol=1e-9 + off)
        (least, _) = compare(flow.problem, flow.final.state(0)).entries
        total = float(np.exp(2.0 * flow.final.log_param_norm[0]))
        return total, least["ratio"]

    force = [np.linalg.norm(y[s * y > 0] @ x[s * y > 0]) / n for s in (1.0, -1.0)]
    limit = 2 * n * sum(force)
    total, ratio = end(15.0 / power)
    np.testing.assert_allclose(total, limit, rtol=1e-11)
    np.testing.assert_allclose(ratio, 1.0, rtol=1e-11)
    near, far = (end(k / power)[0] / limit - 1.0 for k in (4.0, 7.0))
    np.testing.assert_allclose(np.log10(near / far), 3.0, rtol=0.01)


@pytest.mark.parametrize(("seed", "labels"), [(0, (1.1, 0.1, 0.8)), (7, (1.0, 0.2, 0.9))])
def test_a_spurious_minimum_is_proved_not_to_be_global(
    command: Any, tmp_path: Path, seed: int, labels: tuple[float, ...]
) -> None:
    text = f"""
seed = {seed}
data = {{x = [-0.75, -0.5, 0.125], y = {list(labels)}, bias = true}}
network = {{width = 80}}
init = {{scale = 1e-7}}
flow = {{grad_norm = 1e-10}}
"""
    code, summary = run(command, tmp_path, text)
    assert code == 0 and summary["final"]["loss"] > 0.05 and summary["final"]["grad_norm"] < 2e-10
    assert summary["saddles"][-1]["log_time_leave"] is None  # it is at rest
    entry = summary["comparison"][0]
    assert entry["lower_loss"] and entry["loss"] < 1e-24 and entry["neurons"] <= 80
    assert "is not the least" in entry["statement"]
    assert entry["statement"].split(":")[0] in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("seed", range(3))
def test_the_least_l1_norm_is_certified(seed: int) -> None:
    rng = np.random.default_rng([seed, 4])
    x, y = rng.standard_normal((5, 12)), rng.standard_normal(5)
    x = np.concatenate([x, x[:1] + x[1:2]])  # one equation follows from two others
    y = np.append(y, y[0] + y[1])
    least = least_l1_norm(x, y)
    np.testing.assert_allclose(x @ least.coefficient, y, atol=1e-13)
    assert np.sum(least.coefficient != 0.0) == 5
    # nu / height is feasible for the dual, so that its value is below every fit's norm.
    assert np.abs(x.T @ least.dual).max() <= least.height * (1.0 + 1e-15)
    np.testing.assert_allclose(least.dual_value, least.value, rtol=1e-12)
    other = np.linalg.pinv(x) @ y
    assert least.dual_value < np.abs(other).sum()
    with pytest.raises(PolarflowError, match="fits the labels"):
        least_l1_norm(x, y + np.arange(6))


@pytest.mark.parametrize("depth", [2, 3])
def test_a_path_of_a_diagonal_network_ends_beside_the_least_l1_norm(
    command: Any, tmp_path: Path, depth: int
) -> None:
    spec = tmp_path / "spec.toml"
    rng = np.random.default_rng(11)
    x = rng.standard_normal((4, 9))
    spec.write_text(
        f"[data]\nx = {x.tolist()}\ny = {rng.standard_normal(4).tolist()}\n"
        f'[network]\nkind = "diagonal"\ndepth = {depth}\n'
    )
    assert command("saddles", spec, "--out", tmp_path / "out", "--quiet").code == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (least,) = summary["comparison"]
    assert least["name"] == "least_l1_norm" and least["exact"] and least["fitted"]
    if depth == 2:  # Pesme & Flammarion (2023)
        assert abs(least["ratio"] - 1.0) < 1e-12
        np.testing.assert_allclose(summary["final"]["param_norm"] ** 2, least["value"], rtol=1e-12)
    else:
        assert least["ratio"] > 1.0 - 1e-12
    assert "l1 norm" in (tmp_path / "out" / "report.html").read_text()
