"""What was run and what the page's words mean, as HTML. Every text of a user is escaped."""

import json
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from ..plotting.states import activation_slope, has_bias, has_neurons, spec_of
from ._numbers import exponential, number

if TYPE_CHECKING:
    from xarray import Dataset

STOPS = {
    "time": "the time asked for was reached",
    "log_time": "the time asked for was reached",
    "loss": "the loss asked for was reached",
    "log_loss": "the loss asked for was reached",
    "grad_norm": "the gradient norm asked for was reached",
    "max_saddles": "the number of saddles asked for was reached",
    "interrupted": "it was interrupted",
}

COLUMNS = (
    ("#", "number of the visit; the origin is 0 when the flow starts near it"),
    ("enter t", "flow time at which the visit begins"),
    ("leave t", "flow time at which it ends; a dash if it was not left"),
    ("ln t enter", "natural logarithm of the first time; a dash for the start of the run"),
    ("ln t leave", "natural logarithm of the second"),
    ("loss", "at the closest approach to the saddle"),
    ("gradient norm", "norm of the gradient of the loss there"),
    ("residual norm", "norm of r = −∂ℓ/∂h there"),
    ("active blocks", "number of blocks (neurons) that are not microscopic there"),
    (
        "KKT residual",
        "how far, on leaving, the directions of the microscopic blocks are from KKT points of "
        "their correlation with the residual; 0 is exact alignment, a dash where r ≈ 0",
    ),
)

LATE = (
    (
        "normalized_margin",
        "normalised margin",
        "min<sub><i>k</i></sub> <i>z<sub>k</sub></i>/|<i>w</i>|<sup><i>L</i></sup>, "
        "<i>z<sub>k</sub></i> the margin of an example",
    ),
    (
        "smoothed_margin",
        "smoothed margin",
        "ℓ<sup>−1</sup>(Σ ℓ(<i>z<sub>k</sub></i>))/|<i>w</i>|<sup><i>L</i></sup>, which never "
        "falls once the loss is below that of one example at 0 (Lyu &amp; Li, 2020; Ji &amp; "
        "Telgarsky, 2020)",
    ),
    (
        "smoothed_margin_drop",
        "its largest fall",
        "relative, once it may not fall; 0 in exact arithmetic",
    ),
    ("alignment_angle", "alignment angle", "of <i>w</i> and −∇ℓ, in radians; it tends to 0"),
    ("path_length", "path length", "of the direction <i>w</i>/|<i>w</i>| from the start; finite"),
    ("path_error", "error of the path length", "an upper estimate"),
)

#: Comparators: name, and what each is.
ANSWERS = {
    "least_variation_norm": (
        "least norm",
        "the network of any width that fits the labels with the least Σ|<i>a</i>||<i>w</i>|, half "
        "of the least |<i>θ</i>|²",
    ),
    "least_l1_norm": (
        "least l1 norm",
        "the linear function that fits the labels with the least Σ|<i>β</i>|, the least "
        "|<i>θ</i>|² of a diagonal network of depth 2",
    ),
    "ntk_interpolant": (
        "kernel interpolant",
        "the limit of the flow of the network linearised at its start (lazy regime); how far the "
        "weights move",
    ),
    "most_margin": (
        "largest margin",
        "of any network of any width, min<sub><i>k</i></sub> "
        "<i>y<sub>k</sub>h</i>(<i>x<sub>k</sub></i>)/|<i>θ</i>|²",
    ),
    "local_margin": (
        "largest margin, own directions",
        "of networks whose units have the directions of this one (Ji &amp; Telgarsky, 2020, "
        "proposition 4.6)",
    ),
    "global_margin": ("largest margin, all directions", "of networks with units of any direction"),
    "ntk_margin": (
        "kernel of largest margin",
        "among networks linearised at the start, in the norm of the change of the weights",
    ),
    "hard_margin": ("linear SVM", "the linear classifier of largest margin, in its own norm"),
}

COMPARED = (
    ("value", "norm or margin", "of the answer"),
    (
        "dual_value",
        "bound",
        "a certificate by duality: no least norm is below, no largest margin above it; * if not "
        "all activation patterns were searched",
    ),
    ("flow", "of this network", "the same norm or margin; a dash where the two are of two kinds"),
    (
        "ratio",
        "ratio",
        "of this network's to the answer's; of norms it says something where the labels are fitted",
    ),
    (
        "margin_ratio",
        "margin ratio",
        "of min<sub><i>k</i></sub> <i>y<sub>k</sub>h<sub>k</sub></i>/|<i>h</i>|, |<i>h</i>| the "
        "norm of all predictions, this network's to the answer's",
    ),
    ("angle", "angle", "between the predictions at the examples, in radians"),
    ("angle_at_inputs", "at the inputs", "the same at the recorded inputs"),
    ("neurons", "neurons", "of the answer"),
    ("loss", "loss", "of the answer"),
)

