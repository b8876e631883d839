"""Trajectories: states and what is measured on them, at a list of times."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..networks import BlockState


@dataclass(frozen=True)
class Trajectory:
    """The flow at T times.

    **Attributes:**

    - `time`: flow times, shape `(T,)`.
    - `log_norm`, `direction`: the blocks in polar form, shapes `(T, m)` and `(T, m, p)`.
    - `loss`, `log_loss`, `grad_norm`: the loss, its natural logarithm and |grad|, shape `(T,)`.
    - `prediction`: the network at the examples, shape `(T, n)`.
    - `output`: the network at the recorded inputs, shape `(T, q)`; q may be 0.
    """

    time: Float[ndarray, " T"]
    log_norm: Float[ndarray, "T m"]
    direction: Float[ndarray, "T m p"]
    loss: Float[ndarray, " T"]
    log_loss: Float[ndarray, " T"]
    grad_norm: Float[ndarray, " T"]
    prediction: Float[ndarray, "T n"]
    output: Float[ndarray, "T q"]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def log_time(self) -> Float[ndarray, " T"]:
        """Natural logarithms of the times; -inf at zero."""
        with np.errstate(divide="ignore"):
            return np.log(self.time)

    @property
    def log_param_norm(self) -> Float[ndarray, " T"]:
        """ln of the norm of all weights."""
        top = self.log_norm.max(axis=1)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore", divide="ignore"):
            return safe + 0.5 * np.log(np.sum(np.exp(2 * (self.log_norm - safe[:, None])), axis=1))

    def state(self, index: int) -> BlockState:
        """The weights at one of the times."""
        return BlockState(self.log_norm[index], self.direction[index])

    def weights(self) -> Float[ndarray, "T m p"]:
        """The weights as numbers; those below 1e-308 underflow to zero."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_norm)[:, :, None] * self.direction
