"""Activations that are folded into the operator before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from accel.builtin.reference.context import Context


@dataclass(frozen=True)
class Clamp:
    """What follows a node: real bounds (None: none) and the tensor that then holds the result."""

    output: str
    low: float | None = None
    high: float | None = None


def following_clamp(ctx: Context, node: onnx.NodeProto) -> Clamp:
    """The Relu or Clip that alone reads the node's result and computes at the same precision.

    It is marked as fused: the driver of the quantisation reports it and goes on.
    """
    found = Clamp(node.output[0])
    following = ctx.source.sole_consumer(node.output[0])
    if following is None or following.input[0] != node.output[0] or ctx.at(following) is not ctx.at(node):
        return found
    limits = clamp_limits(ctx, following) if following.op_type in ctx.at(following).quantized_ops else None
    if limits is None:
        return found
    if ctx.at(node).requantize == "split" and (limits[0] != 0 or node.op_type == "Mul"):
        return found
    ctx.fused[following.output[0]] = node.name
    return Clamp(following.output[0], *limits)


def clamp_limits(ctx: Context, node: onnx.NodeProto) -> tuple[float | None, float | None] | None:
    """Real bounds of a Relu or Clip with constant bounds; None for anything else."""
    if node.op_type == "Relu":
        return 0.0, None
    if node.op_type != "Clip":
        return None
    limits: list[float | None] = []
    for at in (1, 2):
        name = node.input[at] if len(node.input) > at else ""
        if not name:
            limits.append(None)
            continue
        value = ctx.source.constant(name)
        if value is None or value.size != 1 or np.isnan(value).any():
            return None
        limits.append(float(value.reshape(-1)[0]))
    return limits[0], limits[1]


_SHAPE_ONLY = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity")


def following_add(ctx: Context, node: onnx.NodeProto) -> tuple[onnx.NodeProto, str] | None:
    """The Add that alone reads the node's result, and its other operand, where the chip adds in the accumulator.

    So computes ``requantize="split"``. The other operand must exist as codes by now: of two branches, the one that
    is computed later takes the other in.
    """
    numerics = ctx.at(node)
    add = ctx.source.sole_consumer(node.output[0])
    inside = numerics.requantize == "split" and numerics.details.get("shortcuts") != "apart"
    if not inside or add is None or add.op_type != "Add" or ctx.at(add) is not numerics:
        return None
    other = next((name for name in add.input if name != node.output[0]), "")
    shapes = {ctx.source.shape(name) for name in (*add.input, add.output[0])}
    held = ctx.stored(other) if other else None
    if held is None or len(shapes) != 1 or ctx.source.constant(other) is not None:
        return None
    ctx.fused[add.output[0]] = node.name
    return add, other


def ends_the_graph(ctx: Context, name: str) -> bool:
    """Whether a tensor is only moved about on its way to the graph's outputs."""
    while name not in ctx.source.outputs:
        reader = ctx.source.sole_consumer(name)
        if reader is None or reader.op_type not in _SHAPE_ONLY or reader.input[0] != name:
            return False
        name = reader.output[0]
    return True
