"""The kernels compiled in as many processes as there are cores, where Numba's cache holds none.

Numba compiles in one thread, a kernel when it is first called, after those that it calls itself.
The argument types are the same for every problem, and `signatures.txt` lists them: workers fill
the cache at once, each kernel after those that it calls, and of those that may go first the one
behind which the most is left to do.
"""

import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import CodeType
from typing import IO, Any

import numba
from numba.core import sigutils
from numba.core.event import trigger_event
from numba.extending import is_jitted

LIST = Path(__file__).with_name("signatures.txt")
#: More processes than this wait for one another.
_MOST = 8
#: Less than this part of the kernels is compiled sooner than workers have started.
_WORTH = 0.25
#: Seconds after which neither workers nor another process are waited for.
_PATIENCE = 300.0
#: Not `python -m`, nor multiprocessing: the caller's modules are found, its script isn't run again.
_WORKER = (
    "import sys; sys.path[:] = {}; from polarflow.flow.kinks import _compile as c; c.work_off()"
)

Kernels = dict[str, Any]
#: Its names are made when it is loaded.
_config: Any = numba.config
_turn = threading.Lock()
_done = False


def compile_missing() -> None:
    """Fill a cold cache of kernels from several processes; the first call in a process does it.

    What can't be done so is compiled when it is called. The time is told to who listens to Numba.
    """
    global _done
    if _done:
        return
    with trigger_event("numba:compiler_lock"), _turn:
        if not _done:
            with suppress(Exception):
                fill()
            _done = True


def _after_fork() -> None:
    """A thread that has the turn is not in the new process."""
    global _turn
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def fill() -> None:
    """Compile what the cache lacks, if that is much and nobody else does it already."""
    if _config.DISABLE_JIT or getattr(sys, "frozen", False):
        return
    signatures = listed()
    kernels = _kernels(signatures)
    callees = {name: _callees(kernel, kernels) for name, kernel in kernels.items()}
    called = set().union(*callees.values())
    # What Python calls is there only after all that it calls.
    if all(_known(kernel) for name, kernel in kernels.items() if name not in called):
        return
    work = {name: _work(kernel.py_func.__code__) for name, kernel in kernels.items()}

    def missing() -> set[str]:
        names = {name for name, kernel in kernels.items() if not _cached(kernel, signatures[name])}
        return names if sum(map(work.__getitem__, names)) >= _WORTH * sum(work.values()) else set()

    if not missing():
        return
    from filelock import FileLock

    folder = Path(kernels[min(kernels)]._cache.cache_path)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "polarflow-kernels.lock", timeout=_PATIENCE):
        names = missing()  # another process may have been quicker
        if names:
            _Queue(names, callees, work).run(_cores())


