"""Users' own models as networks: from a function, Equinox, Flax or PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy import ndarray

from ..errors import PolarflowError
from ._blocks import Group, Network, part_of
from ._evaluate import jax64
from ._homogeneity import Homogeneity, check_homogeneity
from ._state import BlockState

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class _Flat:
    """A function of named weights as one of a flat vector."""

    apply: Callable[[Any, Any], Any]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: int

    def __call__(self, weights: Any, constant: Any, x: Any) -> Any:
        named, start = {}, 0
        for name, shape in self.shapes:
            size = int(np.prod(shape, dtype=int))
            named[name] = weights[start : start + size].reshape(shape)
            start += size
        return self.apply(named, x).reshape(-1, self.outputs)


@dataclass(frozen=True, eq=False)
class Custom(Network):
    """A network given as a function of its weights: one block.

    **Attributes:**

    - `function`: H(x; w) for named weights and inputs `(n, d)`, `(n,)` or `(n, C)`, with JAX.
    - `shapes`: names and shapes of the weights, in the order in which they stand in the block.
    - `homogeneity`: what was found of it. A network that is not homogeneous is followed in
      ordinary coordinates.
    - `outputs`: C.
    """

    function: Callable[[Any, Any], Any]
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    homogeneity: Homogeneity
    outputs: int = 1
    kind: ClassVar[str] = "custom"

    def groups(self, dimension: int) -> tuple[Group, ...]:
        size = sum(int(np.prod(shape, dtype=int)) for _, shape in self.shapes)
        apply = _Flat(self.function, self.shapes, self.outputs)
        found = self.homogeneity
        return (Group(1, size, found.order, apply, np.zeros((1, 0)), found.kinks, layered=True),)

    def weights(self, state: BlockState) -> dict[str, ndarray]:
        """The weights of a state by name."""
        flat, start, named = state.weights()[0], 0, {}
        for name, shape in self.shapes:
            size = int(np.prod(shape, dtype=int))
            named[name] = flat[start : start + size].reshape(shape)
            start += size
        return named


@dataclass(frozen=True, eq=False)
class _Shaped:
    """A function of inputs of any shape as one of flat inputs."""

    function: Callable[[Any, Any], Any]
    shape: tuple[int, ...]

    def __call__(self, weights: Any, x: Any) -> Any:
        return self.function(weights, x.reshape(-1, *self.shape))


def from_function(
    function: Callable[[Any, Any], Any], weights: "Mapping[str, ArrayLike]", x: "ArrayLike"
) -> tuple[Custom, BlockState]:
    """A network from a function of named weights and inputs, and the state of the weights given.

    **Arguments:**

    - `function`: takes a dict of arrays and inputs `(n, d)`, returns `(n,)` or `(n, C)`; JAX.
    - `weights`: the weights by name.
    - `x`: a few inputs, on which homogeneity is checked: `(n, d)`, or of any shape `(n, ...)`; the
      function gets inputs of this shape, the network takes them flattened row by row.

    **Returns:** the network, whose `homogeneity` says its order or what breaks it, and the state.
    """
    x = np.atleast_2d(np.asarray(x, dtype=float))
    if x.ndim > 2:
        function, x = _Shaped(function, x.shape[1:]), x.reshape(len(x), -1)
    named = {name: np.asarray(value, dtype=float) for name, value in weights.items()}
    if not named:
        raise PolarflowError("from_function: there are no weights.")
    jax64()
    try:
        shape: tuple[int, ...] = np.shape(function(named, x))
    except (TypeError, ValueError) as error:
        raise PolarflowError(
            f"the model does not take inputs of shape {x.shape}: {error}"
        ) from error
    if len(shape) not in (1, 2) or shape[0] != len(x):
        raise PolarflowError(
            f"from_function: the outputs have shape {shape}; expected is ({len(x)},) or "
            f"({len(x)}, outputs)."
        )
    outputs = 1 if len(shape) == 1 else shape[1]
    shapes = tuple((name, value.shape) for name, value in named.items())
    network = Custom(function, shapes, check_homogeneity(function, named, x), outputs)
    flat = np.concatenate([value.ravel() for value in named.values()])
    log_norm, direction = part_of(flat[None, :])
    return network, BlockState(log_norm, direction)


def from_equinox(model: Any, x: "ArrayLike") -> tuple[Custom, BlockState]:
    """A network from an Equinox module that maps one input `(d,)` to one output.

    Its floating-point arrays become the weights, named by their places in the module.

    **Raises:** `PolarflowError` for a module that keeps state, such as a BatchNorm.
    """
    import equinox as eqx

    jax = jax64()
    stateful = (eqx.nn.StateIndex, eqx.nn.BatchNorm)
    leaves = jax.tree_util.tree_leaves(model, is_leaf=lambda leaf: isinstance(leaf, stateful))
    if any(isinstance(leaf, stateful) for leaf in leaves):
        raise PolarflowError(
            "from_equinox: the module keeps state (a BatchNorm, say), so that its output is no "
            "function of weights and input alone; replace the layer by one without state."
        )
    model = eqx.nn.inference_mode(model)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    paths, tree = jax.tree_util.tree_flatten_with_path(arrays)
    names = [jax.tree_util.keystr(path).lstrip(".") for path, _ in paths]

    def function(weights: Any, inputs: Any) -> Any:
        parts = jax.tree_util.tree_unflatten(tree, [weights[name] for name in names])
        return jax.vmap(eqx.combine(parts, static))(inputs)

    return from_function(function, dict(zip(names, (a for _, a in paths), strict=True)), x)


def from_flax(
    module: Any, x: "ArrayLike", variables: Mapping[str, Any] | None = None
) -> tuple[Custom, BlockState]:
    """A network from a Flax module that maps inputs `(n, d)` to outputs: nnx, or linen.

    **Arguments:**

    - `module`: an nnx module with its weights, or a linen module with `variables`.
    - `x`: a few inputs `(n, d)`.
    - `variables`: what linen's `init` returned; collections other than `params` (running
      statistics, say) are constants.

    **Raises:** `PolarflowError` for a module that updates its state when it is called, as a
    BatchNorm in training does.
    """
    from flax import linen, nnx

    if variables is not None:
        return _from_linen(module, x, variables)
    if isinstance(module, linen.Module):
        raise PolarflowError(
            "from_flax: a linen module has no weights of its own; give what its init returned: "
            "from_flax(module, x, variables)."
        )

    jax = jax64()
    for each in nnx.iter_graph(module):
        path, part = each[0], each[1]
        if isinstance(part, nnx.BatchNorm) and not part.use_running_average:
            name = ".".join(map(str, path)) or type(part).__name__
            raise PolarflowError(
                f"from_flax: {name} is a BatchNorm in training, which updates its statistics; "
                "call module.eval() first, and they are constants."
            )
        if isinstance(part, nnx.Dropout) and not part.deterministic:
            name = ".".join(map(str, path)) or type(part).__name__
            raise PolarflowError(
                f"from_flax: {name} is a Dropout in training, whose output is drawn anew at each "
                "call; call module.eval() first, and it does nothing."
            )
    graph, weights, rest = nnx.split(module, nnx.Param, ...)
    paths, tree = jax.tree_util.tree_flatten_with_path(weights)
    names = [jax.tree_util.keystr(path) for path, _ in paths]

    def function(named: Any, inputs: Any) -> Any:
        parts = jax.tree_util.tree_unflatten(tree, [named[name] for name in names])
        return nnx.merge(graph, parts, _wide(rest))(inputs)

    return from_function(function, dict(zip(names, (a for _, a in paths), strict=True)), x)


def _from_linen(
    module: Any, x: "ArrayLike", variables: Mapping[str, Any]
) -> tuple[Custom, BlockState]:
    from flax import errors

    jax = jax64()
    rest = _wide({key: value for key, value in variables.items() if key != "params"})
    paths, tree = jax.tree_util.tree_flatten_with_path(variables["params"])
    names = [jax.tree_util.keystr(path) for path, _ in paths]

    def function(named: Any, inputs: Any) -> Any:
        parts = jax.tree_util.tree_unflatten(tree, [named[name] for name in names])
        return module.apply({"params": parts, **rest}, inputs)

    try:
        return from_function(function, dict(zip(names, (a for _, a in paths), strict=True)), x)
    except errors.ModifyScopeVariableError:
        raise PolarflowError(
            "from_flax: the module updates its state when it is called, as a BatchNorm in "
            "training does; give it use_running_average=True, and its statistics are constants."
        ) from None


def _wide(tree: Any) -> Any:
    """The same with floating-point numbers of 64 bits."""
    jax = jax64()

    def widen(leaf: Any) -> Any:
        if hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            return jax.numpy.asarray(leaf, dtype=float)
        return leaf

    return jax.tree_util.tree_map(widen, tree)
