"""The arithmetic of the CNNL guide in plain NumPy, written from its formulas: what the reference is held to.

Codes are integers, sums are exact (int64), one float32 division brings them back. ``n`` is the number of bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

F32 = np.float32


@dataclass(frozen=True)
class Parameters:
    """``q = clamp(round(x * scale / 2^position + offset))``."""

    position: int
    scale: np.float32
    offset: int
    bits: int

    @property
    def inverse(self) -> np.float32:
        """Codes a unit: ``scale / 2^position``, exact in float32."""
        return F32(np.ldexp(self.scale, -self.position))


def floor_log2(x: float) -> int:
    return math.frexp(x)[1] - 1


def position_only(absmax: float, bits: int) -> Parameters:
    position = floor_log2(absmax) - (bits - 2) if absmax else 0
    return Parameters(position, F32(1), 0, bits)


def symmetric(absmax: float, bits: int) -> Parameters:
    if absmax == 0:
        return Parameters(0, F32(1), 0, bits)
    position = floor_log2(absmax) - (bits - 2)
    return Parameters(position, F32(2.0**position * (2 ** (bits - 1) - 1) / absmax), 0, bits)


def asymmetric(low: float, high: float, bits: int) -> Parameters:
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Parameters(0, F32(1), 0, bits)
    width, steps = high - low, 2**bits - 1
    position = floor_log2(width) - (bits - 1)
    offset = int(np.rint(-(2 ** (bits - 1)) - low * steps / width))
    return Parameters(position, F32(2.0**position * steps / width), offset, bits)


def quantize(x: np.ndarray, p: Parameters) -> np.ndarray:
    """int64 codes."""
    scaled = np.ldexp(np.asarray(x, F32) * p.scale, -p.position).astype(np.float64)
    codes = np.rint(scaled + p.offset)
    return np.clip(codes, -(2 ** (p.bits - 1)), 2 ** (p.bits - 1) - 1).astype(np.int64)


def dequantize(codes: np.ndarray, p: Parameters) -> np.ndarray:
    return ((codes - p.offset).astype(np.float64) * 2.0**p.position / np.float64(p.scale)).astype(F32)


def weight_parameters(w: np.ndarray, bits: int, axis: int | None) -> list[Parameters]:
    """One for the tensor, or one for each index of ``axis``; always symmetric."""
    if axis is None:
        return [symmetric(float(np.abs(w).max(initial=0)), bits)]
    return [symmetric(float(np.abs(part).max(initial=0)), bits) for part in np.moveaxis(w, axis, 0)]


def quantize_weight(w: np.ndarray, parameters: list[Parameters], axis: int | None) -> np.ndarray:
    if axis is None or len(parameters) == 1:
        return quantize(w, parameters[0])
    parts = [quantize(part, p) for part, p in zip(np.moveaxis(w, axis, 0), parameters, strict=True)]
    return np.moveaxis(np.stack(parts), 0, axis)


def convolve(x: np.ndarray, w: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """Exact convolution of integers: [n, c, ...] by [out, c / group, ...]."""
    rank = w.ndim - 2
    strides, dilations = (list(attrs.get(k, [1] * rank)) for k in ("strides", "dilations"))
    group, pads = attrs.get("group", 1), list(attrs.get("pads", [0] * 2 * rank))
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, w.shape[2:], strict=True)]
    auto = attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        total = [
            max((-(-size // s) - 1) * s + k - size, 0) for size, s, k in zip(x.shape[2:], strides, spans, strict=True)
        ]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    out = [(size - k) // s + 1 for size, s, k in zip(x.shape[2:], strides, spans, strict=True)]
    result = np.zeros((x.shape[0], w.shape[0], *out), np.result_type(x, w))
    inside, each = w.shape[1], w.shape[0] // group
    for tap in np.ndindex(*w.shape[2:]):
        at = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilations, out, strides, strict=True)
        )
        view = x[(slice(None), slice(None), *at)]
        for g in range(group):
            rows = slice(g * each, (g + 1) * each)
            kernel = w[(rows, slice(None), *tap)]
            result[:, rows] += np.einsum("oc,nc...->no...", kernel, view[:, g * inside : (g + 1) * inside])
    return result


def deconvolve(x: np.ndarray, w: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """Exact transposed convolution of integers: [n, c, ...] by [c, out / group, ...]."""
    rank = w.ndim - 2
    strides, dilations = (list(attrs.get(k, [1] * rank)) for k in ("strides", "dilations"))
    group, pads = attrs.get("group", 1), list(attrs.get("pads", [0] * 2 * rank))
    extra = list(attrs.get("output_padding", [0] * rank))
    sizes = [
        (size - 1) * s + d * (k - 1) + 1 + e
        for size, s, d, k, e in zip(x.shape[2:], strides, dilations, w.shape[2:], extra, strict=True)
    ]
    result = np.zeros((x.shape[0], w.shape[1] * group, *sizes), np.result_type(x, w))
    inside, each = w.shape[0] // group, w.shape[1]
    for tap in np.ndindex(*w.shape[2:]):
        at = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, x.shape[2:], strides, strict=True)
        )
        for g in range(group):
            cut = slice(g * inside, (g + 1) * inside)
            part = np.einsum("co,nc...->no...", w[(cut, slice(None), *tap)], x[:, cut])
            result[(slice(None), slice(g * each, (g + 1) * each), *at)] += part
    kept = tuple(slice(b, size - e) for b, e, size in zip(pads[:rank], pads[rank:], sizes, strict=True))
    return result[(slice(None), slice(None), *kept)]


def real(acc: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """``acc * 2^(px + pw) / (sx * sw)`` in float32; ``steps`` is ``sx * sw / 2^(px + pw)``, rounded to float32."""
    return (acc.astype(F32) / steps.astype(F32)).astype(F32)


@dataclass(frozen=True)
class Mode:
    """A precision mode with its options."""

    bits: int
    half: bool
    asymmetric: bool = False
    per_axis: bool = True

    @staticmethod
    def of(precision: str, *, asymmetric: bool = False, per_axis: bool = True) -> Mode:
        bits = 8 if precision.startswith("qint8") else 16 if precision.startswith("qint16") else 0
        return Mode(bits, precision.endswith("float16"), asymmetric, per_axis)

    def rounded(self, x: np.ndarray) -> np.ndarray:
        if not self.half or x.dtype != F32:
            return x
        with np.errstate(over="ignore"):
            return x.astype(np.float16).astype(F32)


def run_graph(
    proto: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    mode: Mode,
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, np.ndarray]:
    """Every tensor of the graph, computed node by node as ``mode`` says."""
    values: dict[str, np.ndarray] = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    held = set(values)
    values.update({name: np.asarray(a) for name, a in feeds.items()})
    opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    for node in proto.graph.node:
        inputs = [values[name] if name else None for name in node.input]
        if node.op_type == "Constant":
            held.add(node.output[0])
        fixed = mode.bits and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")
        if fixed and all(i is not None and i.dtype == F32 for i in inputs[:2]):
            outputs = [_fixed(node, [i for i in inputs if i is not None], held, mode, ranges)]
        else:
            given = [None if i is None else mode.rounded(i) for i in inputs]
            outputs = [mode.rounded(np.asarray(o)) for o in _plain(node, given, opset)]
        values.update(zip(node.output, outputs, strict=False))
    return values


def _fixed(
    node: onnx.NodeProto,
    inputs: list[np.ndarray],
    held: set[str],
    mode: Mode,
    ranges: Mapping[str, tuple[float, float]],
) -> np.ndarray:
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()}
    x, px = _activation(node.input[0], mode.rounded(inputs[0]), mode, ranges)
    w = inputs[1]
    product, axis = node.op_type in ("Gemm", "MatMul"), 1 if node.op_type == "ConvTranspose" else 0
    if node.op_type == "Gemm" and attrs.get("transB"):
        w = w.T
    if node.input[1] not in held:
        codes, pw = _activation(node.input[1], mode.rounded(w), mode, ranges)
        weights = [pw]
        codes = codes - pw.offset
    else:
        axis = w.ndim - 1 if product else axis
        weights = weight_parameters(w, mode.bits, axis if mode.per_axis and (not product or w.ndim == 2) else None)
        codes = quantize_weight(w, weights, axis if len(weights) > 1 or mode.per_axis else None)
    centred = x - px.offset  # zero padding is real zero
    if node.op_type == "Conv":
        acc = convolve(centred, codes, attrs)
    elif node.op_type == "ConvTranspose":
        acc = deconvolve(centred, codes, attrs)
    else:
        acc = np.matmul(centred, codes)
    steps = np.array([px.inverse * p.inverse for p in weights], F32)
    if node.op_type == "ConvTranspose" and len(steps) > 1:
        steps = np.tile(steps, attrs.get("group", 1))
    shape = (-1,) if product or len(steps) == 1 else (-1,) + (1,) * (acc.ndim - 2)
    value = real(acc, steps.reshape(shape))
    if len(inputs) > 2:
        bias = mode.rounded(inputs[2])
        value = value + (bias if product else bias.reshape((-1,) + (1,) * (acc.ndim - 2)))
    return mode.rounded(value)


def _activation(
    name: str, x: np.ndarray, mode: Mode, ranges: Mapping[str, tuple[float, float]]
) -> tuple[np.ndarray, Parameters]:
    low, high = ranges[name]
    p = asymmetric(low, high, mode.bits) if mode.asymmetric else symmetric(max(abs(low), abs(high)), mode.bits)
    return quantize(x, p), p


def _plain(node: onnx.NodeProto, inputs: list[np.ndarray | None], opset: int) -> list[np.ndarray]:
    names = [n for n, i in zip(node.input, inputs, strict=True) if i is not None]
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in dict.fromkeys(names)],
        [helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in node.output],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        given = {n: i for n, i in zip(node.input, inputs, strict=True) if i is not None}
        return [np.asarray(o) for o in ReferenceEvaluator(model).run(None, given)]
