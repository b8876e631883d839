"""The keys of a spec: what each means, what is allowed, and its default, written once.

The commented example, the reference page and the error messages are all made from these models.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from ._base import Number, Positive, Rows, Section, Seed, Text, Whole
from ._ncf import NcfSection
from ._networks import DEFAULT_WIDTH, AnyNetwork, TwoLayerSection, network_tag
from ._sources import SOURCES, AnyData, source_tag

DEFAULT_SCALE = 1e-6
Comparator = Literal[
    "least_variation_norm",
    "least_l1_norm",
    "ntk_interpolant",
    "most_margin",
    "local_margin",
    "global_margin",
    "ntk_margin",
    "hard_margin",
]


class InitSection(Section):
    """Where the flow starts."""

    kind: Literal["balanced", "dominated", "gaussian", "sphere"] | None = Field(
        None,
        description=(
            "balanced, for two_layer (its default): w_j = scale * g_j with g_j ~ N(0, I_d), d with "
            "the bias included, and a_j = s_j |w_j| with signs s_j = +-1 of equal probability; "
            "dominated, for two_layer: a_j = scale * s_j sqrt(|g_j|^2 + z_j^2) with z_j ~ N(0, 1), "
            "so that |a_j| > |w_j|. balanced, for diagonal: u_j = v_j = scale. gaussian (the "
            "default of all kinds but two_layer): every weight is drawn from N(0, scale^2). "
            "sphere: all weights together are scale * g/|g|, g ~ N(0, I). None has a factor of any "
            "width."
        ),
        examples=["balanced"],
    )
    scale: Positive | None = Field(
        None,
        description=(
            f"The scale lambda: {DEFAULT_SCALE:g} unless scale, log10_scale or file is given."
        ),
        examples=[DEFAULT_SCALE],
    )
    log10_scale: Number | None = Field(
        None,
        description="Instead of scale: its logarithm to base 10, however small.",
        examples=[-1000],
    )
    seed: Seed | None = Field(
        None,
        description="Seed of the draw; the spec's seed unless given. A file needs none.",
        examples=[0],
    )
    file: Text | None = Field(
        None,
        description=(
            "Instead of a draw: a .npz file with log_norm (m,), the natural logarithms of the "
            "blocks' norms, and direction (m, p), their unit vectors. Blocks are (a_j, w_j) for "
            "two_layer, balanced if |a_j| = |w_j| to 1e-12; u_j for squared_relu, "
            "whose signs (m,) may be there as well; (u_j, v_j) for diagonal; all matrices, each "
            "flattened row by row, from the input layer on, the read-out last, for deep, frozen "
            "ones included; kernels (output, input, row, column), then matrices, for "
            "convolutional. The path is relative to the spec's folder."
        ),
        examples=["init.npz"],
    )

    @model_validator(mode="after")
    def _one_start(self) -> "InitSection":
        if self.scale is not None and self.log10_scale is not None:
            raise ValueError(
                f"init.scale = {self.scale:g} and init.log10_scale = {self.log10_scale:g}: "
                "exactly one of them is allowed"
            )
        if self.file is not None:
            drawn = [key for key in ("scale", "log10_scale") if key in self.given()]
            if drawn:
                raise ValueError(
                    f'init.file = "{self.file}" and init.{drawn[0]} = {self.given()[drawn[0]]:g}: '
                    "a start is read or drawn, not both"
                )
        return self


class LossSection(Section):
    """What is made small."""

    kind: Literal["square", "logistic", "exponential", "cross_entropy", "correlation"] = Field(
        "square",
        description=(
            "For each example: square, (h - y)^2 / 2; logistic, ln(1 + e^(-y h)), and exponential, "
            "e^(-y h), with labels -1 and 1; cross_entropy, -ln softmax(h)_y, with labels 0, 1, "
            "2, ... or one-hot rows and an output for each class; correlation, -y h, whose flow is "
            "that of the neural correlation function (NCF) of the labels."
        ),
    )
    reduction: Literal["mean", "sum"] = Field(
        "mean", description="The mean or the sum over the examples."
    )
    scale: Positive = Field(
        1.0, description="A factor of the loss; 2 makes it the mean squared error without 1/2."
    )


class FlowSection(Section):
    """How the flow is followed, and where it ends: at the first stop reached, one at least."""

    rtol: Annotated[Number, Field(ge=1e-12, le=1e-3)] = Field(
        1e-8, description="Relative tolerance of the flow."
    )
    branching: Literal["off", "on", "stay", "stop"] = Field(
        "off",
        description=(
            "What a neuron does on a kink that pushes it away from both sides, where the flow is "
            "not unique: leave to the inactive side, leave to the active side, stay on the kink, "
            "or end the run."
        ),
    )
    check: bool | None = Field(
        None,
        description=(
            "Follow the flow a second time, at half the tolerance, and tell in error_estimate how "
            "far the first is off; unless given, where a network has kinks that are not located "
            "(deep ReLU, max-pooling)."
        ),
        examples=[False],
    )
    time: Positive | None = Field(None, description="Stop at this time.", examples=[15.0])
    log_time: Number | None = Field(
        None, description="Stop at this natural logarithm of the time.", examples=[2.7]
    )
    loss: Positive | None = Field(None, description="Stop at this loss.", examples=[1e-10])
    log_loss: Number | None = Field(
        None, description="Stop at this natural logarithm of the loss.", examples=[-23.0]
    )
    grad_norm: Positive | None = Field(
        None,
        description=(
            "Stop at rest: the gradient's norm is this small, and no small neuron grows. At a "
            "saddle that the flow will leave, it goes on."
        ),
        examples=[1e-9],
    )
    max_saddles: Annotated[Whole, Field(ge=1)] | None = Field(
        None,
        description="Stop on leaving the saddle of this number, the origin being the first.",
        examples=[3],
    )

    @model_validator(mode="after")
    def _one_stop(self) -> "FlowSection":
        if all(getattr(self, key) is None for key in STOPS):
            raise ValueError(f"flow has no stop: at least one of {', '.join(STOPS)} is needed")
        return self


#: The keys of [flow] that end a run.
STOPS = ("time", "log_time", "loss", "log_loss", "grad_norm", "max_saddles")


class RecordSection(Section):
    """What is kept of the flow."""

    times: tuple[Annotated[Number, Field(ge=0)], ...] | None = Field(
        None,
        description="Times at which a state is recorded, each in its own entry.",
        examples=[[4.0, 8.0, 15.0]],
    )
    log_times: tuple[Number, ...] | None = Field(
        None,
        description="Instead of times: their natural logarithms.",
        examples=[[1.4, 2.1, 2.7]],
    )
    points: Annotated[Whole, Field(ge=2)] = Field(
        400, description="How many points the trajectory has, about; records are kept besides."
    )
    inputs: Rows | None = Field(
        None,
        description="Inputs before bias at which the learned function is wanted.",
        examples=[[[-1.0], [0.0], [1.0]]],
    )

    @model_validator(mode="after")
    def _one_clock(self) -> "RecordSection":
        if self.times is not None and self.log_times is not None:
            raise ValueError(
                "record.times and record.log_times are both given: at most one is allowed"
            )
        return self


class CompareSection(Section):
    """What the end of a flow, or of a path, is put next to."""

    answers: Literal["quick", "all", "none"] | tuple[Comparator, ...] = Field(
        "quick",
        description=(
            "The comparators: all that apply to the network and the loss, the quick ones among "
            "them, which take a second or so, none, or those named."
        ),
        examples=["all"],
    )

    @field_validator("answers", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        names = value if isinstance(value, (list, tuple)) else [value]
        alone = ("quick", "all", "none") if names is not value else ()
        for name in names:
            if name not in (*alone, *get_args(Comparator)):
                known = ", ".join((*alone, *get_args(Comparator)))
                raise ValueError(f"compare.answers = {value!r}: {name!r} is none of {known}")
        return tuple(names) if names is value or value not in alone else value


class ProblemSpec(Section):
    """What every verb reads; not all of them follow a flow."""

    seed: Seed = Field(0, description="The seed of every draw that has none of its own.")
    data: AnyData = Field(description="x and y, file or name.")
    network: AnyNetwork = Field(TwoLayerSection(), description="The network.")
    init: InitSection = Field(InitSection(), description="Where the flow starts.")
    loss: LossSection = Field(LossSection(), description="What is made small.")
    flow: FlowSection | None = Field(None, description="How the flow is followed.")
    record: RecordSection = Field(RecordSection(), description="What is kept.")
    compare: CompareSection = Field(CompareSection(), description="What the end is put next to.")
    ncf: NcfSection | None = Field(None, description="The neural correlation function.")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, raw: Any) -> Any:
        """Write down the defaults that depend on other keys, so that the record is complete."""
        if not isinstance(raw, dict):
            return raw
        raw = {"network": {}, "init": {}, **raw}
        if cls.model_fields["flow"].is_required():
            raw = {"flow": {}, **raw}
        seed, data, init = raw.get("seed", 0), raw.get("data"), raw["init"]
        seeded = type(seed) is int and seed >= 0
        if seeded and isinstance(data, dict) and "seed" not in data:
            if "seed" in SOURCES[source_tag(data) or "inline"].model_fields:
                raw["data"] = {**data, "seed": seed}
        if isinstance(init, dict) and "file" not in init:
            if seeded:
                init = {"seed": seed, **init}
            if not {"scale", "log10_scale"} & init.keys():
                init = {**init, "scale": DEFAULT_SCALE}
            if network_tag(raw["network"]) == "two_layer":
                init = {"kind": "balanced", **init}
            else:
                init = {"kind": "gaussian", **init}
            raw["init"] = init
            raw["network"] = _with_width(raw["network"])
        return raw


class Spec(ProblemSpec):
    """One flow."""

    flow: FlowSection = Field(description="How the flow is followed.")


class PathSpec(Spec):
    """A problem whose limit of vanishing initialisation is wanted, and no flow of it."""

    flow: FlowSection = Field(FlowSection(grad_norm=1e-9), description="Not used.")


def _with_width(network: Any) -> Any:
    """A table of a network with its default width, and those of the networks in it."""
    if not isinstance(network, dict):
        return network
    tag = network_tag(network)
    if tag == "squared_relu" and isinstance(network.get("signs"), list):
        return {"width": len(network["signs"]), **network}
    if tag in ("two_layer", "squared_relu"):
        return {"width": DEFAULT_WIDTH, **network}
    if tag == "parallel" and isinstance(network.get("networks"), list):
        return {**network, "networks": [_with_width(each) for each in network["networks"]]}
    return network
