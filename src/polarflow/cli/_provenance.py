"""What a result was made with."""

import platform
from importlib.metadata import version

_LIBRARIES = ("polarflow", "numpy", "numba", "scipy", "xarray", "zarr", "matplotlib", "plotly")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that numbers or files depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}
