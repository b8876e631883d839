"""How the residual of a loss of classification is shared among margins."""

import numpy as np
from numpy import ndarray

from .._logs import log_sum


class Margins:
    """The margins z = M h on which a loss of classification depends, and their weights q(z).

    Margin i belongs to the example `example[i]`. For the logistic and exponential loss there is
    one for each prediction, z = y h; for the cross-entropy one for each class c other than the
    example's own class o, z = h_o - h_c.

    **Arguments:**

    - `kind`: `"logistic"`, `"exponential"` or `"cross_entropy"`.
    - `label`: shape `(n, C)`; one-hot for the cross-entropy.
    """

    def __init__(self, kind: str, label: ndarray) -> None:
        n, outputs = label.shape
        self.kind = kind
        self.shape = label.shape
        flat = np.arange(n * outputs)
        if kind == "cross_entropy":
            own = np.argmax(label, axis=1)
            other = np.argwhere(np.arange(outputs) != own[:, None])
            self.example = other[:, 0]
            self.minus = self.example * outputs + other[:, 1]
            self.plus = self.example * outputs + own[self.example]
            self.sign = np.ones(len(other))
        else:
            self.example = flat // outputs
            self.plus = flat
            self.minus = np.full(len(flat), -1)
            self.sign = label.reshape(-1).astype(float)

    def of(self, prediction: ndarray) -> ndarray:
        """z = M h at predictions of shape `(n, C)`."""
        h = prediction.reshape(-1)
        z = self.sign * h[self.plus]
        return z - h[self.minus] if self.kind == "cross_entropy" else z

    def spread(self, weights: ndarray) -> ndarray:
        """M^T p, of shape `(..., n, C)`, from p of shape `(..., margins)`."""
        out = np.zeros((*weights.shape[:-1], self.shape[0] * self.shape[1]))
        if self.kind == "cross_entropy":
            out[..., self.minus] = -weights
            for c in range(self.shape[1] - 1):
                out[..., self.plus[c :: self.shape[1] - 1]] += weights[..., c :: self.shape[1] - 1]
        else:
            out[..., self.plus] = self.sign * weights
        return out.reshape(*weights.shape[:-1], *self.shape)

    def kernel(self, kernel: ndarray) -> ndarray:
        """M K M^T from the kernel K over examples and outputs."""
        rows = self.sign[:, None] * kernel[self.plus]
        if self.kind == "cross_entropy":
            rows = rows - kernel[self.minus]
            return rows[:, self.plus] - rows[:, self.minus]
        return rows[:, self.plus] * self.sign

    def log_weight(self, z: ndarray) -> ndarray:
        """ln q, q = -dl/dz / factor, from margins of shape `(..., margins)`."""
        if self.kind == "exponential":
            return -z
        if self.kind == "logistic":
            return -np.logaddexp(0.0, z)
        by_example = -z.reshape(*z.shape[:-1], self.shape[0], self.shape[1] - 1)
        total = np.logaddexp(0.0, log_sum(by_example)[..., None])
        return (by_example - total).reshape(z.shape)

    def slope(self, z: ndarray, matrix: ndarray) -> ndarray:
        """B times a matrix, B = -d ln q / dz at margins z of shape `(margins,)`."""
        if self.kind == "exponential":
            return matrix
        q = np.exp(self.log_weight(z))
        if self.kind == "logistic":
            return (1.0 - q)[:, None] * matrix
        shape = (self.shape[0], self.shape[1] - 1, matrix.shape[1])
        mean = np.sum((q[:, None] * matrix).reshape(shape), axis=1)
        return matrix - mean[self.example]
