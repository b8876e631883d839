r"""Least variation norm: the convex program of a two-layer network of any width.

A network $h(x) = \sum_j a_j s(w_j \cdot x)$ costs $\sum_j |a_j||w_j|$, half of the least
$\|\theta\|^2$ that has these outputs; over all widths the least cost is the variation norm (F1
norm) of the function. Neurons with one activation pattern and one sign act as one vector v in the
cone of that pattern, so that fitting labels at the least cost is a second-order cone program over
the patterns (Pilanci & Ergen, 2020). Its dual is

$\max_\nu \nu \cdot y$ subject to $|\sum_k \nu_k s(u \cdot x_k)| \le 1$ for all unit u,

a bound on the NCF of $\nu$. Patterns enter as columns where that bound is violated; the largest
value of the NCF over *all* patterns makes the dual value a certificate.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data import Data
from ..networks import TwoLayer
from ._minimum import VariationMinimum
from ._orthogonal import orthogonal_minimum
from ._program import PATIENCE, Program


def least_variation_norm(
    data: Data,
    network: TwoLayer,
    *,
    hints: Float[ndarray, "h d"] | None = None,
    samples: int = 200,
    seed: int = 0,
    seconds: float = PATIENCE,
) -> VariationMinimum:
    r"""The interpolant of least variation norm, $h(x_k) = y_k$ for all k.

    On orthogonal inputs it has a closed form. All patterns are searched where there are few (a few
    thousand: small n or d); otherwise local maxima of the NCF are climbed from sampled directions,
    and `exact` is False.

    **Arguments:**

    - `data`: inputs and labels.
    - `network`: its activation counts; its width does not.
    - `hints`: hidden weights whose patterns are tried first, such as those of a flow.
    - `samples`, `seed`: of random directions, where patterns are sampled.
    - `seconds`: after so long the best solution so far is returned; its `gap` says how far from
      the optimum it may be.

    **Raises:** `PolarflowError` if no network interpolates the labels.
    """
    least = orthogonal_minimum(data.x, data.y, network.slope) if data.y.ndim == 1 else None
    return (
        least
        or Program(data.x, data.y, network.slope, False, hints, samples, seed, seconds).solve()
    )


def most_margin(
    data: Data,
    network: TwoLayer,
    *,
    hints: Float[ndarray, "h d"] | None = None,
    samples: int = 200,
    seed: int = 0,
    seconds: float = PATIENCE,
) -> VariationMinimum:
    r"""The network of least variation norm with margins $y_k h(x_k) \ge 1$.

    Scaled to variation norm 1 it has the largest margin, 1/value, over the ball of the F1 norm. The
    largest normalised margin $\min_k y_k h(x_k) / \|\theta\|^2$ is half of that (Chizat & Bach,
    2020). Arguments as for `least_variation_norm`.

    **Raises:** `PolarflowError` if no network has all margins positive.
    """
    if data.y.ndim == 1 and data.y.all():
        # On orthogonal inputs the norm grows with every label: all margins are 1.
        least = orthogonal_minimum(data.x, 1.0 / data.y, network.slope)
        if least is not None:
            missed = float(np.max(1.0 - data.y * least(data.x), initial=0.0))
            return replace(least, violation=missed)
    return Program(data.x, data.y, network.slope, True, hints, samples, seed, seconds).solve()
