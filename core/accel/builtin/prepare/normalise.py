"""Put the normalisation of pictures inside the network: it is then fed plain 0..255 pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from accel.builtin.prepare import graph as g
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import Model
    from accel.preprocessing import Preprocessing


def fold_preprocessing(model: Model, preprocessing: Preprocessing, *, input_name: str = "") -> Model:
    """``model`` that normalises its picture itself: ``(x * scale - mean) / std`` per channel.

    Written as ``(x - mean / scale) * (scale / std)``. The factor goes into the weights when only
    convolutions read the input, the shift stays a Sub in front of them (inside the bias it would be wrong at padded
    borders, unless nothing is padded). Float-equivalent within 1e-4.

    Raises:
        AccelError: ``usage.preprocessing`` when the input has no such channels, is no float, or there are several
            inputs and none is named.
    """
    spec = next((s for s in model.inputs if s.name == input_name or (not input_name and len(model.inputs) == 1)), None)
    if spec is None:
        raise AccelError("which input is the picture?", code="usage.preprocessing")
    axis = 1 if preprocessing.layout == "NCHW" else len(spec.shape) - 1
    channels = spec.shape[axis] if len(spec.shape) > axis else None
    counts = {len(preprocessing.mean), len(preprocessing.std)} - {1}
    if spec.dtype != "float32" or not isinstance(channels, int) or counts - {channels}:
        raise AccelError(
            f"the normalisation does not fit input {spec}",
            code="usage.preprocessing",
            cause=f"{max(counts, default=1)} channels of mean and std, {channels} in the input",
        )
    mean = np.broadcast_to(np.asarray(preprocessing.mean, np.float64), (channels,))
    std = np.broadcast_to(np.asarray(preprocessing.std, np.float64), (channels,))
    if preprocessing.scale == 0 or np.any(std == 0):
        raise AccelError("scale and std must not be 0", code="usage.preprocessing")
    shift, factor = mean / preprocessing.scale, preprocessing.scale / std
    if not np.any(shift) and np.all(factor == 1):
        return model
    proto = g.copy(model)
    _insert(proto.graph, spec.name, shift, factor, axis, len(spec.shape))
    return model.with_proto(g.infer(proto), applied="fold_preprocessing")


def _insert(graph: onnx.GraphProto, source: str, shift: np.ndarray, factor: np.ndarray, axis: int, rank: int) -> None:
    taken, held = g.names_in(graph), g.constants(graph)
    readers = g.consumers(graph).get(source, [])
    convs = axis == 1 and bool(readers) and source not in {o.name for o in graph.output}
    convs = convs and all(n.op_type == "Conv" and n.input[0] == source and n.input[1] in held for n in readers)
    unpadded = convs and all(_unpadded(n) for n in readers)
    broadcast = [1] * rank
    broadcast[axis] = len(shift)
    nodes, last = [], source

    def step(op: str, label: str, value: np.ndarray) -> None:
        nonlocal last
        constant = g.fresh(taken, f"{source}_{label}")
        graph.initializer.append(g.tensor(constant, value.reshape(broadcast).astype(np.float32)))
        output = g.fresh(taken, f"{source}_{'shifted' if op == 'Sub' else 'normalised'}")
        nodes.append(helper.make_node(op, [last, constant], [output], g.fresh(taken, output + "_node")))
        last = output

    if np.any(shift) and not unpadded:
        step("Sub", "mean", shift)
    if not convs:
        step("Mul", "factor", factor)
    for node in readers:
        if convs:
            _scale_weights(graph, node, held, factor, shift if unpadded else np.zeros_like(shift), taken)
        for at, name in enumerate(node.input):
            if name == source:
                node.input[at] = last
    g.replace_nodes(graph, [*nodes, *(onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node)])
    g.remove_unused(graph)


def _unpadded(node: onnx.NodeProto) -> bool:
    given = g.attributes(node)
    return not any(given.get("pads", [])) and given.get("auto_pad", "NOTSET") in ("NOTSET", "VALID")


def _scale_weights(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    held: dict[str, np.ndarray],
    factor: np.ndarray,
    shift: np.ndarray,
    taken: set[str],
) -> None:
    weight = held[node.input[1]]
    group = int(g.attributes(node).get("group", 1))
    # Output channel o reads the input channels of its group.
    per = factor.reshape(group, -1).repeat(weight.shape[0] // group, axis=0)
    wide = weight.astype(np.float64) * per.reshape(*per.shape, *[1] * (weight.ndim - 2))
    name = g.fresh(taken, f"{node.name or node.output[0]}.weight")
    graph.initializer.append(g.tensor(name, wide.astype(weight.dtype)))
    node.input[1] = name
    if np.any(shift):
        off = shift.reshape(group, -1).repeat(weight.shape[0] // group, axis=0)
        lost = (wide * off.reshape(*off.shape, *[1] * (weight.ndim - 2))).sum(axis=tuple(range(1, weight.ndim)))
        old = held.get(node.input[2]) if len(node.input) > 2 else None
        bias = g.fresh(taken, f"{node.name or node.output[0]}.bias")
        value = (np.zeros(len(lost)) if old is None else old.astype(np.float64)) - lost
        graph.initializer.append(g.tensor(bias, value.astype(weight.dtype)))
        del node.input[2:]
        node.input.append(bias)
