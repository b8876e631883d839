"""What a loss is.

A loss l(h) = factor * sum_k l_k(h_k) enters the flow only through its *residual* r = -dl/dh:
every block w_j climbs its own neural correlation function N_r (Kumar & Haupt, 2024).

Predictions have shape `(*batch, n)`, or `(*batch, n, C)` with C outputs; labels have the shape of
one prediction, `(n,)` or `(n, C)`. Only the cross-entropy takes class numbers `(n,)` for
predictions `(*batch, n, C)`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Loss(ABC):
    """The interface of the losses.

    The factor is `scale` with `reduction="sum"` and `scale / n` with `reduction="mean"`.

    **Arguments:**

    - `reduction`: `"mean"` or `"sum"` over the n examples.
    - `scale`: a positive number that multiplies the loss.
    """

    reduction: Reduction = "mean"
    scale: float = 1.0

    #: The name of the loss in a spec.
    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise PolarflowError(
                f'loss.reduction is {self.reduction!r}; allowed are "mean" and "sum".'
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise PolarflowError(f"loss.scale is {self.scale}; it must be a positive number.")

    def factor(self, examples: int) -> float:
        """The number that multiplies sum_k l_k(h_k) over n examples."""
        return self.scale / examples if self.reduction == "mean" else self.scale

    def check_labels(self, label: ndarray) -> None:  # noqa: B027 - most losses take any
        """Make sure that labels are of the kind that the loss needs.

        **Raises:** `PolarflowError` naming the first label that isn't, and what is allowed.
        """

    def outputs(self, label: ndarray) -> int:
        """The number C of outputs that a network needs for labels."""
        return 1 if label.ndim == 1 else label.shape[1]

    @abstractmethod
    def log_value(self, prediction: ndarray, label: ndarray) -> Float[ndarray, "*batch"]:
        """The natural logarithm of the loss: -inf for zero, nan where the loss is negative."""

    @abstractmethod
    def log_residual(
        self, prediction: ndarray, label: ndarray
    ) -> tuple[Float[ndarray, "*batch"], ndarray]:
        """The residual r = -dl/dh as ln|r| and r/|r|, the norm over examples and outputs.

        Each entry of r/|r| has its own relative accuracy, also where r underflows; r/|r| is zero
        where r vanishes.
        """

    def value(self, prediction: ndarray, label: ndarray) -> Float[ndarray, "*batch"]:
        """The loss; zero where a float can't hold it."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(self.log_value(prediction, label))

    def residual(self, prediction: ndarray, label: ndarray) -> ndarray:
        """The residual r = -dl/dh, of the predictions' shape."""
        log_norm, unit = self.log_residual(prediction, label)
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(log_norm)[(...,) + (None,) * (unit.ndim - np.ndim(log_norm))] * unit


class MarginLoss(Loss):
    """A loss of classification, a decreasing function of margins z: it vanishes as they grow."""

    @abstractmethod
    def margins(self, prediction: ndarray, label: ndarray) -> Float[ndarray, "*batch n"]:
        """The margin of each example: y_k h_k, or h_y - max over the other classes."""

    @abstractmethod
    def inverse(self, log_sum: Float[ndarray, "*batch"]) -> Float[ndarray, "*batch"]:
        r"""$\ell^{-1}(S)$ from ln S: the margin at which one example alone has the loss S."""

    def smoothed_margin(
        self, log_value: Float[ndarray, "*batch"], examples: int
    ) -> Float[ndarray, "*batch"]:
        r"""The smoothed margin $\ell^{-1}(\sum_k l_k)$ (Lyu & Li, 2020), not divided by a norm.

        **Arguments:**

        - `log_value`: the logarithm of the loss; `reduction` and `scale` are undone here.
        - `examples`: the number n of examples.
        """
        return self.inverse(np.asarray(log_value) - np.log(self.factor(examples)))


def polar(vector: ndarray, axes: int, log_factor: float = 0.0) -> tuple[ndarray, ndarray]:
    """ln|v| + log_factor and v/|v|, the norm over the last `axes` axes; (-inf, 0) for zero."""
    over = tuple(range(-axes, 0))
    top = np.max(np.abs(vector), axis=over, keepdims=True, initial=0.0)
    safe = np.where(top > 0.0, top, 1.0)
    scaled = vector / safe
    with np.errstate(under="ignore"):
        size = np.sqrt(np.sum(scaled * scaled, axis=over, keepdims=True))
    unit = scaled / np.where(size > 0.0, size, 1.0)
    with np.errstate(divide="ignore"):
        return np.squeeze(np.log(safe) + np.log(size), axis=over) + log_factor, unit


def polar_of_logs(
    log_size: ndarray, sign: ndarray, axes: int, log_factor: float
) -> tuple[ndarray, ndarray]:
    """As `polar`, for the vector sign * exp(log_size)."""
    over = tuple(range(-axes, 0))
    top = np.max(log_size, axis=over, keepdims=True)
    # The largest logarithm is taken out before anything is added: 1e10 + 1 has lost six digits.
    with np.errstate(under="ignore"):
        log_norm, unit = polar(sign * np.exp(log_size - top), axes)
    return log_norm + (np.squeeze(top, axis=over) + log_factor), unit


def log_sum(logs: ndarray, axes: int) -> ndarray:
    """ln sum exp over the last axes."""
    over = tuple(range(-axes, 0))
    top = np.max(logs, axis=over, keepdims=True)
    with np.errstate(under="ignore"):
        rest = np.log(np.sum(np.exp(logs - top), axis=over))
    return np.squeeze(top, axis=over) + rest
