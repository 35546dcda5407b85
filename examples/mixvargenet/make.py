"""Builds MixVarGENet as ONNX without a framework, with seeded weights: the graph to compile and to measure.

    python examples/mixvargenet/make.py OUT.onnx [--classes 1000] [--size 224] [--seed 0]

Seeded weights keep the size of activations even from layer to layer, so that quantising the network is as hard as for
a trained one; its answers mean nothing. For trained weights see train.py.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from layout import Conv, Layout, convolutions, mixvargenet
from onnx import TensorProto, helper, numpy_helper


def build(layout: Layout, size: int, seed: int = 0) -> onnx.ModelProto:
    """The network with He-initialised weights; input ``input`` (batch, 3, size, size), output ``logits``."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(one: Conv) -> None:
        fan = one.inputs // one.groups * one.size**2
        gain = np.sqrt((2.0 if one.relu and not one.shortcut else 0.5) / fan)
        kernel = rng.standard_normal((one.outputs, one.inputs // one.groups, one.size, one.size)) * gain
        bias = rng.standard_normal(one.outputs) * 0.05
        source = one.source
        if "+" in source:
            nodes.append(helper.make_node("Concat", source.split("+"), [f"{one.name}_in"], f"{one.name}_in", axis=1))
            source = f"{one.name}_in"
        raw = one.name if not one.relu else f"{one.name}_conv"
        nodes.append(
            helper.make_node(
                "Conv",
                [source, constant(f"{one.name}.weight", kernel), constant(f"{one.name}.bias", bias)],
                [raw],
                raw,
                kernel_shape=[one.size] * 2,
                strides=[one.stride] * 2,
                pads=[one.size // 2] * 4,
                group=one.groups,
            )
        )
        if one.shortcut:
            nodes.append(helper.make_node("Add", [raw, one.shortcut], [f"{one.name}_add"], f"{one.name}_add"))
            raw = f"{one.name}_add"
        if one.relu:
            nodes.append(helper.make_node("Relu", [raw], [one.name], one.name))

    for one in convolutions(layout):
        conv(one)
    nodes.append(helper.make_node("GlobalAveragePool", ["head"], ["pooled"], "pooled"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"], "features"))
    classifier = rng.standard_normal((layout.classes, layout.head)) / np.sqrt(layout.head)
    last = [constant("classifier.weight", classifier), constant("classifier.bias", np.zeros(layout.classes))]
    nodes.append(helper.make_node("Gemm", ["features", *last], ["logits"], "classifier", transB=1))
    shape = ["batch", layout.in_channels, size, size]
    graph = helper.make_graph(
        nodes,
        "mixvargenet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", layout.classes])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="accel")
    onnx.checker.check_model(model)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(build(mixvargenet(given.classes), given.size, given.seed), str(given.out))


if __name__ == "__main__":
    main()
