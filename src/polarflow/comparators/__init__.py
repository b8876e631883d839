"""Answers to compare a flow with: gradient descent, kernels, and convex programs."""

from ._answers import ANSWERS as ANSWERS
from ._compare import Comparison as Comparison
from ._compare import compare as compare
from ._gradient_descent import Descent as Descent
from ._gradient_descent import gradient_descent as gradient_descent
from ._l1 import L1Minimum as L1Minimum
from ._l1 import least_l1_norm as least_l1_norm
from ._margin import HardMargin as HardMargin
from ._margin import NtkMargin as NtkMargin
from ._margin import hard_margin as hard_margin
from ._margin import ntk_margin as ntk_margin
from ._minimum import VariationMinimum as VariationMinimum
from ._ntk import NtkInterpolant as NtkInterpolant
from ._ntk import ntk_interpolant as ntk_interpolant
from ._orthogonal import orthogonal_variation_norm as orthogonal_variation_norm
from ._squared import MarginGame as MarginGame
from ._squared import global_margin as global_margin
from ._squared import local_margin as local_margin
from ._variation import least_variation_norm as least_variation_norm
from ._variation import most_margin as most_margin
