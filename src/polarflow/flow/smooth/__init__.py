"""The smooth engine: networks of homogeneous blocks in three logs, by SUNDIALS and JAX."""

from ._engine import SmoothEngine as SmoothEngine
from ._engine import SmoothState as SmoothState
from ._engine import SmoothWindow as SmoothWindow
