"""Trajectories: states and what is measured on them, at a list of times."""

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..networks import BlockState


@dataclass(frozen=True)
class Trajectory:
    """The flow at T times.

    Sizes are kept as natural logarithms; a number that a float can't hold is 0 or inf.

    **Attributes:**

    - `time`, `log_time`: flow times and their logarithms, shape `(T,)`.
    - `log_norm`, `direction`: the blocks in polar form, shapes `(T, m)` and `(T, m, p)`.
    - `loss`, `log_loss`: the loss, and its logarithm, nan where it is negative; shape `(T,)`.
    - `log_grad_norm`, `log_residual`: of the norms of the loss's gradient and of the residual,
      shape `(T,)`.
    - `prediction`: the network at the examples, shape `(T, n)`, or `(T, n, C)` with C outputs.
    - `output`: the network at the recorded inputs, `(T, q)` or `(T, q, C)`; q may be 0.
    """

    time: Float[ndarray, " T"]
    log_time: Float[ndarray, " T"]
    log_norm: Float[ndarray, "T m"]
    direction: Float[ndarray, "T m p"]
    loss: Float[ndarray, " T"]
    log_loss: Float[ndarray, " T"]
    log_grad_norm: Float[ndarray, " T"]
    log_residual: Float[ndarray, " T"]
    prediction: Float[ndarray, "T n *C"]
    output: Float[ndarray, "T q *C"]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def grad_norm(self) -> Float[ndarray, " T"]:
        """The norm of the gradient of the loss."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_grad_norm)

    @property
    def log_param_norm(self) -> Float[ndarray, " T"]:
        """ln of the norm of all weights."""
        top = self.log_norm.max(axis=1)
        safe = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(under="ignore", divide="ignore"):
            return safe + 0.5 * np.log(np.sum(np.exp(2 * (self.log_norm - safe[:, None])), axis=1))

    def select(self, index: ndarray) -> "Trajectory":
        """The trajectory at some of its times, given by their indices."""
        return Trajectory(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def state(self, index: int) -> BlockState:
        """The weights at one of the times."""
        return BlockState(self.log_norm[index], self.direction[index])

    def weights(self) -> Float[ndarray, "T m p"]:
        """The weights as numbers; those below 1e-308 underflow to zero."""
        with np.errstate(under="ignore"):
            return np.exp(self.log_norm)[:, :, None] * self.direction
