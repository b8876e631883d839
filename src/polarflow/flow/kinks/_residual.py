"""What compiled loops need of a loss: the residual in logs, and its Taylor series.

The residual r = -dl/dh is held as exp(unit) s with a unit that makes s of norm one, so that
nothing underflows; windows run in the time d tau = exp(unit) dt, in which the weights move under
s alone. Predictions, labels and s have shape `(n, C)`; labels of the cross-entropy are one-hot.

With margins z = y h the scaled residuals obey s' = -s v, where

- exponential loss: v = z';
- logistic loss: v = (1 - q) z' with q = 1/(1 + e^z) = exp(unit) |s| / factor;
- softmax cross-entropy, for each class c other than the example's own class o, with
  z_c = h_o - h_c and p_c = exp(unit) |s_c| / factor: v_c = z_c' - sum_{b != o} p_b z_b'; and
  s_o = -sum_{c != o} s_c;

so that their coefficients follow by convolution from those of the predictions.
"""

import numpy as np
from numba import njit

SQUARE, LOGISTIC, EXPONENTIAL, CROSS_ENTROPY, CORRELATION = 0, 1, 2, 3, 4
#: The code of a loss, by the name of its kind.
CODE = {
    "square": SQUARE,
    "logistic": LOGISTIC,
    "exponential": EXPONENTIAL,
    "cross_entropy": CROSS_ENTROPY,
    "correlation": CORRELATION,
}


@njit(cache=True, error_model="numpy")
def log_sigmoid(z):
    """ln(1/(1 + e^-z)) without overflow or cancellation."""
    return -np.log1p(np.exp(-z)) if z > 0.0 else z - np.log1p(np.exp(z))


@njit(cache=True, error_model="numpy")
def scaled_residual(kind, prediction, label, factor, residual):
    """The residual at predictions, divided by exp(unit), into `residual`.

    **Arguments:**

    - `kind`: one of the codes above.
    - `prediction`, `label`, `residual`: shape `(n, C)`.
    - `factor`: the number that multiplies the sum over examples in the loss.

    **Returns** the unit: ln|r| for the logistic, exponential and cross-entropy loss (0 where r is
    zero), and 0 for the square loss, r = factor (y - h), and the correlation, r = factor y.
    """
    n, outputs = prediction.shape
    if kind == SQUARE or kind == CORRELATION:
        for k in range(n):
            for c in range(outputs):
                h = prediction[k, c] if kind == SQUARE else 0.0
                residual[k, c] = factor * (label[k, c] - h)
        return 0.0
    # First the logarithms of |r| / factor, one -inf where an entry vanishes.
    top = -np.inf
    for k in range(n):
        if kind == CROSS_ENTROPY:
            own = int(np.argmax(label[k]))
            largest = prediction[k].max()
            total = 0.0
            for c in range(outputs):
                total += np.exp(prediction[k, c] - largest)
            total = largest + np.log(total)
            best = -np.inf
            for c in range(outputs):
                if c != own:
                    residual[k, c] = prediction[k, c] - total
                    best = max(best, residual[k, c])
            rest = 0.0
            for c in range(outputs):
                if c != own and best > -np.inf:
                    rest += np.exp(residual[k, c] - best)
            residual[k, own] = best + np.log(rest)
            top = max(top, residual[k, own])
            continue
        for c in range(outputs):
            z = label[k, c] * prediction[k, c]
            residual[k, c] = -z if kind == EXPONENTIAL else log_sigmoid(-z)
            top = max(top, residual[k, c])
    if top == -np.inf:
        residual[:] = 0.0
        return 0.0
    square = 0.0
    for k in range(n):
        for c in range(outputs):
            residual[k, c] = np.exp(residual[k, c] - top)
            square += residual[k, c] ** 2
    norm = np.sqrt(square)
    for k in range(n):
        own = int(np.argmax(label[k])) if kind == CROSS_ENTROPY else -1
        for c in range(outputs):
            if kind == CROSS_ENTROPY:
                sign = 1.0 if c == own else -1.0
            else:
                sign = label[k, c]
            residual[k, c] *= sign / norm
    return np.log(factor) + top + np.log(norm)


@njit(cache=True, error_model="numpy")
def extend_residual(kind, i, prediction, label, factor, unit, residual, rate):
    """The Taylor coefficient i + 1 of the scaled residual, into `residual[i + 1]`.

    **Arguments:**

    - `prediction`: coefficients of the predictions, shape `(orders, n, C)`; those from 1 to i + 1
      are read.
    - `label`, `factor`: as in `scaled_residual`; `unit`: what it returned.
    - `residual`: coefficients of the scaled residual, `(orders, n, C)`; those up to i are read.
    - `rate`: room for the coefficients of v, `(orders, n, C)`, kept between calls; those below i
      are read, and `rate[i]` is written.
    """
    n, outputs = label.shape
    if kind == SQUARE or kind == CORRELATION:
        for k in range(n):
            for c in range(outputs):
                residual[i + 1, k, c] = -factor * prediction[i + 1, k, c] if kind == SQUARE else 0.0
        return
    share = np.exp(unit) / factor
    for k in range(n):
        if kind == CROSS_ENTROPY:
            own = int(np.argmax(label[k]))
            # sum_b p_b z_b', with p_b = -share s_b.
            mean = 0.0
            for c in range(outputs):
                if c != own:
                    for b in range(i + 1):
                        j = i - b + 1
                        slope = j * (prediction[j, k, own] - prediction[j, k, c])
                        mean -= share * residual[b, k, c] * slope
            total = 0.0
            for c in range(outputs):
                if c == own:
                    continue
                slope = (i + 1) * (prediction[i + 1, k, own] - prediction[i + 1, k, c])
                rate[i, k, c] = slope - mean
                t = 0.0
                for b in range(i + 1):
                    t -= residual[b, k, c] * rate[i - b, k, c]
                residual[i + 1, k, c] = t / (i + 1)
                total += residual[i + 1, k, c]
            residual[i + 1, k, own] = -total
            continue
        for c in range(outputs):
            y = label[k, c]
            v = (i + 1) * y * prediction[i + 1, k, c]
            if kind == LOGISTIC:
                # q = share |s|, and y s = |s| as y = +-1.
                for b in range(i + 1):
                    j = i - b + 1
                    v -= share * residual[b, k, c] * j * prediction[j, k, c]
            rate[i, k, c] = v
            t = 0.0
            for b in range(i + 1):
                t -= residual[b, k, c] * rate[i - b, k, c]
            residual[i + 1, k, c] = t / (i + 1)
