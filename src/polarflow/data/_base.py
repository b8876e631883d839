"""The arrays a network is trained on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import ArrayLike

from ..errors import PolarflowError


@dataclass(frozen=True, eq=False)
class Data:
    """n examples (x_k, y_k) with x_k in R^d and y_k in R^C; one example is one row of `x`.

    Both arrays are copied, and read-only.

    **Arguments:**

    - `x`: inputs, shape `(n, d)`. With `bias` their last column is the appended 1.
    - `y`: labels, shape `(n,)`, or `(n, C)` with C > 1 numbers each; `(n, 1)` is read as `(n,)`.
    - `bias`: whether the last column of `x` is a bias that was appended to the inputs.
    - `name`: what figures call the data.

    **Raises:** `PolarflowError` if a shape is wrong, a number is not finite, or there is no
    example.
    """

    x: Float[ndarray, "n d"]
    y: Float[ndarray, " n *C"]
    bias: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        source = self.name or "data"
        x = _numbers(self.x, source, "x")
        y = _numbers(self.y, source, "y")
        if x.ndim != 2:
            raise PolarflowError(
                f"{source}: x has shape {x.shape}; it must be n x d, one example a row."
            )
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim not in (1, 2) or 0 in y.shape[1:]:
            raise PolarflowError(
                f"{source}: y has shape {y.shape}; it must hold n labels, or n rows of labels."
            )
        if len(x) != len(y):
            raise PolarflowError(
                f"{source}: x has {len(x)} rows and y has {len(y)} labels; "
                "there must be one label for each row."
            )
        if x.shape[0] < 1 or x.shape[1] < 1:
            raise PolarflowError(
                f"{source}: x has shape {x.shape}; at least one example of one number is needed."
            )
        if self.bias and (x[:, -1] != 1.0).any():
            raise PolarflowError(
                f"{source}: the last column of x must be 1 where bias is true; "
                "Data.from_arrays appends it."
            )
        for array in (x, y):
            array.setflags(write=False)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)

    @classmethod
    def from_arrays(cls, x: ArrayLike, y: ArrayLike, bias: bool = False, name: str = "") -> "Data":
        """Data from inputs before bias; with `bias` a 1 is appended to every input.

        A vector `x` of n numbers is read as n inputs of one number each. Shapes, and errors, are
        otherwise those of `Data`.
        """
        x = _numbers(x, name or "data", "x")
        if x.ndim == 1:
            x = x[:, None]
        return cls(append_one(x) if bias and x.ndim == 2 else x, np.asarray(y), bias, name)

    @property
    def examples(self) -> int:
        """The number n of examples."""
        return len(self.y)

    @property
    def dimension(self) -> int:
        """The length d of an input, the bias included."""
        return self.x.shape[1]


def append_one(x: Float[ndarray, "n d"]) -> Float[ndarray, "n d+1"]:
    """The inputs with a 1 appended to each."""
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _numbers(array: ArrayLike, source: str, name: str) -> ndarray:
    """A fresh float64 array of finite numbers."""
    try:
        raw = np.asarray(array)
        if raw.dtype.kind not in "fiub":
            raise TypeError
        numbers = np.array(raw, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        raise PolarflowError(
            f"{source}: {name} is not an array of real numbers with rows of equal length."
        ) from None
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        place = "".join(f"[{i}]" for i in bad[0])
        raise PolarflowError(
            f"{source}: {name}{place} = {numbers[tuple(bad[0])]}; every number must be finite."
        )
    return numbers
