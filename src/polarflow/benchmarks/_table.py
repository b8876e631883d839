"""What `polarflow bench` prints."""

from collections.abc import Sequence
from typing import Any

_RIVALS = ("method", "setting", "time", "ratio", "compiling", "evaluations", "weights", "loss")


def table(result: dict[str, Any]) -> str:
    """The result of `run` as text: a table of methods a case, and one of sizes a family."""
    lines = [
        f"{result['machine']['processor']}, {result['machine']['cores']} cores; medians of up to "
        f"{result['repeats']} calls in turns; {result['seconds']:.0f} s in all",
    ]
    for case in result["cases"]:
        lines += ["", *_case(case)]
    for scaling in result["scalings"]:
        lines += ["", *_scaling(scaling)]
    return "\n".join(lines)


def _case(case: dict[str, Any]) -> list[str]:
    reference = case["reference"]
    rows: list[Sequence[str]] = [_RIVALS]
    for row in case["rows"]:
        scaled = "" if row["whole"] else "~"
        rows.append(
            (
                row["method"],
                row["setting"],
                scaled + duration(row["seconds"]) if row["finished"] else "not finished",
                f"{'' if row['finished'] else '> '}{row['time_ratio']:.3g}",
                duration(row["compile_seconds"]),
                f"{'' if row['finished'] else '> '}{_count(row['field_evaluations'])}",
                _error(row["weight_error"]),
                _error(row["loss_error"]),
            )
        )
    rows += [(name, "not installed", *[""] * 6) for name in case["not_installed"]]
    times = ", ".join(f"{t:g}" for t in case["times"])
    lines = [
        f"{case['name']} ({case['source']}), errors at t = {times}",
        *aligned(rows),
        *(["errors are those of w/|w|, and relative ones of ln(loss)"] if case["relative"] else []),
        f"errors are taken to the engine at {reference['setting']}"
        + (
            f"; {reference['independent']} differs from it by "
            f"{_error(reference['weight_error'])} in the weights, "
            f"{_error(reference['loss_error'])} in the loss"
            if reference["independent"]
            else ""
        ),
    ]
    for row in case["rows"]:
        what = f"{row['method']}, {row['setting']}"
        if not row["whole"]:
            lines.append(
                f"~ {what}: measured on {row['measured_evaluations']} of "
                f"{_count(row['field_evaluations'])} steps, and scaled to the whole"
            )
        if not row["finished"]:
            lines.append(f"{what}: not finished in {duration(row['seconds'])}: {row['note']}")
        match = row.get("seconds_to_match")
        if match:
            lines.append(
                f"{what}: at first order the engine's error in the weights would take "
                f"{duration(match)}"
            )
    memory = case["memory"]
    if memory and memory["peak_bytes"]:
        lines.append(
            f"peak memory of the engine's process: {memory['peak_bytes'] / 2**20:.0f} MiB, "
            f"{memory['before_bytes'] / 2**20:.0f} MiB before the run"
        )
    return lines


def _scaling(scaling: dict[str, Any]) -> list[str]:
    rows: list[Sequence[str]] = [
        (scaling["symbol"], "time", "evaluations", "steps", "flow time", "compiled GD")
    ]
    for row in scaling["rows"]:
        rows.append(
            (
                f"{row['size']:g}",
                duration(row["seconds"]) if row["finished"] else "not finished",
                str(row["field_evaluations"]),
                str(row["steps"]),
                f"{row['flow_time']:.5g}",
                duration(row["descent_seconds"]) if row["descent_seconds"] else "-",
            )
        )
    stop = ", ".join(f"{k} {v:g}" for k, v in scaling["stop"].items() if v is not None)
    fitted = ", ".join(
        f"{key.replace('_', ' ')} {value:+.2f}"
        for key, value in scaling["exponents"].items()
        if value is not None
    )
    lines = [
        f"{scaling['name']}: {scaling['title']}; to {stop} at rtol {scaling['rtol']:g}, compiled "
        f"GD with steps of {scaling['step']:g}",
        *aligned(rows),
        f"fitted exponents in {scaling['symbol']}: {fitted or 'too few sizes'}",
    ]
    for bound in scaling["bounds"]:
        mark = "holds" if bound["holds"] else "FAILS"
        lines.append(
            f"{mark}: {bound['statement']} is {bound['measured']:.3f}, at most {bound['bound']:g}"
        )
    return lines


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words as columns."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if k < 2 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, size in (("years", 3.156e7), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.3g} {unit}"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def _count(count: int) -> str:
    return str(count) if count < 10**9 else f"{count:.2g}"


def _error(error: float | None) -> str:
    return "-" if error is None else f"{error:.1e}"
