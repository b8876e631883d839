"""The weights that are compared with the comparators, and what is often asked of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy import ndarray

from ..flow import Problem
from ..losses import MarginLoss, Square
from ..ncf._regions import LARGEST, most_regions
from ..networks import BlockState, Diagonal, TwoLayer
from ._orthogonal import orthogonal_inputs

#: Blocks of more than this part of the largest square norm are hints for a program; so many.
_PART = 1e-6
_HINTS = 100
#: In place of a zero under a fraction line.
TINY = 1e-300


@dataclass(frozen=True)
class End:
    """The weights that are compared, and what is often asked of them.

    **Attributes:**

    - `problem`, `state`: the network and its weights.
    - `inputs`: where functions are compared besides the examples, or None.
    """

    problem: Problem
    state: BlockState
    inputs: ndarray | None = None

    @property
    def x(self) -> ndarray:
        """The examples' inputs."""
        return self.problem.data.x

    @property
    def y(self) -> ndarray:
        """Their labels."""
        return self.problem.data.y

    @property
    def single(self) -> bool:
        """Whether there is one output."""
        return self.problem.network.outputs == 1 and self.y.ndim == 1

    @property
    def fits(self) -> bool:
        """Whether labels are to be fitted."""
        return self.single and isinstance(self.problem.loss, Square)

    @property
    def classifies(self) -> bool:
        """Whether there are two classes."""
        return self.single and isinstance(self.problem.loss, MarginLoss)

    @cached_property
    def two_layer(self) -> bool:
        """Whether the network is a two-layer one with a (leaky) ReLU or the absolute value."""
        return isinstance(self.problem.network, TwoLayer)

    @cached_property
    def unit(self) -> BlockState:
        """The weights over the norm of the largest block, which no margin depends on."""
        return BlockState(self.state.log_norm - self._top, self.state.direction)

    @cached_property
    def _top(self) -> float:
        top = float(self.state.log_norm.max(initial=-np.inf))
        return top if np.isfinite(top) else 0.0

    @cached_property
    def shares(self) -> ndarray:
        """The blocks' square norms over the largest."""
        with np.errstate(under="ignore"):
            return np.asarray(np.exp(2.0 * self.unit.log_norm))

    @cached_property
    def hints(self) -> ndarray:
        """Hidden weights of the largest blocks, one for each pattern."""
        first = np.argsort(-self.shares, kind="stable")
        first = first[self.shares[first] > _PART]
        w = self.state.direction[first, 1 if self.two_layer else 0 :]
        _, once = np.unique(w @ self.x.T > 0.0, axis=0, return_index=True)
        return np.asarray(w[np.sort(once)][:_HINTS])

    @cached_property
    def predictions(self) -> ndarray:
        """The network at the examples; for classes that of the unit weights."""
        state = self.unit if self.classifies else self.state
        return np.asarray(self.problem.network.predict(state, self.x))

    @cached_property
    def variation(self) -> float:
        """sum_j |a_j||w_j| of a two-layer network."""
        a, w = self.state.direction[:, 0], self.state.direction[:, 1:]
        with np.errstate(under="ignore", over="ignore"):
            unit = float(self.shares @ (np.abs(a) * np.linalg.norm(w, axis=1)))
            return unit * float(np.exp(2.0 * self._top))

    @cached_property
    def linear_cost(self) -> float:
        """sum_j |u_j|^L + |v_j|^L of a diagonal linear network of depth L."""
        network = self.problem.network
        assert isinstance(network, Diagonal)
        with np.errstate(under="ignore", over="ignore"):
            return float(np.sum(np.abs(self.state.weights()) ** network.depth))

    @cached_property
    def margin(self) -> float:
        """The normalised margin min_k y_k h(x_k)/|w|^2 of a network of order 2."""
        total = float(self.shares.sum())
        least = float(np.min(self.y * self.predictions)) + 0.0  # no -0.0
        return least / total if total > 0.0 else float("nan")

    @cached_property
    def loss(self) -> float:
        """The network's loss, for fitted labels."""
        return float(self.problem.loss.value(self.predictions, self.y))

    @cached_property
    def unfitted(self) -> float:
        """The loss over that of the zero function."""
        zero = float(self.problem.loss.value(0.0 * self.y, self.y))
        return self.loss / zero if zero > 0.0 else 0.0

    @cached_property
    def patterns(self) -> float:
        """The number of activation patterns times that of examples; infinite if not enumerated."""
        count = most_regions(self.x)
        return float(count) * len(self.x) if count <= LARGEST else np.inf

    @cached_property
    def orthogonal(self) -> bool:
        """Whether the inputs are orthogonal, so that programs have closed forms."""
        return orthogonal_inputs(self.x)

    @property
    def kernel_work(self) -> float:
        """Multiplications of a solution on the NTK's features."""
        return float(len(self.x)) ** 2 * self.state.direction.size

    def beside(self, f: "Callable[[ndarray], ndarray]") -> dict[str, Any]:
        """Angles between the network and a function."""
        found = {"angle": _angle(self.predictions, f(self.x))}
        if self.inputs is not None and len(self.inputs):
            own = self.problem.network.predict(self.unit, self.inputs)
            found["angle_at_inputs"] = _angle(own, f(self.inputs))
        return found

    def of_class(self, f: "Callable[[ndarray], ndarray]") -> dict[str, Any]:
        """The same, and the ratio of the margins at predictions of norm one."""
        own, other = (
            float(np.min(self.y * h)) / max(float(np.linalg.norm(h)), TINY)
            for h in (self.predictions, f(self.x))
        )
        return {**self.beside(f), "margin_ratio": own / other if other > 0.0 else None}


def _angle(h: ndarray, f: ndarray) -> float | None:
    """The angle of two vectors in radians, exact near zero."""
    a, b = float(np.linalg.norm(h)), float(np.linalg.norm(f))
    if not (0.0 < a < np.inf and 0.0 < b < np.inf):
        return None
    u, v = h / a, f / b
    return 2.0 * float(np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))
