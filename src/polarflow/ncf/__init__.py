"""The neural correlation function of a block and its Clarke subdifferential."""

from ._two_layer import kkt_distance as kkt_distance
from ._two_layer import ncf as ncf
