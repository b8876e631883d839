"""Two-layer networks with a positively homogeneous activation."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._state import BlockState


@dataclass(frozen=True)
class TwoLayer:
    """The network h(x) = sum_{j<=m} a_j s(w_j.x) with s(z) = max(z, slope*z).

    Block j is the neuron (a_j, w_j); it is 2-homogeneous. `activation="relu"` is slope 0,
    `"leaky_relu"` takes any slope in [0, 1).

    **Arguments:**

    - `width`: the number m of neurons.
    - `activation`: `"relu"` or `"leaky_relu"`.
    - `slope`: the slope for negative arguments, for `"leaky_relu"` only.
    """

    width: int
    activation: str = "relu"
    slope: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise PolarflowError(f"network.width is {self.width}; it must be at least 1.")
        if self.activation not in ("relu", "leaky_relu"):
            raise PolarflowError(
                f'network.activation is {self.activation!r}; allowed are "relu" and "leaky_relu".'
            )
        if self.activation == "relu" and self.slope != 0.0:
            raise PolarflowError(
                f'network.slope is {self.slope}; "relu" has slope 0, "leaky_relu" takes others.'
            )
        if not 0.0 <= self.slope < 1.0:
            raise PolarflowError(f"network.slope is {self.slope}; it must lie in [0, 1).")

    @property
    def order(self) -> int:
        """The order of homogeneity of each block."""
        return 2

    def predict(self, state: BlockState, x: Float[ndarray, "n d"]) -> Float[ndarray, " n"]:
        """The network's values h(x) at n inputs."""
        a, w = state.direction[:, 0], state.direction[:, 1:]
        z = x @ w.T
        with np.errstate(under="ignore"):
            return np.maximum(z, self.slope * z) @ (np.exp(2 * state.log_norm) * a)
