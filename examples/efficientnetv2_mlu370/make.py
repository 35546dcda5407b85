"""Makes EfficientNetV2-S and its calibration photos: ``python examples/efficientnetv2_mlu370/make.py``.

    --definition seeded       (default) the architecture with seeded weights; needs no framework
    --definition torchvision  torchvision's, with its pretrained weights, exported by torch
    --definition timm         timm's tf_efficientnetv2_s, likewise

Seeded weights have no accuracy of their own: what they show is how close each precision stays to float, and speed,
which does not depend on values.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
STAGES = (
    # kind, expansion, stride, channels, repeats (Tan and Le, "EfficientNetV2", 2021, table 4)
    ("fused", 1, 1, 24, 2),
    ("fused", 4, 2, 48, 4),
    ("fused", 4, 2, 64, 4),
    ("mb", 4, 2, 128, 6),
    ("mb", 6, 1, 160, 9),
    ("mb", 6, 2, 256, 15),
)


class Builder:
    """An ONNX graph under construction. A convolution's weights are seeded, then scaled to unit variance of results."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size, self.rng = size, np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.values: dict[str, np.ndarray] = {"input": self._picture()}

    def _picture(self) -> np.ndarray:
        """A random input with structure at every scale, as photos have it."""
        found = np.zeros((4, 3, self.size, self.size))
        for cell in (1, 4, 16, self.size // 2, self.size):
            count = -(-self.size // cell)
            coarse = self.rng.normal(0, 0.6, (4, 3, count, count))
            found += coarse.repeat(cell, axis=2).repeat(cell, axis=3)[:, :, : self.size, : self.size]
        return found.astype(np.float32)

    def op(self, kind: str, inputs: list[str], name: str, **attrs: object) -> str:
        """One node named like its output; its value on one random picture is kept."""
        node = helper.make_node(kind, inputs, [name], name, **attrs)
        self.nodes.append(node)
        self.values[name] = self._run(node)
        return name

    def conv(
        self, x: str, name: str, channels: int, kernel: int, stride: int = 1, group: int = 1, spread: float = 1.0
    ) -> str:
        """Convolution and bias, as a folded batch norm leaves it; ``spread`` is the deviation of its results."""
        shape = (channels, self.values[x].shape[1] // group, kernel, kernel)
        gain = np.sqrt(1 / np.prod(shape[1:]))
        self.weights[f"{name}.weight"] = self.rng.normal(0, gain, shape).astype(np.float32)
        self.weights[f"{name}.bias"] = np.zeros(channels, np.float32)
        attrs = {"strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": group}
        node = helper.make_node("Conv", [x, f"{name}.weight", f"{name}.bias"], [name], name, **attrs)
        found = self._run(node)
        mean, std = found.mean(axis=(0, 2, 3)), found.std(axis=(0, 2, 3)) + 0.1 * found.std() + 1e-3
        std /= spread
        self.weights[f"{name}.weight"] /= std.reshape(-1, 1, 1, 1)
        self.weights[f"{name}.bias"] = (self.rng.normal(0, 0.3, channels) - mean / std).astype(np.float32)
        self.nodes.append(node)
        self.values[name] = self._run(node)
        return name

    def silu(self, x: str) -> str:
        """x * sigmoid(x)."""
        return self.op("Mul", [x, self.op("Sigmoid", [x], f"{x}.sigmoid")], f"{x}.silu")

    def excite(self, x: str, name: str, squeezed: int) -> str:
        """Squeeze and excitation."""
        pooled = self.op("GlobalAveragePool", [x], f"{name}.pool")
        inner = self.silu(self._dense(pooled, f"{name}.reduce", squeezed))
        gate = self.op("Sigmoid", [self._dense(inner, f"{name}.expand", self.values[x].shape[1])], f"{name}.gate")
        return self.op("Mul", [x, gate], f"{name}.scaled")

    def _dense(self, x: str, name: str, channels: int) -> str:
        # Of one pixel there is no variance to scale by.
        before = self.values[x].shape[1]
        w = self.rng.normal(0, 1 / np.sqrt(before), (channels, before, 1, 1)).astype(np.float32)
        self.weights[f"{name}.weight"] = w
        self.weights[f"{name}.bias"] = self.rng.normal(0, 0.5, channels).astype(np.float32)
        return self.op("Conv", [x, f"{name}.weight", f"{name}.bias"], name)

    def _run(self, node: onnx.NodeProto) -> np.ndarray:
        feeds = {n: self.values[n] for n in node.input if n in self.values}
        held = [numpy_helper.from_array(self.weights[n], n) for n in node.input if n in self.weights]
        inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
        outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)]
        graph = helper.make_graph([node], "one", inputs, outputs, held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, feeds)[0])


