"""The networks of Cambricon's public speed tables, as shapes without values: enough to count what they compute.

ResNet-50 v1 (ONNX model zoo), MobileNet-SSD for VOC (chuanqi305) and CenterNet on DLA-34 without deformable
convolutions, at the sizes the tables use.
"""

from __future__ import annotations

import onnx
from accel.model import Model, io_specs
from onnx import TensorProto, helper


class Net:
    """A graph under construction; weights have dimensions only."""

    def __init__(self, name: str, height: int, width: int) -> None:
        self.name, self.nodes, self.weights = name, [], []
        self.channels = {"x": 3}
        self.input = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, height, width])

    def op(self, kind: str, inputs: list[str], channels: int, **attrs: object) -> str:
        """One node; gives the name of its output."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], f"{kind}_{out}", **attrs))
        self.channels[out] = channels
        return out

    def weight(self, *dims: int) -> str:
        """A weight without values."""
        name = f"w{len(self.weights)}"
        self.weights.append(onnx.TensorProto(name=name, dims=dims, data_type=TensorProto.FLOAT))
        return name

    def conv(self, x: str, out: int, kernel: int = 3, stride: int = 1, group: int = 1, relu: bool = True) -> str:
        """Convolution with half padding."""
        w = self.weight(out, self.channels[x] // group, kernel, kernel)
        attrs = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": group}
        y = self.op("Conv", [x, w], out, **attrs)
        return self.op("Relu", [y], out) if relu else y

    def pool(self, x: str, kernel: int, stride: int) -> str:
        """Maximum pooling."""
        attrs = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [(kernel - 1) // 2] * 4}
        return self.op("MaxPool", [x], self.channels[x], **attrs)

    def add(self, a: str, b: str) -> str:
        """Sum and ReLU."""
        return self.op("Relu", [self.op("Add", [a, b], self.channels[a])], self.channels[a])

    def concat(self, parts: list[str]) -> str:
        """Along the channels."""
        return self.op("Concat", parts, sum(self.channels[p] for p in parts), axis=1)

    def up(self, x: str, factor: int) -> str:
        """Depthwise transposed convolution."""
        c = self.channels[x]
        w = self.weight(c, 1, 2 * factor, 2 * factor)
        attrs = {"strides": [factor] * 2, "pads": [factor // 2] * 4, "group": c}
        return self.op("ConvTranspose", [x, w], c, **attrs)

    def model(self, outputs: list[str]) -> Model:
        """The finished graph."""
        infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
        graph = helper.make_graph(self.nodes, self.name, [self.input], infos, self.weights)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        return Model(proto, self.name, *io_specs(proto))


def resnet50() -> Model:
    """1x3x224x224; the first 1x1 of a block has the stride (version 1)."""
    net = Net("ResNet50", 224, 224)
    x = net.pool(net.conv("x", 64, 7, 2), 3, 2)
    for stage, count in enumerate((3, 4, 6, 3)):
        width = 64 << stage
        for block in range(count):
            stride = 2 if stage and block == 0 else 1
            inner = net.conv(net.conv(x, width, 1, stride), width, 3)
            short = net.conv(x, 4 * width, 1, stride, relu=False) if block == 0 else x
            x = net.add(net.conv(inner, 4 * width, 1, relu=False), short)
    flat = net.op("Flatten", [net.op("GlobalAveragePool", [x], 2048)], 2048)
    return net.model([net.op("Gemm", [flat, net.weight(2048, 1000)], 1000)])


def mobilenet_ssd() -> Model:
    """1x3x300x300, 21 classes."""
    net = Net("SSD VOC", 300, 300)
    x = net.conv("x", 32, 3, 2)
    sources = []
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for at, (width, stride) in enumerate(plan, 1):
        x = net.conv(net.conv(x, net.channels[x], 3, stride, group=net.channels[x]), width, 1)
        if at in (11, 13):
            sources.append(x)
    for squeeze, width in ((256, 512), (128, 256), (128, 256), (64, 128)):
        x = net.conv(net.conv(x, squeeze, 1), width, 3, 2)
        sources.append(x)
    heads = []
    for source, priors in zip(sources, (3, 6, 6, 6, 6, 6), strict=True):
        heads += [net.conv(source, priors * size, 1, relu=False) for size in (4, 21)]
    return net.model(heads)


def centernet() -> Model:
    """1x3x512x512, DLA-34, 80 classes, output stride 4."""
    net = Net("CenterNet", 512, 512)

    def block(x: str, out: int, stride: int, residual: str) -> str:
        return net.add(net.conv(net.conv(x, out, 3, stride), out, relu=False), residual)

    def tree(x: str, levels: int, out: int, stride: int, root: bool = False, children: list[str] | None = None) -> str:
        children = list(children or [])
        bottom = net.pool(x, stride, stride) if stride > 1 else x
        if root:
            children.append(bottom)
        if levels > 1:
            first = tree(x, levels - 1, out, stride)
            return tree(first, levels - 1, out, 1, children=[*children, first])
        residual = net.conv(bottom, out, 1, relu=False) if net.channels[x] != out else bottom
        first = block(x, out, stride, residual)
        second = block(first, out, 1, first)
        return net.conv(net.concat([second, first, *children]), out, 1)

    x = net.conv(net.conv(net.conv("x", 16, 7), 16), 32, 3, 2)
    layers = []
    for levels, width, root in ((1, 64, False), (2, 128, True), (2, 256, True), (1, 512, True)):
        x = tree(x, levels, width, 2, root)
        layers.append(x)
    factors = [1, 2, 4, 8]
    for at in range(len(layers) - 1):
        low = len(layers) - at - 2
        width = net.channels[layers[low]]
        y = layers[low]
        for deeper in range(low + 1, len(layers)):
            part = layers[deeper]
            part = net.conv(part, width, 1) if net.channels[part] != width else part
            factor = factors[deeper] // factors[low]
            part = net.up(part, factor) if factor > 1 else part
            y = net.conv(net.concat([y, part]), width)
            layers[deeper] = y
        factors[low + 1 :] = [factors[low]] * (len(factors) - low - 1)
    heads = [net.conv(net.conv(layers[-1], 256), size, 1, relu=False) for size in (80, 2, 2)]
    return net.model(heads)
