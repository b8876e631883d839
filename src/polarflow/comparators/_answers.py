"""The comparators by name: to which problems each applies, and what it says of a network."""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot
from typing import Any

import numpy as np
from numpy import ndarray

from ..networks import Diagonal, SquaredRelu, TwoLayer
from ._end import TINY, End
from ._l1 import L1Minimum, least_l1_norm
from ._margin import HardMargin, hard_margin, ntk_margin
from ._minimum import VariationMinimum
from ._ntk import NtkInterpolant, ntk_interpolant
from ._squared import MarginGame, global_margin, local_margin
from ._variation import least_variation_norm, most_margin

#: Patterns times examples of a program over patterns, and multiplications of others, that take a
#: second or so.
_FEW_PATTERNS = 5000
_FEW_PRODUCTS = 2e9
#: Entries of a linear program that does.
_FEW_WEIGHTS = 100_000
#: Labels are fitted at this part of the loss of the zero function.
_FITTED = 1e-6
#: A norm or a margin is the best one to this; labels are fitted if what is missing costs no more.
_SAME = 1e-6


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
    return _fitting(end, least.value, least.dual_value, least.exact, end.variation, least)


def _ntk_interpolant(end: End) -> dict[str, Any]:
    kernel = ntk_interpolant(end.problem)
    # From a tiny start it is so long that its square is no float.
    size = hypot(*kernel.displacement.ravel().tolist())
    with np.errstate(over="ignore"):
        moved = float(np.linalg.norm(end.state.weights() - end.problem.initial.weights()))
    return _fitting(end, size, size, True, moved, kernel)


def _least_l1_norm(end: End) -> dict[str, Any]:
    least = least_l1_norm(end.x, end.y)
    return _fitting(end, least.value, least.dual_value, True, end.linear_cost, least)


def _fitting(
    end: End,
    value: float,
    bound: float,
    exact: bool,
    own: float,
    f: VariationMinimum | L1Minimum | NtkInterpolant,
) -> dict[str, Any]:
    loss = float(end.problem.loss.value(f(end.x), end.y))
    lower = bool(end.unfitted > _FITTED and loss < (1.0 - 1e-9) * end.loss)
    if not isinstance(f, NtkInterpolant):
        off = _misfit(end, f)
    else:
        off = float(np.sqrt(end.unfitted))  # |y - h|/|y| of the square loss
    found = {
        "value": value,
        "dual_value": bound,
        "exact": exact,
        "flow": own,
        "ratio": own / value if value > 0.0 else None,
        "fitted": off <= _SAME,
        **end.beside(f),
        "loss": loss,
        "lower_loss": lower,
    }
    if isinstance(f, VariationMinimum):
        return found | {"neurons": len(f.mass), "statement": _of_least_norm(end, found, f, off)}
    if isinstance(f, L1Minimum):
        return found | {"statement": _of_l1_norm(end, found, off)}
    return found | {"statement": _of_distance(end, found)}


def _misfit(end: End, least: VariationMinimum | L1Minimum) -> float:
    r"""How far the least norm of the predictions can be below that of the labels, over the latter.

    It is convex in what is fitted, with the multipliers as its slope at the labels: at predictions
    h it is at least value - $\nu \cdot (y - h)$.
    """
    if not least.height * least.value > 0.0:
        return float(np.abs(end.predictions).max(initial=0.0) > 0.0)
    missed = float(np.abs(least.dual) @ np.abs(end.y - end.predictions))
    return missed / (least.height * least.value)


def _of_l1_norm(end: End, found: dict[str, Any], off: float) -> str:
    if found["ratio"] is None:
        return ""
    if not found["fitted"]:
        said = _fitted_to(end)
        return f"{said[0].upper()}{said[1:]}: the norm can't be set against that of a fit."
    away = abs(found["ratio"] - 1.0)
    if away > _SAME:
        return f"It has {found['ratio']:.7g} times the least l1 norm of all linear fits."
    return f"It has the least l1 norm of all linear fits, to {max(away, off):.1e} of it."


def _of_distance(end: End, found: dict[str, Any]) -> str:
    if not found["ratio"]:
        return ""
    said = f"The weights moved {found['ratio']:.4g} times as far as a fit takes in the lazy regime"
    return f"{said}." if found["fitted"] else f"{said}, but {_fitted_to(end)}."


def _fitted_to(end: End) -> str:
    return (
        f"labels are fitted to {np.sqrt(end.unfitted):.2g} of their norm only (loss {end.loss:.3g})"
    )


def _of_least_norm(end: End, found: dict[str, Any], least: VariationMinimum, off: float) -> str:
    parts: list[str] = []
    ratio, count = found["ratio"], len(least.mass)
    if found["lower_loss"]:
        width = _two_layer(end).width
        enough = "" if count <= width else f" (more than the network's {width})"
        parts.append(
            f"{count} neuron{'s' if count != 1 else ''}{enough} of this activation have a loss of "
            f"{found['loss']:.3g} at the examples: the network's, {end.loss:.6g}, is not the least."
        )
    if ratio is None:
        return " ".join(parts)
    searched = "" if least.exact else " Activation patterns were sampled: there may be a lower one."
    if found["fitted"]:
        away = abs(ratio - 1.0)
        of = f"{ratio:.7g} times the" if away > _SAME else "the"
        to = "" if away > _SAME else f", to {max(away, off):.1e} of it"
        parts.append(f"It has {of} least norm of all networks that fit the labels{to}.{searched}")
        return " ".join(parts)
    said = _fitted_to(end)
    parts.append(
        f"{said[0].upper()}{said[1:]}: the network's norm can't be set against that of a fit."
    )
    needed = float(least.dual @ end.predictions) / least.height
    if needed > 0.0 and least.exact:
        parts.append(
            f"A network with its own predictions needs {needed:.6g} at least; it has "
            f"{end.variation / needed:.7g} times that."
        )
    return " ".join(parts)


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
    yet = "" if ratio > 1.0 - _SAME else ", at the loss that it has,"
    return f"The network's margin is{yet} {ratio:.7g} of the largest {of}."


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
        "dual_value": 1.0 / np.sqrt(2.0 * max(svm.dual_value, TINY)),
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
    "least_l1_norm": Answer(
        lambda e: e.fits and isinstance(e.problem.network, Diagonal),
        lambda e: e.x.size <= _FEW_WEIGHTS,
        _least_l1_norm,
        _FITS.format("diagonal linear networks"),
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
