"""The kink-exact engine for two-layer (leaky) ReLU networks, in compiled loops."""

from ._engine import KinkExactEngine as KinkExactEngine
from ._state import KinkState as KinkState
