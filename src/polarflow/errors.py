"""What goes wrong before a flow starts: errors whose text is a sentence a person can act on."""

from collections.abc import Iterable


class PolarflowError(ValueError):
    """A wrong argument, array or file.

    The text names the place, the value found and what is allowed. A flow that cannot go on is not
    an exception: its `Solution` carries a status instead.
    """


class SpecError(PolarflowError):
    """All that is wrong with a spec at once.

    **Arguments:**

    - `messages`: one sentence for each error.
    """

    def __init__(self, messages: Iterable[str]) -> None:
        self.messages: tuple[str, ...] = tuple(messages)
        super().__init__("\n".join(self.messages))
