"""A network in two parts: together they compute what the whole does, and nothing heavy is left to the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from accel import driver
from accel.builtin.evaluate.host_tail import HostTail
from accel.builtin.prepare.batch import set_batch
from accel.builtin.prepare.split import split_tail
from accel.errors import AccelError
from accel.model import Model, io_specs
from onnx import TensorProto, helper, numpy_helper


def detector() -> Model:
    """A convolution, scores and boxes, the best three by score (TopK), their boxes; and the map itself."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["map"], "conv", pads=[1] * 4),
        node("Relu", ["map"], ["features"], "relu"),
        node("ReduceMean", ["features"], ["scores"], "mean", axes=[2, 3], keepdims=0),
        node("CumSum", ["scores", "axis"], ["sums"], "sums"),
        node("TopK", ["sums", "three"], ["best", "which"], "best"),
        node("Gather", ["names", "which"], ["labels"], "labels"),
    ]
    held = [
        numpy_helper.from_array(rng.standard_normal((5, 2, 3, 3)).astype(np.float32), "w"),
        numpy_helper.from_array(np.array(1, np.int64), "axis"),
        numpy_helper.from_array(np.array([3], np.int64), "three"),
        numpy_helper.from_array(np.arange(5, dtype=np.float32) * 10, "names"),
    ]
    values = [("best", TensorProto.FLOAT, 3), ("labels", TensorProto.FLOAT, 3), ("which", TensorProto.INT64, 3)]
    outputs = [helper.make_tensor_value_info(n, kind, ["n", c]) for n, kind, c in values]
    outputs.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 5, 6, 6]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])
    graph = helper.make_graph(nodes, "detector", [given], outputs, held)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return Model(onnx.shape_inference.infer_shapes(proto), "detector", *io_specs(proto))


def test_the_parts_together_are_the_whole(tmp_path: Path) -> None:
    model = detector()
    split = split_tail(model, {"sums": "the chip has no CumSum"})
    assert split is not None
    assert [n.op_type for n in split.chip.proto.graph.node] == ["Conv", "Relu", "ReduceMean"]
    assert {o.name for o in split.chip.outputs} == {"scores", "features"}
    assert split.nodes["sums"] == "the chip has no CumSum" and set(split.nodes) == {"sums", "best", "labels"}
    onnx.checker.check_model(split.chip.proto, full_check=True)
    tail = split_tail(set_batch(model, 2), split.nodes)
    assert tail is not None
    onnx.checker.check_model(tail.host.proto, full_check=True)
    onnx.save(tail.host.proto, tmp_path / "tail.onnx")
    x = np.random.default_rng(1).standard_normal((3, 2, 6, 6)).astype(np.float32)  # not a multiple of the batch
    with (
        driver.run_float(model) as whole,
        HostTail(driver.run_float(split.chip), tmp_path / "tail.onnx", model.outputs, 2) as parts,
    ):
        want, got = whole.run({"x": x}), parts.run({"x": x})
        assert set(got) == set(want)
        for name, array in want.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6, err_msg=name)
            assert got[name].dtype == array.dtype
        # Values of either part can be looked at alone.
        np.testing.assert_allclose(parts.run({"x": x}, ["sums"])["sums"], whole.run({"x": x}, ["sums"])["sums"], 1e-5)
        assert set(parts.run({"x": x}, ["map"])) == {"map"}


def test_nothing_unsupported_is_no_split() -> None:
    assert split_tail(detector(), {}) is None


def test_a_tail_with_a_convolution_is_refused() -> None:
    with pytest.raises(AccelError, match="conv") as caught:
        model = detector()
        front = helper.make_node("Erf", ["x"], ["y"], "erf")
        model.proto.graph.node.insert(0, front)
        model.proto.graph.node[1].input[0] = "y"
        split_tail(model, {"erf": "the chip has no Erf"})
    assert caught.value.code == "unsupported.op" and caught.value.node == "erf"
    assert caught.value.cause == "the chip has no Erf"


def test_a_network_of_nothing_else_is_refused() -> None:
    with pytest.raises(AccelError) as caught:
        split_tail(detector(), {n.name: "no" for n in detector().proto.graph.node})
    assert caught.value.code == "unsupported.op"


def test_a_broken_tail_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "tail.onnx").write_bytes(b"nonsense")
    with pytest.raises(AccelError) as caught:
        HostTail(driver.run_float(detector()), tmp_path / "tail.onnx", (), 1)
    assert caught.value.code == "artifact.incomplete"
