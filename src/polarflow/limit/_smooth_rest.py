r"""Rest points of networks of smooth blocks, to rounding.

At a rest point the gradient of the loss in the active weights vanishes. Its Hessian there is
$J^T \ell'' J - \oplus_j \nabla^2 N_r(w_j)$, J the Jacobian of the predictions: blocks meet only
through them. Rescaling and rotating weights inside a block changes no prediction, so that the
Hessian is singular in general, and Newton's steps of least norm are taken.

Rounding of such a step is one of the largest weights, and would turn a small block to anywhere.
Blocks of one direction, $w_j = c_j v$, are one block of the norm $(\sum_j c_j^L)^{1/L}$ to the
network, and small blocks are unfelt by it: at rest under the residual that the others leave,
$\nabla N_r(w) = A w = 0$ for L = 2, so that what is left of them is their part in A's kernel.
"""

from dataclasses import replace

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..flow._logs import log_sum
from ..losses import Loss
from ..networks import BlockState, TwoLayer
from ._remnants import lengths
from ._rest import RestPoint
from ._rest import refine as refine_two_layer
from ._separable import Blocks

_STEPS = 60
#: Eigenvalues below this share of the largest are zero.
RANK = 1e-9
#: The gradient at rest, relative to the sum of its parts' sizes.
_REST = 1e-14
#: It need not be smaller than that, if it gets no smaller.
_ENOUGH = 1e-9
#: Directions this close are one.
_ONE = 1e-12
#: Blocks below this share of the largest are unfelt by it.
_UNFELT = 1e-6
#: Less of a small block than this is not left where it rests.
_LEFT = 0.5
#: Eigenvalues of a Hessian taken beside the rest point below this share of the largest are zero.
_BLURRED = 1e-7


def refine(
    problem: Problem, state: BlockState, active: ndarray, *, on_kink: float = 1e-8
) -> RestPoint:
    """The rest point near a state, with the activation patterns that its active neurons have.

    **Arguments:**

    - `problem`: data, network and loss; its initial state does not matter.
    - `state`: blocks near rest.
    - `active`: a mask of the blocks that are not to be zero, shape `(m,)`; small ones that decay
      at the rest point of the others are so all the same.
    - `on_kink`: a (leaky) ReLU neuron with |w.x_k| at most this times |w||x_k| is put on the kink
      of example k.

    **Raises:** `PolarflowError` if the network is not supported, or Newton's method does not
    converge.
    """
    if isinstance(problem.network, TwoLayer):
        return refine_two_layer(problem, state, active, on_kink=on_kink)
    blocks = Blocks(problem)
    log_norm, unit = blocks.split(state)
    chosen = active[blocks.row] & np.isfinite(log_norm)
    return refine_blocks(blocks, np.where(chosen, log_norm, -np.inf), unit, chosen)[0]


def refine_blocks(
    blocks: Blocks, log_norm: ndarray, unit: ndarray, active: ndarray
) -> tuple[RestPoint, ndarray, ndarray]:
    """The rest point near a state, and its blocks: ln norms and directions.

    **Raises:** `PolarflowError` if Newton's method does not converge.
    """
    loss, y = blocks.problem.loss, blocks.problem.data.y
    log_norm = np.where(active, log_norm, -np.inf)
    one, log_share = directions(blocks, log_norm, unit)
    alone = np.where(one == np.arange(len(one)), log_norm - log_share, -np.inf)
    small = np.isfinite(alone) & unfelt(blocks, alone)
    norm, unit = _newton(blocks, np.where(small, -np.inf, alone), unit)
    norm, unit = _small_at_rest(blocks, np.where(small, alone, norm), unit, small)
    log_norm, unit = norm[one] + log_share, unit[one]
    gradient, hessian, _ = _derivatives(
        blocks, _weights(log_norm, unit, active), np.flatnonzero(active)
    )
    h = blocks.predict(log_norm, unit)
    spectrum = np.linalg.eigvalsh(hessian) if len(hessian) else np.zeros(0)
    top = np.abs(spectrum).max(initial=0.0)
    state = blocks.join(log_norm, unit)
    rest = RestPoint(
        state=state,
        active=np.isfinite(state.log_norm),
        loss=float(loss.value(h, y)),
        grad_norm=float(np.linalg.norm(gradient)),
        prediction=h,
        residual=loss.residual(h, y),
        spectrum=spectrum,
        kernel=int(np.sum(np.abs(spectrum) <= RANK * top)),
    )
    return rest, log_norm, unit


