"""The second-order cone program of the least variation norm; patterns enter as columns."""

from dataclasses import dataclass
from time import perf_counter
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..ncf._peaks import Peak, activity, climb, highest
from ..ncf._regions import LARGEST, most_regions, regions
from ._atoms import Atoms, atoms_of, polished
from ._minimum import VariationMinimum

#: Relative duality gap at which columns stop.
_GAP = 1e-9
_ROUNDS = 60
#: How long a program may take by default, in seconds.
PATIENCE = 300.0
#: A pattern that is in no neuron of so many masters is forgotten.
_IDLE = 2
#: So many patterns are there at the start, besides hints, and those of peaks of the labels' NCF.
_FIRST = 16
#: Directions and kinks that are so near are tried as one, from an interior-point solution.
_NEAR = (1e-5, 1e-4, 1e-3, 1e-6)
#: Neurons of less than this share of the norm are rounding of the interior-point method.
_SHARE = 1e-7
#: A network fits to this part of its terms.
_FITS = 1e-11
#: A gap that is rounding.
_ROUNDING = 1e-13
#: The angle by which a linear program's neurons are spread, and the most of them.
_SPREAD = 1e-3
_LONGEST = 4000


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
        seconds: float = PATIENCE,
    ) -> None:
        self.seconds = seconds
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
        self.idle: list[int] = []
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
            self.idle.append(0)
        return new

    def _drop_idle(self, weights: ndarray) -> None:
        """Forget patterns without a neuron in the last masters: they make these slow."""
        size = np.linalg.norm(weights, axis=1)
        used = size > _SHARE * size.sum()
        self.idle = [0 if u else i + 1 for u, i in zip(used, self.idle, strict=True)]
        kept = [k for k, i in enumerate(self.idle) if i <= _IDLE]
        self.patterns = [self.patterns[k] for k in kept]
        self.idle = [self.idle[k] for k in kept]

    def solve(self) -> VariationMinimum:
        end = perf_counter() + self.seconds
        best: tuple[float, VariationMinimum] | None = None
        lowest = np.inf
        for attempt in range(_ROUNDS):
            solved = self._master()
            if solved is None:
                self._widen(attempt)
                continue
            weights, nu = solved
            result, merit = self._result(weights, nu)
            if best is None or merit < best[0]:
                best = merit, result
            if merit <= _GAP or perf_counter() > end:
                return best[1]
            # Only where the master fell, so that no pattern comes and goes for ever.
            if result.value < lowest * (1.0 - _GAP):
                self._drop_idle(weights)
            lowest = min(lowest, result.value)
            grew = False
            for sign, found in self.columns:
                grew |= self._add(sign, found.active)
            if not grew:
                return best[1]
        if best is not None:
            return best[1]
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
        """The best network and the best bound from a solution, and their relative gap."""
        size = np.linalg.norm(weights, axis=1)
        kept = size > _SHARE * size.sum()
        self.used = weights[kept]
        signs = np.array([s for s, _ in self.patterns])[kept]
        self._forget(nu)
        given = signs, self.used
        columns: list[tuple[float, Peak]] = []
        if not kept.any():  # labels that are all zero
            none = np.zeros((0, self.basis.shape[1]))
            found = _Network(np.zeros(0), np.zeros(0), none, 0.0)
            return self._minimum(found), 0.0
        for near in _NEAR:
            atoms = atoms_of(signs, self.used, self.x, self.slope, near)
            columns += self._try(atoms, nu)
            if self._gap() < _ROUNDING:
                break
        else:
            # No system of equations tells masses that are not unique, or neurons beside a kink.
            for near, spread in ((0.0, _SPREAD), (_NEAR[0], 0.1 * _SPREAD)):
                vertex = self._vertex(signs, self.used, spread)
                if vertex is None:
                    continue
                signs, self.used, dual = vertex
                columns += self._bound(dual)
                for within in (near, *_NEAR):
                    atoms = atoms_of(signs, self.used, self.x, self.slope, within)
                    columns += self._try(atoms, dual)
                if self._gap() < _ROUNDING:
                    break
        if self.best is None:  # as the solver left it, with its violation
            raw = atoms_of(*given, self.x, self.slope, _NEAR[-1])
            self._keep(raw.sign, raw.mass, raw.direction, np.inf)
            columns += self._bound(nu)
        assert self.best is not None
        self.columns = columns
        result = self._minimum(self.best)
        return result, abs(result.gap) / result.value if result.value > 0.0 else 0.0

    def _forget(self, nu: ndarray) -> None:
        self.best: _Network | None = None
        self.bound, self.dual, self.height = 0.0, nu, 0.0

    def _minimum(self, best: "_Network") -> VariationMinimum:
        return VariationMinimum(
            value=float(best.mass.sum()),
            sign=best.sign,
            mass=best.mass,
            direction=best.direction @ self.basis,
            dual=self.dual,
            height=self.height,
            dual_value=self.bound,
            exact=self.exact or len(best.mass) == 0,
            violation=best.violation,
            slope=self.slope,
        )

    def _gap(self) -> float:
        if self.best is None:
            return np.inf
        if not self.best.mass.any():
            return 0.0
        return abs(float(self.best.mass.sum()) - self.bound) / float(self.best.mass.sum())

    def _try(self, atoms: Atoms, nu: ndarray) -> list[tuple[float, Peak]]:
        """Keep the network and the bound that equations on atoms give, if they are better."""
        exact = polished(atoms, nu, self.x, self.y, self.slope, self.margin)
        if exact is None:
            return []
        mass, direction, dual = exact
        self._keep(atoms.sign, mass, direction)
        return self._bound(dual)

    def _keep(self, sign: ndarray, mass: ndarray, direction: ndarray, fits: float = _FITS) -> None:
        """A network, if it fits to that part of its terms and is the cheapest so far."""
        z = self.x @ direction.T
        outputs = np.maximum(z, self.slope * z) * sign
        for _ in range(2):  # what was lost to cancellation between masses of both signs
            missed = self._missed(outputs @ mass)
            better = np.maximum(mass - np.linalg.lstsq(outputs, missed, rcond=1e-13)[0], 0.0)
            if np.abs(self._missed(outputs @ better)).max() < np.abs(missed).max(initial=0.0):
                mass = better
        missed = self._missed(outputs @ mass)
        violation = float(np.max(np.abs(missed), initial=0.0))
        # Masses of both signs cancel: what is rounding grows with them.
        largest = float(np.abs(self.y).max()) if not self.margin else 1.0
        if violation > fits * max(largest, float(mass.sum()) * np.abs(z).max(initial=0.0)):
            return
        if self.best is None or mass.sum() < self.best.mass.sum():
            self.best = _Network(sign, mass, direction, violation)

    def _missed(self, output: ndarray) -> ndarray:
        """What outputs are beyond labels, or short of a margin of one, in units of labels."""
        if self.margin:
            return np.asarray(-np.maximum(1.0 - self.y * output, 0.0) / self.y)
        return np.asarray(output - self.y)

    def _bound(self, dual: ndarray) -> list[tuple[float, Peak]]:
        """The lower bound of multipliers, kept if it is the best; the patterns that violate it."""
        height = self._heights(dual)
        value = float(dual @ (1.0 / self.y) if self.margin else dual @ self.y)
        if height > 0.0 and value / height > self.bound:
            self.bound, self.dual, self.height = value / height, dual, height
            return self.columns
        return []

    def _vertex(
        self, signs: ndarray, weights: ndarray, spread: float
    ) -> tuple[ndarray, ndarray, ndarray] | None:
        """The cheapest network of directions near those given: signs, vectors, multipliers.

        A linear program over the given neurons and others at a small angle, which fits whatever
        the accuracy of the given ones, with no more neurons than examples.
        """
        from scipy.optimize import linprog

        unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
        d = unit.shape[1]
        if len(unit) * (2 * d + 1) > _LONGEST:
            return None
        beside = [unit + spread * side * axis for axis in np.eye(d) for side in (1.0, -1.0)]
        u = np.concatenate([unit, *beside])
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        sign = np.tile(signs, 2 * d + 1)
        z = self.x @ u.T
        outputs = np.maximum(z, self.slope * z) * sign
        if self.margin:
            fit = {"A_ub": -self.y[:, None] * outputs, "b_ub": -np.ones(len(self.y))}
        else:
            fit = {"A_eq": outputs, "b_eq": self.y}
        options = dict.fromkeys(
            ("primal_feasibility_tolerance", "dual_feasibility_tolerance"), 1e-10
        )
        solved = linprog(np.ones(len(u)), **fit, method="highs-ds", options=options)
        if solved.x is None or solved.status != 0:
            return None
        chosen = np.flatnonzero(solved.x > 0.0)
        if self.margin:
            weight = np.maximum(-solved.ineqlin.marginals, 0.0)
            tight, dual = weight > 0.0, weight * self.y
            target = (1.0 / self.y)[tight]
        else:
            dual = np.asarray(solved.eqlin.marginals)
            tight, target = np.ones(len(self.y), dtype=bool), self.y
        # Once more, to rounding.
        mass = np.linalg.lstsq(outputs[np.ix_(tight, chosen)], target, rcond=1e-14)[0]
        if (mass >= 0.0).all():
            self._keep(sign[chosen], mass, u[chosen])
        else:
            mass = solved.x[chosen]
        return sign[chosen], mass[:, None] * u[chosen], dual


@dataclass(frozen=True)
class _Network:
    """Neurons that fit: signs, masses, directions in the basis, and the largest violation."""

    sign: ndarray
    mass: ndarray
    direction: ndarray
    violation: float
