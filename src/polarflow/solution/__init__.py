"""Following a gradient flow, and the solution that it leaves."""

from ._check import ErrorEstimate as ErrorEstimate
from ._engines import engine_above_rounding as engine_above_rounding
from ._gradient_flow import followed as followed
from ._gradient_flow import gradient_flow as gradient_flow
from ._solution import Events as Events
from ._solution import Solution as Solution
from ._solution import Work as Work
