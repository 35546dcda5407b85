"""Scaling, rounding and clipping of codes, in the form ONNX Runtime computes fastest.

On 4-D tensors with ``planes`` channels a scaling is written as a depthwise 1x1 convolution, because ONNX Runtime keeps
the blocked channel layout of the convolutions around it through convolutions only; every other operator makes it
reorder the whole tensor twice. Rounding to even is then ``(x + MAGIC) - MAGIC``, each addition the bias of such
a convolution. Both forms give the same bits: a kernel multiplies, then adds the bias, each rounded once
(tests hold the two against each other).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.builtin.reference.graph import Writer
from accel.builtin.reference.schemes import F32, Grid

MAGIC = 12582912.0
"""1.5 * 2^23: adding it to a float32 below 2^22 in magnitude rounds to an integer, ties to even; beyond, the sum is
still monotone, so that the clip that follows gives the right bound."""


@dataclass(frozen=True)
class Bounds:
    """Centred codes that are kept: the grid's own, narrowed by a fused activation."""

    low: float
    high: float


def bounds_of(on: Grid, low: float | None = None, high: float | None = None) -> Bounds:
    """The grid's bounds, narrowed to the real interval ``[low, high]``."""
    inverse = float(on.inverse)
    least = float(on.low) if low is None else float(np.clip(np.rint(low * inverse), on.low, on.high))
    most = float(on.high) if high is None else float(np.clip(np.rint(high * inverse), on.low, on.high))
    return Bounds(least, most)


def along(values: NDArray[Any], rank: int, axis: int) -> F32:
    """``values`` as float32, shaped to broadcast along ``axis`` of a tensor of ``rank`` dimensions."""
    values = np.asarray(values, np.float32)
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def scale(w: Writer, x: str, ratio: F32, hint: str, *, bias: F32 | None = None, planes: int = 0) -> str:
    """``x * ratio + bias``, each operation rounded to float32.

    Args:
        ratio: Shape () or broadcastable along the channels.
        bias: Likewise, or None.
        planes: Channels of the 4-D tensor ``x``; 0: write plain operators.
    """
    one = bool(np.all(ratio == 1))
    if planes and ratio.size in (1, planes) and (bias is None or bias.size in (1, planes)):
        if one and bias is None:
            return x
        inputs = [x, w.const(np.resize(ratio, (planes, 1, 1, 1)))]
        if bias is not None:
            inputs.append(w.const(np.resize(bias, planes)))
        return w.op("Conv", inputs, hint, group=planes)
    if not one:
        x = w.op("Mul", [x, w.const(ratio)], hint)
    if bias is not None:
        x = w.op("Add", [x, w.const(bias)], f"{hint}/plus")
    return x


def floor(w: Writer, x: str, ratio: F32, hint: str, *, quantum: F32 | None = None, planes: int = 0) -> str:
    """``floor(x * ratio)``.

    Args:
        quantum: Powers of two, of ``ratio``'s shape: every product is a multiple of its own, exact, and below 2^23 of
            it (or so large that the bounds cut it off anyway). Rounding ``product - 1/2 + quantum/2`` to even, which
            never ties, then gives the floor in the convolutions' layout. None: not known.
    """
    if not planes or quantum is None or ratio.size not in (1, planes):
        scaled = scale(w, x, ratio, f"{hint}/scaled", planes=planes)
        return w.op("Floor", [scaled], hint)
    one = np.ones((), np.float32)
    x = scale(w, x, ratio, f"{hint}/lowered", bias=np.asarray(quantum / 2 - 0.5, np.float32), planes=planes)
    x = scale(w, x, one, f"{hint}/raised", bias=np.asarray(MAGIC, np.float32), planes=planes)
    return scale(w, x, one, hint, bias=np.asarray(-MAGIC, np.float32), planes=planes)


def by_float(
    w: Writer, x: str, ratio: F32, kept: Bounds, on: Grid, hint: str, *, planes: int = 0, quantum: float = 0.0
) -> str:
    """``clip(round(x * ratio))``: one float32 multiplication.

    Args:
        quantum: Every product is a multiple of this and below 2^22 of it (or beyond the bounds anyway); 0: not known.
            A quarter of it then turns ties upwards and nothing else, so that half_up needs no Floor.
    """
    if planes and on.rounding == "half_up" and quantum and not on.zero and ratio.size == 1:
        x = scale(w, x, ratio, f"{hint}/scaled", bias=np.asarray(quantum / 4, np.float32), planes=planes)
        return _round_planes(w, x, np.ones((), np.float32), kept, on, hint, planes)
    if planes and on.rounding == "half_even" and ratio.size in (1, planes):
        # Scaling and the first half of the rounding in one convolution.
        return _round_planes(w, x, ratio, kept, on, hint, planes)
    return round_and_clip(w, scale(w, x, ratio, f"{hint}/scaled", planes=planes), kept, on, hint, planes=planes)


def round_and_clip(w: Writer, x: str, kept: Bounds, on: Grid, hint: str, *, planes: int = 0) -> str:
    """Round ``x + zero`` as the grid says, take ``zero`` off, clip."""
    rounding, zero = on.rounding, on.zero
    if planes and rounding == "half_even":
        return _round_planes(w, x, np.ones((), np.float32), kept, on, hint, planes)
    if rounding == "half_even" and zero % 2:
        # Ties depend on the code itself. x + zero in float32 would round twice; x + (MAGIC + zero) rounds once.
        magic = np.float32(MAGIC + zero)
        x = w.op("Add", [x, w.const(magic)], f"{hint}/raised")
        x = w.op("Clip", [x, w.const(kept.low + magic), w.const(kept.high + magic)], f"{hint}/kept")
        return w.op("Sub", [x, w.const(magic)], hint)
    inside = rounding == "half_away" and zero != 0
    if inside:
        x = w.op("Add", [x, w.const(zero)], f"{hint}/offset")
    if rounding == "half_even":
        x = w.op("Round", [x], f"{hint}/round")
    elif rounding == "half_up":
        x = w.op("Floor", [w.op("Add", [x, w.const(0.5)], f"{hint}/half")], f"{hint}/round")
    else:
        size = w.op("Add", [w.op("Abs", [x], f"{hint}/abs"), w.const(0.5)], f"{hint}/half")
        size = w.op("Floor", [size], f"{hint}/up")
        x = w.op("Mul", [size, w.op("Sign", [x], f"{hint}/sign")], f"{hint}/round")
    if inside:
        x = w.op("Sub", [x, w.const(zero)], f"{hint}/centred")
    return w.op("Clip", [x, w.const(kept.low), w.const(kept.high)], hint)


def _round_planes(w: Writer, x: str, ratio: F32, kept: Bounds, on: Grid, hint: str, planes: int) -> str:
    # The zero point is inside: its parity decides where ties go.
    magic = np.float32(MAGIC + on.zero)
    x = scale(w, x, ratio, f"{hint}/raised", bias=np.asarray(magic), planes=planes)
    x = w.op("Clip", [x, w.const(kept.low + magic), w.const(kept.high + magic)], f"{hint}/kept")
    return scale(w, x, np.ones((), np.float32), hint, bias=np.asarray(-magic), planes=planes)
