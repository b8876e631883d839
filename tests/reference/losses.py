"""Residuals r = -dl/dh and values of the losses, in 80-bit floats, from their definitions."""

import numpy as np

LD = np.longdouble


class Loss:
    """A loss `factor` * sum_k l(h_k, y_k) of predictions h (..., n, C); labels y (n, C).

    kind "square" is (h - y)^2 / 2, "logistic" ln(1 + e^(-yh)), "exponential" e^(-yh),
    "correlation" -yh, "cross_entropy" the softmax cross-entropy with y one-hot.
    """

    def __init__(self, kind: str, y, factor) -> None:
        self.kind, self.y, self.factor = kind, np.asarray(y, LD), LD(factor)

    def residual(self, h):
        y = self.y
        if self.kind == "square":
            r = y - h
        elif self.kind == "logistic":
            r = y / (1 + np.exp(y * h))
        elif self.kind == "exponential":
            r = y * np.exp(-y * h)
        elif self.kind == "correlation":
            r = y + 0 * h
        else:
            r = y * self._others(h) - (1 - y) * self._softmax(h)
        return self.factor * r

    def value(self, h):
        y = self.y
        if self.kind == "square":
            v = (h - y) ** 2 / 2
        elif self.kind == "logistic":
            v = np.logaddexp(LD(0), -y * h)
        elif self.kind == "exponential":
            v = np.exp(-y * h)
        elif self.kind == "correlation":
            v = -y * h
        else:
            gap = np.where(y > 0, -np.inf, h - (h * y).sum(-1, keepdims=True))
            return self.factor * np.log1p(np.exp(gap).sum(-1)).sum(-1)
        return self.factor * v.sum((-1, -2))

    def _softmax(self, h):
        e = np.exp(h - h.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def _others(self, h):
        """One minus the softmax probability of each class, without cancellation."""
        e = np.exp(h - h.max(-1, keepdims=True))
        total = e.sum(-1, keepdims=True)
        others = np.stack([np.delete(e, c, -1).sum(-1) for c in range(h.shape[-1])], axis=-1)
        return others / total
