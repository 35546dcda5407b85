"""Rounding weights so that the errors of a kernel and of an output channel add up to nothing.

Rounding each weight to the nearest code leaves a channel's errors with a sum of their own, and activations that are
mostly of one sign turn that sum into a shift of the channel. Here the weights that are cheapest to move go to their
other neighbour until every kernel's and every output channel's errors sum to less than half a step
(Guo et al., "SQuant: on-the-fly data-free quantization via diagonal Hessian approximation", ICLR 2022). No data is
needed. The result is a float model whose moved weights lie on codes, so that whoever quantises it by the same rule,
the vendor's compiler or the reference, gets these codes.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from accel.builtin.reference import schemes
from accel.builtin.reference.schemes import F32
from accel.model import Model
from accel.target import Numerics, QuantScheme

NAME = "round_weights"
F64 = NDArray[np.float64]
_LEAST = 1e-3
"""Codes: a weight this near to its code (the largest of a channel among them) is never moved."""


def round_weights(model: Model, numerics: Numerics) -> tuple[Model, int]:
    """The model with moved weights, and how many were moved.

    Weights shared by several nodes stay as they are, as do those of operators that are not quantised.
    """
    if numerics.weight is None or NAME in model.passes:
        return model, 0
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    held = {i.name: i for i in proto.graph.initializer}
    uses: dict[str, int] = {}
    for node in proto.graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    moved = 0
    for node in proto.graph.node:
        name = node.input[1] if len(node.input) > 1 else ""
        if node.op_type not in numerics.quantized_ops or name not in held or uses[name] != 1:
            continue
        weight = numpy_helper.to_array(held[name])
        axis = _output_axis(node, weight)
        if axis is None or weight.dtype != np.float32 or not np.isfinite(weight).all():
            continue
        made = move(weight, numerics.weight, axis)
        count = int(np.count_nonzero(made != weight))
        if count:
            held[name].CopyFrom(numpy_helper.from_array(made, name))
            moved += count
    return (model.with_proto(proto, applied=NAME), moved) if moved else (model, 0)


def move(weight: F32, scheme: QuantScheme, axis: int) -> F32:
    """``weight`` with some elements at the code next to the nearest one.

    Args:
        weight: Any rank of at least two; ``axis`` holds the output channels.
        scheme: How it will be quantised.
        axis: Of the output channels.
    """
    on = schemes.weight_grid(scheme, weight, axis if scheme.granularity == "channel" else None)
    front = np.moveaxis(weight, axis, 0)
    inverse = np.resize(on.inverse, front.shape[0]).astype(np.float64).reshape((-1, 1, 1))
    kernels = front.reshape(front.shape[0], front.shape[1], -1)
    real = kernels * inverse
    codes = np.clip(np.rint(real), on.low, on.high)
    error = real - codes
    start, top = codes.copy(), float(2 ** (scheme.bits - 1) - 1)
    outputs, inputs, taps = codes.shape
    if taps > 1:
        flat_codes, flat_error = codes.reshape(-1, taps), error.reshape(-1, taps)
        _flip(flat_codes, flat_error, np.rint(flat_error.sum(axis=1)), top)
    if taps == 1:
        flat_codes, flat_error = codes.reshape(outputs, -1), error.reshape(outputs, -1)
        _flip(flat_codes, flat_error, np.rint(flat_error.sum(axis=1)), top)
    elif inputs > 1:
        _flip_kernels(codes, error, np.rint(error.sum(axis=(1, 2))), top)
    made = np.where(codes == start, kernels, (codes / inverse).astype(np.float32)).reshape(front.shape)
    return np.ascontiguousarray(np.moveaxis(made, 0, axis))


def _flip(codes: F64, error: F64, wanted: F64, top: float) -> None:
    """In each row, move the ``|wanted|`` elements whose error helps most by one code in its direction; in place."""
    sign = np.sign(wanted)[:, None]
    gain = _gain(codes, error, sign, top)
    chosen = (gain > 0) & (_rank(gain) < np.abs(wanted)[:, None])
    codes += sign * chosen
    error -= sign * chosen


def _flip_kernels(codes: F64, error: F64, wanted: F64, top: float) -> None:
    """In each output channel, one element in each of the ``|wanted|`` kernels whose sums help most; in place."""
    sign = np.sign(wanted)[:, None]
    sums = sign * error.sum(axis=2)
    gain = _gain(codes, error, sign[:, :, None], top)
    best = gain.argmax(axis=2)
    able = np.take_along_axis(gain, best[:, :, None], axis=2)[:, :, 0] > 0
    usable = np.where(able, sums, -np.inf)
    chosen = (usable > 0) & (_rank(usable) < np.abs(wanted)[:, None])
    channel, kernel = np.nonzero(chosen)
    step = sign[channel, 0]
    codes[channel, kernel, best[chosen]] += step
    error[channel, kernel, best[chosen]] -= step


def _gain(codes: F64, error: F64, sign: F64, top: float) -> F64:
    gain = sign * error
    return np.where((gain > _LEAST) & (np.abs(codes + sign) <= top), gain, 0.0)


def _rank(values: F64) -> NDArray[np.intp]:
    """Place of each value in its row, the largest first."""
    return np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1, kind="stable")


def _output_axis(node: onnx.NodeProto, weight: np.ndarray) -> int | None:
    if weight.ndim < 2:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1
    return weight.ndim - 1 if node.op_type == "MatMul" and weight.ndim == 2 else None
