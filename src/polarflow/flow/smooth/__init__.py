"""The smooth engine: networks of homogeneous blocks in three logs, by collocation or SUNDIALS."""

from ._engine import SmoothEngine as SmoothEngine
from ._split import smooth_engine as smooth_engine
from ._window import SmoothState as SmoothState
from ._window import SmoothWindow as SmoothWindow
