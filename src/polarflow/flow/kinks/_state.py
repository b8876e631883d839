"""States of all neurons, and the field on them."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

from .._problem import Problem
from ._field import normalise

if TYPE_CHECKING:
    from ._cohorts import Cohorts


@dataclass(frozen=True)
class Rows:
    """What the rows of a state keep, one number for each; a row is a neuron, or a particle.

    **Attributes:**

    - `zero`: neurons whose weights are zero.
    - `balanced`: neurons with |a| = |w|, which is restored.
    - `log_across`: the logarithm of the norm of w across the span of the examples.
    - `log_imbalance`, `imbalance_sign`: those of |a|^2 - |w|^2.
    - `carried`: particles of a cohort, which meet no hyperplanes (see `_cohorts.py`).
    """

    zero: ndarray
    balanced: ndarray
    log_across: ndarray
    log_imbalance: ndarray
    imbalance_sign: ndarray
    carried: ndarray

    def __getitem__(self, some: ndarray | slice) -> "Rows":
        return Rows(*(getattr(self, field.name)[some] for field in fields(self)))

    @property
    def constants(self) -> tuple[ndarray, ndarray, ndarray]:
        """`log_across`, `log_imbalance`, `imbalance_sign`."""
        return self.log_across, self.log_imbalance, self.imbalance_sign

    def normalise(self, w: ndarray, a: ndarray, log_scale: ndarray) -> tuple[ndarray, float]:
        """Scale weights to |a|^2 + |w|^2 = 2, in place; restores |a| = |w| where it must hold.

        **Returns** the new log scales, and the largest relative change of |a|^2 - |w|^2.
        """
        out = np.empty_like(log_scale)
        return out, normalise(w, a, log_scale, self.zero, self.balanced, *self.constants, out)


@dataclass(frozen=True)
class KinkState:
    """All neurons at one time: their scales, scaled weights and activation patterns.

    Neuron j is exp(log_scale_j) (a_j, w_j) with |a_j|^2 + |w_j|^2 = 2, so that |a_j| = |w_j| = 1
    if it is balanced; a zero neuron has a = 0, w = 0.

    **Attributes:**

    - `time`, `log_time`: the flow's time (inf where a float can't hold it) and its logarithm.
    - `side`: patterns, shape `(m, p)`.
    - `w`: the part of w_j in the span of the examples, in the arrangement's basis, `(m, q)`; the
      part across it is constant.
    - `a`: output weights, shape `(m, C)`.
    - `log_scale`: shape `(m,)`.
    - `rows`: what each row keeps.
    - `residual`: r/|r|, shape `(n, C)`, where it is known better than from the predictions.
    - `cohorts`: the neurons that particles stand for, which are rows in their place.
    """

    time: float
    log_time: float
    side: ndarray
    w: ndarray
    a: ndarray
    log_scale: ndarray
    rows: Rows
    residual: ndarray | None = None
    cohorts: "Cohorts | None" = None


@dataclass(frozen=True)
class Field:
    """The field at a state: what a field evaluation gives.

    **Attributes:**

    - `prediction`: shape `(n, C)`.
    - `unit`, `residual`: the residual is exp(unit) * residual, `(n, C)`.
    - `group`, `member`: the group of each neuron, and a neuron of each group (equal patterns).
    - `slides`, `inverse`: how many kinks every group slides on, and the pseudo-inverses of their
      normals (see `sliding_inverses`).
    - `force`: D of every group under the scaled residual, shape `(G, C, q)`.
    - `multiplier`: what holds every group on its sliding kinks, shape `(G, K, C)`.
    - `z`: w_j.e_h for all neurons and hyperplanes, shape `(m, p)`.
    """

    prediction: ndarray
    unit: float
    residual: ndarray
    group: ndarray
    member: ndarray
    slides: ndarray
    inverse: ndarray
    force: ndarray
    multiplier: ndarray
    z: ndarray


def targets(problem: Problem) -> ndarray:
    """Labels of shape (n, C); one-hot for the cross-entropy."""
    y = problem.data.y
    if problem.loss.kind == "cross_entropy" and y.ndim == 1:
        return np.eye(problem.two_layer.outputs)[y.astype(int)]
    return np.array(y, dtype=float).reshape(len(y), -1)


def log_total(log_scale: ndarray) -> float:
    """ln sum_j exp(2 log_scale_j)."""
    largest = float(log_scale.max())
    return 2.0 * largest + float(np.log(np.sum(np.exp(2.0 * (log_scale - largest)))))
