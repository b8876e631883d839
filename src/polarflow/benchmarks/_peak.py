"""The engine's peak memory on a case, measured in a process of its own."""

import json
import subprocess
import sys
from typing import Any


def peak(case: str) -> dict[str, Any]:
    """Bytes: the largest resident set of a process that runs the engine, and before the run."""
    program = f"from polarflow.benchmarks._peak import measure; measure({case!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if done.returncode != 0:
        return {"peak_bytes": None, "message": done.stderr.strip().splitlines()[-1:]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(name: str) -> None:
    """Run the engine on a case and print what memory it took, as JSON."""
    import resource

    from ._cases import CASES
    from ._methods import engine

    case = CASES[name]
    problem, method = case.build(), engine(case.rtol)
    method.prepare(problem, case.times)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    outcome = method.follow(problem, case.times)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    print(
        json.dumps(
            {
                "peak_bytes": after,
                "before_bytes": before,
                "data_bytes": problem.data.x.nbytes,
                "finished": outcome.finished,
            }
        )
    )
