"""The length of the path of the direction w/|w| of all weights together, along a flow.

The curve swept by w/|w| has finite length for a homogeneous network on separable data (Ji &
Telgarsky, 2020, Theorem 3.1).
"""

from typing import Any

import numpy as np
from numpy import ndarray

from ..networks import BlockState
from ._engine import Engine, State, Window

#: What the extrapolated length of one piece may be off by: relative to it, to the path so far, and
#: absolutely; the last is at least a tenth of the tolerance.
_RELATIVE, _WHOLE, _ABSOLUTE = 1e-6, 1e-7, 1e-11
#: How many times the last change of its length a piece with kinks may be off.
_SURE = 3.0
#: A piece that is straight to this is not halved.
_STRAIGHT = 1e-5
#: How often a piece between two samples may be halved.
_DEEPEST = 12


def unit_vector(blocks: BlockState) -> ndarray:
    """w/|w| of all weights, shape `(m, p)`; zero if they vanish."""
    top = float(blocks.log_norm.max(initial=-np.inf))
    if not np.isfinite(top):
        return np.zeros_like(blocks.direction)
    with np.errstate(under="ignore"):
        size = np.exp(blocks.log_norm - top)
        return (size / np.linalg.norm(size))[:, None] * blocks.direction


class PathMeter:
    """Adds up the length of the path of w/|w|, window by window.

    Between two samples the path is measured by 1, 2 and 4 chords, extrapolated twice (the error
    of a smooth path is then of sixth order); a piece on which the last extrapolation still
    changes the length is halved.

    **Attributes:**

    - `length`: so far.
    - `error`: three times the sum of what the last extrapolations changed, an upper estimate of the
      error, far too large where the path is smooth.
    """

    def __init__(self, engine: Engine[Any], state: State) -> None:
        self.engine = engine
        #: The states are not known better than that.
        self._noise = max(_ABSOLUTE, 0.1 * engine.rtol)
        self.length = 0.0
        self.error = 0.0
        self._last = unit_vector(engine.blocks(state))

    def extend(self, window: Window[Any], offsets: ndarray) -> list[float]:
        """Follow a window through increasing offsets from its start; the length at each."""
        ends = [0.0, *offsets.tolist()]
        at = {0.0: self._last}
        at |= self._at(window, ends[1:])
        whole = self.length + sum(
            float(np.linalg.norm(at[b] - at[a])) for a, b in zip(ends[:-1], ends[1:], strict=True)
        )
        part = [0.0] * len(offsets)
        pieces = [(i, a, b, 0) for i, (a, b) in enumerate(zip(ends[:-1], ends[1:], strict=True))]
        while pieces:
            inner = [a + f * (b - a) for _, a, b, _ in pieces for f in (0.25, 0.5, 0.75)]
            at |= self._at(window, inner)
            rest = []
            for k, (i, a, b, depth) in enumerate(pieces):
                points = np.array([at[a], *(at[t] for t in inner[3 * k : 3 * k + 3]), at[b]])
                chords = [
                    float(np.sum(np.linalg.norm(np.diff(points[::step], axis=0), axis=(1, 2))))
                    for step in (4, 2, 1)
                ]
                coarse = (4.0 * chords[1] - chords[0]) / 3.0
                fine = (4.0 * chords[2] - chords[1]) / 3.0
                change = abs(fine - coarse)
                # A bend may hide from three lengths that happen to agree.
                curved = chords[2] - chords[0] > _STRAIGHT * fine and depth < 2
                wanted = _RELATIVE * fine + _WHOLE * whole + self._noise
                rough = change > wanted and depth < _DEEPEST
                if curved or rough:
                    middle = inner[3 * k + 1]
                    rest += [(i, a, middle, depth + 1), (i, middle, b, depth + 1)]
                    continue
                part[i] += fine + (fine - coarse) / 15.0
                self.error += _SURE * change
            pieces = rest
        self._last = at[ends[-1]]
        lengths = self.length + np.cumsum(part)
        self.length = float(lengths[-1])
        return lengths.tolist()

    def _at(self, window: Window[Any], offsets: list[float]) -> dict[float, ndarray]:
        wanted = np.unique(offsets)
        states = window.states(wanted)
        blocks = [unit_vector(self.engine.blocks(s)) for s in states]
        return dict(zip(wanted.tolist(), blocks, strict=True))
