"""What an engine is: the interface between an engine and the driver that follows a flow with it.

The driver (`_integrate.py`) knows only what stands here; it records, locates stops and visits to
saddles, and counts. An engine knows one kind of network, and how to advance its state. Sizes
that may leave the range of floats are natural logarithms.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy import ndarray

from ..networks import BlockState


class Halt(Exception):
    """Raised by an engine that cannot go on; what was recorded until then is kept.

    It may come from any method of an engine or of its windows. The run becomes a solution whose
    status says why; nothing of it reaches the user as an exception.

    **Arguments:**

    - `status`: the kind: `"branching"`, `"limit"`, `"not_finite"`, ... or an engine's own.
    - `message`: a sentence about it that a person can act on.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


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
    - `log_residual`, `log_loss`, `log_grad_norm`: of |r|, of the loss, of |grad l|. The loss's is
      nan where the loss is negative.
    - `log_rate`: of Lambda(r), an upper bound of the speed of a block of unit norm under r.
    - `log_escape`: of the largest rate L N_r(v_j) at which a block of unit norm and the direction
      of one of the blocks would grow; -inf if none grows.
    """

    prediction: ndarray
    residual: ndarray
    log_residual: float
    log_loss: float
    log_grad_norm: float
    log_rate: float
    log_escape: float

    @cached_property
    def log_rest(self) -> float:
        """ln(|grad l|^2 / (Lambda(r) l)): how slowly the loss decays; inf where it isn't defined.

        It is very negative near a saddle.
        """
        if not (isfinite(self.log_rate) and isfinite(self.log_loss)):
            return np.inf
        return 2.0 * self.log_grad_norm - self.log_rate - self.log_loss


S = TypeVar("S", bound=State)
S_co = TypeVar("S_co", bound=State, covariant=True)


class Window(Protocol[S_co]):
    """A proposed advance from one state: states at any offset inside it are cheap.

    Offsets count in the window's own clock, from 0 to `length`; time grows strictly with them.
    An infinite length says that nothing moves any more. A window may be asked for states after
    later ones were opened.
    """

    @property
    def length(self) -> float:
        """The largest offset."""

    def offsets(self, samples: int) -> ndarray:
        """About so many offsets at which the window is worth recording; the last is `length`."""

    def states(self, offsets: ndarray) -> Sequence[S_co]:
        """States at increasing positive offsets."""

    def accept(self, offset: float) -> None:
        """Count what happens up to an offset as done; called once for a window that is used."""


class Engine(Protocol[S]):
    """Advances one problem; counts what it does."""

    #: The relative tolerance that it keeps.
    rtol: float
    #: Field evaluations so far.
    evaluations: float

    def initial(self) -> S:
        """The state at time zero."""

    def advance(self, state: S, end: float) -> Window[S]:
        """A window from a state.

        It may reach beyond the log time `end` (inf if there is none): the driver cuts it there.
        An engine that can does better to end it there itself.
        """

    def measure(self, states: Sequence[S]) -> list[Measure]:
        """What is measured at states. The driver counts those that it needs to go on."""

    def blocks(self, state: S) -> BlockState:
        """The weights in polar form."""

    def ncf(self, state: S) -> tuple[ndarray, ndarray]:
        """The NCF of every block under the direction r/|r| of the residual, and its KKT distance.

        Both shape `(m,)`: N_r(v_j), and dist(0, (I - vv^T) dN_r(v)) at v_j; nan for blocks that
        don't live, whose velocity is zero to rounding.
        """

    def distance(self, before: S, after: S) -> float:
        """How far apart two states are in a picture: `polar_distance`, or a cheaper form of it."""

    def restart(self) -> None:
        """Forget what was learnt on the way: the next state doesn't follow the last."""

    def counts(self) -> dict[str, Any]:
        """What a summary says of the way, as far as the engine knows it.

        `crossings`, `slides`, `branchings`; `balancedness_drift`; `jacobian_products`; `notes`, a
        list of sentences about what the result doesn't say.
        """


@runtime_checkable
class Replaying(Protocol):
    """An engine that may follow its way again before it can go on, and tells where it is."""

    #: Called with ln t and ln loss on such a way, if anybody wants to know.
    pulse: Callable[[float, float], None] | None


def polar_distance(before: BlockState, after: BlockState) -> float:
    """How far apart two states are in a picture: the mean turn, and the mean growth weighed less.

    Blocks that are zero count nothing.
    """
    if not before.blocks:
        return 0.0
    turn = np.linalg.norm(after.direction - before.direction, axis=1)
    with np.errstate(invalid="ignore"):
        growth = np.nan_to_num(after.log_norm - before.log_norm, nan=0.0, posinf=0.0, neginf=0.0)
    return float(turn.mean() + 0.02 * np.abs(growth).mean())
