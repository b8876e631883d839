"""The NCF of the neurons of a two-layer network."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._bends import bends
from ._subdifferential import least_norm

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
    on kinks $w \cdot x_k = 0$ the least-norm element is taken, parallel examples sharing one
    multiplier. At w = 0 every kink meets; there all that bend the NCF are taken into account.

    **Arguments:**

    - `direction`: unit vectors v = (a, w), shape `(m, 1 + d)`.
    - `x`: inputs, shape `(n, d)`.
    - `residual`: the vector z, shape `(n,)`.
    - `slope`: of the activation for negative arguments.
    """
    bent = bends(x, residual, 1, slope)
    t = direction[:, 1:] @ bent.normal.T
    on = np.abs(t) <= ON_KINK * np.linalg.norm(direction[:, 1:], axis=1, keepdims=True)
    side = np.where(on, 0.0, np.where(t > 0, bent.plus, bent.minus))
    force = bent.smooth + side @ bent.normal
    distance = np.zeros(len(direction))
    for j, v in enumerate(direction):
        held = np.flatnonzero(on[j])
        gradient = np.concatenate([[v[1:] @ force[j]], v[0] * force[j]])
        columns = np.zeros((len(held), len(v)))
        columns[:, 1:] = v[0] * bent.normal[held]
        # <v, g> is the same for every g in the subdifferential, by Euler's identity.
        element, _ = least_norm(
            gradient - (gradient @ v) * v,
            columns - (columns @ v)[:, None] * v,
            bent.normal[held],
            bent.minus[held],
            bent.plus[held],
        )
        distance[j] = np.linalg.norm(element)
    return distance
