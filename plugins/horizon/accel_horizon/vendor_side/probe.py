"""Proves that the toolchain works: compiles a tiny network and simulates what came out."""

import json
from pathlib import Path

import numpy as np
from hbdk import __version__ as hbdk_version
from horizon_nn.builder.model_builder import ModelBuilder
from horizon_nn.converter import parse
from horizon_nn.executor import ORTExecutor
from horizon_nn.version import __version__ as hmct_version
from onnx import TensorProto, helper, numpy_helper, save

SHAPE = [1, 3, 16, 16]


def network():
    rng = np.random.RandomState(0)
    weight = numpy_helper.from_array((rng.rand(8, 3, 3, 3) - 0.5).astype(np.float32), "weight")
    node = helper.make_node("Conv", ["data", "weight"], ["result"], "conv", kernel_shape=[3, 3], pads=[1] * 4)
    data = helper.make_tensor_value_info("data", TensorProto.FLOAT, SHAPE)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 8, 16, 16])
    graph = helper.make_graph([node], "probe", [data], [result], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)


def main():
    save(network(), "probe.onnx")
    builder = ModelBuilder(
        onnx_model=parse(model_type="onnx", onnx_model_or_proto="probe.onnx"),
        march="bayes",
        check_mode=True,
        verbose=False,
        name_prefix="probe",
        input_dict={"data": {"input_shape": SHAPE}},
        hbdk_dict={"hbdk_pass_through_params": "--O0"},
    )
    builder.build()
    feeds = {"data": np.random.RandomState(1).rand(*SHAPE).astype(np.float32)}
    expected = ORTExecutor(builder.quantized_model).to("cpu").create_session().forward(feeds)["result"]
    chip = ORTExecutor(builder.hybrid_model).to("cpu").create_session().forward(feeds)["result"]
    assert expected.any() and np.array_equal(expected, chip), "the simulated chip disagrees with the quantised network"
    Path("probe.json").write_text(json.dumps({"hbdk": hbdk_version, "hmct": hmct_version}))


if __name__ == "__main__":
    main()
