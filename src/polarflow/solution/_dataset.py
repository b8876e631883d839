"""A solution as a Dataset with named dimensions, units and attributes."""

from typing import TYPE_CHECKING

import numpy as np
import xarray

from .. import __version__
from ..flow import Problem
from ..networks import TwoLayer

if TYPE_CHECKING:
    from ._solution import Solution

_CONVENTIONS = (
    "Logarithms are natural. log_norm is the logarithm of a block's norm and direction the unit "
    "vector, so that its weights are exp(log_norm) * direction. A block of a two-layer network is "
    "a neuron (a, w). Inputs include the bias if bias is 1. The residual is minus the derivative "
    "of the loss by the prediction."
)


def to_dataset(solution: "Solution") -> xarray.Dataset:
    """The trajectory and the saddles of a solution.

    Dimensions: `time`, `block` (neurons), `parameter` (a, w0, w1, ...), `example`, `input`,
    `saddle`, `component` (the C outputs, if C > 1), and `query` where the learned function was
    recorded.
    """
    problem, path = solution.problem, solution.trajectory
    network, examples = problem.network, problem.data.examples
    names = _parameters(problem)
    several = " component" if network.outputs > 1 else ""

    def variable(dims: str, values: object, long_name: str, units: str = "1") -> tuple:
        return tuple(dims.split()), np.asarray(values), {"long_name": long_name, "units": units}

    def of_saddles(name: str, long_name: str, units: str = "1") -> tuple:
        values = [getattr(s, name) for s in solution.saddles]
        floats = np.array([np.nan if v is None else v for v in values], dtype=float)
        return variable("saddle", floats, long_name, units)

    variables = {
        "loss": variable("time", path.loss, "loss"),
        "log_loss": variable("time", path.log_loss, "logarithm of the loss", "nat"),
        "grad_norm": variable("time", path.grad_norm, "norm of the gradient of the loss"),
        "log_grad_norm": variable(
            "time", path.log_grad_norm, "logarithm of the norm of the gradient", "nat"
        ),
        "log_residual": variable(
            "time", path.log_residual, "logarithm of the norm of the residual", "nat"
        ),
        "log_norm": variable("time block", path.log_norm, "logarithm of the block's norm", "nat"),
        "direction": variable("time block parameter", path.direction, "direction of the block"),
        "prediction": variable(
            f"time example{several}", path.prediction, "network at the examples"
        ),
        "x": variable("example input", problem.data.x, "inputs"),
        "y": variable(
            "example" if problem.data.y.ndim == 1 else "example component",
            problem.data.y,
            "labels",
        ),
        "sign": variable("block", _signs(problem), "sign of the (largest) output weight at start"),
        "saddle_log_time_enter": of_saddles("log_time_enter", "log time of entering", "nat"),
        "saddle_log_time_leave": of_saddles("log_time_leave", "log time of leaving", "nat"),
        "saddle_loss": of_saddles("loss", "loss at the saddle"),
        "saddle_grad_norm": of_saddles("grad_norm", "norm of the gradient at the saddle"),
        "saddle_active_blocks": of_saddles("active_blocks", "number of active blocks"),
        "saddle_residual_norm": of_saddles("residual_norm", "norm of the residual at the saddle"),
        "saddle_kkt_residual": of_saddles(
            "kkt_residual", "largest relative KKT residual of the microscopic blocks on leaving"
        ),
    }
    # The origin is entered at time zero, whose logarithm is -inf rather than missing.
    enter = variables["saddle_log_time_enter"][1]
    for i, saddle in enumerate(solution.saddles):
        if saddle.time_enter == 0.0:
            enter[i] = -np.inf
    if len(solution.inputs):
        variables["query_input"] = variable("query input", solution.inputs, "recorded inputs")
        variables["output"] = variable(
            f"time query{several}", path.output, "network at recorded inputs"
        )
    if solution.late is not None:
        late = solution.late
        variables |= {
            "margin": variable("time example", late.margin, "margin divided by |w|^L"),
            "smoothed_margin": variable(
                "time", late.smoothed_margin, "smoothed margin divided by |w|^L"
            ),
            "alignment_angle": variable(
                "time", late.alignment_angle, "angle of the weights and minus the gradient", "rad"
            ),
            "path_length": variable(
                "time", late.path_length, "length of the path of w/|w| from the start", "rad"
            ),
        }
    return xarray.Dataset(
        variables,
        coords={
            "time": variable("time", path.time, "time of the flow", "flow time"),
            "log_time": variable("time", path.log_time, "logarithm of the time", "nat"),
            "parameter": ("parameter", names, {"long_name": "weight of a block"}),
        },
        attrs={
            "title": f"Gradient flow of a {network.kind.replace('_', '-')} network"
            + (f" on {problem.data.name}" if problem.data.name else ""),
            "spec": "{}",
            "polarflow_version": __version__,
            "bias": int(problem.data.bias),
            "network_kind": network.kind,
            "neurons": int(isinstance(network, TwoLayer)),
            "outputs": network.outputs,
            "activation_slope": float(getattr(network, "slope", 0.0)),
            "loss_kind": problem.loss.kind,
            "loss_scale": problem.loss.factor(examples),
            "stop_reason": solution.stop_reason,
            "status": solution.status,
            "Conventions": _CONVENTIONS,
        },
    )


def _parameters(problem: Problem) -> list[str]:
    """The names of a block's weights: a, w0, w1, ... of a neuron, with a0, a1, ... if C > 1."""
    network = problem.network
    if not isinstance(network, TwoLayer):
        return [f"w{i}" for i in range(problem.initial.direction.shape[1])]
    outputs = range(network.outputs)
    a = ["a"] if network.outputs == 1 else [f"a{c}" for c in outputs]
    return [*a, *(f"w{i}" for i in range(problem.data.dimension))]


def _signs(problem: Problem) -> np.ndarray:
    """The sign of each neuron's output weight, the largest if there are several; 1 elsewhere."""
    network, direction = problem.network, problem.initial.direction
    if not isinstance(network, TwoLayer):
        return np.ones(len(direction))
    a = direction[:, : network.outputs]
    return np.sign(a[np.arange(len(a)), np.abs(a).argmax(axis=1)])
