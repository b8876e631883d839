r"""Rest points of two-layer networks, to rounding, and what kind of rest they are.

While activation patterns stay as they are, a two-layer network is a linear function of the products
$p_j = a_j w_j$ of its active neurons, and the loss a convex function of them. A rest point is a
minimum in the products, $P_j \sum_k r_k s'_{jk} x_k = 0$ for every active neuron, with P the
projection onto the kinks that neuron j lies on; so it is refined by Newton steps of least norm in
the products, exact at once for the square loss.

The Hessian of the loss in the active weights is then $J^T \mathrm{diag}(\ell'') J$ with J the
Jacobian of the predictions, since the second derivative of a product meets a vanishing force. It
is positive semidefinite. Rescaling $(a_j, w_j)$ and shifting between neurons of one pattern change
no prediction, so that its kernel is never trivial: it is the kernel of J, the tangent space of the
critical manifold (where J has constant rank). Whether the point is a local minimum or a saddle is
decided by the blocks that are zero: it is a strict saddle if the NCF of its residual is positive
somewhere.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..networks import BlockState
from ._blocks import two_layer

_STEPS = 30
#: Singular values of J below this share of the largest are zero.
_RANK = 1e-10


@dataclass(frozen=True)
class RestPoint:
    """A rest point of the flow.

    **Attributes:**

    - `state`: all blocks; those that are not active have log-norm -inf.
    - `active`: the blocks that are not zero, shape `(m,)`.
    - `loss`, `grad_norm`: there; the gradient is the least-norm element over the active blocks.
    - `prediction`, `residual`: at the examples.
    - `spectrum`: eigenvalues of the Hessian in the active weights, increasing; neurons on kinks
      move along them only.
    - `kernel`: how many of them are zero: the dimension of the critical manifold.
    """

    state: BlockState
    active: ndarray
    loss: float
    grad_norm: float
    prediction: ndarray
    residual: ndarray
    spectrum: Float[ndarray, " q"]
    kernel: int

    @property
    def index(self) -> int:
        """The number of negative eigenvalues in the active weights: 0, a minimum among them."""
        return int(np.sum(self.spectrum < -1e-9 * np.abs(self.spectrum).max(initial=0.0)))


def refine(
    problem: Problem, state: BlockState, active: ndarray, *, on_kink: float = 1e-8
) -> RestPoint:
    """The rest point near a state, with the activation patterns that its active neurons have.

    **Arguments:**

    - `problem`: data, network and loss; its initial state does not matter.
    - `state`: blocks near rest.
    - `active`: a mask of the blocks that are not to be zero, shape `(m,)`.
    - `on_kink`: a neuron with |w.x_k| at most this times |w||x_k| is put on the kink of example k.

    **Raises:** `PolarflowError` if Newton's method does not converge.
    """
    network, data, loss = two_layer(problem), problem.data, problem.loss
    x, y = data.x, data.y
    weights = state.weights()[active]
    a, w = weights[:, 0], weights[:, 1:]
    z, size = w @ x.T, np.linalg.norm(w, axis=1)[:, None] * np.linalg.norm(x, axis=1)
    kinks = np.abs(z) <= on_kink * size
    slopes = np.where(z > 0, 1.0, network.slope)
    span = _span(x)
    bases = [_across(span, x[k]) for k in kinks]
    across = w - (w @ span.T) @ span
    product = [basis @ (a[j] * w[j]) for j, basis in enumerate(bases)]
    features = [slopes[j][:, None] * (x @ basis.T) for j, basis in enumerate(bases)]
    matrix = np.concatenate([*features, np.zeros((len(y), 0))], axis=1)
    share = np.concatenate([[0.0], *(np.full(len(b), abs(a[j])) for j, b in enumerate(bases))])[1:]
    flat = np.concatenate([*product, np.zeros(0)])
    step = np.inf
    for _ in range(_STEPS):
        h = matrix @ flat
        r = loss.residual(h, y)
        curvature = _curvature(problem, h)
        scaled = np.sqrt(curvature)[:, None] * matrix * share
        target = r / np.sqrt(curvature)
        move = share * np.linalg.lstsq(scaled, target, rcond=_RANK)[0]
        before, step = step, float(np.abs(move).max(initial=0.0))
        flat = flat + move
        if step <= 1e-15 * np.abs(flat).max(initial=1.0) or (step >= before and step < 1e-9):
            break
    else:
        raise PolarflowError("The rest point could not be refined: Newton's method did not end.")
    h = matrix @ flat
    r = loss.residual(h, y)
    row, gradient = 0, 0.0
    log_norm = np.full(state.blocks, -np.inf)
    direction = state.direction.copy()
    jacobian = np.zeros((len(y), 0))
    for j, block in enumerate(np.flatnonzero(active)):
        basis = bases[j]
        p = flat[row : row + len(basis)] @ basis + a[j] * across[j]
        row += len(basis)
        magnitude = float(np.linalg.norm(p))
        if magnitude == 0.0:
            continue
        root, sign = np.sqrt(magnitude), np.sign(a[j])
        unit = sign * p / magnitude
        log_norm[block] = 0.5 * np.log(2.0 * magnitude)
        direction[block] = np.concatenate([[sign], unit]) / np.sqrt(2.0)
        force = basis @ ((r * slopes[j]) @ x)
        gradient += magnitude * (float(force @ (basis @ unit)) ** 2 + float(force @ force))
        by_a = (features[j] @ (basis @ unit) * root)[:, None]
        jacobian = np.concatenate([jacobian, by_a, sign * root * features[j]], axis=1)
    curved = np.sqrt(_curvature(problem, h))[:, None] * jacobian
    singular = np.linalg.svd(curved, compute_uv=False)
    spectrum = np.zeros(jacobian.shape[1])
    spectrum[len(spectrum) - len(singular) :] = np.sort(singular) ** 2
    rank = int(np.sum(singular > _RANK * singular.max(initial=0.0)))
    return RestPoint(
        state=BlockState(log_norm, direction),
        active=active.copy(),
        loss=float(loss.value(h, y)),
        grad_norm=float(np.sqrt(gradient)),
        prediction=h,
        residual=r,
        spectrum=spectrum,
        kernel=len(spectrum) - rank,
    )


def _span(x: ndarray) -> ndarray:
    """Orthonormal rows that span the inputs."""
    _, sigma, vt = np.linalg.svd(x, full_matrices=False)
    return np.asarray(vt[sigma > 1e-13 * max(float(sigma.max(initial=0.0)), 1e-300)])


def _across(span: ndarray, kinks: ndarray) -> ndarray:
    """Orthonormal rows of the part of a span that is orthogonal to some inputs."""
    if len(kinks) == 0:
        return span
    normals = kinks @ span.T
    _, sigma, vt = np.linalg.svd(normals, full_matrices=True)
    rank = int(np.sum(sigma > 1e-10 * max(float(sigma.max(initial=0.0)), 1e-300)))
    return np.asarray(vt[rank:] @ span)


def _curvature(problem: Problem, h: ndarray) -> ndarray:
    """l'' of every example, by central differences of the residual unless the loss is square."""
    loss, y = problem.loss, problem.data.y
    if loss.kind == "square":
        return np.full(len(y), loss.factor(len(y)))
    step = 1e-5 * np.maximum(1.0, np.abs(h))
    return np.asarray((loss.residual(h - step, y) - loss.residual(h + step, y)) / (2.0 * step))
