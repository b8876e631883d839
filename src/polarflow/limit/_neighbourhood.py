"""What a rest point's neighbourhood is like: whether the critical points near it are a manifold."""

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._rest import RestPoint
from ._separable import Blocks
from ._smooth_rest import RANK, active_hessian, refine_blocks

#: How far a rest point is moved along null directions of its Hessian, relative to its norm.
_NUDGE = 1e-3
_TRIED = 3


def is_manifold(blocks: Blocks, rest: RestPoint, log_norm: ndarray, unit: ndarray) -> bool:
    """Whether the kernel of the Hessian is the tangent space of a manifold of critical points.

    The rest point is moved along random vectors of the kernel and brought to rest again by Newton's
    steps of least norm. If the kernel is the tangent space, all that it moves back is of second
    order in the distance; a random vector lies in no smaller tangent space.
    """
    if rest.kernel == 0:
        return True
    active = np.isfinite(log_norm)
    values, vectors = np.linalg.eigh(active_hessian(blocks, log_norm, unit, active))
    kernel = vectors[:, np.abs(values) <= RANK * np.abs(values).max(initial=0.0)]
    at = blocks.pack(log_norm, unit, active)
    size = float(np.linalg.norm(at))
    rng = np.random.default_rng([kernel.shape[1], 13])
    for _ in range(_TRIED):
        along = kernel @ rng.standard_normal(kernel.shape[1])
        along /= np.linalg.norm(along)
        moved = blocks.unpack(at + _NUDGE * size * along, active, unit)
        try:
            again, found_norm, found_unit = refine_blocks(blocks, *moved, active)
        except PolarflowError:
            return False
        went = (blocks.pack(found_norm, found_unit, active) - at) / (_NUDGE * size)
        if abs(float(went @ along) - 1.0) > 0.1 or again.index != rest.index:
            return False
    return True
