"""The residual in JAX, from predictions or from the logarithms that the late phase carries.

Margins are z_k = y_k h_k, and z_kc = h_{k,y} - h_kc with the softmax. Weights of the residual are
q: e^{-z} for the exponential loss, 1/(1 + e^z) for the logistic, the probabilities of the wrong
classes for the cross-entropy. With R = sum q and p = q/R,

    d ln q = -dz (exponential), -(1 - q) dz (logistic), -dz_c + sum_c' q_c' dz_c' (softmax),
    d ln R = sum p d ln q,   d ln p = d ln q - d ln R.

With ln p and ln R as states, the weights keep their digits where a margin of 1e6, known to a
relative tolerance, says nothing of e^{-z}.
"""

from copy import copy
from typing import Any

import numpy as np
from numpy import ndarray

from ...losses import CrossEntropy, Exponential, Logistic, Loss, MarginLoss
from ...networks._evaluate import jax64


class Residual:
    """One loss on one set of labels.

    **Arguments:**

    - `loss`, `label`: labels `(n,)` or `(n, C)`; class numbers `(n,)` for the cross-entropy.
    - `outputs`: C.
    """

    def __init__(self, loss: Loss, label: ndarray, outputs: int) -> None:
        self.loss, self.outputs = loss, outputs
        self.margin = isinstance(loss, MarginLoss)
        self.softmax = isinstance(loss, CrossEntropy)
        self.log_factor = float(np.log(loss.factor(len(label))))
        n = len(label)
        if self.softmax:
            right = (label if label.ndim == 1 else np.argmax(label, axis=1)).astype(int)
            self.right = right[:, None]
            every = np.broadcast_to(np.arange(outputs), (n, outputs))
            self.wrong = every[every != self.right].reshape(n, outputs - 1)
            self.label = np.zeros((n, outputs))
        else:
            self.label = label.reshape(n, -1).astype(float)
        #: How many weights q there are, as an array.
        self.shape = (n, outputs - 1) if self.softmax else (n, outputs)

    @property
    def classes(self) -> tuple[Any, ...]:
        """The right class of every example, and the wrong ones; nothing without softmax."""
        return (self.right, self.wrong) if self.softmax else ()

    def with_data(self, label: Any, log_factor: Any, *classes: Any) -> "Residual":
        """The same loss on other labels of the same shape."""
        other = copy(self)
        other.label, other.log_factor = label, log_factor
        if classes:
            other.right, other.wrong = classes
        return other

    def direct(self, h: Any) -> tuple[Any, Any]:
        """ln|r| and r/|r| from predictions `(n, C)`; (-inf, 0) where r vanishes."""
        jnp = jax64().numpy
        if self.margin:
            log_q = self.log_weights(self.margins(h))
            top = jnp.max(log_q)
            return self._polar(jnp.exp(log_q - top), top)
        label = jnp.asarray(self.label)
        residual = label - h if self.loss.kind == "square" else label
        return self._norm(residual, 0.0)

    def carried(self, log_p: Any, log_sum: Any) -> tuple[Any, Any]:
        """The same from ln p, of the shape `self.shape`, and ln R."""
        return self._polar(jax64().nn.softmax(log_p.ravel()).reshape(self.shape), log_sum)

    def _polar(self, weight: Any, log_scale: Any) -> tuple[Any, Any]:
        jnp = jax64().numpy
        if not self.softmax:
            return self._norm(jnp.asarray(self.label) * weight, log_scale)
        residual = jnp.zeros(self.label.shape)
        rows = np.arange(len(self.label))[:, None]
        residual = residual.at[rows, self.wrong].set(-weight)
        residual = residual.at[rows, self.right].set(weight.sum(axis=1, keepdims=True))
        return self._norm(residual, log_scale)

    def _norm(self, residual: Any, log_scale: Any) -> tuple[Any, Any]:
        jnp = jax64().numpy
        square = jnp.sum(residual * residual)
        # Where r vanishes the gradient of the norm would not be finite.
        size = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
        log_size = jnp.where(square > 0.0, jnp.log(size), -jnp.inf)
        return log_size + log_scale + self.log_factor, residual / size

    def margins(self, h: Any) -> Any:
        """z from predictions `(n, C)`."""
        jnp = jax64().numpy
        if not self.softmax:
            return jnp.asarray(self.label) * h
        right = jnp.take_along_axis(h, jnp.asarray(self.right), axis=1)
        return right - jnp.take_along_axis(h, jnp.asarray(self.wrong), axis=1)

    def lowest_margin(self, h: ndarray) -> float:
        """The smallest margin at predictions `(n, C)`."""
        if not self.softmax:
            return float((self.label * h).min())
        right = np.take_along_axis(h, self.right, axis=1)
        return float((right - np.take_along_axis(h, self.wrong, axis=1)).min())

    def log_weights(self, z: Any) -> Any:
        """ln q from margins."""
        jax = jax64()
        if isinstance(self.loss, Exponential):
            return -z
        if isinstance(self.loss, Logistic):
            return -jax.nn.softplus(z)
        return -z - jax.nn.logsumexp(jax.numpy.pad(-z, ((0, 0), (0, 1))), axis=1, keepdims=True)

    def moved(self, log_p: Any, log_sum: Any, dz: Any) -> tuple[Any, Any]:
        """The velocities of ln p and ln R, from those of the margins."""
        jax = jax64()
        p = jax.nn.softmax(log_p.ravel()).reshape(self.shape)
        if isinstance(self.loss, Exponential):
            d_log_q = -dz
        else:
            q = jax.numpy.exp(jax.numpy.minimum(log_sum + log_p, 0.0))
            if isinstance(self.loss, Logistic):
                d_log_q = -(1.0 - q) * dz
            else:
                d_log_q = -dz + jax.numpy.sum(q * dz, axis=1, keepdims=True)
        d_log_sum = jax.numpy.sum(p * d_log_q)
        return d_log_q - d_log_sum, d_log_sum
