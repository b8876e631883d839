"""The verb `ncf`: what it leaves, what it says, and its exit codes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

POINT = {"direction", "value", "kkt_residual", "type", "on_kinks", "orbit"}
FIVE = '[data]\nname = "five-points"\n[network]\nkind = "two_layer"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "spec.toml"
    path.write_text(text, encoding="utf-8")
    return path


def summary(folder: Path) -> dict[str, Any]:
    assert (folder / "done").is_file()
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_data_and_network_suffice(command, tmp_path: Path) -> None:
    result = command("ncf", write(tmp_path, FIVE), "--out", tmp_path / "out")
    assert result.code == 0
    assert result.out[0].startswith("15 KKT points, all of them: 10 cells")
    found = summary(tmp_path / "out")
    assert found["status"] == "ok" and found["complete"]
    assert found["proof"]["cells"] == 10
    assert all(POINT <= set(point) for point in found["kkt_points"])
    assert [flat["dimension"] for flat in found["flat_sets"]] == [2]
    assert found["spec"]["ncf"] == {"z": "labels", "starts": 64, "seed": 0}
    # The values are those of N at the directions.
    x = np.array([[-1.5, 1], [-1, 1], [0, 1], [0.25, 1], [2, 1]])
    y = np.array([0.7, -0.3, -0.3, 0.4, 0.2])
    for point in found["kkt_points"]:
        a, *w = point["direction"]
        assert a * np.maximum(x @ w, 0) @ y == pytest.approx(point["value"], abs=1e-15)
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert names == {"circle.pdf", "circle.png", "field.pdf", "field.png"}


def test_a_search_of_a_deep_network(command, tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        'seed = 3\n[data]\nname = "five-points"\n'
        '[network]\nkind = "deep"\nwidths = [2]\nactivation = "relu_power"\npower = 2\n'
        "[ncf]\nz = [1.0, -1.0, 0.5, 0.5, -0.25]\nstarts = 12\n",
    )
    result = command("ncf", spec, "--out", tmp_path / "out")
    assert result.code == 0
    found = summary(tmp_path / "out")
    assert (found["order"], found["complete"], found["seed"]) == (3, False, 3)
    shares = [point["share"] for point in found["kkt_points"]]
    assert sum(shares) == pytest.approx(1.0)
    assert len(found["kkt_points"][0]["singular_values"]) == 2
    again = command("ncf", spec, "--out", tmp_path / "again", "--quiet")
    assert again.out == []
    assert summary(tmp_path / "again")["kkt_points"] == found["kkt_points"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("ncf.z=[1, 2]", "ncf.z: z has 2 numbers; needed are 5"),
        ("ncf.z=[0, 0, 0, 0, 0]", "ncf.z: z is zero"),
        ("ncf.z=word", "ncf.z = 'word': must be \"labels\" or a list of numbers"),
        ("ncf.method=walk", '--set ncf.method = "walk": must be "enumerate" or "search"'),
        ("ncf.zz=1", '--set ncf.zz = 1: is not a key here; did you mean "z"?'),
        ('network={kind="diagonal"}', ""),
    ],
)
def test_wrong_specs_get_a_sentence(command, tmp_path: Path, override: str, sentence: str) -> None:
    spec = write(tmp_path, FIVE + '[ncf]\nmethod = "enumerate"\n')
    result = command("ncf", spec, "--set", override, "--out", tmp_path / "out")
    assert result.code == 2 and not (tmp_path / "out").exists()
    (line,) = result.err
    assert line.startswith(f"polarflow: {spec}: ") and sentence in line


def test_an_ncf_that_is_positive_nowhere_gets_a_sentence(command, tmp_path: Path) -> None:
    spec = write(
        tmp_path,
        "[data]\nx = [[1.0, 0.0], [0.0, 1.0]]\ny = [-1.0, -2.0]\n[network]\n"
        'kind = "squared_relu"\n',
    )
    result = command("ncf", spec, "--out", tmp_path / "out")
    assert result.code == 2 and "positive nowhere" in result.err[0]


def test_a_run_takes_a_spec_with_an_ncf(command, tmp_path: Path) -> None:
    """One spec serves all verbs; a flow alone needs [flow]."""
    spec = write(tmp_path, FIVE + "[ncf]\nstarts = 3\n")
    result = command("run", spec, "--out", tmp_path / "out")
    assert result.code == 2 and "flow has no stop" in result.err[0]
