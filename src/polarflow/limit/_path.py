r"""The path from saddle to saddle in the limit of vanishing initialisation.

Multiply all initial weights by $\delta$ and count time in units of $T = -\ln\delta$. As
$\delta \to 0$ the flow of a network of 2-homogeneous blocks becomes a jump process. At a rest point
with residual r every microscopic block, of size $\delta^{-E_j}$ with $E_j < 0$, turns to a KKT
point $v_j$ of its NCF $N_r$ in a time that is nothing compared with T, and then grows at the rate
$g_j = L N_r(v_j)$: in the scaled time $E_j' = g_j$. The rest point is left when the first $E_j$
reaches 0; the flow to the next one takes a time that is nothing compared with T either, during
which the other blocks turn along and keep their $E_j$. A block that the flow makes vanish starts
from $E_j = 0$ with $g_j < 0$. From the origin all $E_j$ are -1, and the k-th rest point is left at
the time $c_k T + O(1)$, $c_k$ its *escape rate*. (Kumar & Haupt, 2024, for one saddle; Pesme &
Flammarion, 2023, for diagonal linear networks, where the limit is proven.)
"""

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Stop, Trajectory
from ..losses import Correlation
from ..networks import BlockState, Diagonal, Network
from ._blocks import align, follow, growth, largest_rate, subproblem, two_layer, unfelt
from ._diagonal import diagonal_path
from ._rest import RestPoint
from ._rest import refine as refine_two_layer
from ._saddle import LimitSaddle, SaddlePath, Tie, by_direction
from ._smooth_path import SmoothWalk

#: ln of the size of the blocks that leave, where the flow between two rest points is started.
_LOG_START = -20.0
#: It is no less than so that the force is this multiple of the gradient at rest, up to a limit.
_FORCE, _LOG_MOST = 100.0, -7.0
#: Blocks that reach the size 1 within this of each other, relatively, do so at the same time.
_TIE = 1e-8
#: Directions that are so close are the same to rounding.
_ALIKE = 1e-11
#: Growth rates below this share of Lambda(r) are none.
_STILL = 1e-9
#: The gradient at which the flow between two rest points ends, in units of its typical size.
_REST = 1e-11
#: The gradient after which the small blocks are followed under the residual at rest alone.
_NEAR = 1e-7
#: Tolerance of the small blocks' turn between two rest points: it decides to which KKT points they
#: go, and these are then found to rounding.
_TURN = 1e-6
#: A block is microscopic at rest if it has this share of sum_j |a_j||w_j| and decays.
_SHARE = 1e-9


def saddle_path(problem: Problem, *, rtol: float = 1e-9, max_saddles: int = 200) -> SaddlePath:
    """The path from saddle to saddle as all initial weights are scaled to zero.

    No plateau is integrated: only the flows between rest points are followed.

    **Arguments:**

    - `problem`: data, network, loss and the initial state, of which directions and relative sizes
      count.
    - `rtol`: tolerance of these flows.
    - `max_saddles`: how many rest points are wanted at most.

    **Raises:** `PolarflowError` if the network is not supported, or a flow could not go on.
    """
    if isinstance(problem.loss, Correlation):
        raise PolarflowError(
            f'loss.kind = "{problem.loss.kind}": its residual never changes, so that there is no '
            "rest point to go to from the origin."
        )
    if isinstance(problem.network, Diagonal) and problem.loss.kind == "square":
        return diagonal_path(problem, max_saddles)
    if isinstance(problem.network, Network):
        return SmoothWalk(problem, rtol, max_saddles).path()
    two_layer(problem)
    return _Walk(problem, rtol, max_saddles).path()


