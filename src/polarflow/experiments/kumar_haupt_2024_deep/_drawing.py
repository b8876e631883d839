"""Figures 1 to 5."""

from pathlib import Path

import numpy as np

from ._example import Evidence


def alignment(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figures 1 and 4: loss and norm, and the alignment."""
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
        for ax in axes:
            ax.set_xlabel("iterations")
            ax.ticklabel_format(axis="x", style="sci", scilimits=(0, 4))
    return save(figure, folder, "alignment")


def rows(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 2: the rows of W_1/|w| and W_2/|w| at start and end."""
    from ...plotting.style import PAGE, new_figure, save, style

    states = (e.solution.trajectory.state(0), e.solution.final.state(0))
    figure, axes = new_figure(PAGE, 2.6, 1, 4)
    with style():
        for k, (when, state) in enumerate(zip(("start", "end"), states, strict=True)):
            for layer, matrix in enumerate(e.matrices(state)):
                ax = axes[2 * layer + k]
                top = float(np.abs(matrix).max())
                ax.imshow(matrix, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
                ax.set_title(f"$W_{layer + 1}/\\|w\\|$, {when}")
                ax.set_xlabel("column")
        axes[0].set_ylabel("row")
    return save(figure, folder, "fig2")


def singular_values(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 3: singular values of both matrices at start and end."""
    from ...plotting.style import COLUMN, new_figure, save, style

    states = (e.solution.trajectory.state(0), e.solution.final.state(0))
    figure, axes = new_figure(2 * COLUMN, 2.3, 1, 2)
    with style():
        for when, state in zip(("start", "end"), states, strict=True):
            for ax, matrix in zip(axes, e.matrices(state), strict=True):
                values = np.linalg.svd(matrix, compute_uv=False)
                ax.plot(np.arange(1, len(values) + 1), values, marker="o", ms=3, label=when)
        for layer, ax in enumerate(axes):
            ax.set_title(f"singular values of $W_{layer + 1}/\\|w\\|$")
            ax.set_xlabel("index")
        axes[1].legend()
    return save(figure, folder, "fig3")


def final_rows(e: Evidence, folder: Path, quick: bool) -> list[Path]:
    """Figure 5: each row of W_1/|w|, W_2/|w| and W_3/|w| at the end as a curve."""
    from ...plotting.style import PAGE, new_figure, save, style

    matrices = e.matrices(e.solution.final.state(0))
    figure, axes = new_figure(PAGE, 2.4, 1, len(matrices))
    with style():
        for layer, (ax, matrix) in enumerate(zip(axes, matrices, strict=True)):
            ax.plot(np.arange(1, matrix.shape[1] + 1), matrix.T, linewidth=0.8)
            ax.set_title(f"rows of $W_{layer + 1}/\\|w\\|$, end")
            ax.set_xlabel("column")
    return save(figure, folder, "fig5")
