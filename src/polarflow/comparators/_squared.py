r"""The margin programs of squared-ReLU networks: the best mixture of given directions, or of all.

A squared-ReLU network $h(x) = \sum_j s_j \max(0, w_j \cdot x)^2$ is linear in the shares
$p_j = |w_j|^2 / |w|^2$ once its directions $\theta_j = w_j/|w_j|$ are given, so that its largest
normalised margin is a game between mixtures of features and of examples,

$\max_{p \in \Delta} \min_k \sum_j p_j y_k s_j \max(0, \theta_j \cdot x_k)^2
 = \min_{q \in \Delta} \max_j \sum_k q_k y_k s_j \max(0, \theta_j \cdot x_k)^2$

(Ji & Telgarsky, 2020, proposition 4.6). Its first part says that the flow's limit attains the
margin with its own limit directions; its second compares it with all directions and signs.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..ncf._regions import LARGEST, most_regions, regions

_ROUNDS = 400
_GAP = 1e-10
_COLUMNS = 1000
_STALLED = 20


@dataclass(frozen=True)
class MarginGame:
    r"""The solution of a margin program and its certificate.

    **Attributes:**

    - `margin`: the value of the game for the mixture found.
    - `share`, `sign`, `direction`: the mixture, shapes `(k,)`, `(k,)`, `(k, d)`.
    - `weights`: the mixture q of examples, shape `(n,)`.
    - `dual_value`: $\max_{u, s} \sum_k q_k y_k s \max(0, u \cdot x_k)^2$, an upper bound of the
      margin of any network if `exact`.
    - `exact`: whether that maximum is over the whole set of directions.
    """

    margin: float
    share: Float[ndarray, " k"]
    sign: Float[ndarray, " k"]
    direction: Float[ndarray, "k d"]
    weights: Float[ndarray, " n"]
    dual_value: float
    exact: bool

    @property
    def gap(self) -> float:
        """Dual value minus margin."""
        return self.dual_value - self.margin

    def __call__(self, x: Float[ndarray, "q d"]) -> Float[ndarray, " q"]:
        """The mixture at inputs."""
        return np.asarray(np.maximum(x @ self.direction.T, 0.0) ** 2 @ (self.sign * self.share))


def local_margin(
    x: Float[ndarray, "n d"],
    y: Float[ndarray, " n"],
    direction: Float[ndarray, "m d"],
    sign: Float[ndarray, " m"],
) -> MarginGame:
    """The largest margin of mixtures of given unit directions with given signs."""
    features = (y[:, None] * np.maximum(x @ direction.T, 0.0) ** 2) * sign
    share, weights, _ = _game(features)
    return MarginGame(
        margin=float(np.min(features @ share)),
        share=share,
        sign=np.asarray(sign, dtype=float),
        direction=direction,
        weights=weights,
        dual_value=float(np.max(weights @ features)),
        exact=True,
    )


def global_margin(
    x: Float[ndarray, "n d"],
    y: Float[ndarray, " n"],
    *,
    hints: Float[ndarray, "h d"] | None = None,
    samples: int = 200,
    seed: int = 0,
) -> MarginGame:
    r"""The largest margin over mixtures of all unit directions, each with either sign.

    Directions enter as columns at maxima of $\sum_k q_k y_k s \max(0, u \cdot x_k)^2$, q the
    examples' weights so far. In the region of an activation pattern A that is the quadratic form
    of $s \sum_{k \in A} q_k y_k x_k x_k^T$, whose maxima on the sphere are eigenvectors in the
    region; all regions are searched where they are few, and climbed from samples otherwise.

    **Arguments:**

    - `x`, `y`: inputs `(n, d)` and labels `(n,)`.
    - `hints`: directions to begin with, such as those of a flow.
    - `samples`, `seed`: of random directions.
    """
    rng = np.random.default_rng([seed, 4])
    starts = np.concatenate([x, -x, rng.standard_normal((samples, x.shape[1]))])
    if hints is not None:
        starts = np.concatenate([hints, starts])
    starts = starts[np.linalg.norm(starts, axis=1) > 0]
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    exact = most_regions(x) <= LARGEST
    inside = regions(x) if exact else starts
    direction = np.repeat(starts[: 4 * len(x) + 20], 2, axis=0)
    sign = np.tile([1.0, -1.0], len(direction) // 2)
    least, stalled = np.inf, 0
    for _ in range(_ROUNDS):
        features = y[:, None] * np.maximum(x @ direction.T, 0.0) ** 2 * sign
        share, weights, margin = _game(features)
        used = direction[share > 0]
        found = [
            (s, u)
            for s in (1.0, -1.0)
            for u in _maxima(inside if exact else np.concatenate([used, starts[:50]]), x,
                             s * weights * y, exact)
        ]  # fmt: skip
        value = np.array([s * (weights * y) @ np.maximum(x @ u, 0.0) ** 2 for s, u in found])
        height = max(float(value.max(initial=0.0)), float(np.max(weights @ features)))
        least, stalled = (height - margin, 0) if height - margin < least else (least, stalled + 1)
        if least <= _GAP * abs(height) or stalled > _STALLED:
            break  # no closer than the linear programs' accuracy
        new = np.argsort(-value)[:20]
        # Columns that are dropped come back: all are kept as long as they are few.
        keep = (share > 0) | (np.arange(len(share)) >= len(share) - _COLUMNS)
        direction = np.concatenate([direction[keep], [found[i][1] for i in new]])
        sign = np.concatenate([sign[keep], [found[i][0] for i in new]])
    kept = share > 0
    return MarginGame(
        margin=margin,
        share=share[kept],
        sign=sign[: len(share)][kept],
        direction=direction[: len(share)][kept],
        weights=weights,
        dual_value=height,
        exact=exact,
    )


def _game(features: ndarray) -> tuple[ndarray, ndarray, float]:
    """The mixtures of columns and of rows at the saddle of a matrix game, and the columns' value.

    SciPy's HiGHS solves the linear program; shares below its accuracy are zero.
    """
    from scipy.optimize import linprog

    n, k = features.shape
    size = float(np.abs(features).max()) or 1.0
    cost = np.zeros(k + 1)
    cost[-1] = -1.0
    solved = linprog(
        cost,
        A_ub=np.concatenate([-features / size, np.ones((n, 1))], axis=1),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(k), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0, None)] * k + [(None, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    share = np.maximum(solved.x[:k], 0.0)
    share /= share.sum()
    weights = np.maximum(-solved.ineqlin.marginals, 0.0)
    weights /= weights.sum()
    return share, weights, float(np.min(features @ share))


def _maxima(starts: ndarray, x: ndarray, z: ndarray, exact: bool) -> list[ndarray]:
    """Directions with a large value of sum_k z_k max(0, u.x_k)^2."""
    found = []
    if exact:
        active = starts @ x.T > 0
        forms = np.einsum("pk,kc,kd->pcd", active * z, x, x)
        _, vectors = np.linalg.eigh(forms)
        axes = vectors.transpose(0, 2, 1)
        both = np.concatenate([axes, -axes], axis=1)
        away = 1e-10 * np.linalg.norm(x, axis=1)
        z_of = both @ x.T
        inside = np.where(active[:, None], z_of >= -away, z_of <= away).all(axis=2)
        return list(both[inside])
    top = (np.linalg.norm(x, axis=1) ** 2) @ np.abs(z)
    for start in starts:
        u = start
        for _ in range(500):
            # A shifted power iteration: the value never falls.
            step = (z * np.maximum(x @ u, 0.0)) @ x + top * u
            step /= np.linalg.norm(step)
            if np.linalg.norm(step - u) < 1e-12:
                break
            u = step
        found.append(u)
    return found
