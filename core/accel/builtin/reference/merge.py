"""Networks as a vendor's compiler rewrites them before it quantises: two convolutions that become one."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import helper, numpy_helper


def merge_pointwise(proto: onnx.ModelProto, keep: Collection[str] = ()) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Merge a 1x1 convolution into the 1x1 convolution that alone reads it, as tpu-mlir does.

    Args:
        proto: Float graph; not changed.
        keep: Nodes that must stay (they have numerics of their own). One that takes another in stays, too.

    Returns:
        The graph, and the names of the nodes that went: the node they went into by node name.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    held = {i.name: i for i in graph.initializer}
    readers: dict[str, int] = {v.name: 1 for v in graph.output}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    producer = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    gone: dict[str, str] = {}
    for node in list(graph.node):
        first = producer.get(node.input[0]) if node.op_type == "Conv" else None
        if first is None or readers.get(first.output[0]) != 1 or first.name in keep:
            continue
        if not (_pointwise(first, held) and _pointwise(node, held)):
            continue
        outer, inner = _array(held, node.input[1]), _array(held, first.input[1])
        weight = np.einsum("om,mi->oi", outer[:, :, 0, 0], inner[:, :, 0, 0])
        bias = outer[:, :, 0, 0] @ _bias(held, first, inner.shape[0]) + _bias(held, node, outer.shape[0])
        names = [f"{node.output[0]}/merged/weight", f"{node.output[0]}/merged/bias"]
        for name, value in zip(names, (weight[:, :, None, None], bias), strict=True):
            held[name] = numpy_helper.from_array(value.astype(np.float32), name)
            graph.initializer.append(held[name])
        merged = helper.make_node("Conv", [first.input[0], *names], list(node.output), name=node.name)
        merged.attribute.extend(node.attribute)
        node.CopyFrom(merged)
        graph.node.remove(first)
        gone[first.name] = node.name
        producer[node.output[0]] = node
    return made, gone


def _array(held: dict[str, onnx.TensorProto], name: str) -> np.ndarray:
    return np.asarray(numpy_helper.to_array(held[name]), np.float64)


def _bias(held: dict[str, onnx.TensorProto], node: onnx.NodeProto, count: int) -> np.ndarray:
    if len(node.input) < 3 or not node.input[2]:
        return np.zeros(count)
    return _array(held, node.input[2])


def _pointwise(node: onnx.NodeProto, held: dict[str, onnx.TensorProto]) -> bool:
    if any(name and name not in held for name in node.input[1:]):
        return False
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = all(v == 1 for v in attributes.get("strides", [1])) and not any(attributes.get("pads", [0]))
    automatic = attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    shape = held[node.input[1]].dims
    return plain and not automatic and attributes.get("group", 1) == 1 and list(shape[2:]) == [1, 1]
