"""Questions about a float graph that the vendor's builds and reports ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.artifact import NodeNumerics
from accel.target import Numerics

from accel_mlu.targets import FIXED_POINT_OPS

if TYPE_CHECKING:
    import onnx


def constants(proto: onnx.ModelProto) -> set[str]:
    """Names of tensors whose values are in the model."""
    held = {i.name for i in proto.graph.initializer}
    return held | {n.output[0] for n in proto.graph.node if n.op_type == "Constant"}


def fixed_inputs(proto: onnx.ModelProto) -> list[str]:
    """Activations that are quantised: inputs of convolutions and matrix products, once each, in graph order."""
    held = constants(proto)
    names = [
        name
        for node in proto.graph.node
        if node.op_type in FIXED_POINT_OPS
        for name in node.input[:2]
        if name and name not in held
    ]
    return list(dict.fromkeys(names))


def node_numerics(proto: onnx.ModelProto, numerics: Numerics, place: str) -> tuple[NodeNumerics, ...]:
    """What each node computes in, for the manifest."""
    return tuple(
        NodeNumerics(
            node.name,
            node.op_type,
            numerics.precision if node.op_type in numerics.quantized_ops else numerics.float_type,
            place,
        )
        for node in proto.graph.node
        if node.op_type != "Constant"
    )
