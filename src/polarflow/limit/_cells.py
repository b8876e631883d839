r"""The rest point of a two-layer network with the square loss, activation pattern by pattern.

With balanced neurons $v_j = |a_j| w_j$ the network is $\sum_j \pm s(v_j \cdot x)$, linear where no
neuron crosses a kink: in the closed cell of its patterns the loss is a convex quadratic function,
and its minimum under the cell's inequalities a quadratic program. A kink that a minimum lies on has
a multiplier. Where the force on it, $\nu_k$, is between those of its two sides the kink holds the
neuron, as it holds the flow; where it isn't, the loss falls beyond the kink, and the search goes on
in the next cell. The loss never rises, so that it ends, at a rest point in Clarke's sense.

A flow that has come near to rest along a valley with many kinks takes many thousands of steps to
the end of it; this takes a few programs.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy import ndarray

from ..flow import Problem
from ..networks import BlockState
from ._blocks import two_layer

if TYPE_CHECKING:
    import cvxpy as cp

#: Cells that are tried at most.
_CELLS = 400
#: A slack of this part of |v||x| is none.
_ON = 1e-9
#: A neuron this near to a kink at the start is on it.
_BEGINS_ON = 1e-8
#: A multiplier outside its interval by this part of the largest force isn't held.
_HELD = 1e-9
#: A loss of this part of |y|^2 is rounding.
_FITTED = 1e-26
#: With a squared residual of this part of |y|^2 a cell may fit all labels.
_NEARLY_FITTED = 1e-6
#: Guesses of the kinks that hold: from the start, and from a program's solution.
_TRIES = 2
_ROUNDS = 300
#: The weight of the distance from the start of a program, relative to the quadratic form: among
#: the minima of a cell it takes the near one.
_NEAR = 1e-9


@dataclass(frozen=True)
class _Minimum:
    """The minimum in a cell: vectors (m, q), which kinks hold (m, n), their multipliers, loss."""

    v: ndarray
    held: ndarray
    multiplier: ndarray
    loss: float


def settle_in_cells(problem: Problem, state: BlockState) -> BlockState | None:
    """The rest point that is reached from a state as the loss falls; None if there is no end to it.

    **Arguments:**

    - `problem`: with the square loss; its initial state does not matter.
    - `state`: neurons near rest. They are balanced on return; those that vanish have log-norm -inf.
    """
    network, x, y = two_layer(problem), problem.data.x, problem.data.y
    _, sigma, vt = np.linalg.svd(x, full_matrices=False)
    basis = vt[sigma > 1e-13 * max(float(sigma.max(initial=0.0)), 1e-300)]
    weights = state.weights()
    sign = np.sign(weights[:, 0])
    v = np.abs(weights[:, :1]) * weights[:, 1:] @ basis.T
    inputs, slope = x @ basis.T, network.slope
    on = v @ inputs.T > 0.0
    best = np.inf
    one_by_one = False
    for _ in range(_CELLS):
        found = _minimum(inputs, y, sign, slope, on, v)
        if found is None:
            return None
        beyond = _beyond(inputs, y, sign, slope, on, found)
        if not beyond.any() or found.loss <= _FITTED * float(y @ y):
            return _state(found.v, sign, basis)
        if not found.loss < best * (1.0 - 1e-12):
            if one_by_one:
                return None
            one_by_one = True  # several at once may block each other
        best = min(best, found.loss)
        if one_by_one:
            largest = np.unravel_index(np.argmax(beyond), beyond.shape)
            beyond = np.zeros_like(beyond)
            beyond[largest] = 1.0
        on = np.where(beyond > 0.0, ~on, on)
        v = found.v
    return None


def _features(
    inputs: ndarray, sign: ndarray, slope: float, on: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """The matrix of predictions (n, m q), slopes (m, n), and sides as +-1 (m, n)."""
    slopes = np.where(on, 1.0, slope)
    matrix = np.concatenate(
        [(s * c)[:, None] * inputs for s, c in zip(slopes, sign, strict=True)], 1
    )
    return matrix, slopes, np.where(on, 1.0, -1.0)


def _minimum(
    inputs: ndarray, y: ndarray, sign: ndarray, slope: float, on: ndarray, start: ndarray
) -> _Minimum | None:
    """The minimum of the loss in a closed cell, near a point of it."""
    matrix, _, facing = _features(inputs, sign, slope, on)
    room = np.linalg.norm(start, axis=1)[:, None] * np.linalg.norm(inputs, axis=1)
    held = np.abs(start @ inputs.T) <= _BEGINS_ON * room
    near = _sharpened(matrix, y, inputs, facing, start, held, _TRIES)
    if near is not None:
        return near
    scale = float(np.linalg.norm(matrix, 2)) or 1.0
    solved = _program(matrix, y, inputs, facing, start, scale)
    if solved is None:
        return None
    v, dual = solved
    if float(np.sum((y - matrix @ v.ravel()) ** 2)) <= _NEARLY_FITTED * float(y @ y):
        fitted = _fit(matrix, y, inputs, facing, v)
        if fitted is not None:
            return fitted
    slack = facing * (v @ inputs.T)
    held = dual * float(np.abs(v).max(initial=1e-300)) > np.maximum(slack, 0.0) * scale**2
    held |= slack <= _ON * np.linalg.norm(v, axis=1)[:, None] * np.linalg.norm(inputs, axis=1)
    return _sharpened(matrix, y, inputs, facing, v, held, _ROUNDS)


def _sharpened(
    matrix: ndarray,
    y: ndarray,
    inputs: ndarray,
    facing: ndarray,
    v: ndarray,
    held: ndarray,
    rounds: int,
) -> _Minimum | None:
    """The minimum to rounding, by steps of least norm, from a guess of the kinks that hold.

    A step goes as far as the first kink in its way, which then holds as well; where there is none,
    the kink that is pulled away from most is let go (an active set method), and the loss falls.
    """
    m, q = v.shape
    size = np.linalg.norm(inputs, axis=1)
    blocks = np.split(matrix, m, axis=1)
    for _ in range(rounds):
        spaces = [_free(inputs[k]) for k in held]
        flat = np.array([space @ (space.T @ row) for space, row in zip(spaces, v, strict=True)])
        reduced = np.concatenate([b @ s for b, s in zip(blocks, spaces, strict=True)], axis=1)
        step = np.linalg.lstsq(reduced, y - matrix @ flat.ravel(), rcond=1e-12)[0]
        parts = np.split(step, np.cumsum([s.shape[1] for s in spaces])[:-1])
        move = np.array([s @ p for s, p in zip(spaces, parts, strict=True)])
        v = flat + move
        slack = facing * (v @ inputs.T)
        crossed = ~held & (slack < -_ON * np.linalg.norm(v, axis=1)[:, None] * size)
        if crossed.any():
            way = np.where(crossed, facing * (flat @ inputs.T), 0.0)
            share = np.where(crossed, way / np.where(crossed, way - slack, 1.0), 1.0)
            first = max(0.0, float(share.min()))
            held = held | (share <= first)
            v = flat + first * move
            continue
        residual = y - matrix @ v.ravel()
        force = (residual @ matrix).reshape(m, q)
        loss = 0.5 * float(residual @ residual)
        multiplier = np.zeros_like(slack)
        if loss > _FITTED * float(y @ y):  # forces of rounding hold nothing
            for j, k in enumerate(held):
                if k.any():
                    normals = facing[j, k, None] * inputs[k]
                    multiplier[j, k] = np.linalg.lstsq(normals.T, -force[j], rcond=1e-12)[0]
        if not (held & (multiplier < -_HELD * _forces(residual))).any():
            return _Minimum(v, held, multiplier, loss)
        held = held & (multiplier > multiplier.min())
    return None


def _program(
    matrix: ndarray, y: ndarray, inputs: ndarray, facing: ndarray, start: ndarray, scale: float
) -> tuple[ndarray, ndarray] | None:
    """The vectors of the cell's minimum, and the multipliers of its inequalities."""
    import cvxpy as cp

    v = cp.Variable(start.shape)
    fit = cp.sum_squares(matrix @ cp.vec(v, order="C") - y)
    near = cp.sum_squares(v - start)
    inside = cp.multiply(facing, v @ inputs.T) >= 0.0
    task = cp.Problem(cp.Minimize(0.5 * fit + 0.5 * _NEAR * scale**2 * near), [inside])
    if not _solved(task) or v.value is None or inside.dual_value is None:
        return None
    return np.asarray(v.value), np.asarray(inside.dual_value)