def directions(blocks: Blocks, log_norm: ndarray, unit: ndarray) -> tuple[ndarray, ndarray]:
    """The largest block of each one's direction, and ln of |w_j| over the norm of all of those.

    **Arguments:** ln norms and directions of all blocks.
    """
    one, log_share, kinds = np.arange(blocks.count), np.zeros(blocks.count), blocks.kinds()
    living = np.flatnonzero(np.isfinite(log_norm))
    while len(living):
        first = living[np.argmax(log_norm[living])]
        near = np.abs(unit[living] - unit[first]).max(axis=1) <= _ONE
        same = living[near & (kinds[living] == kinds[first])]
        order = blocks.order[first]
        one[same] = first
        log_share[same] = log_norm[same] - log_sum(order * log_norm[same]) / order
        living = np.setdiff1d(living, same)
    return one, log_share


def unfelt(blocks: Blocks, log_norm: ndarray) -> ndarray:
    """Blocks of order 2 that are so small that the others rest without them."""
    small = log_norm < log_norm.max(initial=-np.inf) + np.log(_UNFELT)
    return np.asarray(small & (blocks.level == 0.0))


def _newton(blocks: Blocks, log_norm: ndarray, unit: ndarray) -> tuple[ndarray, ndarray]:
    """The rest point of the blocks that are not zero, by Newton's method."""
    active = np.isfinite(log_norm)
    chosen, sizes = np.flatnonzero(active), blocks.sizes(active)
    weights = _weights(log_norm, unit, active)
    best, least, scale = weights, np.inf, 1.0
    for _ in range(_STEPS):
        gradient, hessian, scale = _derivatives(blocks, weights, chosen)
        size = float(np.linalg.norm(gradient))
        if not np.isfinite(size):
            break
        if size < least:
            best, improved, least = weights, size < 0.5 * least, size
        else:
            improved = False
        if size <= _REST * scale or (not improved and least <= _ENOUGH * scale):
            break
        step = _least_norm(hessian, gradient)
        weights = weights.copy()
        for j, part in zip(chosen, np.split(step, np.cumsum(sizes)[:-1]), strict=True):
            weights[j, : len(part)] -= part
    if not least <= _ENOUGH * scale:
        raise PolarflowError("The rest point could not be refined: Newton's method did not end.")
    norm = lengths(best)
    with np.errstate(divide="ignore"):
        log_norm = np.where(active, np.log(norm), -np.inf)
    unit = np.where((norm > 0.0)[:, None], best / np.where(norm, norm, 1.0)[:, None], unit)
    return log_norm, unit


def _small_at_rest(
    blocks: Blocks, log_norm: ndarray, unit: ndarray, small: ndarray
) -> tuple[ndarray, ndarray]:
    """Small blocks of order 2 where they rest under the residual that the others leave.

    Those that decay there are zero at rest.
    """
    log_norm, unit = log_norm.copy(), unit.copy()
    large = np.isfinite(log_norm) & ~small
    loss, y = blocks.problem.loss, blocks.problem.data.y
    residual = loss.residual(blocks.predict(np.where(large, log_norm, -np.inf), unit), y)
    _, hessian, _ = _derivatives(blocks, _weights(log_norm, unit, large), np.flatnonzero(large))
    still = RANK * float(np.linalg.norm(hessian, 2)) if len(hessian) else 0.0
    for j in np.flatnonzero(small):
        values, vectors = np.linalg.eigh(blocks.hessian(int(j), unit[j], residual))
        kernel = vectors[:, np.abs(values) <= still]
        left = kernel @ (kernel.T @ unit[j])
        size = float(np.linalg.norm(left))
        if size > _LEFT:
            log_norm[j], unit[j] = log_norm[j] + np.log(size), left / size
        elif float((vectors.T @ unit[j]) ** 2 @ values) < -still:
            log_norm[j] = -np.inf
    return log_norm, unit


