"""What the methods are measured on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..experiments import FlowSetting, experiment

if TYPE_CHECKING:
    from ..flow import Problem


@dataclass(frozen=True)
class Case:
    """A flow, and the times at which methods are compared.

    **Attributes:**

    - `name`: what the table calls it.
    - `source`: where the flow is from.
    - `build`: makes the problem.
    - `step`: the step of gradient descent, in units of flow time.
    - `times`: flow times; the last is the end.
    - `rtol`: the tolerance of the engine's row that ratios are taken to.
    - `more_rtols`: other tolerances that the engine is run with.
    - `reference_rtol`: that of the engine's run that errors are taken to.
    - `check_step`: the larger step of the extrapolated gradient descent that checks the reference;
      None where it would take hours. For a loss of classification `check_rtol`, that of Tsit5.
    - `by_loss`: steps of gradient descent that are divided by the loss.
    - `cap`: how many field evaluations an adaptive solver may use.
    - `finer`: gradient descent is also run with a tenth of the step.
    - `memory`: the peak memory of the engine is measured, in a process of its own.
    """

    name: str
    source: str
    build: "Callable[[], Problem]"
    step: float
    times: tuple[float, ...]
    rtol: float = 1e-8
    more_rtols: tuple[float, ...] = (1e-4,)
    reference_rtol: float = 1e-12
    check_step: float | None = 1e-4
    check_rtol: float | None = None
    by_loss: tuple[float, ...] = ()
    cap: int = 300_000
    finer: bool = False
    memory: bool = False


def flow_setting(name: str) -> FlowSetting:
    """The parameters of a published experiment on one flow."""
    setting = experiment(name).setting
    assert isinstance(setting, FlowSetting)
    return setting


def published(name: str) -> "Callable[[], Problem]":
    """The problem of a published experiment, with its seed."""
    return lambda: flow_setting(name).problem(flow_setting(name).seed())


def _proposition(name: str) -> "Callable[[], Problem]":
    """The problem of an experiment of Ji & Telgarsky."""

    def build() -> "Problem":
        setting: Any = experiment(name).setting
        made: Problem = setting.problem(0)
        return made

    return build


def wide(width: int) -> "Problem":
    """Three points on the line from lambda = 1e-3/sqrt(m), under the mean squared error."""
    from ..data import named
    from ..flow import problem
    from ..losses import Square
    from ..networks import TwoLayer, balanced

    data, network = named("three-points"), TwoLayer(width)
    initial = balanced(network, data.dimension, scale=1e-3 / width**0.5, seed=0)
    return problem(data, network, initial, loss=Square("mean", scale=2.0))


def student(examples: int, dimension: int, width: int, log10_scale: float) -> "Problem":
    """A random teacher's labels, from lambda = 10^log10_scale / sqrt(md), mean squared error."""
    from math import log10

    from ..data import teacher_student
    from ..flow import problem
    from ..losses import Square
    from ..networks import TwoLayer, balanced

    data = teacher_student(examples, dimension, seed=0)
    network = TwoLayer(width)
    decimal = log10_scale - 0.5 * log10(width * dimension)
    initial = balanced(network, dimension, log10_scale=decimal, seed=0)
    return problem(data, network, initial, loss=Square("mean", scale=2.0))


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        # Phases of figure 2, and the middle of both falls of the loss, where errors are largest.
        Case(
            "two-points",
            "Boursier et al. 2022, figure 2: n=2, m=60",
            published("orthogonal-relu-fig2"),
            step=1e-3,
            times=(4.0, 6.25, 8.0, 12.5, 15.0, 20.0),
            more_rtols=(1e-4, 1e-6, 1e-10),
            finer=True,
        ),
        Case(
            "five-points",
            "Boursier et al. 2022, figure 4: n=5, m=60",
            published("orthogonal-relu-fig4"),
            step=1e-3,
            times=(15.0, 30.0, 60.0, 94.0, 150.0, 300.0),
            more_rtols=(1e-4, 1e-6, 1e-10),
            finer=True,
        ),
        Case(
            "high-dimension",
            "Boursier et al. 2022, figures 6 and 7: n=75, d=150, m=200",
            published("orthogonal-relu-fig6"),
            step=1e-3,
            times=(40.0, 60.0, 80.0, 100.0, 150.0, 200.0),
            rtol=1e-7,
            reference_rtol=1e-9,
            check_step=1e-3,
            cap=30_000,
        ),
        Case(
            "width",
            "three points on the line, m=20 000",
            lambda: wide(20_000),
            step=1e-3,
            times=(10.0, 50.0, 200.0, 1000.0, 2000.0),
            reference_rtol=1e-10,
            check_step=8e-3,
            cap=30_000,
        ),
        Case(
            "many-examples",
            "a teacher of 6 neurons: n=10 000, d=10, m=1000",
            lambda: student(10_000, 10, 1000, -3.0),
            step=1e-3,
            times=(0.25, 0.5),
            rtol=1e-6,
            reference_rtol=1e-8,
            check_step=None,
            cap=500,
            memory=True,
        ),
        Case(
            "squared-relu",
            "Kumar & Haupt 2024, figure 1 (two-homogeneous): n=50, m=20, order 2",
            published("two-homogeneous-fig1"),
            step=5e-5,
            times=(0.5, 1.0, 1.5, 2.0, 2.5),
            reference_rtol=1e-11,
            check_step=1e-4,
        ),
        Case(
            "deep",
            "Kumar & Haupt 2024, figure 1 (deep): n=100, 600 weights, order 4",
            published("deep-homogeneous-fig1"),
            step=5e-3,
            times=(500.0, 1000.0, 1500.0, 1700.0),
            reference_rtol=1e-11,
            check_step=2e-2,
        ),
        Case(
            "squared-relu-late",
            "Ji & Telgarsky 2020, proposition 4.6: n=10, m=24, logistic loss",
            _proposition("directional-local-guarantee"),
            step=1e-3,
            times=(1e1, 1e3, 1e10, 1e30, 1e100),
            reference_rtol=1e-11,
            check_step=None,
            check_rtol=1e-11,
            by_loss=(1e-2, 1e-3),
        ),
        Case(
            "deep-linear-late",
            "Ji & Telgarsky 2020, proposition 4.4: n=30, three layers, exponential loss",
            _proposition("directional-deep-linear"),
            step=1e-3,
            times=(1e1, 1e3, 1e10, 1e30, 1e100),
            reference_rtol=1e-11,
            check_step=None,
            check_rtol=1e-11,
            by_loss=(1e-2, 1e-3),
        ),
    )
}
