"""Integration: an engine's windows and jumps, what is recorded on them, and why they end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from time import perf_counter

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._problem import Problem
from ._stop import Stop
from ._trajectory import Trajectory
from .kinks import CapError, KinkExactEngine, KinkState, Measure, Plateau

#: A saddle is visited while |grad l|^2 <= VISIT * rate * l, with rate = |X| |r| an upper bound of
#: the speed at which any unit neuron can move under the residual r.
VISIT = 0.01
#: It is a visit only if the loss falls by less than this factor in it: a slow valley is none.
VALLEY = 1.25
#: Two visits are one if the loss falls by less than this factor between them.
SAME = 1.05
#: The reasons to stop that mean rest.
AT_REST = ("grad_norm", "at_rest")
#: Bytes that snapshots may take.
_MEMORY = 256e6


@dataclass(frozen=True)
class Progress:
    """Where a run is: for progress bars."""

    time: float
    log_time: float
    loss: float
    saddles: int
    fraction: float | None


@dataclass(frozen=True)
class Snapshot(Measure):
    """A state and what is measured on it."""

    state: KinkState

    @property
    def time(self) -> float:
        """The flow's time."""
        return self.state.time


@dataclass(frozen=True)
class Visit:
    """An interval of time near a saddle: its ends and the moment of closest approach."""

    enter: Snapshot
    closest: Snapshot
    leave: Snapshot | None


@dataclass
class FlowRecord:
    """All that one run leaves behind."""

    engine: KinkExactEngine
    stop: Stop
    snapshots: list[Snapshot] = field(default_factory=list)
    recorded: list[Snapshot] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)
    status: str = "ok"
    stop_reason: str = ""
    message: str = ""
    steps: int = 0
    seconds: float = 0.0
    compile_seconds: float = 0.0

    def trajectory(self, snapshots: Sequence[Snapshot], inputs: ndarray | None) -> Trajectory:
        """Snapshots as arrays; `inputs` are those at which the network's values are wanted."""
        engine = self.engine
        states = [s.state for s in snapshots]
        m, n = engine.blocks, len(engine.label)
        d = engine.problem.data.dimension
        query = np.zeros((0, d)) if inputs is None else inputs
        log_norm = np.array([engine.log_norm(s) for s in states]).reshape(-1, m)
        direction = np.array([engine.direction(s) for s in states]).reshape(-1, m, 1 + d)
        loss = np.array([s.loss for s in snapshots])
        slope = engine.problem.network.slope
        output = np.zeros((len(states), len(query)))
        for i in range(len(states)) if len(query) else ():
            z = query @ direction[i, :, 1:].T
            with np.errstate(under="ignore"):
                share = np.exp(2.0 * log_norm[i]) * direction[i, :, 0]
            output[i] = np.maximum(z, slope * z) @ share
        with np.errstate(divide="ignore"):
            log_loss = np.log(loss)
        return Trajectory(
            time=np.array([s.time for s in snapshots]),
            log_norm=log_norm,
            direction=direction,
            loss=loss,
            log_loss=log_loss,
            grad_norm=np.array([s.grad_norm for s in snapshots]),
            prediction=np.array([s.prediction for s in snapshots]).reshape(-1, n),
            output=output,
        )

    def evaluate(self, times: ndarray) -> list[Snapshot]:
        """Snapshots at any times of the run, by following the flow again from the nearest one."""
        last = self.snapshots[-1].time
        known = np.array([s.time for s in self.snapshots])
        result: dict[float, Snapshot] = {}
        current: Snapshot | None = None
        for t in np.unique(times):
            if not 0.0 <= t <= last:
                raise PolarflowError(f"evaluate: time {t} is outside the run, [0, {last}].")
            base = self.snapshots[int(np.searchsorted(known, t, side="right")) - 1]
            if current is None or current.time < base.time:
                current = base
            self.engine.restart()
            while current.time < t:
                window = _advance(self.engine, current, t - current.time)
                state = window.states(np.array([window.length]))[-1]
                if window.length >= (t - current.time) * (1.0 - 1e-14):
                    state = replace(state, time=float(t))
                current = _snapshot(self.engine, state)
            result[float(t)] = current
        return [result[float(t)] for t in times]


