"""The flow of (u_1|u_2| - 1)^2 from (1 + delta, delta): it leaves (1, 0) in constant time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base import Claim
from .._flow import RTOL, follow
from ._branching import plane
from ._plane import descended, descent

if TYPE_CHECKING:
    from ... import Progress

LEMMA_TIME, LEMMA_DISTANCE = 0.1, 0.09
SADDLE = np.array([1.0, 0.0])


@dataclass(frozen=True)
class Setting:
    """Starts near the saddle.

    **Attributes:**

    - `deltas`: decreasing distances delta from it, below the lemma's 0.1.
    - `time`: how long flows are followed.
    """

    deltas: tuple[float, ...]
    time: float

    def gather(self, quick: bool, progress: "Callable[[Progress], None] | None") -> "Evidence":
        """One flow for each delta, and the one from the saddle itself that takes a side."""
        deltas = (*self.deltas[:: 3 if quick else 1], self.deltas[-1])
        deltas = tuple(sorted(set(deltas), reverse=True))
        times = np.unique(np.append(np.linspace(0.0, self.time, 61), LEMMA_TIME))
        flows, evaluations = [], 0.0
        for delta in deltas:
            solution = follow(descent((1.0 + delta, delta)), times.tolist(), points=20)
            flows.append(plane(solution))
            evaluations += solution.work.field_evaluations
        left = follow(descent((1.0, 0.0)), times.tolist(), branching="on", points=20)
        return Evidence(
            self,
            np.array(deltas),
            times,
            np.array(flows),
            plane(left),
            left.events.branchings or 0,
            evaluations + left.work.field_evaluations,
        )


SETTING = Setting(
    deltas=(0.099, 0.05, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-12, 1e-16, 1e-30, 1e-100, 1e-200, 1e-300),
    time=1.5,
)


@dataclass(frozen=True)
class Evidence:
    """These flows.

    **Attributes:**

    - `setting`: what was followed.
    - `deltas`: decreasing, shape `(D,)`; `time`, shape `(T,)`; `flows`, shape `(D, T, 2)`.
    - `left`: the flow from the saddle itself with the choice "on", shape `(T, 2)`; `branchings`,
      how many were reported on it.
    - `evaluations`: the field evaluations of all.
    """

    setting: Setting
    deltas: np.ndarray
    time: np.ndarray
    flows: np.ndarray
    left: np.ndarray
    branchings: int
    evaluations: float

    @property
    def distance(self) -> np.ndarray:
        """The distance from the saddle, shape `(D, T)`."""
        return np.asarray(np.linalg.norm(self.flows - SADDLE, axis=2))

    @property
    def at_lemma_time(self) -> np.ndarray:
        """That at time 0.1, shape `(D,)`."""
        return np.asarray(self.distance[:, int(np.searchsorted(self.time, LEMMA_TIME))])

    def parameters(self) -> dict[str, Any]:
        """What was followed."""
        return {
            "function": "(u_1|u_2| - 1)^2, as one neuron with the activation |z| on the example 1",
            "deltas": self.deltas.tolist(),
            "time": self.setting.time,
            "rtol": RTOL,
            "seed": 0,
        }

    def comparison(self) -> list[dict[str, Any]]:
        """None: flows are compared with their closed form in the claims."""
        return []

    def work(self) -> dict[str, Any]:
        """Field evaluations of all flows."""
        return {"flows": len(self.deltas) + 1, "field_evaluations": self.evaluations}


def _gradients(e: Evidence) -> np.ndarray:
    """-grad g at the starts, shape `(D, 2)`."""
    delta = e.deltas
    rest = 1.0 - delta * (1.0 + delta)
    return np.stack([2.0 * delta * rest, 2.0 * (1.0 + delta) * rest], axis=1)


def large_gradient(e: Evidence) -> Claim:
    """Lemma F.1 (v1): near the saddle the gradient is large."""
    return Claim(
        name="gradient-is-large",
        statement="However near to the saddle, the gradient is large: its least norm.",
        measured=float(np.linalg.norm(_gradients(e), axis=1).min()),
        bound=1.0,
        relation=">=",
        reason="Lemma F.1.",
    )


def points_away(e: Evidence) -> Claim:
    """Lemma F.1 (v1): and the flow points away."""
    away = np.sum(_gradients(e) / e.deltas[:, None] * np.array([-e.deltas, -e.deltas]).T, axis=1)
    return Claim(
        name="points-away",
        statement=(
            "The flow points away from the saddle: the largest <-grad g, saddle - u>/delta."
        ),
        measured=float(away.max()),
        bound=-1e-300,
        relation="<=",
        reason="Lemma F.1: it is negative.",
    )


def leaves_in_constant_time(e: Evidence) -> Claim:
    """Lemma F.2 (v1)."""
    return Claim(
        name="leaves-in-constant-time",
        statement=(
            f"At time {LEMMA_TIME:g} the flow has left the saddle, for every delta down to "
            f"{e.deltas[-1]:.0e}: the least distance from (1, 0)."
        ),
        measured=float(e.at_lemma_time.min()),
        bound=LEMMA_DISTANCE,
        relation=">=",
        reason="Lemma F.2.",
    )


def closed_form(e: Evidence) -> Claim:
    """The flows against the solution of a Riccati equation."""
    off = [
        float(np.abs(flow - descended(float(delta), e.time)).max())
        for delta, flow in zip(e.deltas, e.flows, strict=True)
    ]
    return Claim(
        name="closed-form",
        statement=(
            "The flows are the solution of tau' = 2 - 2(1 + 2 delta) tau - 2 tau^2, "
            "tau = u_2/u_1: the largest error."
        ),
        measured=max(off),
        bound=1000 * RTOL,
        relation="<=",
        reason="A thousand times the tolerance.",
    )


def limit_branches(e: Evidence) -> Claim:
    """The limit delta -> 0 is a branch at the saddle itself."""
    return Claim(
        name="limit-is-a-branch",
        statement=(
            'For delta -> 0 they tend to the flow that leaves (1, 0) itself at once ("on"): the '
            f"distance at delta = {e.deltas[-1]:.0e}."
        ),
        measured=float(np.abs(e.flows[-1] - e.left).max()) if e.branchings else float("nan"),
        bound=1000 * RTOL,
        relation="<=",
        reason="A thousand times the tolerance; and a branching must be reported there.",
    )


CLAIMS = (large_gradient, points_away, leaves_in_constant_time, closed_form, limit_branches)
