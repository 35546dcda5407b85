"""The ONNX frontend: options, old operator sets, external data, and one clear error for each broken file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from accel.builtin.frontends import plugin
from accel.builtin.prepare import verify
from accel.errors import AccelError, ExitCode
from accel.model import Model
from accel.options import ParseOptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make import MODELS
from onnx import TensorProto, helper, numpy_helper


def parse(path: Path, **options: object) -> Model:
    model = plugin.accel_parse(path, ParseOptions(**options))  # type: ignore[arg-type]
    assert model is not None
    return model


def net(
    *,
    shape: tuple[int | str, ...] = ("N", 3, 8, 8),
    opset: int = 13,
    ir: int = 8,
    nodes: list[onnx.NodeProto] | None = None,
    weight: np.ndarray | None = None,
) -> onnx.ModelProto:
    """Conv, ReLU and a global mean; two classes."""
    rng = np.random.default_rng(1)
    weight = rng.standard_normal((2, 3, 3, 3)).astype(np.float32) if weight is None else weight
    nodes = nodes or [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["y"], "flat"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32([0.5, -0.5]), "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def saved(tmp_path: Path, proto: onnx.ModelProto, name: str = "net.onnx") -> Path:
    path = tmp_path / name
    path.write_bytes(proto.SerializeToString())
    return path


def failure(path: Path, **options: object) -> AccelError:
    with pytest.raises(AccelError) as caught:
        parse(path, **options)
    return caught.value


def test_free_batch_is_named_batch_and_shapes_are_inferred(tmp_path: Path) -> None:
    model = parse(saved(tmp_path, net()))
    assert [str(s) for s in (*model.inputs, *model.outputs)] == ["x: float32[batch,3,8,8]", "y: float32[batch,2]"]
    assert "r" in {v.name for v in model.proto.graph.value_info}
    assert model.name == "net"
    assert model.sources == (tmp_path / "net.onnx",)


@pytest.mark.parametrize("name", list(MODELS))
def test_real_models_are_simplified_without_a_change(tmp_path: Path, name: str) -> None:
    proto = MODELS[name]()
    model = parse(saved(tmp_path, proto))
    assert not model.notes
    assert len(model.proto.graph.node) < len(proto.graph.node)
    assert verify.difference(proto, model.proto, batch=2) < 1e-4
    assert model.digest == parse(saved(tmp_path, proto, "again.onnx")).digest


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 17, 21])
def test_any_operator_set_reads_and_computes_the_same(tmp_path: Path, opset: int) -> None:
    proto = net(opset=opset, ir=3 if opset < 9 else 8)
    if proto.ir_version == 3:  # initialisers had to be listed as inputs
        for held in proto.graph.initializer:
            proto.graph.input.append(helper.make_tensor_value_info(held.name, held.data_type, held.dims))
    model = parse(saved(tmp_path, proto))
    assert [s.name for s in model.inputs] == ["x"]
    assert max(i.version for i in model.proto.opset_import) >= 11
    assert verify.difference(net(opset=max(opset, 7)), model.proto) < 1e-5


def test_rename_reshape_and_cut(tmp_path: Path) -> None:
    path = saved(tmp_path, net(shape=("N", 3, "H", "W")))
    model = parse(path, renames={"x": "image"}, input_shapes={"x": (2, 3, 16, 12)}, output_names=("r",))
    assert [str(s) for s in (*model.inputs, *model.outputs)] == [
        "image: float32[2,3,16,12]",
        "r: float32[2,2,16,12]",
    ]


def test_input_shape_of_the_only_input_needs_no_name(tmp_path: Path) -> None:
    model = parse(saved(tmp_path, net(shape=("N", 3, "H", "W"))), input_shapes={"": (-1, 3, 10, 10)})
    assert model.inputs[0].shape == ("batch", 3, 10, 10)


def test_other_free_dimensions_must_be_given(tmp_path: Path) -> None:
    error = failure(saved(tmp_path, net(shape=("N", 3, "H", "W"))))
    assert error.code == "usage.dynamic_shape"
    assert error.exit_code == ExitCode.USAGE
    assert "--input-shape x=" in error.hints[0]
    model = parse(tmp_path / "net.onnx", extra={"dynamic": "keep"})
    assert model.inputs[0].shape == ("batch", 3, "H", "W")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"input_shapes": {"nope": (1, 3, 8, 8)}}, "usage.input"),
        ({"input_shapes": {"x": (1, 3, 8)}}, "usage.input_shape"),
        ({"input_shapes": {"x": (1, 3, 0, 8)}}, "usage.input_shape"),
        ({"input_shapes": {"x": (1, 4, 8, 8)}}, "model.shape"),
        ({"renames": {"nope": "image"}}, "usage.input"),
        ({"renames": {"x": "r"}}, "usage.input"),
        ({"output_names": ("nope",)}, "usage.output"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, object], code: str) -> None:
    assert failure(saved(tmp_path, net()), **options).code == code


def test_wrong_shape_names_the_node(tmp_path: Path) -> None:
    error = failure(saved(tmp_path, net()), input_shapes={"x": (1, 4, 8, 8)})
    assert error.node == "conv"


def test_external_data_is_brought_inside(tmp_path: Path) -> None:
    proto = net()
    path = tmp_path / "net.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    model = parse(path)
    assert verify.difference(net(), model.proto) < 1e-6
    assert [p.name for p in model.sources] == ["net.onnx", "net.bin"]
    assert hashlib.sha256(path.read_bytes()).digest()  # the file is not changed
    assert "net.bin" in path.read_bytes().decode("latin-1")
    (tmp_path / "net.bin").write_bytes((tmp_path / "net.bin").read_bytes()[:-8])
    assert "too short" in failure(path).cause
    (tmp_path / "net.bin").unlink()
    assert failure(path).code == "model.external_data"


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "sub/../../secret.bin", "", "link.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(1024))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    proto = net()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    error = failure(saved(folder, proto))
    assert error.code == "model.external_data"
    assert "outside" in error.cause


def test_not_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(64), b"just words\n", b"{}"):
        path.write_bytes(content)
        assert failure(path).code == "model.not_onnx"
    path.write_bytes(b"")
    assert failure(path).code == "model.truncated"
    path.unlink()
    assert failure(path).code == "usage.source"


def test_truncated_anywhere(tmp_path: Path) -> None:
    whole = net().SerializeToString()
    path = tmp_path / "net.onnx"
    for length in range(2, len(whole), 11):
        path.write_bytes(whole[:length])
        assert failure(path).code in ("model.truncated", "model.not_onnx"), length


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=3))
def test_damaged_bytes_are_one_clear_error_or_a_model(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    content = bytearray(net().SerializeToString())
    for at, value in changes:
        content[at % len(content)] = value
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    try:
        assert parse(path, simplify=False).outputs
    except AccelError as error:
        assert error.code.startswith(("model.", "unsupported.", "usage."))


def test_unknown_operator_and_domain_name_the_node(tmp_path: Path) -> None:
    error = failure(saved(tmp_path, net(nodes=[helper.make_node("Convv", ["x", "w"], ["y"], "first")])))
    assert (error.code, error.node, error.exit_code) == ("unsupported.op", "first", ExitCode.UNSUPPORTED)
    assert "Conv" in error.hints[0]
    proto = net(nodes=[helper.make_node("FusedConv", ["x", "w"], ["y"], "fused", domain="com.microsoft")])
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    error = failure(saved(tmp_path, proto))
    assert (error.code, error.node) == ("unsupported.op", "fused")


def test_newer_operator_set_than_known(tmp_path: Path) -> None:
    assert failure(saved(tmp_path, net(opset=200))).code == "unsupported.opset"


def test_nan_weights_name_their_node(tmp_path: Path) -> None:
    weight = np.ones((2, 3, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.nan
    error = failure(saved(tmp_path, net(weight=weight)))
    assert (error.code, error.node) == ("model.nan", "conv")


def test_local_functions_are_inlined(tmp_path: Path) -> None:
    double = helper.make_function(
        "mine", "Double", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    proto = net(nodes=[helper.make_node("Double", ["x"], ["y"], "twice", domain="mine")])
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    proto.functions.append(double)
    model = parse(saved(tmp_path, proto))
    assert [n.op_type for n in model.proto.graph.node] == ["Add"]


def test_other_suffixes_are_left_to_others(tmp_path: Path) -> None:
    assert plugin.accel_parse(tmp_path / "net.acme", ParseOptions()) is None


def test_a_simplifier_that_fails_costs_only_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxslim

    def broken(proto: onnx.ModelProto) -> onnx.ModelProto:
        raise RuntimeError("slimmed to death")

    monkeypatch.setattr(onnxslim, "slim", broken)
    model = parse(saved(tmp_path, net()))
    assert "slimmed to death" in model.notes[0]

    def wrong(proto: onnx.ModelProto) -> onnx.ModelProto:
        proto.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.float32([5, 5]), "b"))
        return proto

    monkeypatch.setattr(onnxslim, "slim", wrong)
    model = parse(saved(tmp_path, net()))
    assert "would change" in model.notes[0]
    assert verify.difference(net(), model.proto) < 1e-6


def test_shape_flags_of_the_command_line() -> None:
    from accel.cli.flags import shapes

    assert shapes(["1,3,8,8", "x=-1,3,8,8"]) == {"": (1, 3, 8, 8), "x": (-1, 3, 8, 8)}
    for wrong in ("1,-1,8,8", "-1,-1", "0,3", "-2,3"):
        with pytest.raises(AccelError):
            shapes([wrong])
