"""What is to be followed: data, network, loss and the state at time zero."""

from dataclasses import dataclass

import numpy as np

from ..data import Data
from ..errors import PolarflowError
from ..losses import Loss, Square
from ..networks import BlockState, Network, TwoLayer

#: Beyond this, squares and products of data leave the range of floats.
_LARGEST = 1e50


@dataclass(frozen=True)
class Problem:
    """A gradient flow: w' in -dl(w) from `initial`, for the network's loss on the data."""

    data: Data
    network: TwoLayer | Network
    initial: BlockState
    loss: Loss

    @property
    def two_layer(self) -> TwoLayer:
        """The network, for what knows two-layer (leaky) ReLU networks only.

        **Raises:** `PolarflowError` if it is another one.
        """
        if not isinstance(self.network, TwoLayer):
            raise PolarflowError(
                f'network.kind is "{self.network.kind}" and its kinks are not located; here a '
                '"two_layer" network with activation "relu" or "leaky_relu" is needed.'
            )
        return self.network

    @property
    def prediction_shape(self) -> tuple[int, ...]:
        """The shape of the network's values at the examples: `(n,)`, or `(n, C)`."""
        c = self.network.outputs
        return (self.data.examples,) if c == 1 else (self.data.examples, c)


def problem(
    data: Data, network: TwoLayer | Network, initial: BlockState, *, loss: Loss | None = None
) -> Problem:
    """A gradient-flow problem.

    **Arguments:**

    - `data`: inputs `(n, d)` and labels `(n,)`, or `(n, C)`.
    - `network`: a network; its blocks must match the state, its outputs the labels.
    - `initial`: the weights at time zero in polar form.
    - `loss`: by default `Square("mean")`, (1/n) sum_k |h_k - y_k|^2 / 2.

    **Raises:** `PolarflowError` if shapes disagree, or the loss needs other labels.
    """
    loss = loss if loss is not None else Square()
    network.check_state(initial, data.dimension)
    loss.check_labels(data.y)
    wanted, classes = loss.outputs(data.y), loss.kind == "cross_entropy" and data.y.ndim == 1
    if network.outputs < wanted or (network.outputs > wanted and not classes):
        raise PolarflowError(
            f"network.outputs is {network.outputs}; the labels need {wanted}"
            f"{' at least' if classes else ''}."
        )
    for name, values in (("x", data.x), ("y", data.y)):
        largest = float(np.max(np.abs(values), initial=0.0))
        if largest > _LARGEST:
            raise PolarflowError(
                f"data.{name} holds a number of size {largest:.3g}; the largest allowed is "
                f"{_LARGEST:g}. Scale the data."
            )
    return Problem(data, network, initial, loss)
