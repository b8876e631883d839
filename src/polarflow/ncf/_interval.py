"""The Krawczyk test: a proof in ball arithmetic that a box holds exactly one zero of a system."""

from collections.abc import Callable, Sequence

import numpy as np
from flint import arb, arb_mat, ctx
from numpy import ndarray

#: Bits of the ball arithmetic: products of two floats are exact.
PRECISION = 128
#: Half widths of the boxes that are tried, the smallest first.
RADII = (1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7)

Balls = list[arb]


def proves(
    system: Callable[[Balls], Balls],
    jacobian: Callable[[Balls], Sequence[Sequence[arb]]],
    guess: Sequence[float],
    holds: Callable[[Balls], bool],
) -> float | None:
    """The half width of a box around the guess that is proved to hold one zero and no other.

    Krawczyk (1969), Moore (1977): with Y the box around y, C a matrix near the inverse of the
    Jacobian, and K(Y) = y - C F(y) + (I - C F'(Y))(Y - y): if K(Y) lies inside Y, then Y has
    exactly one zero of F.

    **Arguments:**

    - `system`: F, from q balls to q balls.
    - `jacobian`: F', from q balls to q rows of q balls.
    - `guess`: q numbers near a zero.
    - `holds`: what must be true of every point of the box besides.

    **Returns:** the half width, or None where no box of `RADII` passes.
    """
    with ctx.workprec(PRECISION):
        centre = [arb(float(value)) for value in guess]
        floats = np.array([[float(e.mid()) for e in row] for row in jacobian(centre)])
        inverse = _inverse(floats)
        if inverse is None:
            return None
        near = arb_mat([[arb(float(e)) for e in row] for row in inverse])
        q = len(centre)
        newton = near * arb_mat([[value] for value in system(centre)])
        for radius in RADII:
            box = [arb(c, radius) for c in centre]
            if not holds(box):
                return None
            defect = near * arb_mat([list(row) for row in jacobian(box)])
            shift = arb_mat([[arb(0, radius)] for _ in range(q)])
            identity = arb_mat([[arb(int(i == j)) for j in range(q)] for i in range(q)])
            image = (identity - defect) * shift - newton
            if all(box[i].contains_interior(centre[i] + image[i, 0]) for i in range(q)):
                return radius
    return None


def _inverse(matrix: ndarray) -> ndarray | None:
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    return inverse if np.isfinite(inverse).all() else None
