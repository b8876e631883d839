"""Losses of classification: logistic, exponential, and the cross-entropy of the softmax."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._base import MarginLoss, log_sum, polar_of_logs


def softplus(z: ndarray) -> ndarray:
    """ln(1 + e^z)."""
    return np.logaddexp(0.0, z)


def log_softplus(z: ndarray) -> ndarray:
    """ln ln(1 + e^z), which tends to z where e^z underflows."""
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        # ln(1 + u)/u = 1 - u/2 + O(u^2)
        return np.where(z > -30.0, np.log(softplus(z)), z - 0.5 * np.exp(np.minimum(z, 0.0)))


def inverse_softplus(log_sum: ndarray) -> ndarray:
    """The z with ln(1 + e^{-z}) = S, z = -ln(e^S - 1), from ln S."""
    log_sum = np.asarray(log_sum, dtype=float)
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        s = np.exp(log_sum)
        # expm1(S)/S = 1 + S/2 + O(S^2); for large S, ln(e^S - 1) = S + ln(1 - e^-S).
        return -np.where(
            log_sum < -30.0,
            log_sum + 0.5 * s,
            np.where(s < 1.0, np.log(np.expm1(np.minimum(s, 1.0))), s + np.log1p(-np.exp(-s))),
        )


def _check_signs(kind: str, label: ndarray) -> None:
    wrong = np.argwhere(np.abs(label) != 1.0)
    if len(wrong):
        place = "".join(f"[{i}]" for i in wrong[0])
        raise PolarflowError(
            f'data.y{place} is {label[tuple(wrong[0])]:g}; the loss "{kind}" needs labels -1 and 1.'
        )


@dataclass(frozen=True)
class Logistic(MarginLoss):
    """The logistic loss l(h) = factor * sum_k ln(1 + e^{-y_k h_k}) for labels y_k = +-1.

    With C outputs the sum is over the outputs of each example too.
    """

    kind: ClassVar[str] = "logistic"

    def check_labels(self, label: ndarray) -> None:
        _check_signs(self.kind, label)

    def log_value(self, prediction: ndarray, label: ndarray) -> ndarray:
        logs = log_softplus(-(label * prediction))
        return log_sum(logs, label.ndim) + np.log(self.factor(len(label)))

    def log_residual(self, prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        log_factor = float(np.log(self.factor(len(label))))
        return polar_of_logs(-softplus(label * prediction), label, label.ndim, log_factor)

    def margins(self, prediction: ndarray, label: ndarray) -> ndarray:
        z = label * prediction
        return z if label.ndim == 1 else z.min(axis=-1)

    def inverse(self, log_sum: ndarray) -> ndarray:
        return inverse_softplus(log_sum)


@dataclass(frozen=True)
class Exponential(MarginLoss):
    """The exponential loss l(h) = factor * sum_k e^{-y_k h_k} for labels y_k = +-1.

    With C outputs the sum is over the outputs of each example too.
    """

    kind: ClassVar[str] = "exponential"

    def check_labels(self, label: ndarray) -> None:
        _check_signs(self.kind, label)

    def log_value(self, prediction: ndarray, label: ndarray) -> ndarray:
        return log_sum(-(label * prediction), label.ndim) + np.log(self.factor(len(label)))

    def log_residual(self, prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        log_factor = float(np.log(self.factor(len(label))))
        return polar_of_logs(-(label * prediction), label, label.ndim, log_factor)

    def margins(self, prediction: ndarray, label: ndarray) -> ndarray:
        z = label * prediction
        return z if label.ndim == 1 else z.min(axis=-1)

    def inverse(self, log_sum: ndarray) -> ndarray:
        return -np.asarray(log_sum, dtype=float)


@dataclass(frozen=True)
class CrossEntropy(MarginLoss):
    r"""The cross-entropy of the softmax, l(h) = -factor * sum_k ln p_{k,y_k}, p = softmax(h_k).

    Labels are class numbers 0..C-1, shape `(n,)`, or one-hot rows `(n, C)`; predictions have
    shape `(*batch, n, C)`. With $s_k = \ln \sum_{c \neq y} e^{h_c - h_y}$ each example adds
    $\ln(1 + e^{s_k})$, the logistic loss of the soft margin $-s_k$.
    """

    kind: ClassVar[str] = "cross_entropy"

    def check_labels(self, label: ndarray) -> None:
        if label.ndim == 1:
            wrong = np.flatnonzero((label < 0) | (label != np.floor(label)))
            shown, allowed = label, "class numbers 0, 1, 2, ..."
        else:
            row = (label == 0.0) | (label == 1.0)
            wrong = np.flatnonzero(~row.all(axis=1) | (label.sum(axis=1) != 1.0))
            shown, allowed = label, "rows with a single 1 and zeros else"
        if len(wrong):
            k = int(wrong[0])
            raise PolarflowError(
                f'data.y[{k}] is {shown[k].tolist()}; the loss "{self.kind}" needs {allowed}.'
            )
        if self.outputs(label) < 2:
            raise PolarflowError(
                f'data.y has a single class; the loss "{self.kind}" needs at least 2.'
            )

    def outputs(self, label: ndarray) -> int:
        """The number of classes: one more than the largest class number, or the columns."""
        return int(label.max(initial=0.0)) + 1 if label.ndim == 1 else label.shape[1]

    def log_value(self, prediction: ndarray, label: ndarray) -> ndarray:
        gap, _ = self._gaps(prediction, label)
        return log_sum(log_softplus(log_sum(gap, 1)), 1) + np.log(self.factor(len(label)))

    def log_residual(self, prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        gap, own = self._gaps(prediction, label)
        s = log_sum(gap, 1)[..., None]
        # r_y = 1 - p_y = 1/(1 + e^{-s}), and r_c = -p_c = -e^{h_c - h_y}/(1 + e^s) elsewhere.
        logs = np.where(own, -softplus(-s), gap - softplus(s))
        sign = np.where(own, 1.0, -1.0)
        return polar_of_logs(logs, sign, 2, float(np.log(self.factor(len(label)))))

    def margins(self, prediction: ndarray, label: ndarray) -> ndarray:
        gap, _ = self._gaps(prediction, label)
        return -gap.max(axis=-1)

    def inverse(self, log_sum: ndarray) -> ndarray:
        return inverse_softplus(log_sum)

    @staticmethod
    def _gaps(prediction: ndarray, label: ndarray) -> tuple[ndarray, ndarray]:
        """h_c - h_y, -inf for c = y, and where c = y."""
        classes = label if label.ndim == 1 else np.argmax(label, axis=1)
        own = np.arange(prediction.shape[-1]) == classes[:, None]
        right = np.sum(np.where(own, prediction, 0.0), axis=-1, keepdims=True)
        return np.where(own, -np.inf, prediction - right), own