ESTIMATED = (
    "The network’s kinks are not located, or a check was asked for: the flow was followed a second "
    "time, at half the tolerance. Shown is twice the difference, which is the error where that is "
    "proportional to the tolerance."
)
PARTIAL = "The second did not come to the same end; what it reached is compared."

ESTIMATE = (
    ("loss", "loss", "relative to itself, the largest along the run"),
    ("weights", "weights", "relative to their norm, the largest along the run at equal times"),
    ("final_log_time", "ln <i>t</i> at the end", "each flow at its own end"),
    ("final_direction", "direction at the end", "of <i>w</i>/|<i>w</i>|"),
    ("saddle_log_times", "ln <i>t</i> at saddles", "of entering and leaving, the largest"),
)

DEFINITIONS = (
    (
        "Gradient flow",
        "The weights follow d<i>θ</i>/d<i>t</i> = −∇ℓ(<i>θ</i>), the limit of gradient descent "
        "with vanishing step; <i>t</i> is the number of steps times their size. At the kinks of "
        "the activation the velocity is the element of least norm of Clarke’s subdifferential.",
    ),
    (
        "Neuron, norm and direction",
        "Neuron <i>j</i> is the block (<i>a<sub>j</sub></i>, <i>w<sub>j</sub></i>) of its output "
        "weight and its hidden weights. It is stored as the logarithm of its norm and a unit "
        "vector, so that an initialisation of any smallness is followed exactly.",
    ),
    (
        "Residual and neural correlation function",
        "With <i>r</i> = −∂ℓ/∂<i>h</i> on the examples, each neuron climbs its own "
        "<i>N<sub>r</sub></i>(<i>a, w</i>) = Σ<i><sub>k</sub> r<sub>k</sub> a</i> "
        "σ(<i>w·x<sub>k</sub></i>). While <i>r</i> hardly changes, small neurons turn towards the "
        "KKT points of <i>N<sub>r</sub></i> on the sphere and grow exponentially (Kumar &amp; "
        "Haupt, 2024).",
    ),
    (
        "Saddle, visit",
        "A visit is an interval of time in which |∇ℓ|² ≤ 0.01 Λ ℓ with "
        "Λ = ‖<i>X</i>‖<sub>2</sub> |<i>r</i>|: the loss falls slowly compared with the fastest "
        "growth that any neuron could have. From a vanishing initialisation the flow goes from "
        "saddle to saddle, and each one left is a group of neurons grown (Boursier et al., 2022).",
    ),
    (
        "Kink and height",
        "With one input, neuron <i>j</i> bends the learned function at its kink "
        "<i>x</i> = −<i>w</i><sub>1</sub>/<i>w</i><sub>0</sub> (<i>w</i><sub>1</sub> is the bias). "
        "Its height is sign(<i>a<sub>j</sub></i>) ‖<i>w<sub>j</sub></i>‖, equal to its output "
        "weight when the initialisation is balanced (Boursier et al., 2022, fig. 2).",
    ),
    (
        "Crossing, slide, branching",
        "What a neuron does at a kink <i>w·x<sub>k</sub></i> = 0: it goes through, it moves along "
        "it, or the field pushes it away on both sides and the flow is not unique.",
    ),
    (
        "Field evaluation",
        "Counted each time the residual is formed and the velocities of all neurons are taken, "
        "rejected steps included; one neuron’s advance between two of its events counts "
        "1/<i>m</i>.",
    ),
)

#: In place of the second and third, for networks other than two-layer ones, and without kinks.
_BLOCKS = (
    (
        "Block, norm and direction",
        "The network is a sum of blocks, and block <i>j</i> is homogeneous of order "
        "<i>L<sub>j</sub></i> in its own weights. It is stored as the logarithm of its norm and a "
        "unit vector, so that an initialisation of any smallness is followed exactly.",
    ),
    (
        "Residual and neural correlation function",
        "With <i>r</i> = −∂ℓ/∂<i>h</i> on the examples, each block climbs its own "
        "<i>N<sub>r</sub></i>(<i>w</i>) = Σ<i><sub>k</sub> r<sub>k</sub> "
        "H<sub>j</sub></i>(<i>x<sub>k</sub></i>; <i>w</i>). While <i>r</i> hardly changes, small "
        "blocks turn towards the KKT points of <i>N<sub>r</sub></i> on the sphere (Kumar &amp; "
        "Haupt, 2024).",
    ),
)


def definitions(dataset: "Dataset") -> tuple[tuple[str, str], ...]:
    """The words that the page uses, with their meanings as HTML."""
    if has_neurons(dataset):
        return DEFINITIONS
    return (DEFINITIONS[0], *_BLOCKS, DEFINITIONS[3], DEFINITIONS[-1])


