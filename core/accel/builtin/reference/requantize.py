"""How accumulators become output codes: one function a way of :attr:`accel.target.Numerics.requantize`.

Every way takes integer-valued float32 (exact below 2^24) and gives centred codes. ``ratio`` is the real ratio
input-step / output-step, shape () or (channels,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.builtin.reference import schemes
from accel.builtin.reference.graph import Writer
from accel.builtin.reference.schemes import F32, Grid
from accel.target import Numerics, Rounding

MAGIC = 12582912.0
"""1.5 * 2^23: adding it to a float32 below 2^22 in magnitude rounds to an integer, ties to even."""


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


def channels(values: NDArray[Any], rank: int, axis: int) -> NDArray[np.float32]:
    """``values`` as float32, shaped to broadcast along ``axis`` of a tensor of ``rank`` dimensions."""
    values = np.asarray(values, np.float32)
    if values.ndim == 0 or values.size == 1:
        return values.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def round_and_clip(w: Writer, x: str, kept: Bounds, rounding: Rounding, hint: str, zero: int = 0) -> str:
    """Round ``x + zero``, take ``zero`` off, clip."""
    # Where ties depend on the code itself, the zero point must be inside the rounding.
    inside = (rounding == "half_even" and zero % 2 == 1) or (rounding == "half_away" and zero != 0)
    if inside:
        x = w.op("Add", [x, w.const(zero)], f"{hint}/offset")
    if rounding == "half_even":
        x = w.op("Round", [x], f"{hint}/round")
    elif rounding == "half_up":
        x = w.op("Floor", [w.op("Add", [x, w.const(0.5)], f"{hint}/half")], f"{hint}/round")
    else:
        size = w.op(
            "Floor", [w.op("Add", [w.op("Abs", [x], f"{hint}/abs"), w.const(0.5)], f"{hint}/half")], f"{hint}/up"
        )
        x = w.op("Mul", [size, w.op("Sign", [x], f"{hint}/sign")], f"{hint}/round")
    if inside:
        x = w.op("Sub", [x, w.const(zero)], f"{hint}/centred")
    return w.op("Clip", [x, w.const(kept.low), w.const(kept.high)], hint)


def by_float(w: Writer, acc: str, ratio: NDArray[np.float32], kept: Bounds, on: Grid, hint: str) -> str:
    """``clip(round(acc * ratio))``: one float32 multiplication."""
    x = acc if np.all(ratio == 1) else w.op("Mul", [acc, w.const(ratio)], f"{hint}/scaled")
    return round_and_clip(w, x, kept, on.rounding, hint, on.zero)


@dataclass(frozen=True)
class Product:
    """A sum of products that waits for its bias.

    Attributes:
        multiply: ``(bias codes or None, hint) -> accumulator tensor``.
        step: Real value of one accumulator step, shape () or (channels,).
        bias: Real bias by channel, or None.
        rank: Dimensions of the result.
        axis: Where its channels lie.
    """

    multiply: Callable[[F32 | None, str], str]
    step: NDArray[np.float64]
    bias: F32 | None
    rank: int
    axis: int


def product_by_float(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """Bias codes of ``bias_bits`` bits (or a float bias), then one float multiplication a channel."""
    ratio = channels(product.step * on.inverse, product.rank, product.axis)
    if product.bias is None:
        return by_float(w, product.multiply(None, hint), ratio, kept, on, hint)
    if numerics.bias_bits is not None:
        codes = bias_codes(product, numerics.bias_bits)
        return by_float(w, product.multiply(codes, hint), ratio, kept, on, hint)
    scaled = w.op("Mul", [product.multiply(None, hint), w.const(ratio)], f"{hint}/scaled")
    bias = channels(product.bias * on.inverse, product.rank, product.axis)
    return round_and_clip(w, w.op("Add", [scaled, w.const(bias)], f"{hint}/biased"), kept, on.rounding, hint, on.zero)


def bias_codes(product: Product, bits: int) -> F32:
    """The bias in accumulator steps, rounded half to even and clipped to ``bits`` bits."""
    assert product.bias is not None
    top = 2.0 ** (bits - 1)
    steps = np.asarray(product.bias, np.float64) / product.step
    return np.clip(np.rint(steps), -top, top - 1).astype(np.float32)


def weight_grid(numerics: Numerics, weight: F32, axis: int, x: Grid, y: Grid) -> Grid:
    """The grid of the weights of an operator that reads ``x`` and writes ``y``.

    Under ``shift`` the ratio of the grids is inside the weights: ``code = round(w * 2^shift * x.step / y.step)`` with
    the largest shift of 0..31 that keeps the codes in range, so that the sum shifted right is the output code
    (tpu-mlir's lowering of convolutions for BM1684).
    """
    assert numerics.weight is not None
    if numerics.requantize != "shift":
        return schemes.weight_grid(numerics.weight, weight, axis if numerics.weight.granularity == "channel" else None)
    top = 2.0 ** (numerics.weight.bits - 1) - 1
    gain = float(y.inverse) / float(x.inverse)
    most = float(np.abs(weight).max(initial=0)) * gain
    shift = int(np.clip(np.floor(np.log2(top / most)), 0, 31)) if most > 0 else 0
    inverse = np.asarray(gain * 2.0**shift, np.float32)
    return Grid(
        inverse, 0, int(-top) - (not numerics.weight.narrow), int(top), numerics.weight.rounding, numerics.weight.bits
    )


def product_by_shift(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """``clip(round((sum + bias) / 2^shift))``, one shift for the whole tensor; the weights hold the rest."""
    ratio = float(product.step) * float(on.inverse)
    shift = int(np.rint(-np.log2(ratio)))
    codes = None if product.bias is None else bias_codes(product, numerics.bias_bits or 16)
    return by_float(w, product.multiply(codes, hint), np.asarray(2.0**-shift, np.float32), kept, on, hint)


def product_by_multiplier(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """``clip(round((sum + bias) * m / 2^shift))``, integer ``m`` of ``details["multiplier_bits"]`` bits a channel.

    ``m / 2^shift`` has at most 24 significant bits here and the product is rounded to float32 before it is rounded to
    an integer; a chip that keeps the whole product differs where it lies within 2^-18 of a tie.
    """
    bits = min(int(numerics.details.get("multiplier_bits", "24")), 24)
    ratio = channels(rounded_multiplier(product.step * on.inverse, bits), product.rank, product.axis)
    codes = None if product.bias is None else bias_codes(product, numerics.bias_bits or 32)
    return by_float(w, product.multiply(codes, hint), ratio, kept, on, hint)


def rounded_multiplier(ratio: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """``m * 2^-shift`` nearest to ``ratio`` with ``m`` in ``[2^(bits-1), 2^bits]``."""
    mantissa, exponent = np.frexp(ratio)
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**bits), exponent - bits))


Way = Callable[[Writer, Product, Bounds, Grid, Numerics, str], str]

WAYS: Mapping[str, Way] = {
    "float": product_by_float,
    "shift": product_by_shift,
    "multiplier": product_by_multiplier,
}
"""By ``Numerics.requantize``."""
