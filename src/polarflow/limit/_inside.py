"""The remnants of all blocks on the path: what they do at rest points and between them."""

import numpy as np
from numpy import ndarray

from ._columns import Way, carried
from ._remnants import Mode, Remnant, aside, lengths, modes
from ._rest import RestPoint
from ._separable import Blocks
from ._smooth_rest import active_hessian, with_hessian
from ._sphere_flow import Limits

#: A direction that has moved by more came to its KKT point from afar.
_MOVED = 1e-6
#: Rates below this share of the largest are none.
_STILL = 1e-6
#: A part of the approach to a rest point below this share of it is error.
_APPROACH = 1e-3
#: Exponents this close are one.
_EQUAL = 1e-9
#: How many sets of sides of bends are tried for what is left of a block's distance.
_CONES = 8
#: How far a block is moved along a remnant that has become large.
_TURN = 1e-3
#: Exponents of e that are no longer told apart.
_FAR = 300.0


class Inside:
    """The remnants of small blocks of order 2, and those of the active ones together.

    **Arguments:**

    - `blocks`: of the network.
    """

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks
        self.small: dict[int, list[Remnant]] = {}
        #: Vectors of all weights, flattened.
        self.active: list[Remnant] = []
        #: Weights on the way to the rest point, close to it.
        self.arrival: ndarray | None = None
        self._small_modes: dict[int, list[Mode]] = {}
        self._active_modes: list[Mode] = []
        self._still = 0.0
        self._active_still = 0.0

    # -- at a rest point -------------------------------------------------------------------

    def look(self, rest: RestPoint, log_norm: ndarray, unit: ndarray, active: ndarray) -> RestPoint:
        """The modes of the active weights; the rest point with the Hessian of their sides."""
        point = np.zeros_like(unit)
        point[active] = np.exp(log_norm[active])[:, None] * unit[active]
        come = None if self.arrival is None else (self.arrival - point).ravel()
        # What they came along is larger than all that is left.
        ahead = [] if come is None else [Remnant(0.0, come)]
        near = aside(point, [*ahead, *self.active])
        size = lengths(near)
        with np.errstate(divide="ignore"):
            near_norm = np.where(active, np.log(size), -np.inf)
        own = active & (size > 0.0)
        near_unit = np.where(own[:, None], near / np.where(own, size, 1.0)[:, None], unit)
        hessian = active_hessian(self.blocks, near_norm, near_unit, active)
        places = self._places(active)
        flat = [Remnant(r.exponent, r.vector[places]) for r in self.active]
        found = modes(-hessian, flat)
        self._active_still = _STILL * max((abs(m.rate) for m in found), default=0.0)
        if come is not None:
            found = [self._approached(mode, hessian, come[places]) for mode in found]
        self.arrival = None
        self._active_modes = [
            Mode(m.rate, tuple(self._spread(r, places) for r in m.remnants)) for m in found
        ]
        return with_hessian(rest, hessian) if len(hessian) else rest

    def _approached(self, mode: Mode, hessian: ndarray, come: ndarray) -> Mode:
        """A mode along which the flow came to rest: its remnant is of order one."""
        if mode.rate >= -self._active_still:
            return mode
        values, vectors = np.linalg.eigh(-hessian)
        space = vectors[:, np.abs(values - mode.rate) <= self._active_still]
        part = space @ (space.T @ come)
        if np.linalg.norm(part) <= _APPROACH * np.linalg.norm(come):
            return mode
        return Mode(mode.rate, (Remnant(0.0, part), *mode.remnants))

    def align(
        self, start: ndarray, limits: Limits, residual: ndarray, chosen: ndarray, scale: float
    ) -> None:
        """The modes of small blocks at their KKT points."""
        self._still = _STILL * scale
        self._small_modes = {
            int(j): self._modes(int(j), start[j], limits, residual) for j in np.flatnonzero(chosen)
        }

    def _modes(self, j: int, start: ndarray, limits: Limits, residual: ndarray) -> list[Mode]:
        blocks, v, entry = self.blocks, limits.unit[j], limits.entry[j]
        size = blocks.sphere(j, residual).block.size
        if size == 1:
            return []
        moved = bool(np.linalg.norm(v - start) > _MOVED)
        before = self.small.get(j, [])
        growth = float(limits.growth[j])
        across = np.linalg.qr(np.column_stack([v[:size], np.eye(size)]))[0].T[1:]
        basis = np.zeros((size - 1, blocks.size))
        basis[:, :size] = across[: size - 1]
        sides = [Remnant(0.0, entry - v)] if moved else before
        for _ in range(_CONES):
            matrix = blocks.hessian(j, aside(v, sides), residual) - growth * np.eye(blocks.size)
            found = modes(matrix, before, basis)
            top = max((mode.leading for mode in found), default=-np.inf)
            largest = [mode for mode in found if mode.leading >= top - _EQUAL and mode.remnants]
            if moved or not largest or largest[-1].rate <= self._still:
                break
            # What is largest turns, in a time of order one, to where it grows most: where that is
            # on other sides of bends, it passes them before.
            ahead = [Remnant(0.0, largest[-1].direction()), *before]
            if (self._sides(j, aside(v, ahead)) == self._sides(j, aside(v, sides))).all():
                break
            sides = ahead
        if not moved:
            return found
        along = float(entry @ v)
        come = (entry - along * v) / (along if along > 0.1 else 1.0)
        return [self._arrived(mode, matrix, basis, come, limits.entry_time[j]) for mode in found]

    def _sides(self, j: int, v: ndarray) -> ndarray:
        """On which sides of its bends block j is at a vector."""
        return np.asarray(self.blocks.bends(np.tile(v, (self.blocks.count, 1)))[j] > 0.0)

    def _arrived(
        self, mode: Mode, matrix: ndarray, basis: ndarray, come: ndarray, time: float
    ) -> Mode:
        """A mode along which a block came to its KKT point."""
        if mode.rate >= -self._still:
            return mode
        values, vectors = np.linalg.eigh(basis @ matrix @ basis.T)
        space = vectors[:, np.abs(values - mode.rate) <= _STILL * np.abs(values).max()].T @ basis
        part = (space @ come) @ space
        if np.linalg.norm(part) <= _STILL * np.linalg.norm(come):
            return mode
        part = part * np.exp(min(-mode.rate * time, _FAR))
        return Mode(mode.rate, (Remnant(0.0, part), *mode.remnants))

    # -- events ----------------------------------------------------------------------------

    def turn(self) -> tuple[float, int]:
        """The time until a small block turns away from its KKT point, and which one does."""
        waits = [
            (mode.wait(self._still), j) for j, found in self._small_modes.items() for mode in found
        ]
        return min(waits, default=(np.inf, -1))

    def split(self) -> tuple[float, Mode | None]:
        """The time until active weights grow apart, and the mode in which they do."""
        waits = [(mode.wait(self._active_still), mode) for mode in self._active_modes]
        found = min(waits, key=lambda pair: pair[0], default=(np.inf, None))
        return found if np.isfinite(found[0]) else (np.inf, None)

    def turned(self, j: int, v: ndarray) -> ndarray:
        """Block j's direction once it has turned away."""
        mode = min(self._small_modes[j], key=lambda mode: mode.wait(self._still))
        moved = v + _TURN * mode.direction()
        self.small[j] = []
        return np.asarray(moved / np.linalg.norm(moved))

    def wait(self, clock: float, time: float) -> None:
        """Pass a time on one of the scales."""
        short = time if clock == 0.0 else np.inf
        for j, found in self._small_modes.items():
            self.small[j] = [r for mode in found for r in mode.after(short, self._still)]
        still = self._active_still
        self._active_modes = [
            Mode(m.rate, tuple(m.after(short, still))) for m in self._active_modes
        ]
        self.active = [r for m in self._active_modes for r in m.remnants]

    # -- between rest points ---------------------------------------------------------------

    def leave(
        self,
        leaving: ndarray,
        unit: ndarray,
        offset: ndarray,
        limits: Limits,
        residual: ndarray,
    ) -> None:
        """Blocks that become active: their remnants, of their sizes, join those of the others."""
        top = float(offset[leaving].max())
        for j in np.flatnonzero(leaving):
            own = self.small.pop(int(j), [])
            if self.blocks.level[j] > 0.0:
                # Of so small a size it turned for -ln(delta)/g of its own clock as it grew.
                found = self._modes(int(j), unit[j], limits, residual)
                growth = float(limits.growth[j])
                own = [r for m in found for r in m.after(1.0 / growth, 0.0) if m.rate < 0.0]
            for remnant in own:
                vector = np.zeros((self.blocks.count, self.blocks.size))
                vector[j] = np.exp(offset[j] - top) * remnant.vector
                self.active.append(Remnant(remnant.exponent, vector.ravel()))

    def keep(self, active: ndarray, arrival: ndarray, way: Way, large: ndarray) -> None:
        """After the flow to a rest point: the active blocks' remnants, the weights near it."""
        self.arrival = arrival
        self.active = carried(self.blocks, self.active, way, large)
        kept = []
        for remnant in self.active:
            vector = remnant.vector.reshape(self.blocks.count, self.blocks.size)
            vector = np.where(active[:, None], vector, 0.0)
            if np.linalg.norm(vector) > _STILL * np.linalg.norm(remnant.vector):
                kept.append(Remnant(remnant.exponent, vector.ravel()))
        self.active = kept

    def _places(self, active: ndarray) -> ndarray:
        """Where the weights of active blocks stand in a flat vector of all."""
        index = np.arange(self.blocks.count * self.blocks.size).reshape(-1, self.blocks.size)
        sizes = self.blocks.sizes(active)
        rows = [row[:p] for row, p in zip(index[active], sizes, strict=True)]
        return np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)

    def _spread(self, remnant: Remnant, places: ndarray) -> Remnant:
        whole = np.zeros(self.blocks.count * self.blocks.size)
        whole[places] = remnant.vector
        return Remnant(remnant.exponent, whole)
