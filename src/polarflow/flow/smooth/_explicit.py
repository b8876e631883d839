r"""Explicit steps, many in one call of compiled code, where nothing is stiff.

The method is Dormand and Prince's of order 5; its error estimate bounds how far any number is off
in a step, and its dense output is the step's polynomial. Bends of activations are located: a step
goes on with the polynomials of its start, and ends where the first number changes sign. Stiffness
is told as by Hairer & Wanner (1996, section IV.2): the last two stages of a step are both at its
end; with a difference $y_1 - g$ in value and $k_1 - k_g$ in slope, $|k_1 - k_g| / |y_1 - g|$ is
about the largest rate, which times h bounds stable steps.
"""

from functools import cache
from typing import Any

import numpy as np
from numpy import ndarray

from ...networks._evaluate import jax64
from .._collocation import interpolation
from ._compiled import compiled
from ._field import Field
from ._stepper import Step, StepError, Torn

#: Steps in one call, and trials.
STEPS, _TRIALS = 16, 64
#: A call ends once the speed has changed by this factor: then clocks are looked at.
_CHANGE = 10.0
_STAGES = 7
#: Nodes that determine the dense output, and where in a step signs are looked at.
_GRID = 0.5 - 0.5 * np.cos(np.pi * np.arange(5) / 4)
_INSIDE = np.linspace(0.0, 1.0, 25)
_BISECTIONS = 36
_GAUSS, _GAUSS_WEIGHT = np.polynomial.legendre.leggauss(8)
#: h times the largest rate beyond which steps are bound by stability, soon or already, and so
#: many of them in a row are those of a stiff system.
_EDGE, _STIFF_STEPS = 2.0, 8


@cache
def _dormand_prince() -> tuple[ndarray, ndarray, ndarray]:
    """Rows of the stages, the last at the new value; the error; powers of the dense output."""
    from scipy.integrate import RK45

    rows = np.zeros((_STAGES, _STAGES))
    rows[:6, :5], rows[6, :6] = RK45.A, RK45.B
    return rows, RK45.E, np.vstack([np.zeros(_STAGES), RK45.P.T])


def _powers(x: Any) -> Any:
    return jax64().numpy.asarray(x)[..., None] ** np.arange(5)