def _cores() -> int:
    """The processors that this process may use; at most so many as help."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # a container's share, or "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, min(cores, _MOST))


def listed() -> dict[str, list[str]]:
    """The signatures of the list, by the names of kernels."""
    result: dict[str, list[str]] = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, signature = line.split(" ", 1)
            result.setdefault(name, []).append(signature)
    return result


def _kernels(names: Any) -> Kernels:
    """The kernels of some names, as far as they exist."""
    result: Kernels = {}
    for name in names:
        module, _, own = name.rpartition(".")
        kernel: Any = getattr(sys.modules.get(f"polarflow.{module}"), own, None)
        if is_jitted(kernel):
            result[name] = kernel
    return result


def _callees(kernel: Any, kernels: Kernels) -> set[str]:
    """The names of the kernels that a kernel calls, itself or in loops inlined into it."""
    names = {id(value): name for name, value in kernels.items()}
    result: set[str] = set()
    seen = {id(kernel)}
    waiting = [kernel]
    while waiting:
        function = waiting.pop().py_func
        for used in _names(function.__code__):
            value = function.__globals__.get(used)
            if value is None or id(value) in seen or not is_jitted(value):
                continue
            seen.add(id(value))
            if id(value) in names:
                result.add(names[id(value)])
            else:
                waiting.append(value)
    return result


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _work(code: CodeType) -> int:
    """What compiling takes, roughly: the length of the code."""
    return len(code.co_code)


def _known(kernel: Any) -> bool:
    """Whether the cache holds anything of a kernel, from its present source for this processor."""
    magic = kernel.targetctx.codegen().magic_tuple()
    return any(key[1] == magic for key in kernel._cache._cache_file._load_index())


def _cached(kernel: Any, signatures: list[str]) -> bool:
    """Whether the cache holds all that is listed of a kernel."""
    index = kernel._cache._cache_file._load_index()
    codegen = kernel.targetctx.codegen()
    return all(kernel._cache._index_key(types_of(text), codegen) in index for text in signatures)


def types_of(signature: str) -> tuple[Any, ...]:
    """The types that a signature of the list names."""
    return sigutils.normalize_signature(signature)[0]


class _Queue:
    """Kernels to compile, each after those that it calls.

    **Arguments:**

    - `names`: the kernels to compile.
    - `callees`: the kernels that each one calls.
    - `work`: what compiling each takes, in any unit.
    """

    def __init__(self, names: set[str], callees: dict[str, set[str]], work: dict[str, int]) -> None:
        self._left = set(names)
        self._waits = {name: callees[name] & names for name in names}
        self._behind: dict[str, int] = {}
        self._running: set[str] = set()
        self._change = threading.Condition()
        callers: dict[str, set[str]] = {name: set() for name in names}
        for name, needed in self._waits.items():
            for callee in needed:
                callers[callee].add(name)

        def behind(name: str) -> int:
            if name not in self._behind:
                self._behind[name] = work[name] + max(map(behind, callers[name]), default=0)
            return self._behind[name]

        for name in names:
            behind(name)

    def run(self, count: int) -> None:
        """Compile in so many processes, until all is done or no process is left."""
        until = monotonic() + _PATIENCE
        workers: list[subprocess.Popen[str]] = []
        threads: list[threading.Thread] = []
        try:
            for _ in range(min(count, len(self._left))):
                workers.append(_worker())
                thread = threading.Thread(target=self._feed, args=(workers[-1],), daemon=True)
                thread.start()
                threads.append(thread)
            while any(thread.is_alive() for thread in threads) and monotonic() < until:
                threads[0].join(0.05)
                threads.sort(key=threading.Thread.is_alive, reverse=True)
        finally:
            for worker in workers:
                worker.kill()
            with self._change:
                self._left.clear()
                self._change.notify_all()
            for thread in threads:
                thread.join()
            for worker in workers:
                worker.wait()

    def _feed(self, worker: subprocess.Popen[str]) -> None:
        """Give a worker kernels, one at a time, as long as it answers."""
        assert worker.stdin is not None and worker.stdout is not None
        with suppress(OSError, ValueError), worker.stdin, worker.stdout:
            while (name := self._take()) is not None:
                answer = ""
                try:
                    worker.stdin.write(f"{name}\n")
                    worker.stdin.flush()
                    answer = worker.stdout.readline().strip()
                finally:
                    self._finish(name)
                if answer != name:
                    return

    def _take(self) -> str | None:
        """The next kernel, once there is one that waits for no other; None at the end."""
        with self._change:
            while self._left:
                ready = [name for name in self._left if not self._waits[name]]
                if ready:
                    name = max(ready, key=lambda name: (self._behind[name], name))
                    self._left.remove(name)
                    self._running.add(name)
                    return name
                if not self._running:  # kernels that call each other in a ring
                    return None
                self._change.wait()
            return None

    def _finish(self, name: str) -> None:
        """One kernel is compiled, or could not be: its callers may go."""
        with self._change:
            self._running.discard(name)
            for waits in self._waits.values():
                waits.discard(name)
            self._change.notify_all()


# -- the worker -------------------------------------------------------------------------------


def _worker() -> subprocess.Popen[str]:
    """A process that answers the names of kernels once it has compiled them."""
    from multiprocessing.spawn import get_executable  # a host of Python says which one is Python

    path = ascii([entry for entry in sys.path if isinstance(entry, str)])
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    cache = {"NUMBA_CACHE_DIR": _config.CACHE_DIR} if _config.CACHE_DIR else {}
    return subprocess.Popen(
        [os.fsdecode(get_executable()), *flags, "-c", _WORKER.format(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        encoding="utf-8", env={**os.environ, **single, **cache},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip


def work_off() -> None:
    """Compile the kernels whose names come in, and answer each."""
    # Whoever interrupts the caller interrupts the worker, too; it has nothing to say.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    answers = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115
    os.dup2(2, 1)  # Numba may be asked to print what it does
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(names, sys.stdin), daemon=True).start()
    from . import _engine as _engine  # all kernels

    signatures = listed()
    kernels = _kernels(signatures)
    while True:
        name = names.get()
        with suppress(Exception):  # the caller meets the error where it needs the kernel
            for signature in signatures[name]:
                kernels[name].compile(types_of(signature))
        print(name, file=answers, flush=True)


def _read(names: "queue.SimpleQueue[str]", stream: IO[str]) -> None:
    """Pass names on; where they end, also because the caller has died, all ends at once."""
    for line in stream:
        names.put(line.strip())
    os._exit(0)
