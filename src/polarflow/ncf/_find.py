"""KKT points of a network's NCF, by whichever method applies."""

from typing import Literal

import numpy as np
from numpy import ndarray
from numpy.typing import ArrayLike

from ..errors import PolarflowError
from ..networks import Network, SmoothTwoLayer, SquaredRelu, TwoLayer
from ._points import KKTSet

Method = Literal["enumerate", "search"]


def kkt_points(
    network: Network | TwoLayer,
    x: ArrayLike,
    z: ArrayLike,
    *,
    method: Method | None = None,
    starts: int = 64,
    seed: int = 0,
) -> KKTSet:
    r"""The KKT points of $N_{z,H}(w) = \sum_k z_k H(x_k; w)$ on the unit sphere of one block.

    Source: Kumar & Haupt (2024), section 4; with several outputs the sum is over these too.

    **Arguments:**

    - `network`: whose blocks are homogeneous; of equal blocks one is treated.
    - `x`: inputs, shape `(n, d)`, bias included.
    - `z`: shape `(n,)`, or `(n, C)` with C outputs; labels, or the residual -dl/dh of a saddle.
    - `method`: `"enumerate"` finds all points of a single two-layer (leaky) ReLU or linear neuron
      with one output, or squared-ReLU unit; `"search"` finds points of any network from random
      starts. None: all points where that is possible, a search otherwise.
    - `starts`, `seed`: of a search.

    **Raises:** `PolarflowError` if z has the wrong shape or is zero, N is positive nowhere, the
    network is not homogeneous, or there are too many cells to enumerate.
    """
    inputs = np.asarray(x, dtype=float)
    outputs = getattr(network, "outputs", 1)
    target = check_target(z, len(inputs), outputs)
    found = _found(network, inputs, target, method, starts, seed)
    if not any(point.value > 1e-12 * found.largest for point in found.points):
        raise PolarflowError(
            "z: the neural correlation function is positive nowhere on the unit sphere, as far as "
            f'method = "{"enumerate" if found.complete else "search"}" sees; no direction grows.'
        )
    return found


def check_target(z: ArrayLike, examples: int, outputs: int) -> ndarray:
    """z as an array of shape (n,), or (n, C) with C > 1 outputs.

    **Raises:** `PolarflowError` if it has another shape, is zero or not finite.
    """
    target = np.asarray(z, dtype=float)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    expected = (examples,) if outputs == 1 else (examples, outputs)
    if target.shape != expected:
        given = f"{len(target)} numbers" if target.ndim == 1 else f"shape {target.shape}"
        wanted = f"{examples}" if outputs == 1 else f"a table of shape {expected}"
        raise PolarflowError(f"z has {given}; needed are {wanted}, one for each example.")
    if not np.isfinite(target).all():
        raise PolarflowError("z holds a number that is not finite.")
    if not target.any():
        raise PolarflowError("z is zero; its neural correlation function is zero everywhere.")
    return target


def enumerable(network: Network | TwoLayer) -> bool:
    """Whether all KKT points of the network's NCF can be listed."""
    if isinstance(network, SmoothTwoLayer):
        return network.outputs == 1 and network.activation.name == "linear"
    one_output = getattr(network, "outputs", 1) == 1
    return isinstance(network, SquaredRelu) or (isinstance(network, TwoLayer) and one_output)


def _found(
    network: Network | TwoLayer,
    x: ndarray,
    z: ndarray,
    method: Method | None,
    starts: int,
    seed: int,
) -> KKTSet:
    if method == "enumerate" and not enumerable(network):
        raise PolarflowError(
            'method = "enumerate" is for a two-layer (leaky) ReLU or linear neuron with one '
            'output, or a squared-ReLU unit; "search" is for every network.'
        )
    if method != "search" and enumerable(network):
        try:
            return _all(network, x, z)
        except PolarflowError:
            if method is not None:
                raise
    if isinstance(network, TwoLayer):
        if getattr(network, "outputs", 1) == 1:
            from ._walk import two_layer_search

            return two_layer_search(x, z, network.slope, starts=starts, seed=seed)
        network = _smooth(network)
    from ._search import search_points

    return search_points(network, x, z, starts=starts, seed=seed)


def _all(network: Network | TwoLayer, x: ndarray, z: ndarray) -> KKTSet:
    if isinstance(network, SquaredRelu):
        from ._squared_points import squared_points

        signs = (1,) if network.signs is None else tuple(sorted({int(s) for s in network.signs}))
        return squared_points(x, z, signs[::-1])
    from ._two_layer_points import two_layer_points

    slope = network.slope if isinstance(network, TwoLayer) else 1.0
    return two_layer_points(x, z, slope)


def _smooth(network: TwoLayer) -> Network:
    """The same neurons for a search that does not locate kinks: those with several outputs."""
    from ..networks import Activation

    name: Literal["relu", "leaky_relu"] = "leaky_relu" if network.slope else "relu"
    activation = Activation(name, 1.0, network.slope)
    return SmoothTwoLayer(network.width, activation, getattr(network, "outputs", 1))
