r"""The path from saddle to saddle of networks of smooth blocks, of any orders of 2 and more.

A block of order L moves on the time scale of its *level* L - 2: $T_0 = -\ln\delta$ for level 0,
$T_\ell = \delta^{-\ell}$ for $\ell > 0$; each scale is infinite beside those below it.

- Level 0: the block is at its KKT point, and $E' = g$ in the time $T_0$ (see `_path.py`).
- Level $\ell > 0$: the block turns while it grows. $\delta^{-1} w(\delta^{-\ell} t)$ follows the
  flow of the NCF of the rest point's residual (Kumar & Haupt, 2024, theorem 5.1 and 5.3), which
  becomes infinite in finite time if the block is to leave. The flow to the next rest point takes
  no time on this scale, so that the other blocks stay as they are.
- A block that decays for a time of a higher scale has to make up for it before it can leave: it
  keeps a *debt* on that scale. $|w|^{-\ell}$ rises at the rate $\ell|g|$, and $-\ln|w|$ at |g|.
  The debt of a block of level 0 on its own scale is -E.

So waiting times are compared by scale first, and by their size on it.
"""

from dataclasses import replace

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Stop
from ..flow import problem as make_problem
from ..solution import Solution
from ._blocks import follow
from ._columns import Way
from ._inside import Inside
from ._neighbourhood import is_manifold
from ._off_bends import OffBends
from ._remnants import lengths
from ._rest import RestPoint
from ._saddle import LimitSaddle, SaddlePath, Tie, by_direction, exp
from ._separable import Blocks
from ._smooth_rest import directions, refine_blocks, unfelt
from ._sphere_flow import Limits, SphereFlow

#: ln of |w|^L of the blocks that leave, where the flow between two rest points is started.
_LOG_START = -40.0
#: ln of the size of blocks that must not be felt while they turn along.
_LOG_UNFELT = -400.0
#: Blocks that leave within this of each other, relatively, do so at the same time.
_TIE = 1e-8
#: The gradient at which the flow between two rest points ends, in units of its typical size, and
#: that after which small blocks are followed under the residual at rest alone.
_REST, _NEAR = 1e-11, 1e-7
#: That at which it is ended if Newton's method then moves the weights by less than a share.
_EARLY, _CLOSE = 1e-5, 1e-3
#: Tolerance of the small blocks' turn: it decides to which KKT points they go.
_TURN = 1e-6
#: A block is microscopic at rest if it has this share of sum_j |w_j|^L and decays.
_SHARE = 1e-9
#: A residual below this share of that of the zero network is none.
_FITTED = 1e-9
#: Blocks that grow at less than this part of the quickest rate possible are slow, and followed
#: alone until they have this size.
_SLOW, _GROWN = 0.5, 1e-2
#: How far active blocks have grown apart, of their own size, where their flow is started, and the
#: least and most of that of all weights.
_PARTED = 1e-5
_LEAST, _MOST = 1e-9, 1e-3
#: The gradient there is no smaller than this share of its typical size, and the flow goes on until
#: it is this share of what it was at the beginning.
_ROUNDING, _BEGUN = 1e-11, 1e-2
#: A block takes part in that if it moves by this share of the one that moves most.
_FELT = 1e-3
#: How many blocks may turn at one rest point.
_TURNS = 1000


