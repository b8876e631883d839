r"""Visits to saddles: one definition, in logarithms, independent of the steps taken.

A *visit* is an interval of time in which

$$|\nabla l|^2 \le \varepsilon \, \Lambda(r) \, l, \qquad \varepsilon = 0.01,$$

with $\Lambda(r)$ an upper bound of the speed of any block of unit norm under the residual r: the
loss decays slowly compared with the fastest growth that any block can have. Two intervals between
which the loss falls by less than 5 per cent are one.

An interval in which the loss falls by more than a fifth holds a slow valley. It is no visit as a
whole; its plateaus are: the intervals of the same kind for $\varepsilon/10$, $\varepsilon/100$,
... $\varepsilon/10^6$, the largest first, in which the loss falls by less than a fifth while
$|\nabla l|^2 / (\Lambda l)$ dips at least ten times below their bound.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ._snapshot import Bracket, Crossing, Snapshot

#: The bound of |grad l|^2 / (Lambda l) near a saddle.
VISIT = 0.01
#: In a visit the loss falls by less than this factor.
VALLEY = 1.25
#: Two intervals are one if the loss falls by less than this factor between them.
SAME = 1.05
#: By how much a plateau in a valley dips below its bound; also the ratio of the bounds tried.
DIP = 10.0
_LEVELS = 6


@dataclass(frozen=True)
class Visit:
    """An interval of time near a saddle: its ends and the moment of closest approach."""

    enter: Snapshot
    closest: Snapshot
    leave: Snapshot | None

    def fall(self, last: Snapshot) -> float:
        """By how much ln l falls in it, up to `last` if it isn't left."""
        leave = last if self.leave is None else self.leave
        return self.enter.log_loss - leave.log_loss


@dataclass
class _Level:
    """The intervals in which |grad l|^2 / (Lambda l) is at most a bound."""

    bound: float
    enter: Snapshot | Crossing | None = None
    closest: Snapshot | None = None
    past: list[tuple[Snapshot | Crossing, Snapshot, Crossing]] = field(default_factory=list)

    def start(self, at: Snapshot) -> None:
        if at.log_rest <= self.bound:
            self.enter = self.closest = at

    def see(self, bracket: Bracket, closest: Snapshot | None) -> bool:
        """Follow from one sample to the next; returns whether an interval was left."""
        at = bracket.at
        if self.enter is None:
            if at.log_rest <= self.bound:
                self.enter, self.closest = Crossing(bracket, self.bound), at
            return False
        assert self.closest is not None
        for found in (closest, at):
            if found is not None and found.log_rest < self.closest.log_rest:
                self.closest = found
        if at.log_rest <= self.bound:
            return False
        self.past.append((self.enter, self.closest, Crossing(bracket, self.bound)))
        self.enter = self.closest = None
        return True

    def keep_dips(self) -> None:
        """Forget the intervals left behind in which rest doesn't dip enough."""
        dip = self.bound - np.log(DIP)
        self.past = [past for past in self.past if past[1].log_rest <= dip]

    def visits(self) -> list[Visit]:
        """The intervals as visits, those that are one joined; the open one included."""
        found = [Visit(_there(e), c, leave.snapshot) for e, c, leave in self.past]
        if self.enter is not None and self.closest is not None:
            found.append(Visit(_there(self.enter), self.closest, None))
        joined: list[Visit] = []
        for visit in found:
            before = joined[-1] if joined else None
            if before is not None and is_same(before, visit.enter):
                joined[-1] = join(before, visit)
            else:
                joined.append(visit)
        return joined


def _there(end: Snapshot | Crossing) -> Snapshot:
    return end if isinstance(end, Snapshot) else end.snapshot


def is_same(before: Visit, enter: Snapshot) -> bool:
    """Whether a visit that enters there goes on with the one before it."""
    leave = before.leave
    return leave is not None and leave.log_loss - enter.log_loss < np.log(SAME)


