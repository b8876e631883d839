"""The comparators by name: to which problems each applies, and what it says of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import hypot
from typing import Any

import numpy as np
from numpy import ndarray

from ..flow import Problem
from ..losses import MarginLoss, Square
from ..ncf._regions import LARGEST, most_regions
from ..networks import BlockState, SquaredRelu, TwoLayer
from ._margin import HardMargin, hard_margin, ntk_margin
from ._minimum import VariationMinimum
from ._ntk import ntk_interpolant
from ._orthogonal import orthogonal_inputs
from ._squared import MarginGame, global_margin, local_margin
from ._variation import least_variation_norm, most_margin

#: Patterns times examples of a program over patterns, and multiplications of others, that take a
#: second or so.
_FEW_PATTERNS = 5000
_FEW_PRODUCTS = 2e9
#: Blocks of more than this part of the largest square norm are hints for a program; so many.
_PART = 1e-6
_HINTS = 100
#: Labels are fitted at this part of the loss of the zero function.
_FITTED = 1e-6
#: From this part on their norm says something.
_NEARLY_FITTED = 1e-2
#: A norm or a margin is the best one to this.
_SAME = 1e-6
_TINY = 1e-300


@dataclass(frozen=True)
class End:
    """The weights that are compared, and what is often asked of them.

    **Attributes:**

    - `problem`, `state`: the network and its weights.
    - `inputs`: where functions are compared besides the examples, or None.
    """

    problem: Problem
    state: BlockState
    inputs: ndarray | None = None

    @property
    def x(self) -> ndarray:
        """The examples' inputs."""
        return self.problem.data.x

    @property
    def y(self) -> ndarray:
        """Their labels."""
        return self.problem.data.y

    @property
    def single(self) -> bool:
        """Whether there is one output."""
        return self.problem.network.outputs == 1 and self.y.ndim == 1

    @property
    def fits(self) -> bool:
        """Whether labels are to be fitted."""
        return self.single and isinstance(self.problem.loss, Square)

    @property
    def classifies(self) -> bool:
        """Whether there are two classes."""
        return self.single and isinstance(self.problem.loss, MarginLoss)

    @cached_property
    def two_layer(self) -> bool:
        """Whether the network is a two-layer one with a (leaky) ReLU or the absolute value."""
        return isinstance(self.problem.network, TwoLayer)

    @cached_property
    def unit(self) -> BlockState:
        """The weights over the norm of the largest block, which no margin depends on."""
        return BlockState(self.state.log_norm - self._top, self.state.direction)

    @cached_property
    def _top(self) -> float:
        top = float(self.state.log_norm.max(initial=-np.inf))
        return top if np.isfinite(top) else 0.0

    @cached_property
    def shares(self) -> ndarray:
        """The blocks' square norms over the largest."""
        with np.errstate(under="ignore"):
            return np.asarray(np.exp(2.0 * self.unit.log_norm))

    @cached_property
    def hints(self) -> ndarray:
        """Hidden weights of the largest blocks, one for each pattern."""
        first = np.argsort(-self.shares, kind="stable")
        first = first[self.shares[first] > _PART]
        w = self.state.direction[first, 1 if self.two_layer else 0 :]
        _, once = np.unique(w @ self.x.T > 0.0, axis=0, return_index=True)
        return np.asarray(w[np.sort(once)][:_HINTS])

    @cached_property
    def predictions(self) -> ndarray:
        """The network at the examples; for classes that of the unit weights."""
        state = self.unit if self.classifies else self.state
        return np.asarray(self.problem.network.predict(state, self.x))

    @cached_property
    def variation(self) -> float:
        """sum_j |a_j||w_j| of a two-layer network."""
        a, w = self.state.direction[:, 0], self.state.direction[:, 1:]
        with np.errstate(under="ignore", over="ignore"):
            unit = float(self.shares @ (np.abs(a) * np.linalg.norm(w, axis=1)))
            return unit * float(np.exp(2.0 * self._top))

    @cached_property
    def margin(self) -> float:
        """The normalised margin min_k y_k h(x_k)/|w|^2 of a network of order 2."""
        total = float(self.shares.sum())
        least = float(np.min(self.y * self.predictions)) + 0.0  # no -0.0
        return least / total if total > 0.0 else float("nan")

    @cached_property
    def loss(self) -> float:
        """The network's loss, for fitted labels."""
        return float(self.problem.loss.value(self.predictions, self.y))

    @cached_property
    def unfitted(self) -> float:
        """The loss over that of the zero function."""
        zero = float(self.problem.loss.value(0.0 * self.y, self.y))
        return self.loss / zero if zero > 0.0 else 0.0

    @cached_property
    def patterns(self) -> float:
        """The number of activation patterns times that of examples; infinite if not enumerated."""
        count = most_regions(self.x)
        return float(count) * len(self.x) if count <= LARGEST else np.inf

    @cached_property
    def orthogonal(self) -> bool:
        """Whether the inputs are orthogonal, so that programs have closed forms."""
        return orthogonal_inputs(self.x)

    @property
    def kernel_work(self) -> float:
        """Multiplications of a solution on the NTK's features."""
        return float(len(self.x)) ** 2 * self.state.direction.size

    def beside(self, f: "Callable[[ndarray], ndarray]") -> dict[str, Any]:
        """Angles between the network and a function."""
        found = {"angle": _angle(self.predictions, f(self.x))}
        if self.inputs is not None and len(self.inputs):
            own = self.problem.network.predict(self.unit, self.inputs)
            found["angle_at_inputs"] = _angle(own, f(self.inputs))
        return found

    def of_class(self, f: "Callable[[ndarray], ndarray]") -> dict[str, Any]:
        """The same, and the ratio of the margins at predictions of norm one."""
        own, other = (
            float(np.min(self.y * h)) / max(float(np.linalg.norm(h)), _TINY)
            for h in (self.predictions, f(self.x))
        )
        return {**self.beside(f), "margin_ratio": own / other if other > 0.0 else None}


