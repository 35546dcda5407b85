"""Every bad input ends in one clear error with its exit code, and leaves nothing behind."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


@pytest.fixture
def net(tiny) -> Path:
    return tiny[0]


def one_node(op: str, *, domain: str = "", weight=None, shape=(1, 3, 8, 8)) -> onnx.ModelProto:
    inputs, initializers = ["x"], []
    if weight is not None:
        inputs.append("w")
        initializers.append(numpy_helper.from_array(weight, "w"))
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], name="the_node", domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        initializers,
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def refused(cli, code: int, *words, out: Path | None = None):
    """Both forms: text on standard error, one object on standard output."""
    text = cli(*words)
    assert text.code == code, text.err
    assert text.out == "" and text.err.count("error") >= 1 and "Traceback" not in text.err
    done = cli.json(*words)
    error = done.data["error"]
    assert done.code == code == error["exit_code"] and done.data["ok"] is False
    assert error["summary"] in text.err
    if out is not None:
        assert not out.exists()
        assert [p.name for p in out.parent.iterdir() if p.name.startswith(".")] == []
    return error


def compile_words(model, out, *more):
    return ("compile", model, "-t", "bm1684", "--backend", "reference", "-o", out, *more)


def test_no_such_model(cli, tmp_path) -> None:
    refused(cli, 2, "parse", tmp_path / "absent.onnx", "-o", tmp_path / "out" / "x.onnx", out=tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"this is no network", b"\x00" * 1000, b"\x89PNG\r\n\x1a\n" + b"x" * 100])
def test_not_an_onnx_file(cli, tmp_path, data) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    refused(cli, 1, "parse", tmp_path / "net.onnx")


def test_truncated(cli, net, tmp_path) -> None:
    (tmp_path / "cut.onnx").write_bytes(net.read_bytes()[:-100])
    refused(cli, 1, "parse", tmp_path / "cut.onnx")


@pytest.mark.parametrize("place", ["absent.bin", "../outside.bin", "/etc/hostname"])
def test_external_data_missing_or_outside(cli, tmp_path, place) -> None:
    (tmp_path / "outside.bin").write_bytes(b"\x00" * 4096)
    proto = one_node("Mul", weight=np.ones((1, 3, 8, 8), np.float32))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    tensor.external_data.add(key="length", value="768")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "net.onnx").write_bytes(proto.SerializeToString())
    error = refused(cli, 1, "parse", tmp_path / "models" / "net.onnx")
    assert "w" in error["summary"] + error["cause"] + error["node"]


@pytest.mark.parametrize(("op", "domain"), [("NoSuchOp", ""), ("Mystery", "com.nobody")])
def test_unknown_operator_or_domain(cli, tmp_path, op, domain) -> None:
    (tmp_path / "net.onnx").write_bytes(one_node(op, domain=domain).SerializeToString())
    error = refused(cli, 3, "parse", tmp_path / "net.onnx")
    assert error["node"] == "the_node" and op in error["summary"] + error["cause"]


def test_nan_weights(cli, tmp_path) -> None:
    weight = np.full((1, 3, 8, 8), np.nan, np.float32)
    (tmp_path / "net.onnx").write_bytes(one_node("Mul", weight=weight).SerializeToString())
    error = refused(cli, 1, "parse", tmp_path / "net.onnx")
    assert "w" in error["summary"] + error["cause"] + error["node"]


def test_free_dimension_not_given(cli, tmp_path) -> None:
    (tmp_path / "net.onnx").write_bytes(one_node("Relu", shape=("n", 3, "h", "w")).SerializeToString())
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    out = tmp_path / "out"
    words = compile_words(tmp_path / "net.onnx", out, "--data", tmp_path / "x.npy")
    done = cli.json(*words)
    if done.code:  # a builder may also take free dimensions; then it must work
        error = refused(cli, done.code, *words)
        assert done.code in (2, 3) and "shape" in " ".join(error["hints"]), error


def test_wrong_shape_name(cli, net) -> None:
    error = refused(cli, 2, "parse", net, "--shape", "nobody=1,3,8,8")
    assert "nobody" in error["summary"] + error["cause"]


@pytest.mark.parametrize("shape", ["1,3", "1,-3,8,8", "a,b", ""])
def test_wrong_shape(cli, net, shape) -> None:
    refused(cli, 2, "parse", net, "--shape", shape or "x=")


@pytest.fixture
def artifact(cli, tiny, tmp_path) -> Path:
    done = cli.json("compile", tiny[0], "-t", "mlu370", "-p", "force_float32", "--backend", "reference", "-o", tmp_path)
    assert done.code == 0, done.data
    return Path(done.data["artifacts"][0]["path"])


@pytest.mark.parametrize(
    "array",
    [np.zeros((1, 3, 9, 9), np.float32), np.zeros((1, 1, 16, 16), np.float32), np.zeros(5, np.float32)],
)
def test_wrong_input_shape(cli, artifact, tmp_path, array) -> None:
    np.save(tmp_path / "x.npy", array)
    refused(cli, 1, "run", artifact, tmp_path / "x.npy")


def test_wrong_input_dtype(cli, artifact, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.array([["text"]]))
    refused(cli, 1, "run", artifact, tmp_path / "x.npy")


def test_pickled_input_is_never_loaded(cli, artifact, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(cli, 1, "run", artifact, tmp_path / "x.npy")


def test_wrong_input_name(cli, artifact, tmp_path) -> None:
    np.savez(tmp_path / "x.npz", nobody=np.zeros((1, 3, 16, 16), np.float32), other=np.zeros(3))
    error = refused(cli, 2, "run", artifact, tmp_path / "x.npz")
    assert "x" in error["summary"]


def test_empty_calibration_folder(cli, net, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out" / "artifacts"
    refused(cli, 1, *compile_words(net, out, "--data", tmp_path / "empty"), out=None)
    assert not out.exists()


def test_missing_calibration_folder(cli, net, tmp_path) -> None:
    done = cli.json(*compile_words(net, tmp_path / "out", "--data", tmp_path / "absent"))
    assert done.code in (1, 2) and "absent" in done.data["error"]["summary"]


def test_missing_data_is_found_before_the_network_is_read(cli, tmp_path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no network")
    for words in (
        compile_words(tmp_path / "net.onnx", tmp_path / "out", "--data", tmp_path / "absent"),
        ("build", tmp_path / "net.onnx", "-t", "bm1684", "-d", tmp_path / "absent", "-o", tmp_path / "out"),
        ("calibrate", tmp_path / "net.onnx", "-d", tmp_path / "absent", "-o", tmp_path / "out"),
    ):
        assert refused(cli, 1, *words, out=tmp_path / "out")["code"] == "data.unreadable"


def test_drawing_without_a_task(cli, artifact, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    error = refused(cli, 2, "run", artifact, tmp_path / "x.npy", "--save-images", tmp_path / "found")
    assert "--task" in " ".join(error["hints"]) and not (tmp_path / "found").exists()


def test_unknown_task_names_the_known(cli, artifact, tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    error = refused(cli, 2, "run", artifact, tmp_path / "x.npy", "--task", "clasification")
    assert "classification" in " ".join(error["hints"]) and "ssd" in " ".join(error["hints"])


def test_no_calibration_at_all(cli, net, tmp_path) -> None:
    error = refused(cli, 2, *compile_words(net, tmp_path / "out"))
    assert any("--data" in h for h in error["hints"])


def photos(folder: Path) -> Path:
    folder.mkdir()
    for at in range(3):
        Image.new("RGB", (20, 20), (at * 40, 10, 200)).save(folder / f"{at}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:30])
    return folder


def test_one_corrupt_photo_is_named(cli, net, tmp_path) -> None:
    error = refused(cli, 1, *compile_words(net, tmp_path / "out", "--data", photos(tmp_path / "photos")))
    assert "broken.png" in error["summary"] + error["cause"]


def test_one_corrupt_photo_is_skipped_on_request(cli, net, tmp_path) -> None:
    done = cli.json(
        "calibrate", net, "--data", photos(tmp_path / "photos"), "--skip-bad", "-o", tmp_path / "c.calibration"
    )
    assert done.code == 0 and done.data["samples"] == 3
    assert any("broken.png" in note for note in done.data["notes"])


def test_label_file_too_short(cli, artifact, tmp_path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    error = refused(cli, 1, "run", artifact, tmp_path / "x.npy", "--labels", tmp_path / "labels.txt")
    assert error["code"] == "data.labels"


def test_unknown_target_offers_near_ones(cli, net, tmp_path) -> None:
    error = refused(cli, 2, "build", net, "-t", "bm1648", "-o", tmp_path / "out", out=tmp_path / "out")
    assert "bm1684" in " ".join(error["hints"])


def test_precision_the_chip_has_not(cli, net, tmp_path) -> None:
    error = refused(cli, 3, "build", net, "-t", "bm1684", "-p", "int4", "-o", tmp_path / "out", out=tmp_path / "out")
    assert "int8" in error["cause"]


def test_node_precision_of_an_unknown_node(cli, tiny, tmp_path) -> None:
    words = compile_words(tiny[0], tmp_path / "out", "-d", tiny[1], "--node-precision", "nobody=fp32")
    error = refused(cli, 2, *words)
    assert "nobody" in error["summary"] + error["cause"]


def test_unknown_pass_and_option(cli, net, tmp_path) -> None:
    error = refused(cli, 2, *compile_words(net, tmp_path / "out", "--pass", "fold_constant=off"))
    assert "fold_constants" in " ".join(error["hints"])
    refused(cli, 2, *compile_words(net, tmp_path / "out", "--set", "no_such=1"))
    refused(cli, 2, *compile_words(net, tmp_path / "out", "--set", "no_such"))


def test_calibration_of_another_model(cli, tiny, tmp_path) -> None:
    from accel.testing.networks import tiny_model

    onnx.save(tiny_model(seed=9).proto, tmp_path / "other.onnx")
    assert cli("calibrate", tmp_path / "other.onnx", "-d", tiny[1], "-o", tmp_path / "c").code == 0
    error = refused(cli, 1, *compile_words(tiny[0], tmp_path / "out", "--calibration", tmp_path / "c"))
    assert error["code"] == "calibration.mismatch"


def test_calibration_of_other_data(cli, tiny, tmp_path) -> None:
    assert cli("calibrate", tiny[0], "-d", tiny[1], "-o", tmp_path / "c").code == 0
    (tiny[1] / "sample0.npz").unlink()
    words = compile_words(tiny[0], tmp_path / "out", "--calibration", tmp_path / "c", "-d", tiny[1])
    assert refused(cli, 1, *words)["code"] == "calibration.mismatch"


@pytest.mark.parametrize("data", [b"", b"foreign", b"PK\x03\x04" + b"\x00" * 100])
def test_broken_calibration_file(cli, net, tmp_path, data) -> None:
    (tmp_path / "c").write_bytes(data)
    error = refused(cli, 1, *compile_words(net, tmp_path / "out", "--calibration", tmp_path / "c"))
    assert error["code"] == "calibration.unreadable"


def test_artifact_edited_after_the_build(cli, artifact, tmp_path) -> None:
    payload = next(p for p in artifact.iterdir() if p.suffix == ".onnx")
    payload.write_bytes(payload.read_bytes()[:-1] + b"\x00")
    for words in (("inspect", artifact), ("perf", artifact), ("run", artifact, tmp_path / "x.npy")):
        assert refused(cli, 1, *words)["code"] == "artifact.changed"


def test_artifact_of_a_newer_schema(cli, artifact) -> None:
    file = artifact / "manifest.json"
    file.write_text(file.read_text().replace('"schema": 1', '"schema": 2'))
    assert refused(cli, 1, "inspect", artifact)["code"] == "artifact.newer"


def test_output_that_is_no_artifact_is_left_alone(cli, net, tmp_path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    refused(cli, 2, "build", net, "-t", "mlu370", "-p", "force_float32", "--backend", "reference", "-o", out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_output_below_a_file(cli, net, tmp_path) -> None:
    (tmp_path / "file").touch()
    words = ("build", net, "-t", "mlu370", "-p", "force_float32", "-o", tmp_path / "file" / "out")
    refused(cli, 2, *words)


@pytest.mark.parametrize(
    "words",
    [
        ("compile",),
        ("compile", "net.onnx"),
        ("run",),
        ("evaluate", "x"),
        ("nonsense",),
        ("build", "--nonsense"),
        ("cache",),
    ],
)
def test_wrong_arguments(cli, words) -> None:
    refused(cli, 2, *words)


def test_usage_errors_say_what_was_meant(cli) -> None:
    assert "artifact's folder" in refused(cli, 2, "build", "net.onnx", "-t", "bm1684")["hints"][0]
    assert "list, size, clean" in refused(cli, 2, "cache")["hints"][0]
    assert refused(cli, 2, "compile", "net.onnx", "-t")["hints"] == ["accel compile --help"]
    assert "\n" not in refused(cli, 2, "completion")["summary"]


def test_errors_are_folded_on_a_terminal(cli, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    done = cli("build", "net.onnx", "-t", "bm1648", "-o", "out")
    assert max(map(len, done.err.splitlines())) <= 60
    assert "pip install accel-sophon" in " ".join(done.err.split())


def test_vendor_backend_without_its_toolchain(cli, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "nothing-installed"))
    words = ("compile", tiny[0], "-t", "bm1684", "--backend", "vendor", "-d", tiny[1], "-o", tmp_path / "out")
    error = refused(cli, 4, *words)
    assert "accel toolchain install sophon" in " ".join(error["hints"])
