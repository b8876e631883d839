"""Where the NCF of a single neuron bends: distinct hyperplanes, and what each contributes.

Both neurons that can be enumerated have an NCF made of one-dimensional pieces,

    G(w) = smooth(w) + sum_g (plus_g [t_g > 0] + minus_g [t_g < 0]) t_g^power,   t_g = w.e_g,

with power 1 for a (leaky) ReLU, where smooth is b.w, and power 2 for a squared ReLU, where it is
w^T M w. Parallel examples share a hyperplane; one whose two sides agree is no bend at all, such
as that of x and -x with opposite labels (Kumar & Haupt 2024, G.2).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from ._arrangement import Hyperplanes, distinct_hyperplanes

#: Two sides that differ by less, relative to their terms, agree.
AGREE = 1e-12


@dataclass(frozen=True, eq=False)
class Bends:
    """The bends of G in d dimensions.

    **Attributes:**

    - `normal`: unit normals e_g, shape `(h, d)`.
    - `plus`, `minus`: the coefficients on either side, shape `(h,)`.
    - `members`: for each hyperplane its examples.
    - `towards`: for each example its sign relative to its hyperplane's normal.
    - `smooth`: the vector b, or the matrix M.
    - `size`: of the data, sum_k |z_k| |x_k|^power, for tolerances.
    """

    normal: Float[ndarray, "h d"]
    plus: Float[ndarray, " h"]
    minus: Float[ndarray, " h"]
    members: tuple[tuple[int, ...], ...]
    towards: Float[ndarray, " n"]
    smooth: ndarray
    size: float


def hyperplanes(x: Float[ndarray, "n d"], some: Bool[ndarray, " n"]) -> Hyperplanes:
    """The distinct hyperplanes of some examples, none of them zero."""
    part = x[some]
    return distinct_hyperplanes(part / np.linalg.norm(part, axis=1, keepdims=True))


def bends(
    x: Float[ndarray, "n d"],
    z: Float[ndarray, " n"],
    power: int,
    slope: float,
    planes: Hyperplanes | None = None,
) -> Bends:
    """The bends of sum_k z_k s(w.x_k)^power, s(t) = max(t, slope t).

    `planes` are those of all examples that are not zero, where they are known already.
    """
    n = len(x)
    length = np.linalg.norm(x, axis=1)
    some = (length > 0) & (z != 0)
    live = np.flatnonzero(some)
    if planes is None or len(planes[1]) != len(live):
        planes = hyperplanes(x, some)
    normal, which, sign = planes
    term = z[live] * length[live] ** power
    slopes = (1.0, slope**power)
    # An example along its normal has slope 1 where t > 0; one against it where t < 0.
    turn = sign**power
    on = np.where(sign > 0, slopes[0], slopes[1]) * turn * term
    off = np.where(sign > 0, slopes[1], slopes[0]) * turn * term
    count = len(normal)
    plus = np.bincount(which, on, count)
    minus = np.bincount(which, off, count)
    terms = np.bincount(which, np.abs(term), count)
    bent = np.abs(plus - minus) > AGREE * terms
    flat = normal[~bent]
    mean = 0.5 * (plus + minus)[~bent]
    smooth = mean @ flat if power == 1 else (mean[:, None] * flat).T @ flat
    towards = np.ones(n)
    towards[live] = sign
    order = np.argsort(which, kind="stable")
    groups = np.split(live[order], np.cumsum(np.bincount(which, minlength=count))[:-1])
    members = tuple(tuple(groups[g].tolist()) for g in np.flatnonzero(bent))
    return Bends(
        normal[bent], plus[bent], minus[bent], members, towards, smooth, float(np.abs(term).sum())
    )
