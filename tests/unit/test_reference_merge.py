"""Merged pointwise convolutions: the same function, and the passes that come after see them."""

from __future__ import annotations

import numpy as np
import onnx
from accel.builtin.prepare import verify
from accel.builtin.reference.merge import merge_pointwise
from onnx import TensorProto, helper, numpy_helper


def network(*, kernel: int = 1, shared: bool = False) -> onnx.ModelProto:
    rng = np.random.default_rng(0)

    def held(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first"),
        helper.make_node("Conv", ["a", "w2"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="relu"),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    if shared:
        outputs.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        outputs,
        [held("w1", 4, 3, 1, 1), held("b1", 4), held("w2", 6, 4, kernel, kernel)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_two_become_one_and_compute_the_same() -> None:
    before = network()
    after, gone = merge_pointwise(before)
    assert gone == {"first": "second"}
    assert [n.op_type for n in after.graph.node] == ["Conv", "Relu"]
    assert len(before.graph.node) == 3
    assert verify.difference(before, after) < 1e-5


def test_what_stays() -> None:
    for proto, keep in ((network(kernel=3), ()), (network(shared=True), ()), (network(), ("first",))):
        after, gone = merge_pointwise(proto, keep=keep)
        assert gone == {} and len(after.graph.node) == 3
