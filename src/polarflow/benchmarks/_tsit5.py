"""The rival from Diffrax: polar coordinates, an adaptive step, no knowledge of kinks.

With w_j = exp(rho_j) u_j and a balanced start, a_j = s_j |w_j|, the flow is (Boursier et al. 2022,
equation 9) rho_j' = s_j <D_j, u_j>, u_j' = s_j (D_j - <D_j, u_j> u_j).
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

if TYPE_CHECKING:
    from ..flow import Problem

MAX_STEPS = 50_000
"""Where the flow slides along a kink the solver rejects without end; it is stopped here."""
STAGES = 6
"""Field evaluations of an attempted step: seven stages, the first of them reused."""


@lru_cache(maxsize=1)
def _solver() -> Any:
    import diffrax
    import equinox
    import jax
    import jax.numpy as jnp

    def field(_: Any, state: Any, data: Any) -> Any:
        rho, u = state
        x, y, factor, slope, sign = data
        z = u @ x.T
        active = jnp.where(z > 0, 1.0, slope)
        h = jnp.sum((sign * jnp.exp(2.0 * rho))[:, None] * active * z, axis=0)
        force = sign[:, None] * ((active * (factor * (y - h))) @ x)
        along = jnp.sum(force * u, axis=1)
        return along, force - along[:, None] * u

    @equinox.filter_jit
    def solve(state: Any, data: Any, times: Any, rtol: Any) -> Any:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            t0=0.0,
            t1=times[-1],
            dt0=None,
            y0=state,
            args=data,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
            max_steps=MAX_STEPS,
            throw=False,
        )
        finished = solution.result == diffrax.RESULTS.successful
        return solution.ys, solution.stats["num_steps"], finished

    return jax, solve


def integrate(
    problem: "Problem", times: Float[ndarray, " T"], rtol: float
) -> tuple[Float[ndarray, "T m"], Float[ndarray, "T m d"], int, bool]:
    """ln|w| and w/|w| at the times, the number of field evaluations, and whether it finished."""
    jax, solve = _solver()
    w = problem.initial.direction[:, 1:]
    size = np.linalg.norm(w, axis=1)
    state = (problem.initial.log_norm + np.log(size), w / size[:, None])
    n = len(problem.data.y)
    data = (
        np.array(problem.data.x),
        np.array(problem.data.y),
        problem.loss.factor(n),
        problem.network.slope,
        np.sign(problem.initial.direction[:, 0]),
    )
    with jax.enable_x64(True):
        (rho, u), steps, finished = jax.block_until_ready(solve(state, data, times, rtol))
        rho, u, steps, done = np.asarray(rho), np.asarray(u), int(steps), bool(finished)
    return rho, u, STAGES * steps + 1, done
