r"""Rest points of networks of smooth blocks, to rounding.

At a rest point the gradient of the loss in the active weights vanishes. Its Hessian there is
$J^T \ell'' J - \oplus_j \nabla^2 N_r(w_j)$, J the Jacobian of the predictions: blocks meet only
through them. Rescaling and rotating weights inside a block changes no prediction, so that the
Hessian is singular in general, and Newton's steps of least norm are taken.
"""

from dataclasses import replace

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..losses import Loss
from ..networks import BlockState, TwoLayer
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
#: Eigenvalues of a Hessian taken beside the rest point below this share of the largest are zero.
_BLURRED = 1e-7


def refine(
    problem: Problem, state: BlockState, active: ndarray, *, on_kink: float = 1e-8
) -> RestPoint:
    """The rest point near a state, with the activation patterns that its active neurons have.

    **Arguments:**

    - `problem`: data, network and loss; its initial state does not matter.
    - `state`: blocks near rest.
    - `active`: a mask of the blocks that are not to be zero, shape `(m,)`.
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
    problem = blocks.problem
    loss, y = problem.loss, problem.data.y
    chosen = np.flatnonzero(active)
    sizes = blocks.sizes(active)
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
    weights = best
    gradient, hessian, _ = _derivatives(blocks, weights, chosen)
    norm = np.linalg.norm(weights, axis=1)
    with np.errstate(divide="ignore"):
        log_norm = np.where(active, np.log(norm), -np.inf)
    unit = np.where((norm > 0.0)[:, None], weights / np.where(norm, norm, 1.0)[:, None], unit)
    h = blocks.predict(log_norm, unit)
    spectrum = np.linalg.eigvalsh(hessian) if len(chosen) else np.zeros(0)
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