def _snapshots(engine: KinkExactEngine, states: Sequence[KinkState]) -> list[Snapshot]:
    measures = engine.measure(states)
    return [Snapshot(**vars(at), state=s) for at, s in zip(measures, states, strict=True)]


def _snapshot(engine: KinkExactEngine, state: KinkState, count: bool = False) -> Snapshot:
    if count:
        engine.evaluations += 1.0
    return _snapshots(engine, [state])[0]


def _moved(before: Snapshot, after: Snapshot) -> float:
    """How far apart two snapshots are in a picture: in log loss, direction and log-norm."""
    turn = np.linalg.norm(after.state.w - before.state.w, axis=1).mean()
    growth = np.abs(after.state.log_scale - before.state.log_scale).mean()
    fall = abs(np.log(after.loss / before.loss)) if min(after.loss, before.loss) > 0.0 else 0.0
    return float(turn + 0.02 * growth + 0.5 * fall)


def _advance(engine: KinkExactEngine, at: Snapshot, longest: float):
    here = engine.field(at.state)
    window = engine.jump(at.state, here, longest)
    return window if window is not None else engine.window(at.state, here, longest)


def _offsets(length: float, motion: object, fastest: float, samples: int) -> ndarray:
    """Times inside a step at which it is recorded; a jump moves most at its beginning."""
    even = np.linspace(0.0, length, samples + 1)[1:]
    if not isinstance(motion, Plateau) or not fastest > 0.0 or not np.isfinite(fastest):
        return even
    early = np.geomspace(min(0.05 / fastest, 0.5 * length), length, 24)[:-1]
    return np.unique(np.concatenate([early, np.linspace(0.0, length, 13)[1:]]))


def _locate(window, low: float, high: float, value: Callable[[Snapshot], float]) -> float:
    """The time in a window at which a quantity, of opposite signs at the ends, is zero."""
    from scipy.optimize import brentq

    engine = window.engine

    def at(offset: float) -> float:
        state = window.states(np.array([offset]))[-1] if offset > 0.0 else window.state
        return value(_snapshot(engine, state, count=True))

    root = float(brentq(at, low, high, xtol=1e-15 * max(high, 1e-300), rtol=1e-14))
    # Where the quantity jumps, at a kink, the side after it is meant.
    wanted, step = at(high) > 0.0, 1e-15 * high
    while root < high and (at(root) > 0.0) != wanted:
        root, step = min(root + step, high), 2.0 * step
    return root


