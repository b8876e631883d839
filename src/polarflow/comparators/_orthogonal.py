r"""The least variation norm on orthogonal inputs, in closed form.

Let $P^2 = \sum_{y_k > 0} (y_k/|x_k|)^2$, $Q^2$ likewise over $y_k < 0$, $Q \le P$ without loss of
generality, and $\alpha$ the slope, or 0 if that is negative. The NCF of $\nu$ on the unit sphere
has the maximum $\sqrt{\sum_{\nu_k>0} (\nu_k|x_k|)^2 + \alpha^2 \sum_{\nu_k<0} (\nu_k|x_k|)^2}$, so
that the dual has two variables, the norms of the two parts of $(\nu_k |x_k|)$: the least norm is
$(P + Q)/\sqrt{1 + \alpha^2}$ if $Q \ge \alpha^2 P$, with a neuron for each sign, and
$\sqrt{P^2 + Q^2/\alpha^2}$ otherwise, with one neuron. For ReLU it is $P + Q$: with orthonormal
inputs $\|\theta\|^2 = 2n(|D_+| + |D_-|)$ (Boursier et al., 2022, theorem 1).
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ._minimum import VariationMinimum

#: Cosines of inputs that are orthogonal, for a number and for a network that fits.
_NEARLY = 1e-10
_EXACTLY = 1e-14


def orthogonal_variation_norm(
    x: Float[ndarray, "n d"], y: Float[ndarray, " n"], slope: float = 0.0
) -> float:
    r"""The least variation norm of networks through labels at pairwise orthogonal inputs.

    **Raises:** `PolarflowError` if two inputs are not orthogonal.
    """
    k, other, cosine = _least_orthogonal(x)
    if cosine > _NEARLY:
        raise PolarflowError(f"x: examples {k} and {other} are not orthogonal.")
    size = np.linalg.norm(x, axis=1)
    label = y / np.where(size > 0.0, size, 1.0)
    low, high = sorted((np.linalg.norm(label[label > 0]), np.linalg.norm(label[label < 0])))
    alpha = max(slope, 0.0)
    if low >= alpha**2 * high:
        return float((low + high) / np.sqrt(1.0 + alpha**2))
    return float(np.hypot(high, low / alpha))


def orthogonal_inputs(x: Float[ndarray, "n d"]) -> bool:
    """Whether inputs are pairwise orthogonal to rounding."""
    return _least_orthogonal(x)[2] <= _EXACTLY


def orthogonal_minimum(
    x: Float[ndarray, "n d"], y: Float[ndarray, " n"], slope: float
) -> VariationMinimum | None:
    """The interpolant of least variation norm; None unless inputs are orthogonal to rounding.

    None also where no network fits, as a label of a zero input is not zero.
    """
    size = np.linalg.norm(x, axis=1)
    if not orthogonal_inputs(x) or (y[size == 0.0] != 0.0).any():
        return None
    unit = x / np.where(size > 0.0, size, 1.0)[:, None]
    label = np.where(size > 0.0, y / np.where(size > 0.0, size, 1.0), 0.0)
    sign = 1.0 if np.linalg.norm(label[label > 0]) >= np.linalg.norm(label[label < 0]) else -1.0
    above, below = np.maximum(sign * label, 0.0), np.maximum(-sign * label, 0.0)
    p, q = float(np.linalg.norm(above)), float(np.linalg.norm(below))
    plus = above @ unit / (p or 1.0)
    minus = below @ unit / (q or 1.0)
    alpha = max(slope, 0.0)
    signs: tuple[float, ...]
    mass: tuple[float, ...]
    if p == 0.0:
        signs, mass, direction, forces = (), (), np.zeros((0, x.shape[1])), (0.0, 0.0)
    elif alpha < 1.0 and q >= alpha**2 * p:
        # Each neuron is turned away from the other's examples as far as its slope pays for.
        root = np.sqrt(1.0 + alpha**2)
        forces = (1.0 / root, 1.0 / root)
        signs = (sign, -sign)
        mass = tuple(root * (u - alpha**2 * v) / (1.0 - alpha**4) for u, v in ((p, q), (q, p)))
        direction = np.stack([plus - alpha * minus, minus - alpha * plus]) / root
    else:
        value = float(np.hypot(p, q / alpha))
        forces = (p / value, q / alpha**2 / value)
        signs, mass = (sign,), (value,)
        direction = (p * plus - q / alpha * minus)[None] / value
    dual = sign * (forces[0] * above / (p or 1.0) - forces[1] * below / (q or 1.0))
    dual = dual / np.where(size > 0.0, size, 1.0)
    kept = np.array(mass) > 0.0
    least = VariationMinimum(
        value=float(np.sum(mass)),
        sign=np.array(signs)[kept],
        mass=np.array(mass)[kept],
        direction=direction[kept],
        dual=dual,
        height=1.0,
        dual_value=float(dual @ y),
        exact=True,
        violation=0.0,
        slope=slope,
    )
    return replace(least, violation=float(np.max(np.abs(least(x) - y), initial=0.0)))


def _least_orthogonal(x: ndarray) -> tuple[int, int, float]:
    """The two inputs of largest cosine, and that cosine's size."""
    size = np.linalg.norm(x, axis=1)
    unit = x / np.where(size > 0.0, size, 1.0)[:, None]
    cosine = np.abs(unit @ unit.T)
    np.fill_diagonal(cosine, 0.0)
    k, other = np.unravel_index(int(np.argmax(cosine)), cosine.shape)
    return int(k), int(other), float(cosine[k, other])
