"""The neural correlation function of a block, its Clarke subdifferential and its KKT points."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._two_layer import kkt_distance as kkt_distance
from ._two_layer import ncf as ncf

if TYPE_CHECKING:
    from ._find import check_target as check_target
    from ._find import kkt_points as kkt_points
    from ._local import LocalNCF as LocalNCF
    from ._local import local_ncf as local_ncf
    from ._points import KKTPoint as KKTPoint
    from ._points import KKTSet as KKTSet
    from ._search import flow_limits as flow_limits
    from ._search import search_points as search_points
    from ._squared_points import squared_points as squared_points
    from ._two_layer_points import two_layer_points as two_layer_points
    from ._walk import two_layer_search as two_layer_search

_HOME = {
    "KKTPoint": "._points",
    "KKTSet": "._points",
    "LocalNCF": "._local",
    "check_target": "._find",
    "flow_limits": "._search",
    "kkt_points": "._find",
    "local_ncf": "._local",
    "search_points": "._search",
    "squared_points": "._squared_points",
    "two_layer_points": "._two_layer_points",
    "two_layer_search": "._walk",
}

__all__ = ["kkt_distance", "ncf", *_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