class SmoothWalk:
    """All blocks on the way; the directions of those of higher levels turn as they grow.

    **Arguments:**

    - `problem`: a network of smooth blocks.
    - `rtol`: tolerance of the flows between rest points.
    - `most`: how many rest points are wanted at most.
    """

    def __init__(self, problem: Problem, rtol: float, most: int) -> None:
        self.problem, self.rtol, self.most = problem, rtol, most
        self.blocks = blocks = Blocks(problem)
        self.given = np.isfinite(blocks.log_norm)
        self.unit = blocks.unit.copy()
        #: ln of the largest norm at the start: the unit of sizes, and of times on higher scales.
        self.log_unit = float(blocks.log_norm.max(initial=-np.inf))
        #: ln of sizes beyond delta^-E (level 0), or of w / delta (others).
        self.offset = np.where(self.given, blocks.log_norm - self.log_unit, 0.0)
        #: The scale on which a block has a debt; -1 for a block that follows the NCF's flow.
        self.scale = np.where(blocks.level == 0.0, 0.0, -1.0)
        self.debt = np.where(blocks.level == 0.0, 1.0, 0.0)
        self.log_norm = np.full(blocks.count, -np.inf)
        self.active = np.zeros(blocks.count, dtype=bool)
        self.clock, self.time = 0.0, 0.0
        y = problem.data.y
        origin = problem.loss.residual(np.zeros(problem.prediction_shape), y)
        self.labels = float(np.linalg.norm(origin))
        force = np.linalg.norm(blocks.ncf(self.unit, origin)[1], axis=1)
        self.rate = float(force[self.given].max(initial=0.0)) / (self.labels or 1.0)
        self.inside = Inside(blocks)
        #: A unit vector of all weights along which active blocks grow apart, and its rate.
        self.split: tuple[ndarray, float] | None = None
        self.saddles: list[LimitSaddle] = []
        self.ties: list[Tie] = []
        self.notes: list[str] = []

    def path(self) -> SaddlePath:
        """The path."""
        complete = False
        while len(self.saddles) < self.most:
            rest, self.log_norm, self.unit = refine_blocks(
                self.blocks, self.log_norm, self.unit, self.active
            )
            self._decayed(self.active & ~np.isfinite(self.log_norm))
            leaving = self._stay(rest)
            if self._left_inside(self.rest):
                break
            if leaving is None:
                complete = True
                break
            if len(self.saddles) < self.most and not self._go(self.rest, leaving):
                break
            if self._stuck():
                break
        return SaddlePath(tuple(self.saddles), tuple(self.ties), complete, tuple(self.notes))

    # -- at a rest point -------------------------------------------------------------------

    def _stay(self, rest: RestPoint) -> ndarray | None:
        """The time at a rest point, until some blocks leave it; None if nothing does."""
        small = self.given & ~self.active
        residual = float(np.linalg.norm(rest.residual))
        self._look(rest)
        self.growth, kkt, leaving = np.zeros(len(small)), None, None
        if self.rate > 0.0 and residual > _FITTED * self.labels:
            scale = self.rate * residual
            flow = SphereFlow(self.blocks, rest.residual, scale)
            for _ in range(_TURNS):
                limits = flow.limits(self.unit, small)
                level0 = small & (self.blocks.level == 0.0)
                self.inside.align(self.unit, limits, rest.residual, level0, scale)
                leaving, turns = self._wait(flow, limits, small)
                if not turns:
                    break
            self.growth = limits.growth
            self._tell_slow(limits)
            living = small & (self.growth != 0.0)
            if living.any():
                top = np.abs(self.growth[living]).max()
                kkt = float(limits.kkt[living].max() / top)
        left = np.zeros(len(small), dtype=bool) if leaving is None else leaving
        growth = self.growth.copy()
        if self.split is not None:
            vector, rate = self.split
            size = np.linalg.norm(vector, axis=1)
            left = left | (size > _FELT * size.max())
            growth[left] = rate
        self._add(tuple(np.flatnonzero(left).tolist()), growth, kkt)
        if leaving is not None and self.split is None:
            self._tell_ties(leaving)
        if self.split is not None:
            self.notes.append(
                f"Saddle {len(self.saddles) - 1} is left by active blocks that grow apart, along "
                "what was left of their distances; when, and whether, is exact where the flows "
                "between rest points keep the eigenspaces of the Hessian, and may be wrong "
                "elsewhere."
            )
        return leaving

    def _look(self, rest: RestPoint) -> None:
        self.rest = self.inside.look(rest, self.log_norm, self.unit, self.active)
        self.split = None

    def _wait(
        self, flow: SphereFlow, limits: Limits, small: ndarray
    ) -> tuple[ndarray | None, bool]:
        """Pass the time until the first block leaves, active ones grow apart, or one turns.

        **Returns:** the small blocks that leave (none if active ones do; None if nothing leaves),
        and whether a block turns instead.
        """
        level, growth = self.blocks.level, limits.growth
        free = small & (self.scale < 0.0)
        rate = np.where(level > 0.0, level, 1.0) * growth
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            owed = np.where(small & ~free & (rate > 0.0), self.debt / rate, np.inf)
            alone = np.where(free, np.exp(-level * self.offset) * limits.blow_up, np.inf)
        wait = np.where(free, alone, owed)
        scale = np.where(free, level, self.scale)
        leaves = np.isfinite(wait)
        clock, time = np.inf, np.inf
        if leaves.any():
            clock = float(scale[leaves].min())
            time = float(wait[leaves & (scale == clock)].min())
        turn, turning = self.inside.turn()
        split, mode = self.inside.split()
        inner = min(turn, split)
        if np.isfinite(inner) and (clock > 0.0 or inner < time * (1.0 - _TIE)):
            clock, time, leaves = 0.0, inner, np.zeros(len(small), dtype=bool)
        leaving = None
        if np.isfinite(clock):
            passed = self.time if clock == self.clock else 0.0
            leaving = leaves & (scale == clock) & (wait <= time + _TIE * (passed + time))
            if clock > self.clock:
                self.clock, self.time = clock, time
            elif clock == self.clock:
                self.time += time
        start = self.unit.copy()
        self._pass(flow, limits, small if leaving is None else small & ~leaving, clock, time)
        self.inside.wait(clock, time)
        if leaving is None:
            return None, False
        self.unit[leaving] = limits.unit[leaving]
        self.scale[leaving], self.debt[leaving] = level[leaving], 0.0
        self.offset[leaving] += limits.gain[leaving]
        if leaving.any():
            self.inside.leave(leaving, start, self.offset, limits, flow.residual)
            return leaving, False
        if turn < split:
            self.unit[turning] = self.inside.turned(turning, self.unit[turning])
            return leaving, True
        assert mode is not None
        self.split = mode.direction().reshape(self.unit.shape), mode.rate
        return leaving, False

    def _pass(
        self,
        flow: SphereFlow,
        limits: Limits,
        small: ndarray,
        clock: float,
        time: float,
    ) -> None:
        """Blocks after a time on one of the scales; after all time if it is infinite."""
        level, growth = self.blocks.level, limits.growth
        slow = small & (self.scale < 0.0) & (level == clock)
        if slow.any():
            with np.errstate(over="ignore"):
                own = np.where(slow, time * np.exp(level * self.offset), np.inf)
            unit, grown = flow.advance(self.unit, slow, own)
            self.unit[slow] = unit[slow]
            self.offset[slow] += grown[slow]
        turned = (level == 0.0) | (level < clock) & (self.scale <= clock) | (self.scale == clock)
        turned &= small
        self.unit[turned] = limits.unit[turned]
        self.offset[turned] += limits.gain[turned]
        if not np.isfinite(clock):
            return
        rate = np.where(level > 0.0, level, 1.0) * growth
        same = small & (self.scale == clock)
        self.debt[same] = np.maximum(self.debt[same] - rate[same] * time, 0.0)
        behind = small & ~same & (level < clock) & (self.scale < clock) & (rate < 0.0)
        self.scale[behind] = clock
        self.debt[behind] = -rate[behind] * time
        # On its own scale a block of a finite size turns as it grows.
        own = small & (level > 0.0) & (self.scale == level) & (self.debt > 0.0)
        self.offset[own] = -np.log(self.debt[own]) / level[own]
        self.scale[own] = -1.0

    def _add(self, leaving: tuple[int, ...], growth: ndarray, kkt: float | None) -> None:
        blocks = self.blocks
        exponent = np.where(self.active, 0.0, np.where(self.scale == 0.0, -self.debt, np.nan))
        exponent = np.where(self.given, exponent, -np.inf)
        rows = tuple(sorted({int(blocks.row[j]) for j in leaving}))
        log_rate = None
        if leaving:
            with np.errstate(divide="ignore"):
                log_rate = float(np.log(self.time)) - self.clock * self.log_unit
        self.saddles.append(
            LimitSaddle(
                index=len(self.saddles),
                rest=self.rest,
                escape_rate=None if log_rate is None else exp(log_rate),
                log_escape_rate=log_rate,
                order=self.clock + 2.0,
                leaving=rows,
                exponent=blocks.by_row(exponent),
                direction=blocks.join(np.zeros(blocks.count), self.unit).direction,
                growth=blocks.by_row(growth),
                kkt_residual=kkt,
            )
        )

    def _tell_slow(self, limits: Limits) -> None:
        if not limits.arrived.all():
            self.notes.append(
                f"At saddle {len(self.saddles)} the directions of {int((~limits.arrived).sum())} "
                "microscopic blocks had not come to rest; they were taken as they were."
            )

    def _tell_ties(self, leaving: ndarray) -> None:
        groups = by_direction(leaving, self.unit)
        if len(groups) > 1:
            rows = tuple(tuple(int(self.blocks.row[j]) for j in group) for group in groups)
            self.ties.append(Tie(len(self.saddles) - 1, rows))

    def _left_inside(self, rest: RestPoint) -> bool:
        """Whether a rest point may be left by what is small inside the active blocks."""
        inside = self.active & self.blocks.layered
        fitted = float(np.linalg.norm(rest.residual)) <= _FITTED * self.labels
        if fitted or not inside.any() or self.split is not None:
            return False
        if is_manifold(self.blocks, rest, self.log_norm, self.unit):
            return False
        self.notes.append(
            f"At saddle {len(self.saddles) - 1} parts inside a block of several layers may grow by "
            "a power, which the path does not follow; the escape rate holds unless they are "
            "quicker, and what comes after is not known."
        )
        return True

    def _stuck(self) -> bool:
        """Whether active blocks that grow apart have come back to where they were."""
        if self.split is None:
            return False
        h = self.blocks.predict(self.log_norm, self.unit)
        loss = float(self.problem.loss.value(h, self.problem.data.y))
        if loss < self.rest.loss * (1.0 - 1e-9):
            return False
        self.notes.append(
            f"At saddle {len(self.saddles) - 1} active blocks grow apart, which the path could not "
            "follow."
        )
        return True

    # -- between two rest points -----------------------------------------------------------

    def _go(self, rest: RestPoint, leaving: ndarray) -> bool:
        """The flow to the next rest point; returns whether there is one."""
        blocks, level = self.blocks, self.blocks.level
        large = self.active | leaving
        log_norm = self.log_norm.copy()
        scale = self.rate * float(np.linalg.norm(rest.residual))
        if leaving.any():
            log_norm[leaving] = self._start(leaving)
        along = np.zeros_like(self.unit) if self.split is None else self.split[0]
        off = OffBends(blocks, self.unit, along)
        self.unit = off.unit
        size = float(np.max(np.where(large, (blocks.order - 1.0) * log_norm, -np.inf)))
        slow = leaving & (level == 0.0)
        forced = np.inf
        if slow.any() and float(self.growth[slow].max()) < _SLOW * scale:
            log_norm, forced = self._grown(log_norm, large, slow)
        slowest = float(np.max(-level[leaving] * log_norm[leaving], initial=0.0))
        typical = scale * float(np.exp(max(size, 0.0)))
        stop = Stop(
            grad_norm=_REST * typical,
            log_time=float(np.log(1e7 / scale)) + slowest,
            log_loss=-200.0,
        )
        early = min(_EARLY * typical, forced)
        stop = replace(stop, grad_norm=min(_REST * typical, early))
        if self.split is not None:
            along, rate = self.split
            apart = self._distance(log_norm, along, _ROUNDING * typical / rate)
            log_norm = self._parted(log_norm, apart * along)
            early = min(early, _BEGUN * rate * apart)
            stop = replace(stop, grad_norm=min(_REST * typical, early))
        alone, rests = self._to_rest(np.where(large, log_norm, -np.inf), stop, early, large)
        if not rests:
            self.notes.append(
                f"After saddle {len(self.saddles) - 1} the flow does not come to rest: it ended "
                f"by its {alone.stop_reason} at the loss {float(alone.final.loss[0]):.3g}."
            )
            return False
        end_norm, end_unit = blocks.split(alone.final.state(0))
        near = _near_rest(alone, _NEAR * typical)
        turning = self.given & ~large & (level == 0.0)
        until = float(alone.trajectory.log_time[near])
        # The large blocks may be at rest from the beginning: then nothing turns on the way.
        if turning.any() and np.isfinite(until):
            log_norm[turning] = _LOG_UNFELT
            rtol = max(self.rtol, _TURN)
            with_small = np.where(large | turning, log_norm, -np.inf)
            whole = self._follow(with_small, Stop(log_time=until), rtol, 2)
            turned_norm, turned = blocks.split(whole.final.state(0))
            self.unit[turning] = turned[turning]
            self.offset[turning] += turned_norm[turning] - _LOG_UNFELT
        near_norm, near_unit = blocks.split(alone.trajectory.state(near))
        self.log_norm[large], self.unit[large] = end_norm[large], end_unit[large]
        self.unit, near_unit = off.back(self.unit), off.back(near_unit)
        self._sort_out(large)
        with np.errstate(under="ignore"):
            arrival = np.exp(near_norm)[:, None] * near_unit
        arrival = np.where(self.active[:, None], arrival, 0.0)
        self.inside.keep(self.active, arrival, self._way(alone), large)
        return True

    def _way(self, solution: Solution) -> Way:
        """The blocks' flow between two rest points, as far as it moves what is small in them."""
        along, y = solution.trajectory, self.problem.data.y
        parts = [self.blocks.split(along.state(i)) for i in range(len(along))]
        residual = [self.problem.loss.residual(h, y) for h in along.prediction]
        way = Way(
            along.time,
            np.array([log_norm for log_norm, _ in parts]),
            np.array([unit for _, unit in parts]),
            np.array(residual),
        )
        return way.between(along.loss, along.grad_norm)

    def _parted(self, log_norm: ndarray, apart: ndarray) -> ndarray:
        """Active blocks as they begin to grow apart."""
        weights = np.exp(log_norm)[:, None] * self.unit
        weights = weights + apart
        size = np.linalg.norm(weights, axis=1)
        self.unit = np.where(
            self.active[:, None], weights / np.where(self.active, size, 1.0)[:, None], self.unit
        )
        return np.where(self.active, np.log(np.where(self.active, size, 1.0)), log_norm)

    def _distance(self, log_norm: ndarray, along: ndarray, least: float) -> float:
        """How far active blocks have grown apart, seen against rounding."""
        with np.errstate(divide="ignore", under="ignore"):
            log_moved = np.log(lengths(along[self.active])) - log_norm[self.active]
            whole = float(np.linalg.norm(np.exp(log_norm[self.active])))
            parted = _PARTED * float(np.exp(-min(log_moved.max(), 700.0)))
        return min(max(parted, _LEAST * whole, least), _MOST * whole)

    def _to_rest(
        self, log_norm: ndarray, stop: Stop, early: float, large: ndarray
    ) -> tuple[Solution, bool]:
        """The flow of the large blocks until Newton's method finds the rest point, if it does.

        To go on would be to let rounding grow along falling directions.
        """
        near = self._follow(log_norm, replace(stop, grad_norm=early), self.rtol, 400)
        if near.stop_reason == "grad_norm" and self._at_rest(near, large):
            return near, True
        whole = self._follow(log_norm, stop, self.rtol, 400)
        rests = whole.stop_reason == "grad_norm" or whole.status == "at_rest"
        # Along a flat direction the gradient falls like a power of time.
        slowly = float(whole.final.grad_norm[0]) <= early and whole.stop_reason == "log_time"
        return whole, rests or slowly and self._at_rest(whole, large)

    def _at_rest(self, solution: Solution, large: ndarray) -> bool:
        """Whether Newton's method finds a rest point close to where large blocks ended."""
        end_norm, end_unit = self.blocks.split(solution.final.state(0))
        alive = large & np.isfinite(end_norm)
        try:
            _, log_norm, unit = refine_blocks(self.blocks, end_norm, end_unit, alive)
        except PolarflowError:
            return False
        went = self.blocks.pack(log_norm, unit, alive) - self.blocks.pack(end_norm, end_unit, alive)
        return bool(np.linalg.norm(went) < _CLOSE * np.exp(end_norm[alive].max()))

    def _grown(self, log_norm: ndarray, large: ndarray, slow: ndarray) -> tuple[ndarray, float]:
        """Slow blocks once they have grown, and a gradient well below theirs.

        Before that the gradient is that of a rest point, and grows hardly faster than at one.
        """
        fastest = float(self.growth[slow].max())
        time = (np.log(_GROWN) - float(log_norm[slow].max())) / fastest
        stop = Stop(time=time)
        end = self._follow(np.where(large, log_norm, -np.inf), stop, self.rtol, 2).final.state(0)
        end_norm, end_unit = self.blocks.split(end)
        self.unit = np.where(large[:, None], end_unit, self.unit)
        force = _BEGUN * fastest * float(np.exp(end_norm[slow].max()))
        return np.where(large, end_norm, log_norm), force

    def _start(self, leaving: ndarray) -> ndarray:
        """ln norms of leaving blocks as they begin to be felt."""
        order, level = self.blocks.order[leaving], self.blocks.level[leaving]
        growth = self.growth[leaving]
        fastest = growth.max()
        late = self.offset[leaving] - self.offset[leaving].max()
        with np.errstate(divide="ignore", invalid="ignore"):
            higher = _LOG_START / order - np.log(growth / fastest) / level
        return np.where(level > 0.0, higher, _LOG_START / 2.0 * growth / fastest + late)

    def _follow(self, log_norm: ndarray, stop: Stop, rtol: float, points: int) -> Solution:
        problem = self.problem
        state = self.blocks.join(log_norm, self.unit)
        start = make_problem(problem.data, problem.network, state, loss=problem.loss)
        return follow(start, stop, rtol, points)

    def _sort_out(self, large: ndarray) -> None:
        """Which of the blocks that were large are so at rest: those that decay are not."""
        problem, order = self.problem, self.blocks.order
        h = self.blocks.predict(np.where(large, self.log_norm, -np.inf), self.unit)
        residual = problem.loss.residual(h, problem.data.y)
        value, _ = self.blocks.ncf(self.unit, residual)
        one, log_share = directions(self.blocks, np.where(large, self.log_norm, -np.inf), self.unit)
        norm = self.log_norm - log_share
        with np.errstate(under="ignore"):
            share = np.where(large, np.exp(order * norm), 0.0)
        little = share <= _SHARE * share[one == np.arange(len(one))].sum()
        still = 1e-9 * self.rate * float(np.linalg.norm(residual))
        self.active = large.copy()
        felt = ~unfelt(self.blocks, np.where(large, norm, -np.inf))
        self._decayed(large & little & felt & (order * value < -still))

    def _decayed(self, chosen: ndarray) -> None:
        """Blocks that are not active at the next rest point, though they have been large."""
        self.active &= ~chosen
        self.scale[chosen], self.debt[chosen] = self.blocks.level[chosen], 0.0
        self.offset[chosen] = 0.0
        self.log_norm[~self.active] = -np.inf


def _near_rest(solution: Solution, gradient: float) -> int:
    """From which point of the trajectory on the gradient stays below a size."""
    above = np.flatnonzero(solution.trajectory.log_grad_norm > np.log(gradient))
    return min(int(above[-1]) + 1, len(solution.trajectory) - 1) if len(above) else 0
