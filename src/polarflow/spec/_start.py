"""From the sections [network] and [init] to a network and its state at time zero."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ..data import Data, read_npz
from ..errors import PolarflowError
from ..losses import Loss
from ..networks import (
    FROZEN_STREAM,
    BlockState,
    Convolutional,
    Deep,
    Diagonal,
    Network,
    Parallel,
    SmoothTwoLayer,
    SquaredRelu,
    TwoLayer,
    balanced,
    block_state,
    dominated,
    equal_pairs,
    gaussian,
    sphere,
)
from ._base import Section
from ._models import InitSection, Spec
from ._networks import (
    ConvolutionalSection,
    DeepSection,
    DiagonalSection,
    ParallelSection,
    SquaredReluSection,
    TwoLayerSection,
    activation,
)

AnyNet = Network | TwoLayer


def start(spec: Spec, data: Data, loss: Loss, folder: Path) -> tuple[Spec, AnyNet, BlockState]:
    """The spec with its width, the network and the state at time zero.

    **Raises:** `PolarflowError` if the file and the network don't go together.
    """
    init, section = spec.init, spec.network
    arrays: dict[str, ndarray] = {}
    if init.file is not None:
        arrays = read_npz(folder / init.file, ("log_norm", "direction"), ("signs",))
    rows = len(arrays["log_norm"]) if arrays else None
    if isinstance(section, TwoLayerSection | SquaredReluSection) and section.width is None:
        section = section.model_copy(update={"width": rows})
        spec = spec.model_copy(update={"network": section})
    seed = spec.seed if init.seed is None else init.seed
    outputs = getattr(section, "outputs", None) or loss.outputs(data.y)
    network = network_of(section, data.dimension, outputs, seed, arrays)
    if not arrays:
        return spec, network, _drawn(network, init, data.dimension)
    state = block_state(arrays["log_norm"], arrays["direction"])
    if isinstance(network, Deep) and network.frozen:
        network, state = _thawed(network, state, data.dimension)
    return spec, network, state


def network_of(
    section: Section,
    dimension: int,
    outputs: int,
    seed: int,
    arrays: Mapping[str, ndarray],
) -> AnyNet:
    """The network of a section, on inputs of length d (bias included).

    **Raises:** `PolarflowError` if it has another number of outputs than the labels.
    """
    if isinstance(section, TwoLayerSection):
        assert section.width is not None
        if section.activation in ("relu", "leaky_relu", "abs") and (section.power or 1.0) == 1.0:
            return TwoLayer(section.width, section.activation, section.slope or 0.0, outputs)
        function = activation(section.activation, section.power, section.slope)
        return SmoothTwoLayer(section.width, function, outputs)
    if isinstance(section, SquaredReluSection):
        if section.width is None:
            raise PolarflowError("network.width is missing for a squared_relu network in parallel.")
        signs: Any = section.signs
        if signs is None and "signs" in arrays:
            signs = np.asarray(arrays["signs"], dtype=float).reshape(-1).tolist()
        network: Network = SquaredRelu(section.width, None if signs is None else tuple(signs))
    elif isinstance(section, DeepSection):
        network = _deep(section, dimension, outputs, seed)
    elif isinstance(section, DiagonalSection):
        network = Diagonal(section.depth)
    elif isinstance(section, ConvolutionalSection):
        network = Convolutional(
            section.image, section.channels, section.kernel, section.pool, section.widths,
            activation(section.activation, section.power, section.slope), outputs,
        )  # fmt: skip
    else:
        assert isinstance(section, ParallelSection)
        network = Parallel(
            tuple(
                _smooth(network_of(each, dimension, outputs, seed + 1000 * i, {}))
                for i, each in enumerate(section.networks)
            )
        )
    if network.outputs != outputs:
        raise PolarflowError(
            f'network.kind = "{network.kind}" has {network.outputs} output; the labels need '
            f"{outputs}."
        )
    return network


def _smooth(network: AnyNet) -> Network:
    """A network that can stand in parallel with others."""
    if isinstance(network, TwoLayer):
        from ..networks import Activation

        slope = network.slope
        function = Activation("leaky_relu", 1.0, slope) if slope else Activation("relu")
        return SmoothTwoLayer(network.width, function, network.outputs)
    return network


def _deep(section: DeepSection, dimension: int, outputs: int, seed: int) -> Deep:
    names = section.activation
    if len(names) == 1:
        names = names * len(section.widths)
    functions = tuple(activation(name, section.power, section.slope) for name in names)
    network = Deep(
        section.widths, functions, section.readout, outputs if section.readout != "ones" else 1
    )
    rng = np.random.default_rng([seed, FROZEN_STREAM])
    shapes = network.shapes(dimension)
    frozen = {}
    for layer in sorted(set(section.frozen)):
        if layer <= len(shapes):
            rows, columns = shapes[layer - 1]
            frozen[layer] = rng.standard_normal((rows, columns)) / np.sqrt(columns)
        else:
            frozen[layer] = np.zeros((0, 0))
    return Deep(section.widths, functions, section.readout, network.outputs, frozen)


def _thawed(network: Deep, state: BlockState, dimension: int) -> tuple[Deep, BlockState]:
    """A state read with all matrices, the frozen ones taken out of it and into the network."""
    shapes = network.shapes(dimension)
    sizes = [rows * columns for rows, columns in shapes]
    if state.direction.shape != (1, sum(sizes)):
        return network, state  # the trained ones alone, or an error that `problem` tells
    with np.errstate(under="ignore"):
        weights = state.weights()[0]
    ends = np.cumsum(sizes)
    frozen, kept = {}, np.ones(len(weights), dtype=bool)
    for layer in network.frozen:
        part = slice(ends[layer - 1] - sizes[layer - 1], ends[layer - 1])
        frozen[layer] = weights[part].reshape(shapes[layer - 1])
        kept[part] = False
    trained = state.direction[0, kept]
    size = float(np.linalg.norm(trained))
    if size == 0.0:
        raise PolarflowError("init: the trained layers of direction[0] are zero.")
    thawed = Deep(network.widths, network.activations, network.readout, network.outputs, frozen)
    return thawed, BlockState(state.log_norm + np.log(size), trained[None, :] / size)


def _drawn(network: AnyNet, init: InitSection, dimension: int) -> BlockState:
    assert init.seed is not None
    scale: dict[str, Any] = {"scale": init.scale, "log10_scale": init.log10_scale}
    if init.kind == "balanced":
        if isinstance(network, TwoLayer):
            return balanced(network, dimension, **scale, seed=init.seed)
        if isinstance(network, SmoothTwoLayer):
            same = TwoLayer(network.width, outputs=network.outputs)
            return balanced(same, dimension, **scale, seed=init.seed)
        if isinstance(network, Diagonal):
            return equal_pairs(network, dimension, **scale)
        raise PolarflowError(
            'init.kind = "balanced": is for two_layer and diagonal networks; "gaussian" and '
            '"sphere" are for all.'
        )
    if init.kind == "dominated":
        if isinstance(network, TwoLayer):
            return dominated(network, dimension, **scale, seed=init.seed)
        raise PolarflowError('init.kind = "dominated": is for two_layer networks alone.')
    draw = sphere if init.kind == "sphere" else gaussian
    return draw(network, dimension, **scale, seed=init.seed)
