"""What an engine is: the interface between an engine and the driver that follows a flow with it.

The driver (`_integrate.py`) knows only what stands here; it records, locates stops and visits to
saddles, and counts. An engine knows one kind of network, and how to advance its state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy import ndarray

from ..networks import BlockState


class State(Protocol):
    """The weights at one time, in the engine's own form; never changed once made."""

    @property
    def time(self) -> float:
        """The flow's time; inf where a float can't hold it."""

    @property
    def log_time(self) -> float:
        """Its natural logarithm; -inf at time zero."""


@dataclass(frozen=True)
class Measure:
    """What is measured at a state; sizes are natural logarithms, -inf for zero.

    **Attributes:**

    - `prediction`: the network at the examples, shape `(n,)`, or `(n, C)` with C outputs.
    - `residual`: r/|r| with r = -dl/dh, of the same shape; zero where r vanishes.
    - `log_residual`, `log_loss`, `log_grad_norm`: of |r|, of the loss, of |grad l|.
    - `rest`: |grad l|^2 / (Lambda l), Lambda an upper bound of the speed of any block of unit norm
      under the residual r; small near a saddle.
    - `escape`: the largest growth rate of any block, divided by Lambda.
    """

    prediction: ndarray
    residual: ndarray
    log_residual: float
    log_loss: float
    log_grad_norm: float
    rest: float
    escape: float


class Window(Protocol):
    """A proposed advance from one state: states at any offset inside it are cheap.

    Offsets count in the window's own clock, from 0 to `length`; time grows strictly with them.
    An infinite length says that nothing moves any more.
    """

    @property
    def length(self) -> float:
        """The largest offset."""

    def offsets(self, samples: int) -> ndarray:
        """About so many offsets at which the window is worth recording; the last is `length`."""

    def states(self, offsets: ndarray) -> Sequence[State]:
        """States at increasing offsets."""

    def accept(self, offset: float) -> None:
        """Count what happens up to an offset as done; called once for a window that is used."""


class Engine(Protocol):
    """Advances one problem; counts what it does."""

    evaluations: float

    def initial(self) -> State:
        """The state at time zero."""

    def advance(self, state: State, end: float) -> Window:
        """A window from a state. It may reach beyond the log time `end`: the driver cuts it."""

    def measure(self, states: Sequence[State]) -> list[Measure]:
        """What is measured at states."""

    def blocks(self, state: State) -> BlockState:
        """The weights in polar form."""

    def restart(self) -> None:
        """Forget what was learnt on the way: the next state doesn't follow the last."""

    def counts(self) -> dict[str, Any]:
        """What `events` and `conserved` of a summary say, as far as the engine knows it."""
