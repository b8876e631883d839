"""States of all neurons, and what is measured on them."""

from dataclasses import dataclass
from math import inf, log

from numpy import ndarray


@dataclass(frozen=True)
class KinkState:
    """All neurons at one time: |w_j| = exp(log_scale_j), unit directions, activation patterns.

    `w` is the part of w_j/|w_j| in the span of the examples, in the arrangement's basis;
    `log_across` the logarithm of the constant norm of the part of w_j across it. Balanced: the
    output weight is `sign * |w_j|`.
    """

    time: float
    side: ndarray
    w: ndarray
    sign: ndarray
    log_scale: ndarray

    @property
    def log_time(self) -> float:
        """The natural logarithm of the time."""
        return log(self.time) if self.time > 0.0 else -inf


@dataclass(frozen=True)
class Field:
    """The field at a state: what a field evaluation gives."""

    prediction: ndarray
    residual: ndarray
    force: ndarray


@dataclass(frozen=True)
class Tally:
    """What happened up to the states asked for last.

    `counts` are crossings, slides, branchings and intervals between events; `drift` is the largest
    relative change of |a|^2 - |w|^2.
    """

    counts: ndarray
    drift: float


@dataclass(frozen=True)
class Series:
    """How all neurons move in a window.

    `weight` and `output` are Taylor coefficients of each neuron's w and a, up to `order`;
    `residual` those of r, up to `degree`, along which neurons with events ride; `first` the time
    of each neuron's first event, `share` its factor in the output.
    """

    share: ndarray
    first: ndarray
    weight: ndarray
    output: ndarray
    order: int
    residual: ndarray
    degree: int


@dataclass(frozen=True)
class Plateau:
    """How the neurons marked `moving` move in a jump: under constant forces of the hyperplanes."""

    moving: ndarray
    on_force: ndarray
    off_force: ndarray
