"""What a result was made with."""

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..spec import ProblemSpec

_LIBRARIES = ("polarflow", "numpy", "numba", "scipy", "xarray", "zarr", "matplotlib", "plotly")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that numbers or files depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def provenance(spec: "ProblemSpec", unused: tuple[str, ...] = ()) -> dict[str, Any]:
    """The spec as resolved, without sections that had no part in it, the versions and the seed."""
    given = {name: section for name, section in spec.given().items() if name not in unused}
    return {"spec": given, "versions": versions(), "seed": spec.seed}
