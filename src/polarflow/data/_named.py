"""Data sets known by name: the papers' toy sets, a teacher and its students, real digits."""

from collections.abc import Sequence

import numpy as np

from ..errors import PolarflowError
from ._base import Data

#: Streams of random numbers drawn from one seed are told apart by a key.
_DATA_STREAM = 0

_TOY: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    # Boursier, Pillaud-Vivien & Flammarion (2022), figures 2 and 3; and figures 4 and 5.
    "two-points": ((-0.5, 2.0), (-1.0, 1.0)),
    "five-points": ((-1.5, -1.0, 0.0, 0.25, 2.0), (0.7, -0.3, -0.3, 0.4, 0.2)),
    "three-points": ((-0.75, -0.5, 0.125), (1.1, 0.1, 0.8)),
}

#: The names that `named` and a spec's `data.name` know.
NAMED = (*_TOY, "teacher-student", "digits")


def named(name: str, bias: bool = True) -> Data:
    """A toy set of points on the line.

    - `"two-points"`: x = -0.5, 2 and y = -1, 1, orthogonal once the bias is appended
      (Boursier et al., 2022, figures 2 and 3).
    - `"five-points"`: x = -1.5, -1, 0, 0.25, 2 and y = 0.7, -0.3, -0.3, 0.4, 0.2
      (figures 4 and 5 of the same paper).
    - `"three-points"`: x = -0.75, -0.5, 0.125 and y = 1.1, 0.1, 0.8.

    **Arguments:**

    - `name`: one of the above.
    - `bias`: append a 1 to every input.
    """
    if name not in _TOY:
        raise PolarflowError(
            f"data.name is {name!r}; the toy sets are {', '.join(map(repr, _TOY))}."
        )
    x, y = _TOY[name]
    return Data.from_arrays(x, y, bias, name)


def teacher_student(
    examples: int = 75,
    dimension: int = 150,
    teacher_width: int = 6,
    bias: bool = False,
    seed: int = 0,
) -> Data:
    r"""Gaussian inputs labelled by a random two-layer ReLU teacher.

    $y_k = \sum_{j \le p} a_j \max(0, w_j \cdot x_k)$ with $w_j \sim N(0, I/(p d))$,
    $a_j \sim N(0, 1/p)$ and $x_k \sim N(0, I_d)$, d with the bias included and p the teacher's
    width. The defaults are those of Boursier et al. (2022), figures 6 and 7, whose d = 150 has no
    bias.

    **Arguments:**

    - `examples`: the number n of examples.
    - `dimension`: the length of an input before bias.
    - `teacher_width`: the number p of the teacher's neurons.
    - `bias`: append a 1 to every input, before the teacher labels it.
    - `seed`: of the generator `numpy.random.default_rng([seed, 0])`, which draws first the
      teacher's p x d weights row by row, then its p outputs, then the inputs row by row.
    """
    for key, value in (
        ("examples", examples),
        ("dimension", dimension),
        ("teacher_width", teacher_width),
    ):
        if value < 1:
            raise PolarflowError(f"data.{key} is {value}; it must be at least 1.")
    rng = np.random.default_rng([seed, _DATA_STREAM])
    d = dimension + bias
    weights = rng.standard_normal((teacher_width, d)) / np.sqrt(teacher_width * d)
    outputs = rng.standard_normal(teacher_width) / np.sqrt(teacher_width)
    inputs = Data.from_arrays(
        rng.standard_normal((examples, dimension)), np.zeros(examples), bias
    ).x
    return Data(inputs, np.maximum(inputs @ weights.T, 0.0) @ outputs, bias, "teacher-student")


def digits(
    classes: Sequence[int] = (0, 1),
    count: int = 100,
    centre: bool = False,
    normalise: bool = False,
    bias: bool = False,
    seed: int = 0,
) -> Data:
    """Handwritten digits of two classes, 8 x 8 pixels, with labels -1 and +1.

    The images are those of scikit-learn's `load_digits`, pixels divided by 16 so that they lie in
    [0, 1]. Of each class, half of `count` images are drawn without replacement (the first class has
    one more if `count` is odd), and the two halves are shuffled together.

    **Arguments:**

    - `classes`: two different digits; the first has label -1, the second +1.
    - `count`: the number n of examples.
    - `centre`: subtract the mean of the n chosen images.
    - `normalise`: divide every image by its Euclidean norm, after centring.
    - `bias`: append a 1 to every image.
    - `seed`: of the generator `numpy.random.default_rng([seed, 0])`, which draws the images of the
      first class, then those of the second, then the order.
    """
    first, second = _two_digits(classes)
    if count < 2:
        raise PolarflowError(f"data.count is {count}; it must be at least 2, one of each class.")
    from sklearn.datasets import load_digits  # costs a second

    images, targets = load_digits(return_X_y=True)
    rng = np.random.default_rng([seed, _DATA_STREAM])
    chosen = []
    for digit, wanted in ((first, count - count // 2), (second, count // 2)):
        of_class = np.flatnonzero(targets == digit)
        if wanted > len(of_class):
            raise PolarflowError(
                f"data.count is {count}, which asks for {wanted} images of the digit {digit}; "
                f"there are {len(of_class)}."
            )
        chosen.append(rng.choice(of_class, size=wanted, replace=False))
    index = rng.permutation(np.concatenate(chosen))
    x = images[index] / 16.0
    if centre:
        x = x - x.mean(axis=0)
    if normalise:
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        if (norm == 0.0).any():
            raise PolarflowError("data.normalise: a centred image is zero and has no direction.")
        x = x / norm
    return Data.from_arrays(x, np.where(targets[index] == second, 1.0, -1.0), bias, "digits")


def _two_digits(classes: Sequence[int]) -> tuple[int, int]:
    if len(classes) != 2 or classes[0] == classes[1] or not set(classes) <= set(range(10)):
        raise PolarflowError(
            f"data.classes is {list(classes)}; it must hold two different digits from 0 to 9."
        )
    return classes[0], classes[1]
