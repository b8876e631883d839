"""The section [network]: the kinds of networks, each with keys of its own."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from ._base import Number, Section, Whole

if TYPE_CHECKING:
    from ..networks import Activation

DEFAULT_WIDTH = 60

Width = Annotated[Whole, Field(ge=1)]
Function = Literal["relu", "leaky_relu", "linear", "relu_power", "polynomial"]
Functions = Annotated[
    tuple[Function, ...],
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
]

_FUNCTIONS = (
    "relu: max(z, 0); leaky_relu: max(z, slope*z), to the power; linear: z; relu_power: "
    "max(z, 0)^power; polynomial: z^power"
)


def _power(default: str) -> Any:
    return Field(
        None,
        description=f'The power, at least 1; needed by "relu_power" and "polynomial"{default}.',
        examples=[2],
    )


def _slope() -> Any:
    return Field(
        None,
        description='The slope for negative arguments; needed by "leaky_relu", for it alone.',
        examples=[0.1],
    )


Power = Annotated[Number, Field(ge=1)] | None
Slope = Annotated[Number, Field(ge=0, lt=1)] | None


def check_activation(names: tuple[str, ...], power: float | None, slope: float | None) -> None:
    """Make sure that slope and power are given where they are needed, and only there.

    **Raises:** `ValueError` with a sentence.
    """
    if "leaky_relu" in names and slope is None:
        raise ValueError(
            'network.slope is missing: activation = "leaky_relu" needs a number in [0, 1)'
        )
    if "leaky_relu" not in names and slope is not None:
        raise ValueError(f'network.slope = {slope:g}: is for activation = "leaky_relu" alone')
    powers = {"relu_power", "polynomial"} & set(names)
    if powers and power is None:
        raise ValueError(
            f'network.power is missing: activation = "{powers.pop()}" needs a number of at least 1'
        )
    if not powers and "leaky_relu" not in names and power is not None:
        raise ValueError(
            f'network.power = {power:g}: is for activation = "relu_power", "polynomial" or '
            '"leaky_relu" alone'
        )


def activation(name: str, power: float | None, slope: float | None) -> "Activation":
    """The activation of a name, with what belongs to it."""
    from ..networks import Activation

    takes_power = name in ("relu_power", "polynomial", "leaky_relu")
    return Activation(
        name,  # type: ignore[arg-type]
        power if takes_power and power is not None else 1.0,
        slope if name == "leaky_relu" and slope is not None else 0.0,
    )


class TwoLayerSection(Section):
    """Neurons, both layers trained: h(x) = sum_j a_j s(w_j.x)."""

    kind: Literal["two_layer"] = Field(
        "two_layer",
        description=(
            "The kind. With abs, or relu and leaky_relu of power 1, every kink is located; else "
            "each neuron is followed as a block of order 1 + power."
        ),
    )
    width: Width | None = Field(
        None,
        description=(
            f"The number m of neurons: {DEFAULT_WIDTH} unless given, or the number of blocks in "
            "init.file."
        ),
        examples=[DEFAULT_WIDTH],
    )
    activation: Literal["relu", "leaky_relu", "abs", "linear", "relu_power", "polynomial"] = Field(
        "relu", description=f"s(z). {_FUNCTIONS}; abs: |z|, a leaky ReLU of slope -1."
    )
    slope: Slope = _slope()
    power: Power = _power(', and may be given with "leaky_relu"')
    outputs: Width | None = Field(
        None,
        description=(
            "The number C of outputs: as many as the labels have columns, or as there are classes "
            "for cross_entropy, unless given."
        ),
        examples=[1],
    )

    @model_validator(mode="after")
    def _activation_is_whole(self) -> "TwoLayerSection":
        check_activation((self.activation,), self.power, self.slope)
        return self


class SquaredReluSection(Section):
    """Squared ReLU with fixed signs: H(x) = sum_j s_j max(0, u_j.x)^2."""

    kind: Literal["squared_relu"] = Field("squared_relu", description="The kind.")
    width: Width | None = Field(
        None,
        description=(
            f"The number m of units: {DEFAULT_WIDTH} unless given, or the number of blocks in "
            "init.file."
        ),
        examples=[DEFAULT_WIDTH],
    )
    signs: tuple[Literal[-1, 1], ...] | None = Field(
        None,
        description=(
            "The m signs s_j: those in init.file if it has signs, else all 1, unless given."
        ),
        examples=[[1, -1]],
    )


class DeepSection(Section):
    """A deep network without biases, one block: H(x) = A s_k(W_k ... s_1(W_1 x))."""

    kind: Literal["deep"] = Field("deep", description="The kind.")
    widths: tuple[Width, ...] = Field(
        description="The hidden widths: the numbers of rows of W_1, ..., W_k.",
        examples=[[20, 20]],
    )
    activation: Functions = Field(
        ("relu",),
        description=f"One for all hidden layers, or a list with one for each. {_FUNCTIONS}.",
    )
    slope: Slope = _slope()
    power: Power = _power(', and may be given with "leaky_relu"')
    readout: Literal["trained", "ones"] = Field(
        "trained",
        description=(
            "trained: A is one more layer, a row for each output. ones: A = (1, ..., 1), fixed."
        ),
    )
    frozen: tuple[Width, ...] = Field(
        (),
        description=(
            "Layers that are not trained, counted from 1, the input layer; the read-out comes "
            "last. Their weights are drawn from N(0, 1/columns) whatever the scale of the start, "
            "or taken from init.file. The order counts the trained layers."
        ),
        examples=[[1]],
    )

    @model_validator(mode="after")
    def _activation_is_whole(self) -> "DeepSection":
        check_activation(self.activation, self.power, self.slope)
        return self


class DiagonalSection(Section):
    """A diagonal linear network: H(x) = sum_j (u_j^L - v_j^L) x_j."""

    kind: Literal["diagonal"] = Field("diagonal", description="The kind.")
    depth: Annotated[Whole, Field(ge=2)] = Field(2, description="The depth L, the order as well.")


class ConvolutionalSection(Section):
    """Convolutions with max-pooling, then dense layers and a linear read-out, without biases."""

    kind: Literal["convolutional"] = Field("convolutional", description="The kind.")
    image: tuple[Width, Width, Width] = Field(
        description="Channels, rows and columns of an input, which is flattened in this order.",
        examples=[[1, 8, 8]],
    )
    channels: tuple[Width, ...] = Field(
        description="The number of channels that each convolution makes.", examples=[[6]]
    )
    kernel: Width = Field(3, description="Side of the square kernels; no padding, stride one.")
    pool: Width = Field(2, description="Side of the max-pooling after each activation; 1: none.")
    widths: tuple[Width, ...] = Field((), description="The hidden widths of the dense layers.")
    activation: Function = Field("relu", description=f"One for all layers. {_FUNCTIONS}.")
    slope: Slope = _slope()
    power: Power = _power(', and may be given with "leaky_relu"')

    @model_validator(mode="after")
    def _activation_is_whole(self) -> "ConvolutionalSection":
        check_activation((self.activation,), self.power, self.slope)
        return self


class ParallelSection(Section):
    """The sum of networks on the same inputs."""

    kind: Literal["parallel"] = Field("parallel", description="The kind.")
    networks: tuple["AnyNetwork", ...] = Field(
        description=(
            "A list of tables like this one, with the keys of their own kinds. In init.file the "
            "blocks of one follow those of the other, short rows padded by zeros."
        ),
        examples=[[{"kind": "squared_relu", "width": 10}, {"kind": "deep", "widths": [5]}]],
    )


#: The kinds of networks by name.
KINDS: dict[str, type[Section]] = {
    "two_layer": TwoLayerSection,
    "squared_relu": SquaredReluSection,
    "deep": DeepSection,
    "diagonal": DiagonalSection,
    "convolutional": ConvolutionalSection,
    "parallel": ParallelSection,
}


def network_tag(value: Any) -> str | None:
    """The kind that a table has, or is taken to have; None if it isn't known."""
    if isinstance(value, Section):
        return str(getattr(value, "kind", None))
    kind = value.get("kind", "two_layer") if isinstance(value, Mapping) else "two_layer"
    return kind if isinstance(kind, str) and kind in KINDS else None


AnyNetwork: TypeAlias = Annotated[
    Annotated[TwoLayerSection, Tag("two_layer")]
    | Annotated[SquaredReluSection, Tag("squared_relu")]
    | Annotated[DeepSection, Tag("deep")]
    | Annotated[DiagonalSection, Tag("diagonal")]
    | Annotated[ConvolutionalSection, Tag("convolutional")]
    | Annotated[ParallelSection, Tag("parallel")],
    Discriminator(network_tag),
]
ParallelSection.model_rebuild()
