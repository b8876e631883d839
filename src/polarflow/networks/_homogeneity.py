"""Is a network homogeneous in its weights, of which order, and if not, what breaks it?

The structural answer reads the network's operations (its jaxpr) and gives every value its degree
in the weights: a product adds degrees, a sum needs equal ones, max(z, 0) keeps them, exp allows
none. The numerical answer compares H(x; c w) with c^L H(x; w), and sum_p <dH/dp, p> with L H
(Euler) at random weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from ._evaluate import jax64

#: The degree of a value that is zero whatever the weights: it fits any degree.
_ZERO = "zero"

#: How often weights are drawn until outputs are numbers, and not all zero.
_DRAWS = 30

_SAME = {
    "neg", "abs", "reshape", "transpose", "broadcast_in_dim", "slice", "squeeze", "reduce_sum",
    "reduce_max", "reduce_min", "convert_element_type", "copy", "rev", "cumsum", "expand_dims",
    "reduce_window_max", "reduce_window_sum", "reduce_window_min", "stop_gradient", "device_put",
    "dynamic_slice", "gather", "copy_p", "real", "split", "sharding_constraint",
}  # fmt: skip
_SUMS = {
    "add", "sub", "add_any", "max", "min", "concatenate", "select_n", "pad", "clamp",
    "dynamic_update_slice", "scatter", "scatter-add", "scatter_add", "select_and_gather_add",
}  # fmt: skip
_PRODUCTS = {"mul", "dot_general", "conv_general_dilated"}
_COMPARISONS = {"gt", "lt", "ge", "le", "eq", "ne", "argmax", "argmin", "sign"}
_FREE = {"iota", "and", "or", "not", "is_finite", "random_bits", "eq_to"}
_NESTED = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
           "remat", "checkpoint", "remat2", "custom_vjp_call_jaxpr"}  # fmt: skip


@dataclass(frozen=True)
class Homogeneity:
    """What was found of a network.

    **Attributes:**

    - `order`: L, or None if the network is not homogeneous.
    - `reason`: what breaks it, a sentence; empty if nothing does.
    - `defect`: the largest |H(x; c w) - c^L H(x; w)| relative to the largest |H(x; c w)| met, with
      L fitted where there is none.
    - `kinks`: whether the gradient of H jumps somewhere, as with ReLU and max-pooling.
    """

    order: float | None
    reason: str
    defect: float
    kinks: bool


class _Broken(Exception):
    pass


class _Unknown(Exception):
    pass


@dataclass(frozen=True)
class _Value:
    """A degree, and the name of the weight that it is, if it is one."""

    degree: Any
    name: str = ""


def check_homogeneity(
    apply: Callable[[Any, Any], Any],
    weights: Mapping[str, ndarray],
    x: ndarray,
    *,
    seed: int = 0,
) -> Homogeneity:
    """Whether H(x; c w) = c^L H(x; w) for c > 0, by structure and by numbers.

    **Arguments:**

    - `apply`: the network as a function of the weights, a mapping of arrays, and inputs.
    - `weights`: the weights by name; only their shapes matter.
    - `x`: some inputs `(n, d)`.
    - `seed`: of the random weights.
    """
    order, reason, kinks = _structure(apply, weights, x)
    fitted, defect, parts = _numbers(apply, weights, x, seed)
    if reason:
        return Homogeneity(None, reason, defect, kinks)
    if fitted is None:
        return Homogeneity(
            None, "at random weights its outputs are all zero, or not all numbers.", defect, kinks
        )
    if not defect <= 1e-8:
        named = f" Not proportional to the output: {', '.join(parts)}." if parts else ""
        return Homogeneity(
            None, f"H(x; c w) and c^L H(x; w) differ by {defect:.2g}.{named}", defect, kinks
        )
    if order is not None and abs(order - fitted) > 1e-6:
        return Homogeneity(
            None, f"the operations give order {order:g}, the values {fitted:.6g}.", defect, kinks
        )
    return Homogeneity(round(fitted, 9), "", defect, kinks)


# -- by numbers ----------------------------------------------------------------------------


def _numbers(
    apply: Callable[[Any, Any], Any], weights: Mapping[str, ndarray], x: ndarray, seed: int
) -> tuple[float | None, float, list[str]]:
    """The order fitted, the defect, and the weights whose Euler part is not proportional to H."""
    jax = jax64()
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        w = {k: jax.numpy.asarray(rng.standard_normal(np.shape(v))) for k, v in weights.items()}
        h, euler = jax.jvp(lambda at: apply(at, x), (w,), (w,))
        h, size = np.asarray(h, dtype=float), float(np.max(np.abs(h), initial=0.0))
        # Units may be off for all examples, and a normalisation has no value then.
        if np.isfinite(euler).all() and 0.0 < size < np.inf:
            break
    else:
        return None, 0.0, []
    order = float(np.sum(np.asarray(euler) * h) / np.sum(h * h))
    defect = 0.0
    for c in (0.5, 3.0):
        scaled = np.asarray(apply({k: c * v for k, v in w.items()}, x), dtype=float)
        gap = np.max(np.abs(scaled - c**order * h))
        defect = max(defect, float(gap / max(np.max(np.abs(scaled)), 1e-300)))
    broken = []
    if defect > 1e-8:
        for name, value in w.items():
            along = {k: value if k == name else 0.0 * v for k, v in w.items()}
            part = np.asarray(jax.jvp(lambda at: apply(at, x), (w,), (along,))[1], dtype=float)
            rate = np.sum(part * h) / np.sum(h * h)
            if np.max(np.abs(part - rate * h)) > 1e-8 * size:
                broken.append(name)
    return order, defect, broken


# -- by structure --------------------------------------------------------------------------


def _structure(
    apply: Callable[[Any, Any], Any], weights: Mapping[str, ndarray], x: ndarray
) -> tuple[float | None, str, bool]:
    """The order, what breaks it, and whether there are kinks; an unknown operation gives None."""
    jax = jax64()
    names = list(weights)

    def flat(*values: Any) -> Any:
        return apply(dict(zip(names, values, strict=True)), x)

    closed = jax.make_jaxpr(flat)(*(jax.numpy.asarray(weights[name]) for name in names))
    walk = _Walk()
    try:
        inputs = [_Value(1.0, name) for name in names]
        found = walk.run(closed.jaxpr, closed.consts, inputs)
        degree = walk.same(found, None)
    except _Broken as error:
        return None, str(error), walk.kinks
    except _Unknown:
        return None, "", walk.kinks
    return (None if degree == _ZERO else float(degree)), "", walk.kinks


class _Walk:
    """Gives every value of a jaxpr its degree."""

    def __init__(self) -> None:
        self.kinks = False

    def run(self, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[_Value]) -> list[_Value]:
        known: dict[Any, _Value] = {}
        for variable, value in zip(jaxpr.constvars, consts, strict=True):
            known[variable] = _Value(_degree_of_constant(value))
        known.update(zip(jaxpr.invars, inputs, strict=True))

        def read(atom: Any) -> _Value:
            if hasattr(atom, "val"):
                return _Value(_degree_of_constant(atom.val))
            return known[atom]

        for eqn in jaxpr.eqns:
            found = self.apply(eqn, [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, found, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, eqn: Any, values: list[_Value]) -> list[_Value]:
        name, count = eqn.primitive.name, len(eqn.outvars)
        if name in _NESTED:
            inner = next(
                eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params
            )
            jaxpr, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
            return self.run(jaxpr, consts, values[-len(jaxpr.invars) :])
        return [_Value(self.degree(eqn, name, values), self.name(name, values))] * count

    def name(self, name: str, values: list[_Value]) -> str:
        keeps = name in ("reshape", "broadcast_in_dim", "transpose", "convert_element_type",
                         "squeeze", "slice", "expand_dims")  # fmt: skip
        return values[0].name if keeps and values else ""

    def degree(self, eqn: Any, name: str, values: list[_Value]) -> Any:
        if name in _FREE or not values:
            return 0.0
        degree = values[0].degree
        if name in _SAME:
            self.kinks |= name in ("abs", "reduce_max", "reduce_min", "reduce_window_max")
            return degree
        if name in _COMPARISONS:
            self.same(values, eqn)
            return 0.0
        if name in _SUMS:
            joined = self.same(values[1:] if name == "select_n" else values, eqn)
            self.kinks |= name in ("max", "min", "select_n", "clamp") and joined not in (0.0, _ZERO)
            return joined
        if name in _PRODUCTS:
            if any(v.degree == _ZERO for v in values[:2]):
                return _ZERO
            return values[0].degree + values[1].degree
        if name == "div":
            return degree if degree == _ZERO else degree - values[1].degree
        powers = {"square": 2.0, "sqrt": 0.5, "rsqrt": -0.5, "cbrt": 1.0 / 3.0}
        if name in powers or name == "integer_pow":
            power = powers.get(name, eqn.params.get("y"))
            return degree if degree == _ZERO else degree * power
        if name == "pow" and hasattr(eqn.invars[1], "val"):
            return degree if degree == _ZERO else degree * float(eqn.invars[1].val)
        if all(v.degree in (0.0, _ZERO) for v in values):
            return 0.0
        if name in ("exp", "log", "tanh", "logistic", "erf", "sin", "cos", "log1p", "expm1", "erfc",
                    "exp2", "pow", "atan2", "erf_inv"):  # fmt: skip
            raise _Broken(f"the function {name} is not homogeneous{_place(eqn)}.")
        raise _Unknown(name)

    def same(self, values: list[_Value], eqn: Any) -> Any:
        """The common degree of values that are added or compared."""
        found = [v for v in values if v.degree != _ZERO]
        degrees = sorted({round(v.degree, 9) for v in found})
        if len(degrees) <= 1:
            return degrees[0] if degrees else _ZERO
        bias = next((v.name for v in found if v.name), "")
        if bias:
            raise _Broken(f"the weight {bias!r} is a bias, or is added like one{_place(eqn)}.")
        if 0.0 in degrees:
            raise _Broken(
                f"a constant is added to a value of degree {degrees[-1]:g} in the weights, as the "
                f"epsilon of a normalisation is{_place(eqn)}."
            )
        listed = " and ".join(f"{d:g}" for d in degrees)
        raise _Broken(
            f"values of degrees {listed} in the weights are added, as a skip connection "
            f"does{_place(eqn)}."
        )


def _degree_of_constant(value: Any) -> Any:
    array = np.asarray(value)
    return _ZERO if array.dtype.kind in "fiub" and not array.any() else 0.0


def _place(eqn: Any) -> str:
    """Where in the user's source an operation stands, if JAX knows."""
    if eqn is None:
        return ""
    try:
        from jax._src import source_info_util

        text = str(source_info_util.summarize(eqn.source_info))
    except (ImportError, AttributeError):
        return ""
    return f" ({text})" if text and "unknown" not in text.lower() else ""
