r"""Deep networks with many digits: the flow of weights whose parts differ by more than rounding.

Near a saddle the matrices of a deep network hold parts of order one, and others, in the same
entries, that are smaller by a power of the initial scale; they decide when the saddle is left.
Floats of 53 bits lose what is below 1e-16. Here numbers have as many bits as the start asks for
(python-flint), and steps are as long as in ordinary arithmetic. That is enough, because a
Runge-Kutta method commutes with linear maps: a linear subspace that the flow keeps (rows that are
zero; W_1 = c d^T, W_2 = a c^T with c fixed) it keeps too, in exact arithmetic and whatever its
step, so that the parts across it have errors relative to themselves.

The clock is s with $ds/dt = R |w|^{L-2}$, R the size of the residual at the origin, so that from
a scale of 1e-1000 the first escape takes as many steps as from 1e-3. The time is
$t = u / (R |w|^{L-2})$ with $du/ds = 1 + (L-2) u\, d\ln|w|/ds$.
"""

from typing import Any

import numpy as np
from flint import arb, arb_mat, ctx
from numpy import ndarray

from ...losses import CrossEntropy, Exponential, Logistic
from ...networks import Activation, BlockState, Deep
from .._problem import Problem

#: Bits beyond those that the start asks for.
_SPARE = 96
#: Parts down to this power of the initial scale are held.
_POWER = 4.0
#: More bits would take too long.
MOST = 2048

#: The matrices, frozen ones left out, and u as a matrix of one entry.
Exact = list[arb_mat]


def bits_for(problem: Problem) -> int:
    """How many bits hold the parts of the weights that a start of its size leads to."""
    smallest = float(np.min(problem.initial.log_norm, initial=0.0))
    return _SPARE + int(np.ceil(-_POWER * smallest / np.log(2.0)))


def reason_against(problem: Problem) -> str:
    """Why the flow of a problem can't be followed with many digits; empty if it can."""
    network = problem.network
    if not isinstance(network, Deep):
        return "only deep networks of matrices can be followed with more digits"
    if any(activation.kinks for activation in network.activations):
        return "networks with kinks can't be followed with more digits"
    if not np.isfinite(problem.initial.log_norm).all():
        return "the start is zero"
    if bits_for(problem) > MOST:
        return f"{bits_for(problem)} bits would be needed to hold them, and {MOST} are allowed"
    return ""


def _matrix(values: ndarray) -> arb_mat:
    rows, columns = values.shape
    return arb_mat(rows, columns, [arb(v) for v in values.ravel().tolist()])


def floats(matrix: arb_mat) -> ndarray:
    """The entries as floats, of the matrix's shape."""
    shape = (matrix.nrows(), matrix.ncols())
    return np.array([float(e) for e in matrix.entries()]).reshape(shape)


def _times(a: arb_mat, b: arb_mat) -> arb_mat:
    """Entry by entry."""
    entries = [p * q for p, q in zip(a.entries(), b.entries(), strict=True)]
    return arb_mat(a.nrows(), a.ncols(), entries)


def _square(matrix: arb_mat) -> arb:
    return sum((e * e for e in matrix.entries()), arb(0))