def with_hessian(rest: RestPoint, hessian: ndarray) -> RestPoint:
    """A rest point with another Hessian: that of other sides of the bends it lies on."""
    spectrum = np.linalg.eigvalsh(hessian) if len(hessian) else np.zeros(0)
    top = np.abs(spectrum).max(initial=0.0)
    spectrum = np.where(np.abs(spectrum) <= _BLURRED * top, 0.0, spectrum)
    return replace(rest, spectrum=spectrum, kernel=int(np.sum(spectrum == 0.0)))


def active_hessian(blocks: Blocks, log_norm: ndarray, unit: ndarray, active: ndarray) -> ndarray:
    """The Hessian of the loss in the active weights."""
    return _derivatives(blocks, _weights(log_norm, unit, active), np.flatnonzero(active))[1]


def _weights(log_norm: ndarray, unit: ndarray, active: ndarray) -> ndarray:
    weights = np.zeros_like(unit)
    weights[active] = np.exp(log_norm[active])[:, None] * unit[active]
    return weights


def _derivatives(
    blocks: Blocks, weights: ndarray, chosen: ndarray
) -> tuple[ndarray, ndarray, float]:
    """Gradient and Hessian of the loss in chosen blocks, and the sizes of the gradient's parts."""
    problem = blocks.problem
    norm = np.linalg.norm(weights, axis=1)
    with np.errstate(divide="ignore"):
        log_norm = np.log(norm)
    unit = np.where((norm > 0.0)[:, None], weights / np.where(norm, norm, 1.0)[:, None], 0.0)
    unit[norm == 0.0, 0] = 1.0
    h = blocks.predict(log_norm, unit)
    r = problem.loss.residual(h, problem.data.y)
    jacobian, forces, second = blocks.second_order(weights, chosen, r)
    if not len(chosen):
        return np.zeros(0), np.zeros((0, 0)), 1.0
    j = np.concatenate(jacobian, axis=1)
    hessian = j.T @ loss_hessian(problem.loss, h, problem.data.y) @ j
    at = 0
    for block in second:
        hessian[at : at + len(block), at : at + len(block)] -= block
        at += len(block)
    reach = np.abs(problem.data.y).max(initial=0.0) + np.abs(h).max(initial=0.0)
    scale = float(np.linalg.norm(j)) * problem.loss.factor(len(h)) * float(max(reach, 1e-300))
    return -np.concatenate(forces), 0.5 * (hessian + hessian.T), scale


def _least_norm(hessian: ndarray, gradient: ndarray) -> ndarray:
    values, vectors = np.linalg.eigh(hessian)
    keep = np.abs(values) > RANK * np.abs(values).max(initial=0.0)
    return np.asarray(vectors[:, keep] @ ((vectors[:, keep].T @ gradient) / values[keep]))


def loss_hessian(loss: Loss, h: ndarray, y: ndarray) -> ndarray:
    """The second derivatives of a loss in the predictions, `(nC, nC)`.

    Of the square loss they are its factor; of others, central differences of the residual.
    """
    if loss.kind == "square":
        return loss.factor(len(y)) * np.eye(h.size)
    outputs = h.reshape(len(h), -1).shape[1]
    found = np.zeros((len(h), outputs, len(h), outputs))
    step = 1e-5 * np.maximum(1.0, np.abs(h).max(initial=0.0))
    for c in range(outputs):
        move = np.zeros((len(h), outputs))
        move[:, c] = step
        shift = move.reshape(h.shape)
        slope: ndarray = (loss.residual(h - shift, y) - loss.residual(h + shift, y)) / (2.0 * step)
        found[np.arange(len(h)), :, np.arange(len(h)), c] = slope.reshape(len(h), outputs)
    return found.reshape(h.size, h.size)
