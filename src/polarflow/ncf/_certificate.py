"""Certificates: what is proved of a KKT point in ball arithmetic, and Euler's identity."""

from dataclasses import replace

import numpy as np
from flint import arb, arb_mat, ctx
from jaxtyping import Float
from numpy import ndarray

from ._interval import PRECISION, Balls, proves
from ._points import KKTPoint
from ._subdifferential import independent

#: A kink's multiplier this close to an end of its interval may be at the end, and an example of
#: relative pre-activation this small on its kink.
NEAR_END = 1e-9


class NeuronCertifier:
    """Certifies KKT points of one neuron, with the examples as exact numbers.

    **Arguments:**

    - `x`: inputs, shape `(n, d)`.
    - `z`: shape `(n,)`.
    - `slope`: of the activation for negative arguments.
    """

    def __init__(self, x: Float[ndarray, "n d"], z: Float[ndarray, " n"], slope: float) -> None:
        self.x, self.z, self.slope = x, z, slope
        self._live = (z != 0) & x.any(axis=1)
        # z s(w.x) - z s(-w.x) is linear: which of the two is on makes no difference.
        self._linear = _opposites(x, z, -1.0)
        # z max(0, u.x)^2 + z max(0, -u.x)^2 is a square: exactly one of the two is on.
        self._square = _opposites(x, z, 1.0)
        with ctx.workprec(PRECISION):
            self._inputs = arb_mat([[arb(float(v)) for v in row] for row in x])
            self._slope = arb(float(slope))

    def two_layer(self, point: KKTPoint) -> tuple[bool | None, float | None]:
        """Whether one KKT point of a s(w.x) lies near, with its pattern and its kinks.

        Unknown are a, w, the multiplier lambda and a slope s_k for every kink:

            D.w = lambda a,  a (D + sum_k s_k z_k x_k) = lambda w,  |(a, w)| = 1,  w.x_k = 0,

        D the sum over the examples off the kinks; and the signs of w.x_k are those of the
        pattern, and s_k lies between the slopes, throughout the box.
        """
        held = point.on_kinks
        kinks = self.x[list(held)]
        if point.dimension or (held and not _plain(kinks)):
            return None, None
        a, w = point.direction[0], point.direction[1:]
        if held and point.kink_multipliers is None or self._grazes(w, (*held, *self._linear.flat)):
            return None, None
        slopes = point.kink_multipliers or ()
        low = min(self.slope, 1.0) + NEAR_END
        if held and (a == 0.0 or not all(low < s < 1.0 - NEAR_END for s in slopes)):
            return None, None  # any slope will do, or one at its end, which no box shows
        s = self._pattern(w, held, self._linear)
        with ctx.workprec(PRECISION):
            force = self._force(s)
            pulls = [[arb(float(self.z[k])) * arb(float(v)) for v in self.x[k]] for k in held]
            inputs = [[arb(float(v)) for v in self.x[k]] for k in held]
        d, q = len(w), len(held)
        zero = arb(0)

        def total(y: Balls) -> Balls:
            return [
                force[i] + sum((y[d + 2 + j] * pulls[j][i] for j in range(q)), zero)
                for i in range(d)
            ]

        def system(y: Balls) -> Balls:
            a, w, lam = y[0], y[1 : d + 1], y[d + 1]
            pulled = total(y)
            norm = a * a + sum((v * v for v in w), zero)
            return [
                _dot(force, w) - lam * a,
                *(a * pulled[i] - lam * w[i] for i in range(d)),
                (1 - norm) / 2,
                *(_dot(inputs[j], w) for j in range(q)),
            ]

        def jacobian(y: Balls) -> list[Balls]:
            a, w, lam = y[0], y[1 : d + 1], y[d + 1]
            pulled = total(y)
            rows = [[-lam, *force, -a, *([zero] * q)]]
            for i in range(d):
                across = [-lam if c == i else zero for c in range(d)]
                rows.append([pulled[i], *across, -w[i], *(a * pulls[j][i] for j in range(q))])
            rows.append([-a, *(-v for v in w), zero, *([zero] * q)])
            rows += [[zero, *inputs[j], zero, *([zero] * q)] for j in range(q)]
            return rows

        def holds(y: Balls) -> bool:
            low, high = min(self._slope, arb(1)), arb(1)
            inside = all(low < y[d + 2 + j] and y[d + 2 + j] < high for j in range(q))
            return inside and self._keeps(y[1 : d + 1], s, (*held, *self._linear.flat))

        multiplier = 2.0 * point.value
        guess = [a, *w, multiplier, *slopes]
        radius = proves(system, jacobian, guess, holds)
        return radius is not None, radius

    def squared(self, point: KKTPoint, sign: int) -> tuple[bool | None, float | None]:
        """Whether one KKT point of sign * max(0, u.x)^2 lies near, with its pattern.

        Unknown are u and lambda: M u = lambda u and |u| = 1, M = sign sum_k z_k x_k x_k^T over the
        active examples.
        """
        if point.dimension or point.on_kinks:
            return None, None
        u = point.direction
        if self._grazes(u, tuple(self._square.flat)):
            return None, None
        s = self._pattern(u, (), self._square)
        d = len(u)
        with ctx.workprec(PRECISION):
            active = np.flatnonzero(s == 1.0)
            matrix = [[arb(0)] * d for _ in range(d)]
            if len(active):
                rows = arb_mat([[self._inputs[int(k), c] for c in range(d)] for k in active])
                weights = [arb(float(sign * self.z[k])) for k in active]
                scaled = arb_mat(
                    [[weights[i] * rows[i, c] for c in range(d)] for i in range(len(active))]
                )
                product = scaled.transpose() * rows
                matrix = [[product[i, j] for j in range(d)] for i in range(d)]

        def system(y: Balls) -> Balls:
            u, lam = y[:d], y[d]
            norm = sum((v * v for v in u), arb(0))
            return [*(_dot(matrix[i], u) - lam * u[i] for i in range(d)), (1 - norm) / 2]

        def jacobian(y: Balls) -> list[Balls]:
            u, lam = y[:d], y[d]
            rows = [
                [*(matrix[i][j] - (lam if i == j else 0) for j in range(d)), -u[i]]
                for i in range(d)
            ]
            return [*rows, [*(-v for v in u), arb(0)]]

        def holds(y: Balls) -> bool:
            return self._keeps(y[:d], s, tuple(self._square.flat))

        radius = proves(system, jacobian, [*u, point.value], holds)
        return radius is not None, radius

    def _pattern(self, w: ndarray, held: tuple[int, ...], pairs: ndarray) -> ndarray:
        """The slope on each example; 0 on the kinks, whose part is kept apart."""
        s = np.where(self.x @ w > 0, 1.0, self.slope)
        s[pairs[:, 0]], s[pairs[:, 1]] = 1.0, self.slope
        s[list(held)] = 0.0
        return s

    def _grazes(self, w: ndarray, exempt: tuple[int, ...]) -> bool:
        """Whether another example is at its kink to rounding, though the NCF has no bend there."""
        near = np.abs(self.x @ w) <= NEAR_END * np.linalg.norm(self.x, axis=1) * np.linalg.norm(w)
        near[list(exempt)] = False
        return bool(near[self._live].any())

    def _force(self, s: ndarray) -> Balls:
        """sum_k z_k s_k x_k, the products exact."""
        one, d = arb(1), self.x.shape[1]
        weights = [
            arb(float(z)) * (one if part == 1.0 else self._slope if part else arb(0))
            for z, part in zip(self.z, s, strict=True)
        ]
        total = arb_mat([weights]) * self._inputs
        return [total[0, i] for i in range(d)]

    def _keeps(self, w: Balls, s: ndarray, exempt: tuple[int, ...]) -> bool:
        """Whether every other example that matters keeps its side throughout the box.

        In floats, with a bound of the rounding errors of w.x_k (Higham 2002, section 3.1).
        """
        middle = np.array([float(v.mid()) for v in w])
        unit = np.finfo(float).eps
        width = np.array([float(v.rad()) for v in w]) * (1 + 4 * unit) + unit * np.abs(middle)
        width += (len(w) + 2) * unit * np.abs(middle)
        side = np.where(s == 1.0, 1.0, -1.0)
        clear = side * (self.x @ middle) > (1 + 1e-9) * (np.abs(self.x) @ width)
        clear[list(exempt)] = True
        return bool(clear[self._live].all())


