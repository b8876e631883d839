"""Non-negative least squares, checked."""

import numpy as np
from numpy import ndarray

#: By how much a gradient may violate optimality, relative to its terms.
_OPTIMAL = 1e-10


def nonnegative(matrix: ndarray, target: ndarray) -> ndarray:
    """The u >= 0 with the least |matrix u - target|.

    SciPy's quick active-set routine can stop short of the optimum where entries of the gradient
    are zero to rounding (seen in 1.17 on orthonormal columns), so that the optimality conditions
    are checked, and the problem is solved again by bounded-variable least squares where they fail.
    """
    from scipy.optimize import lsq_linear, nnls

    u, _ = nnls(matrix, target, maxiter=50 * matrix.shape[1] + 100)
    size = np.linalg.norm(matrix, axis=0) * np.linalg.norm(target)
    gradient = matrix.T @ (target - matrix @ u)
    wrong = np.where(u > 0.0, np.abs(gradient), gradient) > _OPTIMAL * size
    if wrong.any():
        u = np.maximum(
            lsq_linear(matrix, target, bounds=(0.0, np.inf), method="bvls", tol=1e-15).x, 0.0
        )
    return np.asarray(u)
