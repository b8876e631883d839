"""Steps with many digits: Dormand and Prince's method of order 8, errors told for each part."""

from functools import cached_property

import numpy as np
from flint import arb, arb_mat, ctx
from numpy import ndarray
from scipy.integrate import DOP853

from ._digits import Digits, Exact, floats
from ._stepper import StepError

#: No step is longer than this over the largest rate.
_LONGEST = 1.5
#: Rows of weights into a nonlinear unit may have this many times the error of the whole.
_ROW = 10.0
_TRIALS = 60


def _combine(at: Exact, slopes: list[Exact], weights: ndarray, scale: float) -> Exact:
    """y + scale sum_j weights_j f_j."""
    total = list(at)
    for weight, slope in zip(weights.tolist(), slopes, strict=False):
        if weight:
            factor = arb(weight) * arb(scale)
            total = [t + f * factor for t, f in zip(total, slope, strict=True)]
    return [t.mid() for t in total]


class DigitStep:
    """One step from `start` to `end`: the numbers anywhere in it, by the method's dense output."""

    def __init__(
        self, field: Digits, start: float, end: float, y: Exact, slopes: list[Exact], new: Exact
    ) -> None:
        self.field, self.start, self.end = field, start, end
        self._y, self._slopes, self.new = y, slopes, new

    @cached_property
    def _polynomial(self) -> list[Exact]:
        h, y = self.end - self.start, self._y
        slopes = list(self._slopes)
        for row in DOP853.A_EXTRA:
            slopes.append(self.field.velocity(_combine(y, slopes, row, h)))
        step, first, last = arb(h), slopes[0], slopes[12]
        change = [b - a for a, b in zip(y, self.new, strict=True)]
        found = [
            change,
            [f * step - c for f, c in zip(first, change, strict=True)],
            [c * 2 - (f + g) * step for c, f, g in zip(change, first, last, strict=True)],
        ]
        zero = [arb_mat(w.nrows(), w.ncols()) for w in y]
        return found + [_combine(zero, slopes, row, h) for row in DOP853.D]

    def at(self, s: float) -> Exact:
        """The numbers at a clock reading."""
        if s >= self.end:
            return self.new
        with ctx.workprec(self.field.bits):
            x = arb(s - self.start) / arb(self.end - self.start)
            total = [arb_mat(w.nrows(), w.ncols()) for w in self._y]
            for i, part in enumerate(reversed(self._polynomial)):
                factor = x if i % 2 == 0 else 1 - x
                total = [(t + p) * factor for t, p in zip(total, part, strict=True)]
            return [(a + t).mid() for a, t in zip(self._y, total, strict=True)]


class DigitSession:
    """Steps from given numbers on, in a clock that starts at zero.

    **Arguments:**

    - `field`, `y`: the equations and the numbers to start from.
    - `rtol`: of one step, for all weights relative to their norm and to their change, and, ten
      times larger, for each nonlinear unit's weights relative to themselves.
    - `rate`: no part grows faster than this in the clock.
    """

    def __init__(self, field: Digits, y: Exact, rtol: float, rate: float) -> None:
        self.field, self.y, self.rtol, self.rate = field, y, rtol, rate
        self.s = 0.0
        self._h = 1e-2 / rate
        self._taken = field.evaluations
        with ctx.workprec(field.bits):
            self._slope = field.velocity(y)

    @property
    def speed(self) -> float:
        """|dw/ds|/|w|."""
        return _norm([floats(f) for f in self._slope[:-1]]) / _norm(
            [floats(w) for w in self.y[:-1]]
        )

    def take_count(self) -> int:
        """Evaluations since the last time."""
        before, self._taken = self._taken, self.field.evaluations
        return self._taken - before

    def step(self) -> DigitStep:
        """One accepted step.

        **Raises:** `StepError` where no step is short enough.
        """
        field, y = self.field, self.y
        with ctx.workprec(field.bits):
            for _ in range(_TRIALS):
                h = self._h
                slopes = [self._slope]
                for row in DOP853.A[1:]:
                    slopes.append(field.velocity(_combine(y, slopes, row, h)))
                new = _combine(y, slopes, DOP853.B, h)
                last = field.velocity(new)
                slopes.append(last)
                error = self._error(new, slopes, h)
                if not np.isfinite(error):
                    raise StepError("the weights are no longer finite")
                change = 0.9 * max(error, 1e-12) ** -0.125
                self._h = min(h * float(np.clip(change, 0.2, 5.0)), _LONGEST / self.rate)
                if error <= 1.0:
                    break
            else:
                raise StepError("the steps have become too small")
            step = DigitStep(field, self.s, self.s + h, y, slopes, new)
            self.s, self.y, self._slope = step.end, new, last
            return step

    def _error(self, new: Exact, slopes: list[Exact], h: float) -> float:
        """The error of a step over what is allowed."""
        zero = [arb_mat(w.nrows(), w.ncols()) for w in new]
        fine = [floats(e) for e in _combine(zero, slopes, DOP853.E5, h)]
        coarse = [floats(e) for e in _combine(zero, slopes, DOP853.E3, h)]
        change = [floats(b - a) for a, b in zip(self.y, new, strict=True)]
        value = [floats(w) for w in new]
        found = [_ratio(fine[-1], coarse[-1], np.abs(value[-1]).ravel() + 1e-300)]
        size = min(_norm(value[:-1]), _norm(change[:-1]))
        whole = np.concatenate([e.ravel() for e in fine[:-1]])[None]
        other = np.concatenate([e.ravel() for e in coarse[:-1]])[None]
        found.append(_ratio(whole, other, np.array([size])))
        activations = self.field.network.activations
        for k, i in enumerate(self.field.trained):
            if i < len(activations) and activations[i].name != "linear":
                rows = np.linalg.norm(value[k], axis=1)
                found.append(_ratio(fine[k], coarse[k], _ROW * rows))
        return max(found) / self.rtol


def _norm(parts: list[ndarray]) -> float:
    return float(np.sqrt(sum(np.sum(p * p) for p in parts)))


def _ratio(fine: ndarray, coarse: ndarray, size: ndarray) -> float:
    """The largest error of a row, from the method's two estimates, over the row's size."""
    fine, coarse = (np.linalg.norm(e, axis=-1) for e in (fine, coarse))
    with np.errstate(divide="ignore", invalid="ignore"):
        error = fine**2 / np.sqrt(fine**2 + 0.01 * coarse**2) / size
    return float(np.max(np.where(size > 0.0, np.nan_to_num(error, nan=0.0), 0.0), initial=0.0))
