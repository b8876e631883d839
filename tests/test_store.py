"""The folder of a run: nothing half-written is ever taken for a whole result."""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from polarflow import PolarflowError, store
from polarflow.store import RunFolder, finite, open_folder, read_summary, read_trajectory


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def whole(folder: Path) -> RunFolder:
    result = open_folder(folder)
    result.write_summary({"status": "ok"})
    result.finish()
    return result


def test_a_result_is_read_back(tmp_path: Path) -> None:
    import xarray

    folder = open_folder(tmp_path / "new" / "run")
    dataset = xarray.Dataset(
        {"loss": ("time", [1.0, 0.5]), "w": (("time", "parameter"), np.eye(2))},
        coords={"time": [0.0, np.inf], "parameter": ["a", "w0"]},
    )
    folder.write_trajectory(dataset)
    folder.write_summary({"loss": np.float64(0.5), "list": (1, np.nan), "array": np.arange(2)})
    folder.finish()
    assert names(folder.path) == {"trajectory.zarr", "summary.json", "done"}
    assert read_summary(folder.path) == {"loss": 0.5, "list": [1, None], "array": [0, 1]}
    xarray.testing.assert_identical(read_trajectory(folder.path).load(), dataset)


def test_a_result_without_its_marker_is_not_read(tmp_path: Path) -> None:
    folder = open_folder(tmp_path)
    folder.write_summary({"status": "ok"})
    with pytest.raises(PolarflowError, match="holds no whole result"):
        read_summary(tmp_path)
    with pytest.raises(PolarflowError, match="holds no whole result"):
        read_trajectory(tmp_path)


def test_a_member_that_failed_leaves_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RuntimeError), folder.member("figures") as partial:
        partial.mkdir()
        (partial / "loss.pdf").write_text("half")
        raise RuntimeError
    assert names(tmp_path) == set()


def test_a_member_appears_only_when_whole(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with folder.member("report.html") as partial:
        partial.write_text("whole")
        assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "report.html").read_text() == "whole"


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PolarflowError, match="is not empty; give another folder, or --overwrite"):
        open_folder(tmp_path)
    with pytest.raises(PolarflowError, match="is a file, and must be a folder"):
        open_folder(tmp_path / "mine.txt")
    with pytest.raises(PolarflowError, match="cannot be written"):
        open_folder(tmp_path / "mine.txt" / "below")


def test_an_old_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    whole(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.pdf").write_text("old")
    (tmp_path / ".partial-trajectory.zarr").mkdir()
    folder = open_folder(tmp_path, overwrite=True)
    folder.write_summary({"status": "new"})
    assert read_summary(tmp_path) == {"status": "ok"}
    assert (tmp_path / "figures" / "old.pdf").exists()
    folder.finish()
    assert read_summary(tmp_path) == {"status": "new"}
    assert names(tmp_path) == {"mine.txt", "summary.json", "done"}


def test_a_result_that_comes_to_nothing_leaves_the_old_one(tmp_path: Path) -> None:
    whole(tmp_path)
    folder = open_folder(tmp_path, overwrite=True)
    folder.write_summary({"status": "new"})
    folder.discard()
    assert read_summary(tmp_path) == {"status": "ok"}
    assert names(tmp_path) == {"summary.json", "done"}


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_swap_that_is_cut_short_is_not_read(tmp_path: Path, monkeypatch, calls: int) -> None:
    # Killed after any number of renames, the folder holds the old result, the new one, or none.
    whole(tmp_path)
    folder = open_folder(tmp_path, overwrite=True)
    folder.write_summary({"status": "new"})
    replace, made = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if len(made) == calls:
            raise KeyboardInterrupt
        made.append(target)
        replace(source, target)

    monkeypatch.setattr(store.os, "replace", killed)
    with contextlib.suppress(KeyboardInterrupt):
        folder.finish()
    with contextlib.suppress(PolarflowError):
        assert read_summary(tmp_path) in ({"status": "ok"}, {"status": "new"})
    monkeypatch.undo()
    again = open_folder(tmp_path, overwrite=True)
    again.write_summary({"status": "third"})
    again.finish()
    assert read_summary(tmp_path) == {"status": "third"}
    assert names(tmp_path) == {"summary.json", "done"}


def test_fresh_folders_differ(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {open_folder(None, name="two-points").path for _ in range(3)}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {Path("runs")}
    assert all(path.name.startswith("two-points-") for path in paths)


def test_a_folder_made_in_vain_is_removed(tmp_path: Path) -> None:
    open_folder(tmp_path / "new").discard()
    assert names(tmp_path) == set()
    (tmp_path / "old").mkdir()
    open_folder(tmp_path / "old").discard()
    assert names(tmp_path) == {"old"}


def test_what_json_cannot_hold_is_null() -> None:
    value = {"a": [1.0, float("inf"), -np.inf, {"b": np.float64("nan")}], "c": (True, "x", None)}
    assert finite(value) == {"a": [1.0, None, None, {"b": None}], "c": [True, "x", None]}
    json.dumps(finite(value), allow_nan=False)
