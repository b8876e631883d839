"""Figures 6 and 7 in the paper's layout."""

from pathlib import Path

import numpy as np

from .._overlay import DASHES, DOTS
from ._high_dimension import ALIGNED, END, FIRST_GROWN, Evidence

COMPONENTS = 10


def states(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 6: projected hidden weights at four frames."""
    from ...plotting import draw_projection
    from ...plotting.style import NEGATIVE, PAGE, POSITIVE, new_figure, save, style

    titles = {
        0: "initialisation",
        ALIGNED: "end of alignment phase",
        FIRST_GROWN: "growth of first cluster",
        END: "final state",
    }
    figure, axes = new_figure(PAGE * 0.8, 5.9, 2, 2)
    with style():
        for ax, letter, (iteration, title) in zip(axes, "abcd", titles.items(), strict=True):
            draw_projection(ax, e.dataset, iteration * e.step)
            ax.set_title(f"({letter}) {title}, iteration {iteration}")
        stars = [
            axes[0].plot([], [], marker="*", linestyle="none", color=colour, label=label)[0]
            for colour, label in ((POSITIVE, "$a_j>0$"), (NEGATIVE, "$a_j<0$"))
        ]
        figure.legend(handles=stars, loc="outside lower center", ncols=2)
    return save(figure, folder, "fig6")


def loss_and_variance(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 7: the loss, and the explained variance of the final weights."""
    from ...plotting import draw_loss, time_axis
    from ...plotting.style import DESCENT, FUNCTION, PAGE, new_figure, save, style

    figure, (left, right) = new_figure(PAGE, 2.5, 1, 2)
    with style():
        axis = time_axis(e.dataset, "linear", unit=e.step, label=f"iterations of step {e.step:g}")
        draw_loss(left, e.dataset, axis=axis, scale="linear", label="flow")
        if not quick:
            for run, dashes, label in (
                (e.descent, DASHES, "gradient descent, float64"),
                (e.single_descent, DOTS, "gradient descent, float32"),
            ):
                left.plot(
                    run.iteration, run.trajectory.loss, color=DESCENT, linewidth=1.0,
                    linestyle=dashes, zorder=4, label=label,
                )  # fmt: skip
        left.legend(loc="upper right")
        left.set_title("(a) loss profile", pad=12)
        number = np.arange(1, COMPONENTS + 1)
        right.bar(number, e.explained[:COMPONENTS], color=FUNCTION, width=0.7)
        right.plot(
            number, np.cumsum(e.explained)[:COMPONENTS], "k.-", linewidth=0.8, markersize=4,
            label="cumulated",
        )  # fmt: skip
        right.set_xticks(number)
        right.set_ylim(0.0, 1.04)
        right.set_xlabel("principal component")
        right.set_ylabel("explained variance ratio")
        right.set_title("(b) final hidden weights", pad=12)
        right.legend(loc="center right")
    return save(figure, folder, "fig7")
