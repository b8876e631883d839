"""What a command and a run leave, for the tests that look at them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TWO_POINTS = ROOT / "examples" / "two-points.toml"


@dataclass(frozen=True)
class Outcome:
    """The exit code of a command and the lines it wrote."""

    code: int
    out: list[str]
    err: list[str]


@dataclass(frozen=True)
class Run:
    """The folder of a run and its summary."""

    path: Path
    summary: dict[str, Any]
