"""Reading a spec: TOML, overrides, validation."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from ..errors import SpecError
from ._models import ProblemSpec, Spec
from ._sentences import sentences

#: Ways to say the same thing: one that is given by an override takes the place of the others.
_ALTERNATIVES: dict[str, tuple[frozenset[str], ...]] = {
    "data": (frozenset({"x", "y"}), frozenset({"file"}), frozenset({"name"})),
    "init": (frozenset({"scale"}), frozenset({"log10_scale"}), frozenset({"file"})),
    "record": (frozenset({"times"}), frozenset({"log_times"})),
}

_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")
#: A word, or a path: what needs no quotes on a command line.
_WORD = re.compile(r"[A-Za-z][\w.-]*|[^\[\]{}\"',=\s]*[/\\][^\[\]{}\"',=]*|[^\W][\w.-]*\.(npz|csv)")


S = TypeVar("S", bound=ProblemSpec)


@overload
def load_spec(path: str | Path, overrides: Iterable[str] = ()) -> Spec: ...


@overload
def load_spec(path: str | Path, overrides: Iterable[str], kind: type[S]) -> S: ...


def load_spec(
    path: str | Path, overrides: Iterable[str] = (), kind: type[ProblemSpec] = Spec
) -> ProblemSpec:
    """A spec from a TOML file.

    **Arguments:**

    - `path`: the file.
    - `overrides`: texts `section.key=value` (or `seed=value`) with a TOML value, each replacing
      the file's, and the file's alternatives to it (`init.log10_scale` replaces `init.scale`); a
      single word needs no quotes.
    - `kind`: of the spec; a verb that follows no flow needs no [flow].

    **Raises:** `SpecError` with one sentence for each error, each naming the file, the key, the
    value and what is allowed.
    """
    path = Path(path)
    raw = _read(path)
    keys: list[str] = []
    wrong = []
    for text in overrides:
        try:
            keys.append(_override(raw, text, keys))
        except ValueError as error:
            wrong.append(f"{path}: --set {text}: {error}")
    try:
        spec = parse_spec(raw, str(path), keys, kind)
    except SpecError as error:
        raise SpecError([*wrong, *error.messages]) from None
    if wrong:
        raise SpecError(wrong)
    return spec


@overload
def parse_spec(raw: Mapping[str, Any], source: str, overridden: Iterable[str] = ()) -> Spec: ...


@overload
def parse_spec(
    raw: Mapping[str, Any], source: str, overridden: Iterable[str], kind: type[S]
) -> S: ...


def parse_spec(
    raw: Mapping[str, Any],
    source: str,
    overridden: Iterable[str] = (),
    kind: type[ProblemSpec] = Spec,
) -> ProblemSpec:
    """A spec from nested tables; `source` is what errors call them."""
    try:
        return kind.model_validate(dict(raw))
    except ValidationError as error:
        found = [*sentences(error, raw, overridden), *_rules_broken(error, raw, kind)]
        raise SpecError(f"{source}: {sentence}" for sentence in found) from None


def _rules_broken(
    error: ValidationError, raw: Mapping[str, Any], kind: type[ProblemSpec]
) -> list[str]:
    """The rules among several keys that are broken besides the errors of single ones.

    A section's rules are looked at only if each of its keys is right, so that they are tried on
    what remains without the wrong keys; what is then said of these keys is not meant.
    """
    rest = {k: dict(v) if isinstance(v, Mapping) else v for k, v in raw.items()}
    gone: dict[str, set[str]] = {}
    said = set()
    for details in error.errors(include_url=False):
        section, *keys = (str(part) for part in details["loc"])
        if details["type"] == "value_error":
            said.add(str(details["ctx"]["error"]))
            continue
        table = rest.get(section)
        wrong = next((key for key in keys if isinstance(table, dict) and key in table), None)
        if wrong is not None and isinstance(table, dict):
            del table[wrong]
            gone.setdefault(section, set()).add(wrong)
        elif not keys:
            rest.pop(section, None)
    try:
        kind.model_validate(rest)
    except ValidationError as second:
        rules = [d for d in second.errors(include_url=False) if d["type"] == "value_error"]
        texts = [(str(d["loc"][0]), str(d["ctx"]["error"])) for d in rules]
        return [
            text
            for section, text in texts
            if text not in said and not gone.get(section, set()) & set(re.findall(r"\w+", text))
        ]
    return []


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise SpecError([f"{path}: there is no such file"]) from None
    except IsADirectoryError:
        raise SpecError([f"{path}: is a folder, and must be a TOML file"]) from None
    except UnicodeDecodeError:
        raise SpecError([f"{path}: is not a text in UTF-8, and must be a TOML file"]) from None
    except OSError as error:
        raise SpecError([f"{path}: cannot be read ({error.strerror})"]) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError([f"{path}: is not TOML: {' '.join(str(error).split())}"]) from None


def _override(raw: dict[str, Any], text: str, before: Sequence[str]) -> str:
    """Put one override in its place and return its key; those `before` it stay."""
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise ValueError("must have the form section.key=value")
    parsed = _toml_value(value.strip())
    section, _, name = key.rpartition(".")
    if not section:
        raw[name] = parsed
    else:
        table = raw.setdefault(section, {})
        if not isinstance(table, dict):
            raise ValueError(f"{section} is not a table")
        ways = _ALTERNATIVES.get(section, ())
        if any(name in way for way in ways):
            for other in (key for way in ways if name not in way for key in way):
                if f"{section}.{other}" not in before:
                    table.pop(other, None)
        table[name] = parsed
    return key


def _toml_value(text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        table = {}
    if table.keys() == {"value"}:
        return table["value"]
    if _WORD.fullmatch(text):
        return text
    raise ValueError('the value must be TOML, such as 0.1, true, [1, 2] or "text"')
