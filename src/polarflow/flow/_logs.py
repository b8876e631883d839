"""Sums of numbers known by their logarithms."""

import numpy as np
from numpy import ndarray


def log_sum(logs: ndarray) -> ndarray:
    """ln sum exp over the last axis."""
    top = np.max(logs, axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(under="ignore", divide="ignore"):
        return np.log(np.sum(np.exp(logs - top), axis=-1)) + top[..., 0]
