"""The order of the rooms, read from every import in the source, and what is imported when."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import polarflow

SOURCE = Path(__file__).parents[1] / "src" / "polarflow"

# A room imports only from rooms before it.
ROOMS = (
    "errors",
    "losses",
    "data",
    "networks",
    "ncf",
    "flow",
    "saddles",
    "margins",
    "solution",
    "limit",
    "comparators",
    "plotting",
    "report",
    "experiments",
    "benchmarks",
    "store",
    "spec",
    "cli",
)
# The public names, and `python -m polarflow`.
FACADES = {"__init__", "__main__"}
LONGEST = 600
HEAVY = ("numba", "matplotlib", "scipy", "xarray", "sklearn", "plotly", "zarr", "jax")


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of every import from polarflow in a file, those inside functions included."""
    package = ("polarflow", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            targets = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            parts = target.split(".")
            if parts[0] == "polarflow" and parts[1:2] != ["__version__"]:
                name = parts[1] if len(parts) > 1 else "__init__"
                yield node.lineno, polarflow._ROOMS.get(name, name)


def test_every_room_has_its_place() -> None:
    found = {room_of(path) for path in SOURCE.rglob("*.py")} - FACADES
    assert found <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_lower_rooms_only(room: str) -> None:
    lower = set(ROOMS[: ROOMS.index(room)])
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {target}"
        for path in sorted(SOURCE.rglob("*.py"))
        if room_of(path) == room
        for line, target in imported_rooms(path)
        if target != room and target not in lower
    ]
    assert not wrong


def test_modules_stay_small() -> None:
    lengths = {
        str(path.relative_to(SOURCE)): len(path.read_text(encoding="utf-8").splitlines())
        for path in SOURCE.rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


@pytest.mark.parametrize(
    "program",
    [
        "import polarflow",
        "import polarflow as pf; pf.PolarflowError, pf.Square, pf.TwoLayer, pf.Data, pf.balanced",
        "from polarflow.cli.app import main; main(['--help'])",
        "from polarflow.cli.app import main; main(['run', '--help'])",
        "from polarflow.cli.app import main; main(['run', 'no-such-file.toml'])",
    ],
)
def test_light_uses_import_nothing_heavy(program: str) -> None:
    report = f"import sys; {program}; print('HEAVY', *sorted(set(sys.modules) & set({HEAVY})))"
    result = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1].split() == ["HEAVY"]


def test_every_public_name_can_be_had() -> None:
    for name in polarflow.__all__:
        assert getattr(polarflow, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        polarflow.nonsense  # noqa: B018
