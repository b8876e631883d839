r"""The homogeneous Mexican hat, and the closed form of a flow on it.

The construction is that of Absil, Mahony & Andrews (2005, section 2.1), carried over to the sphere,
where directions move, and changed so that the spiral attracts. With polar angles
$(\varphi, \theta)$ of $w \in \mathbb{R}^3$, $r = \sin\varphi / \sigma$, $u = 1/(1 - r^2)$ and
$\delta = \theta - u$ let

$$\Phi(w) = |w|^2 (1 - f), \quad
  f = e^{-cu} (1 + 2\kappa^2 (1 - \cos\delta) - \kappa \sin\delta), \quad
  \kappa = \frac{c q}{1 + q}, \quad q = \sin^2\varphi\, u_\varphi^2
    = \frac{4 r^4 \cos^2\varphi}{(1 - r^2)^4}$$

for r < 1, and f = 0 beyond the rim r = 1. All derivatives are continuous but at the pole, where
four are. Along a flow that climbs $\Phi$ in the time s, $d\ln|w|/ds = 2(1 - f)$ and the direction
descends f on the sphere. Where $\delta = 0$, $f_\theta = -\kappa e^{-cu}$ and
$f_\varphi = -(c - \kappa) u_\varphi e^{-cu}$ with $c - \kappa = \kappa/q$, hence
$\dot\theta = \kappa e^{-cu} / \sin^2\varphi = u_\varphi \dot\varphi$: the curve $\theta = u$ is a
trajectory. Beside it $d\delta/du = -\kappa (1 + q) \delta$ to first order, so that others come to
it. It winds around the rim for ever, $u \sim \ln(s)/c$.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from ...networks import Group, Network

SIGMA, PITCH = 0.05, 0.05
"""The sine of the rim's polar angle, and c."""


def hat(w: Any, _: Any, x: Any) -> Any:
    """Phi(w) x for inputs x of one number, shape `(n, 1)`."""
    import jax.numpy as jnp

    square = jnp.sum(w * w)
    across = w[0] * w[0] + w[1] * w[1]
    s = across / square
    inside = s < SIGMA**2
    r2 = jnp.where(inside, s / SIGMA**2, 0.25)
    u = 1.0 / (1.0 - r2)
    # What the pole would divide by: there kappa vanishes like r^4, and f is exp(-c).
    width = jnp.sqrt(jnp.where(across > 0.0, across, 1.0))
    cosine = (w[0] * jnp.cos(u) + w[1] * jnp.sin(u)) / width
    sine = (w[1] * jnp.cos(u) - w[0] * jnp.sin(u)) / width
    q = 4.0 * r2**2 * (1.0 - SIGMA**2 * r2) * u**4
    kappa = PITCH * q / (1.0 + q)
    f = jnp.exp(-PITCH * u) * (1.0 + 2.0 * kappa**2 * (1.0 - cosine) - kappa * sine)
    return square * (1.0 - jnp.where(inside, f, 0.0)) * x


@dataclass(frozen=True)
class MexicanHat(Network):
    """The network Phi(w) x: one block of three weights, of order 2."""

    kind: ClassVar[str] = "mexican_hat"

    @property
    def outputs(self) -> int:
        return 1

    def groups(self, dimension: int) -> tuple[Group, ...]:
        return (Group(1, 3, 2.0, hat),)


def winding(direction: ndarray) -> tuple[ndarray, ndarray]:
    """The swept angle theta, continuous along a path `(T, 3)`, and u; u is inf beyond the rim."""
    theta = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
    r2 = (direction[:, 0] ** 2 + direction[:, 1] ** 2) / SIGMA**2
    return theta, 1.0 / np.maximum(1.0 - r2, 0.0)


def on_spiral(u: float) -> ndarray:
    """The unit vector of the spiral at u."""
    sine = SIGMA * np.sqrt(1.0 - 1.0 / u)
    return np.array([sine * np.cos(u), sine * np.sin(u), np.sqrt(1.0 - sine**2)])


def growth(u: ndarray) -> ndarray:
    r"""ln|w| along the spiral, from its value at u[0].

    $d\ln|w|/du = 2 (1 - e^{-cu}) \sin^2\varphi\, e^{cu} / \kappa$, by Gauss-Legendre quadrature.
    """
    node, weight = np.polynomial.legendre.leggauss(20)
    pieces = np.maximum(1, np.ceil(np.diff(u) / 0.5)).astype(int)
    found = [0.0]
    for low, high, count in zip(u[:-1], u[1:], pieces, strict=True):
        edges = np.linspace(low, high, count + 1)
        half = 0.5 * np.diff(edges)[:, None]
        at = edges[:-1, None] + half + half * node
        r2 = 1.0 - 1.0 / at
        q = 4.0 * r2**2 * (1.0 - SIGMA**2 * r2) * at**4
        kappa = PITCH * q / (1.0 + q)
        slope = 2.0 * np.expm1(PITCH * at) * SIGMA**2 * r2 / kappa
        found.append(found[-1] + float(np.sum(half * weight * slope)))
    return np.array(found)