def with_certificate(
    point: KKTPoint,
    order: int,
    residual: float,
    multiplier: float,
    scale: float,
    proof: tuple[bool | None, float | None],
) -> KKTPoint:
    """The point with its residual, Euler's identity and the outcome of the interval test."""
    return replace(
        point,
        kkt_residual=residual,
        multiplier=multiplier,
        order_defect=abs(order * point.value - multiplier) / scale,
        certified=proof[0],
        radius=proof[1],
    )


def _plain(normals: ndarray) -> bool:
    size = np.linalg.norm(normals, axis=1, keepdims=True)
    return independent(normals / size)


def _opposites(x: ndarray, z: ndarray, turn: float) -> ndarray:
    """Pairs (i, j) with x_j = -x_i and z_j = turn * z_i to the last bit, shape `(pairs, 2)`."""
    waiting: dict[tuple[bytes, float], list[int]] = {}
    pairs = []
    for k in np.flatnonzero((z != 0) & x.any(axis=1)):
        mates = waiting.get(((x[k] + 0.0).tobytes(), float(z[k])))
        if mates:
            pairs.append((mates.pop(), int(k)))
        else:
            wanted = ((0.0 - x[k]).tobytes(), turn * float(z[k]))
            waiting.setdefault(wanted, []).append(int(k))
    return np.array(pairs, dtype=int).reshape(-1, 2)


def _dot(one: Balls, other: Balls) -> arb:
    return sum((p * q for p, q in zip(one, other, strict=True)), arb(0))
