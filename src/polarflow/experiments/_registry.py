"""Which experiments there are."""

from typing import Any

from ..errors import PolarflowError
from ._base import Experiment
from .boursier_2022 import EXPERIMENTS as BOURSIER_2022
from .ji_telgarsky_2020 import EXPERIMENTS as JI_TELGARSKY_2020
from .kumar_haupt_2024 import EXPERIMENTS as KUMAR_HAUPT_2024
from .kumar_haupt_2024_deep import EXPERIMENTS as KUMAR_HAUPT_2024_DEEP

_ALL: dict[str, Experiment[Any]] = {
    each.name: each
    for each in (*BOURSIER_2022, *KUMAR_HAUPT_2024, *KUMAR_HAUPT_2024_DEEP, *JI_TELGARSKY_2020)
}


def names() -> tuple[str, ...]:
    """The names of all experiments."""
    return tuple(_ALL)


def describe() -> dict[str, str]:
    """One line about every experiment, by name."""
    return {name: f"{each.title} ({each.paper})" for name, each in _ALL.items()}


def experiment(name: str) -> Experiment[Any]:
    """The experiment of that name.

    **Raises:** `PolarflowError` for a name that is not known.
    """
    if name not in _ALL:
        raise PolarflowError(f"experiment is {name!r}; it must be one of {', '.join(_ALL)}.")
    return _ALL[name]
