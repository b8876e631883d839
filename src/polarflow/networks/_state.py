"""The polar state of a network's blocks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError

#: How far |a| and |w| of a unit vector (a, w) may differ in a balanced state.
BALANCED = 1e-12


@dataclass(frozen=True)
class BlockState:
    """Weights of m blocks in polar form, w_j = exp(log_norm_j) * direction_j.

    Nothing underflows: a block of norm 1e-1000 has `log_norm = -2302.6`.

    **Arguments:**

    - `log_norm`: natural logarithms of the blocks' norms, shape `(m,)`; -inf is a zero block.
    - `direction`: unit vectors, shape `(m, p)`. The block of a two-layer neuron is (a, w) in that
      order, p = C + d with C outputs.
    """

    log_norm: Float[ndarray, " m"]
    direction: Float[ndarray, "m p"]

    @property
    def blocks(self) -> int:
        """The number m of blocks."""
        return len(self.log_norm)

    def weights(self) -> Float[ndarray, "m p"]:
        """The weights themselves; those below 1e-308 underflow to zero."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_norm)[:, None] * self.direction

    def check_balanced(self, outputs: int = 1) -> None:
        """Make sure that |a_j| = |w_j| for every neuron, to 1e-12 of its norm.

        **Raises:** `PolarflowError` naming the neuron that is farthest from it.
        """
        a = np.linalg.norm(self.direction[:, :outputs], axis=1)
        w = np.linalg.norm(self.direction[:, outputs:], axis=1)
        j = int(np.argmax(np.abs(a - w)))
        if abs(a[j] - w[j]) > BALANCED:
            raise PolarflowError(
                f"init: direction[{j}] has |a| = {a[j]:.6g} and |w| = {w[j]:.6g}; they must agree "
                f"to {BALANCED:g}, as unbalanced starts are not supported."
            )
