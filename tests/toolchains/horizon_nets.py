"""Small networks with seeded weights, and a calibration of them, for the tests of the Horizon toolchain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from accel.calibration import Range
from accel.model import Model, io_specs
from onnx import TensorProto, helper, numpy_helper


def small_net(opset: int = 13, size: int = 32) -> Model:
    """Convolutions (one depthwise), a shortcut, x * sigmoid(x), pooling and a Gemm: 3 x size x size to 10."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        return numpy_helper.from_array(values.astype(np.float32), name)

    weights = [
        weight("w1", 16, 3, 3, 3),
        numpy_helper.from_array(rng.standard_normal(16).astype(np.float32) * 0.1, "b1"),
        weight("w2", 16, 1, 3, 3),
        weight("w3", 16, 16, 1, 1),
        weight("w4", 10, 16),
        numpy_helper.from_array(np.float32(0), "low"),
        numpy_helper.from_array(np.float32(6), "high"),
    ]
    nodes = [
        helper.make_node("Conv", ["data", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"], "clip1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "depthwise", pads=[1] * 4, group=16),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "pointwise"),
        helper.make_node("Add", ["c3", "r1"], ["a"], "add"),
        helper.make_node("Sigmoid", ["a"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["a", "s"], ["m"], "swish"),
        helper.make_node("MaxPool", ["m"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["p"], ["g"], "average"),
        helper.make_node("Flatten", ["g"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w4"], ["logits"], "head", transB=1),
    ]
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, size, size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    return as_model(helper.make_graph(nodes, "small", [data], [logits], weights), "small", opset)


def as_model(graph: onnx.GraphProto, name: str, opset: int = 13) -> Model:
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(proto)
    proto = onnx.shape_inference.infer_shapes(proto)
    inputs, outputs = io_specs(proto)
    return Model(proto, name, inputs, outputs)


def samples(model: Model, count: int, seed: int = 1) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    shapes = {s.name: [1, *s.shape[1:]] for s in model.inputs}
    return [{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]


def tensors(model: Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every tensor of the network for one sample."""
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    names = [o for node in proto.graph.node for o in node.output]
    del proto.graph.output[:]
    proto.graph.output.extend(helper.ValueInfoProto(name=n) for n in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return {**dict(zip(names, session.run(names, feeds), strict=True)), **feeds}


@dataclass(frozen=True)
class MinMax:
    """What ``accel_build`` needs of a calibration: ranges, here of all values of a few samples."""

    found: Mapping[str, Range]
    data_digest: str = "0" * 64
    tensors: Mapping[str, object] = field(default_factory=dict)
    """No statistics: nothing to correct biases by."""

    def ranges(self, method: str, *, bits: int = 8, symmetric: bool = True) -> dict[str, Range]:
        return dict(self.found)


def calibrated(model: Model, count: int = 8) -> MinMax:
    found: dict[str, Range] = {}
    for feeds in samples(model, count):
        for name, values in tensors(model, feeds).items():
            old = found.get(name, Range(np.inf, -np.inf))
            found[name] = Range(min(old.low, float(values.min())), max(old.high, float(values.max())))
    return MinMax(found)
