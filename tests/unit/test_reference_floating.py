"""Half precisions, and fixed-point inputs with floating results, against NumPy bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference import schemes
from accel.builtin.reference.context import round_float
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import ReferenceRunner
from accel.calibration import Range
from accel.numerics import fixed_inputs, float_numerics
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference_numpy
from support.networks import network


def run(model, numerics, feeds, ranges=None, fetch=None):
    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        return runner.run(feeds, fetch)


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=30),
    kind=st.sampled_from(["fp16", "bf16"]),
)
def test_every_result_is_rounded_like_the_type(values, kind):
    x = np.asarray(values, np.float32)
    model = network([("Mul", ["x", "c"], ["y"], {})], {"x": x.shape}, {"y": x.shape}, {"c": np.float32(1.1)})
    with np.errstate(over="ignore", invalid="ignore"):
        want = round_float(round_float(x, kind) * round_float(np.float32(1.1), kind), kind)
    np.testing.assert_array_equal(run(model, float_numerics(kind), {"x": x})["y"], want)


def test_bf16_is_float32_without_its_lower_half():
    x = np.float32([1.0, 1.00390625, 1.01171875, 3.4e38, -1e-40, np.inf])
    want = np.float32([1.0, 1.0, 1.015625, np.inf, -1e-40, np.inf])
    got = round_float(x, "bf16")
    np.testing.assert_array_equal(got[[0, 1, 2, 3, 5]], want[[0, 1, 2, 3, 5]])
    assert got[4] == pytest.approx(-1e-40, rel=0.01)


def test_fp16_overflows_to_infinity_and_stays_so():
    nodes = [("Mul", ["x", "x"], ["square"], {}), ("Sub", ["square", "square"], ["y"], {})]
    model = network(nodes, {"x": [3]}, {"y": [3]})
    got = run(model, float_numerics("fp16"), {"x": np.float32([10, 256, 255])}, fetch=["square", "y"])
    np.testing.assert_array_equal(got["square"], np.float32([100, np.inf, 65024]))
    np.testing.assert_array_equal(got["y"], np.float32([0, np.nan, 0]))


def test_overflow_is_counted_from_its_first_tensor_on():
    nodes = [("Mul", ["x", "x"], ["square"], {}), ("Relu", ["square"], ["r"], {}), ("Mul", ["r", "c"], ["y"], {})]
    model = network(nodes, {"x": [3]}, {"y": [3]}, {"c": np.float32(0)})
    made = quantize(model, float_numerics("fp16"))
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        assert runner.nonfinite({"x": np.float32([10, 300, 255])}) == {"square": 1, "r": 1, "y": 1}
        assert runner.nonfinite({"x": np.float32([10, 30, 255])}) == {}


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([8, 16]),
    symmetric=st.booleans(),
    kind=st.sampled_from(["fp16", "fp32"]),
    weights=st.sampled_from(["tensor", "channel"]),
    group=st.sampled_from([1, 2, 16]),
    extreme=st.booleans(),
)
def test_fixed_point_inputs_floating_result(seed, bits, symmetric, kind, weights, group, extreme):
    rng = np.random.default_rng(seed)
    x = rng.normal(0.5, 2, (1, 16, 6, 5)).astype(np.float32)
    w = rng.normal(0, 1, (16, 16 // group, 3, 3)).astype(np.float32)
    b = rng.normal(0, 1, 16).astype(np.float32)
    if extreme:
        x, w = np.sign(x) * np.float32(3.7), np.sign(w)
    model = network([("Conv", ["x", "w", "b"], ["y"], {"pads": [1] * 4, "group": group})],
                    {"x": x.shape}, {"y": None}, {"w": w, "b": b})  # fmt: skip
    numerics = fixed_inputs(bits, precision="q", float_type=kind, symmetric=symmetric, weights=weights)
    ranges = {"x": Range(float(x.min()), float(x.max()))}
    got = run(model, numerics, {"x": x}, ranges)["y"]

    gx = schemes.activation_grid(numerics.activation, ranges["x"])
    gw = schemes.weight_grid(numerics.weight, w, 0 if weights == "channel" else None)
    codes_x, codes_w = schemes.quantize(round_float(x, kind), gx), schemes.quantize(w, gw, 0)
    acc = reference_numpy.conv(codes_x, codes_w, pad=1, group=group).astype(np.float32)
    steps = np.broadcast_to(gx.inverse * gw.inverse, (16,)).astype(np.float32).reshape(1, -1, 1, 1)
    want = round_float(acc / steps + round_float(b, kind).reshape(1, -1, 1, 1), kind)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("bits", [8, 16])
def test_gemm_and_matmul_with_fixed_point_inputs(bits):
    rng = np.random.default_rng(3)
    x, w, b = (rng.normal(0, 1, s).astype(np.float32) for s in ((4, 2000), (10, 2000), (10,)))
    nodes = [("Gemm", ["x", "w", "b"], ["g"], {"transB": 1}), ("MatMul", ["x", "wt"], ["m"], {})]
    model = network(nodes, {"x": x.shape}, {"g": None, "m": None}, {"w": w, "b": b, "wt": np.ascontiguousarray(w.T)})
    numerics = fixed_inputs(bits, precision="q", float_type="fp16")
    top = float(np.abs(x).max())
    got = run(model, numerics, {"x": x}, {"x": Range(-top, top)})
    gx = schemes.activation_grid(numerics.activation, Range(-top, top))
    gw = schemes.weight_grid(numerics.weight, w, 0)
    codes = schemes.quantize(round_float(x, "fp16"), gx).astype(np.int64), schemes.quantize(w, gw, 0).astype(np.int64)
    real = (codes[0] @ codes[1].T).astype(np.float32) / (gx.inverse * gw.inverse)
    np.testing.assert_array_equal(got["m"], round_float(real, "fp16"))
    np.testing.assert_array_equal(got["g"], round_float(real + round_float(b, "fp16"), "fp16"))


def test_other_operators_stay_floating():
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Sigmoid", ["c"], ["s"], {}), ("Mul", ["c", "s"], ["y"], {})]
    x, w = np.ones((1, 4, 3, 3), np.float32), np.ones((4, 4, 1, 1), np.float32)
    model = network(nodes, {"x": x.shape}, {"y": None}, {"w": w})
    made = quantize(model, fixed_inputs(8, precision="q"), {"x": Range(-1, 1)})
    assert [n.precision for n in made.nodes] == ["q", "fp16", "fp16"]
    assert made.tensors["c"].inverse is None
    assert not made.notes  # this is how the chip computes, nothing fell back
