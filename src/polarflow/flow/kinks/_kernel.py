"""The kernel of the residual: how predictions move under a residual, h' = K r."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from ._geometry import Arrangement
from ._patterns import SLIDE

if TYPE_CHECKING:
    from ._engine import KinkExactEngine
    from ._state import KinkState

#: Kernels of more rows than this are not formed.
LARGEST = 1500
#: With at most so many residuals the kernel tells what events do to them.
_FEW = 300
#: And so many for each dimension of the weights.
_EACH = 8
#: A kernel is formed anew once it has missed more of what it was asked for.
_WORN = 0.02


class Feedback:
    """The kernel that tells what a change of the residual does to itself, from window to window.

    It is formed where it is needed, and serves the windows that follow as long as it foretells
    what their states say at the end.

    **Attributes:**

    - `known`: whether kernels are formed; with many residuals they would cost too much.
    """

    def __init__(self, residuals: int, dimension: int) -> None:
        self.known = residuals <= min(_FEW, _EACH * dimension)
        self._kernel: ndarray | None = None
        self._state: KinkState | None = None

    def kernel(self, state: "KinkState", form: Callable[[], ndarray]) -> ndarray:
        """The kernel for a window from a state."""
        if self._kernel is None or state is not self._state:
            self._kernel = form()
        self._state = None
        return self._kernel

    def learn(self, size: float, missed: float) -> None:
        """Remember how much was missed of a change of some size."""
        if not missed <= _WORN * size:
            self._kernel = None

    def reach(self, state: "KinkState") -> None:
        """Remember the end of a window."""
        self._state = state

    def follow(self, old: "KinkState", new: "KinkState") -> None:
        """Learn that a state is written otherwise."""
        if self._state is old:
            self._state = new


def kernel(engine: "KinkExactEngine", state: "KinkState", big: ndarray | None = None) -> ndarray:
    """The kernel K (n C, n C) with h' = K r inside the patterns of a state.

    Only the neurons marked `big` count, by default all that can be felt.
    """
    with np.errstate(under="ignore"):
        share = np.exp(2.0 * state.log_scale)
    if big is None:
        big = share > 1e-12 * share.max(initial=0.0)
    field = engine.field(state)
    return group_kernel(
        engine.planes, state.w[big], state.a[big], share[big], field.group[big],
        state.side[field.member], field.slides, field.inverse,
    )  # fmt: skip


def group_kernel(
    planes: Arrangement, w: ndarray, a: ndarray, share: ndarray, group: ndarray,
    group_side: ndarray, slides: ndarray, inverse: ndarray,
) -> ndarray:  # fmt: skip
    """The kernel of neurons, or of particles, with shares in the output and the groups' patterns.

    `slides` and `inverse` are those of the groups, from `sliding_inverses`.
    """
    present, group = np.unique(group, return_inverse=True)
    group_side = group_side[present]
    of = group_side[:, planes.plane]
    act = np.where(of > 0, planes.plus, np.where(of == SLIDE, 0.0, planes.minus))
    act[:, planes.plane < 0] = 0.0
    normal = planes.normals[planes.plane]
    value = act[group] * (w @ normal.T)
    n, outputs = len(normal), a.shape[1]
    outer = (value * share[:, None]).T @ value
    gram = normal @ normal.T
    # What sliding takes from the features act_k x_k of a group: their part across its kinks.
    owner, plane = np.nonzero(group_side == SLIDE)
    place = np.arange(len(owner)) - np.searchsorted(owner, owner)
    feature = act[owner]
    across = feature * (planes.normals @ normal.T)[plane]
    inverted = feature * (inverse[present[owner], place] @ normal.T)
    result = np.zeros((n, outputs, n, outputs))
    for c in range(outputs):
        result[:, c, :, c] = outer
        for o in range(c + 1):
            weight = np.bincount(group, share * a[:, c] * a[:, o], len(present))[:, None]
            part = ((act * weight).T @ act) * gram
            part -= (across * weight[owner]).T @ inverted
            result[:, c, :, o] += part
            if o != c:
                result[:, o, :, c] += part
    return result.reshape(n * outputs, n * outputs)
