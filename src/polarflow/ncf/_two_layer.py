"""The NCF of the neurons of a two-layer network."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

#: A neuron of unit norm with |w.x_k| at most this times |x_k| lies on the kink of example k.
ON_KINK = 1e-11


def ncf(
    direction: Float[ndarray, "m p"],
    x: Float[ndarray, "n d"],
    residual: Float[ndarray, " n"],
    slope: float = 0.0,
) -> Float[ndarray, " m"]:
    """N_z(v) = sum_k z_k a s(w.x_k) for every block v = (a, w), s(t) = max(t, slope*t).

    Source: Kumar & Haupt (2024), the neural correlation function with one neuron as network.
    """
    z = direction[:, 1:] @ x.T
    return direction[:, 0] * (np.maximum(z, slope * z) @ residual)


def kkt_distance(
    direction: Float[ndarray, "m p"],
    x: Float[ndarray, "n d"],
    residual: Float[ndarray, " n"],
    slope: float = 0.0,
) -> Float[ndarray, " m"]:
    r"""How far each direction is from a KKT point of the NCF on the unit sphere.

    The distance $\mathrm{dist}(0, (I - vv^T)\,\partial N_z(v))$ with Clarke's subdifferential:
    on kinks $w \cdot x_k = 0$ the least-norm element over the multipliers in [slope, 1] is taken,
    parallel examples sharing one.

    **Arguments:**

    - `direction`: unit vectors v = (a, w), shape `(m, 1 + d)`.
    - `x`: inputs, shape `(n, d)`.
    - `residual`: the vector z, shape `(n,)`.
    - `slope`: of the activation for negative arguments.
    """
    from scipy.optimize import lsq_linear

    size = np.linalg.norm(x, axis=1)
    live = size > 0
    unit = np.zeros_like(x)
    unit[live] = x[live] / size[live, None]
    distance = np.zeros(len(direction))
    for j, v in enumerate(direction):
        a, w = v[0], v[1:]
        z = unit @ w
        kink = live & (np.abs(z) <= ON_KINK * np.linalg.norm(w))
        active = np.where(z > 0, 1.0, slope) * ~kink
        force = (residual * active) @ x
        gradient = np.concatenate([[w @ force], a * force])
        tangent = gradient - (gradient @ v) * v
        if not kink.any():
            distance[j] = np.linalg.norm(tangent)
            continue
        columns, lower, upper = [], [], []
        left = list(np.nonzero(kink)[0])
        while left:
            k = left[0]
            same = [i for i in left if np.linalg.norm(unit[i] - unit[k]) < 1e-12]
            opposite = [i for i in left if np.linalg.norm(unit[i] + unit[k]) < 1e-12]
            left = [i for i in left if i not in same and i not in opposite]
            on = residual[same] @ size[same] - slope * (residual[opposite] @ size[opposite])
            off = slope * (residual[same] @ size[same]) - residual[opposite] @ size[opposite]
            if on != off:
                column = np.concatenate([[0.0], a * unit[k]])
                columns.append(column - (column @ v) * v)
                lower.append(min(on, off))
                upper.append(max(on, off))
            else:
                tangent = tangent + np.concatenate([[0.0], a * on * unit[k]])
        if not columns:
            distance[j] = np.linalg.norm(tangent)
            continue
        matrix = np.array(columns).T
        solved = lsq_linear(matrix, -tangent, bounds=(lower, upper), method="bvls", tol=1e-15)
        distance[j] = np.linalg.norm(tangent + matrix @ solved.x)
    return distance
