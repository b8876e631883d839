"""The NCF of the neurons of a two-layer network."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._bends import Bends, bends, hyperplanes
from ._subdifferential import least_norm

#: A neuron of unit norm with |w.x_k| at most this times |x_k| lies on the kink of example k.
ON_KINK = 1e-11


def ncf(
    direction: Float[ndarray, "m p"],
    x: Float[ndarray, "n d"],
    residual: Float[ndarray, " n *C"],
    slope: float = 0.0,
) -> Float[ndarray, " m"]:
    """N_z(v) = sum_k (z_k.a) s(w.x_k) for every block v = (a, w), s(t) = max(t, slope*t).

    Source: Kumar & Haupt (2024), the neural correlation function with one neuron as network.
    """
    z = residual.reshape(len(x), -1)
    a, w = np.split(direction, [z.shape[1]], axis=1)
    t = w @ x.T
    return np.einsum("jk,kc,jc->j", np.maximum(t, slope * t), z, a)


def kkt_distance(
    direction: Float[ndarray, "m p"],
    x: Float[ndarray, "n d"],
    residual: Float[ndarray, " n *C"],
    slope: float = 0.0,
) -> Float[ndarray, " m"]:
    r"""How far each direction is from a KKT point of the NCF on the unit sphere.

    The distance $\mathrm{dist}(0, (I - vv^T)\,\partial N_z(v))$ with Clarke's subdifferential:
    on kinks $w \cdot x_k = 0$ the least-norm element is taken, parallel examples sharing one
    multiplier. At w = 0 every kink meets; there all that bend the NCF are taken into account.

    **Arguments:**

    - `direction`: unit vectors v = (a, w), shape `(m, C + d)`.
    - `x`: inputs, shape `(n, d)`.
    - `residual`: the vector z, shape `(n,)`, or `(n, C)` with C outputs.
    - `slope`: of the activation for negative arguments.
    """
    z = residual.reshape(len(x), -1)
    outputs = z.shape[1]
    a, w = np.split(direction, [outputs], axis=1)
    h = w @ x.T
    size = np.linalg.norm(x, axis=1)
    kinked = (np.abs(h) <= ON_KINK * np.linalg.norm(w, axis=1)[:, None] * size) & (size > 0.0)
    pull = np.where(h > 0.0, 1.0, slope) * (a @ z.T)
    gradient = np.concatenate([np.maximum(h, slope * h) @ z, pull @ x], axis=1)
    # <v, g> is the same for every g in the subdifferential, by Euler's identity.
    along = np.sum(gradient * direction, axis=1)
    distance = np.linalg.norm(gradient - along[:, None] * direction, axis=1)
    # In w alone N_z is that of a = 1 under the numbers z_k.a; with one output they differ by a.
    one = bends(x, z[:, 0], 1, slope) if outputs == 1 else None
    on_kinks = np.nonzero(kinked.any(axis=1))[0]
    planes = hyperplanes(x, size > 0.0) if len(on_kinks) else None
    for j in on_kinks:
        v = direction[j]
        bent = bends(x, z @ v[:outputs], 1, slope, planes) if one is None else one
        some, columns, on = _elements(v, x, z, slope, bent, 1.0 if one is None else v[0])
        element, _ = least_norm(
            some - (some @ v) * v,
            columns - (columns @ v)[:, None] * v,
            bent.normal[on],
            bent.minus[on],
            bent.plus[on],
        )
        distance[j] = np.linalg.norm(element)
    return distance


def _elements(
    v: ndarray, x: ndarray, z: ndarray, slope: float, bent: Bends, factor: float
) -> tuple[ndarray, ndarray, ndarray]:
    """An element of the subdifferential, what the kinks under v add to it, and which those are."""
    outputs = z.shape[1]
    w = v[outputs:]
    t = bent.normal @ w
    on = np.abs(t) <= ON_KINK * np.linalg.norm(w)
    side = np.where(on, 0.0, np.where(t > 0, bent.plus, bent.minus))
    force = factor * (bent.smooth + side @ bent.normal)
    h = x @ w
    columns = np.zeros((int(on.sum()), len(v)))
    columns[:, outputs:] = factor * bent.normal[on]
    return np.concatenate([np.maximum(h, slope * h) @ z, force]), columns, on


def two_layer_local(
    v: Float[ndarray, " p"], x: Float[ndarray, "n d"], z: Float[ndarray, "n C"], slope: float
) -> tuple[float, ndarray, ndarray, ndarray | None]:
    """N, the least-norm elements of its subdifferential in space and along the sphere, Hessian.

    The Hessian is that in the flat space; None on a kink.
    """
    outputs = z.shape[1]
    bent = bends(x, z @ v[:outputs], 1, slope)
    gradient, columns, on = _elements(v, x, z, slope, bent, 1.0)
    kinks = bent.normal[on], bent.minus[on], bent.plus[on]
    whole, _ = least_norm(gradient, columns, *kinks)
    along, _ = least_norm(
        gradient - (gradient @ v) * v, columns - (columns @ v)[:, None] * v, *kinks
    )
    value = float(ncf(v[None], x, z, slope)[0])
    if on.any():
        return value, whole, along, None
    force = (np.where(x @ v[outputs:] > 0, 1.0, slope)[:, None] * z).T @ x
    hessian = np.zeros((len(v), len(v)))
    hessian[:outputs, outputs:] = force
    hessian[outputs:, :outputs] = force.T
    return value, whole, along, hessian