def _fit(
    matrix: ndarray, y: ndarray, inputs: ndarray, facing: ndarray, start: ndarray
) -> _Minimum | None:
    """The point of a cell next to another at which all labels are fitted, if there is one.

    Labels are fitted on a polytope, whose facets hold nothing.
    """
    import cvxpy as cp

    v = cp.Variable(start.shape)
    inside = cp.multiply(facing, v @ inputs.T) >= 0.0
    exact = matrix @ cp.vec(v, order="C") == y
    if not _solved(cp.Problem(cp.Minimize(cp.sum_squares(v - start)), [inside, exact])):
        return None
    if v.value is None:
        return None
    flat = np.asarray(v.value).ravel()
    flat = flat + np.linalg.lstsq(matrix, y - matrix @ flat, rcond=1e-12)[0]
    residual = y - matrix @ flat
    loss = 0.5 * float(residual @ residual)
    sharp = flat.reshape(start.shape)
    slack = facing * (sharp @ inputs.T)
    room = np.linalg.norm(sharp, axis=1)[:, None] * np.linalg.norm(inputs, axis=1)
    if loss > _FITTED * float(y @ y) or (slack < -_ON * room).any():
        return None
    return _Minimum(sharp, np.abs(slack) <= _ON * room, np.zeros_like(slack), loss)


