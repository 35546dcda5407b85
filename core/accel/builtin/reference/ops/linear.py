"""Convolution, transposed convolution, Gemm, MatMul on stored codes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from accel.builtin.reference import elementwise, exact, requantize, schemes
from accel.builtin.reference.context import Codes, Context, Sum, handles
from accel.builtin.reference.graph import attributes, raw_attributes
from accel.builtin.reference.ops.fusion import Clamp, ends_the_graph, following_add, following_clamp
from accel.builtin.reference.schemes import F32


@handles("Conv", "ConvTranspose")
def convolution(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None and numerics.weight is not None
    weight = ctx.source.constant(node.input[1])
    bias = ctx.source.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight is None or (bias is None and len(node.input) > 2 and node.input[2]):
        return False
    attrs = raw_attributes(node)
    axis = 0 if node.op_type == "Conv" else 1
    x = ctx.codes(node.input[0], ctx.reads(node))
    result = following(ctx, node)
    on = requantize.weight_grid(numerics, weight, axis, x.grid, result.grid, bias)
    codes = schemes.quantize(weight, on, axis)
    ctx.weights[node.output[0]] = schemes.dequantize(codes, on, axis)
    ctx.grids[node.output[0]] = on
    scale = on.scale
    if axis == 1 and scale.ndim:
        scale = np.tile(scale, attrs.get("group", 1))
    step = np.asarray(x.grid.scale * scale)
    wide = numerics.requantize == "split" and x.grid.bits > 8

    def multiply(bias_codes: NDArray[np.floating] | None, hint: str) -> str:
        return exact.convolve(ctx, node.op_type, x, codes, bias_codes, attrs, hint, wide=wide)

    outputs = weight.shape[axis] * (attrs.get("group", 1) if axis == 1 else 1)
    planes = outputs if weight.ndim == 4 else 0
    finish(ctx, node, result, requantize.Product(multiply, step, bias, weight.ndim, 1, planes, wide=wide))
    return True


@handles("Gemm")
def gemm(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None and numerics.weight is not None
    attrs = attributes(node)
    weight = ctx.source.constant(node.input[1])
    bias = ctx.source.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if weight is None or attrs.get("transA", 0) or (bias is None and len(node.input) > 2 and node.input[2]):
        return False
    weight = np.ascontiguousarray(weight.T if attrs.get("transB", 0) else weight)
    if bias is not None:
        if bias.ndim > 1 and bias.size not in (1, bias.shape[-1]):
            return False
        bias = np.broadcast_to(bias.reshape(-1), weight.shape[1:]) * np.float32(attrs.get("beta", 1.0))
    _constant_matmul(ctx, node, weight, bias, rank=2, alpha=float(attrs.get("alpha", 1.0)))
    return True


@handles("MatMul")
def matmul(ctx: Context, node: onnx.NodeProto) -> bool:
    numerics = ctx.at(node)
    assert numerics.activation is not None and numerics.weight is not None
    weight = ctx.source.constant(node.input[1])
    left = ctx.source.shape(node.input[0])
    if weight is not None and weight.ndim == 2 and left is not None and len(left) >= 2:
        _constant_matmul(ctx, node, weight, None, rank=len(left))
        return True
    right = ctx.source.shape(node.input[1])
    inner = (left[-1] if left else None) or (right[-2] if right and len(right) > 1 else None)
    a = ctx.codes(node.input[0], numerics.activation)
    b = ctx.codes(node.input[1], numerics.activation)
    most = float(exact.largest(a) * exact.largest(b))
    bound = inner * most if inner else float("inf")

    wide = numerics.requantize == "split" and max(a.grid.bits, b.grid.bits) > 8

    def multiply(_bias: NDArray[np.floating] | None, hint: str) -> str:
        return exact.matmul(ctx, a.tensor, b.tensor, bound, hint, wide=wide)

    step = np.asarray(a.grid.scale * b.grid.scale)
    finish(ctx, node, following(ctx, node), requantize.Product(multiply, step, None, 0, 0, wide=wide))
    return True


def _constant_matmul(
    ctx: Context, node: onnx.NodeProto, weight: F32, bias: F32 | None, *, rank: int, alpha: float = 1.0
) -> None:
    numerics = ctx.at(node)
    assert numerics.activation is not None and numerics.weight is not None
    if numerics.details.get("matmul_weights") == "tensor":
        numerics = replace(numerics, weight=replace(numerics.weight, granularity="tensor"))
    assert numerics.activation is not None
    x = ctx.codes(node.input[0], numerics.activation)
    result = following(ctx, node)
    on = requantize.weight_grid(numerics, weight, 1, x.grid, result.grid, bias)
    codes = schemes.quantize(weight, on, 1)
    real = schemes.dequantize(codes, on, 1)
    ctx.weights[node.output[0]] = real.T if attributes(node).get("transB", 0) else real
    ctx.grids[node.output[0]] = on
    bound = exact.largest(x) * float(np.abs(codes).sum(axis=0, dtype=np.float64).max(initial=0))
    wide = numerics.requantize == "split" and x.grid.bits > 8

    def multiply(bias_codes: NDArray[np.floating] | None, hint: str) -> str:
        acc = exact.matmul(ctx, x.tensor, ctx.w.const(codes, hint=f"{hint}/weight"), bound, hint, wide=wide)
        if bias_codes is None:
            return acc
        held = ctx.w.const(bias_codes, np.float64 if wide else np.float32, hint=f"{hint}/bias")
        return ctx.w.op("Add", [acc, held], f"{hint}/biased")

    step = np.asarray(x.grid.scale * on.scale * alpha)
    finish(ctx, node, result, requantize.Product(multiply, step, bias, rank, rank - 1, wide=wide))


@dataclass(frozen=True)
class Result:
    """Where a node's result goes: a following addition and clamp folded in, and the grid its codes lie on.

    ``grid`` is None for a result that leaves the chip as its accumulator.
    """

    clamp: Clamp
    grid: schemes.Grid | None
    addend: Codes | None = None


def following(ctx: Context, node: onnx.NodeProto) -> Result:
    """Find (and take over) the activation after the node, and the grid of what it writes."""
    numerics = ctx.at(node)
    assert numerics.activation is not None
    name = node.output[0]
    leaves = node.op_type in numerics.details.get("float_outputs", "").split(",")
    if leaves and ends_the_graph(ctx, name):
        return Result(Clamp(name), None)
    added = following_add(ctx, node) if node.op_type == "Conv" else None
    clamp = following_clamp(ctx, added[0] if added else node)
    if leaves and not added and ends_the_graph(ctx, clamp.output):
        return Result(clamp, None)
    addend = ctx.codes(added[1], numerics.activation) if added else None
    return Result(clamp, ctx.grid(clamp.output, numerics.activation), addend)


def finish(ctx: Context, node: onnx.NodeProto, result: Result, product: requantize.Product) -> None:
    """From accumulator to stored codes, by the target's way of requantising."""
    numerics = ctx.at(node)
    clamp, grid = result.clamp, result.grid
    if grid is None:
        _finish_in_float(ctx, node, clamp, product)
        return
    kept = elementwise.bounds_of(grid, clamp.low, clamp.high)
    way = requantize.WAYS[numerics.requantize]

    def multiply(bias: NDArray[np.floating] | None, hint: str) -> str:
        acc = product.multiply(bias, hint)
        ctx.sums[node.output[0]] = Sum(acc, product.step, product.axis)
        return acc

    whole = replace(product, multiply=multiply, addend=result.addend)
    tensor = way(ctx.w, whole, kept, grid, numerics, f"{clamp.output}/codes")
    ctx.store(clamp.output, tensor, grid)
    ctx.report(node, numerics.precision)


def _finish_in_float(ctx: Context, node: onnx.NodeProto, clamp: Clamp, product: requantize.Product) -> None:
    """The accumulator, bias inside, as real values: what chips do that hand it over in 32 bits."""
    numerics = ctx.at(node)
    name = clamp.output
    codes = None if product.bias is None else requantize.bias_codes(product, numerics.bias_bits or 32)
    acc = product.multiply(codes, f"{name}/codes")
    ctx.sums[node.output[0]] = Sum(acc, product.step, product.axis)
    if product.wide:
        acc = ctx.w.op("Cast", [acc], f"{name}/narrow", to=onnx.TensorProto.FLOAT)
    step = elementwise.along(product.step, product.rank, product.axis)
    real = elementwise.scale(ctx.w, acc, step, f"{name}/real")
    if clamp.low is not None or clamp.high is not None:
        bounds = [-np.inf if clamp.low is None else clamp.low, np.inf if clamp.high is None else clamp.high]
        real = ctx.w.op("Clip", [real, *(ctx.w.const(bound) for bound in bounds)], f"{name}/kept")
    ctx.store_float(name, real)
    ctx.report(node, numerics.precision, "its result leaves the chip as the accumulator")
