"""`python tests/signatures.py` lists the argument types of all kernels of the kink-exact engine.

It follows a flow of every kind in an empty cache, since what comes from a cache doesn't say what
it calls; that takes about a minute.
"""

import os
import subprocess
import sys
import tempfile
from typing import Any

import follow
import numpy as np
from numba import types
from numba.extending import is_jitted
from reference.problems import KINDS, case

import polarflow as pf
from polarflow.flow.kinks import _compile

COMMAND = "python tests/signatures.py"
_HEADER = f"# The argument types of every kernel; after a change: {COMMAND}"


def kernels() -> dict[str, Any]:
    """All cached loops of polarflow, by module and name; those that are inlined are no kernels."""
    return {
        f"{value.py_func.__module__.removeprefix('polarflow.')}.{value.py_func.__name__}": value
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("polarflow.")
        for value in vars(module).values()
        if is_jitted(value) and hasattr(value._cache, "_cache_file")
        if value.targetoptions.get("inline") != "always"
    }


def listed() -> list[str]:
    """The lines of the list."""
    return [f"{name} {text}" for name, texts in _compile.listed().items() for text in texts]


def line(name: str, signature: tuple[Any, ...]) -> str:
    """A kernel's name and types, as Numba reads them."""
    return f"{name} ({', '.join(map(_text, signature))},)"


def _text(kind: Any) -> str:
    if isinstance(kind, types.Array) and kind.layout in "CA" and kind.mutable and kind.aligned:
        last = "::1" if kind.layout == "C" else ":"
        return f"{_text(kind.dtype)}[{', '.join([*[':'] * (kind.ndim - 1), last])}]"
    if isinstance(kind, types.BaseTuple):
        return f"Tuple(({', '.join(map(_text, kind))},))"
    if isinstance(kind, types.Literal):
        return f"literal({kind.literal_value!r})"
    return "boolean" if kind == types.boolean else str(kind)


def follow_all() -> None:
    """Flows of every kind, of one neuron in a dimension, or starting on a kink, and of many."""
    for kind in KINDS.values():
        flow = follow.follow(case(0, **kind), 1e-6)
        assert flow.status == "ok", flow.message
        flow.summary()
    for weights in ([0.6, 0.8], [0.6, 0.0, 0.8]):
        x = np.eye(1, len(weights) - 1)
        data, start = pf.Data.from_arrays(x, [1.0], bias=False), np.array([weights])
        task = pf.problem(data, pf.TwoLayer(1), pf.block_state(np.zeros(1), start))
        assert pf.gradient_flow(task, stop=pf.Stop(time=1.0), branching="stay").status == "ok"
    data = pf.Data.from_arrays(np.array([[-0.75], [-0.5], [0.125]]), [1.1, 0.1, 0.8], bias=True)
    start = pf.balanced(pf.TwoLayer(4000), 2, log10_scale=-2, seed=0)
    task = pf.problem(data, pf.TwoLayer(4000), start)
    assert pf.gradient_flow(task, stop=pf.Stop(time=100.0)).status == "ok"


def main() -> None:
    if "--fresh" not in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--fresh"]
            subprocess.run(command, env={**os.environ, "NUMBA_CACHE_DIR": folder}, check=True)
        return
    _compile._done = True  # each where it is needed
    follow_all()
    lines = sorted(line(name, used) for name, k in kernels().items() for used in k.signatures)
    _compile.LIST.write_text("\n".join([_HEADER, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
