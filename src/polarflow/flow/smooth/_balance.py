r"""Balancedness: what gradient flow conserves in a network that is homogeneous in every layer.

A block that is $k_i$-homogeneous in its layer $W_i$ alone has $\frac{d}{dt} |W_i|^2 = 2 k_i N_r$
by Euler's identity, with $N_r$ its neural correlation function, so that

$$b_i = |W_i|^2 / k_i - |W_{i+1}|^2 / k_{i+1}$$

never changes for two layers that are both trained (Du, Hu & Lee, 2018, for powers of one).
"""

import numpy as np
from numpy import ndarray

from ...networks._blocks import Part
from ._field import Field


class Balance:
    """How far the differences b_i of all blocks have gone from their start.

    **Attributes:**

    - `drift`: the largest |b_i(t) - b_i(0)| seen, relative to |W_i|^2/k_i + |W_{i+1}|^2/k_{i+1}
      at the start or at t, whichever is larger; None for networks without successive layers.
    """

    def __init__(self, field: Field, parts: list[Part]) -> None:
        self._field = field
        self._start = self._shares(parts)
        self.drift: float | None = 0.0 if self._start else None

    def _shares(self, parts: list[Part]) -> list[tuple[ndarray, ndarray]]:
        """ln-norms of living blocks, and |V_i|^2/k_i of their layers, shape `(rows, layers)`."""
        shares = []
        for group, slot, (log_norm, unit) in zip(
            self._field.groups, self._field.slots, parts, strict=True
        ):
            if group.order is None or len(group.layers) < 2:
                continue
            alive = self._field.alive[slot.rows]
            sizes, orders = zip(*group.layers, strict=True)
            starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
            share = np.add.reduceat(unit[alive] ** 2, starts, axis=1) / np.array(orders)
            shares.append((log_norm[alive], share))
        return shares

    def see(self, parts: list[Part]) -> None:
        """Learn of the blocks at a time of the flow."""
        if self.drift is None:
            return
        now = self._shares(parts)
        for (rho, share), (first, before) in zip(now, self._start, strict=True):
            top = np.maximum(rho, first)
            with np.errstate(under="ignore"):
                new = np.exp(2.0 * (rho - top))[:, None] * share
                old = np.exp(2.0 * (first - top))[:, None] * before
            moved = np.abs(np.diff(new, axis=1) - np.diff(old, axis=1))
            size = np.maximum(new[:, 1:] + new[:, :-1], old[:, 1:] + old[:, :-1])
            change = moved / np.where(size > 0.0, size, 1.0)
            self.drift = max(self.drift, float(change.max(initial=0.0)))
