"""How accumulators become output codes: one function a way of :attr:`accel.target.Numerics.requantize`.

Every way takes integer-valued float32 (exact below 2^24) and gives centred codes. ``ratio`` is the real ratio
input-step / output-step, shape () or (channels,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from accel.builtin.reference import schemes
from accel.builtin.reference.context import Codes
from accel.builtin.reference.elementwise import Bounds, along, by_float, floor, round_and_clip, scale
from accel.builtin.reference.graph import Writer
from accel.builtin.reference.schemes import F32, Grid
from accel.target import Numerics


@dataclass(frozen=True)
class Product:
    """A sum of products that waits for its bias.

    Attributes:
        multiply: ``(bias codes or None, hint) -> accumulator tensor``.
        step: Real value of one accumulator step, shape () or (channels,).
        bias: Real bias by channel, or None.
        rank: Dimensions of the result.
        axis: Where its channels lie.
        planes: Number of channels when the result is 4-D with channels at axis 1, else 0.
        addend: Codes that are added to the sum, or None. ``split`` only.
        wide: The sum is in float64, because float32 would lose bits of it. ``split`` only.
    """

    multiply: Callable[[NDArray[np.floating] | None, str], str]
    step: NDArray[np.float64]
    bias: F32 | None
    rank: int
    axis: int
    planes: int = 0
    addend: Codes | None = None
    wide: bool = False


def product_by_float(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """Bias codes of ``bias_bits`` bits (or a float bias), then one float multiplication a channel."""
    ratio = along(product.step * on.inverse, product.rank, product.axis)
    if product.bias is None:
        return by_float(w, product.multiply(None, hint), ratio, kept, on, hint, planes=product.planes)
    if numerics.bias_bits is not None:
        codes = bias_codes(product, numerics.bias_bits)
        return by_float(w, product.multiply(codes, hint), ratio, kept, on, hint, planes=product.planes)
    bias = along(product.bias * on.inverse, product.rank, product.axis)
    real = scale(w, product.multiply(None, hint), ratio, f"{hint}/real", bias=bias, planes=product.planes)
    return round_and_clip(w, real, kept, on, hint, planes=product.planes)


def bias_codes(product: Product, bits: int) -> F32:
    """The bias in accumulator steps, rounded half to even and clipped to ``bits`` bits."""
    assert product.bias is not None
    top = 2.0 ** (bits - 1)
    steps = np.asarray(product.bias, np.float64) / product.step
    return np.clip(np.rint(steps), -top, top - 1).astype(np.float32)


def weight_grid(numerics: Numerics, weight: F32, axis: int, x: Grid, y: Grid | None, bias: F32 | None = None) -> Grid:
    """The grid of the weights of an operator that reads ``x`` and writes ``y`` (None: real values).

    A channel of nearly no weight gets the step at which its ``bias`` still fits into ``bias_bits`` bits, as compilers
    with 32-bit biases do.

    Under ``shift`` the ratio of the grids is inside the weights: ``code = round(w * 2^shift * x.step / y.step)`` with
    the largest shift of 0..31 that keeps the codes in range, so that the sum shifted right is the output code
    (tpu-mlir's lowering of convolutions for BM1684).
    """
    assert numerics.weight is not None
    if numerics.requantize != "shift":
        on = schemes.weight_grid(numerics.weight, weight, axis if numerics.weight.granularity == "channel" else None)
        floor = np.float32(numerics.details.get("weight_step_floor", "0"))
        if floor:
            # As the compiler holds it (tpu-mlir): in float32 and never below the floor by channel, in float64 as one.
            # Weights are divided by it in float64: a product with its reciprocal would move some over a tie.
            threshold = np.abs(weight).max(axis=tuple(a for a in range(weight.ndim) if a != axis), initial=0)
            step = np.maximum(threshold / np.float32(127), floor).astype(np.float64)
            if on.inverse.ndim == 0:
                step = np.asarray(float(np.abs(weight).max(initial=0)) / 127 or 1.0)
            return replace(on, inverse=(1 / step).astype(np.float32), step=step, divides=True)
        if numerics.requantize == "split" and on.step is not None:
            # Shifts end at 15 bits before the multiplication, so that no ratio of steps is below 2^-23 for codes of
            # 8 bits and 2^-15 for 16: a channel of nearly no weight, or none, gets a larger step.
            smallest = 2.0 ** (y.bits - 31) * float(y.scale) if y else 2.0**-23
            least = float(np.float32(smallest / float(x.scale)))
            reduced = tuple(a for a in range(weight.ndim) if a != axis) if on.step.ndim else None
            own = np.where(np.abs(weight).max(axis=reduced, initial=0) < schemes.TINY, 0.0, on.step)
            kept = np.asarray(np.maximum(own, least))
            return replace(on, step=kept, inverse=(1.0 / kept).astype(np.float32))
        if bias is None or numerics.bias_bits is None or on.inverse.shape != bias.shape:
            return on
        room = 2.0 ** (numerics.bias_bits - 1) - 1
        ceiling = room / np.maximum(np.abs(bias.astype(np.float64)) * float(x.inverse), schemes.TINY)
        return replace(on, inverse=np.minimum(on.inverse, ceiling).astype(np.float32))
    top = 2.0 ** (numerics.weight.bits - 1) - 1
    y = y or x
    gain = float(x.scale) / float(y.scale)
    most = float(np.abs(weight).max(initial=0)) * gain
    shift = int(np.clip(np.floor(np.log2(top / most)), 0, 31)) if most > 0 else 0
    if bias is not None and numerics.bias_bits is not None:
        # The bias is shifted with the sum; one that does not fit saturates, and more than 3 % of such cost the
        # weights a bit (tpu-mlir).
        room = 2.0 ** (numerics.bias_bits - 1)
        sizes = np.abs(bias.astype(np.float64)) * float(y.inverse)
        while shift and np.mean(np.rint(sizes * 2.0**shift) >= room) > 0.03:
            shift -= 1
    inverse = np.asarray(gain * 2.0**shift, np.float32)
    return Grid(
        inverse, 0, int(-top) - (not numerics.weight.narrow), int(top), numerics.weight.rounding, numerics.weight.bits
    )


def product_by_shift(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """``clip(round((sum + bias) / 2^shift))``, one shift for the whole tensor; the weights hold the rest."""
    shift = int(np.rint(-np.log2(float(product.step) * float(on.inverse))))
    codes = None
    if product.bias is not None:
        # Scaled in float32 and rounded away from zero (tpu-mlir).
        steps = product.bias.astype(np.float32) * np.float32(2.0**shift / float(on.scale))
        top = 2.0 ** ((numerics.bias_bits or 16) - 1)
        codes = np.clip(schemes.round_codes(steps.astype(np.float64), "half_away"), -top, top - 1).astype(np.float32)
    step = np.asarray(2.0**-shift, np.float32)
    # Sums of 2^22 and more lie beyond the bounds of 8 bits unless they are shifted by more than 14.
    if product.planes and on.rounding == "half_up" and 1 <= shift <= 14 and on.bits <= 8 and not on.zero:
        # A quarter beside integer sums turns ties upwards and nothing else: rounding to even is cheaper.
        quarter = (np.zeros(product.planes) if codes is None else codes) + 0.25
        acc = product.multiply(quarter.astype(np.float32), hint)
        return by_float(w, acc, step, kept, replace(on, rounding="half_even"), hint, planes=product.planes)
    return by_float(w, product.multiply(codes, hint), step, kept, on, hint, planes=product.planes)


def product_by_multiplier(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """``clip(round((sum + bias) * m / 2^shift))``, integer ``m`` of ``details["multiplier_bits"]`` bits a channel.

    ``m / 2^shift`` has at most 24 significant bits here and the product is rounded to float32 before it is rounded to
    an integer; a chip that keeps the whole product differs where it lies within 2^-18 of a tie.
    """
    bits = min(int(numerics.details.get("multiplier_bits", "24")), 24)
    real = np.asarray(product.step / on.scale)
    codes = None if product.bias is None else bias_codes(product, numerics.bias_bits or 32)
    most = int(numerics.details.get("multiplier_max_shift", "0"))
    if most:
        return _whole_product(w, product, np.rint(real.astype(np.float32) * 2.0**most) / 2.0**most, codes, kept, hint)
    ratio = along(rounded_multiplier(real, bits), product.rank, product.axis)
    return by_float(w, product.multiply(codes, hint), ratio, kept, on, hint, planes=product.planes)


def _whole_product(
    w: Writer, product: Product, ratio: NDArray[np.float64], codes: F32 | None, kept: Bounds, hint: str
) -> str:
    """``clip(floor(acc * ratio + 1/2))`` with the product held in full: 24 by 24 bits fit a float64."""
    shape = [1] * product.rank
    if ratio.size > 1:
        shape[product.axis] = -1
    wide = w.op("Cast", [product.multiply(codes, hint)], f"{hint}/wide", to=onnx.TensorProto.DOUBLE)
    wide = w.op("Mul", [wide, w.const(ratio.reshape(shape), np.float64)], f"{hint}/scaled")
    wide = w.op("Floor", [w.op("Add", [wide, w.const(0.5, np.float64)], f"{hint}/half")], f"{hint}/round")
    rounded = w.op("Cast", [wide], f"{hint}/narrow", to=onnx.TensorProto.FLOAT)
    return w.op("Clip", [rounded, w.const(kept.low), w.const(kept.high)], hint)


SPLIT_BITS = 15
"""Bits of the multiplier under ``split``."""


WIDE_SHIFT = 8
"""Sums of 16-bit codes are shifted by at least this before the multiplication."""


def product_by_split(w: Writer, product: Product, kept: Bounds, on: Grid, numerics: Numerics, hint: str) -> str:
    """``clip((((sum + bias) >> before) * m) >> after)`` with a 15-bit ``m``, all shifts floor.

    ``bias`` holds half an output step. The shifts are those of :func:`split_shifts`. A shortcut is added to the sum
    as ``(code * n) >> k`` with a 15-bit ``n``. (Horizon's quantised networks, found by comparing every layer of them:
    equal to the last bit.)
    """
    step = np.atleast_1d(product.step).astype(np.float32).astype(np.float64)
    ratio = step / float(on.scale)
    raised = raised_by(on)
    total, after = split_shifts(ratio, on.high - raised)
    if product.wide:
        after = np.minimum(after, total - WIDE_SHIFT)
    before = total - after
    multiplier = np.minimum(np.rint(np.ldexp(ratio, total.astype(int))), 2.0**SPLIT_BITS - 1)
    half = np.rint(0.5 * float(on.scale) / step)
    codes = half if product.bias is None else half + np.rint(product.bias.astype(np.float64) / step)
    if raised:
        codes = codes + np.ldexp(np.ceil(-raised * np.ldexp(1.0, after.astype(int)) / multiplier), before.astype(int))
    addend = ""
    if product.addend is not None:
        addend, constant = _addend(w, product.addend, product, step, f"{hint}/addend")
        codes = codes + constant
    room = 2.0 ** ((numerics.bias_bits or 32) - 1)
    codes = np.clip(codes, -room, room - 1)
    if product.wide:
        return _split_wide(w, product, codes, multiplier, before, after, kept, hint)
    acc = product.multiply(codes.astype(np.float32), hint)
    if addend:
        acc = w.op("Add", [acc, addend], f"{hint}/sum")
    if before.any():
        shift = np.ldexp(1.0, -before.astype(int))
        # 16 bits are left of sums within the range, so those have at most 16 + 7.
        acc = _floors(w, acc, shift, shift, product, f"{hint}/shifted", on.bits <= 8 and before.max() <= 7)
    code = _floor_product(w, acc, multiplier, after, product, hint)
    code = w.op("Clip", [code, w.const(kept.low - raised), w.const(kept.high - raised)], hint)
    if not raised:
        return code
    one = np.ones((), np.float32)
    return scale(w, code, one, f"{hint}/raised", bias=np.asarray(raised, np.float32), planes=product.planes)


def _split_wide(
    w: Writer,
    product: Product,
    bias: NDArray[np.float64],
    multiplier: NDArray[np.float64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    kept: Bounds,
    hint: str,
) -> str:
    """The same of sums in float64."""

    def by(values: NDArray[np.float64], tensor: str, name: str) -> str:
        shape = [1] * product.rank
        if values.size > 1:
            shape[product.axis] = -1
        return w.op("Mul", [tensor, w.const(values.reshape(shape), np.float64)], f"{hint}/{name}")

    acc = product.multiply(bias if bias.size > 1 or product.rank == 0 else np.resize(bias, product.step.size), hint)
    acc = w.op("Floor", [by(np.ldexp(1.0, -before.astype(int)), acc, "shift")], f"{hint}/shifted")
    acc = w.op("Floor", [by(np.ldexp(multiplier, -after.astype(int)), acc, "scaled")], f"{hint}/round")
    code = w.op("Cast", [acc], f"{hint}/narrow", to=onnx.TensorProto.FLOAT)
    return w.op("Clip", [code, w.const(kept.low), w.const(kept.high)], hint)


def rounded_split(w: Writer, x: str, ratio: float, kept: Bounds, on: Grid, hint: str) -> str:
    """``clip(round(((x >> before) * m) >> after))`` of an integer-valued ``x``: ties go up, ``before`` floors.

    What ``split`` does where there is no bias to hold half a step: sums of two tensors, products, averages. In float64,
    which holds every product.
    """
    total, after = (float(v[0]) for v in split_shifts(np.atleast_1d(np.float64(abs(ratio))), on.high - raised_by(on)))
    multiplier = float(np.rint(np.ldexp(ratio, int(total))))
    wide = w.op("Cast", [x], f"{hint}/wide", to=onnx.TensorProto.DOUBLE)
    if total > after:
        wide = w.op("Mul", [wide, w.const(2.0 ** (after - total), np.float64)], f"{hint}/shift")
        wide = w.op("Floor", [wide], f"{hint}/shifted")
    wide = w.op("Mul", [wide, w.const(np.ldexp(multiplier, -int(after)), np.float64)], f"{hint}/scaled")
    wide = w.op("Floor", [w.op("Add", [wide, w.const(0.5, np.float64)], f"{hint}/half")], f"{hint}/round")
    rounded = w.op("Cast", [wide], f"{hint}/narrow", to=onnx.TensorProto.FLOAT)
    return w.op("Clip", [rounded, w.const(kept.low), w.const(kept.high)], hint)


def split_term(step: float, first: float) -> tuple[float, float]:
    """Factors of the codes of the first term of a sum under ``split``, and of another's with this step.

    Both are integers: a power of two, and the ratio of the steps as 15 bits of it.
    """
    shift = SPLIT_BITS - 1 - int(np.floor(np.log2(step / first)))
    return float(np.ldexp(1.0, shift)), float(np.rint(np.ldexp(step / first, shift)))


def raised_by(on: Grid) -> float:
    """What is added to the codes that the chip computes: its codes without a sign are signed ones, raised."""
    return 2.0 ** (on.bits - 1) if on.low == 0 else 0.0


def _addend(
    w: Writer, addend: Codes, product: Product, step: NDArray[np.float64], hint: str
) -> tuple[str, NDArray[np.float64]]:
    """``(code * n) >> k`` with a 15-bit ``n``, and what the bias holds of it, by channel."""
    share = float(addend.grid.scale) / step
    power = SPLIT_BITS - 1 - np.floor(np.log2(share))
    quantum = np.ldexp(1.0, -power.astype(int))
    held = np.rint(share / quantum) * quantum
    tensor, raised = addend.tensor, raised_by(addend.grid)
    if raised:
        tensor = w.op("Sub", [tensor, w.const(raised)], f"{hint}/signed")
    # A code of 8 bits by 15 bits.
    return _floors(w, tensor, held, quantum, product, hint, addend.grid.bits <= 8), np.floor(raised * held)


def split_shifts(ratio: NDArray[np.float64], top: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The whole shift and the one after the multiplication, by channel, for codes up to ``top``.

    The multiplier has 15 bits. The sum of the largest code must not exceed 2^15 - 1 before the multiplication. The
    ratio itself decides, not its multiplier: between two shifts lie multipliers that go with either.
    """
    total = np.minimum(SPLIT_BITS - 1 - np.floor(np.log2(ratio)), 37)
    most = np.floor(np.log2((2.0**SPLIT_BITS - 1) * np.ldexp(ratio, total.astype(int)) / top))
    return total, np.minimum(total, most)


def _floors(
    w: Writer,
    x: str,
    ratio: NDArray[np.float64],
    quantum: NDArray[np.float64],
    product: Product,
    hint: str,
    exact: bool = True,
) -> str:
    step = along(quantum, product.rank, product.axis) if exact else None
    held = along(ratio, product.rank, product.axis)
    return floor(w, x, held, hint, quantum=step, planes=product.planes)


def _floor_product(
    w: Writer, x: str, multiplier: NDArray[np.float64], shift: NDArray[np.float64], product: Product, hint: str
) -> str:
    """``(x * multiplier) >> shift`` of a 16-bit ``x``, exact: 31-bit products do not fit into float32.

    ``multiplier = 128 a + b``, so that ``(x * multiplier) >> 7`` is ``x * a + ((x * b) >> 7)``.
    """

    def by(values: NDArray[np.float64], tensor: str, name: str) -> str:
        return scale(w, tensor, along(values, product.rank, product.axis), f"{hint}/{name}", planes=product.planes)

    if (shift < 7).any():
        return w.op("Floor", [by(np.ldexp(multiplier, -shift.astype(int)), x, "scaled")], f"{hint}/round")
    coarse = np.floor(multiplier / 128)
    small = np.ldexp(1.0, -7 * np.ones(shift.shape, int))
    fine = _floors(w, x, (multiplier - 128 * coarse) / 128, small, product, f"{hint}/carried")
    total = w.op("Add", [by(coarse, x, "coarse"), fine], f"{hint}/product")
    rest = np.ldexp(1.0, 7 - shift.astype(int))
    return _floors(w, total, rest, rest, product, f"{hint}/round")


def rounded_multiplier(ratio: NDArray[np.float64], bits: int) -> NDArray[np.float64]:
    """``m * 2^-shift`` nearest to ``ratio`` with ``m`` in ``[2^(bits-1), 2^bits]``."""
    mantissa, exponent = np.frexp(ratio)
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**bits), exponent - bits))


def small_multiplier(ratio: float, bits: int) -> float:
    """``m * 2^-shift`` nearest to ``ratio`` with an integer ``m`` below ``2^bits``, as tpu-mlir chooses it for
    additions and average pooling."""
    if ratio <= 0:
        return ratio
    shift = int(np.floor(np.log2((2.0**bits - 1) / ratio)))
    return float(np.ldexp(np.floor(np.ldexp(ratio, shift) + 0.5), -shift))


def multiplier_quantum(ratio: float, bits: int) -> float:
    """A power of two that divides ``ratio``, a multiplier of ``bits`` bits: its products with codes are multiples."""
    _, exponent = np.frexp(ratio)
    return float(np.ldexp(1.0, int(exponent) - bits))


Way = Callable[[Writer, Product, Bounds, Grid, Numerics, str], str]

WAYS: Mapping[str, Way] = {
    "float": product_by_float,
    "shift": product_by_shift,
    "multiplier": product_by_multiplier,
    "split": product_by_split,
}
"""By ``Numerics.requantize``."""
