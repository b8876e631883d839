r"""Neuron pursuit: a network grown neuron by neuron at the best KKT points of the residual's NCF.

The path in the limit of vanishing initialisation leaves a saddle along a KKT point of the NCF of
its residual. If a neuron of every direction were at hand, that would be the best one, and the flow
would go on to a rest point. Pursuit does just that: add a neuron at the maximum of $|N_r|$, follow
the flow of the neurons at hand from there to rest, repeat. It ends where no neuron correlates with
the residual: a global minimum if the loss is convex in the predictions, since it is convex in the
measure of neurons on the sphere, with $-N_r$ as its slope.

With a loss of classification the neurons at hand may separate the examples, and then there is no
rest: pursuit ends when they do, at a loss that is asked for. With $p_k = |r_k| / \sum_l |r_l|$
every network obeys
$\min_k y_k h_k / |\theta|^2 \le \sum_k p_k y_k h_k / |\theta|^2 \le \tfrac12 \max_u |N_{py}(u)|$:
the maximum bounds the normalised margin that any width could reach.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Stop
from ..losses import MarginLoss, Square
from ..ncf._peaks import Peak, activity, climb, highest
from ..ncf._regions import LARGEST, most_regions, regions
from ..networks import BlockState
from ..solution import Solution
from ._blocks import distance, follow, growth, largest_rate, subproblem, two_layer
from ._cells import settle_in_cells
from ._rest import RestPoint, refine

#: ln of the norm of a neuron that is added.
_LOG_START = -15.0
#: The gradient at rest, in units of Lambda(r) at zero, times the largest norm; with a loss of
#: classification, where it may fall like 1/t; and where rest points are looked for cell by cell.
_REST = 1e-10
_SLOW_REST = 1e-6
_NEAR_REST = 1e-4
#: The time that is given to the flow towards rest, in units of the fastest relaxation at the start.
_PACES = 1e6
#: The time that is given to separated examples, in units of 1/Lambda(r) at zero.
_LONG = 1e200
#: A neuron that correlates no more than this part above those at hand is one of them.
_SAME = 1e-4
#: A neuron of this share of sum_j |a_j||w_j| that decays is dropped.
_SHARE = 1e-9


@dataclass(frozen=True)
class PursuitStep:
    r"""A rest point of the pursuit, and the neuron that is added there.

    **Attributes:**

    - `rest`: the rest point of the neurons so far; with examples that are separated, or about to
      be, the place where their flow was left, with an empty spectrum.
    - `value`: the largest $|N_r|$ over unit hidden weights, half the growth rate it gives.
    - `exact`: whether that is the maximum over all activation patterns, or over those climbed to.
    - `sign`, `direction`: of the neuron that is added; None at the end.
    - `margin`, `margin_bound`: with a loss of classification, min_k y_k h_k/|theta|^2, and what it
      can be for any width (if `exact`); None otherwise, and without neurons.
    """

    rest: RestPoint
    value: float
    exact: bool
    sign: float | None
    direction: Float[ndarray, " d"] | None
    margin: float | None = None
    margin_bound: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The step as it stands in summary.json."""
        return {
            "blocks": int(self.rest.active.sum()),
            "loss": self.rest.loss,
            "grad_norm": self.rest.grad_norm,
            "param_norm": float(np.sqrt(np.sum(np.exp(2.0 * self.rest.state.log_norm)))),
            "residual_norm": float(np.linalg.norm(self.rest.residual)),
            "ncf_maximum": self.value,
            "exact": self.exact,
            "sign": self.sign,
            "direction": None if self.direction is None else self.direction.tolist(),
            "normalized_margin": self.margin,
            "margin_bound": self.margin_bound,
        }


def pursue(
    problem: Problem,
    *,
    blocks: int = 50,
    loss: float = 1e-20,
    rtol: float = 1e-8,
    samples: int = 200,
    seed: int = 0,
) -> list[PursuitStep]:
    """Grow a two-layer network neuron by neuron.

    **Arguments:**

    - `problem`: data, network (its activation) and loss; the initial state does not matter.
    - `blocks`: how many neurons are added at most.
    - `loss`: a loss at which it ends; with a loss of classification examples are separated there.
    - `rtol`: tolerance of the flows.
    - `samples`, `seed`: of the directions from which maxima are climbed, where the activation
      patterns are too many to be enumerated.

    **Returns:** the rest points in order, from the empty network on.

    **Raises:** `PolarflowError` for other networks, several outputs (the largest NCF over the
    sphere is known for one), and losses of no other kind than square, logistic and exponential.
    """
    slope = two_layer(problem).slope
    separates = isinstance(problem.loss, MarginLoss)
    if not separates and not isinstance(problem.loss, Square):
        raise PolarflowError(
            f'loss.kind = "{problem.loss.kind}": pursuit goes from one minimum to the next, and '
            'this loss has none; "square", "logistic" and "exponential" have, or end separated.'
        )
    x, y = problem.data.x, problem.data.y
    rng = np.random.default_rng([seed, 5])
    exact = most_regions(x) <= LARGEST
    starts = np.concatenate([x, -x, rng.standard_normal((samples, x.shape[1])) @ _project(x)])
    patterns = activity(regions(x), x, slope) if exact else None
    state = BlockState(np.zeros(0), np.zeros((0, 1 + x.shape[1])))
    first = largest_rate(problem, problem.loss.residual(np.zeros(len(y)), y))
    steps: list[PursuitStep] = []
    least = (_SLOW_REST if separates else _REST) * first
    while True:
        rest = _rest(problem, state)
        sign, best = max(
            ((s, _best(s * rest.residual, x, slope, patterns, starts)) for s in (1.0, -1.0)),
            key=lambda found: found[1].value,
        )
        own = 0.5 * growth(problem, rest.state.direction, rest.residual).max(initial=0.0)
        known = best.value <= max(least, 2.0 * own * (1.0 + _SAME))
        ends = known or rest.loss <= loss or len(steps) >= blocks
        margin, bound = _margins(problem, rest, best.value) if separates else (None, None)
        steps.append(
            PursuitStep(
                rest,
                best.value,
                exact,
                None if ends else sign,
                None if ends else best.direction,
                margin,
                bound,
            )
        )
        if ends:
            return steps
        new = np.concatenate([[sign], best.direction]) / np.sqrt(2.0)
        grown = BlockState(
            np.append(rest.state.log_norm, _LOG_START),
            np.concatenate([rest.state.direction, new[None]]),
        )
        stiffness = float(rest.spectrum.max(initial=0.0))
        state = _settle(problem, grown, first, stiffness, rtol, loss if separates else None)


