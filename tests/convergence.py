"""Print the tables of docs/trust.md: `uv run python tests/convergence.py [--seeds N] [--write]`.

For each kind of problem: the events met, how far extrapolated gradient descent is from the
event-located reference, and how far the engine is from it at each tolerance.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from follow import counts, error, follow, reference_counts
from reference.descent import flow
from reference.problems import KINDS, case

RTOLS = (1e-4, 1e-6, 1e-8, 1e-10, 1e-11)
STEPS = (1e-3, 1e-4)
PAGE = Path(__file__).parents[1] / "docs" / "trust.md"
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"


def measure(name: str, seeds: range) -> str:
    """One row: worst values over the seeds at which the flow is unique."""
    met, same, unique = np.zeros(3, int), 0, 0
    descent, engine = np.zeros(len(STEPS)), np.zeros(len(RTOLS))
    refused = ""
    for seed in seeds:
        problem = case(seed, **KINDS[name])
        path = problem.reference()
        met += reference_counts(path)
        if path.count("branch"):
            continue
        unique += 1
        if problem.within_reach_of_descent():
            for i, h in enumerate(STEPS):
                found, _ = flow(
                    problem.x,
                    problem.y,
                    problem.loss,
                    problem.factor,
                    problem.slope,
                    problem.weights(),
                    problem.times,
                    h,
                )
                descent[i] = max(descent[i], float(np.abs(found - path.weights()).max()))
        for i, rtol in enumerate(RTOLS):
            solution = follow(problem, rtol)
            if solution.status != "ok":
                refused = f"ended early at seed {seed}: {solution.status}"
                break
            engine[i] = max(engine[i], error(solution, path))
            if rtol == 1e-10:
                same += counts(solution) == reference_counts(path)
    if refused:
        cells = [refused] + [""] * len(RTOLS)
    else:
        cells = [f"{v:.0e}" for v in engine] + [f"{same} of {unique}"]
    drawn = [f"{v:.0e}" if v else "-" for v in descent]
    events = " / ".join(str(v) for v in met)
    return " | ".join(["", name, str(unique), events, *drawn, *cells, ""]).strip()


def table(seeds: range) -> Iterator[str]:
    heads = ["kind", "flows", "crossings / slides / branchings"]
    heads += [f"GD {h:.0e}" for h in STEPS] + [f"rtol {r:.0e}" for r in RTOLS] + ["same counts"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for name in KINDS:
        yield measure(name, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    lines = []
    for line in table(range(options.seeds)):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        tail = rest.split(END)[1]
        body = "\n".join(lines)
        PAGE.write_text(f"{head}{BEGIN}\n{body}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
