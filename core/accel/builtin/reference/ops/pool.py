"""Pooling on stored codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from accel.builtin.reference import elementwise, exact
from accel.builtin.reference.context import EXACT, Codes, Context, handles
from accel.builtin.reference.graph import attributes, raw_attributes
from accel.builtin.reference.ops.shape import pass_on
from accel.builtin.reference.requantize import rounded_split, small_multiplier
from accel.builtin.reference.schemes import F32


@handles("MaxPool", "GlobalMaxPool")
def largest(ctx: Context, node: onnx.NodeProto) -> bool:
    """The largest code is the code of the largest value."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    if len([o for o in node.output if o]) > 1:
        return False
    x = ctx.codes(node.input[0], numerics.activation)
    pass_on(ctx, node, x, [x.tensor])
    return True


@handles("GlobalAveragePool", "ReduceMean")
def mean(ctx: Context, node: onnx.NodeProto) -> bool:
    """An exact sum of codes, then one product with ``step / (count * step of the result)``."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    shape = ctx.source.shape(node.input[0])
    if shape is None:
        return False
    attrs = attributes(node)
    if node.op_type == "GlobalAveragePool":
        axes: list[int] = list(range(2, len(shape)))
        keep = 1
    else:
        given: Any = attrs.get("axes")
        if given is None and len(node.input) > 1 and node.input[1]:
            given = ctx.source.constant(node.input[1])
            if given is None:
                return False
        axes = [int(a) % len(shape) for a in given] if given is not None else list(range(len(shape)))
        keep = int(attrs.get("keepdims", 1))
    sizes = [shape[a] for a in axes]
    count = 1
    for size in sizes:
        if size is None:
            return False
        count *= size
    x = ctx.codes(node.input[0], numerics.activation)
    if count * exact.largest(x) >= EXACT:
        return False
    hint = f"{node.output[0]}/codes"
    total = ctx.w.op("ReduceSum", [x.tensor, ctx.w.const(axes, np.int64)], f"{hint}/sum", keepdims=keep)
    _average(ctx, node, x, total, 1.0 / count)
    return True


@handles("AveragePool")
def average(ctx: Context, node: onnx.NodeProto) -> bool:
    """A depthwise convolution with ones; windows that hang over the edge have counts of their own."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    shape = ctx.source.shape(node.input[0])
    out_shape = ctx.source.shape(node.output[0])
    attrs = attributes(node)
    if shape is None or shape[1] is None or attrs.get("ceil_mode", 0) or attrs.get("auto_pad", "NOTSET") != "NOTSET":
        return False
    kernel = tuple(int(k) for k in attrs["kernel_shape"])
    pads = list(attrs.get("pads", [0] * (2 * len(kernel))))
    x = ctx.codes(node.input[0], ctx.reads(node))
    reciprocal: float | F32 = 1.0 / float(np.prod(kernel))
    if any(pads) and not attrs.get("count_include_pad", 0):
        if out_shape is None or any(s is None for s in (*shape[2:], *out_shape[2:])):
            return False
        reciprocal = _window_reciprocals(shape[2:], out_shape[2:], kernel, pads, attrs)
    ones = np.ones((shape[1], 1, *kernel), np.float32)
    kept = {k: v for k, v in raw_attributes(node).items() if k in ("strides", "pads", "dilations")}
    conv = {**kept, "group": shape[1], "kernel_shape": list(kernel)}
    total = exact.convolve(ctx, "Conv", x, ones, None, conv, f"{node.output[0]}/codes/sum")
    _average(ctx, node, x, total, reciprocal)
    return True


def _average(ctx: Context, node: onnx.NodeProto, x: Codes, total: str, reciprocal: float | F32) -> None:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    # On BM1684 an average keeps the step of what it averages.
    same = numerics.details.get("average_pool_range") == "input"
    grid = x.grid if same else ctx.grid(node.output[0], numerics.activation)
    hint = f"{node.output[0]}/codes"
    if numerics.requantize == "split" and np.ndim(reciprocal) == 0:
        real = float(x.grid.scale * float(reciprocal) / grid.scale)
        ctx.store(node.output[0], rounded_split(ctx.w, total, real, elementwise.bounds_of(grid), grid, hint), grid)
        ctx.report(node, numerics.precision)
        return
    ratio = np.asarray(x.grid.scale * grid.inverse * reciprocal, np.float32)
    bits = int(numerics.details.get("pool_multiplier_bits", "0"))
    if bits and ratio.size == 1:
        ratio = np.asarray(small_multiplier(float(x.grid.scale * grid.inverse * reciprocal), bits), np.float32)
    ctx.store(node.output[0], elementwise.by_float(ctx.w, total, ratio, elementwise.bounds_of(grid), grid, hint), grid)
    ctx.report(node, numerics.precision)


def _window_reciprocals(
    size: tuple[int | None, ...],
    out: tuple[int | None, ...],
    kernel: tuple[int, ...],
    pads: list[int],
    attrs: dict[str, Any],
) -> F32:
    """1 / how many real pixels each window covers, shape (1, 1, *out)."""
    rank = len(kernel)
    strides = attrs.get("strides", [1] * rank)
    dilations = attrs.get("dilations", [1] * rank)
    counts = np.ones((), np.float64)
    for axis in range(rank):
        start = np.arange(out[axis] or 0) * strides[axis] - pads[axis]
        taps = start[:, None] + np.arange(kernel[axis])[None, :] * dilations[axis]
        inside = ((taps >= 0) & (taps < (size[axis] or 0))).sum(axis=1)
        counts = np.multiply.outer(counts, inside)
    return (1.0 / counts)[None, None].astype(np.float32)
