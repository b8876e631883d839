"""What the compiled loops say by a code, as an exception."""


class CapError(Exception):
    """A compiled loop met a cap: the result can't be trusted beyond this point."""
