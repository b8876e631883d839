"""The section [ncf], and the task that `polarflow ncf` makes of a spec."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy import ndarray
from pydantic import Field, field_validator

from ..errors import SpecError
from ._base import Number, Section, Seed, Whole

if TYPE_CHECKING:
    from ..ncf import KKTSet
    from ..networks import Network, TwoLayer
    from ._models import ProblemSpec

Labels = Literal["labels"]


class NcfSection(Section):
    """The KKT points of the neural correlation function (NCF), for `polarflow ncf`."""

    z: Labels | tuple[Number, ...] | tuple[tuple[Number, ...], ...] = Field(
        "labels",
        description=(
            "The vector of N(w) = sum_k z_k H(x_k; w): the labels as they are, or a number for "
            "each example (a list of C numbers with C outputs), not all zero."
        ),
    )
    method: Literal["enumerate", "search"] | None = Field(
        None,
        description=(
            "enumerate: all KKT points, of one two-layer (leaky) ReLU or linear neuron with one "
            "output or one squared-ReLU unit, for inputs of few dimensions. search: points of any "
            "network, from random starts. Unless given: enumerate where possible, else search."
        ),
        examples=["search"],
    )
    starts: Annotated[Whole, Field(ge=1)] = Field(
        64, description="The number of random directions that a search starts from."
    )
    seed: Seed | None = Field(
        None,
        description="Seed of the starts; the spec's seed unless given.",
        examples=[0],
    )

    @field_validator("z", mode="before")
    @classmethod
    def _vector(cls, value: Any) -> Any:
        if value == "labels":
            return value
        rows = value if isinstance(value, (list, tuple)) else ()
        flat = [v for row in rows for v in (row if isinstance(row, (list, tuple)) else [row])]
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in flat)
        if not flat or not numbers or not np.isfinite(flat).all():
            raise ValueError(
                f'ncf.z = {value!r}: must be "labels" or a list of numbers, one for each example'
            )
        return value


@dataclass(frozen=True, eq=False)
class NcfPlan:
    """What `kkt_points` is called with.

    **Attributes:**

    - `spec`: the spec as resolved, with absolute paths.
    - `network`: whose blocks are treated.
    - `x`, `z`: inputs, bias included, and the vector of the NCF.
    """

    spec: "ProblemSpec"
    network: "Network | TwoLayer"
    x: ndarray
    z: ndarray

    def solve(self) -> "KKTSet":
        """Find the points.

        **Raises:** `PolarflowError` if N is positive nowhere, or there are too many cells.
        """
        from ..ncf import kkt_points

        section = self.spec.ncf
        assert section is not None and section.seed is not None
        return kkt_points(
            self.network,
            self.x,
            self.z,
            method=section.method,
            starts=section.starts,
            seed=section.seed,
        )


def assemble_ncf(spec: "ProblemSpec", path: str | Path) -> NcfPlan:
    """The plan of a spec; its files are read and its shapes compared.

    **Raises:** `SpecError`, naming the file and the key.
    """
    from ..ncf import check_target
    from ._plan import absolute, named
    from ._sources import FileData
    from ._start import network_of

    path = Path(path)
    wanted = spec.ncf or NcfSection()
    if wanted.seed is None:
        wanted = wanted.model_copy(update={"seed": spec.seed})
    spec = spec.model_copy(update={"ncf": wanted})
    with named(path, "data.file" if isinstance(spec.data, FileData) else None):
        data = spec.data.load(path.parent)
    labels = wanted.z == "labels"
    try:
        given = np.asarray(data.y if labels else wanted.z, dtype=float)
    except ValueError:
        raise SpecError([f"{path}: ncf.z: its rows must have equal lengths"]) from None
    outputs = given.shape[1] if given.ndim == 2 else 1
    section = spec.network
    if getattr(section, "width", 0) is None:
        section = section.model_copy(update={"width": 1})
    seed = spec.seed if spec.init.seed is None else spec.init.seed
    with named(path):
        network = network_of(section, data.dimension, outputs, seed, {})
    with named(path, 'ncf.z = "labels"' if labels else "ncf.z"):
        z = check_target(given, data.examples, outputs)
    return NcfPlan(absolute(spec, path.parent), network, data.x, z)
