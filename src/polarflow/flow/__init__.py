"""The engines behind one trajectory: problem, stops, integration."""

from ._integrate import AT_REST as AT_REST
from ._integrate import FlowRecord as FlowRecord
from ._integrate import Progress as Progress
from ._integrate import Snapshot as Snapshot
from ._integrate import Visit as Visit
from ._integrate import integrate as integrate
from ._problem import Problem as Problem
from ._problem import problem as problem
from ._stop import Stop as Stop
from ._trajectory import Trajectory as Trajectory
