"""Dataflow ``inputs`` (Cambricon): convolution and matmul read fixed-point inputs and give floating results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from accel.builtin.reference import elementwise, exact, schemes
from accel.builtin.reference.context import Codes, Context, round_float
from accel.builtin.reference.graph import attributes, raw_attributes
from accel.builtin.reference.schemes import F32


def _convolution(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.weight is not None
    weight = ctx.source.constant(node.input[1])
    if weight is None:
        return False
    attrs = raw_attributes(node)
    axis = 0 if node.op_type == "Conv" else 1
    x = _fixed(ctx, node, 0)
    on = schemes.weight_grid(numerics.weight, weight, axis if numerics.weight.granularity == "channel" else None)
    codes = schemes.quantize(weight, on, axis)
    ctx.weights[node.output[0]] = schemes.dequantize(codes, on, axis)
    inverse = on.inverse
    if axis == 1 and inverse.ndim:
        inverse = np.tile(inverse, attrs.get("group", 1))
    acc = exact.convolve(ctx, node.op_type, x, codes, None, attrs, node.output[0])
    steps = elementwise.along(x.grid.inverse * inverse, weight.ndim, 1)
    bias = node.input[2] if len(node.input) > 2 else ""
    _finish(ctx, node, acc, steps, bias, (1, -1) + (1,) * (weight.ndim - 2))
    return True


def _gemm(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.weight is not None
    attrs = attributes(node)
    weight = ctx.source.constant(node.input[1])
    if weight is None or attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1 or attrs.get("beta", 1.0) != 1:
        return False
    weight = np.ascontiguousarray(weight.T if attrs.get("transB", 0) else weight)
    _constant(ctx, node, weight, 2, node.input[2] if len(node.input) > 2 else "")
    return True


def _matmul(ctx: Context, node: onnx.NodeProto) -> bool:
    weight = ctx.source.constant(node.input[1])
    left, right = ctx.source.shape(node.input[0]), ctx.source.shape(node.input[1])
    if weight is not None and weight.ndim == 2 and left is not None and len(left) >= 2:
        _constant(ctx, node, weight, len(left), "")
        return True
    a, b = _fixed(ctx, node, 0), _fixed(ctx, node, 1)
    inner = (left[-1] if left else None) or (right[-2] if right and len(right) > 1 else None)
    bound = inner * float(exact.largest(a) * exact.largest(b)) if inner else float("inf")
    acc = exact.matmul(ctx, a.tensor, b.tensor, bound, node.output[0])
    _finish(ctx, node, acc, np.asarray(a.grid.inverse * b.grid.inverse), "", ())
    return True


def _constant(ctx: Context, node: onnx.NodeProto, weight: F32, rank: int, bias: str) -> None:
    numerics = ctx.at(node)
    assert numerics.weight is not None
    x = _fixed(ctx, node, 0)
    on = schemes.weight_grid(numerics.weight, weight, 1 if numerics.weight.granularity == "channel" else None)
    codes = schemes.quantize(weight, on, 1)
    real = schemes.dequantize(codes, on, 1)
    ctx.weights[node.output[0]] = real.T if attributes(node).get("transB", 0) else real
    bound = exact.largest(x) * float(np.abs(codes).sum(axis=0, dtype=np.float64).max(initial=0))
    acc = exact.matmul(ctx, x.tensor, ctx.w.const(codes, hint=f"{node.output[0]}/weight"), bound, node.output[0])
    _finish(ctx, node, acc, elementwise.along(x.grid.inverse * on.inverse, rank, rank - 1), bias, ())


HANDLERS: dict[str, Callable[[Context, onnx.NodeProto], bool]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
}


def _fixed(ctx: Context, node: onnx.NodeProto, at: int) -> Codes:
    """Input ``at`` of the node as codes, quantised from its floating form."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    name = node.input[at]
    if ctx.stored(name) is None and ctx.source.constant(name) is None:
        grid = ctx.grid(name, numerics.activation)
        return ctx.quantize_once(name, ctx.floating(name, numerics.float_type), grid)
    return ctx.codes(name, numerics.activation)


def _finish(ctx: Context, node: onnx.NodeProto, acc: str, steps: F32, bias: str, shape: tuple[int, ...]) -> None:
    """``acc / (product of the inverses) + bias``, rounded once to the float type."""
    numerics = ctx.at(node)
    kind = numerics.float_type
    name = node.output[0]
    value = ctx.w.op("Div", [acc, ctx.w.const(steps)], f"{name}/real")
    if bias:
        held = ctx.source.constant(bias)
        if held is not None and shape:
            tensor = ctx.w.const(round_float(held, kind).reshape(shape), hint=f"{name}/bias")
        else:
            tensor = ctx.floating(bias, kind)
        value = ctx.w.op("Add", [value, tensor], f"{name}/biased")
    ctx.store_float(name, ctx.rounded(value, kind, name), kind)
    ctx.report(node, numerics.precision)
