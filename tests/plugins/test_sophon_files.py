"""What the plugin reads and writes for the compiler: MLIR text, tables, model_tool's listing."""

from __future__ import annotations

from pathlib import Path

import pytest
from accel.calibration import Range
from accel.errors import AccelError
from accel_sophon import bmodel, mlir, names, table

FIXTURES = Path(__file__).parents[1] / "fixtures" / "sophon"


def test_float_mlir() -> None:
    module = mlir.read(FIXTURES / "small_top.mlir")
    assert module.attributes["module.chip"] == "ALL"
    assert module.weight_file == "tiny_top_f32_all_weight.npz"
    assert [op.name for op in module.values()] == [
        "input",
        "r1_Relu",
        "c2_Conv",
        "s_Add",
        "g_GlobalAveragePool",
        "f_Flatten",
        "prob_Gemm",
    ]
    assert module.by_name["s_Add"].inputs == ("c2_Conv", "r1_Relu")


def test_lowered_mlir_says_what_each_layer_is_stored_in() -> None:
    module = mlir.read(FIXTURES / "small_bm1684_tpu.mlir")
    conv = module.by_name["r1_Relu"]
    assert conv.precision == "int8" and conv.step == pytest.approx(6.3917894 / 255)
    assert conv.integers("rshift") == (7,)
    assert module.by_name["g_GlobalAveragePool"].precision == "fp32"
    assert module.by_name["s_Add"].integers("multipliers") == (87, 77)


def test_foreign_text_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\xff\xfe\x00"):
        (tmp_path / "x.mlir").write_bytes(content)
        with pytest.raises(AccelError) as caught:
            mlir.read(tmp_path / "x.mlir")
        assert caught.value.code == "failed.compiler"


def test_locations_to_tensors() -> None:
    tensors = {"input": "", "r1": "Relu", "c2": "Conv", "bn": "BatchNormalization", "x_Relu": "Conv"}
    found = names.tensor_by_location(
        ["input", "r1_Relu", "c2_Conv", "bn_Conv", "x_Relu_Conv", "made_up_r_Reshape", "x_Relu"], tensors
    )
    assert found == {
        "input": "input",
        "r1_Relu": "r1",
        "c2_Conv": "c2",
        "bn_Conv": "bn",
        "x_Relu_Conv": "x_Relu",
        "x_Relu": "x_Relu",
    }


