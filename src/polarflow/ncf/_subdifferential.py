"""The least-norm element of Clarke's subdifferential of a piecewise linear function at a kink.

Near a point on the hyperplanes t.e_g = 0 the function is base.t + sum_g c_g t.e_g with c_g = plus_g
where t.e_g > 0 and minus_g where t.e_g < 0. Its subdifferential at t = 0 is the convex hull of the
gradients of the cells around (Clarke 1983, theorem 2.5.1). With independent normals every
combination of sides is a cell and the hull is a box of multipliers; otherwise only those
combinations that some t realises count. Where these are too many to be listed the box is taken,
which holds the hull.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._arrangement import INDEPENDENT, Faces, faces


def local_faces(normals: Float[ndarray, "s d"]) -> tuple[Faces, Float[ndarray, "r d"]]:
    """The faces around a point on s hyperplanes, and an orthonormal basis of the normals' span."""
    _, singular, vectors = np.linalg.svd(normals, full_matrices=False)
    basis = vectors[singular > INDEPENDENT]
    inside = normals @ basis.T
    return faces(inside / np.linalg.norm(inside, axis=1, keepdims=True)), basis


def independent(normals: Float[ndarray, "s d"]) -> bool:
    """Whether the normals are."""
    if len(normals) > normals.shape[1]:
        return False
    return len(normals) == 0 or bool(np.linalg.svd(normals, compute_uv=False)[-1] > INDEPENDENT)


def least_norm(
    base: Float[ndarray, " q"],
    columns: Float[ndarray, "s q"],
    normals: Float[ndarray, "s d"],
    minus: Float[ndarray, " s"],
    plus: Float[ndarray, " s"],
) -> tuple[Float[ndarray, " q"], Float[ndarray, " s"]]:
    r"""The least-norm element of $\{base + \sum_g c_g columns_g\}$, c in Clarke's set.

    **Arguments:**

    - `base`: shape `(q,)`.
    - `columns`: what each multiplier adds, shape `(s, q)`.
    - `normals`: unit normals of the hyperplanes, distinct up to sign, shape `(s, d)`.
    - `minus`, `plus`: the coefficients on their two sides, shape `(s,)`.

    **Returns:** the element, and for each hyperplane the share in [0, 1] of its plus side.
    """
    from scipy.optimize import lsq_linear, nnls

    if len(columns) == 0:
        return base, np.zeros(0)
    jump = plus - minus
    start = base + minus @ columns
    around = None if independent(normals) else _around(normals)
    if around is None:
        matrix = (jump[:, None] * columns).T
        share = np.linalg.lstsq(matrix, -start, rcond=None)[0]
        if not ((share >= 0.0) & (share <= 1.0)).all():
            solved = lsq_linear(matrix, -start, bounds=(0.0, 1.0), method="bvls", tol=1e-15)
            share = np.clip(solved.x, 0.0, 1.0)
    else:
        found, basis = around
        cells = found.sign[found.dimension == len(basis)]
        gradients = start + (cells > 0) @ (jump[:, None] * columns)
        scale = max(float(np.abs(gradients).max()), 1e-300)
        # The least |A w|^2 + (1 - sum w)^2 over w >= 0 points to the least |A w| of the simplex.
        system = np.concatenate([gradients.T / scale, np.ones((1, len(cells)))])
        weight, _ = nnls(system, np.append(np.zeros(len(base)), 1.0))
        share = (weight / weight.sum()) @ (cells > 0)
    return start + (share * jump) @ columns, share


def _around(normals: ndarray) -> tuple[Faces, ndarray] | None:
    try:
        return local_faces(normals)
    except PolarflowError:
        return None
