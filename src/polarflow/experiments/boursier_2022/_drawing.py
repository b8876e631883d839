"""The figures in the paper's layout, with gradient descent drawn over the flow."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._overlay import DASHES, DOTS, label
from . import _lazy as lazy
from ._setting import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...plotting import TimeAxis

FLOW = "flow"
FILM_FRAMES = 240


def two_point_states(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 2: four frames, and a film."""
    titles = {
        0: "initialisation",
        4000: "end of first phase",
        8000: "end of second phase",
        15000: "end of third phase",
    }
    from ...plotting.style import PAGE, new_figure, save, style

    figure, axes = new_figure(PAGE, 4.2, 2, 2, sharex=True, sharey=True)
    with style():
        for ax, letter, (iteration, title) in zip(axes, "abcd", titles.items(), strict=True):
            _frame(ax, e, iteration, f"({letter}) {title}", descent=iteration > 0)
        _label_edges(axes, columns=2)
        axes[-1].legend(loc="lower right", bbox_to_anchor=(1.0, 0.06))
    return [*save(figure, folder, "fig2"), *_film(e, folder, "fig2", quick)]


def two_point_loss(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 3: the loss against iterations."""
    from ...plotting.style import COLUMN, new_figure, save, style

    figure, (ax,) = new_figure(COLUMN, 2.3)
    with style():
        _loss(ax, e)
    return save(figure, folder, "fig3")


def five_point_states(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 4: five frames, the loss, and a film."""
    titles = {
        0: "initialisation",
        15000: "end of early alignment",
        94000: "intermediate saddle",
        150000: "growth and realignment",
        300000: "final state",
    }
    from ...plotting.style import PAGE, new_figure, save, style

    figure, axes = new_figure(PAGE, 4.4, 2, 3)
    with style():
        for ax, letter, (iteration, title) in zip(axes, "abcde", titles.items(), strict=False):
            _frame(ax, e, iteration, f"({letter}) {title}\n", descent=iteration > 0)
        _label_edges(axes, columns=3)
        _loss(axes[5], e)
        axes[5].set_title("(f) loss", pad=12)
    return [*save(figure, folder, "fig4"), *_film(e, folder, "fig4", quick)]


def lazy_states(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 5: the start and the end, with the interpolant of the NTK; and the loss beside."""
    from ...plotting.neurons import line_window
    from ...plotting.style import GREY, PAGE, new_figure, save, style

    _, upright = line_window(e.dataset)
    x = lazy.line()
    start = e.problem.network.predict(e.state(0), x)
    window = (lazy.WINDOW, upright)
    figure, axes = new_figure(PAGE, 2.4, 1, 3)
    with style():
        for ax, letter, (iteration, title) in zip(
            axes, "ab", {0: "initialisation", lazy.END: "end of training"}.items(), strict=False
        ):
            _frame(ax, e, iteration, f"({letter}) {title}", descent=False, window=window)
        note = f"$h$ is out of view, from {start.min():.0f} to {start.max():.0f}"
        axes[0].text(
            0.02, 0.98, note, transform=axes[0].transAxes, va="top", fontsize=5.5, color=GREY
        )
        axes[1].plot(
            x[:, 0], lazy.interpolant(e)(x), color=GREY, linewidth=1.0, linestyle=DASHES, zorder=5,
            label="NTK interpolant",
        )  # fmt: skip
        _label_edges(axes[:2], columns=3)
        axes[1].legend(loc="upper right")
        _loss(axes[2], e, scale="log")
        axes[2].set_title("(c) loss")
    return save(figure, folder, "fig5")


def _frame(
    ax: "Axes",
    e: Evidence,
    iteration: int,
    title: str,
    *,
    descent: bool,
    window: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> None:
    """The network at an iteration, and the function that gradient descent has learned there."""
    from ...plotting import draw_neurons
    from ...plotting.style import DESCENT

    draw_neurons(ax, e.dataset, iteration * e.setting.step, window=window)
    ax.set_title(f"{title}{'' if title.endswith(chr(10)) else ', '}iteration {iteration}")
    if descent:
        at = int(np.searchsorted(e.descent.iteration, iteration))
        x = np.linspace(*ax.get_xlim(), 801)
        inputs = np.stack([x, np.ones_like(x)], axis=1)
        learned = e.problem.network.predict(e.descent.trajectory.state(at), inputs)
        ax.plot(
            x, learned, color=DESCENT, linewidth=1.0, linestyle=DASHES, zorder=5,
            label=label(e.setting.step),
        )  # fmt: skip


def _label_edges(axes: "list[Axes]", columns: int) -> None:
    for k, ax in enumerate(axes):
        if k % columns == 0:
            ax.set_ylabel(r"$h(x)$, neurons $s_j\|w_j\|$")
        if k + columns >= len(axes):
            ax.set_xlabel("input $x$, neurons' kinks")


def _iterations(e: Evidence) -> "TimeAxis":
    from ...plotting import time_axis

    step = e.setting.step
    return time_axis(e.dataset, "linear", unit=step, label=f"iterations of step {step:g}")


def _loss(ax: "Axes", e: Evidence, scale: str = "linear") -> None:
    """The loss of the flow and of gradient descent against iterations."""
    from ...plotting import draw_loss
    from ...plotting.style import DESCENT

    draw_loss(ax, e.dataset, axis=_iterations(e), scale=scale, label=FLOW)  # type: ignore[arg-type]
    for run, dashes in ((e.descent, DASHES), (e.finer_descent, DOTS)):
        loss = run.trajectory.loss
        with np.errstate(divide="ignore"):
            shown = loss if scale == "linear" else np.log10(loss)
        ax.plot(
            e.descent.iteration, shown, color=DESCENT, linewidth=1.0, linestyle=dashes,
            zorder=4, label=label(run.step),
        )  # fmt: skip
    ax.legend(loc="upper right")


def _film(e: Evidence, folder: Path, name: str, quick: bool) -> list[Path]:
    if quick:
        return []
    from ...plotting import animate

    return [animate(e.dataset, folder / name, frames=FILM_FRAMES)]
