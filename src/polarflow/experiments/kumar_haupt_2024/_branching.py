"""Figure 2: the flow of u_1|u_2|, which may leave (1, 0) at any time, and only that point."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim
from .._flow import RTOL, follow
from ._plane import ascended, ascent, waited

if TYPE_CHECKING:
    from ... import Progress, Solution

CHOICES = ("on", "off", "stay")
"""What the engine may do where a kink repels from both sides."""
CLOSE = 1e4 * RTOL
"""Ends this near to one another are the same."""


@dataclass(frozen=True)
class Setting:
    """Starts on the unit circle, and waits at (1, 0).

    **Attributes:**

    - `divisions`: starts at equal angles, multiples of a quarter turn among them.
    - `near`: starts at these small angles to both sides of (1, 0) and of (-1, 0).
    - `time`: how long flows are followed.
    - `waits`: the times T of the family of lemma E.1.
    """

    divisions: int
    near: tuple[float, ...]
    time: float
    waits: tuple[float, ...]

    def starts(self, quick: bool) -> list[tuple[float, float]]:
        """Points of the circle, those on the axes exact; a third as many if `quick`."""
        divisions = self.divisions // 3 if quick else self.divisions
        points = []
        for k in range(divisions):
            turn, angle = divmod(4 * k, divisions)[0], 2.0 * np.pi * k / divisions
            exact = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))
            on_axis = 4 * k % divisions == 0
            points.append(exact[turn] if on_axis else (float(np.cos(angle)), float(np.sin(angle))))
        for angle in self.near:
            for side in (1.0, -1.0):
                for first in (1.0, -1.0):
                    points.append((first * float(np.cos(angle)), side * float(np.sin(angle))))
        return points

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """Each start is followed with every choice, and each wait in two parts."""
        times = np.linspace(0.0, self.time, 61)
        ends: dict[str, list[np.ndarray]] = {choice: [] for choice in CHOICES}
        branched, evaluations = [], 0.0
        starts = self.starts(quick)
        for start in starts:
            met = 0
            for choice in CHOICES:
                solution = follow(ascent(start), times.tolist(), branching=choice, points=20)
                ends[choice].append(plane(solution))
                met = max(met, solution.events.branchings or 0)
                evaluations += solution.work.field_evaluations
            branched.append(met)
        family = {wait: self._waiting(wait) for wait in self.waits}
        flows = {choice: np.array(found) for choice, found in ends.items()}
        return Evidence(
            self, np.array(starts), times, flows, np.array(branched), family, evaluations
        )

    def _waiting(self, wait: float) -> tuple[np.ndarray, np.ndarray]:
        """Times and states of the flow that stays until `wait`, and then takes the upper side."""
        before = [] if wait == 0.0 else np.linspace(0.0, wait, 21).tolist()
        after = np.linspace(0.0, self.time - wait, 41)
        at, states = np.zeros(0), np.zeros((0, 2))
        start = (1.0, 0.0)
        if before:
            stayed = follow(ascent(start), before, branching="stay", points=20)
            at, states = np.array(before[:-1]), plane(stayed)[:-1]
            start = (float(plane(stayed)[-1, 0]), float(plane(stayed)[-1, 1]))
        left = follow(ascent(start), after.tolist(), branching="on", points=20)
        return np.concatenate([at, wait + after]), np.concatenate([states, plane(left)])


def plane(solution: "Solution") -> np.ndarray:
    """The recorded points (u_1, u_2), shape `(T, 2)`."""
    return np.asarray(solution.recorded.weights()[:, 0])


SETTING = Setting(
    divisions=72, near=(1e-2, 1e-6, 1e-12, 1e-100), time=3.0, waits=(0.0, 0.5, 1.0, 1.5, 2.0)
)


@dataclass(frozen=True)
class Evidence:
    """All these flows.

    **Attributes:**

    - `setting`: what was followed.
    - `starts`: points of the circle, shape `(S, 2)`.
    - `time`: the times of `flows`, shape `(T,)`.
    - `flows`: by choice, shape `(S, T, 2)`.
    - `branched`: the largest number of branchings reported for a start, shape `(S,)`.
    - `family`: by wait, times and points.
    - `evaluations`: the field evaluations of all.
    """

    setting: Setting
    starts: np.ndarray
    time: np.ndarray
    flows: dict[str, np.ndarray]
    branched: np.ndarray
    family: dict[float, tuple[np.ndarray, np.ndarray]]
    evaluations: float

    @cached_property
    def exceptional(self) -> np.ndarray:
        """Which starts lie in the set of lemma E.2, u_1 >= 0 and u_2 = 0."""
        return (self.starts[:, 0] >= 0.0) & (self.starts[:, 1] == 0.0)

    @cached_property
    def spread(self) -> np.ndarray:
        """For each start the largest distance between flows of different choices."""
        first = self.flows[CHOICES[0]]
        others = [np.linalg.norm(self.flows[c] - first, axis=2).max(axis=1) for c in CHOICES[1:]]
        return np.asarray(np.max(others, axis=0))

    def parameters(self) -> dict[str, Any]:
        """What was followed."""
        return {
            "function": "u_1|u_2|, as one neuron with the activation |z| on the example 1",
            "starts": self.starts.tolist(),
            "choices": list(CHOICES),
            "time": self.setting.time,
            "waits": list(self.setting.waits),
            "rtol": RTOL,
            "seed": 0,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """None: flows are compared with their closed forms in the claims."""
        return []

    def work(self) -> dict[str, Any]:
        """Field evaluations of all flows."""
        return {"flows": len(CHOICES) * len(self.starts), "field_evaluations": self.evaluations}


def can_stay(e: Evidence) -> Claim:
    """Section 5.1: (1, 0) is a critical point, and staying is a solution."""
    at = int(np.flatnonzero(e.exceptional)[0])
    moved = np.linalg.norm(e.flows["stay"][at] - [1.0, 0.0], axis=1)
    return Claim(
        name="can-stay",
        statement='From (1, 0) the flow may stay for ever: the largest distance with "stay".',
        measured=float(moved.max()),
        bound=0.0,
        relation="<=",
        reason="0 lies in the subdifferential; the least-norm velocity is exactly zero.",
    )


def family(e: Evidence) -> Claim:
    """Lemma E.1 (v1): for any T, (1, 0) until T and then (cosh, sinh)."""
    off = [
        float(np.abs(states - waited(wait, time)).max()) / float(np.cosh(time.max() - wait))
        for wait, (time, states) in e.family.items()
    ]
    return Claim(
        name="waits-any-time",
        statement=(
            "From (1, 0) the flow may wait any time T and then follow (cosh, sinh)(t - T): the "
            f"largest relative error over T = {', '.join(f'{w:g}' for w in e.setting.waits)}."
        ),
        measured=max(off),
        bound=100 * RTOL,
        relation="<=",
        reason="A hundred times the tolerance.",
    )


def no_common_direction(e: Evidence) -> Claim:
    """Section 5.1: no finite time at which all solutions are nearly aligned."""
    diagonal = np.array([1.0, 1.0]) / np.sqrt(2.0)
    at = e.setting.time
    angles = []
    for time, states in e.family.values():
        end = states[np.argmin(np.abs(time - at))]
        angles.append(float(np.degrees(np.arccos(min(1.0, end @ diagonal / np.linalg.norm(end))))))
    waits = e.setting.waits
    exact = np.degrees(np.pi / 4 - np.arctan(np.tanh(at - max(waits))))
    return Claim(
        name="no-common-time-of-alignment",
        statement=(
            f"At time {at:g} the solutions are not all aligned with (1, 1)/sqrt(2), to which each "
            f"converges: the angle in degrees of the one that waited for {max(waits):g}, against "
            "the formula."
        ),
        measured=abs(angles[-1] - float(exact)),
        bound=1e-5,
        relation="<=",
        reason=f"It is {float(exact):.1f} degrees away by the formula, and tends to 45 as T grows.",
    )


def branching_reported(e: Evidence) -> Claim:
    """Lemma E.2 (v3), one direction: the exceptional point branches."""
    return Claim(
        name="branching-reported",
        statement="At (1, 0) the engine reports a branching: how many.",
        measured=int(e.branched[e.exceptional].min()),
        bound=1,
        relation=">=",
        reason="Clarke's inclusion has many solutions there.",
    )


def sides_differ(e: Evidence) -> Claim:
    """Lemma E.1 (v1): the solutions from (1, 0) are different."""
    return Claim(
        name="solutions-differ",
        statement="From (1, 0) the three choices give different solutions: their distance.",
        measured=float(e.spread[e.exceptional].min()),
        bound=2.0 * float(np.sinh(e.setting.time)) * (1.0 - 100 * RTOL),
        relation=">=",
        reason="The two sides are (cosh, sinh) and (cosh, -sinh).",
    )


def none_elsewhere(e: Evidence) -> Claim:
    """Lemma E.2 (v3): all other points are non-branching."""
    return Claim(
        name="non-branching-elsewhere",
        statement=(
            f"From none of {int((~e.exceptional).sum())} other points of the circle is a "
            "branching met, some as near as 1e-100 to (1, 0): how many do."
        ),
        measured=int((e.branched[~e.exceptional] > 0).sum()),
        bound=0,
        relation="==",
        reason="Lemma E.2.",
    )


def unique_elsewhere(e: Evidence) -> Claim:
    """Lemma E.2 (v3): the solution is unique there."""
    return Claim(
        name="unique-elsewhere",
        statement=(
            "From the other points the choice makes no difference: the largest distance between "
            "two choices."
        ),
        measured=float(e.spread[~e.exceptional].max()),
        bound=CLOSE,
        relation="<=",
        reason="The tolerance times what the flow may magnify until its end.",
    )


def closed_form(e: Evidence) -> Claim:
    """The flows from all other points against the closed form."""
    off = []
    for start, flow in zip(e.starts[~e.exceptional], e.flows["off"][~e.exceptional], strict=True):
        exact = ascended((float(start[0]), float(start[1])), e.time)
        off.append(float(np.abs(flow - exact).max()))
    return Claim(
        name="closed-form",
        statement=(
            "The flows from the other points are u_1 +- |u_2| ~ e^(+-t) until u_2 vanishes, and "
            "rest there: the largest error."
        ),
        measured=max(off),
        bound=CLOSE,
        relation="<=",
        reason="The tolerance times what the flow may magnify until its end.",
    )


def flow_map_jumps(e: Evidence) -> Claim:
    """The set of lemma E.2 by another way: where the closed form jumps."""
    small, jumps = 1e-13, []
    for start in e.starts:
        angle = float(np.arctan2(start[1], start[0]))
        ends = [
            ascended((np.cos(angle + s * small), np.sin(angle + s * small)), e.time[-1:])[0]
            for s in (1.0, -1.0)
        ]
        jumps.append(float(np.linalg.norm(ends[0] - ends[1])) > CLOSE)
    differs = np.array(jumps) != (e.branched > 0)
    near = (np.abs(e.starts[:, 1]) < 10 * small) & ~e.exceptional & (e.starts[:, 0] > 0)
    return Claim(
        name="where-the-flow-map-jumps",
        statement=(
            "The starts at which branchings are reported are those at which the end of the closed "
            "form jumps between an angle 1e-13 above and below: how many are told differently."
        ),
        measured=int((differs & ~near).sum()),
        bound=0,
        relation="==",
        reason="A way to the set of lemma E.2 that shares nothing with the engine.",
    )


CLAIMS = (
    can_stay,
    family,
    no_common_direction,
    branching_reported,
    sides_differ,
    none_elsewhere,
    unique_elsewhere,
    closed_form,
    flow_map_jumps,
)
