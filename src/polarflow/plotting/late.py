"""The late phase of a classification: margins and alignment against ln(-ln loss)."""

from typing import TYPE_CHECKING

import numpy as np

from . import states, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset


def has_late(dataset: "Dataset") -> bool:
    """Whether a trajectory has a late phase to show: margins, and a loss below e^-1."""
    if "smoothed_margin" not in dataset:
        return False
    return bool(np.sum(states.values(dataset, "log_loss") < -1.0) > 2)


def late_figure(dataset: "Dataset") -> "Figure":
    """Normalised margins of all examples with the smoothed margin, and the alignment angle."""
    log_loss = states.values(dataset, "log_loss")
    late = log_loss < -1.0
    depth = np.log10(-log_loss[late])
    figure, (above, below) = style.new_figure(height=3.6, rows=2)
    with style.style():
        margins = states.values(dataset, "margin")[late]
        above.plot(depth, margins, color=style.GREY, linewidth=0.7)
        smoothed = states.values(dataset, "smoothed_margin")[late]
        above.plot(depth, smoothed, color=style.LOSS, label="smoothed")
        above.set_ylabel("margin / |w|$^L$")
        above.legend(loc="best", frameon=False)
        above.tick_params(labelbottom=False)
        angle = np.maximum(states.values(dataset, "alignment_angle")[late], 1e-17)
        below.semilogy(depth, angle, color=style.LOSS)
        below.set_ylabel("angle of w and −∇ℓ")
        below.set_xlabel("log$_{10}$(−ln loss)")
    return figure
