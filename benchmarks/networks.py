"""Networks with seeded random weights, for what does not depend on trained ones (time, memory, bit-identity)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Builder:
    """A chain of ONNX nodes; each method appends and returns the name of its result."""

    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        """One node with one result."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{len(self.nodes)}", **attributes))
        return out

    def constant(self, value: np.ndarray) -> str:
        """An initialiser."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def conv(self, x: str, ci: int, co: int, k: int, stride: int = 1, groups: int = 1, gain: float = 2.0) -> str:
        """Convolution with He-initialised weights and a small bias."""
        shape = (co, ci // groups, k, k)
        weight = self.rng.normal(0, (gain / (shape[1] * k * k)) ** 0.5, shape).astype(np.float32)
        bias = self.rng.normal(0, 0.05, co).astype(np.float32)
        pads = [k // 2] * 4
        return self.add(
            "Conv", x, self.constant(weight), self.constant(bias), strides=[stride] * 2, pads=pads, group=groups
        )

    def head(self, x: str, ci: int, classes: int = 1000) -> str:
        """Global average pooling and a fully connected layer."""
        x = self.add("Flatten", self.add("GlobalAveragePool", x))
        weight = self.rng.normal(0, ci**-0.5, (classes, ci)).astype(np.float32)
        return self.add("Gemm", x, self.constant(weight), self.constant(np.zeros(classes, np.float32)), transB=1)

    def finish(self, output: str, name: str, size: int = 224) -> onnx.ModelProto:
        """The checked model: input ``x`` float32 [N,3,size,size], output float32 [N,1000]."""
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, size, size])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 1000])],
            self.weights,
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(proto)
        return onnx.shape_inference.infer_shapes(proto)


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """ResNet-50's shapes (He et al. 2015, table 1; stride in the 3x3 as in torchvision), batch norms folded."""
    b = Builder(seed)
    x = b.add("Relu", b.conv("x", 3, 64, 7, 2))
    x = b.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    ci = 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for at in range(blocks):
            stride = first if at == 0 else 1
            y = b.add("Relu", b.conv(x, ci, width, 1))
            y = b.add("Relu", b.conv(y, width, width, 3, stride))
            y = b.conv(y, width, width * 4, 1, gain=0.5)
            short = b.conv(x, ci, width * 4, 1, stride, gain=1.0) if at == 0 else x
            x = b.add("Relu", b.add("Add", y, short))
            ci = width * 4
    return b.finish(b.head(x, ci), "resnet50")


def mobilenet_v2(seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2's shapes (Sandler et al. 2018, table 2), batch norms folded."""
    b = Builder(seed)
    low, high = b.constant(np.float32(0)), b.constant(np.float32(6))

    def relu6(x: str) -> str:
        return b.add("Clip", x, low, high)

    x, ci = relu6(b.conv("x", 3, 32, 3, 2)), 32
    for expand, co, repeats, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for at in range(repeats):
            stride, hidden = (first if at == 0 else 1), ci * expand
            y = relu6(b.conv(x, ci, hidden, 1)) if expand != 1 else x
            y = relu6(b.conv(y, hidden, hidden, 3, stride, groups=hidden))
            y = b.conv(y, hidden, co, 1, gain=1.0)
            x = b.add("Add", x, y) if stride == 1 and ci == co else y
            ci = co
    x = relu6(b.conv(x, ci, 1280, 1))
    return b.finish(b.head(x, 1280), "mobilenet_v2")
