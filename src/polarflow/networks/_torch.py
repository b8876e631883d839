"""PyTorch modules as networks: torch.export, core ATen operations, and JAX for each of them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PolarflowError
from ._custom import Custom, from_function
from ._evaluate import jax64
from ._state import BlockState

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def from_torch(module: Any, x: "ArrayLike") -> tuple[Custom, BlockState]:
    """A network from a PyTorch module that maps inputs `(n, ...)` to outputs `(n,)` or `(n, C)`.

    Its parameters that require gradients become the weights, by name, with 64 bits; the others and
    the buffers (running statistics, say) are constants. The module is exported in evaluation mode
    unless it is training; a BatchNorm or a Dropout in training is refused.

    **Arguments:**

    - `module`: the module.
    - `x`: a few inputs, the examples along the first axis; at least two.

    **Raises:** `PolarflowError` naming the layer or operation that can't be followed.
    """
    import torch

    for name, part in module.named_modules():
        if part.training and isinstance(
            part, torch.nn.modules.batchnorm._BatchNorm | torch.nn.modules.dropout._DropoutNd
        ):
            raise PolarflowError(
                f"from_torch: {name or 'the module'} is a {type(part).__name__} in training, whose "
                "output is no function of weights and input alone; call module.eval() first."
            )
    inputs = np.asarray(x, dtype=float)
    if len(inputs) < 2:
        raise PolarflowError("from_torch: at least two inputs are needed.")
    wide = {name: value.detach().double() for name, value in module.state_dict().items()
            if value.is_floating_point()}  # fmt: skip
    double = _double(module)
    batch = torch.export.Dim("batch", min=2)
    try:
        program = torch.export.export(
            double, (torch.as_tensor(inputs),), dynamic_shapes=({0: batch},)
        )
    except Exception as error:  # torch raises many kinds, each with its own text
        raise PolarflowError(
            f"from_torch: torch.export refuses the module: {str(error).splitlines()[0]}"
        ) from None
    program = program.run_decompositions()
    trained = [n for n, p in module.named_parameters() if p.requires_grad]
    run = _Graph(program, set(trained))
    weights = {name: np.asarray(wide[name].cpu().numpy()) for name in trained}
    return from_function(run, weights, inputs)


def _double(module: Any) -> Any:
    """A copy of a module in double precision."""
    import copy

    return copy.deepcopy(module).double()


class _Graph:
    """An exported program as a function of named weights and inputs, with JAX."""

    def __init__(self, program: Any, trained: set[str]) -> None:
        import torch

        kinds = torch.export.graph_signature.InputKind
        self.constants: dict[str, Any] = {}
        self.weights: dict[str, str] = {}
        self.input = ""
        for spec in program.graph_signature.input_specs:
            name = spec.arg.name
            if spec.kind == kinds.PARAMETER and spec.target in trained:
                self.weights[name] = spec.target
            elif spec.kind in (kinds.PARAMETER, kinds.BUFFER):
                value = program.state_dict.get(spec.target)
                value = program.constants[spec.target] if value is None else value
                self.constants[name] = value.detach().cpu().numpy()
            elif spec.kind == kinds.CONSTANT_TENSOR:
                self.constants[name] = program.constants[spec.target].detach().cpu().numpy()
            else:
                self.input = name
        self.steps: list[tuple[str, str, Any, Any]] = []
        self.output = ""
        table = operations()
        for node in program.graph.nodes:
            if node.op == "call_function":
                target = _name(node.target)
                if target not in table:
                    raise PolarflowError(
                        f"from_torch: the operation {target} is not known; known are "
                        f"{', '.join(sorted(table))}."
                    )
                self.steps.append((node.name, target, node.args, dict(node.kwargs)))
            elif node.op == "output":
                (value, *_) = node.args[0]
                self.output = value.name

    def __call__(self, weights: Any, x: Any) -> Any:
        import torch

        jnp = jax64().numpy
        table = operations()
        known: dict[str, Any] = {k: jnp.asarray(v) for k, v in self.constants.items()}
        known |= {name: weights[target] for name, target in self.weights.items()}
        known[self.input] = jnp.asarray(x)

        def read(value: Any) -> Any:
            if isinstance(value, torch.fx.Node):
                return known[value.name]
            if isinstance(value, list | tuple):
                return type(value)(read(each) for each in value)
            return value

        for name, target, args, kwargs in self.steps:
            keywords = {key: read(value) for key, value in kwargs.items()}
            known[name] = table[target](*read(tuple(args)), **keywords)
        return known[self.output]


def _name(target: Any) -> str:
    """aten.relu.default as relu, sym_size.int as sym_size."""
    text = getattr(target, "__name__", str(target))
    return text.removeprefix("aten.").split(".")[0]


def operations() -> dict[str, Callable[..., Any]]:
    """Core ATen operations, by name, as functions of JAX arrays."""
    jax = jax64()
    jnp, lax = jax.numpy, jax.lax

    def pair(value: Any) -> tuple[int, int]:
        values = list(value) if isinstance(value, list | tuple) else [value]
        return (int(values[0]), int(values[-1]))

    def convolution(
        x: Any, w: Any, bias: Any, stride: Sequence[int], padding: Sequence[int],
        dilation: Sequence[int], transposed: bool, _: Any, groups: int,
    ) -> Any:  # fmt: skip
        if transposed or w.ndim != 4:
            raise PolarflowError("from_torch: only plain convolutions of images are known.")
        value = lax.conv_general_dilated(
            x, w, pair(stride), [(p, p) for p in pair(padding)], rhs_dilation=pair(dilation),
            dimension_numbers=("NCHW", "OIHW", "NCHW"), feature_group_count=groups,
        )  # fmt: skip
        return value if bias is None else value + bias[:, None, None]

    def max_pool(
        x: Any,
        kernel: Any,
        stride: Any = (),
        padding: Any = 0,
        dilation: Any = 1,
        ceil: bool = False,
    ) -> Any:
        if pair(dilation) != (1, 1) or ceil:
            raise PolarflowError("from_torch: max-pooling with dilation or ceil_mode is not known.")
        window, step = pair(kernel), pair(stride or kernel)
        edges = [(0, 0), (0, 0), *((p, p) for p in pair(padding))]
        value = lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, *window), (1, 1, *step), edges)
        return (value, None)

    def avg_pool(x: Any, kernel: Any, stride: Any = (), padding: Any = 0, *_: Any) -> Any:
        window, step = pair(kernel), pair(stride or kernel)
        edges = [(0, 0), (0, 0), *((p, p) for p in pair(padding))]
        total = lax.reduce_window(x, 0.0, lax.add, (1, 1, *window), (1, 1, *step), edges)
        return total / (window[0] * window[1])

    def batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any, *rest: Any) -> Any:
        shape = (1, -1, *([1] * (x.ndim - 2)))
        value = (x - mean.reshape(shape)) / jnp.sqrt(var.reshape(shape) + rest[-1])
        value = value if w is None else value * w.reshape(shape)
        return (value if b is None else value + b.reshape(shape), None, None)

    def addmm(bias: Any, a: Any, b: Any, *, beta: float = 1.0, alpha: float = 1.0) -> Any:
        return beta * bias + alpha * (a @ b)

    def axes(dim: Any) -> Any:
        return None if dim is None or dim == [] else tuple(dim) if not isinstance(dim, int) else dim

    def reduced(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda x, dim=None, keepdim=False, dtype=None: function(
            x, axis=axes(dim), keepdims=keepdim
        )

    def added(x: Any, y: Any, alpha: float = 1.0) -> Any:
        return x + alpha * y

    def subtracted(x: Any, y: Any, alpha: float = 1.0) -> Any:
        return x - alpha * y

    def clamp(x: Any, low: Any = None, high: Any = None) -> Any:
        x = x if low is None else jnp.where(x > low, x, low)
        return x if high is None else jnp.where(x < high, x, high)

    def sliced(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
        size = x.shape[dim]
        stop = size if end is None else min(end, size)
        return lax.slice_in_dim(x, start or 0, stop if stop >= 0 else size + stop, step, dim)

    def relu(x: Any) -> Any:
        return jnp.where(x > 0.0, x, 0.0)

    def leaky(x: Any, slope: float = 0.01) -> Any:
        return jnp.where(x > 0.0, x, slope * x)

    def view(x: Any, shape: Any) -> Any:
        return x.reshape(tuple(shape))

    def where(condition: Any, x: Any, y: Any) -> Any:
        return jnp.where(condition, x, y)

    def full_like(x: Any, value: Any, **_: Any) -> Any:
        return jnp.full(x.shape, value, dtype=x.dtype)

    def same(x: Any, *_: Any, **__: Any) -> Any:
        return x

    def gelu(x: Any, approximate: str = "none") -> Any:
        return jax.nn.gelu(x, approximate=approximate == "tanh")

    def permute(x: Any, dims: Sequence[int]) -> Any:
        return jnp.transpose(x, tuple(dims))

    return {
        "relu": relu, "leaky_relu": leaky, "clamp": clamp, "clamp_min": clamp, "abs": jnp.abs,
        "mm": jnp.matmul, "bmm": jnp.matmul, "matmul": jnp.matmul, "addmm": addmm, "mv": jnp.matmul,
        "dot": jnp.dot, "permute": permute, "t": jnp.transpose, "view": view, "reshape": view,
        "_unsafe_view": view, "unsqueeze": jnp.expand_dims,
        "squeeze": lambda x, dim=None: jnp.squeeze(x, axes(dim)), "expand": lambda x, size, **_:
        jnp.broadcast_to(x, [x.shape[i - len(size) + x.ndim] if s == -1 else s
                             for i, s in enumerate(size)]),
        "mul": jnp.multiply, "add": added, "sub": subtracted, "div": jnp.divide,
        "neg": jnp.negative, "pow": jnp.power, "sqrt": jnp.sqrt,
        "rsqrt": lax.rsqrt, "exp": jnp.exp, "log": jnp.log,
        "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "gelu": gelu, "erf": jax.scipy.special.erf,
        "sum": reduced(jnp.sum), "mean": reduced(jnp.mean), "amax": reduced(jnp.max),
        "maximum": jnp.maximum, "minimum": jnp.minimum, "gt": jnp.greater, "ge": jnp.greater_equal,
        "lt": jnp.less, "le": jnp.less_equal, "eq": jnp.equal, "where": where,
        "full_like": full_like, "scalar_tensor": lambda value, **_: jnp.asarray(value, dtype=float),
        "zeros_like": lambda x, **_: jnp.zeros_like(x), "cat": lambda parts, dim=0:
        jnp.concatenate(parts, axis=dim), "slice": sliced, "slice_copy": sliced, "clone": same,
        "alias": same, "_to_copy": same, "detach": same, "convolution": convolution,
        "max_pool2d_with_indices": max_pool, "avg_pool2d": avg_pool,
        "_native_batch_norm_legit_no_training": batch_norm, "getitem": lambda x, i: x[i],
        "sym_size": lambda x, dim: x.shape[dim], "select": lambda x, dim, i: jnp.take(x, i, dim),
    }  # fmt: skip
