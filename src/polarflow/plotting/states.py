"""The state of a network at any time of a stored trajectory, and what pictures show of it.

A trajectory Dataset holds the polar state of m two-layer neurons (a_j, w_j) at T times: the
natural logarithm of each norm and the unit direction. Between two of these times a log-norm is
linear in time (exactly so on a plateau, where a neuron grows at a constant rate) and a direction
turns along the chord. Weights are never formed where only ratios are needed, so that a neuron of
norm 1e-1000 has a kink, an angle and a projection like any other.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import PolarflowError
from ..networks import BlockState

if TYPE_CHECKING:
    from xarray import Dataset

PROMINENT = 1e-2
"""A neuron is prominent when its final norm is at least this fraction of the largest one."""


@dataclass(frozen=True)
class Plane:
    """A plane in the space of hidden weights, and the share of their square norm that it holds.

    **Arguments:**

    - `basis`: orthonormal columns, shape `(d, 2)` (the second is zero when d = 1).
    - `share`: fraction of sum_j |w_j|^2 at the final time inside the plane, in [0, 1].
    - `labels`: names of the two axes.
    """

    basis: Float[ndarray, "d 2"]
    share: float
    labels: tuple[str, str]


def values(dataset: "Dataset", name: str) -> Any:
    """The NumPy array of a variable or coordinate of the Dataset.

    A neuron with C > 1 outputs is seen as (s|a|, w): s is the sign of its largest output weight at
    the start, so that directions have one output weight in any run.
    """
    if name not in dataset:
        raise PolarflowError(
            f"The trajectory Dataset has no variable {name!r}; "
            f"it has {', '.join(sorted(map(str, dataset.variables)))}."
        )
    array = dataset[name].values
    outputs = int(dataset.attrs.get("outputs", 1))
    if name == "direction" and outputs > 1 and dataset.attrs.get("neurons", 1):
        size = np.linalg.norm(array[..., :outputs], axis=-1)
        signed = dataset["sign"].values * size
        array = np.concatenate([signed[..., None], array[..., outputs:]], axis=-1)
    return array


def spec_of(dataset: "Dataset") -> dict[str, Any]:
    """The resolved spec stored with the trajectory; empty when it came from the Python API."""
    spec = json.loads(str(dataset.attrs.get("spec", "{}")) or "{}")
    return spec if isinstance(spec, dict) else {}


def has_bias(dataset: "Dataset") -> bool:
    """Whether the last input of each example is the constant 1."""
    return bool(int(dataset.attrs.get("bias", 0)))


def has_neurons(dataset: "Dataset") -> bool:
    """Whether blocks are neurons (a, w) of a two-layer network with kinks w.x = 0."""
    return bool(int(dataset.attrs.get("neurons", 1)))


def on_a_line(dataset: "Dataset") -> bool:
    """Whether the network is a function on the real line (one input and a bias, one output)."""
    one = int(dataset.attrs.get("outputs", 1)) == 1
    return has_neurons(dataset) and one and has_bias(dataset) and dataset.sizes["input"] == 2


def activation_slope(dataset: "Dataset") -> float:
    """The activation's slope for negative arguments: 0 for ReLU."""
    stored = dataset.attrs.get("activation_slope")
    if stored is None:
        stored = spec_of(dataset).get("network", {}).get("slope")
    return float(stored or 0.0)


def _bracket(dataset: "Dataset", time: float | None, log_time: float | None) -> tuple[int, float]:
    """The index i and the fraction f in [0, 1] with t = (1-f) t_i + f t_{i+1}."""
    log_times = values(dataset, "log_time")
    if log_time is None:
        if time is None:
            return len(log_times) - 1, 0.0
        if not time >= 0:
            raise PolarflowError(f"time is {time}; a flow time is at least 0.")
        log_time = float(np.log(time)) if time > 0 else -np.inf
    after = int(np.searchsorted(log_times, log_time, side="right"))
    if after == 0:
        return 0, 0.0
    if after == len(log_times):
        return after - 1, 0.0
    # Ratios to the later time, which stay finite where the times themselves would overflow.
    here, start = np.exp(np.array([log_time, log_times[after - 1]]) - log_times[after])
    return after - 1, float((here - start) / (1.0 - start))


def state_at(
    dataset: "Dataset", time: float | None = None, *, log_time: float | None = None
) -> BlockState:
    """The polar state of all blocks at one time, interpolated between recorded times.

    **Arguments:**

    - `dataset`: a trajectory.
    - `time`: flow time; outside the recorded range the nearest end is taken. None is the end.
    - `log_time`: its natural logarithm instead, for times that a float cannot hold.

    **Returns:** a `BlockState` with log_norm `(m,)` and direction `(m, 1+d)`.

    **Raises:** `PolarflowError` for a negative time.
    """
    i, f = _bracket(dataset, time, log_time)
    log_norm, direction = values(dataset, "log_norm"), values(dataset, "direction")
    if f == 0.0:
        return BlockState(log_norm[i], direction[i])
    with np.errstate(invalid="ignore"):
        mixed_norm = (1 - f) * log_norm[i] + f * log_norm[i + 1]
    nearest = i if f < 0.5 else i + 1
    mixed = (1 - f) * direction[i] + f * direction[i + 1]
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    turned = np.where(length > 1e-12, mixed / np.maximum(length, 1e-12), direction[nearest])
    return BlockState(np.where(np.isnan(mixed_norm), -np.inf, mixed_norm), turned)


def loss_at(
    dataset: "Dataset", time: float | None = None, *, log_time: float | None = None
) -> float:
    """The loss at one time, linear between recorded times; arguments as in `state_at`."""
    i, f = _bracket(dataset, time, log_time)
    loss = values(dataset, "loss")
    return float(loss[i] if f == 0.0 else (1 - f) * loss[i] + f * loss[i + 1])


