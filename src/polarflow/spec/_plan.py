"""From a checked spec to the arrays and objects that a flow needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError, SpecError
from ._models import STOPS, ProblemSpec, Spec
from ._sentences import shown
from ._sources import FileData

if TYPE_CHECKING:
    from ..data import Data
    from ..flow import Problem, Progress, Stop
    from ..solution import Solution


S = TypeVar("S", bound=ProblemSpec)


@dataclass(frozen=True)
class Plan:
    """Everything that `gradient_flow` is called with.

    **Attributes:**

    - `spec`: the spec as resolved: with the width of a start that was read, and absolute paths.
    - `problem`: data, network, start and loss.
    - `stop`: what ends the run.
    - `record_times`, `record_log_times`: flow times asked for, or their natural logarithms.
    - `inputs`: inputs `(q, d)`, bias included, at which the learned function is wanted, or None.
    """

    spec: Spec
    problem: "Problem"
    stop: "Stop"
    record_times: tuple[float, ...]
    record_log_times: tuple[float, ...]
    inputs: ndarray | None

    def solve(self, progress: "Callable[[Progress], None] | None" = None) -> "Solution":
        """Follow the flow."""
        from ..solution import gradient_flow

        return gradient_flow(
            self.problem,
            stop=self.stop,
            rtol=self.spec.flow.rtol,
            branching=self.spec.flow.branching,
            record_times=self.record_times,
            record_log_times=self.record_log_times,
            points=self.spec.record.points,
            inputs=self.inputs,
            progress=progress,
            check=self.spec.flow.check,
        )


def assemble(spec: Spec, path: str | Path) -> Plan:
    """The plan of a spec; its files are read and its shapes compared.

    **Arguments:**

    - `spec`: the spec.
    - `path`: the file it came from; paths in the spec are relative to its folder.

    **Raises:** `SpecError`, naming the file and the key.
    """
    path = Path(path)
    folder = path.parent
    from ..flow import Stop, problem
    from ..losses import LOSSES
    from ._start import start

    with named(path, "data.file" if isinstance(spec.data, FileData) else None):
        data = spec.data.load(folder)
    # What is wrong with labels, start and inputs is told at once.
    wrong: list[str] = []
    loss = LOSSES[spec.loss.kind](spec.loss.reduction, spec.loss.scale)
    with _gathered(wrong), named(path):
        loss.check_labels(data.y)
    inputs = None
    with _gathered(wrong):
        inputs = _inputs(spec, data, path)
    with _gathered(wrong), named(path, None if spec.init.file is None else "init.file"):
        spec, network, initial = start(spec, data, loss, folder)
    if wrong:
        raise SpecError(wrong)
    with named(path):
        task = problem(data, network, initial, loss=loss)
    stop = Stop(**{key: getattr(spec.flow, key) for key in STOPS})
    record = spec.record
    return Plan(
        absolute(spec, folder), task, stop, record.times or (), record.log_times or (), inputs
    )


def _inputs(spec: Spec, data: "Data", path: Path) -> ndarray | None:
    rows = spec.record.inputs
    if not rows:
        return None
    from ..data import append_one

    length = data.dimension - data.bias
    for k, row in enumerate(rows):
        if len(row) != length:
            raise SpecError(
                [
                    f"{path}: record.inputs[{k}] = {shown(row)}: must have the {length} "
                    f"number{'' if length == 1 else 's'} of an input before bias"
                ]
            )
    return append_one(np.array(rows)) if data.bias else np.array(rows)


def absolute(spec: S, folder: Path) -> S:
    """The spec with paths that mean the same in any folder."""
    update: dict[str, Any] = {}
    for name in ("data", "init"):
        section = getattr(spec, name)
        if getattr(section, "file", None) is not None:
            file = str((folder / section.file).resolve())
            update[name] = section.model_copy(update={"file": file})
    return spec.model_copy(update=update)


@contextmanager
def _gathered(wrong: list[str]) -> Iterator[None]:
    """Errors go to a list, so that others can be found as well."""
    try:
        yield
    except SpecError as error:
        wrong.extend(error.messages)


@contextmanager
def named(path: Path, key: str | None = None) -> Iterator[None]:
    """Errors from a lower room, told with the spec's name and the key."""
    try:
        yield
    except SpecError:
        raise
    except PolarflowError as error:
        raise SpecError([f"{path}: {f'{key}: ' if key else ''}{error}"]) from None