def join(before: Visit, after: Visit) -> Visit:
    """Two visits as one."""
    closest = min(before.closest, after.closest, key=lambda s: s.log_rest)
    return Visit(before.enter, closest, after.leave)


class Visits:
    """Follows the samples of a flow and keeps its visits.

    **Arguments:**

    - `most`: how many visits end the run, if any number does.
    """

    def __init__(self, most: int | None = None) -> None:
        self.done: list[Visit] = []
        self.most = most
        log_bounds = np.log(VISIT) - np.log(DIP) * np.arange(1 + _LEVELS)
        self._outer = _Level(float(log_bounds[0]))
        self._inner = [_Level(float(bound)) for bound in log_bounds[1:]]
        #: The interval left last, and the visits that it gave: both may still go on.
        self._left: Visit | None = None
        self._given = 0

    @property
    def count(self) -> int:
        """How many saddles were met, the present one included."""
        return len(self.done) + (self._outer.enter is not None)

    def start(self, at: Snapshot) -> None:
        """Begin with the state at time zero."""
        for level in (self._outer, *self._inner):
            level.start(at)

    def see(self, bracket: Bracket) -> float | None:
        """Follow from one sample to the next; returns the offset at which the last visit ends."""
        outer, closest = self._outer, None
        inside = outer.enter is not None
        if inside and bracket.before is outer.closest and bracket.before.log_rest > np.log(1e-16):
            if bracket.at.log_rest >= bracket.before.log_rest:
                closest = bracket.closest()
        left = outer.see(bracket, closest)
        for level in self._inner:
            if level.see(bracket, closest):
                level.keep_dips()
        if not inside and outer.enter is not None:
            self._enter()
        if not left:
            return None
        enter, nearest, leave = outer.past.pop()
        self._left = Visit(_there(enter), nearest, leave.snapshot)
        given = self._visits(self._left, bracket.at)
        self._given = len(given)
        self.done += given
        if self.most is None or len(self.done) < self.most:
            return None
        del self.done[self.most :]
        return leave.offset

    def _enter(self) -> None:
        """A new interval: does it go on with the last one, as if that had never been left?"""
        outer, left = self._outer, self._left
        assert outer.enter is not None and outer.closest is not None
        enter = _there(outer.enter)
        outer.enter = enter
        if left is not None and is_same(left, enter):
            del self.done[len(self.done) - self._given :]
            outer.enter = left.enter
            outer.closest = min(left.closest, outer.closest, key=lambda s: s.log_rest)
        else:
            for level in self._inner:
                level.past.clear()
        self._given = 0

    def _visits(self, whole: Visit, last: Snapshot) -> list[Visit]:
        """What an interval holds: one visit, or the plateaus of a valley."""
        if whole.fall(last) <= np.log(VALLEY):
            return [whole]
        found: list[Visit] = []
        for level in self._inner:
            for visit in level.visits():
                dips = visit.closest.log_rest <= level.bound - np.log(DIP)
                if dips and visit.fall(last) <= np.log(VALLEY) and not _within(visit, found):
                    found.append(visit)
        return sorted(found, key=lambda visit: visit.enter.log_time)

    def close(self, last: Snapshot, resting: bool) -> None:
        """End the run at `last`; rest is a visit too, even if the loss is zero there."""
        outer = self._outer
        open_visit = False
        if outer.enter is not None:
            assert outer.closest is not None
            found = self._visits(Visit(_there(outer.enter), outer.closest, None), last)
            open_visit = bool(found) and found[-1].leave is None
            self.done += found
        if resting and not open_visit:
            self.done.append(Visit(last, last, None))


def _within(visit: Visit, others: Iterable[Visit]) -> bool:
    """Whether one of the others contains a visit."""
    return any(
        other.enter.log_time <= visit.enter.log_time
        and (other.leave is None or visit.enter.log_time <= other.leave.log_time)
        for other in others
    )
