"""Networks that differ in weights only share one transform."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from accel_sophon import weights
from onnx import TensorProto, helper, numpy_helper


def net(gain: float = 1.0, bound: float = 6.0, shared: bool = False, suffix: str = "") -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    held = {
        f"w{suffix}": rng.normal(size=(4, 3, 3, 3)) * gain,
        f"b{suffix}": rng.normal(size=4) * gain,
        f"m{suffix}": rng.normal(size=(5, 4)) * gain,
        "low": np.zeros(()),
        "high": np.full((), bound),
    }
    nodes = [
        helper.make_node("Conv", ["x", f"w{suffix}", f"b{suffix}"], ["c"], name="conv"),
        helper.make_node("Clip", ["c", "low", "high"], ["r"], name="clip"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], name="pool"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", f"m{suffix}"], ["y"], name="fc", transB=1),
    ]
    if shared:
        nodes.append(helper.make_node("Identity", [f"b{suffix}"], ["also"], name="also"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(v.astype(np.float32), n) for n, v in held.items()],
    )
    return helper.make_model(graph)


def test_values_and_names_of_weights_do_not_count_but_everything_else_does() -> None:
    digest, found = weights.split(net())
    assert set(found) == {"c:1", "c:2", "y:1"}
    assert weights.split(net(gain=2, suffix="_tuned"))[0] == digest
    assert weights.split(net(bound=4))[0] != digest
    assert set(weights.split(net(shared=True))[1]) == {"c:1", "y:1"}


def test_found_and_replaced_in_the_compilers_file(tmp_path: Path) -> None:
    proto, other = net(), net(gain=3, suffix="_tuned")
    values, new = weights.split(proto)[1], weights.split(other)[1]
    file = tmp_path / "weights.npz"
    np.savez(file, w=values["c:1"], b=values["c:2"].reshape(1, 4), m_fix=values["y:1"].T, more=np.ones(3, np.float32))
    places = weights.find(proto, values, file)
    assert places == {"c:1": ("w", False), "c:2": ("b", False), "y:1": ("m_fix", True)}
    weights.save(places, tmp_path / "places.json")
    weights.put(new, weights.load(tmp_path / "places.json"), file)
    with np.load(file) as made:
        np.testing.assert_array_equal(made["w"], new["c:1"])
        np.testing.assert_array_equal(made["b"], new["c:2"].reshape(1, 4))
        np.testing.assert_array_equal(made["m_fix"], new["y:1"].T)
        np.testing.assert_array_equal(made["more"], np.ones(3))


@pytest.mark.parametrize("change", ["missing", "folded"])
def test_a_file_that_holds_something_else_is_not_used(tmp_path: Path, change: str) -> None:
    proto = net()
    values = weights.split(proto)[1]
    arrays = {"w": values["c:1"], "b": values["c:2"], "m": values["y:1"]}
    if change == "missing":
        del arrays["b"]
    else:
        arrays["w"] = arrays["w"] * 2
    np.savez(tmp_path / "weights.npz", **arrays)
    assert weights.find(proto, values, tmp_path / "weights.npz") is None
