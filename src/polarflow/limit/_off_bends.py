"""Directions that lie on bends of their activations, while large blocks flow."""

import numpy as np
from numpy import ndarray

from ._remnants import lengths, normed
from ._separable import Blocks

#: How far blocks are kept from bends on which they lie, what that is for a unit vector, and up to
#: which multiple they are where they were.
_OFF, _ON, _STAYS = 1e-8, 1e-9, 10.0
#: What has less than this of its size across a bend does not leave it.
_ALONG = 1e-6


class OffBends:
    """Directions moved off bends to the inactive sides, and back.

    On which side of a bend what is left of the distance to it lies is not felt by a flow between
    two rest points, since that takes a time of order one; but on the active side rounding may grow.

    **Arguments:**

    - `unit`: the directions of all blocks.
    - `along`: what they are moved along when they flow, `(M, p)`, off bends as well.

    **Attributes:**

    - `unit`: those off the bends.
    """

    def __init__(self, blocks: Blocks, unit: ndarray, along: ndarray) -> None:
        self._blocks = blocks
        self._number = blocks.bends(unit)
        self._size = float(np.abs(self._number).max(initial=0.0))
        self._on = np.abs(self._number) <= _ON * self._size
        self._slope: dict[int, ndarray] = {}
        move = np.zeros_like(unit)
        if self._on.any():
            slope = self._slopes(unit)
            size = lengths(slope)
            self._on &= size > 0.0
            for j in np.flatnonzero(self._on.any(axis=1)).tolist():
                rows = slope[j, self._on[j]] / size[j, self._on[j], None]
                leaves = np.abs(rows @ along[j]) > _ALONG * np.linalg.norm(along[j])
                step = np.linalg.pinv(rows) @ np.where(leaves, 0.0, -1.0)
                if (rows @ step < 0.0)[~leaves].all():
                    move[j] = _OFF * step
                    self._slope[j] = slope[j]
        self.unit = normed(unit + move)

    def back(self, unit: ndarray) -> ndarray:
        """Directions as they are now, on the bends that they have not left."""
        now, found = self._blocks.bends(unit), unit.copy()
        for j, slope in self._slope.items():
            on = self._on[j] & (np.abs(now[j]) <= _STAYS * _OFF * self._size)
            found[j] += np.linalg.pinv(slope[on]) @ (self._number[j, on] - now[j, on])
        return normed(found)

    def _slopes(self, unit: ndarray) -> ndarray:
        """The derivatives of the numbers that have sides, `(M, b, p)`."""
        bends = self._blocks.bends
        steps = _OFF * np.eye(unit.shape[1])
        return np.stack([(bends(unit + h) - bends(unit - h)) / (2.0 * _OFF) for h in steps], axis=2)