def _solved(task: "cp.Problem") -> bool:
    import cvxpy as cp

    accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-11)
    try:
        with catch_warnings():
            # Whether the solution is accurate enough, the conditions of optimality tell.
            simplefilter("ignore", UserWarning)
            task.solve(solver="CLARABEL", **accuracy)
    except cp.SolverError:
        return False
    return True


def _beyond(
    inputs: ndarray, y: ndarray, sign: ndarray, slope: float, on: ndarray, found: _Minimum
) -> ndarray:
    """By how much the force on each kink passes those of its two sides; 0 where it is held."""
    matrix, slopes, facing = _features(inputs, sign, slope, on)
    residual = y - matrix @ found.v.ravel()
    pull = sign[:, None] * residual
    force = slopes * pull + facing * found.multiplier
    low, high = np.minimum(slope * pull, pull), np.maximum(slope * pull, pull)
    passed = np.maximum(low - force, force - high)
    alive = np.linalg.norm(found.v, axis=1) > 0.0
    counts = found.held & alive[:, None] & (passed > _HELD * _forces(residual))
    return np.where(counts, passed, 0.0)


def _forces(residual: ndarray) -> float:
    return float(np.abs(residual).max(initial=0.0)) + 1e-300


def _free(normals: ndarray) -> ndarray:
    """An orthonormal basis (q, f) of what is orthogonal to some normals."""
    if len(normals) == 0:
        return np.eye(normals.shape[1])
    _, sigma, vt = np.linalg.svd(normals, full_matrices=True)
    rank = int(np.sum(sigma > 1e-10 * sigma[0]))
    return np.asarray(vt[rank:].T)


def _state(v: ndarray, sign: ndarray, basis: ndarray) -> BlockState:
    size = np.linalg.norm(v, axis=1)
    unit = v / np.where(size > 0.0, size, 1.0)[:, None] @ basis
    direction = np.concatenate([sign[:, None], unit], axis=1) / np.sqrt(2.0)
    with np.errstate(divide="ignore"):
        return BlockState(0.5 * np.log(2.0 * size), direction)
