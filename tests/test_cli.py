"""The command: what a run leaves, what it says, and its exit codes."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import TWO_POINTS, Run

from polarflow import benchmarks, experiments, plotting
from polarflow.cli import _progress
from polarflow.flow import Progress
from polarflow.store import read_summary, read_trajectory

ENTRY = {"time", "log_time", "loss", "log_loss", "param_norm"}
FINAL = ENTRY | {"log_param_norm", "grad_norm", "predictions", "outputs"}
SADDLE = {
    "index",
    "log_time_enter",
    "log_time_leave",
    "loss",
    "grad_norm",
    "active_blocks",
    "residual_norm",
    "kkt_residual",
}


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def write_dead_neuron(folder: Path) -> Path:
    """A spec whose one neuron is off at the one example, so that nothing ever moves."""
    a = math.sqrt(0.5)
    np.savez(folder / "init.npz", log_norm=[0.0], direction=[[a, -a]])
    path = folder / "dead.toml"
    path.write_text(
        '[data]\nx = [[1.0]]\ny = [1.0]\n[init]\nfile = "init.npz"\n[flow]\nloss = 1e-3\n'
        "[record]\ntimes = [0.0, 1.0]\n"
    )
    return path


def test_a_run_leaves_everything(two_point_run: Run) -> None:
    assert {path.name for path in two_point_run.path.iterdir()} == {
        "summary.json",
        "trajectory.zarr",
        "figures",
        "report.html",
        "done",
    }
    figures = {path.suffix for path in (two_point_run.path / "figures").iterdir()}
    assert {".pdf", ".png"} <= figures


def test_the_summary_has_its_shape(two_point_run: Run) -> None:
    summary = two_point_run.summary
    assert {
        "status",
        "stop_reason",
        "spec",
        "versions",
        "seed",
        "final",
        "recorded",
        "saddles",
        "conserved",
        "events",
        "work",
    } <= set(summary)
    assert (summary["status"], summary["stop_reason"], summary["seed"]) == ("ok", "time", 0)
    assert set(summary["final"]) == FINAL
    assert all(set(entry) == ENTRY for entry in summary["recorded"])
    assert all(set(saddle) == SADDLE for saddle in summary["saddles"])
    assert set(summary["conserved"]) == {"balancedness_drift"}
    assert set(summary["events"]) == {"crossings", "slides", "branchings"}
    assert set(summary["work"]) == {
        "field_evaluations",
        "jacobian_products",
        "steps",
        "seconds",
        "compile_seconds",
    }
    assert summary["spec"]["init"]["seed"] == 0


def test_the_numbers_agree_with_one_another(two_point_run: Run) -> None:
    final = two_point_run.summary["final"]
    y = np.array([-1.0, 1.0])
    assert final["time"] == 15.0
    assert final["log_time"] == pytest.approx(math.log(15.0), rel=1e-15)
    # The mean squared error without 1/2.
    expected = np.mean((np.array(final["predictions"]) - y) ** 2)
    assert final["loss"] == pytest.approx(expected, rel=1e-9)
    assert final["log_loss"] == pytest.approx(math.log(final["loss"]), rel=1e-12)
    assert final["param_norm"] == pytest.approx(math.exp(final["log_param_norm"]), rel=1e-14)
    # record.inputs -0.5 and 2 are the examples.
    assert final["outputs"][5] == pytest.approx(final["predictions"][0], rel=1e-12)
    assert final["outputs"][10] == pytest.approx(final["predictions"][1], rel=1e-12)


def test_every_requested_time_has_its_entry(two_point_run: Run) -> None:
    recorded = two_point_run.summary["recorded"]
    assert [entry["time"] for entry in recorded] == [0.0, 4.0, 8.0, 15.0]
    assert recorded[0]["log_time"] is None
    assert {key: two_point_run.summary["final"][key] for key in ENTRY} == recorded[-1]


def test_the_two_points_have_two_saddles(two_point_run: Run) -> None:
    origin, middle = two_point_run.summary["saddles"]
    assert (origin["index"], middle["index"]) == (0, 1)
    assert origin["log_time_enter"] is None
    assert origin["loss"] == pytest.approx(1.0, rel=1e-9)
    assert middle["loss"] == pytest.approx(0.5, rel=1e-3)
    assert 5.0 < math.exp(origin["log_time_leave"]) < 6.0
    assert 10.0 < math.exp(middle["log_time_leave"]) < 12.0


def test_the_trajectory_is_that_of_the_summary(two_point_run: Run) -> None:
    dataset = read_trajectory(two_point_run.path).load()
    summary = read_summary(two_point_run.path)
    assert float(dataset.time[-1]) == summary["final"]["time"]
    assert float(dataset.loss[-1]) == summary["final"]["loss"]
    assert json.loads(dataset.attrs["spec"]) == summary["spec"]
    norm = np.exp(dataset.log_norm[-1].values)
    assert np.linalg.norm(norm) == pytest.approx(summary["final"]["param_norm"], rel=1e-12)
    assert dataset.sizes["query"] == len(summary["final"]["outputs"])
    assert (np.diff(dataset.loss.values) <= 1e-12).all()


def test_the_same_spec_gives_the_same_numbers(two_point_run: Run, command, tmp_path) -> None:
    outcome = command("run", TWO_POINTS, "--out", tmp_path / "again", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, [], [])
    again, first = summary_of(tmp_path / "again"), dict(two_point_run.summary)
    for summary in (again, first):
        summary["work"] = {
            key: value for key, value in summary["work"].items() if "seconds" not in key
        }
    assert again == first


def test_a_stop_is_reached_and_not_passed(command, tmp_path: Path) -> None:
    # gradient flow from 1e-1000 to a given loss; times beyond the end have empty entries
    outcome = command(
        "run", TWO_POINTS, "--out", tmp_path, "--quiet",
        "--set", "init.log10_scale=-1000",
        "--set", "flow={loss = 1e-3}",
        "--set", "record.times=[2e9, 1.0, 1.0]",
    )  # fmt: skip
    assert outcome.code == 0
    summary = summary_of(tmp_path)
    assert summary["stop_reason"] == "loss"
    assert summary["final"]["loss"] == pytest.approx(1e-3, rel=1e-8)
    unreached, once, twice = summary["recorded"]
    assert unreached == {
        "time": 2e9,
        "log_time": math.log(2e9),
        "loss": None,
        "log_loss": None,
        "param_norm": None,
    }
    assert once == twice and once["time"] == 1.0
    assert once["param_norm"] is None  # 1e-1000 is no float


def test_a_run_speaks_at_its_end_and_on_the_way(command, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(_progress, "_SECONDS_BETWEEN_LINES", 0.0)
    outcome = command("run", TWO_POINTS, "--out", tmp_path)
    assert outcome.code == 0
    assert outcome.err[0].startswith("polarflow: starting")
    assert "ln t =" in outcome.err[1] and "loss =" in outcome.err[1] and "saddle" in outcome.err[1]
    assert outcome.out[0] == "ended: time"
    assert str(tmp_path) in outcome.out[-1]


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with _progress.reporter(quiet=False) as tell:
        for fraction in (None, 0.5):
            tell(Progress(2.7, 1.0, 0.1, -2.3, 2, fraction))
    assert type(tell).__name__ == "_Bar"


def test_a_second_way_is_told() -> None:
    assert "again" not in _progress.news(Progress(2.7, 1.0, 0.1, -2.3, 2, None))
    checking = Progress(2.7, 1.0, 0.1, -2.3, 2, None, checking=True)
    assert "again, at half the tolerance" in _progress.news(checking)
    replaying = Progress(2.7, 1.0, 0.1, -2.3, 2, None, replaying=True)
    assert "again, with more digits" in _progress.news(replaying)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "a.toml", "b.toml"],
        ["run", "--owt", "x", "a.toml"],
        ["rnu", "a.toml"],
        ["run", "nowhere.toml"],
        ["run", str(TWO_POINTS), "--set", "flow.rtol"],
        ["run", str(TWO_POINTS), "--set", "flow.rtol=2"],
        ["reproduce", "orthogonal-relu-fig"],
        ["reproduce"],
        ["bench", "two-pionts"],
        ["init", "a", "b"],
    ],
)
def test_what_is_wrong_is_one_line_and_changes_nothing(
    command, arguments: list[str], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = command(*arguments)
    assert outcome.code == 2
    assert outcome.out == []
    assert len(outcome.err) == 1 and outcome.err[0].startswith("polarflow: ")
    assert list(tmp_path.iterdir()) == []


def test_each_error_of_a_spec_is_a_line(command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = command(
        "run", TWO_POINTS, "--out", out, "--set", "network.width=0", "--set", "data.nmae=1"
    )
    assert outcome.code == 2 and len(outcome.err) == 2
    assert f"{TWO_POINTS}: --set network.width = 0: must be a whole number" in outcome.err[1]
    assert 'did you mean "name"?' in outcome.err[0]
    assert not out.exists()


def test_a_wrong_spec_leaves_an_old_result_alone(command, two_point_run: Run) -> None:
    before = summary_of(two_point_run.path)
    outcome = command(
        "run", TWO_POINTS, "--out", two_point_run.path, "--overwrite", "--set", "flow.rtol=2"
    )
    assert outcome.code == 2
    assert read_summary(two_point_run.path) == before


def test_a_run_that_fails_leaves_an_old_result_alone(command, tmp_path: Path, monkeypatch) -> None:
    from polarflow import solution

    spec = write_dead_neuron(tmp_path)
    assert command("run", spec, "--out", tmp_path / "out", "--quiet").code == 3

    def fails(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(solution, "gradient_flow", fails)
    outcome = command("run", spec, "--out", tmp_path / "out", "--overwrite", "--quiet")
    assert outcome.code == 1 and "No space left on device" in outcome.err[0]
    assert read_summary(tmp_path / "out")["status"] == "at_rest"


def polarflow(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    words = [sys.executable, "-m", "polarflow", *map(str, arguments)]
    return subprocess.run(words, text=True, check=False, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX")
def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    import resource

    spec = write_dead_neuron(tmp_path)
    done = polarflow(
        "run", spec, "--out", tmp_path / "out",
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot be read or written (File too large)" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full", ">/dev/full", ">&- 2>&-"])
def test_streams_that_cannot_be_written(tmp_path: Path, shell: str) -> None:
    spec, out = write_dead_neuron(tmp_path), tmp_path / "out"
    words = f"{sys.executable} -m polarflow run {spec} --out {out} {shell}"
    done = subprocess.run(words, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if shell == ">/dev/full" else 3)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert read_summary(out)["status"] == "at_rest"


def test_a_result_is_not_overwritten_unasked(command, two_point_run: Run) -> None:
    outcome = command("run", TWO_POINTS, "--out", two_point_run.path)
    assert outcome.code == 2
    assert outcome.err == [
        f"polarflow: --out {two_point_run.path}: is not empty; give another folder, or --overwrite"
    ]


def test_a_flow_that_cannot_go_on_returns_3(command, tmp_path: Path) -> None:
    outcome = command("run", write_dead_neuron(tmp_path), "--out", tmp_path / "out", "--quiet")
    assert outcome.code == 3
    summary = summary_of(tmp_path / "out")
    assert summary["status"] == summary["stop_reason"] == "at_rest"
    assert summary["recorded"][0]["loss"] == 0.5
    assert summary["spec"]["network"]["width"] == 1
    assert (tmp_path / "out" / "done").exists()


def test_an_interrupted_run_keeps_what_it_has(command, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        _progress._Silence, "__call__", lambda self, progress: signal.raise_signal(signal.SIGINT)
    )
    outcome = command("run", TWO_POINTS, "--out", tmp_path, "--quiet")
    assert outcome.code == 130
    summary = summary_of(tmp_path)
    assert summary["status"] == "interrupted"
    assert [entry["time"] for entry in summary["recorded"]] == [0.0, 4.0, 8.0, 15.0]
    assert summary["recorded"][-1]["loss"] is None
    assert read_trajectory(tmp_path).sizes["time"] >= 1


@pytest.mark.parametrize(
    ("error", "code", "status"), [(KeyboardInterrupt(), 130, "interrupted"), (OSError(), 1, "ok")]
)
def test_a_picture_that_fails_costs_no_number(
    command, tmp_path: Path, monkeypatch, error: BaseException, code: int, status: str
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(plotting, "draw_all", fails, raising=False)
    assert command("run", TWO_POINTS, "--out", tmp_path, "--quiet").code == code
    members = {path.name for path in tmp_path.iterdir()}
    assert members == {"trajectory.zarr", "summary.json", "done"}
    assert summary_of(tmp_path)["status"] == status


def test_init_writes_a_spec_that_runs_as_it_is(command, tmp_path: Path) -> None:
    path = tmp_path / "flow.toml"
    assert command("init", path).code == 0
    assert command("run", path, "--out", tmp_path / "out", "--quiet").code == 0
    assert summary_of(tmp_path / "out")["final"]["time"] == 15.0
    again = command("init", path)
    assert again.code == 2 and "exists already" in again.err[0]


def test_list_names_every_experiment(command) -> None:
    outcome = command("list")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.out] == list(experiments.names())


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("name", ["orthogonal-relu-fig2", "all"])
def test_reproduce_returns_1_if_a_claim_fails(
    command, tmp_path: Path, monkeypatch, name: str, holds: bool
) -> None:
    def reproduce(name: str, out: Path, **options: object) -> dict[str, Any]:
        (out / "figures").mkdir()
        claim = {"name": "c", "statement": "s", "measured": math.nan, "bound": 2.0}
        return {"claims": [claim | {"holds": holds}], "deviations": []}

    monkeypatch.setattr(experiments, "reproduce", reproduce)
    out = tmp_path / "out"
    for overwrite in ([], ["--overwrite"]):
        outcome = command("reproduce", name, "--out", out, "--quiet", *overwrite)
        assert outcome.code == (0 if holds else 1)
    summary = read_summary(out)
    count = 1 if name != "all" else len(experiments.names())
    assert [claim["measured"] for claim in summary["claims"]] == [None] * count
    if name == "all":
        assert summary["claims"][0]["experiment"] == experiments.names()[0]
        assert read_summary(out / experiments.names()[-1])["claims"][0]["holds"] is holds


def test_bench_keeps_what_it_measured(command, tmp_path: Path, monkeypatch) -> None:
    def measure(names: object, *, quick: bool, progress: Any) -> dict[str, Any]:
        progress("case")
        return {"cases": [names, quick]}

    def draw(result: dict[str, Any], folder: Path) -> list[Path]:
        folder.mkdir()
        (folder / "methods.png").touch()
        return [folder / "methods.png"]

    monkeypatch.setattr(benchmarks, "run", measure)
    monkeypatch.setattr(benchmarks, "draw", draw)
    name = benchmarks.names()[0]
    outcome = command("bench", name, "--quick", "--out", tmp_path)
    assert (outcome.code, outcome.err) == (0, ["polarflow: case"])
    kept = {"cases": [[name], True], "figures": ["figures/methods.png"]}
    assert read_summary(tmp_path) == kept


def test_the_package_is_the_command() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "polarflow", "--version"], capture_output=True, text=True, check=True
    )
    import polarflow

    assert result.stdout.strip() == polarflow.__version__
