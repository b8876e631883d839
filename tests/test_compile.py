"""Kernels compiled by several processes: which ones, from where, and what becomes of processes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep

import pytest
import signatures
from runs import TWO_POINTS

import polarflow as pf
from polarflow.flow.kinks import _compile, _engine  # noqa: F401

FEW = ("_patterns.dot", "_patterns.accumulate", "_patterns.branch_side", "_tree._count_bits")
CALL = "import test_compile; test_compile.few()"
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def start(cache: Path, *arguments: object) -> subprocess.Popen[str]:
    """Python with an empty cache of kernels, as the leader of a group of processes."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def output(process: subprocess.Popen[str], program: str = "") -> str:
    """What a process prints that is given a program."""
    out, err = process.communicate(program)
    assert process.returncode == 0, err
    return out


def few() -> None:
    """Fill the cache with some small kernels; print how many workers were started for it."""
    whole, begun, worker = _compile.listed(), [], _compile._worker
    listed = {f"flow.kinks.{name}": whole[f"flow.kinks.{name}"] for name in FEW}
    _compile.listed = lambda: listed
    _compile._cores = lambda: 2
    _compile._worker = lambda: begun.append(worker()) or begun[-1]
    _compile.compile_missing()
    kernels = _compile._kernels(listed)
    assert all(_compile._cached(kernels[name], listed[name]) for name in listed)
    assert not any(kernel.signatures for kernel in kernels.values())
    print(len(begun))


def everything() -> None:
    """Fill the cache, follow flows of all kinds, and print what they compiled and what is there."""
    _compile.fill()
    signatures.follow_all()
    kernels = signatures.kernels().items()
    late = [signatures.line(name, types) for name, k in kernels for types in k.stats.cache_misses]
    index = [(name, key) for name, k in kernels for key in k._cache._cache_file._load_index()]
    there = [signatures.line(name, key[0]) for name, key in index]
    print(json.dumps({"late": late, "there": there}))


def test_every_kernel_is_on_the_list() -> None:
    """One that is not is called by none of the flows that the list is made of."""
    home = _compile.__name__.removeprefix("polarflow.").rpartition(".")[0]
    mine = {name for name in signatures.kernels() if name.startswith(f"{home}.")}
    assert mine and not mine - set(_compile.listed())


@pytest.mark.slow
def test_the_list_holds_what_flows_need_and_workers_compile_it_all(tmp_path: Path) -> None:
    """In an empty cache: every kernel is compiled from the list, and none in a flow."""
    code = "import test_compile; test_compile.everything()"
    found = json.loads(output(start(tmp_path, "-c", code)))
    stale = (
        f"{_compile.LIST.name} is stale; renew it with `{signatures.COMMAND}`, "
        f"in about a minute (it lacks {set(found['there']) - set(signatures.listed())}, "
        f"and has too much: {set(signatures.listed()) - set(found['there'])})"
    )
    assert sorted(found["there"]) == sorted(signatures.listed()), stale
    assert not found["late"], stale


@pytest.mark.parametrize(("arguments", "program"), [(("-c", CALL), ""), (("-",), CALL)])
def test_workers_need_no_file_of_the_program(
    arguments: tuple[str, ...], program: str, tmp_path: Path
) -> None:
    assert output(start(tmp_path, *arguments), program) == "2\n"
    assert output(start(tmp_path, *arguments), program) == "0\n"


def test_workers_do_not_run_the_program_again(tmp_path: Path) -> None:
    """A program without a guard, of which several are started at once: one of them compiles."""
    program = tmp_path / "program.py"
    program.write_text(CALL, encoding="utf-8")
    both = [start(tmp_path, program) for _ in range(2)]
    assert sorted(output(process) for process in both) == ["0\n", "2\n"]


def test_a_daemonic_process_may_start_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    child = multiprocessing.get_context("spawn").Process(target=few, daemon=True)
    child.start()
    child.join()
    assert child.exitcode == 0
    child.close()


@pytest.mark.parametrize(
    "harm",
    [
        "_WORKER = 'raise SystemExit({})'",
        "_WORKER = 'import os; os.abort() # {}'",
        "LIST = _compile.LIST / 'gone'",
        "listed = lambda: {'gone.gone': ['(int64,)'], DOT: ['(strange,)']}",
        "_WORKER = BEWILDERED",
    ],
)
def test_what_workers_do_not_compile_is_compiled_when_it_is_called(
    harm: str, tmp_path: Path
) -> None:
    """Workers that die, a list that is missing, and one that tells of other kernels."""
    program = f"""if True:
        import numpy as np
        from polarflow.flow.kinks import _compile, _engine, _patterns
        DOT = "flow.kinks._patterns.dot"
        whole = _compile.listed()
        _compile.listed = lambda: {{DOT: whole[DOT]}}
        BEWILDERED = (
            "from polarflow.flow.kinks import _compile as c # {{}}\\n"
            "c.listed = lambda: {{{{'flow.kinks._patterns.dot': ['(int64,)']}}}}; c.work_off()"
        )
        _compile.{harm}
        _compile.compile_missing()
        print(_patterns.dot(np.ones(3), np.ones(3)))"""
    assert output(start(tmp_path, "-c", program)) == "3.0\n"


def members(group: int) -> list[str]:
    """The processes of a group that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, owner = path.read_text().rpartition(")")[2].split()[:3]
            if int(owner) == group and state != "Z":
                found.append(path.parent.name)
    return found


@linux
@pytest.mark.parametrize("whom", ["group", "leader", "kill"])
def test_an_end_while_workers_compile_leaves_none(whom: str, tmp_path: Path) -> None:
    """Ctrl-C, which the terminal sends to all; an interrupt of the command alone; kill -9."""
    out = tmp_path / "run"
    process = start(tmp_path, "-m", "polarflow", "run", TWO_POINTS, "--out", out)
    soon = monotonic() + 60.0
    while len(members(process.pid)) < 1 + min(2, _compile._cores()) and monotonic() < soon:
        sleep(0.02)
    assert process.poll() is None and monotonic() < soon
    if whom == "group":
        os.killpg(process.pid, signal.SIGINT)
    else:
        os.kill(process.pid, signal.SIGINT if whom == "leader" else signal.SIGKILL)
    begin = monotonic()
    err = process.communicate()[1]
    while members(process.pid) and monotonic() < begin + 10.0:
        sleep(0.02)
    assert not members(process.pid)
    if whom == "kill":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130, err
        assert err.splitlines()[-1] == "polarflow: interrupted" and not out.exists()


def test_the_time_of_filling_the_cache_is_no_time_of_the_flow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_compile, "_done", False)
    monkeypatch.setattr(_compile, "fill", lambda: sleep(0.2))
    data = pf.Data.from_arrays([[1.0]], [1.0], bias=False)
    begin = pf.balanced(pf.TwoLayer(1), 1, scale=0.1, seed=0)
    task = pf.problem(data, pf.TwoLayer(1), begin)
    work = pf.gradient_flow(task, stop=pf.Stop(time=1.0)).work
    assert work.compile_seconds >= 0.2 and _compile._done
