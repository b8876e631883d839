"""Compiled methods of fields, shared by all fields whose numbers alone differ."""

from functools import lru_cache
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


@lru_cache(maxsize=64)
def compiled(shape: Shape, name: str, static: tuple[int, ...]) -> Any:
    """A method of fields of a shape, compiled; numbers are its first argument."""

    def run(numbers: Any, *arguments: Any) -> Any:
        return getattr(shape.field.with_data(numbers), name)(*arguments)

    return jax64().jit(run, static_argnums=static)
