"""The set of figures of a run: which apply, and under what names they are saved."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import states, style
from .clock import Moment, key_moments, time_axis
from .curves import draw_alignment, draw_angles, draw_log_norms, draw_loss, draw_saddles
from .late import has_late, late_figure
from .neurons import draw_neurons, draw_projection, largest_projection, line_window

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset


def figures(dataset: "Dataset") -> dict[str, "Figure"]:
    """The figures that apply to a run, by name.

    `loss` and `log_norms` always; `angles` when hidden weights have two components, `alignment`
    otherwise; `neurons` in the plane of the learned function when there is one input and a bias,
    else `projection`. Networks other than two-layer ones have `directions` instead. `late` is the
    late phase of a classification.
    """
    late = {"late": late_figure(dataset)} if has_late(dataset) else {}
    if not states.has_neurons(dataset):
        return {
            "loss": _loss(dataset),
            "log_norms": _log_norms(dataset),
            "directions": _directions(dataset),
            **late,
        }
    if dataset.sizes["input"] == 2:
        directions = {"angles": _angles(dataset)}
    else:
        directions = {"alignment": _alignment(dataset)}
    if states.on_a_line(dataset):
        neurons = {"neurons": _neurons(dataset)}
    else:
        neurons = {"projection": _projection(dataset)}
    return {
        "loss": _loss(dataset),
        "log_norms": _log_norms(dataset),
        **directions,
        **neurons,
        **late,
    }


def draw_all(dataset: "Dataset", folder: str | Path) -> list[Path]:
    """Draw all figures that apply and write them to `folder` as PDF and PNG.

    **Returns:** the paths written.
    """
    return [
        path
        for name, figure in figures(dataset).items()
        for path in style.save(figure, folder, name)
    ]


def _loss(dataset: "Dataset") -> "Figure":
    axis = time_axis(dataset)
    figure, (above, below) = style.new_figure(height=3.3, rows=2)
    with style.style():
        draw_loss(above, dataset, axis=axis)
        draw_loss(below, dataset, axis=axis, scale="log", saddles=False)
        draw_saddles(below, dataset, axis=axis, labels=False)
        above.set_xlabel("")
        above.tick_params(labelbottom=False)
    return figure


def _log_norms(dataset: "Dataset") -> "Figure":
    figure, (ax,) = style.new_figure()
    with style.style():
        draw_log_norms(ax, dataset)
    return figure


def _angles(dataset: "Dataset") -> "Figure":
    figure, (ax,) = style.new_figure()
    with style.style():
        draw_angles(ax, dataset)
    return figure


def _alignment(dataset: "Dataset") -> "Figure":
    axis = time_axis(dataset)
    figure, (above, below) = style.new_figure(height=3.7, rows=2)
    with style.style():
        draw_alignment(above, dataset, axis=axis, with_="final")
        draw_alignment(below, dataset, axis=axis, with_="first", saddles=False)
        draw_saddles(below, dataset, axis=axis, labels=False)
        below.set_title("", loc="right")
        legend = below.get_legend()
        if legend is not None:
            legend.remove()
        above.set_xlabel("")
        above.tick_params(labelbottom=False)
    return figure


def _directions(dataset: "Dataset") -> "Figure":
    figure, (ax,) = style.new_figure()
    with style.style():
        draw_alignment(ax, dataset)
    return figure


def _title(moment: Moment, letter: str) -> str:
    return f"({letter}) $t$ = {style.time_label(moment.log_time)}: {moment.name}"


def _legend(figure: "Figure", dataset: "Dataset", *, line: bool, note: str = "") -> None:
    """Say below the panels what dots, lines and stars are, under a note."""
    from matplotlib.lines import Line2D

    sign = states.values(dataset, "sign")
    star: dict[str, Any] = {
        "marker": "*",
        "linestyle": "none",
        "markersize": 6,
        "markeredgewidth": 0,
    }
    dot: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 4.5}
    handles = [
        Line2D([], [], color=style.FUNCTION, label="data", **dot),
        Line2D([], [], color=style.FUNCTION, label="learned function $h$"),
    ]
    handles = handles if line else []
    if (sign > 0).any():
        handles.append(Line2D([], [], color=style.POSITIVE, label="neurons, $a_j>0$", **star))
    if (sign < 0).any():
        handles.append(Line2D([], [], color=style.NEGATIVE, label="neurons, $a_j<0$", **star))
    with style.style():
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=4 if figure.get_figwidth() > 5 else 2,
            title=note or None,
        )


def _neurons(dataset: "Dataset") -> "Figure":
    moments = key_moments(dataset)
    window = line_window(dataset)
    rows = -(-len(moments) // 2)
    columns = min(len(moments), 2)
    figure, axes = style.new_figure(
        style.PAGE * (0.5 if columns == 1 else 1.0), 0.3 + 2.0 * rows, rows, columns,
        sharex=True, sharey=True,
    )  # fmt: skip
    with style.style():
        for k, ax in enumerate(axes):
            if k >= len(moments):
                ax.set_visible(False)
                continue
            draw_neurons(ax, dataset, log_time=moments[k].log_time, window=window)
            loss = states.loss_at(dataset, log_time=moments[k].log_time)
            ax.set_title(f"{_title(moments[k], 'abcdefgh'[k])}, loss {style.number_label(loss)}")
            if k % columns == 0:
                ax.set_ylabel(r"$h(x)$, neurons $s_j\|w_j\|$")
            if k + columns >= len(moments):
                ax.set_xlabel("input $x$, neurons' kinks")
                ax.tick_params(labelbottom=True)
    _legend(figure, dataset, line=True)
    return figure


def _projection(dataset: "Dataset") -> "Figure":
    moments = key_moments(dataset)
    onto = states.plane(dataset)
    largest = largest_projection(dataset, onto)
    columns = min(len(moments), 4)
    width = style.PAGE * columns / 4 if columns > 1 else style.COLUMN
    figure, axes = style.new_figure(width, 2.6, 1, columns)
    with style.style():
        for k, (ax, moment) in enumerate(zip(axes, moments, strict=True)):
            draw_projection(ax, dataset, log_time=moment.log_time, onto=onto, largest=largest)
            loss = states.loss_at(dataset, log_time=moment.log_time)
            ax.set_title(
                f"{_title(moment, 'abcdefgh'[k])}\nloss {style.number_label(loss)}", loc="center",
                fontsize=style.SMALL,
            )  # fmt: skip
    text = f"right: {onto.labels[0]}, up: {onto.labels[1]}"
    if dataset.sizes["input"] > 2:
        share = f"together {100 * onto.share:.0f} % of $\\|W\\|^2$ at the end"
        text += (", " if columns > 2 else "\n") + share
    _legend(figure, dataset, line=False, note=text)
    return figure
