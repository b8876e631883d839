"""Gradient descent on any network and loss: JAX differentiates and XLA compiles the loop.

Imported only when it is run.
"""

from time import perf_counter
from typing import Any

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ..flow import Problem, Trajectory
from ..flow.smooth._residual import Residual
from ..losses import Exponential
from ..networks import Activation, BlockState, Network, SmoothTwoLayer, TwoLayer
from ..networks._blocks import part_of
from ..networks._evaluate import jax64, outputs_of

LONGEST = 0.1
"""A step scaled by the loss is shortened to this part of the norm of all weights."""


class Ordinary:
    """A problem in ordinary coordinates: one array of weights `(rows, size)` a group of blocks."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.network = smooth_form(problem.network)
        self.groups = self.network.groups(problem.data.dimension)
        self.residual = Residual(problem.loss, problem.data.y, self.network.outputs)
        parts = self.network.split(problem.initial, problem.data.dimension)
        self.start = [np.exp(log_norm)[:, None] * unit for log_norm, unit in parts]

    def outputs(self, weights: Any) -> Any:
        """The predictions `(n, C)`."""
        x = jax64().numpy.asarray(self.problem.data.x)
        values = [
            outputs_of(group, w, x).sum(axis=0)
            for group, w in zip(self.groups, weights, strict=True)
        ]
        return sum(values[1:], start=values[0])

    def log_loss(self, h: Any) -> Any:
        """ln of a loss of classification, from predictions."""
        jax = jax64()
        jnp, z = jax.numpy, self.residual.margins(h)
        if isinstance(self.problem.loss, Exponential):
            return jax.nn.logsumexp(-z) + self.residual.log_factor
        s = jax.nn.logsumexp(-z, axis=1) if self.residual.softmax else -z
        near = jnp.maximum(s, -30.0)
        logs = jnp.where(s > -30.0, jnp.log(jax.nn.softplus(near)), s)
        return jax.nn.logsumexp(logs) + self.residual.log_factor

    def gradient(self, weights: Any) -> tuple[Any, Any, Any]:
        """Predictions, ln|r| and sum_k r_k/|r| dH(x_k)/dw at weights."""
        h, pull = jax64().vjp(self.outputs, weights)
        log_r, unit = self.residual.direct(h)
        return h, log_r, pull(unit)[0]

    def descended(self, state: tuple[Any, Any], step: float, by_loss: bool) -> tuple[Any, Any]:
        """The weights and ln of the time after one step, divided by the loss or not."""
        jnp = jax64().numpy
        weights, log_time = state
        h, log_r, slope = self.gradient(weights)
        log_step = jnp.log(step)
        if by_loss:
            log_step = log_step - self.log_loss(h)
            moved = log_step + log_r + 0.5 * jnp.log(sum(jnp.sum(s * s) for s in slope))
            size = 0.5 * jnp.log(sum(jnp.sum(w * w) for w in weights))
            log_step = log_step - jnp.maximum(moved - size - np.log(LONGEST), 0.0)
        share = jnp.exp(log_step + log_r)
        weights = [w + share * s for w, s in zip(weights, slope, strict=True)]
        return weights, jnp.logaddexp(log_time, log_step)

    def measure(self, weights: Any) -> tuple[Any, Any]:
        """Predictions and the logarithm of the gradient's norm."""
        jnp = jax64().numpy
        h, log_r, slope = self.gradient(weights)
        return h, log_r + 0.5 * jnp.log(sum(jnp.sum(s * s) for s in slope))

    def state(self, weights: list[ndarray]) -> BlockState:
        """The same in polar form."""
        parts = [part_of(np.asarray(w)) for w in weights]
        return self.network.join(parts, self.problem.data.dimension)


def smooth_form(network: TwoLayer | Network) -> Network:
    """The network as a sum of blocks that JAX differentiates, with s'(0) that of the low side."""
    if isinstance(network, Network):
        return network
    if network.activation == "abs":
        raise PolarflowError('gradient_descent: the activation "abs" needs the square loss.')
    activation = Activation("leaky_relu", slope=network.slope)
    return SmoothTwoLayer(network.width, activation, network.outputs)


def descend(
    problem: Problem, step: float, index: ndarray, by_loss: bool
) -> tuple[Trajectory, float, float]:
    """The states after the iterations in `index`, and the seconds of the loop and of compiling.

    The records end with the first one that is not finite.
    """
    begin = perf_counter()
    jax = jax64()
    own = Ordinary(problem)

    def repeat(state: Any, times: Any) -> Any:
        def once(_: Any, at: Any) -> Any:
            return own.descended(at, step, by_loss)

        return jax.lax.fori_loop(0, times, once, state)

    state = ([jax.numpy.asarray(w) for w in own.start], jax.numpy.asarray(-np.inf))
    advance = jax.jit(repeat).lower(state, 1).compile()
    measure = jax.jit(own.measure).lower(state[0]).compile()
    compiled = perf_counter() - begin
    records: list[tuple[list[ndarray], float, ndarray, float]] = []
    begin, done = perf_counter(), 0
    for iteration in index:
        state = advance(state, int(iteration) - done)
        done = int(iteration)
        h, log_grad = measure(state[0])
        weights = [np.asarray(w) for w in state[0]]
        records.append((weights, float(state[1]), np.asarray(h), float(log_grad)))
        if not np.isfinite(records[-1][2]).all():
            break
    seconds = perf_counter() - begin
    time = None if by_loss else index[: len(records)] * step
    return _trajectory(own, records, time), seconds, compiled


def _trajectory(
    own: Ordinary, records: list[tuple[list[ndarray], float, ndarray, float]], time: ndarray | None
) -> Trajectory:
    problem = own.problem
    with np.errstate(all="ignore"):
        log_time = np.array([each[1] for each in records]) if time is None else np.log(time)
        states = [own.state(each[0]) for each in records]
        prediction = np.array([each[2] for each in records])
        if own.network.outputs == 1:
            prediction = prediction[:, :, 0]
        log_residual, _ = problem.loss.log_residual(prediction, problem.data.y)
        return Trajectory(
            time=np.exp(log_time) if time is None else time,
            log_time=log_time,
            log_norm=np.array([state.log_norm for state in states]),
            direction=np.array([state.direction for state in states]),
            loss=problem.loss.value(prediction, problem.data.y),
            log_loss=problem.loss.log_value(prediction, problem.data.y),
            log_grad_norm=np.array([each[3] for each in records]),
            log_residual=log_residual,
            prediction=prediction,
            output=np.empty((len(records), 0, *prediction.shape[2:])),
        )