@dataclass(frozen=True)
class Answer:
    """One comparator.

    **Attributes:**

    - `applies`: whether it says anything of a network.
    - `quick`: whether it takes a second or so.
    - `entry`: what it says; see `compare`.
    - `why`: it does not apply to others, in a sentence.
    """

    applies: Callable[[End], bool]
    quick: Callable[[End], bool]
    entry: Callable[[End], dict[str, Any]]
    why: str


def _least_variation_norm(end: End) -> dict[str, Any]:
    least = least_variation_norm(end.problem.data, _two_layer(end), hints=end.hints)
    return _fitting(
        end, "norm", least.value, least.dual_value, least.exact, end.variation, least
    )  # fmt: skip


def _ntk_interpolant(end: End) -> dict[str, Any]:
    kernel = ntk_interpolant(end.problem)
    # From a tiny start it is so long that its square is no float.
    size = hypot(*kernel.displacement.ravel().tolist())
    with np.errstate(over="ignore"):
        moved = float(np.linalg.norm(end.state.weights() - end.problem.initial.weights()))
    return _fitting(end, "distance", size, size, True, moved, kernel)


def _fitting(
    end: End,
    what: str,
    value: float,
    bound: float,
    exact: bool,
    own: float,
    f: "Callable[[ndarray], ndarray]",
) -> dict[str, Any]:
    loss = float(end.problem.loss.value(f(end.x), end.y))
    lower = bool(end.unfitted > _FITTED and loss < (1.0 - 1e-9) * end.loss)
    found = {
        "value": value,
        "dual_value": bound,
        "exact": exact,
        "flow": own,
        "ratio": own / value if value > 0.0 else None,
        **end.beside(f),
        "loss": loss,
        "lower_loss": lower,
    }
    return found | _of_fitting(end, found, what, f)


def _of_fitting(
    end: End, found: dict[str, Any], what: str, f: "Callable[[ndarray], ndarray]"
) -> dict[str, Any]:
    """How many neurons there are, and the sentence."""
    ratio = found["ratio"]
    if not isinstance(f, VariationMinimum):
        if not ratio:
            return {"statement": ""}
        said = f"The weights moved {ratio:.4g} times as far as they need to in the lazy regime."
        return {"statement": said}
    count = len(f.mass)
    neurons = f"{count} neuron{'s' if count != 1 else ''}"
    parts: list[str] = []
    if found["lower_loss"]:
        width = end.problem.network.width if isinstance(end.problem.network, TwoLayer) else count
        enough = "" if count <= width else f" (more than the network's {width})"
        parts.append(
            f"{neurons}{enough} of this activation have a loss of {found['loss']:.3g} at the "
            f"examples: the network's, {end.loss:.6g}, is not the least."
        )
    if end.unfitted < _NEARLY_FITTED and ratio is not None:
        off = abs(ratio - 1.0)
        of = f"{ratio:.7g} times the" if off > _SAME else "the"
        to = f", to {off:.1e} of it" if 0.0 < off <= _SAME else ""
        parts.append(f"It has {of} least norm of all networks that fit the labels{to}.")
    return {"neurons": count, "statement": " ".join(parts)}


def _most_margin(end: End) -> dict[str, Any]:
    best = most_margin(end.problem.data, _two_layer(end), hints=end.hints)
    found = _best(end, 0.5 / best.value, 0.5 / best.dual_value, best.exact, best)
    return {**found, "neurons": len(best.mass), "statement": _share(end, found, "of any width")}


def _global_margin(end: End) -> dict[str, Any]:
    return _game(end, global_margin(end.x, end.y, hints=end.hints), "of any directions")


