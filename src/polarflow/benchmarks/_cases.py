"""What the methods are measured on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..experiments import FlowSetting, experiment

if TYPE_CHECKING:
    from ..flow import Problem


@dataclass(frozen=True)
class Case:
    """A published flow, and the times at which methods are compared.

    **Attributes:**

    - `name`: what the table calls it.
    - `experiment`: the published experiment whose data, width, scale, seed and step are taken.
    - `times`: flow times; the last is the end.
    - `decimals`: log10 of the scales at which the cost is compared.
    """

    name: str
    experiment: str
    times: tuple[float, ...]
    decimals: tuple[int, ...] = (-12, -100, -1000)

    @property
    def setting(self) -> FlowSetting:
        """The experiment's parameters."""
        setting = experiment(self.experiment).setting
        assert isinstance(setting, FlowSetting)
        return setting

    @property
    def step(self) -> float:
        """The paper's step of gradient descent."""
        return self.setting.step

    def problem(self) -> "Problem":
        """The experiment's problem with its seed."""
        return self.setting.problem(self.setting.seed())

    def scaled(self, decimal: int) -> "Problem":
        """The same with lambda = 10^decimal."""
        from ..flow import problem
        from ..networks import balanced

        base = self.problem()
        seed = self.setting.seed()
        initial = balanced(base.network, base.data.dimension, log10_scale=decimal, seed=seed)
        return problem(base.data, base.network, initial, loss=base.loss)


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        # Phases of figure 2, and the middle of both falls of the loss, where errors are largest.
        Case("two-points", "orthogonal-relu-fig2", (4.0, 6.25, 8.0, 12.5, 15.0, 20.0)),
        Case("five-points", "orthogonal-relu-fig4", (15.0, 30.0, 60.0, 94.0, 150.0, 300.0)),
    )
}
