"""What the sections of a spec are made of: strict types, and a table without unknown keys."""

from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, BeforeValidator, ConfigDict, Field, Strict

Number = Annotated[float, Strict(), AllowInfNan(False)]
Whole = Annotated[int, Strict()]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Positive = Annotated[Number, Field(gt=0)]
Seed = Annotated[Whole, Field(ge=0)]


def _as_rows(value: Any) -> Any:
    """A flat list of numbers is one number a row."""
    if isinstance(value, (list, tuple)) and not any(isinstance(v, (list, tuple)) for v in value):
        return [[v] for v in value]
    return value


def _as_vector(value: Any) -> Any:
    """A list of lists of one number each is a list of numbers."""
    if isinstance(value, (list, tuple)) and all(
        isinstance(v, (list, tuple)) and len(v) == 1 for v in value
    ):
        return [v[0] for v in value]
    return value


Rows = Annotated[tuple[tuple[Number, ...], ...], BeforeValidator(_as_rows)]
Vector = Annotated[tuple[Number, ...], BeforeValidator(_as_vector)]


class Section(BaseModel):
    """A table of a spec: no unknown key, nothing changed after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def given(self) -> dict[str, Any]:
        """The keys that have a value, with plain TOML or JSON values."""
        return self.model_dump(mode="json", exclude_none=True)