def _local_margin(end: End) -> dict[str, Any]:
    live = np.isfinite(end.state.log_norm)
    game = local_margin(end.x, end.y, end.state.direction[live], _signs(end)[live])
    return _game(end, game, "that its own directions allow")


def _game(end: End, game: MarginGame, of: str) -> dict[str, Any]:
    found = _best(end, game.margin, game.dual_value, game.exact, game)
    count = int(np.sum(game.share > 0.0))
    return {**found, "neurons": count, "statement": _share(end, found, of)}


def _best(
    end: End, value: float, bound: float, exact: bool, f: "Callable[[ndarray], ndarray]"
) -> dict[str, Any]:
    return {
        "value": value,
        "dual_value": bound,
        "exact": exact,
        "flow": end.margin,
        "ratio": end.margin / value if value > 0.0 else None,
        **end.of_class(f),
    }


def _share(end: End, found: dict[str, Any], of: str) -> str:
    ratio = found["ratio"]
    if ratio is None:
        return f"No network has a positive margin {of}." if found["value"] <= 0.0 else ""
    if not end.margin > 0.0:
        return "The network does not classify all examples."
    return f"The network's margin is {ratio:.7g} of the largest {of}."


def _ntk_margin(end: End) -> dict[str, Any]:
    kernel = ntk_margin(end.problem)
    return _linear(end, kernel.margin, kernel.svm, kernel)


def _hard_margin(end: End) -> dict[str, Any]:
    svm = hard_margin(end.x, end.y)

    def f(x: ndarray) -> ndarray:
        return np.asarray(x @ svm.weight)

    return _linear(end, svm.margin, svm, f)


def _linear(
    end: End, margin: float, svm: HardMargin, f: "Callable[[ndarray], ndarray]"
) -> dict[str, Any]:
    found = {
        "value": margin,
        "dual_value": 1.0 / np.sqrt(2.0 * max(svm.dual_value, _TINY)),
        "exact": True,
        "flow": None,
        "ratio": None,  # margins in different norms
        **end.of_class(f),
    }
    angle = found["angle"]
    said = "" if angle is None else f"At the examples the two are at an angle of {angle:.3g} rad."
    return {**found, "statement": said}


def _two_layer(end: End) -> TwoLayer:
    return end.problem.two_layer


def _signs(end: End) -> ndarray:
    network = end.problem.network
    assert isinstance(network, SquaredRelu)
    return np.ones(network.width) if network.signs is None else np.array(network.signs)


def _squared(end: End) -> bool:
    return end.classifies and isinstance(end.problem.network, SquaredRelu)


def _few_patterns(end: End) -> bool:
    return end.orthogonal or end.patterns <= _FEW_PATTERNS


def _small_kernel(end: End) -> bool:
    # The gradients of other networks are compiled first.
    return end.two_layer and end.kernel_work <= _FEW_PRODUCTS


_FITS = "it is for the square loss and {}, with one output."
_CLASSES = "it is for two classes and {}, with one output."

#: In the order in which they are told.
ANSWERS: dict[str, Answer] = {
    "least_variation_norm": Answer(
        lambda e: e.fits and e.two_layer,
        _few_patterns,
        _least_variation_norm,
        _FITS.format("two-layer (leaky) ReLU networks"),
    ),
    "ntk_interpolant": Answer(
        lambda e: e.fits and e.two_layer,
        _small_kernel,
        _ntk_interpolant,
        _FITS.format("two-layer (leaky) ReLU networks"),
    ),
    "most_margin": Answer(
        lambda e: e.classifies and e.two_layer,
        _few_patterns,
        _most_margin,
        _CLASSES.format("two-layer (leaky) ReLU networks"),
    ),
    "local_margin": Answer(
        _squared,
        lambda e: len(e.x) * e.state.blocks <= _FEW_PATTERNS,
        _local_margin,
        _CLASSES.format("squared-ReLU networks"),
    ),
    "global_margin": Answer(
        _squared, _few_patterns, _global_margin, _CLASSES.format("squared-ReLU networks")
    ),
    "ntk_margin": Answer(
        lambda e: e.classifies, _small_kernel, _ntk_margin, _CLASSES.format("any network")
    ),
    "hard_margin": Answer(
        lambda e: e.classifies,
        lambda e: float(len(e.x)) ** 2 * e.x.shape[1] <= _FEW_PRODUCTS,
        _hard_margin,
        _CLASSES.format("any network"),
    ),
}


def _angle(h: ndarray, f: ndarray) -> float | None:
    """The angle of two vectors in radians, exact near zero."""
    a, b = float(np.linalg.norm(h)), float(np.linalg.norm(f))
    if not (0.0 < a < np.inf and 0.0 < b < np.inf):
        return None
    u, v = h / a, f / b
    return 2.0 * float(np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v)))
