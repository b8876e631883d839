"""What several test files share: the command run in this process, and one two-point run."""

import json
import os
from collections.abc import Callable

import pytest
from runs import TWO_POINTS, Outcome, Run


def pytest_configure(config: pytest.Config) -> None:
    """What JAX compiles is kept beside what pytest keeps, not in the user's folder."""
    if config.cache is not None:
        os.environ.setdefault("POLARFLOW_CACHE", str(config.cache.mkdir("compiled")))


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Call `polarflow` with arguments, in this process."""
    from polarflow.cli.app import main

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(int(code), captured.out.splitlines(), captured.err.splitlines())

    return call


@pytest.fixture(scope="session")
def two_point_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The two-point experiment as the command leaves it."""
    from polarflow.cli.app import main

    path = tmp_path_factory.mktemp("runs") / "two-points"
    assert main(["run", str(TWO_POINTS), "--out", str(path), "--quiet"]) == 0
    return Run(path, json.loads((path / "summary.json").read_text(encoding="utf-8")))
