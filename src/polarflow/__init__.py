"""Exact gradient flow of homogeneous neural networks, from a vanishing initialisation on.

`import polarflow` is light: a name below is imported from its room when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data import Data as Data
    from .errors import PolarflowError as PolarflowError
    from .errors import SpecError as SpecError
    from .flow import Problem as Problem
    from .flow import Progress as Progress
    from .flow import Stop as Stop
    from .flow import Trajectory as Trajectory
    from .flow import problem as problem
    from .losses import Correlation as Correlation
    from .losses import CrossEntropy as CrossEntropy
    from .losses import Exponential as Exponential
    from .losses import Logistic as Logistic
    from .losses import Square as Square
    from .networks import BlockState as BlockState
    from .networks import TwoLayer as TwoLayer
    from .networks import balanced as balanced
    from .networks import block_state as block_state
    from .saddles import Saddle as Saddle
    from .solution import Solution as Solution
    from .solution import gradient_flow as gradient_flow

#: Every public name, and the room it comes from.
_ROOMS = {
    "Data": "data",
    "PolarflowError": "errors",
    "SpecError": "errors",
    "Problem": "flow",
    "Progress": "flow",
    "Solution": "solution",
    "Stop": "flow",
    "Trajectory": "flow",
    "gradient_flow": "solution",
    "problem": "flow",
    "Correlation": "losses",
    "CrossEntropy": "losses",
    "Exponential": "losses",
    "Logistic": "losses",
    "Square": "losses",
    "BlockState": "networks",
    "TwoLayer": "networks",
    "balanced": "networks",
    "block_state": "networks",
    "Saddle": "saddles",
}

#: Rooms that are at hand as attributes.
_OPEN = (
    "comparators", "data", "errors", "flow", "limit", "losses", "margins", "ncf", "networks",
    "plotting", "saddles", "solution", "spec", "store",
)  # fmt: skip

__all__ = ["__version__", *_ROOMS]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("polarflow")
    elif name in _ROOMS:
        value = getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    elif name in _OPEN:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_OPEN})
