"""Operators that move codes about: the grid of the input is the grid of the output."""

from __future__ import annotations

import numpy as np
import onnx

from accel.builtin.reference import elementwise, schemes
from accel.builtin.reference.context import Codes, Context, handles
from accel.builtin.reference.graph import attributes, raw_attributes


@handles(
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
def passing(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    if ctx.source.constant(node.input[0]) is not None and ctx.stored(node.input[0]) is None:
        return False
    x = ctx.codes(node.input[0], numerics.activation)
    pass_on(ctx, node, x, [x.tensor, *node.input[1:]])
    return True


@handles("Pad")
def pad(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    value = np.zeros((), np.float32)
    if len(node.input) > 2 and node.input[2]:
        found = ctx.source.constant(node.input[2])
        if found is None:
            return False
        value = np.asarray(found, np.float32).reshape(())
    x = ctx.codes(node.input[0], numerics.activation)
    code = ctx.w.const(schemes.quantize(value, x.grid))
    pass_on(ctx, node, x, [x.tensor, node.input[1], code, *node.input[3:]])
    return True


@handles("Concat")
def concat(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    parts = [ctx.codes(name, numerics.activation) for name in node.input]
    hint = f"{node.output[0]}/codes"
    if all(part.grid.same(parts[0].grid) for part in parts):
        grid = parts[0].grid
    else:
        grid = ctx.grid(node.output[0], numerics.activation)
    tensors = [ctx.rescale(part, grid, f"{hint}/{at}") for at, part in enumerate(parts)]
    ctx.store(node.output[0], ctx.w.op("Concat", tensors, hint, **raw_attributes(node)), grid)
    ctx.report(node, numerics.precision)
    return True


@handles("Resize", "Upsample")
def resize(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    attrs = attributes(node)
    if attrs.get("extrapolation_value") or attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    x = ctx.codes(node.input[0], ctx.reads(node))
    if attrs.get("mode", "nearest") == "nearest":
        pass_on(ctx, node, x, [x.tensor, *node.input[1:]])
        return True
    hint = f"{node.output[0]}/codes"
    grid = ctx.grid(node.output[0], numerics.activation)
    mixed = ctx.w.op(node.op_type, [x.tensor, *node.input[1:]], f"{hint}/mixed", **raw_attributes(node))
    ratio = np.asarray(x.grid.scale * grid.inverse, np.float32)
    ctx.store(node.output[0], elementwise.by_float(ctx.w, mixed, ratio, elementwise.bounds_of(grid), grid, hint), grid)
    ctx.report(node, numerics.precision)
    return True


def pass_on(ctx: Context, node: onnx.NodeProto, x: Codes, inputs: list[str]) -> None:
    """Emit the node itself on codes; every output keeps the grid of ``x``."""
    outputs = [name for name in node.output if name]
    attrs = raw_attributes(node)
    tensors = ctx.w.ops(node.op_type, inputs, [f"{name}/codes" for name in outputs], **attrs)
    for name, tensor in zip(outputs, tensors, strict=True):
        ctx.store(name, tensor, x.grid)
    ctx.report(node, ctx.at(node).precision)
