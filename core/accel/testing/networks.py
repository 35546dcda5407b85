"""A tiny network and data for it: every kind of operator that a chip is bought for, in a few milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from accel.dataset import Sample

if TYPE_CHECKING:
    from accel.model import Model


def tiny_model(seed: int = 0, *, size: int = 16, classes: int = 10) -> Model:
    """Convolutions (plain, depthwise, pointwise), ReLU, Add, pooling, Gemm: ``x`` (1,3,size,size) to ``logits``.

    The same seed gives the same network, byte for byte.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from accel.model import Model, io_specs

    random = np.random.default_rng(seed)
    initializers = []

    def weight(name: str, *shape: int) -> str:
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        value = random.normal(0, 1 / np.sqrt(fan_in), shape).astype(np.float32)
        initializers.append(numpy_helper.from_array(value, name))
        return name

    def bias(name: str, count: int) -> str:
        value = random.normal(0, 0.05, count).astype(np.float32)
        initializers.append(numpy_helper.from_array(value, name))
        return name

    node = helper.make_node
    nodes = [
        node("Conv", ["x", weight("w1", 8, 3, 3, 3), bias("b1", 8)], ["c1"], "conv1", pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", weight("w2", 8, 1, 3, 3), bias("b2", 8)], ["c2"], "depthwise", pads=[1] * 4, group=8),
        node("Relu", ["c2"], ["r2"], "relu2"),
        node("Conv", ["r2", weight("w3", 8, 8, 1, 1), bias("b3", 8)], ["c3"], "pointwise"),
        node("Add", ["c3", "r1"], ["sum"], "add"),
        node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        node("Flatten", ["pooled"], ["flat"], "flatten", axis=1),
        node("Gemm", ["flat", weight("w4", classes, 8), bias("b4", classes)], ["logits"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, classes])],
        initializers,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True)
    onnx.checker.check_model(proto)
    inputs, outputs = io_specs(proto)
    return Model(proto, "tiny", inputs, outputs)


class TinyData:
    """Random samples for :func:`tiny_model`, the same for the same seed."""

    def __init__(self, count: int = 8, seed: int = 1, *, size: int = 16) -> None:
        self.count, self.seed, self.size = count, seed, size

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        random = np.random.default_rng(self.seed)
        for at in range(self.count):
            value = random.normal(0, 1, (1, 3, self.size, self.size)).astype(np.float32)
            yield Sample(f"sample{at}", {"x": value}, label=at % 10)

    @property
    def digest(self) -> str:
        """Of what decides the samples."""
        return hashlib.sha256(f"tiny {self.count} {self.seed} {self.size}".encode()).hexdigest()
