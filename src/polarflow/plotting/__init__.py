"""Figures and animations of a trajectory, made from its Dataset alone.

Every `draw_*` function draws on given matplotlib Axes, so that a paper's figure can be laid out
from them; `figures` and `draw_all` choose what applies to a run. matplotlib is imported with the
first drawing function, not with this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._collection import draw_all as draw_all
    from ._collection import figures as figures
    from .animation import animate as animate
    from .clock import TimeAxis as TimeAxis
    from .clock import Visit as Visit
    from .clock import frame_log_times as frame_log_times
    from .clock import key_moments as key_moments
    from .clock import time_axis as time_axis
    from .clock import visits as visits
    from .correlation import draw_ncf as draw_ncf
    from .correlation import ncf_figures as ncf_figures
    from .curves import draw_alignment as draw_alignment
    from .curves import draw_angles as draw_angles
    from .curves import draw_log_norms as draw_log_norms
    from .curves import draw_loss as draw_loss
    from .curves import draw_saddles as draw_saddles
    from .neurons import draw_neurons as draw_neurons
    from .neurons import draw_projection as draw_projection
    from .path import draw_path as draw_path
    from .path import path_figure as path_figure
    from .states import function_on_line as function_on_line
    from .states import kinks_and_heights as kinks_and_heights
    from .states import loss_at as loss_at
    from .states import on_a_line as on_a_line
    from .states import plane as plane
    from .states import state_at as state_at
    from .style import new_figure as new_figure
    from .style import save as save

_HOME = {
    "TimeAxis": ".clock",
    "Visit": ".clock",
    "animate": ".animation",
    "draw_alignment": ".curves",
    "draw_all": "._collection",
    "draw_angles": ".curves",
    "draw_log_norms": ".curves",
    "draw_loss": ".curves",
    "draw_ncf": ".correlation",
    "draw_neurons": ".neurons",
    "draw_path": ".path",
    "draw_projection": ".neurons",
    "draw_saddles": ".curves",
    "figures": "._collection",
    "frame_log_times": ".clock",
    "function_on_line": ".states",
    "key_moments": ".clock",
    "kinks_and_heights": ".states",
    "loss_at": ".states",
    "new_figure": ".style",
    "ncf_figures": ".correlation",
    "on_a_line": ".states",
    "path_figure": ".path",
    "plane": ".states",
    "save": ".style",
    "state_at": ".states",
    "time_axis": ".clock",
    "visits": ".clock",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(_HOME)
