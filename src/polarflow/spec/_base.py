"""What the sections of a spec are made of: strict types, and a table without unknown keys."""

from typing import Annotated, Any

from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
)

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


def _as_labels(value: Any) -> Any:
    """A list of lists of one number each is a list of numbers."""
    if isinstance(value, (list, tuple)) and all(
        isinstance(v, (list, tuple)) and len(v) == 1 for v in value
    ):
        return [v[0] for v in value]
    return value


def labels_tag(value: Any) -> str:
    """Whether labels are one number or a list of numbers for each example."""
    rows = isinstance(value, (list, tuple)) and any(isinstance(v, (list, tuple)) for v in value)
    return LABEL_ROWS if rows else LABELS


#: The tags of the two ways to write labels, which are no keys.
LABELS, LABEL_ROWS = "labels", "label-rows"

Rows = Annotated[tuple[tuple[Number, ...], ...], BeforeValidator(_as_rows)]
Labels = Annotated[
    Annotated[tuple[Number, ...], Tag(LABELS)]
    | Annotated[tuple[tuple[Number, ...], ...], Tag(LABEL_ROWS)],
    Discriminator(labels_tag),
    BeforeValidator(_as_labels),
]


class Section(BaseModel):
    """A table of a spec: no unknown key, nothing changed after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def given(self) -> dict[str, Any]:
        """The keys that have a value, with plain TOML or JSON values."""
        return self.model_dump(mode="json", exclude_none=True)
