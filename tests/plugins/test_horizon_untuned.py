"""The float stage: tuning taken back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from accel.model import Model
from accel_horizon.untuned import restore, untuned_constants
from onnx import numpy_helper
from toolchains.horizon_nets import small_net


def changed(model: Model, node: str, at: int, values: np.ndarray, name: str) -> Model:
    """``model`` with another constant at an operand; the old one goes."""
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    found = next(n for n in proto.graph.node if n.name == node)
    if at < len(found.input):
        kept = [i for i in proto.graph.initializer if i.name != found.input[at]]
        del proto.graph.initializer[:]
        proto.graph.initializer.extend(kept)
    del found.input[at:]
    found.input.append(name)
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return model.with_proto(proto)


def test_constants_come_back(tmp_path: Path) -> None:
    model = small_net()
    held = {i.name: numpy_helper.to_array(i) for i in model.proto.graph.initializer}
    tuned = changed(model, "conv1", 2, held["b1"] + 1, "b1_new")
    tuned = changed(tuned, "conv1", 2, held["b1"] + 2, "b1")  # a name that an earlier pass has left
    tuned = changed(tuned, "pointwise", 2, np.ones(16, np.float32), "c3_bias")  # there was none
    found = untuned_constants(model, tuned)
    assert set(found) == {"b1", "c3_bias"}
    path = tmp_path / "float.onnx"
    onnx.save(tuned.proto, str(path))
    restore(path, found)
    after = {i.name: numpy_helper.to_array(i) for i in onnx.load(str(path)).graph.initializer}
    assert np.array_equal(after["b1"], held["b1"])
    assert not after["c3_bias"].any()
    assert untuned_constants(model, model) == {}
