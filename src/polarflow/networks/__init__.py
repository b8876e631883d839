"""Networks as sums of homogeneous blocks, and the states of their weights."""

from ._activation import Activation as Activation
from ._blocks import Group as Group
from ._blocks import Network as Network
from ._deep import Convolutional as Convolutional
from ._deep import Deep as Deep
from ._deep import Parallel as Parallel
from ._draws import equal_pairs as equal_pairs
from ._draws import gaussian as gaussian
from ._draws import sphere as sphere
from ._initial import balanced as balanced
from ._initial import block_state as block_state
from ._initial import dominated as dominated
from ._shallow import Diagonal as Diagonal
from ._shallow import SmoothTwoLayer as SmoothTwoLayer
from ._shallow import SquaredRelu as SquaredRelu
from ._state import BlockState as BlockState
from ._two_layer import TwoLayer as TwoLayer
