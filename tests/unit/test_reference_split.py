"""The ``split`` way of requantising, held against integers: how Horizon's quantised networks compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.requantize import split_shifts
from accel.builtin.reference.schemes import quantize as quantize_array
from accel.builtin.reference.schemes import weight_grid
from accel.calibration import Range
from accel.model import Model, io_specs
from accel.target import Numerics, QuantScheme
from onnx import TensorProto, helper, numpy_helper

NUMERICS = Numerics(
    precision="int8",
    quantized_ops=frozenset({"Conv", "Add", "Relu"}),
    activation=QuantScheme(rule="step"),
    weight=QuantScheme(granularity="channel", rule="step", narrow=True, rounding="half_away"),
    bias_bits=31,
    requantize="split",
    details={"float_outputs": "Conv"},
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
        exact = row.astype(np.float64) / np.float64(sw)
        codes = (np.sign(exact) * np.floor(np.abs(exact) + 0.5)).astype(np.int64)
        product = np.float64(np.float32(np.float32(sx) * np.float32(sw)))
        ratio = product / np.float64(sy)
        total = min(14 - int(np.floor(np.log2(ratio))), 37)
        m = min(int(np.rint(ratio * 2.0**total)), 32767)
        after = max(k for k in range(total + 1) if 127 * 2.0**k <= ratio * 2.0**total * 32767)
        acc = np.tensordot(codes, x, 1) + int(np.rint(0.5 * np.float64(sy) / product))
        if bias is not None:
            acc = acc + int(np.rint(np.float64(bias[at]) / product))
            assert np.abs(acc).max() < 2**30
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
        weights[4] = 0.0  # and one of none
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


def parameters(gain: float, bias: float) -> dict[str, int]:
    """Codes of the weight and the bias of a 1x1 convolution of one channel."""
    weights = np.float32(gain).reshape(1, 1, 1, 1)
    model = network(weights, np.float32([bias]), np.ones((1, 1, 1, 1), np.float32))
    made = quantize(model, NUMERICS, {**RANGES, "x": Range(-1, 1), "a": Range(0, 1)})
    proto = made.proto
    held = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    acc = next(n for n in proto.graph.node if n.output[0] == "a/codes/acc")
    return {"weight": int(held[acc.input[1]].item()), "bias": int(held[acc.input[2]].item())}


def test_biases_saturate_at_31_bits() -> None:
    assert parameters(1e-7, -5e3)["bias"] == -(2**30)
    assert parameters(1e-7, 5e3)["bias"] == 2**30  # 2^30 - 1 as float32


def test_weights_round_ties_away_from_zero() -> None:
    scheme = NUMERICS.weight
    assert scheme is not None
    on = weight_grid(scheme, np.float32([[127, 84.5, -84.5, 0.5, -0.5]]), 0)
    assert quantize_array(np.float32([[127, 84.5, -84.5, 0.5, -0.5]]), on, 0).tolist() == [[127, 85, -85, 1, -1]]


@pytest.mark.parametrize(("ratio", "after"), [(32512.945, 22), (32513.352, 23), (32512.5, 22), (32767.2, 23)])
def test_the_ratio_decides_between_two_shifts(ratio: float, after: int) -> None:
    """Multiplier 32513 goes with either shift (both seen in MobileNetV2 as hmct quantises it)."""
    _, found = split_shifts(np.float64([ratio * 2.0**-24]), 127)
    assert found == [after]
