"""Setting the batch and cutting a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from accel.builtin.prepare import verify
from accel.builtin.prepare.batch import set_batch
from accel.builtin.prepare.cut import cut
from accel.builtin.prepare.graph import infer
from accel.errors import AccelError
from accel.model import Model, io_specs
from make import MODELS
from onnx import TensorProto, helper, numpy_helper


def model_of(proto: onnx.ModelProto) -> Model:
    proto = infer(proto)
    return Model(proto, "net", *io_specs(proto))


def reshaping(batch: int | str, target: list[int]) -> Model:
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "target"], ["r"], "reshape"),
            helper.make_node("MatMul", ["r", "w"], ["y"], "fc"),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array(target), "target"),
            numpy_helper.from_array(np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32), "w"),
        ],
    )
    return model_of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


@pytest.mark.parametrize("name", list(MODELS))
def test_real_models_at_a_batch(name: str) -> None:
    model = model_of(MODELS[name]())
    four = set_batch(model, 4)
    assert four.inputs[0].shape == (4, 3, 224, 224)
    assert four.outputs[0].shape == (4, 1000)
    assert four.passes == ("batch=4",)
    x = verify.random_inputs(four.inputs)
    (wide,) = verify.run(four.proto, x)
    (one,) = verify.run(model.proto, {"input": x["input"][2:3]})
    assert verify.relative(one, wide[2:3]) < 1e-5
    assert set_batch(four, "batch").outputs[0].shape == ("batch", 1000)


def test_a_batch_built_into_a_reshape_follows() -> None:
    model = set_batch(reshaping(1, [1, 12]), 3)
    assert model.outputs[0].shape == (3, 5)


def test_a_batch_that_cannot_change_is_refused() -> None:
    with pytest.raises(AccelError) as caught:
        set_batch(reshaping(2, [-1, 2, 12]), 3)
    assert caught.value.code == "unsupported.batch"


def test_batch_zero_is_refused() -> None:
    with pytest.raises(AccelError):
        set_batch(reshaping("batch", [0, 12]), 0)


def test_cut_at_an_inner_tensor() -> None:
    model = model_of(MODELS["mobilenet-v2"]())
    inner = cut(model, ["features_1_conv_1", "pool"])
    assert [str(o) for o in inner.outputs] == [
        "features_1_conv_1: float32[batch,16,112,112]",
        "pool: float32[batch,1280,1,1]",
    ]
    x = verify.random_inputs(model.inputs)
    assert verify.run(inner.proto, x)[1].shape == (1, 1280, 1, 1)
    small = cut(model, ["features_1_conv_1"])
    assert len(small.proto.graph.initializer) < 20
    assert cut(model, ["logits"]) is model


def test_cut_at_an_unknown_tensor_offers_near_names() -> None:
    with pytest.raises(AccelError) as caught:
        cut(model_of(MODELS["mobilenet-v2"]()), ["logit"])
    assert caught.value.code == "usage.output"
    assert "logits" in caught.value.hints[0]
