"""The linear systems of collocation: (I - h A x J_i) dx = b with a Jacobian at every node."""

import numpy as np
from numpy import ndarray

from .._collocation import radau

#: Systems of at most so many numbers at a node are solved directly.
DIRECT = 60
#: The relative residual of an iterative solution; Newton's iteration does the rest.
_RESIDUAL = 1e-6
_KRYLOV = 60


def solve_stages(length: float, jacobian: ndarray, right: ndarray) -> ndarray | None:
    """dx at the nodes, `(s, N)`, from Jacobians `(s, N, N)` and right sides `(s, N)`, or None.

    Large systems are solved by GMRES. One Jacobian for all nodes, their mean, is diagonal in the
    eigenvectors of A, and preconditions: it takes a complex system of N numbers for each pair of
    eigenvalues, in place of one of s N numbers.
    """
    stages, size = right.shape
    matrix = length * radau(stages).matrix
    if size > DIRECT:
        found = _iterate(matrix, jacobian, right)
        if found is not None:
            return found
    count = stages * size
    system = -matrix[:, None, :, None] * jacobian.transpose(1, 0, 2)[None]
    system = system.reshape(count, count)
    system.flat[:: count + 1] += 1.0
    try:
        return np.linalg.solve(system, right.ravel()).reshape(stages, size)
    except np.linalg.LinAlgError:
        return None


def _iterate(matrix: ndarray, jacobian: ndarray, right: ndarray) -> ndarray | None:
    from scipy.linalg import lu_factor, lu_solve
    from scipy.sparse.linalg import LinearOperator, gmres

    stages, size = right.shape
    values, vectors = np.linalg.eig(matrix)
    inverse = np.linalg.inv(vectors)
    mean = jacobian.mean(axis=0)
    upper = np.flatnonzero(values.imag >= 0.0)
    factors = [lu_factor(np.eye(size) - values[k] * mean, check_finite=False) for k in upper]
    share = [1.0 if values[k].imag == 0.0 else 2.0 for k in upper]

    def precondition(b: ndarray) -> ndarray:
        modes = inverse @ b.reshape(stages, size)
        found = np.zeros((stages, size))
        for k, factor, weight in zip(upper, factors, share, strict=True):
            solved = lu_solve(factor, modes[k], check_finite=False)
            found += weight * np.outer(vectors[:, k], solved).real
        return found.ravel()

    def apply(x: ndarray) -> ndarray:
        x = x.reshape(stages, size)
        return (x - matrix @ np.einsum("inm,im->in", jacobian, x)).ravel()

    count = stages * size
    # Preconditioned from the left, so that the residual is in the units of x.
    operator = LinearOperator((count, count), matvec=lambda x: precondition(apply(x)))
    wanted = precondition(right.ravel())
    found, info = gmres(operator, wanted, rtol=_RESIDUAL, restart=_KRYLOV, maxiter=1)
    return found.reshape(stages, size) if info == 0 else None
