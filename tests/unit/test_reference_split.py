"""The ``split`` way of requantising, held against integers: how Horizon's quantised networks compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from accel.builtin.reference.quantize import quantize
from accel.calibration import Range
from accel.model import Model, io_specs
from accel.target import Numerics, QuantScheme
from onnx import TensorProto, helper, numpy_helper

NUMERICS = Numerics(
    precision="int8",
    quantized_ops=frozenset({"Conv", "Add", "Relu"}),
    activation=QuantScheme(rule="step"),
    weight=QuantScheme(granularity="channel", rule="step", narrow=True),
    bias_bits=32,
    requantize="split",
    details={"float_outputs": "yes"},
)
RANGES = {"x": Range(-2.1, 1.9), "a": Range(0.0, 3.3), "s": Range(-4.7, 4.1), "y": Range(-3.0, 3.0)}


def network(weights: np.ndarray, bias: np.ndarray, last: np.ndarray) -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "one"),
        helper.make_node("Relu", ["c"], ["a"], "relu"),
        helper.make_node("Conv", ["a", "w"], ["d"], "two"),
        helper.make_node("Add", ["d", "a"], ["s"], "shortcut"),
        helper.make_node("Conv", ["s", "last", "b"], ["y"], "three"),
    ]
    shape = [1, len(bias), 6, 6]
    graph = helper.make_graph(
        nodes,
        "n",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, n) for n, v in (("w", weights), ("b", bias), ("last", last))],
    )
    proto = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    return Model(proto, "n", *io_specs(proto))


def step(threshold: float) -> np.float32:
    return np.float32(np.float64(np.float32(threshold)) / 127)


def layer(
    x: np.ndarray,
    sx: float,
    sy: float,
    weights: np.ndarray,
    bias: np.ndarray | None,
    low: int,
    extra: tuple | None = None,
) -> np.ndarray:
    """One 1x1 convolution on int8 codes (channels first), with integers only."""
    out = np.empty((len(weights), *x.shape[1:]), np.int64)
    for at, row in enumerate(weights[:, :, 0, 0]):
        sw = max(step(np.abs(row).max()), np.float32(2.0**-23 * float(sy) / float(sx)))
        codes = np.rint(row.astype(np.float64) / np.float64(sw)).astype(np.int64)
        product = np.float64(np.float32(np.float32(sx) * np.float32(sw)))
        ratio = product / np.float64(sy)
        total = min(14 - int(np.floor(np.log2(ratio))), 37)
        m = min(int(np.rint(ratio * 2.0**total)), 32767)
        after = max(k for k in range(total + 1) if 127 * 2**k < m * 2**15)
        acc = np.tensordot(codes, x, 1) + int(np.rint(0.5 * np.float64(sy) / product))
        if bias is not None:
            acc = acc + int(np.rint(np.float64(bias[at]) / product))
        if extra is not None:
            share = np.float64(extra[1]) / product
            power = 14 - int(np.floor(np.log2(share)))
            n = int(np.rint(share * 2.0**power))
            acc = acc + ((extra[0][at] * n) >> power if power >= 0 else extra[0][at] * n << -power)
        out[at] = np.clip(((acc >> (total - after)) * m) >> after, low, 127)
    return out


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_normal((8, 8, 1, 1)) * np.exp(rng.uniform(-6, 1, (8, 1, 1, 1)))).astype(np.float32)
    last = rng.standard_normal((8, 8, 1, 1)).astype(np.float32)
    bias = rng.standard_normal(8).astype(np.float32)
    if seed == 5:
        weights[3] = 1e-9  # a channel of nearly no weight
    x = rng.standard_normal((1, 8, 6, 6)).astype(np.float32)
    made = quantize(network(weights, bias, last), NUMERICS, RANGES)
    got = onnxruntime.InferenceSession(made.proto.SerializeToString()).run(None, {"x": x})[0][0]

    steps = {n: step(r.threshold) for n, r in RANGES.items()}
    codes = np.clip(np.rint(x[0].astype(np.float64) / steps["x"]), -128, 127).astype(np.int64)
    a = layer(codes, steps["x"], steps["a"], weights, bias, 0)
    s = layer(a, steps["a"], steps["s"], weights, None, -128, (a, steps["a"]))
    sw = np.array([step(np.abs(row).max()) for row in last])
    sums = np.tensordot(np.rint(last[:, :, 0, 0].astype(np.float64) / sw[:, None]), s, 1)
    product = (np.float32(steps["s"]) * sw).astype(np.float64)
    expected = (sums + np.rint(bias / product)[:, None, None]) * product[:, None, None]
    assert np.allclose(got, expected, rtol=1e-6, atol=1e-6)
