"""The path in the limit of vanishing initialisation: its staircase of losses over scaled time.

It is drawn from the `saddles` of its summary, as the other pictures are from a trajectory.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style
from .clock import LN10

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Escape rates whose quotient exceeds this have a logarithmic axis.
_WIDE = 30.0


def draw_path(ax: "Axes", saddles: Sequence[Mapping[str, Any]]) -> None:
    """The loss at every rest point for as long as the path stays there.

    Time is in units of -ln(delta), or of delta^-(L - 2) where all saddles are left on that scale;
    of saddles that are left on several scales, the order is drawn.

    **Arguments:**

    - `ax`: Axes to draw on.
    - `saddles`: entries of the path's summary, the last rest point included.
    """
    losses = [float(s["loss"]) for s in saddles]
    start, leave, end = _places(ax, saddles)
    edges = [start, *leave, end]
    with style.style():
        ax.stairs(losses, edges, baseline=None, color=style.LOSS, linewidth=1.2)
        for place, upper, lower in zip(leave, losses, losses[1:], strict=False):
            ax.plot([place], [upper], "o", color=style.POSITIVE, markersize=3.5, clip_on=False)
            ax.plot([place], [lower], "o", color=style.POSITIVE, markersize=3.5, fillstyle="none")
        top = max(losses) or 1.0
        ax.set_xlim(start, end)
        ax.set_ylim(-0.03 * top, 1.06 * top)
        ax.set_ylabel("loss")
        _name(ax, edges, losses, top)


def path_figure(saddles: Sequence[Mapping[str, Any]]) -> "Figure":
    """The staircase as a figure."""
    figure, (ax,) = style.new_figure(style.PAGE, 2.6)
    draw_path(ax, saddles)
    return figure


def _places(ax: "Axes", saddles: Sequence[Mapping[str, Any]]) -> tuple[float, list[float], float]:
    """Where the axis begins, where each saddle is left, where the axis ends; the axis is named."""
    left = [s for s in saddles if s.get("log_escape_rate") is not None]
    # A path that was broken off may have left its last saddle.
    left = left[: max(len(saddles) - 1, 0)]
    orders = {s["escape_order"] for s in left}
    logs = np.array([float(s["log_escape_rate"]) for s in left])
    with style.style():
        if len(left) == 0:
            ax.set_xticks([])
            ax.set_xlabel("no rest point is left")
            return 0.0, [], 1.0
        if len(orders) > 1 or len(left) < len(saddles) - 1:
            ax.set_xlabel("saddles left, on time scales of their own")
            ax.set_xticks(range(len(saddles)))
            return 0.0, [float(k + 1) for k in range(len(saddles) - 1)], float(len(saddles))
        unit = _unit(orders.pop())
        wide = float(np.ptp(logs)) > np.log(_WIDE) or not np.all(np.abs(logs) < 600.0)
        if not wide:
            rates = np.exp(logs)
            ax.set_xlabel(f"time / {unit}")
            return 0.0, rates.tolist(), 1.2 * float(rates.max())
        places = logs / LN10
        start, end = float(places.min()) - 0.5, float(places.max()) + 0.5
        ax.set_xlabel(f"time / {unit}")
        style.power_ticks(ax.xaxis, start, end)
        return start, places.tolist(), end


def _unit(order: float) -> str:
    if order == 2:
        return "(−ln δ)"
    return rf"$\delta^{{-{order - 2:g}}}$"


def _name(ax: "Axes", edges: list[float], losses: list[float], top: float) -> None:
    """The numbers of the rest points that have room for one."""
    width = edges[-1] - edges[0]
    for k, (a, b, loss) in enumerate(zip(edges, edges[1:], losses, strict=False)):
        if b - a > 0.02 * width:
            ax.text(0.5 * (a + b), loss + 0.02 * top, str(k), ha="center", va="bottom",
                    fontsize=style.SMALL, color=style.GREY)  # fmt: skip
