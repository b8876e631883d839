"""The second-order cone program of the least variation norm; patterns enter as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..ncf._peaks import Peak, activity, climb, highest
from ..ncf._regions import LARGEST, most_regions, regions
from ._minimum import VariationMinimum

#: Relative duality gap at which columns stop.
_GAP = 1e-9
_ROUNDS = 60
#: So many patterns are there at the start, besides hints, and those of peaks of the labels' NCF.
_FIRST = 16
#: Directions and kinks that are so near are tried as one, from an interior-point solution.
_NEAR = (1e-5, 1e-4, 1e-3, 1e-6)
#: Neurons of less than this share of the norm are rounding of the interior-point method.
_SHARE = 1e-7


class Program:
    """One program: its patterns so far, and the loop over columns."""

    def __init__(
        self,
        x: ndarray,
        y: ndarray,
        slope: float,
        margin: bool,
        hints: ndarray | None,
        samples: int,
        seed: int,
    ) -> None:
        if y.ndim != 1:
            raise PolarflowError("data.y has several columns; the program needs one output.")
        _, sigma, vt = np.linalg.svd(x, full_matrices=False)
        self.basis = vt[sigma > 1e-13 * max(sigma.max(initial=0.0), 1e-300)]
        self.x, self.y, self.slope, self.margin = x @ self.basis.T, y, slope, margin
        rng = np.random.default_rng([seed, 3])
        start = [self.x, -self.x, rng.standard_normal((samples, len(self.basis)))]
        if hints is not None:
            start.insert(0, hints @ self.basis.T)
        self.starts = np.concatenate(start)
        self.exact = most_regions(self.x) <= LARGEST
        given = activity(self.starts, self.x, slope)
        self.all = activity(regions(self.x), self.x, slope) if self.exact else given
        self.patterns: list[tuple[float, ndarray]] = []
        self.used = np.zeros((0, len(self.basis)))
        count = _FIRST + (len(hints) if hints is not None else 0)
        for sign in (1.0, -1.0):
            for active in self.all if len(self.all) <= 3 * _FIRST else given[:count]:
                self._add(sign, active)
            for u in self._climbers(sign * y, _FIRST):
                self._add(sign, climb(u, self.x, sign * y, slope).active)

    def _add(self, sign: float, active: ndarray) -> bool:
        new = not any(s == sign and np.array_equal(active, a) for s, a in self.patterns)
        if new:
            self.patterns.append((sign, active))
        return new

    def solve(self) -> VariationMinimum:
        for attempt in range(_ROUNDS):
            solved = self._master()
            if solved is None:
                self._widen(attempt)
                continue
            weights, nu = solved
            result, merit = self._result(weights, nu)
            if merit <= _GAP:
                return result
            grew = False
            for sign, found in self.columns:
                grew |= self._add(sign, found.active)
            if not grew:
                return result
        raise PolarflowError(f"The program did not converge within {_ROUNDS} rounds of columns.")

    def _widen(self, attempt: int) -> None:
        """More patterns where those at hand can't meet the constraints."""
        before = len(self.patterns)
        for active in self.all[: 50 * 4**attempt]:
            for sign in (1.0, -1.0):
                self._add(sign, active)
        if len(self.patterns) == before:
            what = "has positive margins on" if self.margin else "interpolates"
            raise PolarflowError(f"No two-layer network of this activation {what} the data.")

    def _master(self) -> tuple[ndarray, ndarray] | None:
        """The program over the patterns at hand: the vector of each, and the multipliers."""
        import cvxpy as cp

        x, y = self.x, self.y
        active = np.array([a for _, a in self.patterns])
        sign = np.array([s for s, _ in self.patterns])
        v = cp.Variable((len(active), x.shape[1]))
        z = v @ x.T
        facing = np.where(active > self.slope, 1.0, -1.0)
        output = cp.sum(cp.multiply(sign[:, None] * active, z), axis=0)
        scale = float(np.max(np.abs(y), initial=0.0)) or 1.0
        fit = cp.multiply(y / scale, output) >= 1.0 if self.margin else output == y / scale
        task = cp.Problem(
            cp.Minimize(cp.sum(cp.norm(v, axis=1))), [fit, cp.multiply(facing, z) >= 0.0]
        )
        accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
        try:
            with catch_warnings():
                # Whether the solution is accurate enough, the duality gap tells.
                simplefilter("ignore", UserWarning)
                task.solve(solver="CLARABEL", **accuracy)
        except cp.SolverError:
            return None
        if v.value is None or fit.dual_value is None or "infeasible" in task.status:
            return None
        nu = np.asarray(fit.dual_value, dtype=float)
        weights = np.asarray(v.value) * (1.0 / scale if self.margin else scale)
        if self.margin:
            return weights, nu * np.sign(y) * (np.abs(y) / scale)
        # The sign of an equality's multiplier is the solver's choice.
        return weights, nu if nu @ y >= 0 else -nu

    def _heights(self, nu: ndarray) -> float:
        """The largest |NCF| of nu; the peaks that violate the bound are kept as columns."""
        self.columns: list[tuple[float, Peak]] = []
        height = 0.0
        for sign in (1.0, -1.0):
            z = sign * nu
            if self.exact:
                peaks = highest(self.all, self.x, z, self.slope, 1.0 + 0.1 * _GAP)
            else:
                climbed = [climb(u, self.x, z, self.slope) for u in self._climbers(z)]
                peaks = sorted(climbed, key=lambda p: -p.value)
            height = max(height, peaks[0].value)
            self.columns += [(sign, p) for p in peaks if p.value > 1.0]
        return height

    def _climbers(self, z: ndarray, count: int = 16) -> ndarray:
        """The starts with the largest NCF, and those of the patterns in use."""
        pre = self.starts @ self.x.T
        size = np.linalg.norm(self.starts, axis=1)
        value = (np.maximum(pre, self.slope * pre) @ z) / np.where(size > 0, size, 1.0)
        return np.concatenate([self.starts[np.argsort(-value)[:count]], self.used])

    def _result(self, weights: ndarray, nu: ndarray) -> tuple[VariationMinimum, float]:
        """The best network from a solution, and its relative gap and violation together."""
        size = np.linalg.norm(weights, axis=1)
        kept = size > _SHARE * size.sum()
        self.used = weights[kept]
        best: VariationMinimum | None = None
        signs = np.array([s for s, _ in self.patterns])[kept]
        worst, columns = np.inf, []
        for near in _NEAR:
            atoms = _atoms(signs, self.used, self.x, self.slope, near)
            polished = _polished(atoms, nu, self.x, self.y, self.slope, self.margin)
            if polished is None:
                if near != _NEAR[-1] or best is not None:
                    continue
                polished = (atoms.mass, atoms.direction, nu)
            sign, (mass, direction, dual) = atoms.sign, polished
            height = self._heights(dual)
            if height == 0.0:
                continue
            bound = dual @ (1.0 / self.y) if self.margin else dual @ self.y
            z = self.x @ direction.T
            output = np.maximum(z, self.slope * z) @ (sign * mass)
            missed = np.maximum(1.0 - self.y * output, 0.0) if self.margin else output - self.y
            found = VariationMinimum(
                value=float(mass.sum()),
                sign=sign,
                mass=mass,
                direction=direction @ self.basis,
                dual=dual,
                height=height,
                dual_value=float(bound / height),
                exact=self.exact,
                violation=float(np.max(np.abs(missed), initial=0.0)),
                slope=self.slope,
            )
            merit = abs(found.gap) / found.value + found.violation / np.abs(self.y).max()
            if merit < worst:
                worst, best, columns = merit, found, self.columns
            if merit < 1e-13:
                break
        if best is None:  # labels that are all zero
            empty = np.zeros(0)
            none = np.zeros((0, self.basis.shape[1]))
            best = VariationMinimum(0.0, empty, empty, none, nu, 0.0, 0.0, True, 0.0, self.slope)
            worst = 0.0
        self.columns = columns
        return best, worst


