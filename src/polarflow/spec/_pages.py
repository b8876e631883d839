"""The commented example and the reference page, both written from the models."""

import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ._base import Section
from ._models import (
    CompareSection,
    FlowSection,
    InitSection,
    LossSection,
    NcfSection,
    RecordSection,
    Spec,
)
from ._networks import KINDS, TwoLayerSection
from ._sentences import allowed, shown
from ._sources import DigitsData, FileData, InlineData, TeacherData, ToyData

_SOURCES = (ToyData, InlineData, FileData, TeacherData, DigitsData)
_SECTIONS: dict[str, type[Section]] = {
    "init": InitSection,
    "loss": LossSection,
    "flow": FlowSection,
    "record": RecordSection,
    "compare": CompareSection,
    "ncf": NcfSection,
}

#: The two-point experiment of Boursier et al. (2022), figures 2 and 3: the keys that are not
#: left at their defaults. Their step is 1e-3, so that 15 000 iterations are the time 15, and
#: their loss the mean squared error without 1/2.
TWO_POINTS: dict[str, dict[str, Any]] = {
    "data": {"name": "two-points"},
    "network": {"width": 60},
    "init": {"scale": 1e-6 / math.sqrt(60)},
    "loss": {"scale": 2.0},
    "flow": {"time": 15.0},
    "record": {"times": [0.0, 4.0, 8.0, 15.0]},
}

_HEADER = """\
# The spec of one flow, for `polarflow run`. Every key stands here with its default; a key behind
# `#` is not set. A path is relative to the folder of this file.
#
# As it stands, this is the two-point experiment of Boursier, Pillaud-Vivien & Flammarion (2022),
# figures 2 and 3: scale = 1e-6 / sqrt(60), the mean squared error without 1/2, and time = 1e-3
# times their iterations.
"""


def example() -> str:
    """A spec with every key, its meaning, what is allowed and its default; it runs as it is."""
    lines = [_HEADER, *_commented(Spec, "seed", {}), "", "[data]", "# Exactly one of these:"]
    for source in _SOURCES:
        active = TWO_POINTS["data"] if source is ToyData else None
        lines += ["", f"# - {(source.__doc__ or '').strip()}"]
        for name in source.model_fields:
            lines += _commented(source, name, active)
    lines += ["", "[network]", "# The keys of one kind:"]
    for network in KINDS.values():
        used = TWO_POINTS["network"] if network is TwoLayerSection else None
        lines += ["", f"# - {(network.__doc__ or '').strip()}"]
        for name in network.model_fields:
            lines += _commented(network, name, used)
    for title, model in _SECTIONS.items():
        lines += ["", f"[{title}]"]
        for name in model.model_fields:
            lines += _commented(model, name, TWO_POINTS.get(title, {}))
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The reference page of the spec, in Markdown."""
    lines = [
        "# The keys of a spec",
        "",
        "<!-- Written by `python -m polarflow.spec`; a test compares the two. -->",
        "",
        "`polarflow run SPEC.toml` reads these keys; `--set section.key=value` replaces one, with",
        "a value as TOML writes it (a single word needs no quotes), and the alternatives to it:",
        "`--set init.log10_scale=-1000` takes the place of `init.scale`. A path is relative to the",
        "spec's folder. An unknown key is an error. `polarflow init` writes an example with every",
        "key.",
        "",
        *_table(Spec, ["seed"]),
    ]
    lines += ["", "## [data]", "", "Exactly one of the following."]
    for source in _SOURCES:
        lines += ["", f"### {(source.__doc__ or '').strip()}", ""]
        lines += _table(source, list(source.model_fields))
    lines += ["", "## [network]", "", "The keys of one kind; `kind` says which."]
    for kind, network in KINDS.items():
        lines += ["", f'### kind = "{kind}"', "", (network.__doc__ or "").strip(), ""]
        lines += _table(network, list(network.model_fields))
    for title, model in _SECTIONS.items():
        lines += ["", f"## [{title}]", "", (model.__doc__ or "").strip(), ""]
        lines += _table(model, list(model.model_fields))
    return "\n".join(lines) + "\n"


def _commented(
    model: type[BaseModel], name: str, active: Mapping[str, Any] | None
) -> Iterator[str]:
    """A key under its description; behind `#` if the table is unused or the key has no value."""
    field = model.model_fields[name]
    note = f"{field.description} ({_rule(model, name)}{_default(field)})"
    yield from textwrap.wrap(note, 98, initial_indent="# ", subsequent_indent="# ")
    default = None if field.is_required() else field.default
    value = None if active is None else active.get(name, default)
    if value is not None:
        yield f"{name} = {_toml(value)}"
    else:
        yield f"# {name} = {_toml(field.examples[0] if field.examples else default)}"


def _table(model: type[BaseModel], names: list[str]) -> Iterator[str]:
    yield "| key | allowed | default | meaning |"
    yield "|---|---|---|---|"
    for name in names:
        field = model.model_fields[name]
        default = "needed" if field.is_required() else "none"
        if not field.is_required() and field.default is not None:
            default = f"`{_toml(field.default)}`"
        text = str(field.description).replace("|", r"\|")
        yield f"| `{name}` | {_rule(model, name)} | {default} | {text} |"


def _rule(model: type[BaseModel], name: str) -> str:
    schema = model.model_json_schema()
    return allowed(schema.get("$defs", {}).get(model.__name__, schema)["properties"][name])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return f"; default {'none' if field.default is None else _toml(field.default)}"


def _toml(value: Any) -> str:
    return shown(value, longest=None)
