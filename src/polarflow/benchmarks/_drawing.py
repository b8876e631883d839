"""The figures of a benchmark: accuracy against time for each case, and cost against size."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENGINE = "engine"
ENDLESS = 1e9
"""Seconds from which on a method stands at the right edge, with its time in words."""
MARKERS = {
    ENGINE: ("o", "#0072B2"),
    "compiled GD": ("s", "#D55E00"),
    "GD on ln loss": ("P", "#56B4E9"),
    "PyTorch GD": ("D", "#CC79A7"),
    "Diffrax Tsit5": ("^", "#009E73"),
    "SUNDIALS CVODE": ("v", "#E69F00"),
}


def draw(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figures of what was measured, as PDF and PNG; returns the paths."""
    paths: list[Path] = []
    if result["cases"]:
        paths += _precision(result["cases"], folder)
    if result["scalings"]:
        paths += _growth(result["scalings"], folder)
    return paths


def _precision(cases: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Error in the weights against time; methods without an error stand on the upper edge."""
    from ..plotting.style import new_figure, save, style

    columns = _columns(len(cases))
    rows = -(-len(cases) // columns)
    figure, axes = new_figure(_width(columns), 2.5 * rows + 0.3, rows, columns)
    used: dict[str, Any] = {}
    with style():
        for ax, case in zip(axes, cases, strict=False):
            _case(ax, case, used)
        for k, ax in enumerate(axes):
            if k >= len(cases):
                ax.set_visible(False)
            elif k % columns == 0:
                ax.set_ylabel("largest error of a weight")
        figure.legend(
            used.values(), used.keys(), loc="outside lower center", ncols=6 if columns > 1 else 2
        )
    return save(figure, folder, "methods")


def _columns(panels: int) -> int:
    return 2 if panels == 4 else min(3, panels)


def _width(columns: int) -> float:
    from ..plotting.style import COLUMN, PAGE

    return COLUMN if columns == 1 else PAGE


def _case(ax: "Axes", case: dict[str, Any], used: dict[str, Any]) -> None:
    errors = [row["weight_error"] for row in case["rows"] if row["weight_error"]]
    low = min(errors, default=1e-10)
    none, ceiling = 3.0, 30.0
    edge = 30.0 * max(r["seconds"] for r in case["rows"] if r["seconds"] < ENDLESS)
    for method in (ENGINE, "compiled GD", "GD on ln loss"):
        known_rows = [r for r in case["rows"] if r["method"] == method and r["weight_error"]]
        points = sorted((r["weight_error"], r["seconds"]) for r in known_rows)
        colour = MARKERS[method][1]
        ax.plot([s for _, s in points], [e for e, _ in points], color=colour, linewidth=0.8)
    for row in case["rows"]:
        marker, colour = MARKERS[row["method"]]
        known = bool(row["weight_error"])
        endless = row["seconds"] >= ENDLESS
        if endless:
            text = f"$10^{{{np.log10(row['seconds']):.0f}}}$ s"
            ax.annotate(
                text, (edge, none), xytext=(0, -11), textcoords="offset points", ha="center",
                color=colour, fontsize=7,
            )  # fmt: skip
        (handle,) = ax.plot(
            edge if endless else row["seconds"],
            row["weight_error"] or none,
            marker,
            color=colour,
            markersize=5,
            markerfacecolor=colour if row["finished"] and row["whole"] and known else "white",
        )
        used.setdefault(row["method"], handle)
        if not row["finished"]:
            ax.annotate(
                "", (3.0 * row["seconds"], none), (row["seconds"], none),
                arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.8},
            )  # fmt: skip
    ax.axhspan(1.0, ceiling, color="#E4E7EB", linewidth=0, zorder=0)
    ax.text(
        0.02, 0.985, "not known: a part was run, or not finished (arrow)", fontsize=5.5,
        transform=ax.transAxes, va="top", color="#6B6B6B",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_ylim(0.2 * low, ceiling)
    ax.set_xlabel("seconds")
    ax.set_title(case["name"])
    ax.margins(x=0.15)


def _growth(scalings: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Seconds against size, with the fitted powers."""
    from ..plotting.style import new_figure, save, style

    columns = _columns(len(scalings))
    rows = -(-len(scalings) // columns)
    figure, axes = new_figure(_width(columns), 2.4 * rows + 0.3, rows, columns)
    handles: dict[str, Any] = {}
    with style():
        for ax, scaling in zip(axes, scalings, strict=False):
            for key, method in (("seconds", ENGINE), ("descent_seconds", "compiled GD")):
                done = [r for r in scaling["rows"] if r["finished"] and r[key]]
                marker, colour = MARKERS[method]
                power = scaling["exponents"][key]
                (handle,) = ax.plot(
                    [r["size"] for r in done], [r[key] for r in done], marker + "-",
                    color=colour, markersize=3.5, linewidth=0.9,
                )  # fmt: skip
                handles.setdefault(method, handle)
                if power is not None and done:
                    ax.annotate(
                        f"${scaling['symbol']}^{{{power:.2f}}}$",
                        (done[-1]["size"], done[-1][key]),
                        xytext=(-2, 5), textcoords="offset points", ha="right",
                        color=colour, fontsize=8,
                    )  # fmt: skip
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.set_title(scaling["name"])
            ax.set_xlabel(_LABELS.get(scaling["symbol"], scaling["symbol"]))
            ax.margins(y=0.15)
        for k, ax in enumerate(axes):
            if k >= len(scalings):
                ax.set_visible(False)
            elif k % columns == 0:
                ax.set_ylabel("seconds")
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return save(figure, folder, "growth")


_LABELS = {
    "s": r"$s=-\log_{10}\lambda$",
    "m": "width $m$",
    "n": "examples $n$",
    "d": "dimension $d$",
}
