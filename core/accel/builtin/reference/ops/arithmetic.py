"""Element-wise arithmetic and clamps on stored codes."""

from __future__ import annotations

import numpy as np
import onnx

from accel.builtin.reference import elementwise
from accel.builtin.reference.context import Codes, Context, handles
from accel.builtin.reference.ops.fusion import clamp_limits, following_clamp
from accel.builtin.reference.ops.table import swish
from accel.builtin.reference.requantize import multiplier_quantum, rounded_split, small_multiplier, split_term


@handles("Add", "Sub", "Sum")
def add(ctx: Context, node: onnx.NodeProto) -> bool:
    """``round(a * sa/s +- b * sb/s)``: each term is one float32 product, added from left to right."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    terms = [ctx.codes(name, numerics.activation) for name in node.input]
    if numerics.requantize == "split" and len(terms) == 2:
        _split_sum(ctx, node, terms[0], terms[1])
        return True
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


def _split_sum(ctx: Context, node: onnx.NodeProto, x: Codes, other: Codes) -> None:
    """The term of the larger step is shifted, the other multiplied, the sum requantised; all in integers."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    grid = ctx.grid(node.output[0], numerics.activation)
    hint = f"{node.output[0]}/codes"
    sign = -1.0 if node.op_type == "Sub" else 1.0
    outer = 1.0
    if float(other.grid.scale) > float(x.grid.scale):
        x, other, outer = other, x, sign
    first, second = split_term(float(other.grid.scale), float(x.grid.scale))
    wide = [ctx.w.op("Cast", [t.tensor], f"{hint}/wide", to=onnx.TensorProto.DOUBLE) for t in (x, other)]
    factors = (first, sign * second)
    terms = [ctx.w.op("Mul", [t, ctx.w.const(f, np.float64)], hint) for t, f in zip(wide, factors, strict=True)]
    total = ctx.w.op("Add", terms, f"{hint}/sum")
    ratio = outer * float(x.grid.scale) / first / float(grid.scale)
    ctx.store(node.output[0], rounded_split(ctx.w, total, ratio, elementwise.bounds_of(grid), grid, hint), grid)
    ctx.report(node, numerics.precision)


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
    kept = elementwise.bounds_of(grid, clamp.low, clamp.high)
    if numerics.requantize == "split":
        real = float(a.grid.scale * b.grid.scale / grid.scale)
        ctx.store(clamp.output, rounded_split(ctx.w, product, real, kept, grid, hint), grid)
        ctx.report(node, numerics.precision)
        return True
    ratio = np.asarray(a.grid.scale * b.grid.scale * grid.inverse, np.float32)
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
    # Under ``split`` a clamp of its own keeps the step of what it reads.
    grid = x.grid if numerics.requantize == "split" else ctx.grid(node.output[0], numerics.activation)
    hint = f"{node.output[0]}/codes"
    kept = elementwise.bounds_of(grid, *limits)
    ratio = np.asarray(x.grid.scale * grid.inverse, np.float32)
    ctx.store(node.output[0], elementwise.by_float(ctx.w, x.tensor, ratio, kept, grid, hint), grid)
    ctx.report(node, numerics.precision)
    return True
