"""From a range of real numbers to a grid of integer codes: every rule of :class:`accel.target.QuantScheme`.

A :class:`Grid` holds *centred* codes: the code minus the zero point, so that 0 is always real zero. Convolutions
then need no correction terms and padding with 0 is right; the zero point survives only in the bounds.

Sources of the rules: ONNX operators QuantizeLinear/DynamicQuantizeLinear (``max_code``, ``affine``), tpu-mlir's
calibration tables (``full_range``), the CNNL guide (the three of Cambricon).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.calibration import Range
from accel.target import QuantScheme, Rounding

F32 = NDArray[np.float32]

TINY = 2.0**-100
"""Smaller thresholds count as zero: their step's reciprocal would leave float32."""


@dataclass(frozen=True)
class Grid:
    """Where the codes lie.

    Attributes:
        inverse: float32 codes per unit: ``code = round(x * inverse)``; shape () or (channels,).
        zero: Zero point (CNNL: offset), added before rounding and taken off again.
        low: Smallest centred code.
        high: Largest centred code.
        rounding: How ties are broken.
        bits: Width of a code.
        step: Real value of one code where the chip's compiler holds it in float64, else None.
        divides: Constants become codes by a division by ``step`` in float64, not by a product with ``inverse``.
    """

    inverse: F32
    zero: int
    low: int
    high: int
    rounding: Rounding
    bits: int
    step: NDArray[np.float64] | None = None
    divides: bool = False

    @property
    def scale(self) -> NDArray[np.float64]:
        """Real value of one code step, the exact reciprocal of ``inverse`` rounded to float64."""
        if self.step is not None:
            return self.step
        return np.asarray(1.0 / self.inverse.astype(np.float64))

    def same(self, other: Grid) -> bool:
        """Codes of one grid are codes of the other."""
        return bool(np.array_equal(self.inverse, other.inverse)) and (self.zero, self.low, self.high) == (
            other.zero,
            other.low,
            other.high,
        )


