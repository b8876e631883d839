"""The linear systems of collocation: (I - h A x J_i) dx = b with a Jacobian at every node."""

from functools import cache

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
        # Of an attempt that goes astray the numbers may be too large; it is given up then.
        with np.errstate(over="ignore", invalid="ignore"):
            found = _iterate(length, jacobian, right)
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


@cache
def _modes(stages: int) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """Eigenvalues of A in the upper half plane, how often each counts, eigenvectors, inverse."""
    values, vectors = np.linalg.eig(radau(stages).matrix)
    upper = values.imag >= 0.0
    share = np.where(values.imag[upper] == 0.0, 1.0, 2.0)
    return values[upper], share, vectors[:, upper], np.linalg.inv(vectors)[upper]


def _iterate(length: float, jacobian: ndarray, right: ndarray) -> ndarray | None:
    """GMRES, preconditioned from the left, so that the residual is in the units of x."""
    stages, size = right.shape
    matrix = length * radau(stages).matrix
    values, share, vectors, inverse = _modes(stages)
    mean = jacobian.mean(axis=0)
    try:
        solver = np.linalg.inv(np.eye(size) - length * values[:, None, None] * mean)
    except np.linalg.LinAlgError:
        return None
    solver *= share[:, None, None]

    def precondition(b: ndarray) -> ndarray:
        modes = (solver @ (inverse @ b)[:, :, None])[:, :, 0]
        found: ndarray = (vectors @ modes).real
        return found

    basis = np.empty((_KRYLOV + 1, stages, size))
    wanted = precondition(right)
    scale = float(np.linalg.norm(wanted))
    if not np.isfinite(scale):
        return None
    if scale == 0.0:
        return np.zeros_like(right)
    basis[0] = wanted / scale
    upper = np.zeros((_KRYLOV + 1, _KRYLOV))
    for k in range(_KRYLOV):
        moved = (jacobian @ basis[k][:, :, None])[:, :, 0]
        new = precondition(basis[k] - matrix @ moved)
        flat = basis[: k + 1].reshape(k + 1, -1)
        for _ in range(2):
            part = flat @ new.ravel()
            upper[: k + 1, k] += part
            new = new - (part @ flat).reshape(stages, size)
        upper[k + 1, k] = np.linalg.norm(new)
        first = np.zeros(k + 2)
        first[0] = scale
        found, *_ = np.linalg.lstsq(upper[: k + 2, : k + 1], first, rcond=None)
        rest = float(np.linalg.norm(upper[: k + 2, : k + 1] @ found - first))
        if not np.isfinite(rest):
            return None
        if rest <= _RESIDUAL * scale:
            return np.einsum("k,kin->in", found, basis[: k + 1])
        basis[k + 1] = new / upper[k + 1, k]
    return None


def largest_rate(jacobian: ndarray) -> float:
    """About the norm of a Jacobian `(N, N)`: a few steps of power iteration."""
    vector = np.ones(len(jacobian)) + 0.1 * np.cos(np.arange(len(jacobian)))
    norm = 0.0
    for _ in range(6):
        vector = jacobian.T @ (jacobian @ (vector / np.linalg.norm(vector)))
        norm = float(np.linalg.norm(vector))
        if not norm > 0.0:
            return 0.0
    return float(np.sqrt(norm))
