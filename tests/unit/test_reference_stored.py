"""Stored codes: the graph on ONNX Runtime against a NumPy model in integers, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference import schemes
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import ReferenceRunner
from accel.calibration import Range
from accel.errors import AccelError
from accel.numerics import float_numerics, stored_int
from accel.target import Numerics, QuantScheme
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference_numpy
from support.networks import every_tensor, network, residual_net, seen_ranges

INT8 = stored_int(8)
RULES = ("max_code", "full_range", "power_of_two", "position_scale", "affine", "position_scale_offset")


def codes_of(runner, feeds, name):
    """The centred codes a tensor is stored in."""
    form = runner.form(name)
    return np.rint(runner.run(feeds, [name])[name] * np.float32(form.inverse)).astype(np.int64)


def stored(rule="max_code", symmetric=True, rounding="half_even", weights="channel", **more):
    activation = QuantScheme(8, symmetric, rule=rule, rounding=rounding)
    weight = QuantScheme(8, granularity=weights, narrow=True)
    return Numerics("int8", "fp32", INT8.quantized_ops, activation, weight, bias_bits=32, **more)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    rule=st.sampled_from(RULES),
    rounding=st.sampled_from(["half_even", "half_up", "half_away"]),
    weights=st.sampled_from(["tensor", "channel"]),
    group=st.sampled_from([1, 4]),
    stride=st.sampled_from([1, 2]),
    relu=st.booleans(),
    extreme=st.sampled_from(["", "saturated", "faint"]),
    channels=st.sampled_from([4, 8, 24, 32]),
)
def test_convolution_is_bit_exact(seed, rule, rounding, weights, group, stride, relu, extreme, channels):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (2, channels, 7, 6)).astype(np.float32)
    w = rng.normal(0, 1, (channels, channels // group, 3, 3)).astype(np.float32)
    b = rng.normal(0, 3, channels).astype(np.float32)
    if extreme == "saturated":
        x, w = np.sign(x), np.sign(w)
    elif extreme == "faint":  # a channel whose bias is beyond 2^24 accumulator steps
        w[0] *= 1e-5
        b[0] = 5.0
    nodes = [("Conv", ["x", "w", "b"], ["c"], {"pads": [1] * 4, "strides": [stride] * 2, "group": group})]
    nodes.append(("Relu" if relu else "Identity", ["c"], ["y"], {}))
    model = network(nodes, {"x": x.shape}, {"y": None}, {"w": w, "b": b})
    symmetric = rule not in ("affine", "position_scale_offset")
    numerics = stored(rule, symmetric, rounding, weights)
    ranges = {"x": Range(float(x.min()), float(x.max())), "c": Range(-9.0, 12.0), "y": Range(0.0, 11.0)}

    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = codes_of(runner, {"x": x}, "y")

    gx = schemes.activation_grid(numerics.activation, ranges["x"])
    gy = schemes.activation_grid(numerics.activation, ranges["y" if relu else "c"])
    gw = schemes.weight_grid(numerics.weight, w, 0 if weights == "channel" else None)
    scale = gx.scale * gw.scale
    bias = np.rint(b.astype(np.float64) / scale).astype(np.float32)
    acc = reference_numpy.conv(schemes.quantize(x, gx), schemes.quantize(w, gw, 0), stride=stride, pad=1, group=group)
    acc = acc + bias.astype(np.int64).reshape(1, -1, 1, 1)
    ratio = np.broadcast_to((scale * gy.inverse).astype(np.float32), (channels,)).reshape(1, -1, 1, 1)
    want = reference_numpy.requantize(acc, ratio, max(gy.low, 0) if relu else gy.low, gy.high, rounding, gy.zero)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("channels", "group"), [(4096, 1), (4096, 2)])
def test_sums_beyond_float32_stay_exact(channels, group):
    rng = np.random.default_rng(1)
    x = np.where(rng.random((1, channels, 2, 2)) < 0.9, 1.0, -0.5).astype(np.float32)
    w = np.where(rng.random((4, channels // group, 3, 3)) < 0.9, 1.0, -0.7).astype(np.float32)
    nodes = [("Conv", ["x", "w"], ["y"], {"pads": [1] * 4, "group": group})]
    model = network(nodes, {"x": x.shape}, {"y": None}, {"w": w})
    ranges = {"x": Range(-1, 1), "y": Range(-30000.0, 30000.0)}
    numerics = stored_int(16)  # 16 bit codes times 8 bit weights: both splits are needed
    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = codes_of(runner, {"x": x}, "y")
    gx, gy = (schemes.activation_grid(numerics.activation, ranges[n]) for n in "xy")
    gw = schemes.weight_grid(numerics.weight, w, 0)
    acc = reference_numpy.conv(schemes.quantize(x, gx), schemes.quantize(w, gw, 0), pad=1, group=group)
    ratio = (gx.scale * gw.scale * gy.inverse).astype(np.float32).reshape(1, -1, 1, 1)
    assert np.abs(acc).max() > 2**24
    np.testing.assert_array_equal(got, reference_numpy.requantize(acc, ratio, gy.low, gy.high, "half_even"))


@pytest.mark.parametrize("inner", [64, 5000])
@pytest.mark.parametrize("constant", [True, False])
def test_matmul_is_bit_exact(inner, constant):
    rng = np.random.default_rng(2)
    a = rng.uniform(0.5, 1, (2, 3, inner)).astype(np.float32)
    b = rng.uniform(0.5, 1, (inner, 5)).astype(np.float32)
    inputs = {"a": a.shape} if constant else {"a": a.shape, "b": b.shape}
    model = network([("MatMul", ["a", "b"], ["y"], {})], inputs, {"y": None}, {"b": b} if constant else {})
    ranges = {"a": Range(-1, 1), "b": Range(-1, 1), "y": Range(-inner, inner)}
    feeds = {"a": a} if constant else {"a": a, "b": b}
    made = quantize(model, INT8, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = codes_of(runner, feeds, "y")
    ga, gy = (schemes.activation_grid(INT8.activation, ranges[n]) for n in "ay")
    gb = schemes.weight_grid(INT8.weight, b, 1) if constant else schemes.activation_grid(INT8.activation, ranges["b"])
    acc = schemes.quantize(a, ga).astype(np.int64) @ schemes.quantize(b, gb, 1).astype(np.int64)
    ratio = (ga.scale * gb.scale * gy.inverse).astype(np.float32)
    np.testing.assert_array_equal(got, reference_numpy.requantize(acc, ratio, gy.low, gy.high, "half_even"))


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    op=st.sampled_from(["Add", "Sub", "Mul"]),
    rounding=st.sampled_from(["half_even", "half_up", "half_away"]),
)
def test_arithmetic_is_bit_exact(seed, op, rounding):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0, 2, (2, 1, 3, 4, 5)).astype(np.float32)
    model = network([(op, ["a", "b"], ["y"], {})], {"a": a.shape, "b": b.shape}, {"y": None})
    ranges = {"a": Range(-4, 4), "b": Range(-3, 3), "y": Range(-5, 5)}
    numerics = stored(rounding=rounding)
    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        got = codes_of(runner, {"a": a, "b": b}, "y")
    ga, gb, gy = (schemes.activation_grid(numerics.activation, ranges[n]) for n in "aby")
    qa, qb = schemes.quantize(a, ga), schemes.quantize(b, gb)
    if op == "Mul":
        real = (qa * qb) * np.float32(ga.scale * gb.scale * gy.inverse)
    else:
        terms = [q * np.float32(g.scale * gy.inverse) for q, g in ((qa, ga), (qb, gb))]
        real = terms[0] + terms[1] if op == "Add" else terms[0] - terms[1]
    want = np.clip(schemes.round_codes(real.astype(np.float64), rounding), gy.low, gy.high)
    np.testing.assert_array_equal(got, want)


def test_whole_network_stays_close_and_reports_every_node():
    model, feeds = residual_net()
    made = quantize(model, INT8, seen_ranges(model, feeds), place="toy")
    with ReferenceRunner(made.proto, made.tensors) as runner:
        got = runner.run(feeds)["y"]
        layers = runner.layers()
        inner = runner.run(feeds, layers)
    float_values = every_tensor(model, feeds)
    error = got - float_values["y"]
    assert 10 * np.log10(np.sum(float_values["y"] ** 2) / np.sum(error**2)) > 25
    assert [n.node for n in made.nodes] == [n.name for n in model.proto.graph.node]
    assert {n.precision for n in made.nodes} == {"int8"}
    assert "c0" not in layers and "r0" in layers  # Clip is inside the convolution
    for name, values in inner.items():
        assert np.corrcoef(values.ravel(), float_values[name].ravel())[0, 1] > 0.99, name


def test_older_opset_is_raised():
    w = np.ones((2, 3, 1, 1), np.float32)
    nodes = [("Conv", ["x", "w"], ["c"], {}), ("Clip", ["c"], ["y"], {"min": 0.0, "max": 6.0})]
    model = network(nodes, {"x": (1, 3, 4, 4)}, {"y": None}, {"w": w}, opset=9)
    made = quantize(model, INT8, {"x": Range(-1, 1), "y": Range(0, 6)})
    with ReferenceRunner(made.proto, made.tensors) as runner:
        got = runner.run({"x": np.ones((1, 3, 4, 4), np.float32)})["y"]
        assert runner.run({"x": np.ones((1, 3, 4, 4), np.float32)}, []) == {}
    np.testing.assert_allclose(got, 3.0, atol=0.03)


def test_same_bytes_every_time():
    model, feeds = residual_net()
    ranges = seen_ranges(model, feeds)
    first, second = (quantize(model, INT8, ranges).proto.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_single_nodes_in_other_precisions():
    model, feeds = residual_net()
    ranges = seen_ranges(model, feeds)
    names = [n.name for n in model.proto.graph.node]
    other = {names[4]: float_numerics("fp16"), names[5]: stored_int(16)}
    made = quantize(model, INT8, ranges, node_numerics=other)
    assert [n.precision for n in made.nodes][4:7] == ["fp16", "int16", "int8"]
    assert made.tensors["sum"].bits == 16 and made.tensors["most"].bits == 8
    with ReferenceRunner(made.proto, made.tensors) as runner:
        assert np.isfinite(runner.run(feeds)["y"]).all()
    with pytest.raises(AccelError) as caught:
        quantize(model, INT8, ranges, node_numerics={"conv_44": float_numerics("fp16")})
    assert caught.value.code == "usage.node" and "conv_4" in caught.value.hints[0]


def test_bias_of_a_channel_without_weight_survives():
    w = np.zeros((2, 3, 1, 1), np.float32)
    w[0], w[1] = 1e-12, 1.0
    model = network(
        [("Conv", ["x", "w", "b"], ["y"], {})], {"x": (1, 3, 4, 4)}, {"y": None}, {"w": w, "b": np.float32([2, 0])}
    )
    made = quantize(model, INT8, {"x": Range(-1, 1), "y": Range(-3, 3)})
    with ReferenceRunner(made.proto, made.tensors) as runner:
        got = runner.run({"x": np.ones((1, 3, 4, 4), np.float32)})["y"]
    np.testing.assert_allclose(got[0, :, 0, 0], [2.0, 3.0], atol=0.03)


def test_missing_range_names_the_tensor():
    model, feeds = residual_net()
    ranges = seen_ranges(model, feeds)
    del ranges["sum"]
    with pytest.raises(AccelError, match="sum") as caught:
        quantize(model, INT8, ranges)
    assert caught.value.node == "add_5"


def test_wrong_feeds_are_refused():
    model, feeds = residual_net()
    made = quantize(model, INT8, seen_ranges(model, feeds))
    with ReferenceRunner(made.proto, made.tensors) as runner:
        for bad in ({}, {"z": feeds["x"]}, {"x": feeds["x"].astype(np.float64)}, {"x": feeds["x"][:, :2]}):
            with pytest.raises(AccelError) as caught:
                runner.run(bad)
            assert caught.value.code == "usage.input"
        with pytest.raises(AccelError) as caught:
            runner.run(feeds, ["c0"])
        assert caught.value.code == "usage.tensor"
    with pytest.raises(AccelError):
        runner.run(feeds)
