"""KKT points of an NCF on the unit sphere, and what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Kind = Literal["maximum", "saddle", "minimum"]


@dataclass(frozen=True, eq=False)
class KKTPoint:
    r"""A point v of the unit sphere with $2\lambda v \in \partial N(v)$, or one of a flat set.

    **Attributes:**

    - `direction`: v, shape `(p,)`.
    - `value`: N(v).
    - `kkt_residual`: dist(0, (I - vv^T) dN(v)) / (L max |N|), with Clarke's subdifferential.
    - `type`: of N on the sphere at v; for a flat set, in a neighbourhood of the whole set. A set
      near which N is constant counts as a maximum.
    - `strict`: for a maximum or minimum, whether N differs from its value at all points nearby
      (that are not in the same flat set); for a saddle, whether N rises at second order or faster
      along some direction, so that the flow leaves it at an exponential rate at least.
    - `on_kinks`: the examples whose kinks hold v, among those that bend the NCF.
    - `kink_multipliers`: for each of them the slope s_k, between the activation's two slopes, with
      sum_k z_k s_k grad(pre-activation k) stationary; None for an activation without kinks.
    - `dimension`: of the set of KKT points around v; 0 for an isolated point.
    - `orbit`: equal for points that a symmetry relates.
    - `multiplier`: 2 lambda = <v, g> for every g in dN(v), as it was found.
    - `order_defect`: |L N(v) - multiplier| / (L max |N|); zero by Euler's identity.
    - `certified`: whether interval arithmetic proves that one KKT point, and no other, lies within
      `radius` of v in every coordinate, with the same pattern of activation; None where the test
      does not apply.
    - `radius`: of that box.
    - `sign`: of the fixed output weight, for units that have one.
    - `share`: of random directions whose NCF flow ends here; None without a search.
    - `block`: which block it belongs to, where the network's blocks differ.
    - `singular_values`: of each layer's matrix, relative to the largest; None unless deep.
    """

    direction: Float[ndarray, " p"]
    value: float
    type: Kind
    strict: bool
    on_kinks: tuple[int, ...] = ()
    kink_multipliers: tuple[float, ...] | None = None
    dimension: int = 0
    orbit: int = 0
    multiplier: float = 0.0
    kkt_residual: float = 0.0
    order_defect: float = 0.0
    certified: bool | None = None
    radius: float | None = None
    sign: int | None = None
    share: float | None = None
    block: int | None = None
    singular_values: tuple[tuple[float, ...], ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The point as it stands in summary.json, without what does not apply to it."""
        entry: dict[str, Any] = {
            "direction": self.direction.tolist(),
            "value": self.value,
            "kkt_residual": self.kkt_residual,
            "type": self.type,
            "on_kinks": list(self.on_kinks),
            "orbit": self.orbit,
            "strict": self.strict,
            "dimension": self.dimension,
            "multiplier": self.multiplier,
            "order_defect": self.order_defect,
            "certified": self.certified,
            "radius": self.radius,
        }
        if self.kink_multipliers is not None:
            entry["kink_multipliers"] = list(self.kink_multipliers)
        for name in ("sign", "share", "block"):
            if getattr(self, name) is not None:
                entry[name] = getattr(self, name)
        if self.singular_values is not None:
            entry["singular_values"] = [list(values) for values in self.singular_values]
        return entry


@dataclass(frozen=True, eq=False)
class KKTSet:
    """The KKT points of one block's NCF.

    **Attributes:**

    - `points`: by falling value; of a flat set one point.
    - `order`: L.
    - `largest`: max |N| over the points, the scale of residuals.
    - `complete`: whether these are proved to be all.
    - `proof`: what the completeness rests on, or how the search went.
    """

    points: tuple[KKTPoint, ...]
    order: float
    largest: float
    complete: bool
    proof: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The set as it stands in summary.json."""
        return {
            "order": self.order,
            "largest": self.largest,
            "complete": self.complete,
            "proof": dict(self.proof),
            "flat_sets": [
                {"dimension": p.dimension, "value": p.value, "point": i, "orbit": p.orbit}
                for i, p in enumerate(self.points)
                if p.dimension
            ],
            "kkt_points": [point.to_dict() for point in self.points],
        }


def arranged(points: list[KKTPoint]) -> tuple[KKTPoint, ...]:
    """By falling value, then by direction, with orbits numbered in that order."""
    largest = max((abs(p.value) for p in points), default=0.0)

    def place(p: KKTPoint) -> tuple[float, ...]:
        level = p.value if largest == 0.0 else round(p.value / largest, 10)
        return (-level, *np.round(-p.direction, 9).tolist())

    number: dict[int, int] = {}
    return tuple(
        replace(p, orbit=number.setdefault(p.orbit, len(number))) for p in sorted(points, key=place)
    )
