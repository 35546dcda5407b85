"""Bias correction: rounded weights are off by ``E``; on average that adds ``E * mean(x)`` to every result.

The bias takes it off again (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
ICCV 2019, section 4.2). The means by channel come from the calibration, so no inference is needed, and
what the clipping and rounding of activations adds is left alone: a correction for it, measured layer by layer,
feeds on its own errors in deep networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from accel.builtin.prepare import graph as g

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range
    from accel.model import Model
    from accel.target import Numerics

PASS = "bias_correction"
_SAME_CHANNELS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout")


def correct_biases(
    model: Model,
    numerics: Numerics,
    ranges: Mapping[str, Range],
    calibration: Calibration,
    node_numerics: Mapping[str, Numerics] | None = None,
    *,
    exact: Model | None = None,
) -> Model:
    """``model`` with biases that make up for how ``numerics`` rounds its weights.

    For a compiler of a vendor too: the weights stay as they are, the compiler rounds them itself, and the bias it is
    given fits if it rounds them as ``numerics`` says. Operators without a bias get one (MatMul has none and stays);
    tensors without means by channel are left alone.

    Args:
        model: The prepared model that was calibrated.
        numerics: How the target computes; float numerics give the model back.
        ranges: Kept range by tensor name.
        calibration: With means by channel of what convolutions read.
        node_numerics: Other numerics for single nodes, by node name.
        exact: The model whose weights are meant, where a pass before this one moved them; the model itself if None.

    Raises:
        AccelError: as :func:`accel.builtin.reference.quantize.quantize`.
    """
    from accel.builtin.reference.quantize import quantize

    made = quantize(model, numerics, ranges, node_numerics=node_numerics)
    proto = g.copy(model)
    graph = proto.graph
    held, makers = g.constants(graph), g.producers(graph)
    taken = g.names_in(graph)
    read = _meant(exact) if exact else _as_compiled(model, numerics, node_numerics)
    changed = False
    for node in graph.node:
        rounded = made.weights.get(node.output[0]) if node.output else None
        if rounded is None or node.op_type == "MatMul":
            continue
        source, weight = read.get(node.output[0], (node.input[0], held.get(node.input[1])))
        mean = _mean(source, calibration, makers)
        if mean is None or weight is None or weight.shape != rounded.shape:
            continue
        shift = _shift(node, weight - rounded, mean)
        if shift is None or not np.any(shift):
            continue
        has_bias = len(node.input) > 2 and bool(node.input[2])
        bias = held.get(node.input[2]) if has_bias else np.zeros(shift.shape, np.float32)
        if bias is None or (bias.size != shift.size and bias.size != 1):
            continue
        beta = g.attributes(node).get("beta", 1.0) or 1.0
        name = g.fresh(taken, f"{node.output[0]}_bias")
        new = (bias.reshape(-1) + shift / beta).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(new, name))
        del node.input[2:]
        node.input.append(name)
        changed = True
    if not changed:
        return model
    g.drop_unused_constants(graph)
    return model.with_proto(proto, applied=PASS)


def _meant(model: Model) -> dict[str, tuple[str, np.ndarray]]:
    """What an operator reads and its weight, by its result."""
    held = g.constants(model.proto.graph)
    nodes = (n for n in model.proto.graph.node if len(n.input) > 1 and n.input[1] in held)
    return {n.output[0]: (n.input[0], held[n.input[1]]) for n in nodes}


def _as_compiled(
    model: Model, numerics: Numerics, node_numerics: Mapping[str, Numerics] | None
) -> dict[str, tuple[str, np.ndarray]]:
    """What a convolution reads and its weight, by its result, where the target's compiler merges two into it."""
    if numerics.details.get("merge_convolutions") != "pointwise":
        return {}
    from accel.builtin.reference.merge import merge_pointwise

    proto, gone = merge_pointwise(model.proto, keep=node_numerics or ())
    held, into = g.constants(proto.graph), set(gone.values())
    return {n.output[0]: (n.input[0], held[n.input[1]]) for n in proto.graph.node if n.name in into}


def _mean(name: str, calibration: Calibration, makers: Mapping[str, onnx.NodeProto]) -> np.ndarray | None:
    """Mean by channel of a tensor, or of the tensor it is a view of."""
    while True:
        stats = calibration.tensors.get(name)
        if stats is not None and stats.channel_mean is not None:
            return stats.channel_mean
        node = makers.get(name)
        if node is None or node.op_type not in _SAME_CHANNELS:
            return None
        name = node.input[0]


def _shift(node: onnx.NodeProto, error: np.ndarray, mean: np.ndarray) -> np.ndarray | None:
    """float64 mean of what ``error`` in the weights takes from each output channel; None if shapes do not fit."""
    attrs = g.attributes(node)
    if node.op_type == "Gemm":
        if attrs.get("transA", 0):
            return None
        error = error if attrs.get("transB", 0) else error.T
        if error.shape[1] % len(mean):
            return None
        # A flattened picture: every channel stands for all its positions.
        spread = np.repeat(mean, error.shape[1] // len(mean))
        return np.asarray(error.astype(np.float64) @ spread * attrs.get("alpha", 1.0))
    groups = attrs.get("group", 1)
    # Every tap sees the channel's mean (borders, where some taps see padding, are not told apart).
    taps = error.astype(np.float64).sum(axis=tuple(range(2, error.ndim)))
    if node.op_type == "ConvTranspose":
        # (in, out / group): a stride of s leaves 1/s of the taps to each result.
        taps = taps.reshape(groups, -1, taps.shape[1]).transpose(0, 2, 1) / np.prod(attrs.get("strides", [1]))
    else:
        taps = taps.reshape(groups, -1, taps.shape[1])
    if groups * taps.shape[2] != len(mean):
        return None
    return np.asarray(np.einsum("goi,gi->go", taps, mean.reshape(groups, -1)).reshape(-1))