def kinks_and_heights(state: BlockState) -> tuple[Float[ndarray, " m"], Float[ndarray, " m"]]:
    """Each neuron as a point of the plane of the learned function, as in Boursier et al., fig. 2.

    With w = (w0, w1), w1 the bias, the kink is at x = -w1/w0 and the height is s|w| with s the
    sign of a.

    **Returns:** kinks and heights, shape `(m,)` each; a kink at infinity is +-inf.
    """
    a, w = state.direction[:, 0], state.direction[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore", under="ignore"):
        kinks = -w[:, 1] / w[:, 0]
        heights = np.sign(a) * np.exp(state.log_norm) * np.linalg.norm(w, axis=1)
    return kinks, heights


def function_on_line(
    state: BlockState, x: Float[ndarray, " q"], slope: float = 0.0
) -> Float[ndarray, " q"]:
    """The learned function of one input with a bias, h(x) = sum_j a_j s(w0_j x + w1_j).

    With s(z) = slope*z + (1-slope)*max(z, 0) the function is piecewise linear; running sums over
    the sorted kinks give it at all q points in O((m+q) log m).

    **Arguments:**

    - `state`: neurons (a, w0, w1) in polar form.
    - `x`: points of the real line, shape `(q,)`.
    - `slope`: the activation's slope for negative arguments.

    **Returns:** h at these points, shape `(q,)`.
    """
    with np.errstate(under="ignore", divide="ignore", invalid="ignore"):
        gain = np.exp(2 * state.log_norm) * state.direction[:, 0]
        w0, w1 = state.direction[:, 1], state.direction[:, 2]
        kinks = np.where(w0 != 0.0, -w1 / w0, -np.sign(w1) * np.inf)
    lines = gain[:, None] * state.direction[:, 1:]
    rising = w0 >= 0.0
    total = np.zeros((len(x), 2))
    for side in (True, False):
        mine = rising == side
        order = np.argsort(kinks[mine])
        sums = np.vstack([np.zeros(2), np.cumsum(lines[mine][order], axis=0)])
        below = np.searchsorted(kinks[mine][order], x)
        total += sums[below] if side else sums[-1] - sums[below]
    total = (1 - slope) * total + slope * lines.sum(axis=0)
    return total[:, 0] * x + total[:, 1]


def hidden_angles(direction: Float[ndarray, "*batch 3"]) -> Float[ndarray, "*batch"]:
    """Angles of two-dimensional hidden weights w = (w0, w1), in radians in (-pi, pi]."""
    return np.arctan2(direction[..., 2], direction[..., 1])


def plane(dataset: "Dataset") -> Plane:
    """The plane onto which hidden weights are projected, fixed by the final state.

    For two inputs it is the plane of the weights itself; otherwise it is spanned by the two
    leading right singular vectors of the m x d matrix of final hidden weights, not centred
    (Boursier et al. 2022, fig. 6). Of +-v the one whose largest component is positive is taken.
    """
    state = state_at(dataset)
    d = state.direction.shape[1] - 1
    if d <= 2:
        basis = np.eye(d, 2)
        return Plane(basis, 1.0, ("$w_0$", "$w_1$"))
    top = state.log_norm.max()
    scale = np.exp(state.log_norm - top) if np.isfinite(top) else np.ones(len(state.log_norm))
    w = scale[:, None] * state.direction[:, 1:]
    spread, vectors = np.linalg.eigh(w.T @ w)
    basis = vectors[:, [-1, -2]]
    largest = np.abs(basis).argmax(axis=0)
    basis = basis * np.where(basis[largest, [0, 1]] < 0, -1.0, 1.0)
    total = float(spread.clip(0).sum())
    share = float(spread[-2:].clip(0).sum()) / total if total > 0 else 0.0
    return Plane(basis, share, ("first principal component", "second principal component"))


def polar_positions(state: BlockState, onto: Plane, core: float) -> Float[ndarray, "m 2"]:
    """Projected hidden weights in the polar layout of Boursier et al. 2022, fig. 6.

    The angle is that of the projection P w; the radius is `core` + |P w|, so that neurons of
    vanishing norm lie on the circle of radius `core` and still show their direction.
    """
    projected = state.direction[:, 1:] @ onto.basis
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    unit = projected / np.maximum(length, 1e-300)
    with np.errstate(under="ignore"):
        radius = core + np.exp(state.log_norm)[:, None] * length
    return np.where(length > 0, radius * unit, 0.0)


def prominent(dataset: "Dataset") -> ndarray:
    """Which neurons have a final norm of at least `PROMINENT` times the largest; shape `(m,)`."""
    final = values(dataset, "log_norm")[-1]
    top = final.max()
    if not np.isfinite(top):
        return np.ones(len(final), dtype=bool)
    return np.asarray(final >= top + np.log(PROMINENT))


def chosen_blocks(dataset: "Dataset", most: int) -> Int[ndarray, " k"]:
    """At most `most` neurons to draw, in order: half of them the largest at the end, the others
    spread evenly over the rest."""
    final = values(dataset, "log_norm")[-1]
    if len(final) <= most:
        return np.arange(len(final))
    by_size = np.argsort(-final, kind="stable")
    largest, rest = by_size[: most // 2], np.sort(by_size[most // 2 :])
    spread = rest[np.linspace(0, len(rest) - 1, most - len(largest)).round().astype(int)]
    return np.sort(np.concatenate([largest, spread]))


def chosen_times(dataset: "Dataset", most: int) -> Int[ndarray, " k"]:
    """Indices of at most `most` recorded times, the first and the last among them."""
    count = dataset.sizes["time"]
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
