"""Two-layer networks with a positively homogeneous activation."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._state import BlockState


@dataclass(frozen=True)
class TwoLayer:
    """The network h(x) = sum_{j<=m} a_j s(w_j.x) with s(z) = max(z, slope*z).

    Block j is the neuron (a_j, w_j), a_j a number, or a vector of C > 1 outputs; it is
    2-homogeneous. `activation="relu"` is slope 0, `"leaky_relu"` takes any slope in [0, 1), and
    `"abs"`, |z|, has slope -1.

    **Arguments:**

    - `width`: the number m of neurons.
    - `activation`: `"relu"`, `"leaky_relu"` or `"abs"`.
    - `slope`: the slope for negative arguments: given for `"leaky_relu"`, -1 for `"abs"`.
    - `outputs`: the number C of outputs.
    """

    width: int
    activation: str = "relu"
    slope: float = 0.0
    outputs: int = 1

    #: The name of the network in a spec.
    kind: ClassVar[str] = "two_layer"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise PolarflowError(f"network.width is {self.width}; it must be at least 1.")
        if self.activation not in ("relu", "leaky_relu", "abs"):
            raise PolarflowError(
                f"network.activation is {self.activation!r}; "
                'allowed are "relu", "leaky_relu" and "abs".'
            )
        if self.activation == "abs":
            if self.slope not in (0.0, -1.0):
                raise PolarflowError(f'network.slope is {self.slope}; that of "abs" is -1.')
            object.__setattr__(self, "slope", -1.0)
            return
        if self.activation == "relu" and self.slope != 0.0:
            raise PolarflowError(
                f'network.slope is {self.slope}; "relu" has slope 0, "leaky_relu" takes others.'
            )
        if not 0.0 <= self.slope < 1.0:
            raise PolarflowError(f"network.slope is {self.slope}; it must lie in [0, 1).")
        if self.outputs < 1:
            raise PolarflowError(f"network.outputs is {self.outputs}; it must be at least 1.")

    @property
    def order(self) -> int:
        """The order of homogeneity of each block."""
        return 2

    def row_orders(self, dimension: int) -> ndarray:
        """The order of every block, shape `(m,)`."""
        return np.full(self.width, 2.0)

    def shape(self, dimension: int) -> tuple[int, int]:
        """The shape (m, C + d) of the directions of a state on inputs of length d."""
        return self.width, self.outputs + dimension

    def check_state(self, state: BlockState, dimension: int) -> None:
        """Make sure that a state fits.

        **Raises:** `PolarflowError` if its shape is another.
        """
        expected = self.shape(dimension)
        if state.direction.shape != expected:
            outputs = "" if self.outputs == 1 else f" with {self.outputs} outputs"
            raise PolarflowError(
                f"init: directions have shape {state.direction.shape}; a two-layer network of "
                f"width {self.width}{outputs} on inputs of length {dimension} (bias included) "
                f"needs {expected}."
            )

    def predict(self, state: BlockState, x: Float[ndarray, "n d"]) -> Float[ndarray, " n *C"]:
        """The network's values h(x) at n inputs, shape `(n,)`, or `(n, C)` with C > 1 outputs."""
        a, w = state.direction[:, : self.outputs], state.direction[:, self.outputs :]
        z = x @ w.T
        with np.errstate(under="ignore"):
            h = np.maximum(z, self.slope * z) @ (np.exp(2 * state.log_norm)[:, None] * a)
        return h[:, 0] if self.outputs == 1 else h
