"""The verbs of the command `polarflow`, and its exit codes.

A verb's module is imported when the verb is used, so that `--help` is quick.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum

from cyclopts import App, CycloptsError

from ..errors import PolarflowError, SpecError
from ._progress import tell


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
    "ncf": ("ncf:ncf", "Find the KKT points of the neural correlation function."),
    "saddles": ("saddles:saddles", "The path from saddle to saddle as the start vanishes."),
    "pursue": ("pursue:pursue", "Grow a network neuron by neuron, each the best for the residual."),
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
    _open_closed()
    try:
        code = int(app(tokens, exit_on_error=False, print_error=False) or 0)
        sys.stdout.flush()
        return code
    except CycloptsError as error:
        tell(" ".join(str(error).split()))
        return Exit.WRONG
    except SpecError as error:
        for message in error.messages:
            tell(message)
        return Exit.WRONG
    except PolarflowError as error:
        tell(str(error))
        return Exit.WRONG
    except KeyboardInterrupt:
        tell("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the result is where it was asked for.
        _silence()
        return Exit.OK
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        tell(f"{place}cannot be read or written ({error.strerror or error})")
        _silence()
        return Exit.FAILED


def _open_closed() -> None:
    """Streams that were closed by the shell swallow what they are given."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115


def _silence() -> None:
    """Don't try again, at exit, to write what stdout could not take."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
