"""When a run ends."""

from dataclasses import dataclass, fields

import numpy as np

from ..errors import PolarflowError
from ._snapshot import NEVER, Moment


@dataclass(frozen=True)
class Stop:
    """Conditions, the first reached of which ends the run; at least one must be given.

    **Arguments:**

    - `loss`, `log_loss`: a value of the loss, or of its natural logarithm.
    - `time`, `log_time`: a value of the flow's time, or of its natural logarithm.
    - `grad_norm`: rest. The norm of the gradient is at most this, and no small neuron grows: at
      a saddle that the flow will leave the gradient is small too, and the run goes on.
    - `max_saddles`: so many saddles, the origin included, have been visited and left.
    """

    loss: float | None = None
    log_loss: float | None = None
    time: float | None = None
    log_time: float | None = None
    grad_norm: float | None = None
    max_saddles: int | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        if all(value is None for value in given.values()):
            raise PolarflowError(
                f"flow: no stop is given; give at least one of {', '.join(given)}."
            )
        for name in ("loss", "time", "grad_norm"):
            value = given[name]
            if value is not None and not (np.isfinite(value) and value > 0):
                raise PolarflowError(f"flow.{name} is {value}; it must be a positive number.")
        for name in ("log_loss", "log_time"):
            value = given[name]
            if value is not None and not np.isfinite(value):
                raise PolarflowError(f"flow.{name} is {value}; it must be finite.")
        if self.max_saddles is not None and self.max_saddles < 1:
            raise PolarflowError(f"flow.max_saddles is {self.max_saddles}; it must be at least 1.")

    def end(self) -> tuple[Moment, str]:
        """The moment that ends the run, `NEVER` if none is given, and the condition's name."""
        ends = [(NEVER, "time")]
        if self.time is not None:
            ends.append((Moment.of_time(self.time), "time"))
        if self.log_time is not None:
            ends.append((Moment.of_log_time(self.log_time), "log_time"))
        return min(ends, key=lambda end: end[0].log_time)

    def lowest_loss(self) -> tuple[float, str]:
        """The loss that ends the run as a logarithm, -inf if none is given, and its name."""
        ends = [(-np.inf, "loss")]
        if self.loss is not None:
            ends.append((float(np.log(self.loss)), "loss"))
        if self.log_loss is not None:
            ends.append((float(self.log_loss), "log_loss"))
        return max(ends)
