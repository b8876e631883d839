"""The arrangement of the examples' hyperplanes, in the coordinates in which neurons move."""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Arrangement:
    """Hyperplanes w.e_i = 0 with unit normals, on which the activations of neurons change.

    Parallel examples x_k = c_k e_i share a hyperplane; an input that is zero has none. With
    pre-activation z = w.e_i an example contributes `plus_k` z on the side z > 0 and `minus_k` z
    on the side z < 0.

    Weights move in the span of the examples only, so that they are held in an orthonormal basis
    of that span; the constant part orthogonal to it counts through its norm.

    **Attributes:**

    - `basis`: orthonormal columns, shape `(d, q)`; the identity when the examples span R^d.
    - `normals`: the e_i in that basis, shape `(p, q)`.
    - `plane`: the hyperplane of each example or -1, shape `(n,)`.
    - `plus`, `minus`: factors of each example, shape `(n,)`.
    - `size`: the norm of the factors of each hyperplane's examples, shape `(p,)`.
    - `covariance`: X^T X in the basis, shape `(q, q)`.
    - `spread`: the spectral norm of the inputs.
    """

    basis: ndarray
    normals: ndarray
    plane: ndarray
    plus: ndarray
    minus: ndarray
    size: ndarray
    covariance: ndarray
    spread: float


def arrangement(x: ndarray, slope: float) -> Arrangement:
    """The arrangement of inputs x, shape `(n, d)`, for the activation max(z, slope*z)."""
    n, d = x.shape
    _, sigma, vt = np.linalg.svd(x, full_matrices=False)
    spread = float(sigma[0]) if len(sigma) else 0.0
    rank = int(np.sum(sigma > spread * max(n, d) * np.finfo(float).eps)) if spread > 0 else 0
    basis = np.eye(d) if rank == d else np.ascontiguousarray(vt[: max(rank, 1)].T)
    reduced = x @ basis
    norm = np.linalg.norm(reduced, axis=1)
    live = np.nonzero(norm > 1e-14 * spread)[0]
    unit = reduced[live] / norm[live, None]
    # Parallel and opposite inputs have the same unit vector up to its sign.
    tree = cKDTree(np.concatenate([unit, -unit])) if len(live) else None
    plane = np.full(n, -1, dtype=np.int64)
    coefficient = np.zeros(n)
    normals: list[ndarray] = []
    for i, k in enumerate(live):
        if plane[k] >= 0:
            continue
        assert tree is not None
        for near in tree.query_ball_point(unit[i], 1e-13):
            other, sign = near % len(live), 1.0 if near < len(live) else -1.0
            plane[live[other]] = len(normals)
            coefficient[live[other]] = sign * norm[live[other]]
        normals.append(unit[i])
    positive = coefficient > 0
    size = np.zeros(len(normals))
    np.add.at(size, plane[plane >= 0], coefficient[plane >= 0] ** 2)
    return Arrangement(
        basis=basis,
        normals=np.array(normals).reshape(len(normals), basis.shape[1]),
        plane=plane,
        plus=np.where(positive, coefficient, slope * coefficient),
        minus=np.where(positive, slope * coefficient, coefficient),
        size=np.sqrt(size),
        covariance=np.ascontiguousarray(reduced.T @ reduced),
        spread=spread,
    )
