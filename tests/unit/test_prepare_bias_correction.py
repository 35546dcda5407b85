"""Bias correction takes off the mean of what rounded weights add, from the calibration alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from accel import driver
from accel.builtin.calibrators.collector import collect
from accel.builtin.prepare.bias_correction import correct_biases
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import ReferenceRunner
from accel.dataset import Sample
from accel.numerics import fixed_inputs, float_numerics, stored_int
from accel.options import CalibrateOptions
from accel.target import Numerics, QuantScheme
from support.networks import every_tensor, network, residual_net

COARSE = Numerics(  # 4-bit weights: a large error to take off
    "int8", "fp32", stored_int(8).quantized_ops, QuantScheme(8), QuantScheme(4, granularity="channel"), 32
)


@dataclass
class Samples:
    arrays: list[np.ndarray]
    digest: str = "d" * 64

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return (Sample(str(at), {"x": array}) for at, array in enumerate(self.arrays))


def outputs(model, numerics, ranges, arrays):
    made = quantize(model, numerics, ranges)
    with ReferenceRunner(made.proto, made.tensors, threads=1) as runner:
        return np.concatenate([runner.run({"x": x})["y"] for x in arrays])


def tuned(model, arrays, numerics, switches=None):
    calibration = collect(model, Samples(arrays), CalibrateOptions())
    ranges = choose_ranges(model, calibration, "minmax")
    return tune(model, numerics, ranges, calibration, switches), ranges


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("Conv", (6, 4, 3, 3), {}),
        ("Conv", (8, 2, 1, 1), {"group": 2}),
        ("Conv", (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
        ("ConvTranspose", (4, 6, 2, 2), {"strides": [2, 2]}),
        ("ConvTranspose", (4, 3, 2, 2), {"strides": [2, 2], "group": 2}),
    ],
)
def test_mean_error_vanishes(op, shape, attributes, bias):
    rng = np.random.default_rng(5)
    arrays = list(rng.uniform(0, 2, (5, 1, 4, 9, 9)).astype(np.float32))
    channels = shape[0] if op == "Conv" else shape[1] * attributes.get("group", 1)
    constants = {"w": rng.normal(0, 1, shape).astype(np.float32)}
    if bias:
        constants["b"] = rng.normal(0, 1, channels).astype(np.float32)
    model = network([(op, ["x", *constants], ["y"], attributes)], {"x": (1, 4, 9, 9)}, {"y": None}, constants)
    want = np.concatenate([every_tensor(model, {"x": x})["y"] for x in arrays])
    new, ranges = tuned(model, arrays, COARSE)
    errors = [np.abs((outputs(m, COARSE, ranges, arrays) - want).mean(axis=(0, 2, 3))).max() for m in (model, new)]
    assert new.passes == ("bias_correction",)
    assert errors[1] < 0.25 * errors[0]


def test_whole_network_gets_closer():
    model, _ = residual_net(3)
    arrays = list(np.random.default_rng(1).normal(0.5, 1, (8, 1, 3, 12, 12)).astype(np.float32))
    want = np.concatenate([every_tensor(model, {"x": x})["y"] for x in arrays])
    for numerics in (COARSE, stored_int(8), fixed_inputs(8, precision="q")):
        new, ranges = tuned(model, arrays, numerics)
        before, after = (np.square(outputs(m, numerics, ranges, arrays) - want).sum() for m in (model, new))
        assert after < before, numerics.precision


def test_switched_off_or_float_leaves_the_model_alone():
    model, feeds = residual_net()
    assert tuned(model, [feeds["x"]], COARSE, {"bias_correction": False})[0] is model
    assert tuned(model, [feeds["x"]], float_numerics("fp16"))[0] is model


def test_auto_keeps_outputs_whole_and_cuts_inner_outliers():
    model, _ = residual_net()
    arrays = list(np.random.default_rng(1).standard_t(2, (30, 1, 3, 12, 12)).astype(np.float32))
    calibration = collect(model, Samples(arrays), CalibrateOptions())
    auto, minmax = (choose_ranges(model, calibration, m) for m in ("auto", "minmax"))
    assert auto["y"] == minmax["y"]
    assert auto["x"].threshold < 0.8 * minmax["x"].threshold
    assert choose_ranges(model, calibration, "auto", bits=16) == choose_ranges(model, calibration, "minmax", bits=16)
    mse, rest = choose_ranges(model, calibration, "mse"), replace(COARSE, details={"auto_rest": "mse"})
    other = choose_ranges(model, calibration, "auto", numerics=rest)
    cut = {name for name in auto if auto[name] != minmax[name]}
    assert other["y"] == minmax["y"] and cut
    assert all(other[name] == (auto[name] if name in cut else mse[name]) for name in other if name != "y")


def test_convolutions_that_the_compiler_merges() -> None:
    """Two pointwise convolutions become one on BM1684: its weight, and what the first one reads, decide."""
    from accel.plugins import registry
    from accel.testing.networks import TinyData

    rng = np.random.default_rng(3)
    constants = {
        "w1": rng.normal(0, 0.5, (6, 3, 1, 1)).astype(np.float32),
        "w2": rng.normal(0, 0.5, (8, 6, 1, 1)).astype(np.float32),
    }
    nodes = [("Conv", ["x", "w1"], ["a"], {}), ("Conv", ["a", "w2"], ["b"], {}), ("Relu", ["b"], ["y"], {})]
    model = network(nodes, {"x": (1, 3, 16, 16)}, {"y": (1, 8, 16, 16)}, constants)
    numerics = registry().target("bm1684").numerics_for("int8")
    assert numerics.details["merge_convolutions"] == "pointwise"
    calibration = driver.measure(model, TinyData(4))
    ranges = calibration.ranges("minmax")
    corrected = correct_biases(model, numerics, ranges, calibration)
    second = next(n for n in corrected.proto.graph.node if n.output[0] == "b")
    assert len(second.input) == 3