SOURCES = (
    (
        "E. Boursier, L. Pillaud-Vivien, N. Flammarion (2022). Gradient flow dynamics of shallow "
        "ReLU networks for square loss and orthogonal inputs.",
        "arXiv:2206.00939",
        "https://arxiv.org/abs/2206.00939",
    ),
    (
        "A. Kumar, J. Haupt (2024). Directional convergence near small initializations and "
        "saddles in two-homogeneous neural networks.",
        "arXiv:2402.09226",
        "https://arxiv.org/abs/2402.09226",
    ),
)


def plural(count: int, one: str, many: str | None = None) -> str:
    """The count with its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def account(dataset: "Dataset", summary: Mapping[str, Any]) -> str:
    """One paragraph on what was run and how it ended."""
    bias = has_bias(dataset)
    inputs = dataset.sizes["input"] - bias
    loss = str(dataset.attrs.get("loss_kind", "")).replace("_", "-")
    init = (spec_of(dataset) or summary.get("spec") or {}).get("init", {})
    text = (
        f"A {_kind(dataset)} was followed "
        f"along the gradient flow of its {escape(loss)} loss on "
        f"{plural(dataset.sizes['example'], 'example')} with {plural(inputs, 'input')}"
        f"{' and a bias' if bias else ''}"
    )
    if "scale" in init or "log10_scale" in init:
        exact = init.get("scale")
        size = number(exact) if exact is not None else _ten_to(init["log10_scale"])
        text += f", from {_article(str(init.get('kind', '')))}initialisation of scale {size}"
    final = summary.get("final") or {}
    return f"{text}. {_ending(summary, final)}"


def _kind(dataset: "Dataset") -> str:
    blocks = dataset.sizes["block"]
    if not has_neurons(dataset):
        kind = str(dataset.attrs.get("network_kind", "")).replace("_", " ")
        return f"{escape(kind)} network of {plural(blocks, 'block')}"
    slope = activation_slope(dataset)
    kind = "ReLU" if slope == 0 else f"leaky ReLU (slope {number(slope)})"
    return f"two-layer {kind} network of {plural(blocks, 'neuron')}"


def _article(kind: str) -> str:
    if not kind:
        return "an "
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {escape(kind)} "


def _ten_to(exponent: Any) -> str:
    return exponential(float(exponent) * 2.302585092994046)


def time_of(entry: Mapping[str, Any], name: str = "time") -> str:
    """A time of the summary, from its logarithm where a float cannot hold it."""
    if entry.get(name) is not None:
        return number(float(entry[name]))
    logarithm = entry.get(f"log_{name}")
    return exponential(logarithm) if logarithm is not None else "0"


def _ending(summary: Mapping[str, Any], final: Mapping[str, Any]) -> str:
    reason = str(summary.get("stop_reason", ""))
    why = STOPS.get(reason, f"the reason was “{escape(reason)}”")
    logarithm = final.get("log_loss")
    loss = number(final["loss"]) if final.get("loss") is not None else exponential(logarithm)
    return f"It ended at <i>t</i> = {time_of(final)} with loss {loss}, because {why}."


def facts(dataset: "Dataset", summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The rows of the table of what was run: name and HTML."""
    spec = summary.get("spec") or spec_of(dataset)
    rows = [
        (title, _section(spec[key]))
        for key, title in (
            ("data", "Data"),
            ("network", "Network"),
            ("init", "Initialisation"),
            ("loss", "Loss"),
            ("flow", "Flow"),
            ("record", "Recorded"),
        )
        if isinstance(spec.get(key), Mapping) and spec[key]
    ]
    factor = dataset.attrs.get("loss_scale")
    if dataset.attrs.get("loss_kind") == "square" and factor is not None:
        formula = (
            f"ℓ = κ Σ<i><sub>k</sub></i> ½ (<i>h<sub>k</sub></i> − <i>y<sub>k</sub></i>)² with "
            f"κ = {number(float(factor))}"
        )
        rows.append(("Loss, written out", formula))
    versions = summary.get("versions") or {"polarflow": dataset.attrs.get("polarflow_version", "")}
    shown = [f"{escape(str(k))} {escape(str(v))}" for k, v in versions.items() if v]
    if shown:
        rows.append(("Versions", ", ".join(shown)))
    return rows


def _section(section: Mapping[str, Any]) -> str:
    return ", ".join(f"{escape(str(k))} = {_value(v)}" for k, v in section.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if not value:
            return "none"
        text = json.dumps(value)
        return escape(text) if len(text) <= 60 else f"[{_shape(value)} numbers]"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value, 6)
    return escape(str(value))


def _shape(value: Any) -> str:
    shape = []
    while isinstance(value, (list, tuple)) and value:
        shape.append(str(len(value)))
        value = value[0]
    return "×".join(shape)
