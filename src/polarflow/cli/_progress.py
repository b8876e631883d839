"""How far a flow has come: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from contextlib import suppress
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..flow import Progress

_SECONDS_BETWEEN_LINES = 5.0
_START = "starting (the first run on a machine compiles the engine, which takes a while)"


class Reporter(Protocol):
    """A context in which the engine's news are told on stderr."""

    def __enter__(self) -> "Reporter": ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, progress: "Progress") -> None: ...


def tell(text: str) -> None:
    """A line on stderr; where it can't be written, nothing."""
    with suppress(OSError):
        print(f"polarflow: {text}", file=sys.stderr, flush=True)


def reporter(quiet: bool) -> Reporter:
    """A bar on a terminal, plain lines elsewhere, nothing if `quiet`."""
    if quiet:
        return _Silence()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _Bar()
    return _Lines()


def news(progress: "Progress") -> str:
    """Log-time, loss and saddle, in one short line."""
    saddle = f"saddle {progress.saddles - 1}" if progress.saddles else "no saddle yet"
    loss = f"loss = {progress.loss:.3e}"
    if progress.loss == 0.0 and isfinite(progress.log_loss):
        loss = f"ln loss = {progress.log_loss:.4g}"
    again = "   again, at half the tolerance" if progress.checking else ""
    again += "   again, with more digits" if progress.replaying else ""
    return f"ln t = {progress.log_time:8.3f}   {loss}   {saddle}{again}"


class _Silence:
    def __enter__(self) -> "_Silence":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, progress: "Progress") -> None:
        pass


class _Lines(_Silence):
    """A line now and then."""

    def __enter__(self) -> "_Lines":
        self._last = time.monotonic()
        tell(_START)
        return self

    def __call__(self, progress: "Progress") -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            share = "" if progress.fraction is None else f"   {progress.fraction:4.0%}"
            tell(news(progress) + share)


class _Bar(_Silence):
    """A bar that says log-time, loss and saddle."""

    def __enter__(self) -> "_Bar":
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns: tuple[Any, ...] = (
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(_START, total=None)
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def __call__(self, progress: "Progress") -> None:
        share = progress.fraction
        self._bar.update(
            self._task,
            description=news(progress),
            total=None if share is None else 1.0,
            completed=share or 0.0,
        )
