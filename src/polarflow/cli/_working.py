"""A folder while the result that goes into it is worked out."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import PolarflowError
from ..store import RunFolder


@contextmanager
def working(folder: RunFolder, place: object) -> Iterator[None]:
    """Discard the folder if the result does not come about; sentences begin with the place."""
    try:
        yield
    except PolarflowError as error:
        folder.discard()
        raise PolarflowError(f"{place}: {error}") from None
    except BaseException:
        folder.discard()
        raise
