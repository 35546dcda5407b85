"""CenterNet on DLA-34 without deformable convolutions, with seeded weights.

The shapes are those of the public network (DLA: arXiv:1707.06484, figure 3; CenterNet: arXiv:1904.07850), batch norms
folded. The 3x3 maximum over the heat map is inside the network, which therefore has four outputs: ``hm``,
``hm_pooled``, ``wh`` and ``reg``.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LOGITS = "heat"
"""The tensor before the heat map's sigmoid."""
HEADS = {LOGITS: (-4.0, 1.0), "wh": (10.0, 3.0), "reg": (0.5, 0.2)}
"""Mean and spread that :func:`settle` gives each head: few peaks, boxes of some 40 pixels, as trained ones have."""


class Net:
    """A graph that grows; every tensor's channels are known."""

    def __init__(self, seed: int, width: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.width = width
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.channels = {"image": 3}

    def scaled(self, channels: int) -> int:
        """Channels at this width, at least 4."""
        return max(4, int(channels * self.width))

    def node(self, op: str, inputs: list[str], channels: int, name: str = "", **attributes: object) -> str:
        """One node; gives its output's name."""
        out = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], f"node_{out}", **attributes))
        self.channels[out] = channels
        return out

    def weight(self, value: np.ndarray) -> str:
        """A weight with its values."""
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def conv(
        self,
        x: str,
        out: int,
        kernel: int = 3,
        stride: int = 1,
        *,
        relu: bool = True,
        gain: float = 2.0,
        name: str = "",
    ) -> str:
        """Convolution with half padding and He's initialisation."""
        fan = self.channels[x] * kernel * kernel
        w = self.weight(self.rng.normal(0, (gain / fan) ** 0.5, (out, self.channels[x], kernel, kernel)))
        b = self.weight(self.rng.normal(0, 0.05, out))
        attributes = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "kernel_shape": [kernel] * 2}
        y = self.node("Conv", [x, w, b], out, "" if relu else name, **attributes)
        return self.node("Relu", [y], out) if relu else y

    def pool(self, x: str, kernel: int, stride: int, name: str = "") -> str:
        """Maximum in a window."""
        pads = [(kernel - 1) // 2] * 4
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads}
        return self.node("MaxPool", [x], self.channels[x], name, **attributes)

    def concat(self, parts: list[str]) -> str:
        """Along the channels."""
        return self.node("Concat", parts, sum(self.channels[p] for p in parts), axis=1)

    def enlarge(self, x: str, factor: int) -> str:
        """Bilinear upsampling as a depthwise transposed convolution, as the network begins its training."""
        size = 2 * factor
        ramp = 1 - np.abs(np.arange(size) / factor - (size - 1) / (2.0 * factor))
        kernel = np.broadcast_to(np.outer(ramp, ramp), (self.channels[x], 1, size, size))
        attributes = {"strides": [factor] * 2, "pads": [factor // 2] * 4, "kernel_shape": [size] * 2}
        return self.node(
            "ConvTranspose", [x, self.weight(kernel)], self.channels[x], group=self.channels[x], **attributes
        )


def _block(net: Net, x: str, out: int, stride: int, short: str) -> str:
    y = net.conv(net.conv(x, out, 3, stride), out, relu=False, gain=0.5)
    return net.node("Relu", [net.node("Add", [y, short], out)], out)


def _tree(
    net: Net, x: str, levels: int, out: int, stride: int, *, root: bool = False, children: tuple[str, ...] = ()
) -> str:
    bottom = net.pool(x, stride, stride) if stride > 1 else x
    if root:
        children = (*children, bottom)
    if levels > 1:
        first = _tree(net, x, levels - 1, out, stride)
        return _tree(net, first, levels - 1, out, 1, children=(*children, first))
    short = net.conv(bottom, out, 1, relu=False, gain=1.0) if net.channels[x] != out else bottom
    first = _block(net, x, out, stride, short)
    second = _block(net, first, out, 1, first)
    return net.conv(net.concat([second, first, *children]), out, 1)


def _aggregated(net: Net, layers: list[str]) -> str:
    """Iterative deep aggregation: deeper layers are enlarged and merged into the shallow ones, down to stride 4."""
    factors = [2**at for at in range(len(layers))]
    for low in range(len(layers) - 2, -1, -1):
        width, y = net.channels[layers[low]], layers[low]
        for deeper in range(low + 1, len(layers)):
            part = layers[deeper]
            if net.channels[part] != width:
                part = net.conv(part, width, 1)
            if factors[deeper] > factors[low]:
                part = net.enlarge(part, factors[deeper] // factors[low])
            y = layers[deeper] = net.conv(net.concat([y, part]), width)
            factors[deeper] = factors[low]
    return layers[-1]


def centernet(*, seed: int = 0, width: float = 1.0, size: int = 512, classes: int = 80) -> onnx.ModelProto:
    """The checked network: input ``image`` float32 [batch,3,size,size], outputs at a quarter of the size.

    Args:
        seed: Of the weights.
        width: Factor on the channels; 1 is DLA-34.
        size: Pixels of the input's sides, a multiple of 32.
        classes: Channels of the heat map.
    """
    net = Net(seed, width)
    x = net.conv(net.conv(net.conv("image", net.scaled(16), 7), net.scaled(16)), net.scaled(32), 3, 2)
    layers = []
    for levels, channels, root in ((1, 64, False), (2, 128, True), (2, 256, True), (1, 512, True)):
        x = _tree(net, x, levels, net.scaled(channels), 2, root=root)
        layers.append(x)
    top = _aggregated(net, layers)
    logits = net.conv(net.conv(top, net.scaled(256)), classes, 1, relu=False, name=LOGITS)
    net.pool(net.node("Sigmoid", [logits], classes, "hm"), 3, 1, "hm_pooled")
    net.conv(net.conv(top, net.scaled(256)), 2, 1, relu=False, name="wh")
    net.conv(net.conv(top, net.scaled(256)), 2, 1, relu=False, name="reg")
    quarter = [size // 4] * 2
    outputs = {"hm": classes, "hm_pooled": classes, "wh": 2, "reg": 2}
    graph = helper.make_graph(
        net.nodes,
        "centernet-dla34",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", c, *quarter]) for n, c in outputs.items()],
        net.weights,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(proto)
    return onnx.shape_inference.infer_shapes(proto)


def settle(proto: onnx.ModelProto, seen: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Scale the last convolution of every head, in place, so that its channels have the mean and spread of ``HEADS``.

    Args:
        proto: Of :func:`centernet`.
        seen: Mean and standard deviation by channel of each head, measured on photographs.
    """
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.output[0] in HEADS:
            mean, spread = HEADS[node.output[0]]
            found_mean, found_spread = seen[node.output[0]]
            factor = spread / np.maximum(found_spread, 1e-6)
            kernel, bias = (numpy_helper.to_array(weights[name]) for name in node.input[1:3])
            new = (kernel * factor[:, None, None, None], (bias - found_mean) * factor + mean)
            for name, value in zip(node.input[1:3], new, strict=True):
                weights[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
