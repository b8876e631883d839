"""What the command says to a person."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_COLUMNS = ("saddle", "ln t enter", "ln t leave", "loss", "grad norm", "active", "KKT residual")


def account(summary: Mapping[str, Any], folder: Path, more: Sequence[str] = ()) -> str:
    """A short account of a run from its summary, for a person, and more lines."""
    final, work = summary["final"], summary["work"]
    state = "ended" if summary["status"] == "ok" else "ended early"
    lines = [
        f"{state}: {summary['stop_reason']}",
        f"  time {_size(final, 'time')}, loss {_size(final, 'loss')}, "
        f"gradient {shown(final['grad_norm'])}",
        f"  {work['steps']} steps, {work['field_evaluations']} field evaluations, "
        f"{work['seconds']:.2f} s (and {work['compile_seconds']:.1f} s of compiling)",
    ]
    if summary.get("message"):
        lines.insert(1, f"  {summary['message']}")
    lines += [f"  {note}" for note in summary.get("notes", ())]
    lines += _estimate(summary.get("error_estimate"))
    if summary["saddles"]:
        lines += ["", *_table(summary["saddles"])]
    if more:
        lines += ["", *more]
    lines += ["", f"  {folder}: report.html, figures/, summary.json, trajectory.zarr"]
    return "\n".join(lines)


def _estimate(estimate: Mapping[str, Any] | None) -> list[str]:
    """What is said of the flow's error."""
    if estimate is None:
        return []
    return [
        f"  error, from the flow at half the tolerance: loss {shown(estimate['loss'])}, "
        f"weights {shown(estimate['weights'])} (relative)"
    ]


def unknown(verb: str, name: str, known: Sequence[str]) -> str:
    """What is said of a name that a verb does not know."""
    close = get_close_matches(name, known, n=1)
    suggestion = f'; did you mean "{close[0]}"?' if close else ""
    return f'{verb} "{name}": must be one of {", ".join(known)}{suggestion}'


def _table(saddles: list[Mapping[str, Any]]) -> list[str]:
    rows = [
        (
            str(saddle["index"]),
            shown(saddle["log_time_enter"]),
            shown(saddle["log_time_leave"]),
            shown(saddle["loss"]),
            shown(saddle["grad_norm"]),
            str(saddle["active_blocks"]),
            shown(saddle["kkt_residual"]),
        )
        for saddle in saddles
    ]
    return aligned([_COLUMNS, *rows])


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts as lines, in columns as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]


def _size(entry: Mapping[str, Any], name: str) -> str:
    """A number, by its logarithm where a float can't hold it."""
    if entry[name] is None and entry.get(f"log_{name}") is not None:
        return f"e^{entry[f'log_{name}']:.7g}"
    return shown(entry[name])


def shown(value: float | None) -> str:
    """A number in five digits, a dash if there is none."""
    return "-" if value is None else f"{value:.5g}"
