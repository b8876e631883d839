"""Classical answers to compare a flow with: gradient descent and the NTK interpolant."""

from ._gradient_descent import Descent as Descent
from ._gradient_descent import gradient_descent as gradient_descent
from ._ntk import NtkInterpolant as NtkInterpolant
from ._ntk import ntk_interpolant as ntk_interpolant
