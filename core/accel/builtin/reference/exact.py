"""Sums of products of codes, exact on every host.

float32 holds integers below 2^24, so one float32 convolution is exact while ``max |x| * sum |w|`` stays below it,
whatever the order a kernel adds in. Beyond that the operands are split (wide codes into bytes, input channels into
chunks), each part is exact, and the parts are added in float64; the total is then rounded to float32 once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accel.builtin.reference.context import EXACT, Codes, Context
from accel.builtin.reference.schemes import F32

DOUBLE = onnx.TensorProto.DOUBLE
FLOAT = onnx.TensorProto.FLOAT


def largest(x: Codes) -> int:
    """Largest magnitude of a centred code."""
    return max(abs(x.grid.low), abs(x.grid.high))


def convolve(
    ctx: Context,
    op_type: str,
    x: Codes,
    weight: F32,
    bias: NDArray[np.floating] | None,
    attrs: dict[str, Any],
    hint: str,
    *,
    wide: bool = False,
) -> str:
    """``Conv`` or ``ConvTranspose`` of codes; the accumulator as integer-valued float32.

    Args:
        weight: Centred weight codes in the operator's own layout.
        bias: Bias codes by output channel (integers), or None.
        wide: The accumulator in float64, no bit of it lost.
    """
    axis = 0 if op_type == "Conv" else 1
    if wide or largest(x) * _row_sums(weight, axis) >= EXACT:
        return _split(ctx, op_type, x, weight, bias, attrs, hint, wide)
    inputs = [x.tensor, ctx.w.const(weight, hint=f"{hint}/weight")]
    if bias is not None:
        # Kernels add the bias last: the sum before it is exact even beside a bias of 2^24 and more.
        inputs.append(ctx.w.const(bias, hint=f"{hint}/bias"))
    return ctx.w.op(op_type, inputs, f"{hint}/acc", **attrs)


def matmul(ctx: Context, a: str, b: str, bound: float, hint: str, *, wide: bool = False) -> str:
    """``MatMul`` of codes whose sums reach ``bound`` in magnitude; ``wide`` as in :func:`convolve`."""
    if bound < EXACT and not wide:
        return ctx.w.op("MatMul", [a, b], f"{hint}/acc")
    total = ctx.w.op("MatMul", [ctx.w.op("Cast", [t], f"{hint}/wide", to=DOUBLE) for t in (a, b)], f"{hint}/exact")
    return total if wide else ctx.w.op("Cast", [total], f"{hint}/acc", to=FLOAT)


def _row_sums(weight: F32, axis: int) -> float:
    others = tuple(a for a in range(weight.ndim) if a != axis)
    return float(np.abs(weight).sum(axis=others, dtype=np.float64).max(initial=0))


def _split(
    ctx: Context,
    op_type: str,
    x: Codes,
    weight: F32,
    bias: NDArray[np.floating] | None,
    attrs: dict[str, Any],
    hint: str,
    wide: bool,
) -> str:
    w = ctx.w
    if largest(x) > 256:
        high = w.op("Round", [w.op("Mul", [x.tensor, w.const(1 / 256)], f"{hint}/x/shifted")], f"{hint}/x/high")
        low = w.op("Sub", [x.tensor, w.op("Mul", [high, w.const(256)], f"{hint}/x/base")], f"{hint}/x/low")
        xs = [(high, 256.0, largest(x) // 256 + 1), (low, 1.0, 128)]
    else:
        xs = [(x.tensor, 1.0, largest(x))]
    if np.abs(weight).max(initial=0) > 256:
        upper = np.rint(weight / 256).astype(np.float32)
        ws = [(upper, 256.0), ((weight - upper * 256).astype(np.float32), 1.0)]
    else:
        ws = [(weight, 1.0)]
    axis, input_axis = (0, 1) if op_type == "Conv" else (1, 0)
    total = ""
    for tensor, x_factor, most in xs:
        for part, w_factor in ws:
            for chunk, begin, end in _chunks(part, axis, input_axis, most):
                feed = tensor
                if (begin, end) != (0, part.shape[input_axis]):
                    if attrs.get("group", 1) == 1:
                        ends = [w.const([v], np.int64) for v in (begin, end, 1)]
                        feed = w.op("Slice", [tensor, *ends], f"{hint}/x/channels")
                    else:
                        chunk = _among_zeros(chunk, part.shape, input_axis, begin, end)
                acc = w.op(op_type, [feed, w.const(chunk, hint=f"{hint}/weight")], f"{hint}/part", **attrs)
                acc = w.op("Cast", [acc], f"{hint}/wide", to=DOUBLE)
                if x_factor * w_factor != 1:
                    acc = w.op("Mul", [acc, w.const(x_factor * w_factor, np.float64)], f"{hint}/place")
                total = w.op("Add", [total, acc], f"{hint}/sum") if total else acc
    if bias is not None:
        shape = (1, -1) + (1,) * (weight.ndim - 2)
        total = w.op("Add", [total, w.const(bias.reshape(shape), np.float64)], f"{hint}/biased")
    return total if wide else w.op("Cast", [total], f"{hint}/acc", to=FLOAT)


def _chunks(
    weight: F32, axis: int, input_axis: int, most: int, begin: int = 0, end: int | None = None
) -> Iterator[tuple[F32, int, int]]:
    """Parts of the weight whose sums are exact, each with the input channels it covers."""
    end = weight.shape[input_axis] if end is None else end
    part = np.take(weight, range(begin, end), axis=input_axis)
    if most * _row_sums(part, axis) < EXACT:
        yield part, begin, end
    elif end - begin > 1:
        middle = (begin + end) // 2
        yield from _chunks(weight, axis, input_axis, most, begin, middle)
        yield from _chunks(weight, axis, input_axis, most, middle, end)
    else:
        taps = np.arange(int(np.prod(part.shape[2:]))).reshape(part.shape[2:])
        yield from ((np.where(kept, part, np.float32(0)), begin, end) for kept in _tap_halves(part, taps, axis, most))


def _tap_halves(
    part: F32, taps: NDArray[np.int_], axis: int, most: int, begin: int = 0, end: int | None = None
) -> Iterator[NDArray[np.bool_]]:
    # One channel under a kernel of more than a thousand taps.
    end = taps.size if end is None else end
    kept = (taps >= begin) & (taps < end)
    if end - begin <= 1 or most * _row_sums(part * kept, axis) < EXACT:
        yield kept
    else:
        yield from _tap_halves(part, taps, axis, most, begin, (begin + end) // 2)
        yield from _tap_halves(part, taps, axis, most, (begin + end) // 2, end)


def _among_zeros(part: F32, shape: tuple[int, ...], axis: int, begin: int, end: int) -> F32:
    # Channels of a group cannot be cut out of the input: the others get weight 0.
    whole = np.zeros(shape, np.float32)
    at = [slice(None)] * len(shape)
    at[axis] = slice(begin, end)
    whole[tuple(at)] = part
    return whole
