"""Figures 1 to 5."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._overlay import DOTS, label
from ._example import Evidence

if TYPE_CHECKING:
    from ...networks import BlockState


def alignment(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figures 1 and 4: loss and norm, and the alignment, of the flow and of gradient descent."""
    from ...plotting.style import PAGE, new_figure, save, style

    path = e.solution.trajectory
    iteration = path.time / e.step
    figure, axes = new_figure(PAGE, 2.3, 1, 3)
    with style():
        axes[0].plot(iteration, path.loss / path.loss[0], color="black")
        axes[0].set_ylim(0.0, 1.05)
        axes[0].set_ylabel("loss over its start")
        axes[1].plot(iteration, np.exp(path.log_param_norm), color="black")
        axes[1].set_ylabel(r"norm $\|w\|$")
        axes[2].plot(iteration, e.alignment, color="black")
        axes[2].set_ylabel(r"cosine of $w$ and $\nabla N(w)$")
        e.overlay.draw(axes[0], lambda t: t.loss / t.loss[0])
        e.overlay.draw(axes[1], lambda t: np.exp(t.log_param_norm))
        e.overlay.draw(axes[2], e.cosines)
        axes[0].legend(loc="lower left")
        for ax in axes:
            ax.set_xlabel("iterations")
            ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    return save(figure, folder, "alignment")


def _ends(e: Evidence) -> "dict[str, BlockState]":
    """The flow at start and end, and gradient descent at the end."""
    return {
        "start": e.solution.trajectory.state(0),
        "end": e.solution.final.state(0),
        f"GD, step {e.overlay.step:g}": e.overlay.descent.trajectory.state(-1),
    }


def rows(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 2: the rows of W_1/|w| and W_2/|w| at start and end."""
    from ...plotting.style import PAGE, new_figure, save, style

    figure, axes = new_figure(PAGE, 4.6, 2, 3)
    with style():
        for column, (when, state) in enumerate(_ends(e).items()):
            for layer, matrix in enumerate(e.matrices(state)):
                ax = axes[3 * layer + column]
                top = float(np.abs(matrix).max())
                ax.imshow(matrix, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
                ax.set_title(f"$W_{layer + 1}/\\|w\\|$, {when}")
        for ax in axes:
            ax.locator_params(integer=True)
        for ax in axes[3:]:
            ax.set_xlabel("column")
        for ax in axes[::3]:
            ax.set_ylabel("row")
    return save(figure, folder, "fig2")


def singular_values(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 3: singular values of both matrices at start and end."""
    from ...plotting.style import COLUMN, new_figure, save, style

    figure, axes = new_figure(2 * COLUMN, 2.3, 1, 2)
    with style():
        for (when, state), look in zip(_ends(e).items(), ("o-", "o-", "x"), strict=True):
            for ax, matrix in zip(axes, e.matrices(state), strict=True):
                values = np.linalg.svd(matrix, compute_uv=False)
                ax.plot(np.arange(1, len(values) + 1), values, look, ms=4, label=when)
        for layer, ax in enumerate(axes):
            ax.set_title(f"singular values of $W_{layer + 1}/\\|w\\|$")
            ax.set_xlabel("index")
            ax.locator_params(axis="x", integer=True)
        axes[1].legend()
    return save(figure, folder, "fig3")


def final_rows(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 5: each row of W_1/|w|, W_2/|w| and W_3/|w| at the end as a curve."""
    from ...plotting.style import DESCENT, PAGE, new_figure, save, style

    matrices = e.matrices(e.solution.final.state(0))
    descended = e.matrices(e.overlay.descent.trajectory.state(-1))
    figure, axes = new_figure(PAGE, 2.4, 1, len(matrices))
    with style():
        for layer, (ax, *both) in enumerate(zip(axes, matrices, descended, strict=True)):
            column = np.arange(1, both[0].shape[1] + 1)
            ax.plot(column, both[0].T, linewidth=0.8)
            ax.plot(column, both[1].T, color=DESCENT, linewidth=0.8, linestyle=DOTS)
            ax.lines[-1].set_label(label(e.overlay.step))
            ax.set_title(f"rows of $W_{layer + 1}/\\|w\\|$, end")
            ax.set_xlabel("column")
        handles, names = axes[-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center")
    return save(figure, folder, "fig5")
