"""The engines behind one trajectory: problem, stops, integration."""

from ._engine import Engine as Engine
from ._engine import Halt as Halt
from ._engine import Measure as Measure
from ._engine import State as State
from ._engine import Window as Window
from ._engine import polar_distance as polar_distance
from ._integrate import Progress as Progress
from ._integrate import integrate as integrate
from ._problem import Problem as Problem
from ._problem import problem as problem
from ._record import AT_REST as AT_REST
from ._record import FlowRecord as FlowRecord
from ._snapshot import Moment as Moment
from ._snapshot import Snapshot as Snapshot
from ._stop import Stop as Stop
from ._trajectory import Trajectory as Trajectory
from ._visits import Visit as Visit
