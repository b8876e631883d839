"""Losses for real labels: the square loss, and the correlation, which is the flow of the NCF."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy import ndarray

from ._base import Loss, polar


@dataclass(frozen=True)
class Square(Loss):
    """The square loss l(h) = factor * sum_k |h_k - y_k|^2 / 2, with residual factor * (y - h).

    The mean squared error without one half is `Square("mean", scale=2.0)`.
    """

    kind: ClassVar[str] = "square"

    def log_value(self, prediction: ndarray, label: ndarray) -> ndarray:
        log_size, _ = polar(prediction - label, label.ndim)
        return 2.0 * log_size + np.log(0.5 * self.factor(len(label)))

    def log_residual(self, prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        return polar(label - prediction, label.ndim, float(np.log(self.factor(len(label)))))

    def value(self, prediction: ndarray, label: ndarray) -> ndarray:
        over = tuple(range(-label.ndim, 0))
        return 0.5 * self.factor(len(label)) * np.sum((prediction - label) ** 2, axis=over)

    def residual(self, prediction: ndarray, label: ndarray) -> ndarray:
        return self.factor(len(label)) * (label - prediction)


@dataclass(frozen=True)
class Correlation(Loss):
    """The correlation l(h) = -factor * sum_k y_k.h_k, whose residual factor * y is constant.

    Its gradient flow is the flow of the neural correlation function N_y itself (Kumar & Haupt,
    2024). The loss is negative once the network correlates with the labels: its logarithm is nan.
    """

    kind: ClassVar[str] = "correlation"

    def log_value(self, prediction: ndarray, label: ndarray) -> ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(self.value(prediction, label))

    def log_residual(self, prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        log_norm, unit = polar(label, label.ndim, float(np.log(self.factor(len(label)))))
        batch = prediction.shape[: prediction.ndim - label.ndim]
        return np.broadcast_to(log_norm, batch), np.broadcast_to(unit, prediction.shape)

    def value(self, prediction: ndarray, label: ndarray) -> ndarray:
        over = tuple(range(-label.ndim, 0))
        # Adding zero turns the -0.0 of a network that is zero into 0.0.
        return 0.0 - self.factor(len(label)) * np.sum(prediction * label, axis=over)

    def residual(self, prediction: ndarray, label: ndarray) -> ndarray:
        return np.broadcast_to(self.factor(len(label)) * label, prediction.shape)
