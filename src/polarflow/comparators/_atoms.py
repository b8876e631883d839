"""The neurons of a solution of the program of the least variation norm, taken to rounding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from ..ncf._peaks import activity


@dataclass(frozen=True)
class Atoms:
    """Neurons of different sign, direction or pattern, and the kinks that they lie on."""

    sign: ndarray
    mass: ndarray
    direction: ndarray
    active: ndarray
    kinks: Sequence[ndarray]


def atoms_of(sign: ndarray, weights: ndarray, x: ndarray, slope: float, near: float) -> Atoms:
    """Vectors of the patterns as neurons; directions and kinks that are near are one."""
    size = np.linalg.norm(weights, axis=1)
    unit = weights / np.where(size > 0, size, 1.0)[:, None]
    left, groups = list(np.argsort(-size)), []
    while left:
        first = left[0]
        same = [j for j in left if sign[j] == sign[first]
                and np.linalg.norm(unit[j] - unit[first]) <= near]  # fmt: skip
        left = [j for j in left if j not in same]
        groups.append(same)
    total = np.array([weights[g].sum(axis=0) for g in groups]).reshape(-1, x.shape[1])
    mass = np.linalg.norm(total, axis=1)
    direction = total / np.where(mass > 0, mass, 1.0)[:, None]
    z = direction @ x.T
    kinks = [np.flatnonzero(np.abs(row) < near * np.linalg.norm(x, axis=1)) for row in z]
    return Atoms(
        sign[[g[0] for g in groups]], mass, direction, activity(direction, x, slope), kinks
    )


def polished(
    atoms: Atoms, nu: ndarray, x: ndarray, y: ndarray, slope: float, margin: bool
) -> tuple[ndarray, ndarray, ndarray] | None:
    r"""The solution to rounding, by Newton's method on the optimality conditions.

    A neuron of sign s is $u = s P \sum_k \nu_k s'_k x_k$ with $|u| = 1$, P the projection onto
    the kinks that it lies on; masses c and multipliers $\nu$ are the unknowns. The systems are
    solved by least squares, since masses need not be unique. None if that leads to no network.
    """
    force = []
    for active, kinks in zip(atoms.active, atoms.kinks, strict=True):
        columns = (active[:, None] * x).T
        if len(kinks):
            q = np.linalg.svd(x[kinks], full_matrices=False)
            span = q[2][q[1] > 1e-9 * q[1][0]]
            columns = columns - span.T @ (span @ columns)
        force.append(columns)
    if not force:
        return None
    columns = np.array(force)
    fitted = np.abs(nu) > 1e-7 * np.abs(nu).max() if margin else np.ones(len(y), dtype=bool)
    target = (1.0 / y[fitted]) if margin else y
    mass, dual = atoms.mass.copy(), np.where(fitted, nu, 0.0)[fitted]
    columns = columns[:, :, fitted]
    outputs = np.einsum("jk,kc,jcl->jkl", atoms.active[:, fitted], x[fitted], columns)
    for _ in range(12):
        direction = columns @ dual
        fit = np.einsum("j,jkl,l->k", mass, outputs, dual) - target
        unit = 0.5 * (np.sum(direction**2, axis=1) - 1.0)
        by_mass = (outputs @ dual).T
        by_dual = np.einsum("j,jkl->kl", mass, outputs)
        norms = np.einsum("jc,jcl->jl", direction, columns)
        zero = np.zeros((len(mass), len(mass)))
        matrix = np.block([[by_mass, by_dual], [zero, norms]])
        step = np.linalg.lstsq(matrix, -np.concatenate([fit, unit]), rcond=1e-12)[0]
        mass, dual = mass + step[: len(mass)], dual + step[len(mass) :]
        if np.abs(step).max() < 1e-15 * max(1.0, np.abs(mass).max(), np.abs(dual).max()):
            break
    if not (np.isfinite(mass).all() and (mass >= 0.0).all()):
        return None
    direction = atoms.sign[:, None] * (columns @ dual)
    size = np.linalg.norm(direction, axis=1)
    if (np.abs(size - 1.0) > 1e-9).any():
        return None
    full = np.zeros(len(y))
    full[fitted] = dual
    return mass, direction / size[:, None], full
