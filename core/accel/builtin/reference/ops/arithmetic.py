"""Element-wise arithmetic and clamps on stored codes."""

from __future__ import annotations

import numpy as np
import onnx

from accel.builtin.reference import elementwise
from accel.builtin.reference.context import Context, handles
from accel.builtin.reference.ops.fusion import clamp_limits, following_clamp
from accel.builtin.reference.ops.table import swish
from accel.builtin.reference.requantize import multiplier_quantum, small_multiplier


@handles("Add", "Sub", "Sum")
def add(ctx: Context, node: onnx.NodeProto) -> bool:
    """``round(a * sa/s +- b * sb/s)``: each term is one float32 product, added from left to right."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    terms = [ctx.codes(name, numerics.activation) for name in node.input]
    clamp = following_clamp(ctx, node)
    grid = ctx.grid(clamp.output, numerics.activation)
    hint = f"{clamp.output}/codes"
    planes = ctx.planes(*node.input, node.output[0])
    total = ""
    bits = int(numerics.details.get("add_multiplier_bits", "0"))
    for at, term in enumerate(terms):
        ratio = np.asarray(term.grid.scale * grid.inverse, np.float32)
        if bits:
            # Each term is rounded before they are added (Sophon).
            ratio = np.asarray(small_multiplier(float(term.grid.scale * grid.inverse), bits), np.float32)
            loose = elementwise.Bounds(-32768, 32767)
            quantum = multiplier_quantum(float(ratio), bits) if term.grid.bits <= 8 else 0.0
            name = f"{hint}/{at}"
            scaled = elementwise.by_float(ctx.w, term.tensor, ratio, loose, grid, name, planes=planes, quantum=quantum)
        else:
            scaled = elementwise.scale(ctx.w, term.tensor, ratio, f"{hint}/{at}", planes=planes)
        op_type = "Sub" if node.op_type == "Sub" else "Add"
        total = ctx.w.op(op_type, [total, scaled], f"{hint}/sum") if total else scaled
    kept = elementwise.bounds_of(grid, clamp.low, clamp.high)
    if bits:
        total = ctx.w.op("Clip", [total, ctx.w.const(kept.low), ctx.w.const(kept.high)], hint)
    else:
        total = elementwise.round_and_clip(ctx.w, total, kept, grid, hint, planes=planes)
    ctx.store(clamp.output, total, grid)
    ctx.report(node, numerics.precision)
    return True


@handles("Mul")
def multiply(ctx: Context, node: onnx.NodeProto) -> bool:
    """``round(a * b * (sa sb / s))``: the product of codes is exact."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    if swish(ctx, node):
        return True
    a, b = (ctx.codes(name, numerics.activation) for name in node.input)
    clamp = following_clamp(ctx, node)
    grid = ctx.grid(clamp.output, numerics.activation)
    hint = f"{clamp.output}/codes"
    product = ctx.w.op("Mul", [a.tensor, b.tensor], f"{hint}/product")
    ratio = np.asarray(a.grid.scale * b.grid.scale * grid.inverse, np.float32)
    kept = elementwise.bounds_of(grid, clamp.low, clamp.high)
    ctx.store(clamp.output, elementwise.by_float(ctx.w, product, ratio, kept, grid, hint), grid)
    ctx.report(node, numerics.precision)
    return True


@handles("Relu", "Clip")
def clamp(ctx: Context, node: onnx.NodeProto) -> bool:
    """Rescaled to the result's own grid, then cut off."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    limits = clamp_limits(ctx, node)
    if limits is None:
        return False
    x = ctx.codes(node.input[0], numerics.activation)
    grid = ctx.grid(node.output[0], numerics.activation)
    hint = f"{node.output[0]}/codes"
    kept = elementwise.bounds_of(grid, *limits)
    ratio = np.asarray(x.grid.scale * grid.inverse, np.float32)
    ctx.store(node.output[0], elementwise.by_float(ctx.w, x.tensor, ratio, kept, grid, hint), grid)
    ctx.report(node, numerics.precision)
    return True
