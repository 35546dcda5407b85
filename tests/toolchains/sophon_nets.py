"""Small networks and data for the tests of the Sophon toolchain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from accel.dataset import Sample
from onnx import TensorProto, helper, numpy_helper


def weights(name: str, *shape: int, seed: int = 0, gain: float = 0.3) -> onnx.TensorProto:
    values = np.random.default_rng([seed, len(name), *map(ord, name)]).standard_normal(shape)
    return numpy_helper.from_array((values * gain).astype(np.float32), name)


def small_cnn(path: Path, extra: str = "") -> Path:
    """Convolutions plain, depthwise and pointwise, an addition, pooling and a matrix product; 3x16x16 to 10.

    ``extra``: ``min`` puts a Min with a constant a channel behind the addition, ``hardmax`` an operator that
    the compiler lacks, ``dilated`` a dilation into the depthwise convolution, ``tail`` running sums and the best
    three of them behind the result.
    """
    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4, kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1] * 4, group=8, kernel_shape=[3, 3]),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="add"),
        helper.make_node("MaxPool", ["sum"], ["pooled"], name="maxpool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["pooled"], ["g"], name="gap"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], name="fc", transB=1),
    ]
    held = [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 8, 1, 3, 3), weights("b2", 8)]
    held += [weights("w3", 10, 8), weights("b3", 10)]
    if extra == "dilated":
        nodes[2] = helper.make_node(
            "Conv",
            ["r1", "w2", "b2"],
            ["c2"],
            name="conv2",
            pads=[2] * 4,
            dilations=[2, 2],
            group=8,
            kernel_shape=[3, 3],
        )
    if extra == "min":
        nodes.insert(4, helper.make_node("Min", ["sum", "limits"], ["kept"], name="minimum"))
        nodes[5].input[0] = "kept"
        held.append(numpy_helper.from_array(np.linspace(0.2, 3, 8, dtype=np.float32).reshape(1, 8, 1, 1), "limits"))
    if extra == "hardmax":
        nodes.insert(4, helper.make_node("Hardmax", ["sum"], ["kept"], name="mine"))
        nodes[5].input[0] = "kept"
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])]
    if extra == "tail":
        nodes += [
            helper.make_node("CumSum", ["logits", "axis"], ["sums"], name="running"),
            helper.make_node("TopK", ["sums", "three"], ["values", "which"], name="best"),
        ]
        held += [numpy_helper.from_array(np.array(1), "axis"), numpy_helper.from_array(np.array([3]), "three")]
        kinds = {"values": TensorProto.FLOAT, "which": TensorProto.INT64}
        outputs = [helper.make_tensor_value_info(name, kind, ["n", 3]) for name, kind in kinds.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 16, 16])],
        outputs,
        held,
    )
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def small_detector(path: Path) -> Path:
    """Boxes and scores of a 16x16 grid from two convolutions, decoded and sent through a NonMaxSuppression."""
    rows, columns = np.meshgrid(np.arange(16), np.arange(16), indexing="ij")
    centres = np.stack([rows, columns, rows + 1, columns + 1], -1).reshape(1, 256, 4).astype(np.float32) / 16
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "w1", "b1"], ["c1"], name="conv1", pads=[1] * 4),
        node("Relu", ["c1"], ["r1"], name="relu1"),
        node("Conv", ["r1", "w2"], ["offsets"], name="box"),
        node("Conv", ["r1", "w3"], ["heat"], name="score"),
        node("Reshape", ["offsets", "to_boxes"], ["flat"], name="flat"),
        node("Transpose", ["flat"], ["rows"], name="rows", perm=[0, 2, 1]),
        node("Mul", ["rows", "tenth"], ["scaled"], name="scaled"),
        node("Add", ["scaled", "centres"], ["decoded"], name="decoded"),
        node("Sigmoid", ["heat"], ["certain"], name="certain"),
        node("Reshape", ["certain", "to_scores"], ["confidence"], name="confidence"),
        node("NonMaxSuppression", ["decoded", "confidence", "most", "overlap", "least"], ["kept"], name="nms"),
    ]
    held = [weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 4, 8, 1, 1), weights("w3", 1, 8, 1, 1)]
    constants = {
        "to_boxes": np.array([1, 4, 256]),
        "to_scores": np.array([1, 1, 256]),
        "tenth": np.float32([0.1]),
        "centres": centres,
        "most": np.array([5]),
        "overlap": np.float32([0.5]),
        "least": np.float32([0.3]),
    }
    held += [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("kept", TensorProto.INT64, ["boxes", 3])],
        held,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


class Clouds:
    """A data set of smooth random pictures."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed = count, seed
        self.digest = f"{seed:08d}{count:056d}"

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Sample]:
        for at in range(self.count):
            rng = np.random.default_rng([self.seed, at])
            coarse = rng.standard_normal((1, 3, 4, 4))
            picture = np.repeat(np.repeat(coarse, 4, axis=2), 4, axis=3) + 0.2 * rng.standard_normal((1, 3, 16, 16))
            yield Sample(f"cloud {at}", {"input": picture.astype(np.float32)})
