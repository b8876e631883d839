"""Visits to saddles on made-up flows, whose loss and rest are functions of time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import polarflow as pf
from polarflow.flow import Measure, integrate
from polarflow.flow._visits import VALLEY, VISIT

Curve = Callable[[float], float]


@dataclass(frozen=True)
class Clock:
    """A state that is only a time."""

    time: float

    @property
    def log_time(self) -> float:
        return float(np.log(self.time)) if self.time > 0 else -np.inf


class Step:
    """Windows of a fixed length, all of whose states are times."""

    def __init__(self, state: Clock, length: float) -> None:
        self.state, self.length = state, length

    def offsets(self, samples: int) -> np.ndarray:
        return np.linspace(0.0, self.length, samples + 1)[1:]

    def states(self, offsets: np.ndarray) -> list[Clock]:
        return [Clock(self.state.time + float(t)) for t in offsets]

    def accept(self, offset: float) -> None:
        pass


class Made:
    """An engine whose loss l(t) is given by its logarithm; rest is then -(ln l)' with Lambda 1.

    |grad l|^2 = -l' = rest * l.
    """

    rtol = 1e-8
    evaluations = 0.0

    def __init__(self, log_loss: Curve, rest: Curve, length: float) -> None:
        self.log_loss, self.rest, self.length = log_loss, rest, length

    def initial(self) -> Clock:
        return Clock(0.0)

    def advance(self, state: Clock, end: float) -> Step:
        return Step(state, self.length)

    def measure(self, states: list[Clock]) -> list[Measure]:
        found = []
        for s in states:
            log_loss = self.log_loss(s.time)
            log_grad = 0.5 * (np.log(self.rest(s.time)) + log_loss)
            zero = np.zeros(1)
            found.append(Measure(zero, zero, log_loss / 2, log_loss, log_grad, 0.0, 0.0))
        return found

    def distance(self, before: Clock, after: Clock) -> float:
        return after.time - before.time

    def restart(self) -> None:
        pass


def visits(rest: Curve, end: float, length: float) -> list:
    """The visits of a flow with the given rest, whose loss is then ln l = -integral of rest."""
    grid = np.linspace(0.0, end, 400_001)
    values = np.array([rest(t) for t in grid])
    step = grid[1]
    fallen = np.concatenate([[0.0], np.cumsum(0.5 * step * (values[1:] + values[:-1]))])
    engine = Made(lambda t: -float(np.interp(t, grid, fallen)), rest, length)
    data = pf.Data(np.ones((1, 1)), np.ones(1), False, "made")
    state = pf.block_state(np.zeros(1), np.array([[0.6, 0.8]]))
    problem = pf.problem(data, pf.TwoLayer(1), state)
    return integrate(engine, problem, pf.Stop(time=end), points=10**4).visits


def plateau(t: float, centre: float, half: float, depth: float, away: float) -> float:
    """Rest that dips to e^-depth between centre - half and centre + half, smoothly."""
    inside = 0.5 * (np.tanh(t - centre + half) - np.tanh(t - centre - half))
    return float(away * np.exp(-depth * inside))


@pytest.mark.parametrize("length", [0.37, 1.0, 2.9])
def test_a_plateau_is_a_visit_whatever_the_steps(length: float) -> None:
    found = visits(lambda t: plateau(t, 50.0, 20.0, 15.0, 1.0), 100.0, length)
    assert len(found) == 1
    # rest = 0.01 where depth * inside = ln 100: by symmetry at the same distance of both ends.
    inside = np.log(1.0 / VISIT) / 15.0
    distance = 20.0 - np.arctanh(2.0 * inside - 1.0) if inside != 0.5 else 20.0
    np.testing.assert_allclose(found[0].enter.time, 50.0 - distance, atol=1e-6)
    np.testing.assert_allclose(found[0].leave.time, 50.0 + distance, atol=1e-6)


@pytest.mark.parametrize("length", [0.37, 2.9])
def test_a_plateau_that_joins_a_valley_stays_in_the_list(length: float) -> None:
    # After the plateau the loss falls by a third, at a rest of 0.005.
    def rest(t: float) -> float:
        fast = 1.0 if t < 10.0 or t > 140.0 else 0.005
        return fast * (1e-6 if 20.0 < t < 60.0 else 1.0)

    found = visits(rest, 150.0, length)
    assert len(found) == 1
    assert found[0].enter.log_loss - found[0].leave.log_loss < np.log(VALLEY)
    np.testing.assert_allclose([found[0].enter.time, found[0].leave.time], [20.0, 60.0], atol=1e-3)


def test_a_valley_alone_is_no_visit() -> None:
    assert visits(lambda t: 1.0 if t < 10.0 or t > 140.0 else 0.005, 150.0, 1.0) == []
    # Rest falls for ever, but so does the loss: l = 1/t^0.5, not to a plateau.
    assert visits(lambda t: 0.5 / (1.0 + t), 5000.0, 7.0) == []


def test_two_plateaus_in_one_valley() -> None:
    def rest(t: float) -> float:
        deep = 20.0 < t < 60.0 or 160.0 < t < 200.0
        return (1.0 if t < 10.0 or t > 220.0 else 0.005) * (1e-6 if deep else 1.0)

    found = visits(rest, 230.0, 1.3)
    times = [[v.enter.time, v.leave.time] for v in found]
    np.testing.assert_allclose(times, [[20.0, 60.0], [160.0, 200.0]], atol=1e-3)


def test_a_short_absence_is_no_leave() -> None:
    # Between the two the loss falls by 2 per cent only.
    def rest(t: float) -> float:
        return 1e-5 if 5.0 < t < 20.0 or 20.02 < t < 40.0 else 1.0

    found = visits(rest, 50.0, 0.0071)
    assert len(found) == 1
    np.testing.assert_allclose([found[0].enter.time, found[0].leave.time], [5.0, 40.0], atol=1e-3)


def test_a_run_may_end_on_a_plateau_behind_a_valley() -> None:
    found = visits(lambda t: 1.0 if t < 5.0 else 0.005 if t < 100.0 else 1e-7, 200.0, 1.0)
    assert len(found) == 1 and found[0].leave is None
    np.testing.assert_allclose(found[0].enter.time, 100.0, atol=1e-3)
