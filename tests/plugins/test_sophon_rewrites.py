"""What BM1684's compiler gets wrong is rewritten, and only that; the network stays the same to the bit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from accel import driver
from accel.model import Model, io_specs
from accel.plugins import Registry
from accel_sophon.rewrites import spread_dilations
from onnx import TensorProto, helper, numpy_helper


def network(group: int, dilations: tuple[int, int], kernel: tuple[int, int] = (3, 3), channels: int = 8) -> Model:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((channels, channels // group, *kernel)).astype(np.float32)
    pads = [(k - 1) * d // 2 for k, d in zip(kernel, dilations, strict=True)] * 2
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", dilations=dilations, group=group, pads=pads)
    graph = helper.make_graph(
        [node],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, channels, 15, 15])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 15, 15])],
        [numpy_helper.from_array(weight, "w")],
    )
    proto = onnx.shape_inference.infer_shapes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    )
    return Model(proto, "net", *io_specs(proto))


@pytest.mark.parametrize(("dilations", "kernel"), [((2, 2), (3, 3)), ((1, 3), (3, 5)), ((4, 2), (3, 1))])
def test_the_rewritten_network_is_the_same(dilations: tuple[int, int], kernel: tuple[int, int]) -> None:
    target = Registry().target("bm1684")
    model = network(8, dilations, kernel)
    made = spread_dilations(model, target, target.numerics_for("int8"))
    onnx.checker.check_model(made.proto, full_check=True)
    (node,) = made.proto.graph.node
    assert list(next(a for a in node.attribute if a.name == "dilations").ints) == [1, 1]
    x = np.random.default_rng(1).integers(-128, 128, (1, 8, 15, 15)).astype(np.float32)
    with driver.run_float(model) as before, driver.run_float(made) as after:
        np.testing.assert_allclose(after.run({"x": x})["y"], before.run({"x": x})["y"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("target", "precision", "group", "dilations"),
    [
        ("bm1684", "fp32", 8, (2, 2)),
        ("bm1684x", "int8", 8, (2, 2)),
        ("bm1684", "int8", 2, (2, 2)),
        ("bm1684", "int8", 1, (2, 2)),
        ("bm1684", "int8", 8, (1, 1)),
    ],
)
def test_nothing_else_is_touched(target: str, precision: str, group: int, dilations: tuple[int, int]) -> None:
    chip = Registry().target(target)
    model = network(group, dilations)
    assert spread_dilations(model, chip, chip.numerics_for(precision)) is model
