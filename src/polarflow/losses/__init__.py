"""Losses as functions of the predictions alone, with residuals and values in logarithms."""

from ._base import Loss as Loss
from ._base import MarginLoss as MarginLoss
from ._base import Reduction as Reduction
from ._margin import CrossEntropy as CrossEntropy
from ._margin import Exponential as Exponential
from ._margin import Logistic as Logistic
from ._regression import Correlation as Correlation
from ._regression import Square as Square

#: The losses by their names in a spec.
LOSSES: dict[str, type[Loss]] = {
    loss.kind: loss for loss in (Square, Logistic, Exponential, CrossEntropy, Correlation)
}
