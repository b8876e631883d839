"""One place for the look of all figures: colours, fonts, sizes, files.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart. Widths are those
of a paper's column and page, in inches. Files are the same bytes for the same picture: dates are
stripped and hashes salted.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PolarflowError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

POSITIVE = "#0072B2"
NEGATIVE = "#D55E00"
FUNCTION = "#009E73"
LOSS = "#000000"
BAND = "#E4E7EB"
GREY = "#6B6B6B"
DESCENT = "#CC79A7"
"""Gradient descent, drawn over a flow."""

SMALL = 7.0
"""Size in points of notes inside and above the axes."""

COLUMN = 3.4
PAGE = 6.9
RESOLUTION = 240

_RC: Any = {
    "font.family": ["STIXGeneral"],
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.title_fontsize": 8.0,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.solid_capstyle": "round",
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,
    "svg.hashsalt": "polarflow",
    "svg.fonttype": "none",
}
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None},
    "svg": {"Date": None},
    "png": {},
}


def style() -> AbstractContextManager[None]:
    """A context in which matplotlib draws in this style; nothing global is left changed."""
    from matplotlib import rc_context

    return rc_context(_RC)


def new_figure(
    width: float = COLUMN, height: float = 2.3, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple["Figure", list["Axes"]]:
    """A figure of the given size in inches and its Axes, row by row.

    It belongs to no window and to no global state. `grid` goes to `Figure.subplots`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False, **grid)
    return figure, list(axes.flat)


def settle(figure: "Figure") -> None:
    """Lay the figure out once and keep that layout, so that saving it twice costs one layout."""
    engine = figure.get_layout_engine()
    if engine is not None:
        fixed = any(ax.get_aspect() != "auto" for ax in figure.axes)
        with style():
            # Axes of fixed aspect move once more when the first layout has changed their size.
            for _ in range(2 if fixed else 1):
                engine.execute(figure)
        figure.set_layout_engine("none")


def save(
    figure: "Figure", folder: str | Path, name: str, formats: Sequence[str] = ("pdf", "png")
) -> list[Path]:
    """Write a figure as `folder/name.pdf` and `folder/name.png`.

    **Arguments:**

    - `figure`: what to write.
    - `folder`: created if missing.
    - `name`: file name without its ending.
    - `formats`: among `"pdf"`, `"png"` and `"svg"`.

    **Returns:** the paths written, in the order of `formats`.

    **Raises:** `PolarflowError` for another format.
    """
    unknown = [f for f in formats if f not in _METADATA]
    if unknown:
        raise PolarflowError(
            f"A figure cannot be saved as {unknown[0]!r}; allowed are {', '.join(_METADATA)}."
        )
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    settle(figure)
    paths = [target / f"{name}.{f}" for f in formats]
    with style():
        for path, kind in zip(paths, formats, strict=True):
            figure.savefig(path, format=kind, dpi=RESOLUTION, metadata=_METADATA[kind])
    return paths


def sign_colours(sign: Iterable[float]) -> list[str]:
    """One colour per neuron, by the sign of its output weight a."""
    return [POSITIVE if s > 0 else NEGATIVE for s in sign]


def power_ticks(axis: "Axis", low: float, high: float) -> None:
    """Ticks for an axis whose coordinate is log10 of the quantity, between `low` and `high`.

    Unlike matplotlib's logarithmic scale it reaches beyond the range of a float.
    """
    places = power_places(low, high)
    if wants_powers(places):
        axis.set_ticks(places, [f"$10^{{{p:.0f}}}$" for p in places])
    else:
        axis.set_ticks(places, [power_label(p) for p in places])


def wants_powers(places: Sequence[float]) -> bool:
    """Whether ticks at these log10s all read better as powers of ten than as plain numbers."""
    whole = all(float(p).is_integer() for p in places)
    return whole and any(not -3 <= p <= 3 for p in places)


def power_places(low: float, high: float) -> list[float]:
    """Where to put ticks on an axis whose coordinate is log10 of the quantity.

    Whole powers of ten at a round spacing when the axis spans at least two of them, round numbers
    between them otherwise.
    """
    span = high - low
    if span >= 2.0:
        step = _round_step(span / 5.0)
        first = int(np.ceil(low / step)) * step
        return [float(k) for k in range(first, int(np.floor(high)) + 1, step)]
    multiples = (1, 2, 5) if span > 0.7 else np.arange(1.0, 10.0, 1.0 if span > 0.4 else 0.5)
    places = [
        float(exponent + np.log10(m))
        for exponent in range(int(np.floor(low)), int(np.ceil(high)) + 1)
        for m in multiples
    ]
    return [p for p in places if low <= p <= high]


def _round_step(raw: float) -> int:
    """The least of 1, 2, 5, 10, 20, 50, ... that is at least `raw`."""
    decade = 10 ** max(0, int(np.floor(np.log10(max(raw, 1.0)))))
    return next(k * decade for k in (1, 2, 5, 10) if k * decade >= raw - 1e-9)


def power_label(exponent: float, digits: int = 2) -> str:
    """The number 10^exponent as text: plain when short, else as a power of ten."""
    if -3 <= exponent < 5:
        return np.format_float_positional(
            10**exponent, precision=max(digits, 3), fractional=False, trim="-"
        )
    whole = int(np.floor(exponent + 1e-9))
    mantissa = f"{10 ** (exponent - whole):.{digits}g}"
    if mantissa == "10":
        mantissa, whole = "1", whole + 1
    factor = "" if mantissa == "1" else f"{mantissa}\\cdot "
    return f"${factor}10^{{{whole}}}$"


def number_label(value: float, digits: int = 3) -> str:
    """A number as text for titles and notes: plain when short, else with a power of ten."""
    if not np.isfinite(value) or value == 0.0:
        return f"{value:g}"
    sign = "\N{MINUS SIGN}" if value < 0 else ""
    return sign + power_label(float(np.log10(abs(value))), digits)


def time_label(log_time: float) -> str:
    """A flow time, given by its natural logarithm, as text for titles."""
    return "0" if np.isneginf(log_time) else power_label(log_time / float(np.log(10.0)), 4)
