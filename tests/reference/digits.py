"""Squared-ReLU networks with many digits: the flow in the weights, by an explicit method.

It knows nothing of blocks, directions or bundles: the weights are balls of python-flint, whose
midpoints go on, stepped by the method of order 8 of Dormand & Prince (its coefficients from SciPy)
with an error bound relative to each unit. A Runge-Kutta method commutes with linear maps, so that
parts of the weights below the error of a step are right relative to themselves while patterns stay.
"""

from collections.abc import Sequence

import flint
import numpy as np
from flint import arb, arb_mat
from numpy import ndarray
from scipy.integrate import DOP853


class ManyDigits:
    """The flow of sum_j s_j max(0, w_j.x)^2 under (1/2n) sum (y - h)^2.

    `log_norm`, `direction`: the start. `tolerance`: of a step, relative to each unit.
    """

    def __init__(
        self,
        x: ndarray,
        y: ndarray,
        signs: Sequence[int],
        log_norm: ndarray,
        direction: ndarray,
        tolerance: float,
        bits: int,
    ) -> None:
        self.bits, self.tolerance, self.signs = bits, tolerance, list(signs)
        self.m, self.d = direction.shape
        self.n, self.time, self._length = len(x), 0.0, 0.01
        flint.ctx.prec = bits
        self._x, self._xt = arb_mat(x.tolist()), arb_mat(x.T.tolist())
        self._y = [arb(float(value)) for value in y]
        self.weights = arb_mat(
            [
                [arb(float(r)).exp() * arb(float(v)) for v in row]
                for r, row in zip(log_norm, direction, strict=True)
            ]
        ).mid()
        self._slope = self._field(self.weights)

    def _residual(self, weights: arb_mat) -> tuple[list[arb], list[list[arb]]]:
        z = weights * self._xt
        felt = [
            [z[j, k] if z[j, k].mid() > 0 else arb(0) for k in range(self.n)] for j in range(self.m)
        ]
        h = [
            sum((s * row[k] ** 2 for s, row in zip(self.signs, felt, strict=True)), arb(0))
            for k in range(self.n)
        ]
        return [self._y[k] - h[k] for k in range(self.n)], felt

    def _field(self, weights: arb_mat) -> arb_mat:
        r, felt = self._residual(weights)
        pull = [
            [2 * s * row[k] * r[k] / self.n for k in range(self.n)]
            for s, row in zip(self.signs, felt, strict=True)
        ]
        return (arb_mat(pull) * self._x).mid()

    @property
    def loss(self) -> float:
        """(1/2n) sum r^2."""
        flint.ctx.prec = self.bits
        r, _ = self._residual(self.weights)
        return float(sum((each**2 for each in r), arb(0)) / (2 * self.n))

    def log_singular_values(self, rows: Sequence[int]) -> tuple[float, float]:
        """ln of the two largest singular values of some units' weights, far from each other."""
        flint.ctx.prec = self.bits
        w = arb_mat([[self.weights[j, i] for i in range(self.d)] for j in rows])
        gram = w.transpose() * w
        trace = sum((gram[i, i] for i in range(self.d)), arb(0))
        square = gram * gram
        second = (trace**2 - sum((square[i, i] for i in range(self.d)), arb(0))) / 2
        return float(trace.log()) / 2, float((second / trace).log()) / 2

    def until(self, time: float) -> None:
        """Follow the flow to a time."""
        flint.ctx.prec = self.bits
        while self.time < time * (1.0 - 1e-14):
            self._step(time - self.time)

    def _step(self, most: float) -> None:
        h = min(self._length, most)
        inverse = [
            1 / sum((self.weights[j, i] ** 2 for i in range(self.d)), arb(0)).sqrt()
            for j in range(self.m)
        ]
        stages = [self._slope]
        for row in [*DOP853.A[1:12], DOP853.B]:
            move = arb_mat(self.m, self.d)
            for a, k in zip(row, stages, strict=False):
                if a != 0.0:
                    move += k * arb(float(a))
            new = (self.weights + move * arb(h)).mid()
            stages.append(self._field(new))
        small = np.array(
            [
                [[float(k[j, i] * inverse[j]) for i in range(self.d)] for j in range(self.m)]
                for k in stages
            ]
        )
        fifth = np.linalg.norm(np.tensordot(DOP853.E5, small, 1)) ** 2
        third = np.linalg.norm(np.tensordot(DOP853.E3, small, 1)) ** 2
        error = h * fifth / np.sqrt(fifth + 0.01 * third + 1e-300) / self.tolerance
        if error < 1.0:
            self.time, self.weights, self._slope = self.time + h, new, stages[-1]
        if error >= 1.0 or h == self._length:
            self._length = h * min(5.0, max(0.2, 0.9 * max(error, 1e-10) ** -0.125))
