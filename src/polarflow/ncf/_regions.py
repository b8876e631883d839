"""The activation patterns that neurons can have on given inputs."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ._arrangement import distinct_hyperplanes, faces, simple_count

#: More regions than this are not enumerated.
LARGEST = 3000


def most_regions(x: Float[ndarray, "n d"]) -> int:
    """The number of regions that the hyperplanes of the inputs cut, in general position."""
    reduced, _ = _hyperplanes(x)
    return simple_count(*reduced.shape)


def regions(x: Float[ndarray, "n d"]) -> Float[ndarray, "P d"]:
    r"""A point inside each region that the hyperplanes $u \cdot x_k = 0$ cut.

    The signs of `regions(x) @ x.T` are all patterns that a neuron can have off the kinks.

    **Arguments:**

    - `x`: inputs, shape `(n, d)`; zero inputs have no hyperplane.
    """
    reduced, basis = _hyperplanes(x)
    if len(reduced) == 0:
        return np.eye(1, x.shape[1])
    whole = faces(reduced)
    return np.asarray(whole.witness[whole.dimension == len(basis)] @ basis)


def _hyperplanes(x: ndarray) -> tuple[ndarray, ndarray]:
    """Unit normals of the distinct hyperplanes in the span of the inputs, and its basis."""
    size = np.linalg.norm(x, axis=1)
    live = x[size > 1e-14 * size.max(initial=0.0)]
    if len(live) == 0:
        return np.zeros((0, 0)), np.zeros((0, x.shape[1]))
    unit = live / np.linalg.norm(live, axis=1, keepdims=True)
    _, sigma, vt = np.linalg.svd(unit, full_matrices=False)
    basis = vt[sigma > 1e-12 * sigma[0]]
    return distinct_hyperplanes(unit)[0] @ basis.T, basis
