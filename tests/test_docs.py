"""The documentation: every example runs, every link leads somewhere, the commands are sound."""

import re
import shlex
from pathlib import Path

import pytest
from runs import ROOT, Run

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return [body for kind, body in BLOCK.findall(text) if kind == language]


EXAMPLES = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(page, "python"))
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_every_python_example_runs(
    code: str, two_point_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "two-points").symlink_to(two_point_run.path)
    exec(compile(code, "example", "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_the_first_two_shell_blocks_set_up_by_themselves() -> None:
    run, test = (block.splitlines()[0] for block in blocks(ROOT / "README.md", "sh")[:2])
    for line in (run, test):
        assert line.startswith("python3 -m venv .tools && ")
    assert "polarflow run examples/two-points.toml --out" in run and "pytest" in test


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda p: p.stem)
def test_every_example_is_a_spec_and_stands_in_the_docs(path: Path) -> None:
    from polarflow.spec import assemble, load_spec

    assemble(load_spec(path, []), path)
    assert f"`{path.name}`" in (ROOT / "docs" / "getting-started.md").read_text()


def test_the_spec_commands_in_the_docs_are_right(command, tmp_path: Path, monkeypatch) -> None:
    """Each `polarflow run` of the pages gets through the check of its spec."""
    from polarflow.spec import Plan

    class Checked(Exception):
        pass

    def solve(self: Plan, progress: object) -> None:
        raise Checked

    monkeypatch.setattr(Plan, "solve", solve)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "points.csv").write_text("x,label\n0,1\n1,-1\n")
    assert command("init", "flow.toml").code == 0
    lines = [
        line
        for page in PAGES
        for block in blocks(page, "sh")
        for line in block.splitlines()
        if line.startswith("polarflow run ")
    ]
    assert lines
    for line in lines:
        with pytest.raises(Checked):
            command(*shlex.split(line)[1:])
