"""Losses as functions of the predictions alone.

A loss l(h) = sum_k l_k(h_k) enters the flow only through its *residual* r = -dl/dh, an
n-vector: every block w_j climbs its own neural correlation function N_r (Kumar & Haupt, 2024).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from .errors import PolarflowError

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Square:
    """The square loss l(h) = factor * sum_k (h_k - y_k)^2 / 2.

    The factor is `scale` with `reduction="sum"` and `scale / n` with `reduction="mean"`. The mean
    squared error without one half is `Square("mean", scale=2.0)`.

    **Arguments:**

    - `reduction`: `"mean"` or `"sum"` over the n examples.
    - `scale`: a positive number that multiplies the loss.
    """

    reduction: Reduction = "mean"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.reduction not in ("mean", "sum"):
            raise PolarflowError(
                f'loss.reduction is {self.reduction!r}; allowed are "mean" and "sum".'
            )
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise PolarflowError(f"loss.scale is {self.scale}; it must be a positive number.")

    @property
    def kind(self) -> str:
        """The name of the loss in a spec."""
        return "square"

    def factor(self, examples: int) -> float:
        """The number that multiplies sum_k (h_k - y_k)^2 / 2."""
        return self.scale / examples if self.reduction == "mean" else self.scale

    def value(
        self, prediction: Float[ndarray, "*batch n"], label: Float[ndarray, " n"]
    ) -> Float[ndarray, "*batch"]:
        """The loss at predictions h."""
        return 0.5 * self.factor(len(label)) * np.sum((prediction - label) ** 2, axis=-1)

    def residual(
        self, prediction: Float[ndarray, "*batch n"], label: Float[ndarray, " n"]
    ) -> Float[ndarray, "*batch n"]:
        """The residual r = -dl/dh = factor * (y - h)."""
        return self.factor(len(label)) * (label - prediction)
