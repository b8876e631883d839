"""Pictures of all neurons at one time.

With one input and a bias a neuron is a point of the plane in which the learned function is drawn:
its kink against its height (Boursier et al. 2022, fig. 2). Otherwise hidden weights are projected
onto a fixed plane in polar layout (their fig. 6).
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from . import states, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from xarray import Dataset

MOST_VECTOR_STARS = 2000
CORE = 0.3
"""Radius of the inner circle of the polar layout, as a fraction of the largest projected norm."""


def line_window(dataset: "Dataset") -> tuple[tuple[float, float], tuple[float, float]]:
    """The x- and y-range that hold the data, the prominent final kinks and heights, and the final
    function between the data."""
    x, y = states.values(dataset, "x")[:, 0], states.values(dataset, "y")
    state = states.state_at(dataset)
    kinks, heights = states.kinks_and_heights(state)
    low, high = float(x.min()), float(x.max())
    reach = (high - low) or max(abs(low), 1.0)
    strong = states.prominent(dataset) & (np.abs(kinks - 0.5 * (low + high)) < 1.5 * reach)
    shown = np.concatenate([x, kinks[strong]])
    left, right = float(shown.min()), float(shown.max())
    pad = 0.25 * ((right - left) or reach)
    grid = np.linspace(low, high, 101)
    drawn = states.function_on_line(state, grid, states.activation_slope(dataset))
    tall = np.concatenate([y, heights, drawn, [0.0]])
    below, above = float(tall.min()), float(tall.max())
    rise = 0.12 * ((above - below) or 1.0)
    return (left - pad, right + pad), (below - rise, above + rise)


def function_points(
    window: tuple[float, float], kinks: Float[ndarray, " m"], most: int = 400
) -> Float[ndarray, " q"]:
    """Points of the window at which to evaluate a piecewise linear function: a grid and kinks."""
    inside = kinks[(kinks > window[0]) & (kinks < window[1])]
    if len(inside) > most:
        inside = inside[:: -(-len(inside) // most)]
    return np.sort(np.concatenate([np.linspace(*window, 101), inside]))


def draw_neurons(
    ax: "Axes",
    dataset: "Dataset",
    time: float | None = None,
    *,
    log_time: float | None = None,
    colour: str | None = None,
    window: tuple[tuple[float, float], tuple[float, float]] | None = None,
    function: bool = True,
    data: bool = True,
    note: bool = True,
) -> None:
    """Data, learned function and neurons at one time, as in Boursier et al. 2022, fig. 2.

    Dots are the data, the line is the learned function h, and each star is a neuron at its kink
    -w1/w0 with height s|w|.

    **Arguments:**

    - `ax`: Axes to draw on.
    - `dataset`: a trajectory with one input and a bias.
    - `time` or `log_time`: as in `state_at`; the end by default.
    - `colour`: of all stars; by default the sign of a decides.
    - `window`: the x- and y-range; by default the same for all times of the run.
    - `function`, `data`, `note`: whether to draw the learned function, the data, and a note on
      how many kinks lie outside the window.

    **Raises:** `PolarflowError` unless the network has one input and a bias.
    """
    if not states.on_a_line(dataset):
        raise PolarflowError(
            f"draw_neurons needs one input and a bias; this run has {dataset.sizes['input']} "
            f"inputs{', the bias among them' if states.has_bias(dataset) else ' and no bias'}: "
            "use draw_projection."
        )
    across, upright = window or line_window(dataset)
    state = states.state_at(dataset, time, log_time=log_time)
    kinks, heights = states.kinks_and_heights(state)
    ax.axhline(0.0, color=style.GREY, linewidth=0.4, zorder=0)
    if function:
        x = function_points(across, kinks)
        h = states.function_on_line(state, x, states.activation_slope(dataset))
        ax.plot(x, h, color=style.FUNCTION, linewidth=1.4, zorder=2)
    colours = colour or style.sign_colours(states.values(dataset, "sign"))
    _stars(ax, kinks, heights, colours)
    if data:
        points, y = states.values(dataset, "x")[:, 0], states.values(dataset, "y")
        ax.plot(points, y, "o", color=style.FUNCTION, markersize=4.5, zorder=4, clip_on=False)
    ax.set_xlim(*across)
    ax.set_ylim(*upright)
    outside = int(np.sum(~((kinks >= across[0]) & (kinks <= across[1]))))
    if note and outside:
        text = f"{outside} of {len(kinks)} kinks outside"
        ax.text(
            0.98, 0.02, text, transform=ax.transAxes, ha="right", va="bottom", fontsize=style.SMALL,
            color=style.GREY,
        )  # fmt: skip


def _stars(ax: "Axes", x: ndarray, y: ndarray, colours: str | list[str]) -> None:
    crowded = len(x) > MOST_VECTOR_STARS
    with np.errstate(invalid="ignore"):
        ax.scatter(
            np.where(np.isfinite(x), x, np.nan),
            y,
            s=8 if crowded else 30,
            marker="*",
            c=colours,
            alpha=0.35 if crowded else 0.65,
            linewidths=0,
            rasterized=crowded,
            zorder=3,
        )


def draw_projection(
    ax: "Axes",
    dataset: "Dataset",
    time: float | None = None,
    *,
    log_time: float | None = None,
    onto: states.Plane | None = None,
    largest: float | None = None,
    colours: tuple[str, str] = (style.POSITIVE, style.NEGATIVE),
) -> None:
    """Hidden weights projected onto a plane, in the polar layout of Boursier et al. 2022, fig. 6.

    The angle of a star is that of the projected weight; its distance from the inner circle is the
    projection's norm, so that neurons of vanishing norm still show their direction.

    **Arguments:**

    - `ax`: Axes to draw on; the aspect is made equal and the frame is hidden.
    - `dataset`, `time`, `log_time`: as in `state_at`.
    - `onto`: the plane; `plane(dataset)`, fixed by the final state, by default.
    - `largest`: projected norm of the outer circle; by default the largest at the end.
    - `colours`: for neurons with a > 0 and with a < 0.
    """
    from matplotlib.patches import Circle

    onto = onto or states.plane(dataset)
    largest = largest or largest_projection(dataset, onto)
    core = CORE * largest
    state = states.state_at(dataset, time, log_time=log_time)
    place = states.polar_positions(state, onto, core)
    for radius, width in ((core, 0.8), (core + 0.5 * largest, 0.4), (core + largest, 0.4)):
        ring = Circle((0, 0), radius, fill=False, edgecolor=style.GREY, linewidth=width, alpha=0.7)
        ax.add_patch(ring)
    for turn in np.arange(4) * np.pi / 2:
        spoke = np.array([core, core + largest])
        ax.plot(
            spoke * np.cos(turn), spoke * np.sin(turn), color=style.GREY, linewidth=0.3, zorder=0
        )
    ax.text(0, 0, "0", ha="center", va="center", fontsize=style.SMALL, color=style.GREY)
    for fraction in (0.5, 1.0):
        diagonal = float(core + fraction * largest) / 2**0.5
        ax.text(
            diagonal,
            diagonal,
            style.number_label(fraction * largest, 2),
            fontsize=style.SMALL,
            color=style.GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
            ha="center",
            va="center",
            zorder=1,
        )
    sign = states.values(dataset, "sign")
    _stars(ax, place[:, 0], place[:, 1], [colours[0] if s > 0 else colours[1] for s in sign])
    ax.set_aspect("equal")
    edge = 1.06 * (core + largest)
    ax.set_xlim(-edge, edge)
    ax.set_ylim(-edge, edge)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def largest_projection(dataset: "Dataset", onto: states.Plane) -> float:
    """The largest norm of a projected hidden weight at the end; 1 when all underflow."""
    state = states.state_at(dataset)
    with np.errstate(under="ignore"):
        sizes = np.exp(state.log_norm) * np.linalg.norm(state.direction[:, 1:] @ onto.basis, axis=1)
    top = float(sizes.max())
    return top if top > 1e-300 else 1.0
