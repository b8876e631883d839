"""What the path needs to know of 2-homogeneous blocks: growth, KKT points, and their flow."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data import Data
from ..errors import PolarflowError
from ..flow import Problem, Stop
from ..flow import problem as make_problem
from ..losses import Square
from ..ncf import kkt_distance, ncf
from ..networks import BlockState, TwoLayer
from ..solution import Solution, engine_above_rounding, followed

#: ln of the size of blocks that must not be felt.
_LOG_UNFELT = -1e3
#: The loosest tolerance between two rest points.
_LOOSEST = 1e-5
#: How long blocks are given to align, in units of the largest growth possible, 1/Lambda: a short
#: time first, over which the logarithms of their sizes are small and keep all their digits.
_PATIENCE = (1e3, 1e5, 1e7)


def two_layer(problem: Problem) -> TwoLayer:
    """The problem's network, if it is one that the path is known for.

    **Raises:** `PolarflowError` if it is not.
    """
    network = problem.network
    if not isinstance(network, TwoLayer):
        raise PolarflowError(
            f'network.kind = "{network.kind}" does not have what this is for: "two_layer" with '
            'activation = "relu", "leaky_relu" (power 1) or "abs".'
        )
    if len(problem.prediction_shape) > 1:
        raise PolarflowError(f"network.outputs = {network.outputs}: this is for one output.")
    return network


def growth(problem: Problem, direction: ndarray, residual: ndarray) -> Float[ndarray, " m"]:
    """L N_r(v) for every direction: the growth rate of its log-norm if v is a KKT point."""
    return 2.0 * ncf(direction, problem.data.x, residual, two_layer(problem).slope)


def distance(problem: Problem, direction: ndarray, residual: ndarray) -> Float[ndarray, " m"]:
    """dist(0, (I - vv^T) dN_r(v)) for every direction v."""
    return kkt_distance(direction, problem.data.x, residual, two_layer(problem).slope)


def largest_rate(problem: Problem, residual: ndarray) -> float:
    """Lambda(r) = |X| |r|, an upper bound of every growth rate."""
    return float(np.linalg.norm(problem.data.x, 2) * np.linalg.norm(residual))


def unfelt(growth: float) -> float:
    """ln of a size that is not felt even after ln has grown so much; no larger than need be.

    What is left of digits behind it is the accuracy of |a|^2 - |w|^2 over |w|^2.
    """
    return _LOG_UNFELT - growth


def subproblem(problem: Problem, state: BlockState, chosen: ndarray | None = None) -> Problem:
    """The same flow with some blocks only, and from another state."""
    if chosen is not None:
        state = BlockState(state.log_norm[chosen], state.direction[chosen])
    network = replace(two_layer(problem), width=state.blocks)
    return make_problem(problem.data, network, state, loss=problem.loss)


def follow(problem: Problem, stop: Stop, rtol: float, points: int = 2) -> Solution:
    """Follow a flow of which few states on the way are of interest.

    Where neurons meet a kink over and over, a looser tolerance is tried: what comes of the flow,
    rest points and KKT points, is found to rounding afterwards. Parts of weights below rounding
    are the path's own matter.

    **Raises:** `PolarflowError` if it could not go on.
    """
    make = partial(engine_above_rounding, problem)
    solution = followed(problem, make, stop=stop, rtol=rtol, points=points)
    while solution.status == "limit" and rtol < _LOOSEST:
        rtol *= 10.0
        solution = followed(problem, make, stop=stop, rtol=rtol, points=points)
    if solution.status == "interrupted":
        raise KeyboardInterrupt
    if solution.status not in ("ok", "at_rest"):
        raise PolarflowError(f"The flow between two saddles could not go on: {solution.message}")
    return solution


@dataclass(frozen=True)
class Aligned:
    """Where blocks of vanishing size go under a constant residual.

    **Attributes:**

    - `direction`: their limits, shape `(m, p)`.
    - `growth`: L N_r there, shape `(m,)`; 0 for blocks without a force.
    - `offset`: ln of their size is growth * t + offset + o(1), beyond what it was at the start.
    - `kkt`: dist(0, (I - vv^T) dN_r(v)), shape `(m,)`.
    """

    direction: ndarray
    growth: ndarray
    offset: ndarray
    kkt: ndarray


def align(problem: Problem, direction: ndarray, residual: ndarray, rtol: float) -> Aligned:
    """Follow blocks of vanishing size under a constant residual until they have aligned.

    It is the flow of the blocks alone for labels that are the residual, so small that they never
    feel their own output: a few jumps of the engine.
    """
    rate = largest_rate(problem, residual)
    data = Data(problem.data.x, residual, problem.data.bias)
    network = replace(two_layer(problem), width=len(direction))
    gain = np.zeros(len(direction))
    for patience in _PATIENCE:
        size = unfelt(patience)
        state = BlockState(np.full(len(direction), size), direction)
        still = make_problem(data, network, state, loss=Square("sum"))
        end = follow(still, Stop(time=patience / rate), rtol).final.state(0)
        direction = end.direction
        gain += end.log_norm - size
    found = growth(problem, direction, residual)
    return Aligned(
        direction=direction,
        growth=found,
        offset=gain - found * (sum(_PATIENCE) / rate),
        kkt=distance(problem, direction, residual),
    )
