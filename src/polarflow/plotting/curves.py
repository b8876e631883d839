"""Pictures over time: the loss, the log-norms and the directions of all neurons.

Each function draws on given Axes and takes an optional `TimeAxis`, so that panels of one figure
share it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from . import states, style
from .clock import LN10, TimeAxis, Visit, time_axis, visits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

MOST_LINES = 400
MOST_POINTS = 600
MOST_VECTOR_LINES = 150


def draw_saddles(
    ax: "Axes", dataset: "Dataset", *, axis: TimeAxis | None = None, labels: bool = True
) -> None:
    """Shade the visits to saddles as bands over the whole height and number them above the axes."""
    axis = axis or time_axis(dataset)
    spans = [
        (axis.position(v.log_time_enter), axis.position(v.log_time_leave), v)
        for v in visits(dataset)
    ]
    for start, end, _ in spans:
        ax.axvspan(start, end, color=style.BAND, linewidth=0, zorder=0)
    if not (labels and spans):
        return
    middles = [0.5 * (float(start) + float(end)) for start, end, _ in spans]
    placed = _places(ax, axis, middles, [visit_name(v) for *_, v in spans])
    if len(placed) < len(spans):
        placed = _places(ax, axis, middles, [str(v.index) for *_, v in spans])
    for place, word in placed:
        ax.text(
            place,
            1.015,
            word,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=style.SMALL,
            color=style.GREY,
        )


def visit_name(visit: Visit) -> str:
    """What a visit is called: a saddle, or how the run ended in it."""
    from_start = np.isneginf(visit.log_time_enter)
    if visit.left or from_start:
        return f"saddle {visit.index}"
    return "at rest" if visit.rests else "not left"


def _places(
    ax: "Axes", axis: TimeAxis, middles: Sequence[float], words: Sequence[str]
) -> list[tuple[float, str]]:
    """Positions of the labels that fit side by side within the axes."""
    inches = ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]
    letter = 0.5 * style.SMALL / 72.0 * (axis.end - axis.start) / inches
    placed, last = [], -np.inf
    for middle, word in zip(middles, words, strict=True):
        half = 0.5 * (len(word) + 0.5) * letter
        place = min(max(middle, axis.start + half), axis.end - half)
        if place - half >= last:
            placed.append((place, word))
            last = place + half
    return placed


def _dress_time(ax: "Axes", axis: TimeAxis) -> None:
    ax.set_xlim(axis.start, axis.end)
    ax.set_xlabel(axis.label)
    if axis.logarithmic:
        style.power_ticks(ax.xaxis, axis.start, axis.end)


def draw_loss(
    ax: "Axes",
    dataset: "Dataset",
    *,
    axis: TimeAxis | None = None,
    scale: Literal["linear", "log"] = "linear",
    saddles: bool = True,
    colour: str = style.LOSS,
    label: str | None = None,
) -> None:
    """The loss over time: a staircase of saddles when the initialisation is small.

    **Arguments:**

    - `ax`: Axes to draw on.
    - `dataset`: a trajectory.
    - `axis`: the time axis; `time_axis(dataset)` by default.
    - `scale`: `"linear"`, or `"log"` for the base-10 logarithm of the loss.
    - `saddles`: shade and number the visits to saddles.
    - `colour`, `label`: of the line.

    **Raises:** `PolarflowError` for another scale.
    """
    if scale not in ("linear", "log"):
        raise PolarflowError(f'scale is {scale!r}; allowed are "linear" and "log".')
    axis = axis or time_axis(dataset)
    position = axis.point(states.values(dataset, "log_time"))
    if scale == "linear":
        loss = states.values(dataset, "loss")
    else:
        loss = states.values(dataset, "log_loss") / LN10
        loss = np.where(np.isfinite(loss), loss, np.nan)
    _dress_time(ax, axis)
    if saddles:
        draw_saddles(ax, dataset, axis=axis)
    marker = "o" if len(position) == 1 else None
    ax.plot(position, loss, color=colour, label=label, marker=marker, clip_on=False, zorder=3)
    seen = loss[np.isfinite(loss)]
    if scale == "linear":
        top = float(seen.max()) if len(seen) and seen.max() > 0 else 1.0
        ax.set_ylim(0.0, 1.06 * top)
        ax.set_ylabel("loss")
    elif len(seen):
        _power_limits(ax, float(seen.min()), float(seen.max()))
        ax.set_ylabel("loss (log scale)")


def _power_limits(ax: "Axes", low: float, high: float) -> None:
    margin = max(0.04 * (high - low), 0.25 - 0.5 * (high - low), 0.02)
    ax.set_ylim(low - margin, high + margin)
    style.power_ticks(ax.yaxis, low - margin, high + margin)


def _draw_lines(
    ax: "Axes",
    dataset: "Dataset",
    position: Float[ndarray, " T"],
    height: Float[ndarray, "T k"],
    blocks: ndarray,
) -> None:
    """One line per neuron, coloured by the sign of a; prominent neurons above the others."""
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    sign, strong = states.values(dataset, "sign")[blocks], states.prominent(dataset)[blocks]
    crowded = len(blocks) > MOST_VECTOR_LINES
    for strength, width, alpha in ((False, 0.5, 0.3), (True, 0.9, 0.4 if crowded else 0.75)):
        for side, colour in ((1, style.POSITIVE), (-1, style.NEGATIVE)):
            mine = (strong == strength) & ((sign > 0) == (side > 0))
            if not mine.any():
                continue
            if len(position) == 1:
                points = np.repeat(position, mine.sum())
                ax.scatter(points, height[0, mine], s=6, color=colour, alpha=alpha, clip_on=False)
                continue
            lines = np.empty((int(mine.sum()), len(position), 2))
            lines[..., 0], lines[..., 1] = position, height[:, mine].T
            bundle = LineCollection(
                list(lines), colors=colour, linewidths=width, alpha=alpha, rasterized=crowded
            )
            ax.add_collection(bundle, autolim=False)
    handles = [
        Line2D([], [], color=colour, label=text)
        for side, colour, text in (
            (1, style.POSITIVE, "$a_j>0$"),
            (-1, style.NEGATIVE, "$a_j<0$"),
        )
        if ((sign > 0) == (side > 0)).any()
    ]
    neurons = states.has_neurons(dataset)
    if neurons:
        ax.legend(
            handles=handles, ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.05), borderpad=0.0
        )
    if len(blocks) < dataset.sizes["block"]:
        name = "neurons" if neurons else "blocks"
        text = f"{len(blocks)} of {dataset.sizes['block']} {name} shown"
        ax.set_title(text, loc="right", fontsize=style.SMALL, color=style.GREY, pad=11)


def _selection(dataset: "Dataset", axis: TimeAxis) -> tuple[ndarray, ndarray, Float[ndarray, " T"]]:
    blocks = states.chosen_blocks(dataset, MOST_LINES)
    times = states.chosen_times(dataset, MOST_POINTS)
    return blocks, times, axis.point(states.values(dataset, "log_time")[times])


def draw_log_norms(
    ax: "Axes", dataset: "Dataset", *, axis: TimeAxis | None = None, saddles: bool = True
) -> None:
    """The norms |(a_j, w_j)| of all neurons over time, on a logarithmic axis of any reach.

    On a plateau a log-norm is a straight line whose slope is the neuron's growth rate N_r(v)·2.
    """
    axis = axis or time_axis(dataset)
    blocks, times, position = _selection(dataset, axis)
    height = states.values(dataset, "log_norm")[np.ix_(times, blocks)] / LN10
    height = np.where(np.isfinite(height), height, np.nan)
    _dress_time(ax, axis)
    if saddles:
        draw_saddles(ax, dataset, axis=axis)
    _draw_lines(ax, dataset, position, height, blocks)
    if np.isfinite(height).any():
        _power_limits(ax, float(np.nanmin(height)), float(np.nanmax(height)))
    if states.has_neurons(dataset):
        ax.set_ylabel(r"norm of neuron $\|(a_j,w_j)\|$")
    else:
        ax.set_ylabel(r"norm of block $\|w_j\|$")


def draw_angles(
    ax: "Axes", dataset: "Dataset", *, axis: TimeAxis | None = None, saddles: bool = True
) -> None:
    """The angles of two-dimensional hidden weights w_j over time, in radians.

    Dotted lines are the kinks w·x_k = 0 of the examples: between them the field is smooth.

    **Raises:** `PolarflowError` unless the weights have two components, the bias among them.
    """
    if dataset.sizes["input"] != 2:
        raise PolarflowError(
            f"Angles need hidden weights of 2 components, bias included; "
            f"these have {dataset.sizes['input']}: use draw_alignment."
        )
    axis = axis or time_axis(dataset)
    blocks, times, position = _selection(dataset, axis)
    angle = states.hidden_angles(states.values(dataset, "direction")[np.ix_(times, blocks)])
    jump = np.zeros_like(angle, dtype=bool)
    jump[1:] = np.abs(np.diff(angle, axis=0)) > np.pi
    _dress_time(ax, axis)
    if saddles:
        draw_saddles(ax, dataset, axis=axis)
    x = states.values(dataset, "x")
    if len(x) <= 12:
        normal = np.arctan2(x[:, 1], x[:, 0])[:, None] + 0.5 * np.pi * np.array([-1.0, 1.0])
        wrapped = np.arctan2(np.sin(normal), np.cos(normal)).ravel()
        for line in np.unique(wrapped.round(12)):
            ax.axhline(line, color=style.GREY, linewidth=0.6, linestyle=":", zorder=1)
    _draw_lines(ax, dataset, position, np.where(jump, np.nan, angle), blocks)
    ax.set_ylim(-np.pi, np.pi)
    ax.set_yticks(
        [-np.pi, -np.pi / 2, 0, np.pi / 2, np.pi],
        [r"$-\pi$", r"$-\pi/2$", "0", r"$\pi/2$", r"$\pi$"],
    )
    ax.set_ylabel("angle of $w_j$ [rad]")


def draw_alignment(
    ax: "Axes",
    dataset: "Dataset",
    *,
    with_: Literal["final", "first", "second"] = "final",
    axis: TimeAxis | None = None,
    saddles: bool = True,
) -> None:
    """The cosine of each hidden weight's angle with a fixed direction, over time.

    For networks other than two-layer ones, that of each whole block's.

    **Arguments:**

    - `with_`: `"final"`, each neuron's own final direction; `"first"` or `"second"`, the first or
      second principal component of all final hidden weights (see `plane`).
    - the others as in `draw_loss`.

    **Raises:** `PolarflowError` for another direction.
    """
    if with_ not in ("final", "first", "second"):
        raise PolarflowError(f'with_ is {with_!r}; allowed are "final", "first" and "second".')
    axis = axis or time_axis(dataset)
    blocks, times, position = _selection(dataset, axis)
    direction = states.values(dataset, "direction")
    first = 1 if states.has_neurons(dataset) else 0
    w = direction[np.ix_(times, blocks)][..., first:]
    w = w / np.maximum(np.linalg.norm(w, axis=-1, keepdims=True), 1e-300)
    if with_ == "final":
        last = direction[-1, blocks, first:]
        fixed = last / np.maximum(np.linalg.norm(last, axis=-1, keepdims=True), 1e-300)
        cosine, text = (w * fixed).sum(axis=-1), "cosine with final direction"
    else:
        column = 0 if with_ == "first" else 1
        cosine = w @ states.plane(dataset).basis[:, column]
        text = f"cosine with {with_} component"
    _dress_time(ax, axis)
    if saddles:
        draw_saddles(ax, dataset, axis=axis)
    _draw_lines(ax, dataset, position, cosine, blocks)
    ax.set_ylim(-1.05, 1.05)
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.set_ylabel(text)