class _Walk:
    """All blocks on the way: sizes, directions, and which are active."""

    def __init__(self, problem: Problem, rtol: float, most: int) -> None:
        initial = problem.initial
        self.problem, self.rtol, self.most = problem, rtol, most
        self.given = np.isfinite(initial.log_norm)
        self.exponent = np.where(self.given, -1.0, -np.inf)
        self.offset = np.where(self.given, initial.log_norm, 0.0)
        self.offset -= self.offset.max(initial=-np.inf)
        self.log_norm = np.full(initial.blocks, -np.inf)
        self.direction = initial.direction.copy()
        self.active = np.zeros(initial.blocks, dtype=bool)
        self.time = 0.0
        self.saddles: list[LimitSaddle] = []
        self.ties: list[Tie] = []
        self.notes: list[str] = []

    def path(self) -> SaddlePath:
        complete = False
        while len(self.saddles) < self.most:
            rest = self._refine()
            leaving = self._stay(rest)
            if leaving is None:
                complete = True
                break
            if len(self.saddles) < self.most and not self._go(rest, leaving):
                break
        return SaddlePath(tuple(self.saddles), tuple(self.ties), complete, tuple(self.notes))

    def _refine(self) -> RestPoint:
        """The rest point; the flow goes on from its own state, whose slides are settled."""
        state = BlockState(self.log_norm, self.direction)
        return refine_two_layer(self.problem, state, self.active)

    def _stay(self, rest: RestPoint) -> ndarray | None:
        """The time at a rest point, until some blocks leave it; None if none does."""
        small = self.given & ~self.active
        rates = np.zeros(len(small))
        kkt = None
        labels = float(np.linalg.norm(self.problem.loss.residual(0.0 * rest.prediction,
                                                                 self.problem.data.y)))  # fmt: skip
        rate = largest_rate(self.problem, rest.residual)
        if small.any() and float(np.linalg.norm(rest.residual)) > 1e-9 * labels:
            first, member = _alike(self.direction[small])
            start = self.direction[small][first]
            aligned = align(self.problem, start, rest.residual, self.rtol)
            self.direction[small] = aligned.direction[member]
            self.offset[small] += aligned.offset[member]
            found = aligned.growth[member]
            rates[small] = np.where(np.abs(found) > _STILL * rate, found, 0.0)
            living = rates[small] != 0.0
            if living.any():
                kkt = float(aligned.kkt[member][living].max() / np.abs(found[living]).max())
        grows = rates > 0.0
        wait = np.full(len(small), np.inf)
        wait[grows] = -self.exponent[grows] / rates[grows]
        shortest = float(wait.min(initial=np.inf))
        leaving = None
        if np.isfinite(shortest):
            leaving = wait <= shortest + _TIE * (self.time + shortest)
            self.time += shortest
            self.exponent[small] += rates[small] * shortest
            self.exponent[leaving] = 0.0
        chosen = () if leaving is None else tuple(np.flatnonzero(leaving).tolist())
        self.saddles.append(
            LimitSaddle(
                index=len(self.saddles),
                rest=rest,
                escape_rate=None if leaving is None else self.time,
                leaving=chosen,
                exponent=self.exponent.copy(),
                direction=self.direction.copy(),
                growth=rates,
                kkt_residual=kkt,
            )
        )
        self.rates = rates
        if leaving is not None:
            self._tell_ties(leaving)
        return leaving

    def _tell_ties(self, leaving: ndarray) -> None:
        groups = by_direction(leaving, self.direction)
        if len(groups) > 1:
            self.ties.append(Tie(len(self.saddles) - 1, tuple(tuple(g) for g in groups)))

    def _go(self, rest: RestPoint, leaving: ndarray) -> bool:
        """The flow to the next rest point; returns whether there is one."""
        problem = self.problem
        fastest = float(self.rates[leaving].max())
        log_norm = self.log_norm.copy()
        late = self.offset[leaving] - self.offset[leaving].max()
        rate = largest_rate(problem, rest.residual)
        # The force on slow blocks is no gradient at rest.
        begin = min(max(_LOG_START, float(np.log(_FORCE * _REST * rate / fastest))), _LOG_MOST)
        log_norm[leaving] = begin * self.rates[leaving] / fastest + late
        large = self.active | leaving
        start = BlockState(log_norm, self.direction)
        wanted = _REST * rate * float(np.exp(np.max(log_norm[large], initial=0.0)))
        alone = follow(
            subproblem(problem, start, large),
            Stop(grad_norm=wanted, time=1e7 / rate, log_loss=-200.0),
            self.rtol,
            points=40,
        )
        end = alone.final.state(0)
        if alone.stop_reason != "grad_norm" and alone.status != "at_rest":
            self.notes.append(
                f"After saddle {len(self.saddles) - 1} the flow does not come to rest: it ended "
                f"by its {alone.stop_reason} at the loss {float(alone.final.loss[0]):.3g}."
            )
            return False
        small = np.flatnonzero(self.given & ~large)
        time = _near_rest(alone.trajectory, _NEAR * wanted / _REST)
        # What moves too little to be seen turns nothing.
        if len(small) and time > 0.0:
            first, member = _alike(self.direction[small])
            size = unfelt(10.0 * rate * time)
            log_norm[small] = size
            chosen = np.concatenate([np.flatnonzero(large), small[first]])
            whole = follow(
                subproblem(problem, BlockState(log_norm, self.direction), chosen),
                Stop(time=time),
                max(self.rtol, _TURN),
            ).final.state(0)
            turned = int(large.sum()) + member
            self.direction[small] = whole.direction[turned]
            self.offset[small] += whole.log_norm[turned] - size
        self.log_norm[large], self.direction[large] = end.log_norm, end.direction
        self._sort_out(large)
        return True

    def _sort_out(self, large: ndarray) -> None:
        """Which of the blocks that were large are so at rest: those that decay are not."""
        problem = self.problem
        index = np.flatnonzero(large)
        h = problem.network.predict(
            BlockState(self.log_norm[index], self.direction[index]), problem.data.x
        )
        residual = problem.loss.residual(h, problem.data.y)
        rates = growth(problem, self.direction[index], residual)
        with np.errstate(under="ignore"):
            share = np.exp(2.0 * self.log_norm[index])
        decays = (share <= _SHARE * share.sum()) & (
            rates < -_STILL * largest_rate(problem, residual)
        )
        self.active[:] = False
        self.active[index[~decays]] = True
        self.exponent[large] = 0.0
        self.offset[index[decays]] = 0.0
        self.log_norm[~self.active] = -np.inf


def _alike(direction: ndarray) -> tuple[ndarray, ndarray]:
    """Blocks of one direction move alike: the first of each kind, and of which kind each is."""
    first: list[int] = []
    member = np.empty(len(direction), dtype=np.int64)
    for j, v in enumerate(direction):
        gap = np.abs(direction[first] - v).max(axis=1, initial=0.0)
        near = np.flatnonzero(gap < _ALIKE)
        member[j] = near[0] if len(near) else len(first)
        if not len(near):
            first.append(j)
    return np.array(first), member


def _near_rest(trajectory: Trajectory, gradient: float) -> float:
    """The time from which on the gradient stays below a size."""
    above = np.flatnonzero(trajectory.grad_norm > gradient)
    last = int(above[-1]) if len(above) else -1
    return float(trajectory.time[min(last + 1, len(trajectory) - 1)])
