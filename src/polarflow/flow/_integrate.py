"""Integration: an engine's windows, what is recorded on them, and why they end."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
from numpy import ndarray

from ..losses import MarginLoss
from ..networks import Network, TwoLayer
from ._engine import Engine, Halt, Replaying, Window
from ._path import PathMeter
from ._problem import Problem
from ._record import AT_REST, FlowRecord
from ._snapshot import NEVER, Bracket, Moment, Snapshot, memory, reach, snapshot, snapshots
from ._stop import Stop
from ._visits import Visits

#: Below this log loss a picture shows the logarithm of its size.
_DEEP = 30.0
#: Before this log time nothing has moved by what a float could tell.
_DAWN = -700.0
#: Bytes that snapshots may take.
_MEMORY = 256e6


@dataclass(frozen=True)
class Progress:
    """Where a run is: for progress bars.

    `saddles` counts those met, the present one included; `fraction` is None where no time ends
    the run. `checking` says that the flow is followed a second time, to estimate its error,
    `replaying` that the way so far is followed again with more digits.
    """

    time: float
    log_time: float
    loss: float
    log_loss: float
    saddles: int
    fraction: float | None
    checking: bool = False
    replaying: bool = False


def _compressed(log_loss: float) -> float:
    """A log loss, itself logarithmic beyond what it is in any fit of real labels."""
    return log_loss if log_loss > -_DEEP else -_DEEP * (1.0 + float(np.log(-log_loss / _DEEP)))


class _Run:
    """The state of one integration."""

    def __init__(
        self,
        record: FlowRecord,
        first: Snapshot,
        requests: Iterable[Moment],
        points: int,
        progress: Callable[[Progress], None] | None,
        most_evaluations: float,
    ) -> None:
        self.record = record
        self.most_evaluations = most_evaluations
        self.engine = record.engine
        self.wanted = sorted(set(requests), key=lambda moment: moment.log_time)
        self.progress = progress
        self.most = int(max(8, min(2 * points, _MEMORY / memory(first.state))))
        self.points = points
        self.samples = max(1, min(8, self.most // 40))
        self.visits = Visits(record.stop.max_saddles)
        self.reported = 0.0
        network = record.problem.network
        self.neurons = isinstance(network, TwoLayer)
        self.layered = isinstance(network, Network) and any(
            group.layered for group in network.groups(record.problem.data.dimension)
        )
        stop = record.stop
        self.end, self.end_name = stop.end()
        self.lowest, self.lowest_name = stop.lowest_loss()
        self.only_loss = self.end == NEVER and stop.grad_norm is None and not self.wanted
        self.rest = -np.inf if stop.grad_norm is None else float(np.log(stop.grad_norm))
        #: The largest gradient met, the yardstick of small ones.
        self.steepest = first.log_grad_norm
        self.first_rate = first.log_rate
        #: The length of the path of w/|w|, wanted for the late phase of classification.
        self.path: PathMeter | None = None
        if isinstance(record.problem.loss, MarginLoss):
            self.path = PathMeter(self.engine, first.state)
            first = replace(first, path_length=0.0)
        record.snapshots.append(first)
        self.visits.start(first)
        if isinstance(self.engine, Replaying):
            self.engine.pulse = self.replay

    def below_loss(self, at: Snapshot) -> float:
        """Negative once the wanted loss is reached."""
        return at.log_loss - self.lowest

    def above_rest(self, at: Snapshot) -> float:
        """Negative once the gradient is as small as wanted."""
        return at.log_grad_norm - self.rest

    def still(self, at: Snapshot) -> bool:
        """Whether no block grows out of a point at which the gradient is as small as wanted.

        Where the loss is about to vanish, blocks grow more slowly by as much as the gradient is
        smaller; at a saddle they do so about as fast as in the beginning. The limit is between.
        """
        smaller = 0.5 * (self.rest - self.steepest)
        return at.log_escape <= self.first_rate + min(float(np.log(0.01)), smaller)

    def at_rest(self, at: Snapshot) -> bool:
        """Whether nothing happens any more, to rounding, though the engine may find some noise.

        In as much time again as has passed the loss would fall by less than 2e-3 rtol^2 of itself,
        and no block grow by a thousandth, after a time in which the fastest could have grown by
        e^1000: a plateau that the flow will leave has a block that grows faster. Only of neurons
        is that all: at rest their force D is zero, so that the Hessian of the loss in the weights
        of the active ones is that of least squares, and they can't move apart either.
        """
        if not self.neurons:
            return False
        fall = 2.0 * at.log_grad_norm + at.log_time - at.log_loss
        return (
            fall <= np.log(2e-3 * self.engine.rtol**2)
            and at.log_escape + at.log_time <= np.log(1e-3)
            and self.first_rate + at.log_time >= np.log(1e3)
        )

    def at_floor(self, at: Snapshot) -> bool:
        """Whether the loss has come to where it ends, though weights may go on.

        Some examples are fitted for ever better and others can't be: norms grow like ln t, and
        the loss tends to a number. In as much time again as has passed it would fall by less than
        1e-12 of itself, or it has not while the time grew by a factor of e^10; and no block grows,
        nor turns, at 1e-10 or 1e-6 of the rates that it could have under the residual: one that
        leaves a saddle grows faster, or turns to where it does. That is all only where blocks
        don't hold smaller parts, and matters only where nothing but the loss ends the run.
        """
        if not self.only_loss or self.layered:
            return False
        fall = 2.0 * at.log_grad_norm + at.log_time - at.log_loss
        if not (
            at.log_escape <= at.log_rate + np.log(1e-10)
            and self.first_rate + at.log_time >= np.log(1e3)
            and (fall <= np.log(1e-12) or self.lasting(at))
        ):
            return False
        _, distance = self.engine.ncf(at.state)
        spread = np.exp(at.log_rate - at.log_residual)
        return not bool(np.any(distance > 1e-6 * spread))

    def lasting(self, at: Snapshot) -> bool:
        """Whether the loss has been the same to rounding while the time grew by e^10."""
        since = at.log_time
        for before in reversed(self.record.snapshots):
            if not abs(before.log_loss - at.log_loss) <= 1e-12 * max(1.0, abs(at.log_loss)):
                break
            since = before.log_time
        return since <= at.log_time - 10.0

    def add(self, at: Snapshot) -> None:
        """Keep a snapshot; when there are too many, those are kept that lie evenly on the path."""
        kept = self.record.snapshots
        kept.append(at)
        if len(kept) > self.most:
            moved = [self.moved(*pair) for pair in pairwise(kept)]
            path = np.concatenate([[0.0], np.cumsum(moved)])
            inner = np.searchsorted(path, np.linspace(0.0, path[-1], self.most // 2))[1:-1]
            index = np.unique(np.concatenate([[0], inner, [len(kept) - 1]]))
            self.record.snapshots = [kept[k] for k in index]
            self.samples = max(1, self.samples // 2)

    def moved(self, before: Snapshot, after: Snapshot) -> float:
        """How far apart two snapshots are in a picture: in weights and in log loss."""
        fall = abs(_compressed(after.log_loss) - _compressed(before.log_loss))
        change = self.engine.distance(before.state, after.state)
        return change + (0.5 * fall if np.isfinite(fall) else 0.0)

    def run(self) -> None:
        """Follow the flow from its start to a stop."""
        record, first = self.record, self.record.snapshots[0]
        if not first.finite:
            reason = "The loss at the start is too large for a float, or not a number."
            return self.halt("not_finite", reason)
        self.keep_requests(first)
        if self.below_loss(first) <= 0.0:
            record.stop_reason = self.lowest_name
        while not record.stop_reason:
            self.step()

    def halt(self, status: str, message: str) -> None:
        """End the run with a status that is not a stop."""
        self.record.status = self.record.stop_reason = status
        self.record.message = message

    def step(self) -> None:
        """One window."""
        record, engine = self.record, self.engine
        if engine.evaluations > self.most_evaluations:
            return self.halt("limit", "The field evaluations that were allowed are used up.")
        start = record.snapshots[-1]
        target = min([*self.wanted[:1], self.end], key=lambda moment: moment.log_time)
        if self.at_rest(start) or target.log_time < _DAWN:
            self.stay(start, target)
            return
        if self.at_floor(start):
            self.halt(
                "at_rest",
                f"The loss has come to its end, {start.loss:.6g}, at time {start.time:.6g}: it "
                "falls by less than 1e-12 of itself in as much time again, no block grows, and the "
                "stop that was asked for can't be reached.",
            )
            return
        window = engine.advance(start.state, target.log_time)
        if not np.isfinite(window.length):
            self.stay(start, target)
            return
        offsets = window.offsets(self.samples)
        states = list(window.states(offsets))
        if states[-1].log_time > target.log_time:
            late = next(i for i, s in enumerate(states) if s.log_time > target.log_time)
            low = float(offsets[late - 1]) if late else 0.0
            cut = reach(window, low, float(offsets[late]), target)
            offsets = np.append(offsets[:late], cut)
            states = [*states[:late], *window.states(np.array([cut]))]
        samples = snapshots(engine, states)
        if target.reached(samples[-1].log_time):
            samples[-1] = samples[-1].at(target)
        stopped, reason = self.first_stop(window, offsets, samples)
        if record.status != "ok":
            return
        if stopped is not None:
            index, offset = stopped
            offsets = np.append(offsets[:index], offset)
            states = list(window.states(offsets[-1:]))
            samples = [*samples[:index], *snapshots(engine, states)]
        window.accept(float(offsets[-1]))
        if self.path is not None:
            lengths = self.path.extend(window, offsets)
            record.path_error = self.path.error
            samples = [
                replace(at, path_length=length) for at, length in zip(samples, lengths, strict=True)
            ]
        record.steps += 1
        # Many windows make a fine picture by their ends alone.
        self.samples = max(1, min(self.samples, self.points // (2 * record.steps)))
        for at in samples:
            self.add(at)
        self.keep_requests(samples[-1])
        if not reason and self.end.reached(samples[-1].log_time):
            reason = self.end_name
        self.report(samples[-1], force=bool(reason))
        record.stop_reason = reason

    def first_stop(
        self, window: Window[Any], offsets: ndarray, samples: list[Snapshot]
    ) -> tuple[tuple[int, float] | None, str]:
        """The first sample that a stop lies before, the offset of that stop, and its name."""
        before, low, prior = self.record.snapshots[-1], 0.0, 0.0
        for i, (at, high) in enumerate(zip(samples, offsets.tolist(), strict=True)):
            if not at.finite:
                self.halt(
                    "not_finite", f"The weights are no longer finite after time {before.time:.6g}."
                )
                return None, ""
            self.steepest = max(self.steepest, at.log_grad_norm)
            bracket = Bracket(self.engine, window, before, at, low, high, prior)
            if self.below_loss(at) <= 0.0:
                return (i, bracket.locate(self.below_loss)), self.lowest_name
            if self.above_rest(at) <= 0.0 and self.still(at):
                rested = self.above_rest(before) <= 0.0
                return (i, high if rested else bracket.locate(self.above_rest)), "grad_norm"
            leave = self.visits.see(bracket)
            if leave is not None:
                return (i, leave), "max_saddles"
            before, low, prior = at, high, low
        return None, ""

    def stay(self, at: Snapshot, target: Moment) -> None:
        """Nothing moves, or nothing has moved yet: the state is that of the target as well."""
        if not np.isfinite(target.log_time):
            self.halt(
                "at_rest",
                f"The flow is at rest at time {at.time:.6g} with loss {at.loss:.6g}: no block "
                "moves any more, and the stop that was asked for can't be reached.",
            )
            return
        last = at.at(target)
        self.add(last)
        self.keep_requests(last)
        if self.end.reached(last.log_time):
            self.record.stop_reason = self.end_name
        self.report(last, force=True)

    def keep_requests(self, at: Snapshot) -> None:
        """Record the requests that a snapshot answers."""
        while self.wanted and self.wanted[0].reached(at.log_time):
            moment = self.wanted.pop(0)
            self.record.recorded[moment] = at.at(moment)

    def report(self, at: Snapshot, force: bool = False) -> None:
        """Tell where the run is, now and then."""
        if self.progress is None:
            return
        now = perf_counter()
        if not force and now - self.reported < 0.05:
            return
        self.reported = now
        fraction = None
        if np.isfinite(self.end.time):
            fraction = at.time / self.end.time
        elif np.isfinite(self.end.log_time):
            fraction = max(at.log_time, 0.0) / self.end.log_time
        self.progress(
            Progress(at.time, at.log_time, at.loss, at.log_loss, self.visits.count, fraction)
        )

    def replay(self, log_time: float, log_loss: float) -> None:
        """Tell where an engine is that follows its way again."""
        now = perf_counter()
        if self.progress is None or now - self.reported < 0.05:
            return
        self.reported = now
        with np.errstate(over="ignore", under="ignore"):
            time, loss = float(np.exp(log_time)), float(np.exp(log_loss))
        news = Progress(time, log_time, loss, log_loss, self.visits.count, None, replaying=True)
        self.progress(news)

    def close(self) -> None:
        """End the visits; a run that ends at rest ends in one."""
        record = self.record
        last = record.snapshots[-1]
        resting = record.stop_reason in AT_REST or self.nothing_moves(last)
        self.visits.close(last, resting)
        record.visits = self.visits.done

    def nothing_moves(self, at: Snapshot) -> bool:
        """Whether the run ended where it would stay for ever."""
        if self.record.status != "ok" or at is self.record.snapshots[0]:
            return False
        if self.path is not None:
            # A window of the late phase may span decades; whether a block lives is enough here.
            return bool(np.isnan(self.engine.ncf(at.state)[0]).all())
        evaluations = self.engine.evaluations
        try:
            window = self.engine.advance(at.state, np.inf)
        except Halt:
            return False
        finally:
            self.engine.evaluations = evaluations
        return not np.isfinite(window.length)


def integrate(
    engine: Engine[Any],
    problem: Problem,
    stop: Stop,
    *,
    requests: Iterable[Moment] = (),
    points: int = 400,
    progress: Callable[[Progress], None] | None = None,
    most_evaluations: float = np.inf,
) -> FlowRecord:
    """Follow a flow from its initial state until a stop is reached.

    After so many field evaluations it ends with the status `"limit"`.

    Nothing recorded is lost: an interrupt, or an engine that halts, ends the run with a status
    that says so.
    """
    from threadpoolctl import threadpool_limits

    record = FlowRecord(engine, problem, stop)
    # The matrices are small: threads of the linear algebra would cost more than they bring.
    limits = threadpool_limits(limits=1)
    run: _Run | None = None
    try:
        first = snapshot(engine, engine.initial(), count=True)
        run = _Run(record, first, requests, points, progress, most_evaluations)
        run.run()
    except KeyboardInterrupt:
        if run is None:
            raise
        run.halt("interrupted", "The run was interrupted; what was recorded until then is kept.")
    except Halt as halt:
        if run is None:
            raise
        run.halt(halt.status, halt.message)
    finally:
        limits.restore_original_limits()
    run.close()
    return record
