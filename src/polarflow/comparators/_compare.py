"""What a two-layer network is, next to the answers that it might have been."""

from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..losses import MarginLoss
from ..networks import BlockState, TwoLayer
from ._margin import hard_margin, ntk_margin
from ._ntk import ntk_interpolant
from ._variation import least_variation_norm, most_margin


def compare(problem: Problem, state: BlockState) -> list[dict[str, Any]]:
    r"""The norm or the margin of a two-layer network, next to those of the comparators.

    For labels that are fitted: the variation norm $\sum_j |a_j||w_j|$ against the least one among
    interpolants, and the NTK interpolant at the initial weights. For classification: the normalised
    margin $\min_k y_k h(x_k) / \|\theta\|^2$ against the largest one of any width, against the
    NTK's at initialisation in its own norm, and against the hard-margin SVM's.

    **Returns:** entries with `name`, `value` of the comparator, `dual_value` (a bound that
    certifies it if `exact`), `flow` (the network's), `ratio` flow/value, and `angle` in radians
    between the predictions at the examples; null where there is none. An interpolant fits all
    examples, so that its angle is that of the network and the labels. `lower_loss` is true where
    the comparator's loss is below the network's, which is then no global minimum.
    """
    network, data = problem.network, problem.data
    if not isinstance(network, TwoLayer) or data.y.ndim != 1:
        return []
    with np.errstate(under="ignore"):
        mass = np.exp(2.0 * state.log_norm)
        cost = float(
            mass @ (np.abs(state.direction[:, 0]) * np.linalg.norm(state.direction[:, 1:], axis=1))
        )
    h = network.predict(state, data.x)
    hints = state.direction[np.exp(2.0 * (state.log_norm - state.log_norm.max())) > 1e-6, 1:]
    if isinstance(problem.loss, MarginLoss):
        return _margins(problem, network, h, float(mass.sum()), hints)
    loss = float(problem.loss.value(h, data.y))
    entries = []
    try:
        least = least_variation_norm(data, network, hints=hints)
    except PolarflowError:
        pass  # nothing of this activation interpolates
    else:
        entries.append(
            {
                **_entry("least_variation_norm", least.value, cost, h, least(data.x)),
                "dual_value": least.dual_value,
                "exact": least.exact,
                "loss": float(problem.loss.value(least(data.x), data.y)),
            }
        )
    if np.isfinite(problem.initial.weights()).all():
        kernel = ntk_interpolant(problem)
        moved = float(np.linalg.norm(state.weights() - problem.initial.weights()))
        size = float(np.linalg.norm(kernel.displacement))
        entries.append(
            {
                **_entry("ntk_interpolant", size, moved, h, kernel(data.x)),
                "dual_value": size,
                "exact": True,
                "loss": float(problem.loss.value(kernel(data.x), data.y)),
            }
        )
    for entry in entries:
        entry["lower_loss"] = bool(entry["loss"] < loss - 1e-9 * max(loss, 1e-300) and loss > 1e-20)
    return entries


def _margins(
    problem: Problem, network: TwoLayer, h: ndarray, square: float, hints: ndarray
) -> list[dict[str, Any]]:
    x, y = problem.data.x, np.sign(problem.data.y)
    own = float(np.min(y * h)) / square if square > 0 else float("nan")
    entries: list[dict[str, Any]] = []

    def add(name: str, margin: float, bound: float, exact: bool, f: ndarray) -> None:
        entries.append({**_entry(name, margin, own, h, f), "dual_value": bound, "exact": exact})

    try:
        best = most_margin(problem.data, network, hints=hints)
        add("most_margin", 0.5 / best.value, 0.5 / best.dual_value, best.exact, best(x))
    except PolarflowError:
        pass
    try:
        kernel = ntk_margin(problem)
        bound = 1.0 / np.sqrt(2.0 * max(kernel.svm.dual_value, 1e-300))
        add("ntk_margin", kernel.margin, float(bound), True, kernel(x))
        entries[-1]["ratio"] = None  # margins in different norms
    except PolarflowError:
        pass
    try:
        linear = hard_margin(x, y)
        bound = 1.0 / np.sqrt(2.0 * max(linear.dual_value, 1e-300))
        add("hard_margin", linear.margin, float(bound), True, x @ linear.weight)
        entries[-1]["ratio"] = None
    except PolarflowError:
        pass
    return entries


def _entry(name: str, value: float, flow: float, h: ndarray, f: ndarray) -> dict[str, Any]:
    angle = None
    if np.linalg.norm(h) > 0 and np.linalg.norm(f) > 0:
        u, v = h / np.linalg.norm(h), f / np.linalg.norm(f)
        angle = 2.0 * float(np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))
    ratio = flow / value if value > 0 else None
    return {"name": name, "value": value, "flow": flow, "ratio": ratio, "angle": angle}
