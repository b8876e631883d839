"""What `polarflow bench` prints."""

from collections.abc import Sequence
from typing import Any

_RIVALS = ("method", "setting", "time", "ratio", "compiling", "evaluations", "weights", "loss")
_SCALES = ("scale", "evaluations", "steps", "time", "flow time")


def table(result: dict[str, Any]) -> str:
    """The result of `run` as text: a table of methods and one of scales for each case."""
    lines = [
        f"{result['machine']['processor']}, {result['machine']['cores']} cores; "
        f"medians of {result['repeats']} calls in turns",
    ]
    for case in result["cases"]:
        lines += ["", *_case(case)]
    return "\n".join(lines)


def _case(case: dict[str, Any]) -> list[str]:
    reference = case["reference"]
    rows: list[Sequence[str]] = [_RIVALS]
    for row in case["rows"]:
        rows.append(
            (
                row["method"],
                row["setting"],
                _duration(row["seconds"]) if row["finished"] else "not finished",
                f"{row['time_ratio']:.3g}" if row["finished"] else "-",
                _duration(row["compile_seconds"]),
                f"{'' if row['finished'] else '> '}{row['field_evaluations']}",
                _error(row["weight_error"]),
                _error(row["loss_error"]),
            )
        )
    rows += [(name, "not installed", *[""] * 6) for name in case["not_installed"]]
    times = ", ".join(f"{t:g}" for t in case["times"])
    lines = [
        f"{case['name']} ({case['experiment']}), errors at t = {times}",
        *_aligned(rows),
        f"errors are taken to the engine at {reference['setting']}; {reference['independent']} "
        f"differs from it by {_error(reference['weight_error'])} in the weights, "
        f"{_error(reference['loss_error'])} in the loss",
    ]
    for row in case["rows"]:
        match = row.get("seconds_to_match")
        if match:
            lines.append(
                f"{row['method']}, {row['setting']}: at first order the engine's error in the "
                f"weights would take {_duration(match)}"
            )
    stop = case["scale_stop"]
    scales: list[Sequence[str]] = [_SCALES]
    for row in case["scales"]:
        scales.append(
            (
                f"1e{row['log10_scale']}",
                f"{row['field_evaluations']}",
                f"{row['steps']}",
                _duration(row["seconds"]) if row["finished"] else "not finished",
                f"{row['time']:.5g}",
            )
        )
    lines += [
        "",
        f"{case['name']}: the engine down to a loss of {stop['loss']:g} at rtol {stop['rtol']:g}",
        *_aligned(scales),
    ]
    for bound in case["bounds"]:
        mark = "holds" if bound["holds"] else "FAILS"
        lines.append(
            f"{mark}: {bound['statement']} is {bound['measured']:.3f}, at most {bound['bound']:g}"
        )
    return lines


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _error(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"
