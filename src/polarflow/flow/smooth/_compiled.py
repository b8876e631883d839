"""Compiled methods of fields, shared by all fields whose numbers alone differ."""

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ...networks._evaluate import jax64

if TYPE_CHECKING:
    from ._field import Field


class Shape:
    """A field as compiled code sees it: equal for fields whose numbers alone differ."""

    def __init__(self, field: "Field") -> None:
        self.field = field
        groups = [(g.rows, g.size, g.order, g.apply, g.bends) for g in field.groups]
        loss = (type(field.residual.loss), field.residual.outputs, field.residual.label.shape)
        self._key = (tuple(groups), loss, field.x.shape)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shape) and self._key == other._key


class Compiled:
    """A function compiled by JAX, whose compiling is timed.

    **Attributes:**

    - `seconds`: what loading JAX and compiling took in this process, of all functions; a class
      attribute.
    """

    seconds = 0.0

    def __init__(self, function: Callable[..., Any], static: tuple[int, ...] = ()) -> None:
        begin = perf_counter()
        self._run = jax64().jit(function, static_argnums=static)
        Compiled.seconds += perf_counter() - begin

    def __call__(self, *arguments: Any) -> Any:
        begin, known = perf_counter(), self._run._cache_size()
        found = self._run(*arguments)
        if self._run._cache_size() > known:
            Compiled.seconds += perf_counter() - begin
        return found


@lru_cache(maxsize=64)
def compiled(shape: Shape, function: Callable[..., Any], static: tuple[int, ...]) -> Compiled:
    """A function of fields of a shape, for the numbers of any, which are its first argument."""

    def run(numbers: Any, *arguments: Any) -> Any:
        return function(shape.field.with_data(numbers), *arguments)

    return Compiled(run, static)
