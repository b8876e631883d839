"""Networks as sums of homogeneous blocks, and the states of their weights."""

from ._activation import Activation as Activation
from ._blocks import Group as Group
from ._blocks import Network as Network
from ._custom import Custom as Custom
from ._custom import from_equinox as from_equinox
from ._custom import from_flax as from_flax
from ._custom import from_function as from_function
from ._deep import Convolutional as Convolutional
from ._deep import Deep as Deep
from ._deep import Parallel as Parallel
from ._draws import FROZEN_STREAM as FROZEN_STREAM
from ._draws import equal_pairs as equal_pairs
from ._draws import gaussian as gaussian
from ._draws import sphere as sphere
from ._homogeneity import Homogeneity as Homogeneity
from ._homogeneity import check_homogeneity as check_homogeneity
from ._initial import balanced as balanced
from ._initial import block_state as block_state
from ._initial import dominated as dominated
from ._shallow import Diagonal as Diagonal
from ._shallow import SmoothTwoLayer as SmoothTwoLayer
from ._shallow import SquaredRelu as SquaredRelu
from ._state import BlockState as BlockState
from ._torch import from_torch as from_torch
from ._two_layer import TwoLayer as TwoLayer
