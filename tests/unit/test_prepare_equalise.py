"""Widening channels before depthwise convolutions: the same function, channels of nearly equal range."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from accel import driver
from accel.builtin.prepare.equalise import MOST, ROOM, equalise_depthwise
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.calibration import Calibration
from accel.dataset import Sample
from accel.model import Model, io_specs
from accel.target import Numerics, QuantScheme
from onnx import TensorProto, helper, numpy_helper

SHAPE = [1, 4, 6, 6]
GAINS = np.float32([0.01, 0.3, 1.0, 2.0])


def network(clip: float | None = None, group: int = 4, shared: bool = False) -> Model:
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.standard_normal((4, 4, 1, 1)).astype(np.float32) * GAINS.reshape(-1, 1, 1, 1),
        "b": rng.standard_normal(4).astype(np.float32) * GAINS,
        "d": rng.standard_normal((4, 4 // group, 3, 3)).astype(np.float32),
        "zero": np.float32(0),
        "top": np.float32(clip or 0),
    }
    clamp = helper.make_node("Clip", ["c", "zero", "top"], ["a"], "clamp")
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first"),
        clamp if clip else helper.make_node("Relu", ["c"], ["a"], "clamp"),
        helper.make_node("Conv", ["a", "d"], ["y"], "second", group=group, pads=[1] * 4),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, SHAPE)]
    if shared:
        nodes.append(helper.make_node("Sigmoid", ["a"], ["z"], "other"))
        outputs.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, SHAPE))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
    graph = helper.make_graph(
        nodes, "n", inputs, outputs, [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    proto = onnx.shape_inference.infer_shapes(proto)
    return Model(proto, "n", *io_specs(proto))


class Noise:
    digest = "0" * 64
    arrays = np.random.default_rng(5).standard_normal((8, *SHAPE)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter([Sample(str(at), {"x": a}) for at, a in enumerate(self.arrays)])


def run(model: Model) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.proto.SerializeToString())
    return np.concatenate([session.run(["y"], {"x": a})[0] for a in Noise.arrays])


def equalised(model: Model) -> tuple[Model, Calibration, Calibration]:
    calibration = driver.calibrate(model, Noise())
    made, after = equalise_depthwise(model, choose_ranges(model, calibration, "minmax"), calibration)
    return made, calibration, after


@pytest.mark.parametrize("clip", [None, 1e3])
def test_same_function_with_wider_channels(clip: float | None) -> None:
    model = network(clip)
    made, before, after = equalised(model)
    assert "equalise_depthwise" in made.passes
    assert np.allclose(run(model), run(made), atol=1e-5)
    old, new = driver.calibrate(model, Noise()).tensors["a"], driver.calibrate(made, Noise()).tensors["a"]
    factors = new.channel_high / old.channel_high
    assert factors[0] == pytest.approx(MOST, rel=1e-5)  # the smallest gains the most
    assert factors.min() == pytest.approx(1)
    assert new.channel_high.max() <= old.high * (1 + 1e-6)
    assert all(f in (pytest.approx(1), pytest.approx(MOST)) or h * ROOM == pytest.approx(old.high, rel=1e-4)
               for f, h in zip(factors, new.channel_high, strict=True))  # fmt: skip
    assert np.allclose(after.tensors["a"].channel_mean, new.channel_mean, rtol=1e-5)
    assert after.tensors["x"] is before.tensors["x"]


@pytest.mark.parametrize("other", [{"clip": 1.0}, {"group": 1}, {"group": 2}, {"shared": True}])
def test_left_alone(other: dict[str, object]) -> None:
    """A range at the Clip's bound, a convolution that is not depthwise, another reader."""
    model = network(**other)  # type: ignore[arg-type]
    made, before, after = equalised(model)
    assert made is model and after is before


def test_on_by_the_targets_own_wish_or_asked_for() -> None:
    scheme = QuantScheme(rule="step")
    weight = QuantScheme(granularity="channel", rule="step", narrow=True)
    plain = Numerics("int8", "fp32", frozenset({"Conv", "Relu"}), scheme, weight, bias_bits=31, requantize="split")
    wishing = Numerics(**{**vars(plain), "details": {"tuning": "equalise_depthwise"}})
    model = network()
    calibration = driver.calibrate(model, Noise())
    ranges = choose_ranges(model, calibration, "minmax")
    name = "equalise_depthwise"
    assert name not in tune(model, plain, ranges, calibration).passes
    assert name in tune(model, plain, ranges, calibration, {name: True}).passes
    assert name in tune(model, wishing, ranges, calibration).passes
    assert name not in tune(model, wishing, ranges, calibration, {name: False}).passes
