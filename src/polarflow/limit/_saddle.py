"""What the path is made of: rest points that are left, ties, and the whole."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ._rest import RestPoint

#: Directions that are so close are one KKT point.
_SAME = 1e-6


def exp(logarithm: float) -> float:
    """The number with a logarithm; 0 or inf where a float can't hold it."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.exp(logarithm))


@dataclass(frozen=True)
class Tie:
    """Several KKT points whose blocks leave a saddle at the same scaled time.

    The order in which they become large depends on the blocks' sizes, not on delta alone; the path
    goes on with the sizes of the initial state.
    """

    saddle: int
    blocks: tuple[tuple[int, ...], ...]


def by_direction(leaving: Bool[ndarray, " m"], direction: Float[ndarray, "m p"]) -> list[list[int]]:
    """The blocks that leave, those of one direction together."""
    groups: list[list[int]] = []
    for j in np.flatnonzero(leaving).tolist():
        for group in groups:
            if np.linalg.norm(direction[group[0]] - direction[j]) < _SAME:
                group.append(j)
                break
        else:
            groups.append([j])
    return groups


@dataclass(frozen=True)
class LimitSaddle:
    r"""A rest point on the path.

    **Attributes:**

    - `index`: 0 for the origin.
    - `rest`: the rest point, refined.
    - `escape_rate`: it is left at the time escape_rate * (-ln delta) + O(1) if `order` is 2, and
      escape_rate * delta^-(order - 2) to leading order otherwise; None for the last.
    - `leaving`: the blocks that leave it.
    - `exponent`: $E_j$ on leaving (or at the end), size = delta^-E; 0 for active blocks, -inf for
      blocks that are zero from the start.
    - `direction`: of all blocks, the microscopic ones at their KKT points.
    - `growth`: $g_j$; 0 for active blocks.
    - `kkt_residual`: the largest over living microscopic blocks of
      dist(0, (I - vv^T) dN_r(v)) / (L max |N_r|); None where the residual vanishes or none lives.
    - `order`: L of the time scale on which it is left.
    - `log_escape_rate`: the natural logarithm of the escape rate, which a float may not hold.
    """

    index: int
    rest: RestPoint
    escape_rate: float | None
    leaving: tuple[int, ...]
    exponent: Float[ndarray, " m"]
    direction: Float[ndarray, "m p"]
    growth: Float[ndarray, " m"]
    kkt_residual: float | None
    order: float = 2.0
    log_escape_rate: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The saddle as it stands in summary.json."""
        return {
            "index": self.index,
            "log_time_enter": None,
            "log_time_leave": None,
            "loss": self.rest.loss,
            "grad_norm": self.rest.grad_norm,
            "active_blocks": int(self.rest.active.sum()),
            "residual_norm": float(np.linalg.norm(self.rest.residual)),
            "kkt_residual": self.kkt_residual,
            "escape_rate": self.escape_rate,
            "log_escape_rate": self._log_escape_rate,
            "escape_order": int(self.order) if self.order == int(self.order) else self.order,
            "leaving_blocks": list(self.leaving),
            "next_exponent": self._next_exponent,
            "escape_growth": float(self.growth[list(self.leaving)].max()) if self.leaving else None,
            "hessian_kernel": self.rest.kernel,
            "hessian_index": self.rest.index,
            "hessian_spectrum": self._nonzero_spectrum(),
            "strict": bool(self.leaving),
            "kkt_points": self.kkt_points(),
        }

    def _nonzero_spectrum(self) -> list[float]:
        spectrum = self.rest.spectrum
        return np.sort(spectrum[np.argsort(np.abs(spectrum))[self.rest.kernel :]]).tolist()

    def kkt_points(self) -> list[dict[str, Any]]:
        """Where the microscopic blocks are on leaving, those of one direction together.

        The quickest first; blocks that are zero, or feel no force, are at none.
        """
        lives = np.isfinite(self.exponent) | np.isnan(self.exponent)
        alive = lives & ~self.rest.active & (self.growth != 0.0)
        found = []
        for group in by_direction(alive, self.direction):
            exponent = float(self.exponent[group].max())
            found.append(
                {
                    "direction": self.direction[group[0]].tolist(),
                    "growth": float(self.growth[group].max()),
                    "blocks": group,
                    "exponent": None if np.isnan(exponent) else exponent,
                    "leaves": bool(set(group) & set(self.leaving)),
                }
            )
        return sorted(found, key=lambda point: -point["growth"])

    @property
    def _next_exponent(self) -> float | None:
        """The largest exponent below 0 on leaving, of blocks that stay small."""
        stay = self.exponent[np.isfinite(self.exponent) & (self.exponent < 0.0)]
        return float(stay.max()) if self.leaving and len(stay) else None

    @property
    def _log_escape_rate(self) -> float | None:
        if self.log_escape_rate is not None or self.escape_rate is None:
            return self.log_escape_rate
        return float(np.log(self.escape_rate))


@dataclass(frozen=True)
class SaddlePath:
    """The path of a problem.

    **Attributes:**

    - `saddles`: the rest points in order, the origin first and the last one included.
    - `ties`: saddles that several KKT points leave at the same time.
    - `complete`: whether the last one is where the flow ends.
    - `notes`: sentences about what the path does not say.
    """

    saddles: tuple[LimitSaddle, ...]
    ties: tuple[Tie, ...] = ()
    complete: bool = True
    notes: tuple[str, ...] = field(default=())

    @property
    def escape_rates(self) -> Float[ndarray, " k"]:
        """The escape rates of the saddles that are left."""
        return np.array([s.escape_rate for s in self.saddles if s.escape_rate is not None])

    def summary(self) -> dict[str, Any]:
        """The content of `summary.json`."""
        return {
            "status": "ok" if self.complete else "incomplete",
            "saddles": [saddle.to_dict() for saddle in self.saddles],
            "ties": [
                {"saddle": tie.saddle, "blocks": [list(b) for b in tie.blocks]} for tie in self.ties
            ],
            "notes": list(self.notes),
            "final": {
                "loss": self.end.loss,
                "grad_norm": self.end.grad_norm,
                "param_norm": float(np.exp(self._log_param_norm())),
                "predictions": self.end.prediction.tolist(),
            },
        }

    def _log_param_norm(self) -> float:
        sizes = 2.0 * self.end.state.log_norm
        top = float(sizes.max(initial=-np.inf))
        if not np.isfinite(top):
            return -np.inf
        with np.errstate(under="ignore"):
            return 0.5 * (top + float(np.log(np.sum(np.exp(sizes - top)))))

    @property
    def end(self) -> RestPoint:
        """The rest point at the end."""
        return self.saddles[-1].rest
