r"""Neuron pursuit: a network grown neuron by neuron at the best KKT points of the residual's NCF.

The path in the limit of vanishing initialisation leaves a saddle along a KKT point of the NCF of
its residual. If a neuron of every direction were at hand, that would be the best one, and the flow
would go on to a rest point. Pursuit does just that: add a neuron at the maximum of $|N_r|$, follow
the flow of the neurons at hand from there to rest, repeat. It ends where no neuron correlates with
the residual: a global minimum if the loss is convex in the predictions, since it is convex in the
measure of neurons on the sphere, with $-N_r$ as its slope.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Stop
from ..ncf._peaks import Peak, activity, climb, highest
from ..ncf._regions import LARGEST, most_regions, regions
from ..networks import BlockState
from ._blocks import follow, growth, largest_rate, subproblem, two_layer
from ._rest import RestPoint, refine

#: ln of the norm of a neuron that is added.
_LOG_START = -15.0
#: The gradient at rest, in units of Lambda(r) at zero, times the largest norm.
_REST = 1e-10
#: A neuron of this share of sum_j |a_j||w_j| that decays is dropped.
_SHARE = 1e-9


@dataclass(frozen=True)
class PursuitStep:
    r"""A rest point of the pursuit, and the neuron that is added there.

    **Attributes:**

    - `rest`: the rest point of the neurons so far.
    - `value`: the largest $|N_r|$ over unit hidden weights, half the growth rate it gives.
    - `exact`: whether that is the maximum over all activation patterns, or over those climbed to.
    - `sign`, `direction`: of the neuron that is added; None at the end.
    """

    rest: RestPoint
    value: float
    exact: bool
    sign: float | None
    direction: Float[ndarray, " d"] | None

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
    - `loss`: a loss at which it ends.
    - `rtol`: tolerance of the flows.
    - `samples`, `seed`: of the directions from which maxima are climbed, where the activation
      patterns are too many to be enumerated.

    **Returns:** the rest points in order, from the empty network on.

    **Raises:** `PolarflowError` for other networks, several outputs and other losses than the
    square loss.
    """
    slope = two_layer(problem).slope
    if problem.loss.kind != "square":
        raise PolarflowError(
            f'loss.kind = "{problem.loss.kind}": pursuit goes from one rest point to the next, and '
            'a loss of classification has none once the examples are separated; "square" has.'
        )
    x, y = problem.data.x, problem.data.y
    rng = np.random.default_rng([seed, 5])
    exact = most_regions(x) <= LARGEST
    starts = np.concatenate([x, -x, rng.standard_normal((samples, x.shape[1])) @ _project(x)])
    patterns = activity(regions(x), x, slope) if exact else None
    state = BlockState(np.zeros(0), np.zeros((0, 1 + x.shape[1])))
    first = largest_rate(problem, problem.loss.residual(np.zeros(len(y)), y))
    steps: list[PursuitStep] = []
    while True:
        rest = refine(problem, state, np.ones(state.blocks, dtype=bool))
        sign, best = max(
            ((s, _best(s * rest.residual, x, slope, patterns, starts)) for s in (1.0, -1.0)),
            key=lambda found: found[1].value,
        )
        ends = best.value <= 1e-10 * first or rest.loss <= loss or len(steps) >= blocks
        steps.append(
            PursuitStep(
                rest, best.value, exact, None if ends else sign, None if ends else best.direction
            )
        )
        if ends:
            return steps
        new = np.concatenate([[sign], best.direction]) / np.sqrt(2.0)
        grown = BlockState(
            np.append(rest.state.log_norm, _LOG_START),
            np.concatenate([rest.state.direction, new[None]]),
        )
        state = _settle(problem, grown, first, rtol)


def _settle(problem: Problem, start: BlockState, rate: float, rtol: float) -> BlockState:
    """The flow from a state to rest, without the neurons that it makes vanish."""
    largest = float(np.exp(max(0.0, start.log_norm.max())))
    stop = Stop(grad_norm=_REST * rate * largest, time=1e7 / rate, log_loss=-200.0)
    end = follow(subproblem(problem, start), stop, rtol).final.state(0)
    h = two_layer(problem).predict(end, problem.data.x)
    rates = growth(problem, end.direction, problem.loss.residual(h, problem.data.y))
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * end.log_norm)
    kept = (share > _SHARE * share.sum()) | (rates >= 0.0)
    return BlockState(end.log_norm[kept], end.direction[kept])


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
