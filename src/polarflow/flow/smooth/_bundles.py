r"""Units that share a pattern, held together: parts of them below rounding keep all their digits.

On given sides of the bends the units of a squared-ReLU network obey $\dot w_j = A w_j$ with one
symmetric matrix, $A = 2 s \sum_k r_k x_k x_k^T$ over the active examples, for all units of a sign s
and a pattern. For the matrix W of such units as columns, $\dot W = A W$, so that $W Q$ obeys the
same equation for every constant orthogonal Q, and $W W^T$, all that the network sees, is the same.
Units that have come to one direction are followed as the columns of $W Q$ which are orthogonal to
each other: the first holds the direction, the others, each with a logarithm of its norm, what is
left of the differences, however small. Such a part decides when a saddle is left at which the
units are at rest but the rank of W would grow.

A column that is far smaller than another would turn to the direction of that, and be lost in it.
It is taken orthogonal to it at all times,

$$\dot v_c = (I - v_c v_c^T) (A v_c - 2 (v_b^T A v_c) v_b):$$

the discrete and the continuous QR method for Lyapunov exponents (Dieci & Van Vleck, 1995). What is
left out of w_c turns Q by the ratio of the two, which is below the tolerance.

A bundle is *tight* while all columns are far smaller than the first: then its units cross bends
together, with the first column. They do so at times that differ by $z_j/|\dot z_j|$, where z_j
are the small columns' parts of their margins, and unit j gets $s r_k x_k z_j^2/|\dot z_j|$ more
than the first column's sides give it, quadratic in the small columns, but not small beside still
smaller ones. Else each crosses by itself, and the bundle is torn there. The units of each part are
mixed anew by an LQ decomposition.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks._blocks import Group
from ...networks._evaluate import jax64
from ._rest import Rest

#: The most blocks of a group that is followed in bundles.
_MOST = 100
#: The logarithm of a number that is zero.
_NONE = -1e300


def bundled(group: Group) -> bool:
    """Whether a group's blocks are followed in bundles: on a line nothing is left beside one."""
    return group.quadratic and bool(group.bends) and 1 < group.size and group.rows <= _MOST


@dataclass(frozen=True, eq=False)
class Bundles:
    """What the equations need to know of the bundles of a group of m blocks.

    **Attributes:**

    - `watch`: the numbers with sides of row j are the sum over c of `watch[j, c]` times those of
      column c, in units of the leader's norm, shape `(m, m)`.
    - `lead`: the row of each row's first column, shape `(m,)`.
    - `over`: the rows beside which each row is hidden, shape `(m, k)`, and `hidden`, zeros and
      ones, which of them count. There are at most p columns, so that k = p - 1 is enough.
    - `hold`: the rate at which hidden columns are held orthogonal.
    - `weight`: what an error of each row counts, shape `(m,)`.
    - `frail`: whether steps end where the row's numbers change their sides, shape `(m,)`.
    - `log_number`, `sign`: logarithms of what rests add to the rows' numbers, `(m, n)`, and signs.
    - `still`: the signs of numbers that rests alone tell, else 0, `(m, n)`.
    - `span`: projections to where rows move, beside which rounding would grow, `(m, p, p)`.
    """

    watch: Any
    lead: Any
    over: Any
    hidden: Any
    hold: Any
    weight: Any
    frail: Any
    log_number: Any
    sign: Any
    still: Any
    span: Any

    @classmethod
    def none(cls, group: Group, n: int) -> "Bundles":
        """Blocks that stand alone."""
        rows = np.arange(group.rows)
        under = np.zeros((group.rows, group.rows), bool)
        frail = np.zeros(group.rows, bool)
        rest, one = Rest.none(group.rows, n, group.size), np.ones(group.rows)
        span = np.tile(np.eye(group.size), (group.rows, 1, 1))
        return cls.of(np.eye(group.rows), rows, under, group, 0.0, one, frail, rest, span)

    @classmethod
    def of(
        cls,
        watch: ndarray,
        lead: ndarray,
        under: ndarray,
        group: Group,
        hold: float,
        weight: ndarray,
        frail: ndarray,
        rest: Rest,
        span: ndarray,
    ) -> "Bundles":
        """From what is hidden beside what, `under[c, b]`."""
        most = min(group.size, group.rows) - 1
        over = np.argsort(~under, axis=1, kind="stable")[:, :most]
        hidden = np.take_along_axis(under, over, axis=1).astype(float)
        log_number = np.maximum(rest.log_number, _NONE)
        return cls(
            watch, lead, over, hidden, hold, weight, frail, log_number, rest.sign, rest.still, span
        )

    @property
    def numbers(self) -> tuple[Any, ...]:
        return tuple(getattr(self, each.name) for each in fields(self))

    def moving(self, v: Any) -> Any:
        """What of vectors `(m, p)` moves."""
        jnp = jax64().numpy
        return jnp.einsum("mpq,mq->mp", jnp.asarray(self.span), v)

    def seen(self, z: Any, rho: Any) -> Any:
        """Of the blocks, the numbers that are z of the columns, or have their signs, `(m, n)`."""
        jnp = jax64().numpy
        top = rho[jnp.asarray(self.lead)][:, None]
        share = jnp.minimum(rho[None, :] - top, 100.0)
        moving = (jnp.asarray(self.watch) * jnp.exp(share)) @ z
        beside = jnp.exp(jnp.minimum(jnp.asarray(self.log_number) - top, 30.0))
        still = jnp.asarray(self.still)
        return jnp.where(still != 0.0, still, moving + jnp.asarray(self.sign) * beside)

    def held(self, v: Any, force: Any) -> Any:
        """Forces `(m, p)` on columns v that leave hidden ones orthogonal."""
        jnp = jax64().numpy
        above = v[jnp.asarray(self.over)]
        lean = jnp.sum((2.0 * force + self.hold * v)[:, None] * above, axis=2)
        return force - jnp.sum((jnp.asarray(self.hidden) * lean)[:, :, None] * above, axis=1)