def grid(scheme: QuantScheme, low: NDArray[np.float64], high: NDArray[np.float64]) -> Grid:
    """The grid of ``scheme`` for values in ``[low, high]`` (arrays of shape () or (channels,)).

    An empty or zero range gets the grid of threshold 1, so that zeros stay zeros.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    threshold = np.maximum(np.abs(low), np.abs(high))
    bits, top = scheme.bits, 2 ** (scheme.bits - 1)
    zero = 0
    bounds = (-top, top - 1)
    empty = threshold < TINY
    threshold = np.where(empty, 1.0, threshold)
    width = np.where(empty, 1.0, high - low)
    step: NDArray[np.float64] | None = None
    if scheme.rule == "step":
        single = np.asarray(threshold.astype(np.float32).astype(np.float64) / (top - 1)).astype(np.float32)
        step = np.asarray(single.astype(np.float64))
        inverse = 1.0 / step
        if scheme.narrow:
            bounds = (1 - top, top - 1)
    elif scheme.rule == "max_code":
        inverse = (top - 1) / threshold
        if scheme.narrow:
            bounds = (1 - top, top - 1)
    elif scheme.rule == "full_range":
        inverse = top / threshold
        if scheme.narrow:
            bounds = (1 - top, top - 1)
    elif scheme.rule == "power_of_two":
        inverse = np.exp2(-_position(threshold, bits - 2, empty))
    elif scheme.rule == "position_scale":
        position = _position(threshold, bits - 2, empty)
        scale = np.where(empty, 1.0, np.exp2(position) * (top - 1) / threshold).astype(np.float32)
        inverse = scale.astype(np.float64) * np.exp2(-position)
    elif scheme.rule == "position_scale_offset":
        position = _position(width, bits - 1, empty)
        steps = 2**bits - 1
        scale = np.where(empty, 1.0, np.exp2(position) * steps / width).astype(np.float32)
        inverse = scale.astype(np.float64) * np.exp2(-position)
        zero = int(np.rint(-top - float(low) * steps / float(width)))
    else:  # affine
        steps = 2**bits - 1
        inverse = steps / width
        zero = int(np.clip(np.rint(-top - float(low) * steps / float(width)), -top, top - 1))
    return Grid(
        np.asarray(inverse, np.float64).astype(np.float32),
        zero,
        bounds[0] - zero,
        bounds[1] - zero,
        scheme.rounding,
        bits,
        step,
        step is not None,
    )


def activation_grid(scheme: QuantScheme, kept: Range) -> Grid:
    """The grid of an activation: one for the whole tensor.

    A symmetric scheme reads only ``kept.threshold``.
    """
    if scheme.symmetric and scheme.unsigned and kept.threshold >= TINY:
        unsigned = kept.low >= 0
        top = 2**scheme.bits - 1 if unsigned else 2 ** (scheme.bits - 1) - 1
        step = np.asarray(kept.threshold / top, np.float64)
        if scheme.rule == "step":
            step = np.asarray(np.float32(np.float64(np.float32(kept.threshold)) / top).astype(np.float64))
        low = 0 if unsigned else -top - 1
        inverse = np.asarray(1 / step).astype(np.float32)
        return Grid(inverse, 0, low, top, scheme.rounding, scheme.bits, step, scheme.rule == "step")
    if scheme.symmetric:
        return grid(scheme, np.float64(-kept.threshold), np.float64(kept.threshold))
    return grid(scheme, np.float64(kept.low), np.float64(kept.high))


def weight_grid(scheme: QuantScheme, weight: F32, axis: int | None) -> Grid:
    """The grid of a weight: one for each index of ``axis``, or with None one for the tensor.

    Zero points of weights do not exist on any chip served here, so an asymmetric weight scheme is read as symmetric.
    """
    reduced = tuple(a for a in range(weight.ndim) if a != axis) if axis is not None else None
    threshold = np.abs(weight).max(axis=reduced).astype(np.float64) if weight.size else np.float64(0)
    return grid(scheme, -threshold, np.asarray(threshold))


def quantize(x: NDArray[np.floating], on: Grid, axis: int | None = None) -> F32:
    """Centred codes of ``x``, as integer-valued float32 of the same shape.

    ``axis`` says where the channels of a per-channel grid lie. The product is taken in float32, as the graph does; on
    a grid with a ``step`` it is a division in float64.
    """
    if on.divides and on.step is not None:
        exact = np.asarray(x, np.float64) / _along(on.step, x.ndim, axis)
        return np.clip(round_codes(exact + on.zero, on.rounding) - on.zero, on.low, on.high).astype(np.float32)
    inverse = _along(on.inverse, x.ndim, axis)
    scaled = np.asarray(x, np.float32) * inverse
    codes = round_codes(scaled.astype(np.float64) + on.zero, on.rounding) - on.zero
    return np.clip(codes, on.low, on.high).astype(np.float32)


def dequantize(codes: F32, on: Grid, axis: int | None = None) -> F32:
    """Real values of centred codes: ``codes / inverse`` in float32."""
    return np.asarray((codes / _along(on.inverse, codes.ndim, axis)).astype(np.float32))


def round_codes(x: NDArray[np.float64], rounding: Rounding) -> NDArray[np.float64]:
    """Round to integers; NaN stays NaN."""
    if rounding == "half_even":
        return np.rint(x)
    if rounding == "half_up":
        return np.floor(x + 0.5)
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def _position(value: NDArray[np.float64], bits: int, empty: NDArray[np.bool_]) -> NDArray[np.float64]:
    # frexp, not log2: floor(log2 x) must not be one too low or high beside a power of two.
    _, exponent = np.frexp(value)
    return np.where(empty, 0.0, exponent - 1.0 - bits)


def _along(values: NDArray[Any], rank: int, axis: int | None) -> NDArray[Any]:
    if values.ndim == 0 or axis is None:
        return values
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def finite_range(low: float, high: float) -> bool:
    """Whether the bounds can be quantised at all."""
    return math.isfinite(low) and math.isfinite(high) and low <= high
