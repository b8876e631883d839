"""The flow in the limit of vanishing initialisation: its path from saddle to saddle."""

from ._assumption import Neighbourhood as Neighbourhood
from ._assumption import neighbourhood as neighbourhood
from ._path import saddle_path as saddle_path
from ._pursuit import PursuitStep as PursuitStep
from ._pursuit import pursue as pursue
from ._rest import RestPoint as RestPoint
from ._saddle import LimitSaddle as LimitSaddle
from ._saddle import SaddlePath as SaddlePath
from ._saddle import Tie as Tie
from ._smooth_rest import refine as refine