def _first_change(field: Field, nodes: Any, side: Any, tolerance: Any) -> tuple[Any, Any]:
    """Where in a step the first bend is met, 1 if none is, and the sides behind it."""
    jax = jax64()
    jnp = jax.numpy
    z = (2.0 * side - 1.0) * jax.vmap(lambda y: field.bending(y, side))(nodes)
    inner = jnp.asarray(interpolation(_GRID, _INSIDE)) @ z
    extent = jnp.abs(inner).max(axis=0)
    # So near to zero the polynomials of both sides are the same, to the tolerance.
    wrong = inner < -(1e-12 * extent + 0.1 * tolerance * extent.max())
    before = jnp.maximum(jnp.argmax(wrong, axis=0) - 1, 0)
    low = before * _INSIDE[1]
    inside = jnp.take_along_axis(inner, before[None], axis=0)[0] > 0.0
    high = jnp.where(inside, low + _INSIDE[1], low)
    coefficients = jnp.asarray(np.linalg.inv(_GRID[:, None] ** np.arange(5))) @ z

    def halve(_: Any, ends: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = jnp.polyval(coefficients[::-1], middle) > 0.0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    root = jnp.where(wrong.any(axis=0), 0.5 * (low + high), 2.0)
    first = jnp.minimum(root.min(), 1.0)
    return first, jnp.where(root <= first + 1e-10, 1.0 - side, side)


def explicit_steps(
    field: Field, state: tuple[Any, ...], clock: Any, tolerance: Any, end: Any, located: bool
) -> dict[str, Any]:
    """Up to `STEPS` steps of a field, or until a log time is passed.

    `state` is y, its slope, whether that is known, the sides of the bends, h, ln t. Returns the
    same at the end by their names; how many steps there are, and evaluations; for each step its
    `length`, the part `cut` of it that is used, the logarithm of the time `passed` in that, the
    nodes of its polynomial, and h times the largest `rate`.
    """
    jax = jax64()
    jnp, lax = jax.numpy, jax.lax
    rows, errors, powers = (jnp.asarray(a) for a in _dormand_prince())
    gauss, weight = 0.5 + 0.5 * _GAUSS, jnp.asarray(np.log(0.5 * _GAUSS_WEIGHT))
    counts = field.weights()

    def trial(carry: dict[str, Any]) -> dict[str, Any]:
        y, h, side = carry["y"], carry["h"], carry["side"]

        def stage(i: Any, found: tuple[Any, ...]) -> tuple[Any, ...]:
            k, at, _, wrong = found
            new = y + h * (rows[i] @ k)
            slope, z = field.bent_velocity(new, clock, side if located else None)
            wrong = wrong | ((2.0 * side - 1.0) * z < 0.0).any()
            return k.at[i].set(slope), new, at, wrong

        k = jnp.zeros((_STAGES, len(y))).at[0].set(carry["k"])
        first = jnp.where(carry["known"], 1, 0)
        k, new, at, wrong = lax.fori_loop(first, _STAGES, stage, (k, y, y, jnp.asarray(False)))
        error = h * (counts * jnp.abs(errors @ k)).max() / tolerance
        fits = error <= 1.0
        grow = 0.9 * jnp.maximum(error, 1e-12) ** -0.2
        grow = jnp.where(fits, jnp.clip(grow, 0.2, 5.0), jnp.clip(grow, 0.1, 0.9))
        # Not a number: far too long.
        grow = jnp.where(jnp.isfinite(error), grow, 0.1)
        gap = jnp.linalg.norm(new - at)
        rate = h * jnp.linalg.norm(k[6] - k[5]) / jnp.where(gap > 0.0, gap, jnp.inf)
        inner = powers @ k
        nodes = y + h * (_powers(_GRID) @ inner)
        cut, sides = jnp.asarray(1.0), side
        if located:
            cut, sides = lax.cond(
                fits & wrong,
                lambda: _first_change(field, nodes, side, tolerance),
                lambda: (cut, sides),
            )
        whole = cut >= 1.0
        # Where sides were wrong from the beginning the step is tried again with the right ones.
        used = fits & (cut > 1e-10)
        ahead = jnp.where(whole, new, y + h * (_powers(cut) @ inner))
        mu = jax.vmap(lambda x: field.clock_speed(y + h * (_powers(x) @ inner), clock))(cut * gauss)
        passed = jax.nn.logsumexp(weight - mu) + jnp.log(h * cut)
        n = jnp.where(used, carry["n"], STEPS)
        log_time = carry["log_time"]
        return {
            "y": jnp.where(used, ahead, y),
            "k": jnp.where(used, k[6], k[0]),
            "known": jnp.where(fits, whole, True),
            "side": sides,
            "h": jnp.where(fits & ~used, h, h * grow),
            "log_time": jnp.where(used, jnp.logaddexp(log_time, passed), log_time),
            "n": carry["n"] + used,
            "trials": carry["trials"] + 1,
            "evaluations": carry["evaluations"] + _STAGES - first,
            "length": carry["length"].at[n].set(h, mode="drop"),
            "cut": carry["cut"].at[n].set(cut, mode="drop"),
            "passed": carry["passed"].at[n].set(passed, mode="drop"),
            "nodes": carry["nodes"].at[n].set(nodes, mode="drop"),
            "rate": carry["rate"].at[n].set(rate, mode="drop"),
            "speed": jnp.where(carry["speed"] > 0.0, carry["speed"], jnp.abs(k[0]).max()),
        }

    def goes_on(carry: dict[str, Any]) -> Any:
        change = jnp.where(carry["known"], jnp.abs(carry["k"]).max() / carry["speed"], 1.0)
        return (
            (carry["n"] < STEPS)
            & (carry["trials"] < _TRIALS)
            & (carry["log_time"] < end)
            & ((carry["trials"] == 0) | ~field.torn(carry["side"], state[3]))
            & ((carry["trials"] == 0) | ((change < _CHANGE) & (change > 1.0 / _CHANGE)))
        )

    names = ("y", "k", "known", "side", "h", "log_time")
    carry = {name: jnp.asarray(value) for name, value in zip(names, state, strict=True)}
    each, none = jnp.zeros(STEPS), jnp.asarray(0)
    carry |= {"n": none, "trials": none, "evaluations": none, "speed": jnp.asarray(0.0)}
    carry |= {"length": each, "cut": each, "passed": each, "rate": each}
    carry["nodes"] = jnp.zeros((STEPS, len(_GRID), len(carry["y"])))
    final: dict[str, Any] = lax.while_loop(goes_on, trial, carry)
    return final


class ExplicitSession:
    """One run of explicit steps from a vector on, in a clock that starts at zero.

    **Arguments:**

    - `field`, `y`, `clock`: the equations, x, and the blocks that set the clock.
    - `tolerance`: how far any number may be off in a step.
    - `located`: whether bends are.
    - `sides`: those of the bends, if they are known.

    **Attributes:**

    - `stiff`: whether the steps are bound by stability.
    - `bends`: the share of the latest steps that ended at a bend.
    """

    late = False

    def __init__(
        self,
        field: Field,
        y: ndarray,
        clock: ndarray,
        tolerance: float,
        located: bool,
        sides: ndarray | None = None,
    ) -> None:
        self.field, self.clock, self.tolerance = field, clock, tolerance
        self.located = located and field.bends > 0
        self.evaluations = self.products = 0
        self.s = 0.0
        self.stiff, self.bends = False, 1.0
        self._bound = 0
        #: Which numbers changed their sides in the latest steps.
        self.crossed = np.zeros(field.bends, bool)
        side = np.zeros(0)
        if self.located:
            side = sides_at(field, y) if sides is None else sides
        h = 0.01 / max(field.spread, 1e-300)
        self._state = (np.array(y), np.zeros(len(y)), False, side, h)

    @property
    def sides(self) -> ndarray | None:
        """The sides of the bends that the next step begins with; None if they aren't located."""
        return self._state[3] if self.located else None

    def follow(self, before: "ExplicitSession") -> None:
        """Learn from a session that came to the vector that is renewed here."""
        self._state = (*self._state[:4], before._state[4])
        self._bound, self.stiff, self.bends = before._bound, before.stiff, before.bends

    def steps(self, log_time: float, end: float) -> list[Step]:
        """Accepted steps from a log time on, about to another one."""
        run = compiled(self.field.shape, explicit_steps, (5,))
        state = (*self._state, log_time)
        found = run(self.field.numbers, state, self.clock, self.tolerance, end, self.located)
        found = {name: np.asarray(value) for name, value in found.items()}
        self.evaluations += int(found["evaluations"])
        count = int(found["n"])
        if self.located:
            self.crossed = found["side"] != self._state[3]
        if not count:
            self._state = (*self._state[:3], found["side"], found["h"])
            if self.crossed.any():
                raise Torn("bends are crossed again and again")
            raise StepError("the step has become too small for the clock")
        steps = []
        for i in range(count):
            length = float(found["length"][i])
            stop = self.s + float(found["cut"][i]) * length
            passed = float(found["passed"][i])
            steps.append(Step(self.s, stop, length, _GRID, found["nodes"][i], None, passed))
            self.s = stop
        self.bends = float(np.mean(found["cut"][:count] < 1.0))
        for rate in found["rate"][:count]:
            self._bound = self._bound + 1 if rate > _EDGE else 0
            self.stiff = self.stiff or self._bound >= _STIFF_STEPS
        self._state = tuple(found[name] for name in ("y", "k", "known", "side", "h"))
        return steps


def sides_at(field: Field, y: ndarray) -> ndarray:
    """The sides of the bends at a vector, found layer after layer."""
    run = compiled(field.shape, Field.bending, ())
    side = np.zeros(field.bends)
    for _ in range(64):
        found = (np.asarray(run(field.numbers, y, side)) > 0.0).astype(float)
        if np.array_equal(found, side):
            break
        side = found
    return side
