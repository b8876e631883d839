"""Networks as sums of homogeneous blocks, and the states of their weights."""

from ._initial import balanced as balanced
from ._initial import block_state as block_state
from ._state import BlockState as BlockState
from ._two_layer import TwoLayer as TwoLayer