class _Run:
    """The state of one integration."""

    def __init__(
        self,
        record: FlowRecord,
        record_times: ndarray,
        points: int,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.record = record
        self.engine = record.engine
        self.wanted = list(np.unique(record_times))
        self.progress = progress
        size = self.engine.blocks * (
            8 * (self.engine.planes.normals.shape[1] + 2) + len(self.engine.planes.normals)
        )
        self.most = int(max(8, min(2 * points, _MEMORY / max(size, 1))))
        self.samples = max(1, min(8, self.most // 40))
        self.enter: Snapshot | None = None
        self.closest: Snapshot | None = None
        self.left: Visit | None = None
        self.reported = 0.0
        stop = record.stop
        self.end_time, self.end_name = stop.end_time()
        self.lowest, self.lowest_name = stop.lowest_loss()
        label = float(np.linalg.norm(self.engine.label))
        rate = self.engine.factor * self.engine.planes.spread * label
        #: A neuron that grows more slowly than this doesn't leave a rest point.
        self.slow = 0.0
        if stop.grad_norm is not None and rate > 0.0:
            unit = rate * np.sqrt(label / self.engine.planes.spread)
            self.slow = rate * min(0.01, float(np.sqrt(stop.grad_norm / unit)))

    def below_loss(self, at: Snapshot) -> float:
        """Negative once the wanted loss is reached."""
        return (np.log(at.loss) if at.loss > 0.0 else -np.inf) - self.lowest

    def at_rest(self, at: Snapshot) -> float:
        """Negative once the gradient is as small as wanted."""
        wanted = self.record.stop.grad_norm
        assert wanted is not None
        return (np.log(at.grad_norm) if at.grad_norm > 0.0 else -np.inf) - np.log(wanted)

    def add(self, at: Snapshot) -> None:
        """Keep a snapshot; when there are too many, those are kept that lie evenly on the path."""
        kept = self.record.snapshots
        kept.append(at)
        if len(kept) > self.most:
            moved = [_moved(*pair) for pair in pairwise(kept)]
            path = np.concatenate([[0.0], np.cumsum(moved)])
            inner = np.searchsorted(path, np.linspace(0.0, path[-1], self.most // 2))[1:-1]
            index = np.unique(np.concatenate([[0], inner, [len(kept) - 1]]))
            self.record.snapshots = [kept[k] for k in index]
            self.samples = max(1, self.samples // 2)

    def start(self, at: Snapshot) -> None:
        self.record.snapshots.append(at)
        if at.rest <= VISIT:
            self.enter = self.closest = at

    def visit(
        self, before: Snapshot, at: Snapshot, window, low: float, high: float
    ) -> float | None:
        """Follow visits from one sample to the next; returns where the last wanted one ends."""
        if self.enter is None:
            if at.rest <= VISIT:
                self.enter, self.closest = self._at_threshold(window, low, high), at
                left = self.left
                if (
                    left is not None
                    and left.leave is not None
                    and left.leave.loss < SAME * self.enter.loss
                ):
                    # It never was away: the visit goes on.
                    if self.record.visits and self.record.visits[-1] is left:
                        self.record.visits.pop()
                    self.enter = left.enter
                    self.closest = min(left.closest, at, key=lambda s: s.rest)
            return None
        assert self.closest is not None
        if at.rest < self.closest.rest:
            self.closest = at
        elif before is self.closest and before.rest > 1e-16:
            self.closest = self._closest(window, low, high, before)
        if at.rest <= VISIT:
            return None
        leave = self._at_threshold(window, low, high)
        self.left = Visit(self.enter, self.closest, leave)
        self.enter = self.closest = None
        if self.left.enter.loss > VALLEY * leave.loss:
            return None
        self.record.visits.append(self.left)
        if self.record.stop.max_saddles == len(self.record.visits):
            return leave.time - window.state.time
        return None

    def _closest(self, window, low: float, high: float, known: Snapshot) -> Snapshot:
        """The closest approach between the neighbours of the closest sample, in one window."""
        from scipy.optimize import minimize_scalar

        before = np.searchsorted(window.samples, low) - 1
        start = float(window.samples[before]) if before >= 0 else 0.0

        def rest(offset: float) -> float:
            state = window.states(np.array([offset]))[-1]
            return float(np.log(max(_snapshot(self.engine, state, count=True).rest, 1e-300)))

        found = minimize_scalar(
            rest, bounds=(start, high), method="bounded", options={"xatol": 1e-4 * (high - start)}
        )
        closest = _snapshot(self.engine, window.states(np.array([found.x]))[-1])
        return closest if closest.rest < known.rest else known

    def _at_threshold(self, window, low: float, high: float) -> Snapshot:
        offset = _locate(window, low, high, lambda s: np.log(max(s.rest, 1e-300) / VISIT))
        return _snapshot(self.engine, window.states(np.array([offset]))[-1])

    def step(self) -> bool:
        """One window or jump; returns whether the run goes on."""
        record, engine = self.record, self.engine
        start = record.snapshots[-1]
        target = self.wanted[0] if self.wanted else np.inf
        longest = min(target, self.end_time) - start.time
        here = engine.field(start.state)
        window = engine.jump(start.state, here, longest)
        if window is None:
            window = engine.window(start.state, here, longest)
        if not np.isfinite(window.length):
            record.status = record.stop_reason = "at_rest"
            record.message = (
                f"The flow is at rest at time {start.time:.6g} with loss {start.loss:.6g}: no "
                "neuron moves any more, and the stop that was asked for can't be reached."
            )
            return False
        fastest = float(np.sqrt(np.einsum("jc,jc->j", here.force, here.force).max(initial=0.0)))
        offsets = _offsets(window.length, window.motion, fastest, self.samples)
        states = window.states(offsets)
        window.samples, tally = offsets, window.tally
        if window.length >= longest * (1.0 - 1e-14) and longest < np.inf:
            states[-1] = replace(states[-1], time=min(target, self.end_time))
        samples = _snapshots(engine, states)
        reason = ""
        before, low = start, 0.0
        for i, (at, offset) in enumerate(zip(samples, offsets, strict=True)):
            if not np.isfinite(at.loss):
                record.status = record.stop_reason = "not_finite"
                record.message = f"The weights are no longer finite after time {before.time:.6g}."
                return False
            cut: float | None = None
            if self.below_loss(at) <= 0.0:
                cut, reason = _locate(window, low, offset, self.below_loss), self.lowest_name
            if record.stop.grad_norm is not None and self.at_rest(at) <= 0.0:
                if at.escape <= self.slow and not reason:
                    reason = "grad_norm"
                    cut = offset
                    if self.at_rest(before) > 0.0:
                        cut = _locate(window, low, offset, self.at_rest)
            if cut is None:
                cut = self.visit(before, at, window, low, float(offset))
                reason = "max_saddles" if cut is not None else ""
            if cut is not None:
                offsets = np.append(offsets[:i], cut)
                last = _snapshot(engine, window.states(offsets)[-1])
                tally = window.tally
                samples = [*samples[:i], last]
                break
            before, low = at, float(offset)
        window.accept(tally)
        record.steps += 1
        for at in samples:
            self.add(at)
        last = samples[-1]
        if self.wanted and last.time >= self.wanted[0]:
            record.recorded.append(last)
            self.wanted.pop(0)
        if not reason and last.time >= self.end_time:
            reason = self.end_name
        self.report(last, force=bool(reason))
        record.stop_reason = reason
        return not reason

    def report(self, at: Snapshot, force: bool = False) -> None:
        if self.progress is None:
            return
        now = perf_counter()
        if not force and now - self.reported < 0.05:
            return
        self.reported = now
        saddles = len(self.record.visits) + (self.enter is not None)
        fraction = at.time / self.end_time if np.isfinite(self.end_time) else None
        log_time = float(np.log(at.time)) if at.time > 0 else -np.inf
        self.progress(Progress(at.time, log_time, at.loss, saddles, fraction))

    def close(self) -> None:
        """Record the visit in which the run ended; rest is one even if the loss is zero there."""
        last = self.record.snapshots[-1]
        if self.enter is not None and self.enter.loss <= VALLEY * last.loss:
            assert self.closest is not None
            self.record.visits.append(Visit(self.enter, self.closest, None))
        elif self.record.stop_reason in AT_REST or self._nothing_moves(last):
            self.record.visits.append(Visit(last, last, None))

    def _nothing_moves(self, at: Snapshot) -> bool:
        if self.record.status != "ok" or at is self.record.snapshots[0]:
            return False
        window = self.engine.jump(at.state, self.engine.field(at.state, count=False), np.inf)
        return window is not None and not np.isfinite(window.length)


def integrate(
    problem: Problem,
    stop: Stop,
    *,
    rtol: float,
    branching: str,
    record_times: ndarray,
    points: int,
    progress: Callable[[Progress], None] | None,
) -> FlowRecord:
    """Follow a flow from its initial state until a stop is reached.

    Nothing recorded is lost: an interrupt or a cap ends the run with a status that says so.
    """
    engine = KinkExactEngine(problem, rtol, branching)
    record = FlowRecord(engine, stop)
    run = _Run(record, record_times, points, progress)
    from threadpoolctl import threadpool_limits

    # The matrices are small: threads of the linear algebra would cost more than they bring.
    limits = threadpool_limits(limits=1)
    begin = perf_counter()
    try:
        first = _snapshot(engine, engine.initial(), count=True)
        run.start(first)
        if branching == "stop" and engine.counts[2]:
            record.status = record.stop_reason = "branching"
            record.message = (
                f"{engine.counts[2]} kinks repel a neuron that starts on them: the flow is not "
                'unique there, and branching = "stop" was asked for.'
            )
        else:
            if not np.isfinite(first.loss):
                record.status = record.stop_reason = "not_finite"
                record.message = "The loss at the start is too large for a float."
            while run.wanted and run.wanted[0] <= 0.0:
                record.recorded.append(first)
                run.wanted.pop(0)
            if run.below_loss(first) <= 0.0:
                record.stop_reason = run.lowest_name
            while not record.stop_reason and run.step():
                pass
    except KeyboardInterrupt:
        record.status = record.stop_reason = "interrupted"
        record.message = "The run was interrupted; what was recorded until then is kept."
    except CapError as error:
        record.status = record.stop_reason = "limit"
        record.message = f"A limit was met: {error}."
    finally:
        limits.restore_original_limits()
    run.close()
    record.seconds = perf_counter() - begin
    return record
