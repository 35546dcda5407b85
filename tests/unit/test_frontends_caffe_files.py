"""Caffe's files: every dialect of them is read, and every way they can be broken is one clear error."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.frontends.caffe.caffemodel import read_caffemodel
from accel.builtin.frontends.caffe.prototxt import MAX_DEPTH, parse_text
from accel.builtin.prepare import verify
from accel.errors import AccelError, ExitCode
from accel.model import Model
from caffe_files import blob, caffemodel, data, field, layer, write
from hypothesis import given
from hypothesis import strategies as st
from support.frameworks import failure, parse

W = np.random.default_rng(0).standard_normal((2, 3, 3, 3)).astype(np.float32)
B = np.float32([0.5, -0.5])
CONV = layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }")
X = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)


def result(model: Model) -> np.ndarray:
    return verify.run(model.proto, {model.inputs[0].name: X})[0]


def reference(tmp_path: Path) -> np.ndarray:
    return result(parse(write(tmp_path, data(1, 3, 8, 8) + CONV, {"y": [W, B]})))


@pytest.mark.parametrize("style", ["new", "legacy", "unpacked", "double", "v1"])
def test_every_way_to_store_weights(tmp_path: Path, style: str) -> None:
    want = reference(tmp_path)
    model = parse(write(tmp_path, data(1, 3, 8, 8) + CONV, {"y": [W, B]}, style))
    assert np.array_equal(result(model), want)


def test_old_layers_and_input_dims(tmp_path: Path) -> None:
    want = reference(tmp_path)
    text = """
        name: 'old net'  # V1, with every spelling the text format allows
        input: "data" input_dim: 1 input_dim: 3, input_dim: 8; input_dim: 8
        layers { bottom: "data" top: "y" name: "y" type: CONVOLUTION blobs_lr: 1 blobs_lr: 2
          convolution_param < num_output: 0x2 kernel_size: [3] weight_filler { type: "xav" "ier" } > }
        layers: { bottom: "y" top: "y" name: "r" type: RELU }
        layers { bottom: "y" top: "f" name: "f" type: INNER_PRODUCT inner_product_param { num_output: 1 } }
        layers { bottom: "f" top: "s" name: "s" type: SIGMOID }
    """
    weights = {"y": [W, B], "f": [np.full((1, 72), 0.25, np.float32), np.zeros(1, np.float32)]}
    model = parse(write(tmp_path, text, weights, "v1"))
    assert model.name == "old_net"
    wanted = 1 / (1 + np.exp(-want.clip(0).sum() / 4))
    assert np.abs(result(model) - wanted).max() < 1e-5
    assert not model.notes


def test_training_definition(tmp_path: Path) -> None:
    text = (
        'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TRAIN } }\n'
        'layer { name: "d" type: "Data" top: "data" top: "label" include { phase: TEST } }\n'
        + CONV
        + layer("Dropout", "dropout_param { dropout_ratio: 0.5 }", name="drop", bottoms="y", tops="y")
        + layer("SoftmaxWithLoss", name="loss", bottoms="y label", tops="loss")
        + layer("Accuracy", "include { phase: TEST }", name="acc", bottoms="y label", tops="acc")
    )
    path = write(tmp_path, text, {"y": [W, B]})
    error = failure(path)
    assert error.code == "usage.input_shape"
    assert "--input-shape data=" in error.hints[-1]
    model = parse(path, input_shapes={"data": (1, 3, 8, 8)})
    assert [o.name for o in model.outputs] == ["loss"]
    assert any("SoftmaxWithLoss" in n for n in model.notes)
    assert any("Accuracy" in n for n in model.notes)
    want = reference(tmp_path)
    soft = np.exp(want) / np.exp(want).sum(1, keepdims=True)
    assert np.abs(result(model) - soft).max() < 1e-5


def test_another_picture_size(tmp_path: Path) -> None:
    path = write(tmp_path, data(1, 3, 8, 8) + CONV, {"y": [W, B]})
    assert parse(path, input_shapes={"": (2, 3, 12, 10)}).outputs[0].shape == (2, 2, 10, 8)
    assert failure(path, input_shapes={"nope": (1, 3, 8, 8)}).code == "usage.input"
    assert failure(path, input_shapes={"data": (1, 4, 8, 8)}).code == "model.caffe"


def test_options_reach_the_graph(tmp_path: Path) -> None:
    path = write(tmp_path, data(1, 3, 8, 8) + CONV + layer("ReLU", name="z", bottoms="y"), {"y": [W, B]})
    model = parse(path, renames={"data": "image"}, output_names=("y",), name="mine")
    assert (model.name, model.inputs[0].name, model.outputs[0].name) == ("mine", "image", "y")
    assert [p.name for p in model.sources] == ["net.prototxt", "net.caffemodel"]


def test_unknown_layer_is_named_with_its_line(tmp_path: Path) -> None:
    error = failure(write(tmp_path, data(1, 3, 8, 8) + "\n\n" + layer("Convolutoin", name="first")))
    assert error.code == "unsupported.op"
    assert error.exit_code == ExitCode.UNSUPPORTED
    assert "'first' (Convolutoin, line 4)" in error.summary
    assert "Convolution" in error.hints[0]


def test_fields_without_effect_are_reported(tmp_path: Path) -> None:
    text = data(1, 3, 8, 8) + layer("ReLU", "relu_param { negative_slope: 0 leak: 3 } tanh_param { a: 1 }")
    notes = parse(write(tmp_path, text)).notes
    assert len(notes) == 2
    assert "relu_param.leak on line 2" in notes[0]
    assert "tanh_param on line 2" in notes[1]


def conv(param: str) -> str:
    return data(1, 3, 8, 8) + layer("Convolution", f"convolution_param {{ {param} }}")


@pytest.mark.parametrize(
    "text",
    [
        conv("num_output: 3 kernel_size: 3"),  # the weights are of two outputs
        conv("num_output: 2 kernel_size: 5"),
        conv("num_output: 2 kernel_size: 3 group: 2"),
        conv("num_output: 2 kernel_size: 0"),
        conv("num_output: 2 kernel_size: 3 stride: 0"),
        conv("num_output: 2 kernel_size: 3 dilation: 9"),
        conv("kernel_size: 3"),
        data(1, 3, 8, 8) + layer("Convolution", CONV.split("data")[-1].join(""), bottoms="nothing"),
        data(1, 3, 8, 8) + layer("Eltwise"),
        data(1, 3, 8, 8) + layer("Permute", "permute_param { order: 0 order: 0 }"),
        data(1, 3, 8, 8) + layer("Reshape", "reshape_param { shape { dim: 0 dim: 7 dim: -1 } }"),
        data(1, 3, 8, 8) + layer("Slice", "slice_param { slice_point: 9 }", tops="a b"),
        data(1, 3, 8, 8) + layer("InnerProduct", "inner_product_param { num_output: 2 }"),
        data(1, 3, 8, 8) + layer("Pooling", "pooling_param { kernel_size: 2 pool: STOCHASTIC }"),
        data(1, 3, 8, 8) + layer("BatchNorm", name="y", bottoms="data"),
        data(1, 3, 8, 8) + layer("ReLU", bottoms=""),
        data(1, 3, 100_000, 100_000) + layer("ReLU"),
        data(1, 3, 8000, 8000) + layer("PriorBox", "prior_box_param { min_size: 3 }", bottoms="data data"),
        data(1, 3, 8) + layer("Pooling", "pooling_param { kernel_size: 2 }"),
    ],
)
def test_layers_that_do_not_fit_are_named(tmp_path: Path, text: str) -> None:
    error = failure(write(tmp_path, text, {"y": [W, B]}))
    assert error.code == "model.caffe"
    assert "layer 'y'" in error.summary and "line 2" in error.summary


def test_weights_that_are_missing(tmp_path: Path) -> None:
    error = failure(write(tmp_path, data(1, 3, 8, 8) + CONV, {"other": [W]}))
    assert "0 of its weight blobs" in error.summary
    path = write(tmp_path, data(1, 3, 8, 8) + CONV)
    path.with_suffix(".caffemodel").unlink()
    assert failure(path).code == "usage.source"


def test_weights_under_another_name(tmp_path: Path) -> None:
    path = write(tmp_path, data(1, 3, 8, 8) + CONV, {"y": [W, B]})
    moved = path.with_suffix(".caffemodel").rename(tmp_path / "other.caffemodel")
    assert parse(path, weights=moved).outputs[0].shape == ("batch", 2, 6, 6)
    assert parse(moved, weights=path).outputs[0].shape == ("batch", 2, 6, 6)


def test_a_truncated_caffemodel(tmp_path: Path) -> None:
    path = write(tmp_path, data(1, 3, 8, 8) + CONV, {"y": [W, B]})
    weights = path.with_suffix(".caffemodel")
    whole = weights.read_bytes()
    for length in range(0, len(whole), 5):
        weights.write_bytes(whole[:length])
        error = failure(path)
        assert error.code in ("model.caffemodel", "model.caffe"), length
        assert "net.caffemodel" in error.summary or "weight" in error.summary
    weights.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert failure(path).code == "unsupported.caffemodel"


@given(st.binary(max_size=300))
def test_random_bytes_are_no_caffemodel(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.caffemodel"
    path.write_bytes(content)
    try:
        assert read_caffemodel(path)
    except AccelError as error:
        assert error.code in ("model.caffemodel", "unsupported.caffemodel")


def test_a_blob_that_lies_about_its_size(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    for dims in (b"\xff\xff\xff\xff\x7f\xff\xff\xff\xff\x7f", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x03"):
        lie = field(7, field(1, dims)) + field(5, np.ones(2, "<f4").tobytes())
        path.write_bytes(field(100, field(1, b"y") + field(7, lie)))
        with pytest.raises(AccelError) as caught:
            read_caffemodel(path)
        assert caught.value.code == "model.caffemodel"
    path.write_bytes(field(100, field(1, b"y") + field(7, blob(W, "new")[:-2])))
    with pytest.raises(AccelError):
        read_caffemodel(path)
    path.write_bytes(caffemodel({"y": [W]}) + field(999, b"from a newer Caffe"))
    assert np.array_equal(read_caffemodel(path)["y"][0].data, W)


def test_a_bomb_of_nested_messages_is_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "layer { " * 5_000_000)
    started = time.process_time()
    error = failure(path)
    assert error.code == "model.prototxt"
    path.write_text("layer { " * 100_000 + "}" * 100_000, encoding="utf-8")
    error = failure(path)
    assert f"deeper than {MAX_DEPTH}" in error.summary
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("layer {", "ends inside"),
        ("layer { name: }", "value was expected"),
        ("layer { name 'y' ", "ends inside"),
        ("}", "field name"),
        ("layer { type: [1, 2", "not closed"),
        ("layer { type: [1, ", "value was expected"),
        ("layer { type: [1 2] }", "not closed"),
        ("name: 'open", "unexpected"),
        ("\x00\x01", "unexpected"),
        ("a: ~", "unexpected"),
        ("layers { layer { name: 'x' } }", "oldest kind"),
        ("layer: 3", "should be a message"),
        ("layer { name { } }", "single value"),
        ("input: 'x' input_dim: many", "is no number"),
        ("input: 'x' input_dim: 1.5", "is no integer"),
        ("input: 'x' input_dim: inf", "no finite number"),
        ("input: 'x' input_dim: 99999999999999999999", "out of range"),
        ("", "no layers"),
    ],
)
def test_broken_definitions(tmp_path: Path, text: str, what: str) -> None:
    error = failure(write(tmp_path, text))
    assert error.code in ("model.prototxt", "unsupported.prototxt")
    assert what in error.summary


def test_a_definition_that_is_no_text(tmp_path: Path) -> None:
    path = write(tmp_path, data(1, 3, 8, 8))
    path.write_bytes(b"\xff\xfe\x00")
    assert failure(path).code == "model.prototxt"


_scalars = st.one_of(
    st.integers(-(2**31), 2**31).map(str),
    st.floats(-1e6, 1e6, width=32).map(repr),
    st.sampled_from(["true", "MAX", "a_b"]),
)
_text = st.text("abc \\'\"#{}:\n\t", max_size=8)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.one_of(_scalars, _text)), max_size=12))
def test_text_format_round_trip(fields: list[tuple[str, str]]) -> None:
    plain = {"true", "MAX", "a_b"}

    def shown(value: str) -> str:
        is_number = value not in plain and value.lstrip("-")[:1].isdigit()
        if is_number or value in plain:
            return value
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{escaped}"'

    message = parse_text("\n".join(f"{name}: {shown(value)}  # note" for name, value in fields))
    for name in "abc":
        assert message.texts(name) == [v for n, v in fields if n == name]
