"""Sums that are shifted tie often: the fast form of half_up against integers."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference import elementwise, schemes
from accel.builtin.reference.elementwise import Bounds
from accel.builtin.reference.graph import Writer
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.requantize import multiplier_quantum, small_multiplier, weight_grid
from accel.builtin.reference.runner import ReferenceRunner, session
from accel.builtin.reference.schemes import Grid
from accel.calibration import Range
from accel.numerics import STORED_OPS
from accel.target import Numerics, QuantScheme
from onnx import TensorProto, helper
from support import reference_numpy
from support.networks import network

UP = Grid(np.float32(1), 0, -128, 127, "half_up", 8)


def run(values, ratio, quantum, planes):
    w = Writer()
    w.name("x")
    made = elementwise.by_float(
        w, "x", np.asarray(ratio, np.float32), Bounds(-128, 127), UP, "y", planes=planes, quantum=quantum
    )
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", made)]
    graph = helper.make_graph(w.nodes, "g", info[:1], info[1:], list(w.constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return session(model.SerializeToString(), 1).run(None, {"x": values})[0], {n.op_type for n in w.nodes}


@pytest.mark.parametrize("shift", [1, 3, 8, 12, 14])
def test_shifted_sums(shift):
    rng = np.random.default_rng(shift)
    sums = np.concatenate(
        [
            rng.integers(-(2**22), 2**22, 3000),
            (2 * rng.integers(-300, 300, 3000) + 1) << (shift - 1),  # ties
            ((2 * rng.integers(-300, 300, 3000) + 1) << (shift - 1)) - 1,
            rng.integers(-(2**24) + 1, 2**24, 600),
        ]
    ).reshape(1, 16, -1, 1)
    want = np.clip((sums + (1 << (shift - 1))) >> shift, -128, 127)
    for planes, quantum in ((0, 0.0), (16, 2.0**-shift)):
        got, ops = run(sums.astype(np.float32), 2.0**-shift, quantum, planes)
        np.testing.assert_array_equal(got, want)
        assert ("Floor" in ops) == (planes == 0)


@pytest.mark.parametrize("ratio", [0.37, 1.0, 0.0123, 1.9, 0.5])
def test_small_multipliers(ratio):
    multiplier = small_multiplier(ratio, 7)
    codes = np.tile(np.arange(-255, 256), 16).reshape(1, 16, -1, 1)
    quantum = multiplier_quantum(multiplier, 7)
    assert multiplier / quantum == round(multiplier / quantum)
    want = np.clip(np.floor(codes * multiplier + 0.5), -128, 127)
    got, _ = run(codes.astype(np.float32), multiplier, quantum, 16)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [16, 24])
def test_one_shift_a_convolution(channels, bias):
    rng = np.random.default_rng(channels)
    numerics = Numerics(
        "int8",
        quantized_ops=STORED_OPS,
        activation=QuantScheme(8, rule="full_range", rounding="half_up"),
        weight=QuantScheme(8, narrow=True),
        bias_bits=16,
        requantize="shift",
    )
    x = rng.normal(0, 1, (1, channels, 9, 9)).astype(np.float32)
    w = rng.normal(0, 0.2, (channels, channels, 3, 3)).astype(np.float32)
    b = rng.normal(0, 1, channels).astype(np.float32)
    constants = {"w": w, "b": b} if bias else {"w": w}
    model = network([("Conv", ["x", *constants], ["y"], {"pads": [1] * 4})], {"x": x.shape}, {"y": None}, constants)
    ranges = {"x": Range(-3, 3), "y": Range(-10, 10)}
    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = np.rint(runner.run({"x": x}, ["y"])["y"] * np.float32(made.tensors["y"].inverse))
    gx, gy = (schemes.activation_grid(numerics.activation, ranges[n]) for n in "xy")
    on = weight_grid(numerics, w, 0, gx, gy, b if bias else None)
    shift = round(np.log2(float(on.inverse) * float(gx.inverse) / float(gy.inverse)))
    acc = reference_numpy.conv(schemes.quantize(x, gx), schemes.quantize(w, on), pad=1)
    if bias:
        steps = schemes.round_codes(b.astype(np.float64) * 2.0**shift / float(gy.scale), "half_away")
        acc += np.clip(steps, -(2**15), 2**15 - 1).astype(np.int64).reshape(1, -1, 1, 1)
    np.testing.assert_array_equal(got, np.clip((acc + (1 << (shift - 1))) >> shift, -128, 127))


def test_weights_beside_a_tie_are_divided_in_float64() -> None:
    """BM1684X's compiler divides weights by their step; the product with its reciprocal rounds some otherwise."""
    from accel.plugins import Registry

    numerics = Registry().target("bm1684x").numerics_for("int8")
    rng = np.random.default_rng(0)
    largest = rng.uniform(0.1, 2, 20000).astype(np.float32)
    step = (largest / np.float32(127)).astype(np.float64)
    # The float32 nearest to a tie lies above or below it.
    weight = np.stack([largest, (step * (rng.integers(1, 126, len(step)) + 0.5)).astype(np.float32)], axis=1)
    exact = weight[:, 1] / step
    x = schemes.activation_grid(numerics.activation, Range(-1, 1))
    on = weight_grid(numerics, weight, 0, x, x)
    codes = schemes.quantize(weight, on, 0)[:, 1]
    assert np.array_equal(codes, np.floor(exact + 0.5))
    product = np.floor((weight[:, 1] * on.inverse).astype(np.float64) + 0.5)
    assert (product != codes).any()
