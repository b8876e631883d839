"""Functions written with JAX, evaluated in ball arithmetic, and the Krawczyk test on any block.

A function's jaxpr is a list of primitive operations. Here these act on arrays of balls of
python-flint (arb), so that what comes out encloses the values on a whole box of weights. Where a
comparison holds on a part of the box only, a choice between two values encloses both. That is
sound for a gradient that is continuous (a squared ReLU), whose generalised Jacobian the enclosure
of the Hessian holds (Clarke 1983, proposition 2.6.5); for a gradient that jumps there it is not,
and the answer is `Undecided`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from flint import arb, ctx
from numpy import ndarray

from ..networks._evaluate import jax64
from ._block import Block
from ._interval import PRECISION, Balls, proves

#: Blocks of more weights are not tested.
LARGEST = 32


class Undecided(Exception):
    """A kink that runs through the box, or an operation that is not known."""


def enclose(function: Any, arguments: list[Any]) -> list[Any]:
    """The outputs of a closed jaxpr on numbers, and object arrays of balls."""
    return _run(function.jaxpr, function.consts, arguments)


def _run(jaxpr: Any, constants: Any, arguments: list[Any]) -> list[Any]:
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        name, params = equation.primitive.name, equation.params
        inner = params.get("jaxpr") or params.get("call_jaxpr")
        rounds = name in _ROUNDING and any(_is_float(each) for each in inputs)
        if not rounds and not any(_has_balls(each) for each in inputs):
            found = equation.primitive.bind(*inputs, **params)
            outputs = found if equation.primitive.multiple_results else [found]
        elif inner is not None:
            outputs = enclose(inner, inputs)
        elif name in _RULES:
            found = _RULES[name](*(_balls(each) for each in inputs), **params)
            outputs = found if name == "split" else [found]
        elif name in _CHOICES:
            outputs = [_CHOICES[name](*inputs)]
        else:
            raise Undecided(name)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _has_balls(value: Any) -> bool:
    return isinstance(value, arb) or (isinstance(value, ndarray) and value.dtype == object)


def _is_float(value: Any) -> bool:
    return not _has_balls(value) and np.asarray(value).dtype.kind == "f"


def _balls(value: Any) -> ndarray:
    if isinstance(value, ndarray) and value.dtype == object:
        return value
    return np.array(value, dtype=object) if isinstance(value, arb) else _plain(value)


def _plain(value: Any) -> ndarray:
    """Exact numbers as objects: floats become balls, so that no product of them is rounded."""
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return array.astype(object)
    return np.asarray(np.frompyfunc(lambda v: arb(float(v)), 1, 1)(array), dtype=object)


def _dot(a: ndarray, b: ndarray, *, dimension_numbers: Any, **_: Any) -> ndarray:
    (left, right), (batch_a, batch_b) = dimension_numbers
    free_a = [i for i in range(a.ndim) if i not in (*left, *batch_a)]
    free_b = [i for i in range(b.ndim) if i not in (*right, *batch_b)]
    shape_a, shape_b = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    batch = [a.shape[i] for i in batch_a]
    inner = int(np.prod([a.shape[i] for i in left]))
    rows = a.transpose((*batch_a, *free_a, *left)).reshape(*batch, -1, inner)
    columns = b.transpose((*batch_b, *right, *free_b)).reshape(*batch, inner, -1)
    if inner == 0:
        return np.zeros((*batch, *shape_a, *shape_b), dtype=object)
    return np.asarray(np.matmul(rows, columns)).reshape((*batch, *shape_a, *shape_b))


def _broadcast(a: ndarray, *, shape: Any, broadcast_dimensions: Any, **_: Any) -> ndarray:
    full = [1] * len(shape)
    for place, axis in enumerate(broadcast_dimensions):
        full[axis] = a.shape[place]
    return np.broadcast_to(a.reshape(full), shape)


def _pad(a: ndarray, fill: ndarray, *, padding_config: Any, **_: Any) -> ndarray:
    if any(low < 0 or high < 0 or between for low, high, between in padding_config):
        raise Undecided("pad")
    widths = [(low, high) for low, high, _between in padding_config]
    return np.pad(a, widths, constant_values=fill.item())


def _slice(
    a: ndarray, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any
) -> ndarray:
    steps = strides or (1,) * a.ndim
    places = zip(start_indices, limit_indices, steps, strict=True)
    return a[tuple(slice(*place) for place in places)]


def _split(a: ndarray, *, sizes: Any, axis: int, **_: Any) -> list[ndarray]:
    return np.split(a, np.cumsum(sizes)[:-1], axis=axis)


_RULES: dict[str, Callable[..., Any]] = {
    "add": lambda a, b, **_: a + b,
    "add_any": lambda a, b, **_: a + b,
    "sub": lambda a, b, **_: a - b,
    "mul": lambda a, b, **_: a * b,
    "neg": lambda a, **_: -a,
    "integer_pow": lambda a, *, y, **_: a**y,
    "square": lambda a, **_: a * a,
    "convert_element_type": lambda a, **_: _numbers(a),
    "copy": lambda a, **_: a,
    "dot_general": _dot,
    "broadcast_in_dim": _broadcast,
    "reduce_sum": lambda a, *, axes, **_: np.asarray(a.sum(axis=tuple(axes)), dtype=object),
    "reshape": lambda a, *, new_sizes, **_: a.reshape(new_sizes),
    "squeeze": lambda a, *, dimensions, **_: a.squeeze(tuple(dimensions)),
    "transpose": lambda a, *, permutation, **_: a.transpose(permutation),
    "pad": _pad,
    "slice": _slice,
    "split": _split,
}


def _numbers(a: ndarray) -> ndarray:
    """Truth values as numbers; one that is not known is between 0 and 1."""
    return _each(
        lambda v: arb(0.5, 0.5) if v is None else int(v) if v is True or v is False else v, a
    )


def _each(function: Callable[..., Any], *arrays: ndarray) -> ndarray:
    many = np.frompyfunc(function, len(arrays), 1)
    return np.asarray(many(*np.broadcast_arrays(*arrays)), dtype=object)


#: Operations that round, and are done in balls whatever they act on.
_ROUNDING = {"add", "add_any", "sub", "mul", "integer_pow", "square", "dot_general", "reduce_sum"}


def _decided(yes: Callable[[Any, Any], Any], no: Callable[[Any, Any], Any]) -> Any:
    """True, False, or None where it is neither throughout."""

    def compare(a: Any, b: Any) -> ndarray:
        return _each(
            lambda p, q: True if yes(p, q) else False if no(p, q) else None, _balls(a), _balls(b)
        )

    return compare


def _select(which: Any, *cases: Any) -> ndarray:
    def choose(chosen: Any, first: Any, second: Any) -> Any:
        return arb(first).union(arb(second)) if chosen is None else second if chosen else first

    return _each(choose, _balls(which), *(_balls(case) for case in cases))


_CHOICES: dict[str, Callable[..., Any]] = {
    "gt": _decided(lambda p, q: p > q, lambda p, q: p <= q),
    "lt": _decided(lambda p, q: p < q, lambda p, q: p >= q),
    "ge": _decided(lambda p, q: p >= q, lambda p, q: p < q),
    "le": _decided(lambda p, q: p <= q, lambda p, q: p > q),
    "select_n": _select,
}


@lru_cache(maxsize=32)
def _traced(apply: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> tuple[Any, Any]:
    """Jaxprs of the gradient and the Hessian of N in the weights."""
    jax = jax64()

    def value(w: Any, constant: Any, x: Any, z: Any) -> Any:
        return jax.numpy.sum(z * apply(w, constant, x))

    blanks = [jax.numpy.zeros(shape) for shape in shapes]
    return jax.make_jaxpr(jax.grad(value))(*blanks), jax.make_jaxpr(jax.hessian(value))(*blanks)


def certify_block(
    block: Block, x: ndarray, z: ndarray, direction: ndarray, multiplier: float
) -> tuple[bool | None, float | None]:
    """Whether exactly one KKT point of the block's NCF lies near, by the Krawczyk test.

    Unknown are v and lambda: grad N(v) = lambda v and |v| = 1. None where the block is too large
    or its gradient jumps.
    """
    p = block.size
    if p > LARGEST or block.kinks:
        return None, None
    arrays = [block.constant, x, z]
    gradient, hessian = _traced(block.apply, ((p,), *(a.shape for a in arrays)))

    def system(y: Balls) -> Balls:
        v, lam = y[:p], y[p]
        force = _balls(enclose(gradient, [np.array(v, dtype=object), *arrays])[0])
        norm = sum((e * e for e in v), arb(0))
        return [*(arb(f) - lam * e for f, e in zip(force, v, strict=True)), (1 - norm) / 2]

    def jacobian(y: Balls) -> list[Balls]:
        v, lam = y[:p], y[p]
        form = _balls(enclose(hessian, [np.array(v, dtype=object), *arrays])[0])
        rows = [
            [*(arb(form[i, j]) - (lam if i == j else 0) for j in range(p)), -v[i]] for i in range(p)
        ]
        return [*rows, [*(-e for e in v), arb(0)]]

    try:
        with ctx.workprec(PRECISION):
            radius = proves(system, jacobian, [*direction, multiplier], lambda box: True)
    except Undecided:
        return None, None
    return radius is not None, radius
