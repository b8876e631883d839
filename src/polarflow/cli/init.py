"""The verb `init`."""

from pathlib import Path

from ..errors import PolarflowError


def init(path: Path = Path("flow.toml"), /) -> None:
    """Write a commented example spec.

    The example has every key with its meaning, what is allowed and its default, and runs as it is:
    the two-point experiment of Boursier et al. (2022).

    Parameters
    ----------
    path
        The file to write; an existing one is left alone.
    """
    from ..spec import example

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example())
    except FileExistsError:
        raise PolarflowError(f"{path}: exists already; give another path") from None
    except OSError as error:
        raise PolarflowError(f"{path}: cannot be written ({error.strerror})") from None
    print(f"wrote {path}; now: polarflow run {path}")
