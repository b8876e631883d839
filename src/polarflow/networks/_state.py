"""The polar state of a network's blocks."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class BlockState:
    """Weights of m blocks in polar form, w_j = exp(log_norm_j) * direction_j.

    Nothing underflows: a block of norm 1e-1000 has `log_norm = -2302.6`.

    **Arguments:**

    - `log_norm`: natural logarithms of the blocks' norms, shape `(m,)`; -inf is a zero block.
    - `direction`: unit vectors, shape `(m, p)`. The block of a two-layer neuron is (a, w) in that
      order, p = 1 + d.
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