def test_names_the_compiler_cannot_hold() -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["in put"], ['a"b']), helper.make_node("Relu", ['a"b'], ["a_b"])],
        "g",
        [helper.make_tensor_value_info("in put", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("a_b", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph)
    renamed = names.safe_names(model)
    assert set(renamed) == {"in put", 'a"b'} and renamed['a"b'] != "a_b"
    made = names.rename(model, renamed)
    assert made.graph.node[1].input[0] == renamed['a"b']
    assert model.graph.node[1].input[0] == 'a"b'


def test_every_value_gets_a_row(tmp_path: Path) -> None:
    module = mlir.read(FIXTURES / "small_top.mlir")
    tensors = names.tensor_by_location(
        [op.name for op in module.values()],
        {"input": "", "r1": "Relu", "c2": "Conv", "s": "Add", "g": "GlobalAveragePool", "f": "Flatten", "prob": "Gemm"},
    )
    ranges = {name: Range(-1.0, 2.0) for name in ("input", "c2", "s", "g", "prob")} | {"r1": Range(0.0, 6.0)}
    rows = table.ranges_by_location(module, tensors, ranges)  # f has none: a Flatten keeps its operand's
    assert list(rows) == [op.name for op in module.values()]
    assert rows["f_Flatten"] == Range(-1.0, 2.0)
    table.write_calibration(tmp_path / "t", rows, "test")
    read = table.read_calibration(tmp_path / "t")
    assert read["r1_Relu"] == (6.0, 0.0, 6.0) and read["prob_Gemm"] == (2.0, -1.0, 2.0)
    del ranges["c2"]
    with pytest.raises(AccelError) as caught:
        table.ranges_by_location(module, tensors, ranges)
    assert caught.value.code == "calibration.missing" and "c2_Conv" in caught.value.cause


def test_vendors_own_table_is_read() -> None:
    rows = table.read_calibration(FIXTURES / "calibration_table.txt")
    assert len(rows) == 10 and rows["relu_3_Relu"][0] == pytest.approx(3.5079436)


def test_bad_table_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("# x\nconv 1.0 nonsense 2\n")
    with pytest.raises(AccelError, match="line 2"):
        table.read_calibration(tmp_path / "t")


def test_precisions_by_node() -> None:
    module = mlir.read(FIXTURES / "small_top.mlir")
    tensors = {"r1_Relu": "r1", "c2_Conv": "c2"}
    outputs = {"conv1": ("c1",), "relu1": ("r1",), "conv2": ("c2",)}
    assert table.locations_of_nodes(module, tensors, outputs, {"conv2": "fp32"}) == {"c2_Conv": "fp32"}
    with pytest.raises(AccelError, match="no node 'conv3'") as caught:
        table.locations_of_nodes(module, tensors, outputs, {"conv3": "fp32"})
    assert "conv2" in caught.value.hints[0]
    with pytest.raises(AccelError, match="fused"):
        table.locations_of_nodes(module, tensors, outputs, {"conv1": "fp32"})


def test_model_tool_info() -> None:
    found = bmodel.parse_info((FIXTURES / "model_tool_info.txt").read_text())
    assert found.chip == "BM1684" and found.nets[0].name == "small" and found.nets[0].kind == "static"
    (stage,) = found.nets[0].stages
    assert stage.inputs[0] == bmodel.Tensor("input", (1, 3, 32, 32), "float32", 1.0, 0)
    assert found.memory["weight"] == 45056 and found.memory["runtime"] == 106496


def test_model_tool_info_of_two_batches() -> None:
    found = bmodel.parse_info((FIXTURES / "model_tool_info_two_batches.txt").read_text())
    assert [s.inputs[0].shape[0] for s in found.nets[0].stages] == [4, 1]


def test_info_of_something_else() -> None:
    with pytest.raises(AccelError) as caught:
        bmodel.parse_info("file is not a bmodel")
    assert caught.value.code == "failed.bmodel"


def test_results_under_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "x.mlir").write_text(
        'module @net attributes {module.chip = "bm1684"} {\n'
        '  %0 = "top.Input"(%arg0) {} : (tensor<1x8xf32>) -> tensor<1x8xf32> loc(#loc1)\n'
        '  %indices, %values = "top.Arg"(%0) {} : (tensor<1x8xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) loc(#loc2)\n'
        '  %3:2 = "top.TopK"(%values) {} : (tensor<1x1xf32>) -> (tensor<1x1xf32>, tensor<1x1xf32>) loc(#loc3)\n'
        '  %4 = "top.Relu"(%3#1) {} : (tensor<1x1xf32>) -> tensor<1x1xf32> loc(#loc4)\n'
        '}\n#loc1 = loc("in")\n#loc2 = loc(fused["which", "best"])\n#loc3 = loc(fused["a", "b"])\n#loc4 = loc("out")\n'
    )
    ops = {op.kind: op for op in mlir.read(tmp_path / "x.mlir").values()}
    assert ops["top.Arg"].names == ("which", "best") and ops["top.Arg"].inputs == ("in",)
    assert ops["top.TopK"].inputs == ("best",) and ops["top.Relu"].inputs == ("b",)


def test_indices_need_no_row_and_flags_have_one() -> None:
    line = '%0 = "{}"(%x)'
    ops = [
        mlir.Op(kind, (name,), inputs, "", line.format(kind))
        for kind, name, inputs in (
            ("top.Input", "x", ()),
            ("top.Arg", "which", ("x",)),
            ("top.CompareConst", "flags", ("x",)),
        )
    ]
    rows = table.ranges_by_location(mlir.Module({}, tuple(ops)), {"x": "x"}, {"x": Range(-1.0, 1.0)})
    assert rows == {"x": Range(-1.0, 1.0), "flags": Range(0.0, 1.0)}