def _settle(
    problem: Problem,
    start: BlockState,
    rate: float,
    stiffness: float,
    rtol: float,
    level: float | None,
) -> BlockState:
    """The flow from a state to rest, or to a level of the loss; vanishing neurons are dropped.

    `stiffness` is the largest eigenvalue of the Hessian: what there is already relaxes so quickly.
    A neuron that grows much more slowly takes a flow as many steps as the two are apart.
    """
    largest = float(np.exp(max(0.0, start.log_norm.max())))
    grad = rate * largest

    def after(start: BlockState, stop: Stop) -> Solution:
        return follow(subproblem(problem, start), stop, rtol)

    if level is None:
        end = _settled(problem, start, after, grad, 1e7 / rate, stiffness)
    else:
        stop = Stop(grad_norm=_SLOW_REST * grad, loss=level, time=1e12 / rate)
        end = after(start, stop).final.state(0)
        if (problem.data.y * two_layer(problem).predict(end, problem.data.x) > 0.0).all():
            end = after(end, Stop(loss=level, time=_LONG / rate)).final.state(0)
    h = two_layer(problem).predict(end, problem.data.x)
    rates = growth(problem, end.direction, problem.loss.residual(h, problem.data.y))
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * end.log_norm)
    kept = (share > _SHARE * share.sum()) | ((rates >= 0.0) & (share > 0.0))
    return BlockState(end.log_norm[kept], end.direction[kept])


def _settled(
    problem: Problem,
    start: BlockState,
    after: Callable[[BlockState, Stop], Solution],
    grad: float,
    longest: float,
    stiffness: float,
) -> BlockState:
    """The rest point of the square loss: by the flow to near it, the last of the way by cells.

    A valley with many kinks takes a flow many thousands of steps to the end. Where the cells have
    no end either, the flow goes on for ten times as long.
    """
    paces = _PACES / stiffness if stiffness > 0.0 else np.inf
    near = _NEAR_REST
    while True:
        stop = Stop(grad_norm=near * grad, time=min(paces, longest), log_loss=-200.0)
        flow = after(start, stop)
        start = flow.final.state(0)
        found = settle_in_cells(problem, start)
        if found is not None:
            return found
        if paces >= longest or near == _REST and flow.stop_reason != "time":
            return start
        near, paces = _REST, 10.0 * paces


def _rest(problem: Problem, state: BlockState) -> RestPoint:
    """The rest point at a state, or the state itself where a loss of classification has none."""
    every = np.ones(state.blocks, dtype=bool)
    if not isinstance(problem.loss, MarginLoss) or state.blocks == 0:
        return refine(problem, state, every)
    network, x, y = two_layer(problem), problem.data.x, problem.data.y
    h = np.asarray(network.predict(state, x))
    r = problem.loss.residual(h, y)
    with np.errstate(under="ignore"):
        size = np.exp(state.log_norm)
    speed = np.hypot(growth(problem, state.direction, r), distance(problem, state.direction, r))
    return RestPoint(
        state=state,
        active=every,
        loss=float(problem.loss.value(h, y)),
        grad_norm=float(np.linalg.norm(size * speed)),
        prediction=h,
        residual=r,
        spectrum=np.zeros(0),
        kernel=0,
    )


def _margins(
    problem: Problem, rest: RestPoint, highest: float
) -> tuple[float | None, float | None]:
    """The normalised margin, and its bound for all widths from the largest |N_r|."""
    if rest.state.blocks == 0:
        return None, None
    square = float(np.sum(np.exp(2.0 * rest.state.log_norm)))
    weight = float(np.abs(rest.residual).sum())
    return float(np.min(problem.data.y * rest.prediction)) / square, 0.5 * highest / weight


def _best(z: ndarray, x: ndarray, slope: float, patterns: ndarray | None, starts: ndarray) -> Peak:
    if patterns is not None:
        return highest(patterns, x, z, slope, np.inf)[0]
    pre = starts @ x.T
    value = (np.maximum(pre, slope * pre) @ z) / np.maximum(np.linalg.norm(starts, axis=1), 1e-300)
    chosen = starts[np.argsort(-value)[:16]]
    return max((climb(u, x, z, slope) for u in chosen), key=lambda peak: peak.value)


def _project(x: ndarray) -> ndarray:
    """The projection onto the span of the inputs."""
    _, sigma, vt = np.linalg.svd(x, full_matrices=False)
    basis = vt[sigma > 1e-13 * max(float(sigma.max(initial=0.0)), 1e-300)]
    return np.asarray(basis.T @ basis)
