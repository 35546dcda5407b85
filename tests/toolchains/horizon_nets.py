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


class Layers:
    """Nodes with seeded weights, written one after the other."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def constant(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def op(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [name], f"n_{name}", **attributes))
        return name

    def conv(
        self, x: str, name: str, inputs: int, outputs: int, kernel: int = 1, group: int = 1, stride: int = 1
    ) -> str:
        shape = (outputs, inputs // group, kernel, kernel)
        spread = np.exp(self.rng.uniform(-2, 0, (outputs, 1, 1, 1)))
        values = self.rng.standard_normal(shape) * spread * np.sqrt(2 / np.prod(shape[1:]))
        weight = self.constant(f"{name}_w", values)
        bias = self.constant(f"{name}_b", self.rng.standard_normal(outputs) * 0.1)
        pads, strides = [kernel // 2] * 4, [stride, stride]
        return self.op("Conv", [x, weight, bias], name, group=group, pads=pads, strides=strides)

    def relu(self, name: str, inputs: int = 16) -> str:
        """A 1x1 convolution of the input and its Relu."""
        return self.op("Relu", [self.conv("data", f"{name}_c", inputs, 16)], name)


def operators_net() -> Model:
    """Every way the chip's operators meet, one beside the other: 16 x 16 x 16 to a sum of many small outputs."""
    n = Layers()
    outputs = [
        n.conv(n.relu("to_conv"), "from_conv", 16, 8),
        n.conv(n.relu("to_depthwise"), "from_depthwise", 16, 16, 3, 16),
        n.conv(n.relu("to_strided"), "from_strided", 16, 16, 3, 16, 2),
        n.conv(n.relu("to_group"), "from_group", 16, 16, 3, 2),
        n.conv(n.op("MaxPool", [n.relu("to_pool")], "pool", kernel_shape=[2, 2], strides=[2, 2]), "from_pool", 16, 8),
        n.conv(n.op("Concat", [n.relu("to_cat1"), n.relu("to_cat2")], "cat", axis=1), "from_cat", 32, 8),
        n.conv(n.op("Mul", [n.relu("to_mul1"), n.relu("to_mul2")], "mul"), "from_mul", 16, 8),
        n.conv(n.op("Sub", [n.conv("data", "minuend", 16, 16), n.relu("to_sub")], "sub"), "from_sub", 16, 8),
    ]
    shortcut = n.relu("to_shortcut")
    outputs.append(n.conv(n.op("Add", [n.conv(shortcut, "residual", 16, 16), shortcut], "sum"), "from_sum", 16, 8))
    sums = n.op("Add", [n.conv("data", "left", 16, 16), n.conv("data", "right", 16, 16)], "both")
    outputs.append(n.conv(n.op("Relu", [sums], "sum_relu"), "from_sum_relu", 16, 8))
    pooled = n.op("MaxPool", [n.conv("data", "to_alone", 16, 16)], "alone", kernel_shape=[1, 1], strides=[1, 1])
    outputs.append(n.conv(n.op("Add", [pooled, n.relu("to_add")], "add"), "from_add", 16, 8))
    transposed = n.constant("transposed_w", n.rng.standard_normal((16, 8, 2, 2)))
    outputs.append(n.op("ConvTranspose", [n.relu("to_transposed"), transposed], "transposed", strides=[2, 2]))
    flat = n.op("Flatten", [n.op("GlobalAveragePool", [n.relu("to_average")], "average")], "flat")
    outputs.append(n.op("Gemm", [flat, n.constant("head_w", n.rng.standard_normal((10, 16)))], "head", transB=1))
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 16, 16, 16])
    shapes = {"head": [1, 10]}
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, shapes.get(o, [1, None, None, None])) for o in outputs]
    return as_model(helper.make_graph(n.nodes, "operators", [data], infos, n.weights), "operators")


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