def seeded(size: int, classes: int = 1000) -> onnx.ModelProto:
    """EfficientNetV2-S with seeded weights for pictures of ``size`` pixels; the batch is free."""
    net = Builder(size)
    x = net.silu(net.conv("input", "stem", 24, 3, 2))
    for stage, (kind, expansion, stride, channels, repeats) in enumerate(STAGES):
        for block in range(repeats):
            step, before = stride if block == 0 else 1, net.values[x].shape[1]
            name, wide, y = f"stage{stage}.{block}", before * expansion, x
            skips = step == 1 and before == channels
            # As in a trained network, most of what a block gives is what it got: else every error grows with depth.
            spread = 0.25 if skips else 1.0
            if kind == "fused":
                y = net.silu(net.conv(y, f"{name}.fused", wide if expansion > 1 else channels, 3, step))
                y = net.conv(y, f"{name}.project", channels, 1, spread=spread) if expansion > 1 else y
            else:
                y = net.silu(net.conv(y, f"{name}.expand", wide, 1))
                y = net.silu(net.conv(y, f"{name}.depthwise", wide, 3, step, group=wide))
                y = net.excite(y, f"{name}.se", max(1, before // 4))
                y = net.conv(y, f"{name}.project", channels, 1, spread=spread)
            x = net.op("Add", [y, x], f"{name}.add") if skips else y
    x = net.silu(net.conv(x, "head", 1280, 1))
    flat = net.op("Flatten", [net.op("GlobalAveragePool", [x], "pool")], "flat")
    net.weights["fc.weight"] = net.rng.normal(0, 0.05, (classes, 1280)).astype(np.float32)
    net.weights["fc.bias"] = np.zeros(classes, np.float32)
    net.op("Gemm", [flat, "fc.weight", "fc.bias"], "logits", transB=1)
    graph = helper.make_graph(
        net.nodes,
        "efficientnetv2_s",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(v, n) for n, v in net.weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def exported(definition: str, size: int, path: Path) -> None:
    """A framework's own definition and weights, exported by torch."""
    import torch

    if definition == "timm":
        import timm

        model = timm.create_model("tf_efficientnetv2_s", pretrained=True, exportable=True)
    else:
        from torchvision.models import EfficientNet_V2_S_Weights, efficientnet_v2_s

        model = efficientnet_v2_s(weights=EfficientNet_V2_S_Weights.DEFAULT)
    torch.onnx.export(
        model.eval(),
        torch.zeros(1, 3, size, size),
        str(path),
        input_names=["input"],
        output_names=["logits"],
        opset_version=13,
        dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )


def main() -> None:
    """Write ``work/efficientnetv2_s.onnx`` and the lists of photos."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--definition", choices=("seeded", "torchvision", "timm"), default="seeded")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--work", type=Path, default=HERE / "work")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    path = given.work / "efficientnetv2_s.onnx"
    if given.definition == "seeded":
        onnx.save(seeded(given.size), str(path))
    else:
        exported(given.definition, given.size, path)
    sys.path.insert(0, str(HERE.parent / "zoo"))
    import photos

    lists = {
        "calibration.txt": photos.calibration_photos(),
        "evaluation.txt": [p for p, _ in photos.evaluation_photos()],
    }
    for name, files in lists.items():
        (given.work / name).write_text("".join(f"{p}\n" for p in files), encoding="utf-8")


if __name__ == "__main__":
    main()
