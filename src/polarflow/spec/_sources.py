"""The section [data]: the ways to say what the data are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from ._base import Flag, Labels, Rows, Section, Seed, Text, Whole

if TYPE_CHECKING:
    from ..data import Data


class Source(Section):
    """A way to say what the data are."""

    def load(self, folder: Path) -> "Data":
        """The arrays; a path is relative to `folder`."""
        raise NotImplementedError


class InlineData(Source):
    """Arrays in the spec itself."""

    x: Rows = Field(
        description="Inputs before bias, one example a row; a flat list is one number a row.",
        examples=[[[-0.5], [2.0]]],
    )
    y: Labels = Field(
        description="Labels, one for each example, or a list of C for C outputs.",
        examples=[[-1.0, 1.0]],
    )
    bias: Flag = Field(False, description="Append a 1 to every input.")

    def load(self, folder: Path) -> "Data":
        from ..data import Data

        return Data.from_arrays(self.x, self.y, self.bias)


class FileData(Source):
    """Arrays from a file."""

    file: Text = Field(
        description=(
            "A .npz file with arrays x (n x d) and y (n, or n x C), or a .csv file whose last "
            "column is y, with or without a line of names on top. The path is relative to the "
            "spec's folder."
        ),
        examples=["data.npz"],
    )
    bias: Flag = Field(False, description="Append a 1 to every input.")

    def load(self, folder: Path) -> "Data":
        from ..data import load

        return load(folder / self.file, self.bias)


class ToyData(Source):
    """A toy set of points on the line."""

    name: Literal["two-points", "five-points", "three-points"] = Field(
        description=(
            "two-points: x = -0.5, 2 and y = -1, 1. five-points: x = -1.5, -1, 0, 0.25, 2 and "
            "y = 0.7, -0.3, -0.3, 0.4, 0.2 (both of Boursier et al., 2022). three-points: "
            "x = -0.75, -0.5, 0.125 and y = 1.1, 0.1, 0.8."
        ),
        examples=["two-points"],
    )
    bias: Flag = Field(True, description="Append a 1 to every input.")

    def load(self, folder: Path) -> "Data":
        from ..data import named

        return named(self.name, self.bias)


class TeacherData(Source):
    """Gaussian inputs labelled by a random two-layer ReLU teacher."""

    name: Literal["teacher-student"] = Field(
        description=(
            "Labels y = sum_j a_j max(0, w_j.x) with p teacher neurons, w_j ~ N(0, I/(p d)), "
            "a_j ~ N(0, 1/p) and inputs x ~ N(0, I), d with the bias included."
        ),
        examples=["teacher-student"],
    )
    examples: Annotated[Whole, Field(ge=1)] = Field(75, description="The number n of examples.")
    dimension: Annotated[Whole, Field(ge=1)] = Field(
        150, description="The length of an input before bias."
    )
    teacher_width: Annotated[Whole, Field(ge=1)] = Field(
        6, description="The number p of the teacher's neurons."
    )
    bias: Flag = Field(False, description="Append a 1 to every input.")
    seed: Seed = Field(
        0, description="Seed of the teacher and the inputs; the spec's seed unless given."
    )

    def load(self, folder: Path) -> "Data":
        from ..data import teacher_student

        return teacher_student(
            self.examples, self.dimension, self.teacher_width, self.bias, self.seed
        )


class DigitsData(Source):
    """Handwritten digits of two classes."""

    name: Literal["digits"] = Field(
        description=(
            "Images of 8 x 8 pixels from scikit-learn's load_digits, divided by 16 so that they "
            "lie in [0, 1]; half of them of each class."
        ),
        examples=["digits"],
    )
    classes: tuple[Annotated[Whole, Field(ge=0, le=9)], Annotated[Whole, Field(ge=0, le=9)]] = (
        Field((0, 1), description="Two digits: the first has label -1, the second +1.")
    )
    count: Annotated[Whole, Field(ge=2)] = Field(100, description="The number n of examples.")
    centre: Flag = Field(False, description="Subtract the mean of the chosen images.")
    normalise: Flag = Field(False, description="Divide every image by its norm, after centring.")
    bias: Flag = Field(False, description="Append a 1 to every input.")
    seed: Seed = Field(0, description="Seed of the choice of images; the spec's seed unless given.")

    def load(self, folder: Path) -> "Data":
        from ..data import digits

        return digits(self.classes, self.count, self.centre, self.normalise, self.bias, self.seed)


#: The ways to give data, by tag; a tag of a named source is its name.
SOURCES: dict[str, type[Source]] = {
    "inline": InlineData,
    "file": FileData,
    "two-points": ToyData,
    "five-points": ToyData,
    "three-points": ToyData,
    "teacher-student": TeacherData,
    "digits": DigitsData,
}
NAMES = tuple(tag for tag in SOURCES if tag not in ("inline", "file"))


def source_tag(value: Any) -> str | None:
    """Which way of giving data a table takes; None if its `name` is not known."""
    if isinstance(value, Source):
        return getattr(value, "name", "file" if isinstance(value, FileData) else "inline")
    if isinstance(value, dict) and "name" in value:
        name = value["name"]
        return name if isinstance(name, str) and name in NAMES else None
    return "file" if isinstance(value, dict) and "file" in value else "inline"


AnyData: TypeAlias = Annotated[
    Annotated[InlineData, Tag("inline")]
    | Annotated[FileData, Tag("file")]
    | Annotated[ToyData, Tag("two-points")]
    | Annotated[ToyData, Tag("five-points")]
    | Annotated[ToyData, Tag("three-points")]
    | Annotated[TeacherData, Tag("teacher-student")]
    | Annotated[DigitsData, Tag("digits")],
    Discriminator(source_tag),
]
