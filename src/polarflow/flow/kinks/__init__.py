"""The kink-exact engine for two-layer (leaky) ReLU networks, in compiled loops."""

from ._engine import KinkExactEngine as KinkExactEngine
from ._error import CapError as CapError
from ._state import KinkState as KinkState
from ._state import Plateau as Plateau
