"""Radau IIA collocation: nodes, matrices, and polynomials through nodal values."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy import ndarray


@dataclass(frozen=True, eq=False)
class Collocation:
    """Nodes in (0, 1], the Runge-Kutta matrix, polynomial coefficients from nodal values."""

    node: ndarray
    matrix: ndarray
    coefficient: ndarray

    @cached_property
    def grid(self) -> ndarray:
        """The start and the nodes."""
        return np.append(0.0, self.node)

    @cached_property
    def slope(self) -> ndarray:
        """The derivatives at the nodes, from the nodal values less the start's."""
        return np.linalg.inv(self.matrix)

    @cached_property
    def between(self) -> float:
        r"""The largest error inside a step, for a derivative that is off by one at its start.

        The polynomial u of collocation has u' - f = c \prod (t - c_i) to leading order, so that
        the defect at 0 tells that of the whole step.
        """
        product = np.polynomial.Polynomial.fromroots(self.node)
        error = product.integ()(np.linspace(0.0, 1.0, 400)) / product(0.0)
        return float(np.abs(error - error[0]).max())

    @cached_property
    def monomials(self) -> ndarray:
        """Coefficients of powers, from the values on `grid`."""
        return np.linalg.inv(self.grid[:, None] ** np.arange(len(self.grid)))

    def through(self, position: ndarray) -> ndarray:
        """Values at positions, of the polynomial through those on `grid`: a matrix."""
        return interpolation(self.grid, position)


def interpolation(grid: ndarray, position: ndarray) -> ndarray:
    """The matrix from values on a grid to those of the polynomial through them at positions."""
    gap = np.subtract.outer(grid, grid)
    np.fill_diagonal(gap, 1.0)
    weight = 1.0 / np.prod(gap, axis=1)
    away = np.subtract.outer(position, grid)
    hit = away == 0.0
    share = weight / np.where(hit, 1.0, away)
    share[hit.any(axis=1)] = hit[hit.any(axis=1)]
    matrix: ndarray = share / share.sum(axis=1, keepdims=True)
    return matrix


@cache
def radau(stages: int) -> Collocation:
    """The Radau IIA method of order 2 * stages - 1."""
    from scipy.special import roots_jacobi

    inner, _ = roots_jacobi(stages - 1, 1.0, 0.0)
    node = np.append((inner + 1.0) / 2.0, 1.0)
    power = np.arange(stages)
    coefficient = np.linalg.inv(node[:, None] ** power)
    integral = node[:, None] ** (power + 1) / (power + 1)
    return Collocation(node, integral @ coefficient, coefficient)
