"""The verbs of the command `polarflow`, and its exit codes.

A verb's module is imported when the verb is used, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from enum import IntEnum

from cyclopts import App, CycloptsError

from ..errors import PolarflowError, SpecError


class Exit(IntEnum):
    """What the command returns to the shell."""

    OK = 0
    FAILED = 1
    WRONG = 2
    STOPPED = 3
    INTERRUPTED = 130


_EPILOGUE = (
    "Exit codes: 0 done; 1 a claim failed, or a defect of the program; 2 a wrong command line or "
    "spec; 3 the flow could not go on; 130 interrupted. What was recorded is kept."
)

_VERBS = {
    "run": ("run:run", "Follow one flow, as a spec says."),
    "init": ("init:init", "Write a commented example spec."),
    "list": ("reproduce:show", "List the published experiments."),
    "reproduce": ("reproduce:reproduce", "Reproduce published figures and check their claims."),
    "bench": ("bench:bench", "Measure the engine against its rivals."),
}


def _version() -> str:
    from importlib.metadata import version

    return version("polarflow")


app = App(
    name="polarflow",
    help="Follow the gradient flow of a homogeneous network through every saddle.",
    help_epilogue=_EPILOGUE,
    help_format="plaintext",
    version=_version,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
for _name, (_path, _help) in _VERBS.items():
    app.command(f"polarflow.cli.{_path}", name=_name, help=_help)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; errors are lines on stderr."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(app(tokens, exit_on_error=False, print_error=False) or 0)
    except CycloptsError as error:
        _complain(" ".join(str(error).split()))
        return Exit.WRONG
    except SpecError as error:
        for message in error.messages:
            _complain(message)
        return Exit.WRONG
    except PolarflowError as error:
        _complain(str(error))
        return Exit.WRONG
    except KeyboardInterrupt:
        _complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the result is where it was asked for.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK


def _complain(message: str) -> None:
    print(f"polarflow: {message}", file=sys.stderr)
