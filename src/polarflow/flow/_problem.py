"""What is to be followed: data, network, loss and the state at time zero."""

from dataclasses import dataclass

import numpy as np

from ..data import Data
from ..errors import PolarflowError
from ..losses import Loss, Square
from ..networks import BlockState, TwoLayer

#: Beyond this, squares and products of data leave the range of floats.
_LARGEST = 1e50


@dataclass(frozen=True)
class Problem:
    """A gradient flow: w' in -dl(w) from `initial`, for the network's loss on the data."""

    data: Data
    network: TwoLayer
    initial: BlockState
    loss: Loss

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """The shape of the network's values at the examples: `(n,)`, or `(n, C)`."""
        return (self.data.examples,)


def problem(
    data: Data, network: TwoLayer, initial: BlockState, *, loss: Loss | None = None
) -> Problem:
    """A gradient-flow problem.

    **Arguments:**

    - `data`: inputs `(n, d)` and labels `(n,)`.
    - `network`: a network; its blocks must match the state.
    - `initial`: the weights at time zero in polar form.
    - `loss`: by default `Square("mean")`, (1/n) sum_k (h_k - y_k)^2 / 2.

    **Raises:** `PolarflowError` if shapes disagree, or the loss needs other labels.
    """
    expected = (network.width, 1 + data.dimension)
    if initial.direction.shape != expected:
        raise PolarflowError(
            f"init: directions have shape {initial.direction.shape}; a two-layer network of "
            f"width {network.width} on inputs of length {data.dimension} (bias included) needs "
            f"{expected}."
        )
    for name, values in (("x", data.x), ("y", data.y)):
        largest = float(np.max(np.abs(values), initial=0.0))
        if largest > _LARGEST:
            raise PolarflowError(
                f"data.{name} holds a number of size {largest:.3g}; the largest allowed is "
                f"{_LARGEST:g}. Scale the data."
            )
    loss = loss if loss is not None else Square()
    loss.check_labels(data.y)
    return Problem(data, network, initial, loss)