@dataclass(frozen=True)
class _Atoms:
    """Neurons of different sign, direction or pattern, and the kinks that they lie on."""

    sign: ndarray
    mass: ndarray
    direction: ndarray
    active: ndarray
    kinks: Sequence[ndarray]


def _atoms(sign: ndarray, weights: ndarray, x: ndarray, slope: float, near: float) -> _Atoms:
    """Vectors of the patterns as neurons; directions and kinks that are near are one."""
    size = np.linalg.norm(weights, axis=1)
    unit = weights / np.where(size > 0, size, 1.0)[:, None]
    left, groups = list(np.argsort(-size)), []
    while left:
        first = left[0]
        same = [j for j in left if sign[j] == sign[first]
                and np.linalg.norm(unit[j] - unit[first]) < near]  # fmt: skip
        left = [j for j in left if j not in same]
        groups.append(same)
    total = np.array([weights[g].sum(axis=0) for g in groups]).reshape(-1, x.shape[1])
    mass = np.linalg.norm(total, axis=1)
    direction = total / np.where(mass > 0, mass, 1.0)[:, None]
    z = direction @ x.T
    kinks = [np.flatnonzero(np.abs(row) < near * np.linalg.norm(x, axis=1)) for row in z]
    return _Atoms(
        sign[[g[0] for g in groups]], mass, direction, activity(direction, x, slope), kinks
    )


def _polished(
    atoms: _Atoms, nu: ndarray, x: ndarray, y: ndarray, slope: float, margin: bool
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
