"""What the compiled loops say by a code, as an exception."""

from .._engine import Halt


class CapError(Halt):
    """A compiled loop met a cap: the result can't be trusted beyond this point."""

    def __init__(self, what: str) -> None:
        super().__init__("limit", f"A limit was met: {what}.")
