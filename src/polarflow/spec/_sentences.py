"""Errors of a spec as sentences: the file, the key, the value, and what is allowed."""

import json
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ._base import LABEL_ROWS, LABELS, labels_tag
from ._models import Spec
from ._networks import KINDS, network_tag
from ._sources import NAMES, SOURCES, source_tag

_LONGEST_VALUE = 60


def sentences(
    error: ValidationError, raw: Mapping[str, Any], overridden: Iterable[str]
) -> list[str]:
    """One sentence for each error, without the file's name.

    **Arguments:**

    - `error`: what pydantic found.
    - `raw`: the tables as read.
    - `overridden`: the dotted keys that were given by `--set`.
    """
    found = []
    for details in error.errors(include_url=False):
        path = _without_tags(list(details["loc"]))
        found.append(_sentence(details, path, raw, tuple(overridden)))
    return found


def _sentence(
    details: Mapping[str, Any],
    path: list[int | str],
    raw: Mapping[str, Any],
    overridden: tuple[str, ...],
) -> str:
    kind, value = details["type"], details["input"]
    key = dotted(path)
    unknown = kind in ("union_tag_not_found", "union_tag_invalid")
    names = NAMES if path[0] == "data" else tuple(KINDS)
    if unknown:
        name = "name" if path[0] == "data" else "kind"
        key, value = f"{key}.{name}", value.get(name)
    where = f"--set {key}" if any(_within(key, name) for name in overridden) else key
    if kind == "extra_forbidden":
        return f"{where} = {shown(value)}: is not a key here{_instead(path, raw)}"
    if kind == "missing":
        if path == ["data"]:
            return f"data is missing: must be x and y, file, or name, which is {_listed(NAMES)}"
        return f"{where} is missing: must be {allowed(_schema(path, raw))}"
    if unknown:
        return f"{where} = {shown(value)}: must be {_listed(names)}{_suggestion(value, names)}"
    if kind == "value_error":
        return str(details["ctx"]["error"])  # written with its key by the model
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"{where} = {shown(value)}: must be a table of keys"
    schema = _schema(path, raw)
    suggestion = _suggestion(value, _choices(schema))
    return f"{where} = {shown(value)}: must be {allowed(schema)}{suggestion}"


def allowed(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in schema:
        alternatives = (allowed(s) for s in schema["anyOf"] if s.get("type") != "null")
        return " or ".join(dict.fromkeys(alternatives))
    if "oneOf" in schema:
        return ", or ".join(dict.fromkeys(allowed(s) for s in schema["oneOf"]))
    if choices := _choices(schema):
        return _listed(choices)
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            items = schema["prefixItems"]
            return f"a list of {len(items)}, each {allowed(items[0])}"
        item = allowed(schema["items"])
        plural = {"a number": "numbers", "a list of numbers": "lists of numbers"}.get(item)
        return f"a list of {plural}" if plural else f"a list, each {item}"
    if kind == "object" or "$ref" in schema:
        return "a table of keys"
    named = {"number": "a number", "integer": "a whole number", "boolean": "true or false"}
    return named.get(str(kind), "a text in quotes") + _bounds(schema)


def shown(value: Any, longest: int | None = _LONGEST_VALUE) -> str:
    """A value as TOML writes it, cut to at most `longest` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = str(value)
    text = text.replace("NaN", "nan").replace("Infinity", "inf")
    return text if longest is None or len(text) <= longest else text[: longest - 3] + "..."


def dotted(path: Iterable[int | str]) -> str:
    """`data.x[0][1]` for the path data, x, 0, 1."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    if low is not None and below is not None:
        return f" in [{low:g}, {below:g})"
    if low is not None:
        return f" of at least {low:g}"
    if above is not None:
        return f" greater than {above:g}"
    return ""


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(schema.get("enum", [schema["const"]] if "const" in schema else []))


def _listed(choices: Iterable[str]) -> str:
    quoted = [f'"{choice}"' for choice in choices]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _suggestion(value: Any, choices: Iterable[str]) -> str:
    close = get_close_matches(value, list(choices), n=1) if isinstance(value, str) else []
    return f'; did you mean "{close[0]}"?' if close else ""


def _instead(path: list[int | str], raw: Mapping[str, Any]) -> str:
    """What may stand in place of an unknown key."""
    model, _ = _model(path, raw)
    keys = list(model.model_fields)
    text = f"; allowed are {', '.join(keys)}"
    if path[0] == "data" and any(path[1] in source.model_fields for source in SOURCES.values()):
        return text + " (data are given by x and y, by file, or by name)"
    close = get_close_matches(str(path[-1]), keys, n=1)
    return (f'; did you mean "{close[0]}"?' if close else "") + text


def _without_tags(path: list[int | str]) -> list[int | str]:
    """A location without the tags of sources and networks, which are no keys."""
    if path[0] == "data":
        del path[1:2]
        return [part for part in path if part not in (LABELS, LABEL_ROWS)]
    at = 0
    while path[0] == "network" and at < len(path):
        del path[at + 1 : at + 2]
        at += 2
        if path[at - 1 : at] != ["networks"]:
            break
    return path


def _model(
    path: list[int | str], raw: Mapping[str, Any]
) -> tuple[type[BaseModel], list[int | str]]:
    """The model of the table that a key is in, and the key's path from there on."""
    if len(path) == 1:
        return Spec, path
    if path[0] == "data":
        return SOURCES[source_tag(raw.get("data")) or "inline"], path[1:]
    if path[0] == "network":
        table, rest = raw.get("network"), path[1:]
        while rest[0] == "networks" and len(rest) > 2 and isinstance(table, Mapping):
            table, rest = table["networks"][rest[1]], rest[2:]
        return KINDS[network_tag(table) or "two_layer"], rest
    annotation = Spec.model_fields[str(path[0])].annotation
    kinds = (annotation, *get_args(annotation))  # a table that need not be there may be None
    model = next(k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return model, path[1:]


def _schema(path: list[int | str], raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON schema of a key, or of an element of its array."""
    model, rest = _model(path, raw)
    schema: Mapping[str, Any] = model.model_json_schema()
    # A model that holds itself stands among the definitions.
    schema = schema.get("$defs", {}).get(model.__name__, schema)["properties"].get(rest[0], {})
    if "oneOf" in schema and rest[1:]:
        schema = schema["oneOf"][labels_tag(raw["data"][rest[0]]) == LABEL_ROWS]
    for index in rest[1:]:
        schema = next((s for s in schema.get("anyOf", ()) if s.get("type") == "array"), schema)
        items = schema.get("prefixItems")
        schema = items[index] if items and isinstance(index, int) else schema.get("items", {})
    return schema


def _within(key: str, name: str) -> bool:
    return key == name or key.startswith((f"{name}.", f"{name}["))
