"""The NCF of a block at one point: value, gradient, least-norm elements, Riemannian Hessian."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ..errors import PolarflowError
from ..networks import Network, TwoLayer
from ._find import check_target
from ._two_layer import two_layer_local


@dataclass(frozen=True)
class LocalNCF:
    r"""The NCF $N_{z,H}$ of one block around a unit vector v.

    **Attributes:**

    - `value`: N(v).
    - `gradient`: the element of least norm of Clarke's subdifferential dN(v), shape `(p,)`; the
      gradient where there is one. For two-layer (leaky) ReLU neurons kinks are exact; elsewhere
      it is the gradient that the network's own differentiation gives.
    - `tangent`: the element of least norm of (I - vv^T) dN(v), shape `(p,)`: zero at KKT points.
    - `hessian`: the Riemannian Hessian on the unit sphere, (I - vv^T)(D^2 N - <v, grad N> I)(I -
      vv^T), shape `(p, p)`; None on a kink of a two-layer neuron.
    """

    value: float
    gradient: Float[ndarray, " p"]
    tangent: Float[ndarray, " p"]
    hessian: Float[ndarray, "p p"] | None


def local_ncf(
    network: Network | TwoLayer, x: ArrayLike, z: ArrayLike, v: ArrayLike, *, block: int = 0
) -> LocalNCF:
    r"""The NCF $N_{z,H}(w) = \sum_k z_k H(x_k; w)$ of one block at a unit vector.

    Source: Kumar & Haupt (2024), section 4.

    **Arguments:**

    - `network`: whose blocks are homogeneous.
    - `x`: inputs, shape `(n, d)`, bias included.
    - `z`: shape `(n,)`, or `(n, C)` with C outputs; labels, or the residual -dl/dh of a saddle.
    - `v`: a unit vector of the block's weights, shape `(p,)`; a two-layer neuron is (a, w).
    - `block`: which of the blocks that differ.

    **Raises:** `PolarflowError` if z or v has the wrong shape, or v is not of unit norm.
    """
    inputs, point = np.asarray(x, dtype=float), np.asarray(v, dtype=float)
    outputs = getattr(network, "outputs", 1)
    target = check_target(z, len(inputs), outputs).reshape(len(inputs), -1)
    hessian: ndarray | None
    if isinstance(network, TwoLayer):
        _check(point, target.shape[1] + inputs.shape[1])
        value, gradient, tangent, hessian = two_layer_local(point, inputs, target, network.slope)
    else:
        from ._block import blocks_of
        from ._sphere import Sphere

        blocks = blocks_of(network, inputs.shape[1])
        if not 0 <= block < len(blocks):
            raise PolarflowError(f"block is {block}; it must be from 0 to {len(blocks) - 1}.")
        _check(point, blocks[block].size)
        sphere = Sphere(blocks[block], inputs, target)
        values, gradients = sphere.value_and_gradient(point[None])
        value, gradient = float(values[0]), gradients[0]
        tangent = gradient - (gradient @ point) * point
        hessian = sphere.hessian(point)
    if hessian is not None:
        across = np.eye(len(point)) - np.outer(point, point)
        hessian = across @ (hessian - (gradient @ point) * np.eye(len(point))) @ across
    return LocalNCF(value, gradient, tangent, hessian)


def _check(v: ndarray, size: int) -> None:
    if v.shape != (size,):
        raise PolarflowError(f"v has shape {v.shape}; the block has {size} weights.")
    norm = float(np.linalg.norm(v))
    if not abs(norm - 1.0) <= 1e-8:
        raise PolarflowError(f"v has norm {norm:.6g}; it must be a unit vector.")
