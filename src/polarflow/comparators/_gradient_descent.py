"""Gradient descent on all weights: the method that the papers' figures were made with."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Trajectory
from ..losses import MarginLoss
from ..networks import TwoLayer

Precision = Literal["double", "single"]
Coordinates = Literal["weights", "examples"]
Steps = Literal["constant", "by_loss"]

DEFAULT_RECORDS = 1000
"""How many iterations are recorded, beside the start, when none are named."""


@dataclass(frozen=True)
class Descent:
    """What gradient descent did.

    **Attributes:**

    - `step`: the step eta; iteration i is compared with the flow at time i * eta, or, with steps
      divided by the loss, at the sum of the steps.
    - `iterations`: how many were run.
    - `iteration`: the recorded ones, shape `(T,)`.
    - `trajectory`: the states there; `output` is empty.
    - `status`: `"ok"`, or `"diverged"` when a prediction was no longer finite: the records end
      with the first such state among those asked for.
    - `seconds`: the compiled loop alone; `compile_seconds`: compiling it, or loading it from the
      cache, before that.
    """

    step: float
    iterations: int
    iteration: Int[ndarray, " T"]
    trajectory: Trajectory
    status: str
    seconds: float
    compile_seconds: float


def gradient_descent(
    problem: Problem,
    step: float,
    iterations: int,
    record: Iterable[int] | None = None,
    *,
    steps: Steps = "constant",
    precision: Precision = "double",
    coordinates: Coordinates = "weights",
) -> Descent:
    r"""Gradient descent $\theta_{i+1} = \theta_i - \eta \nabla L(\theta_i)$ on all weights.

    For two-layer (leaky) ReLU networks under the square loss: with
    $r_k = -\partial L / \partial h_k$ and $D_j = \sum_k r_k s'(w_j \cdot x_k) x_k$ a step is
    $a_j \mathrel{+}= \eta \langle D_j, w_j \rangle$, $w_j \mathrel{+}= \eta a_j D_j$, both from
    the old weights, and $s'(0)$ is the slope for negative arguments, 0 for ReLU. This is the
    method of Boursier et al. (2022), section 5; compiled, and vectorised over neurons or, where
    there are more than a few examples of more than a few numbers, by matrix products. Any other
    network or loss is differentiated by JAX, and the loop compiled by XLA.

    It knows nothing of kinks, and it holds weights as they are: neurons below 1e-307 cannot be
    followed, in single precision none below 1e-38.

    **Arguments:**

    - `problem`: data, network, loss and initial state.
    - `step`: eta, in units of flow time.
    - `iterations`: how many steps.
    - `record`: iterations to record, 0 the start; by default 1000 equally spaced ones.
    - `steps`: `"constant"`, or `"by_loss"` for losses of classification: the step eta / L(theta_i)
      of Ji & Telgarsky (2020, appendix A), which descends ln L; where it would move the weights by
      more than a tenth of their norm it is shortened to that.
    - `precision`: `"double"`, or `"single"` as the papers' scripts are; the initial weights are
      rounded to it, so that a balanced start is balanced to 6e-8.
    - `coordinates`: `"weights"`; or `"examples"`, the same iteration in $z_{kj} = w_j \cdot x_k$,
      which moves by the Gram matrix of the inputs: cheaper when n < 2d, and equal but for rounding.
      Single precision and these coordinates are for two-layer ReLU networks with the square loss.

    **Returns:** a `Descent`; its numbers are float64 in either precision.

    **Raises:** `PolarflowError` for options that do not fit the problem, for a step or a number of
    iterations that is not positive, for a record outside the run, and for weights that a float
    cannot hold.
    """
    if not (np.isfinite(step) and step > 0):
        raise PolarflowError(f"gradient_descent: step is {step}; it must be a positive number.")
    if iterations < 1:
        raise PolarflowError(f"gradient_descent: iterations is {iterations}; it must be positive.")
    for name, value, allowed in (
        ("steps", steps, ("constant", "by_loss")),
        ("precision", precision, ("double", "single")),
        ("coordinates", coordinates, ("weights", "examples")),
    ):
        if value not in allowed:
            raise PolarflowError(
                f"gradient_descent: {name} is {value!r}; allowed are {' and '.join(allowed)}."
            )
    index = _records(record, iterations)
    by_loss = steps == "by_loss"
    if by_loss and not isinstance(problem.loss, MarginLoss):
        raise PolarflowError(
            f'gradient_descent: steps is "by_loss" and loss.kind "{problem.loss.kind}"; only a '
            "loss of classification has a logarithm to descend without end."
        )
    kinks = isinstance(problem.network, TwoLayer) and problem.network.outputs == 1
    if kinks and problem.loss.kind == "square":
        run = _two_layer(problem, step, index, precision, coordinates)
    elif precision != "double" or coordinates != "weights":
        raise PolarflowError(
            f"gradient_descent: precision is {precision!r} and coordinates {coordinates!r}; for "
            "this network and loss only 'double' and 'weights' are there."
        )
    else:
        from ._network_descent import descend

        _check_held(problem, np.dtype(np.float64))
        run = descend(problem, step, index, by_loss)
    trajectory, seconds, compile_seconds = run
    return Descent(
        step=float(step),
        iterations=iterations,
        iteration=index[: len(trajectory)],
        trajectory=trajectory,
        status="ok" if np.isfinite(trajectory.prediction[-1]).all() else "diverged",
        seconds=seconds,
        compile_seconds=compile_seconds,
    )


def _two_layer(
    problem: Problem, step: float, index: ndarray, precision: Precision, coordinates: Coordinates
) -> tuple[Trajectory, float, float]:
    """The compiled loop of a two-layer (leaky) ReLU network under the square loss."""
    dtype = np.dtype(np.float64 if precision == "double" else np.float32)
    _check_held(problem, dtype)
    start_weights = problem.initial.weights().astype(dtype)
    a, w = start_weights[:, 0].copy(), np.ascontiguousarray(start_weights[:, 1:].T)

    begin = perf_counter()
    from ._descent_kernel import SMALL, loop

    n, d = problem.data.x.shape
    products = "products" if min(n, d) >= SMALL else "blocks"
    descend = loop("gram" if coordinates == "examples" else products, dtype)
    compiled = perf_counter() - begin
    x = np.array(problem.data.x, dtype, order="C")  # the kernel takes writable arrays
    y = np.array(problem.data.y, dtype)
    a_at = np.empty((len(index), len(a)), dtype)
    w_at = np.empty((len(index), *w.shape), dtype)
    h_at = np.empty((len(index), n), dtype)
    kappa, slope = problem.loss.factor(n), problem.two_layer.slope
    numbers = (dtype.type(kappa), dtype.type(slope), dtype.type(step))
    begin = perf_counter()
    filled = descend(x, y, *numbers, a, w, index, a_at, w_at, h_at)
    seconds = perf_counter() - begin
    weights = np.concatenate([a_at[:filled, :, None], w_at[:filled].transpose(0, 2, 1)], axis=2)
    time = index[:filled] * float(step)
    trajectory = _trajectory(problem, time, weights.astype(float), h_at[:filled].astype(float))
    return trajectory, seconds, compiled


def _records(record: Iterable[int] | None, iterations: int) -> Int[ndarray, " T"]:
    if record is None:
        return np.unique(np.linspace(0, iterations, DEFAULT_RECORDS + 1).round().astype(np.int64))
    index = np.unique(np.asarray(list(record), dtype=np.int64))
    if len(index) == 0:
        raise PolarflowError("gradient_descent: record is empty; name at least one iteration.")
    for end in (index[0], index[-1]):
        if not 0 <= end <= iterations:
            raise PolarflowError(
                f"gradient_descent: record holds {end}; it must lie between 0 and {iterations}."
            )
    return index


def _check_held(problem: Problem, dtype: np.dtype) -> None:
    """Make sure that the precision can hold the weights."""
    log_norm = problem.initial.log_norm
    smallest = np.finfo(dtype).tiny
    held = np.log(float(smallest))
    lost = np.isfinite(log_norm) & (log_norm < held)
    if lost.any():
        j = int(np.argmax(lost))
        raise PolarflowError(
            f"gradient_descent: block {j} starts at norm 1e{log_norm[j] / np.log(10):.0f}; "
            f"gradient descent in {dtype.name} can only follow norms above "
            f"1e{np.log10(float(smallest)):.0f}."
        )


def _trajectory(
    problem: Problem,
    time: Float[ndarray, " T"],
    weights: Float[ndarray, "T m p"],
    prediction: Float[ndarray, "T n"],
) -> Trajectory:
    """The records in polar form, with the loss and the norm of its gradient."""
    x, y = problem.data.x, problem.data.y
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        # Scaled by the largest entry, so that a norm of 1e-200 has a square.
        largest = np.abs(weights).max(axis=2)
        scale = np.where(largest > 0, largest, 1.0)
        shape = np.linalg.norm(weights / scale[:, :, None], axis=2)
        log_norm = np.log(largest) + np.log(np.where(shape > 0, shape, 1.0))
        safe = np.where(shape > 0, shape, 1.0)[:, :, None]
        direction = weights / scale[:, :, None] / safe
        still = (largest == 0)[:, :, None]
        direction = np.where(still, problem.initial.direction, direction)
        a, w = weights[:, :, 0], weights[:, :, 1:]
        active = np.where(w @ x.T > 0, 1.0, problem.two_layer.slope)
        residual = problem.loss.residual(prediction, y)
        force = (active * residual[:, None, :]) @ x
        grad_w = a[:, :, None] * force
        grad_a = np.einsum("tjd,tjd->tj", w, force)
        grad_norm = np.sqrt(np.sum(grad_w**2, axis=(1, 2)) + np.sum(grad_a**2, axis=1))
        log_residual, _ = problem.loss.log_residual(prediction, y)
        loss, log_loss = problem.loss.value(prediction, y), problem.loss.log_value(prediction, y)
        log_time = np.log(time)
        log_grad_norm = np.log(grad_norm)
    return Trajectory(
        time=np.asarray(time, dtype=float),
        log_time=log_time,
        log_norm=log_norm,
        direction=direction,
        loss=loss,
        log_loss=log_loss,
        log_grad_norm=log_grad_norm,
        log_residual=log_residual,
        prediction=prediction,
        output=np.empty((len(time), 0)),
    )
