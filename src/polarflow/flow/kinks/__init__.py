"""The kink-exact engine for two-layer (leaky) ReLU networks, in compiled loops."""

from ._engine import KinkExactEngine as KinkExactEngine
from ._engine import KinkState as KinkState
from ._engine import Measure as Measure
from ._error import CapError as CapError
