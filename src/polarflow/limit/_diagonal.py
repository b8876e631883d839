r"""The path of diagonal linear networks, in closed form but for least-squares problems.

For $h(x) = \sum_j (u_j^L - v_j^L) x_j$ every weight is a block that meets the others only in the
residual. Write a weight as $\delta s$, let $\sigma = \pm1$ be the sign of its part in the output,
and $g = X^T r$. For L = 2, $|s|' = 2\sigma g_j |s|$, and in the time scale $-\ln\delta$ the
exponent of a weight rises at the rate $2 \sigma g_j$ from -1 to 0. For L > 2, $q = |s|^{2-L}$ falls
at the rate $L(L-2)\sigma g_j$ to 0 in the time scale $\delta^{-(L-2)}$. In both cases a weight has
a distance D to go, and $D' = -c\sigma g_j$ with g constant at a rest point. When the first
distances are gone, these weights join the active ones, and the flow goes to the minimum of the loss
over coefficients of the signs of the active weights; those that become zero there start again from
D = 0.

For L = 2 that is the algorithm of Pesme & Flammarion (2023), reminiscent of LARS, which they prove
to be the limit; it ends in the interpolant of least $\ell_1$ norm.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem
from ..ncf._nonnegative import nonnegative
from ..networks import BlockState, Diagonal
from ._rest import RestPoint
from ._saddle import LimitSaddle, SaddlePath, Tie, exp

#: Weights that are gone within this of each other, relatively, leave at the same time.
_TIE = 1e-9
#: A gradient below this share of its bound is zero.
_STILL = 1e-11
#: A coefficient below this share of the largest is zero.
_ZERO = 1e-10


@dataclass
class _Weights:
    """All 2d weights: their coordinates, signs in the output, distances to go, coefficients.

    For L > 2 distances and times are in units of the largest weight's, exp(log_unit)^(2 - L).
    """

    column: ndarray
    sign: ndarray
    distance: ndarray
    coefficient: ndarray
    log_unit: float


def diagonal_path(problem: Problem, max_saddles: int) -> SaddlePath:
    """The path of a diagonal linear network under the square loss."""
    data, loss, depth = problem.data, problem.loss, _depth(problem)
    if loss.kind != "square":
        raise PolarflowError(
            f'loss "{loss.kind}": the path of diagonal networks is for the square loss.'
        )
    x, y = data.x, data.y
    w = _weights(problem)
    clock = 2.0 if depth == 2 else float(depth * (depth - 2))
    bound = float(np.abs(x.T @ loss.residual(np.zeros(len(y)), y)).max(initial=0.0))
    time = 0.0
    saddles: list[LimitSaddle] = []
    ties: list[Tie] = []
    notes: list[str] = []
    while True:
        rest, g = _rest(problem, w)
        pull = w.sign * g[w.column]
        pull[np.abs(pull) <= _STILL * bound] = 0.0
        active = w.coefficient > 0.0
        rate = np.where(active | ~np.isfinite(w.distance), 0.0, clock * pull)
        with np.errstate(divide="ignore", invalid="ignore"):
            wait = np.where(rate > 0.0, w.distance / rate, np.inf)
        shortest = float(wait.min(initial=np.inf))
        ends = not np.isfinite(shortest)
        leaving = np.zeros(len(wait), dtype=bool)
        if not ends:
            leaving = wait <= shortest + _TIE * (time + shortest)
            w.distance = w.distance - rate * shortest
            w.distance[leaving] = 0.0
            time += shortest
        living = ~active & (rate != 0.0)
        saddles.append(_saddle(w, rest, rate, leaving, None if ends else time, len(saddles), depth,
                               0.0 if living.any() else None))  # fmt: skip
        if ends or len(saddles) >= max_saddles:
            return SaddlePath(tuple(saddles), tuple(ties), ends, tuple(notes))
        if leaving.sum() > 1:
            ties.append(Tie(len(saddles) - 1, tuple((int(j),) for j in w.column[leaving])))
        if not _go(problem, w, active | leaving):
            notes.append(
                f"After saddle {len(saddles) - 1} the minimum is not unique: the columns of the "
                "active weights are dependent, and the one of least norm was taken."
            )


def _depth(problem: Problem) -> int:
    assert isinstance(problem.network, Diagonal)
    return problem.network.depth


def _weights(problem: Problem) -> _Weights:
    initial, depth = problem.initial, _depth(problem)
    d = len(initial.log_norm)
    direction = initial.direction.T.reshape(-1)
    with np.errstate(divide="ignore"):
        log_size = np.tile(initial.log_norm, 2) + np.log(np.abs(direction))
    sign = np.repeat([1.0, -1.0], d)
    if depth % 2:
        sign = sign * np.where(direction < 0.0, -1.0, 1.0)
    given = np.isfinite(log_size)
    distance = np.where(given, 1.0, np.inf)
    log_unit = float(log_size.max(initial=-np.inf))
    if depth > 2:
        with np.errstate(over="ignore", invalid="ignore"):
            beyond = np.where(given, log_size - log_unit, 0.0)
            distance = np.where(given, np.exp((2.0 - depth) * beyond), np.inf)
    return _Weights(np.tile(np.arange(d), 2), sign, distance, np.zeros(2 * d), log_unit)


def _go(problem: Problem, w: _Weights, moving: ndarray) -> bool:
    """Move to the minimum over the signs of the moving weights; returns whether it is unique."""
    index = np.flatnonzero(moving)
    columns = problem.data.x[:, w.column[index]] * w.sign[index]
    found = nonnegative(columns, problem.data.y)
    found[found <= _ZERO * found.max(initial=0.0)] = 0.0
    used = found > 0.0
    if used.any():
        # The solver's active set is exact; its coefficients are made so.
        exact = np.linalg.lstsq(columns[:, used], problem.data.y, rcond=1e-13)[0]
        if (exact > 0.0).all():
            found[used] = exact
    w.coefficient[:] = 0.0
    w.coefficient[index] = found
    w.distance[index] = 0.0
    return int(np.linalg.matrix_rank(columns[:, used])) == int(used.sum())


def _rest(problem: Problem, w: _Weights) -> tuple[RestPoint, ndarray]:
    """The rest point of the present coefficients, and g = X^T r."""
    x, y, loss = problem.data.x, problem.data.y, problem.loss
    depth, d = _depth(problem), x.shape[1]
    signed = w.sign * w.coefficient
    h = x[:, w.column] @ signed
    r = loss.residual(h, y)
    g = x.T @ r
    size = w.coefficient ** (1.0 / depth)
    pair = size.reshape(2, d).T * np.sign(_directions(problem, d))
    norm = np.linalg.norm(pair, axis=1)
    direction = np.where(norm[:, None] > 0.0, pair / np.where(norm, norm, 1.0)[:, None],
                         problem.initial.direction)  # fmt: skip
    with np.errstate(divide="ignore"):
        log_norm = np.log(norm)
    used = w.coefficient > 0.0
    slope = depth * size[used] ** (depth - 1)
    jacobian = x[:, w.column[used]] * slope
    singular = np.linalg.svd(jacobian, compute_uv=False) * np.sqrt(loss.factor(len(y)))
    spectrum = np.zeros(int(used.sum()))
    spectrum[len(spectrum) - len(singular) :] = np.sort(singular) ** 2
    gradient = slope * g[w.column[used]]
    rank = int(np.sum(singular > 1e-12 * singular.max(initial=0.0)))
    rest = RestPoint(
        state=BlockState(log_norm, direction),
        active=norm > 0.0,
        loss=float(loss.value(h, y)),
        grad_norm=float(np.linalg.norm(gradient)),
        prediction=h,
        residual=r,
        spectrum=spectrum,
        kernel=len(spectrum) - rank,
    )
    return rest, g


def _directions(problem: Problem, d: int) -> ndarray:
    """The signs of the weights themselves, +1 for zeros."""
    return np.where(problem.initial.direction < 0.0, -1.0, 1.0).reshape(d, 2)


def _saddle(
    w: _Weights,
    rest: RestPoint,
    rate: ndarray,
    leaving: ndarray,
    time: float | None,
    index: int,
    depth: int,
    kkt: float | None,
) -> LimitSaddle:
    d = len(rest.active)
    exponent = np.maximum(-w.distance[:d], -w.distance[d:]) if depth == 2 else np.full(d, np.nan)
    fastest = np.where(np.abs(rate[:d]) > np.abs(rate[d:]), rate[:d], rate[d:])
    log_rate = None
    if time is not None:
        log_rate = float(np.log(time)) + (2.0 - depth) * w.log_unit
    return LimitSaddle(
        index=index,
        rest=rest,
        escape_rate=None if log_rate is None else exp(log_rate),
        leaving=tuple(sorted({int(j) for j in w.column[leaving]})),
        exponent=exponent,
        direction=rest.state.direction,
        growth=np.maximum(fastest, np.where(leaving[:d], rate[:d], fastest)),
        kkt_residual=kkt,
        order=float(depth),
        log_escape_rate=log_rate,
    )