class Digits:
    """The flow of one deep network in numbers of many bits.

    **Arguments:**

    - `problem`: for which `reason_against` has none.
    - `log_unit`: ln R.
    - `bits`: of the numbers.
    """

    def __init__(self, problem: Problem, log_unit: float, bits: int) -> None:
        network = problem.network
        assert isinstance(network, Deep)
        self.problem, self.network, self.bits = problem, network, bits
        self.shapes = network.shapes(problem.data.dimension)
        self.frozen = {
            i: _matrix(np.asarray(network.frozen[i + 1], dtype=float))
            for i in range(len(self.shapes))
            if i + 1 in network.frozen
        }
        self.trained = [i for i in range(len(self.shapes)) if i not in self.frozen]
        self.x = _matrix(problem.data.x.T)
        n, c = len(problem.data.y), network.outputs
        label = problem.data.y
        if isinstance(problem.loss, CrossEntropy) and label.ndim == 1:
            label = np.eye(c)[label.astype(int)]
        self.label = _matrix(label.reshape(n, c).T.astype(float))
        self.factor = arb(problem.loss.factor(n))
        self.evaluations = 0
        with ctx.workprec(bits):
            self.unit = arb(log_unit).exp().mid()
            self.power = arb(network.order) - 2

    # -- between states and numbers --------------------------------------------------------

    def start(self, state: BlockState) -> Exact:
        """The numbers at time zero."""
        found, at = [], 0
        with ctx.workprec(self.bits):
            direction = state.direction[0]
            norm = sum((arb(v) * arb(v) for v in direction.tolist()), arb(0)).sqrt()
            scale = arb(float(state.log_norm[0])).exp() / norm
            for i in self.trained:
                rows, columns = self.shapes[i]
                part = direction[at : at + rows * columns].reshape(rows, columns)
                found.append((_matrix(part) * scale).mid())
                at += rows * columns
            return [*found, arb_mat(1, 1, [0])]

    def vector(self, y: Exact) -> ndarray:
        """rho and v as floats."""
        with ctx.workprec(self.bits):
            square = sum((_square(w) for w in y[:-1]), arb(0))
            inverse = 1 / square.sqrt()
            unit = np.concatenate([floats(w * inverse).ravel() for w in y[:-1]])
            return np.concatenate([[float(square.log()) / 2.0], unit])

    def time(self, y: Exact) -> arb:
        """t."""
        with ctx.workprec(self.bits):
            square = sum((_square(w) for w in y[:-1]), arb(0))
            return y[-1][0, 0] / (self.unit * square ** (self.power / 2))

    def log_time(self, y: Exact) -> float:
        """ln t."""
        time = self.time(y)
        with ctx.workprec(self.bits):
            return float(time.log()) if time > 0 else -np.inf

    # -- the equations ---------------------------------------------------------------------

    def velocity(self, y: Exact) -> Exact:
        """dy/ds."""
        self.evaluations += 1
        weights, u = y[:-1], y[-1][0, 0]
        layers = dict(zip(self.trained, weights, strict=True)) | self.frozen
        h = self.x
        inputs: list[arb_mat] = []
        slopes: list[arb_mat | None] = []
        for i in range(len(self.shapes)):
            inputs.append(h)
            h = (layers[i] * h).mid()
            slopes.append(None)
            if i < len(self.network.activations):
                h, slopes[i] = _activate(self.network.activations[i], h)
        ones = arb_mat(1, h.nrows(), [1] * h.nrows())
        summed = self.network.readout == "ones"
        pull = self._residual(ones * h if summed else h)
        if summed:
            pull = ones.transpose() * pull
        gradients: dict[int, arb_mat] = {}
        for i in reversed(range(len(self.shapes))):
            slope = slopes[i]
            if slope is not None:
                pull = _times(pull, slope)
            if i not in self.frozen:
                gradients[i] = pull * inputs[i].transpose()
            if i:
                pull = (layers[i].transpose() * pull).mid()
        square = sum((_square(w) for w in weights), arb(0))
        speed = 1 / (self.unit * square ** (self.power / 2))
        moved = [(gradients[i] * speed).mid() for i in self.trained]
        along = sum(
            (p * q for w, d in zip(weights, moved, strict=True)
             for p, q in zip(w.entries(), d.entries(), strict=True)),
            arb(0),
        )  # fmt: skip
        clock = 1 + self.power * u * along / square
        return [*moved, arb_mat(1, 1, [clock.mid()])]

    def _residual(self, h: arb_mat) -> arb_mat:
        """r = -dl/dh from predictions, shape (C, n)."""
        loss, label = self.problem.loss, self.label
        if loss.kind == "square":
            return (label - h) * self.factor
        if loss.kind == "correlation":
            return label * self.factor
        shape = h.nrows(), h.ncols()
        if isinstance(loss, CrossEntropy):
            columns = h.transpose().tolist()
            found = []
            for column, own in zip(columns, label.transpose().tolist(), strict=True):
                top = max(column, key=float)
                weight = [(e - top).exp() for e in column]
                total = sum(weight, arb(0))
                found += [o - e / total for e, o in zip(weight, own, strict=True)]
            return arb_mat(shape[1], shape[0], found).transpose() * self.factor
        weights = []
        for e, sign in zip(h.entries(), label.entries(), strict=True):
            if isinstance(loss, Logistic):
                weights.append(sign / (1 + (sign * e).exp()))
            else:
                assert isinstance(loss, Exponential)
                weights.append(sign * (-sign * e).exp())
        return arb_mat(*shape, weights) * self.factor


def _activate(activation: Activation, z: arb_mat) -> tuple[arb_mat, Any]:
    """The activation and its slope at z; no slope where it is linear."""
    if activation.name == "linear":
        return z, None
    power = activation.power
    whole = int(power) if power == round(power) else arb(power)
    low = activation.slope if activation.name == "leaky_relu" else 0.0
    values, slopes = [], []
    for e in z.entries():
        inner: Any = 1
        if activation.name != "polynomial" and not e > 0:
            if not low:
                values.append(arb(0))
                slopes.append(arb(0))
                continue
            inner, e = arb(low), e * low
        lower = e ** (whole - 1)
        values.append(lower * e)
        slopes.append(lower * whole * inner)
    shape = z.nrows(), z.ncols()
    return arb_mat(*shape, values).mid(), arb_mat(*shape, slopes).mid()
