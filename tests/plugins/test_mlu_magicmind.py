"""MagicMind by contract: build, serialise, load, run, measure through the hooks and a strict stand-in of the SDK."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accel import driver
from accel.calibration import Calibration
from accel.calibration.histogram import Accumulator
from accel.dataset import Sample
from accel.errors import AccelError
from accel.options import BuildOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel_mlu.magicmind import perf, toolchain
from accel_mlu.magicmind.config import BatchNorm, BuilderConfig, batch_norm, merge
from accel_mlu.magicmind.plan import BuildPlan, VendorCalibration, script
from plugins.fakes.sdk import FAKES, FakeSdk
from support.networks import every_tensor, residual_net

MODES = (
    "force_float32",
    "force_float16",
    "qint8_mixed_float16",
    "qint8_mixed_float32",
    "qint16_mixed_float16",
    "qint16_mixed_float32",
)
SDK_FILE = Path(toolchain.__file__).with_name("sdk.py")


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSdk:
    return FakeSdk(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def net():
    return residual_net()[0]


@pytest.fixture(scope="module")
def feeds(net):
    shape = [d if isinstance(d, int) else 1 for d in net.inputs[0].shape]
    return {net.inputs[0].name: np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)}


@pytest.fixture(scope="module")
def calibration(net, feeds):
    tensors = {}
    for name, value in every_tensor(net, feeds).items():
        seen = Accumulator(name)
        seen.add_range(float(value.min()), float(value.max()), value.size)
        seen.fill(value.reshape(-1))
        tensors[name] = seen.statistics()
    return Calibration(driver.prepare(net).digest, "data", 1, tensors)


class Data:
    digest = "d"

    def __init__(self, feeds, count=3):
        self.samples = [
            Sample(str(i), {n: (a * (i + 1)).astype(np.float32) for n, a in feeds.items()}) for i in range(count)
        ]

    def __len__(self):
        return len(self.samples)

    def __iter__(self):
        return iter(self.samples)


def build(net, tmp_path, calibration=None, name="out", target="mlu370-x4", **options):
    return driver.build(
        net, target, tmp_path / name, BuildOptions(**{"backend": "vendor", **options}), calibration=calibration
    )


@pytest.mark.parametrize("precision", MODES)
def test_built_and_loaded_it_gives_the_references_numbers(sdk, net, feeds, calibration, tmp_path, precision) -> None:
    made = build(net, tmp_path, calibration, precision=precision, method="minmax")
    manifest = made.manifest
    assert (manifest.payload, manifest.backend, manifest.precision) == ("magicmind", "vendor", precision)
    with driver.run(made) as runner:
        assert runner.provenance == "measured" and runner.layers() == ()
        got = runner.run(feeds)
    other = driver.build(
        net, "mlu370-x4", tmp_path / "ref", BuildOptions(precision=precision, method="minmax", backend="reference"),
        calibration=calibration,
    )  # fmt: skip
    with driver.run(other) as runner:
        want = runner.run(feeds)
    tolerance = {"force_float32": 1e-5, "force_float16": 2e-2}.get(precision, 2e-3)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, atol=tolerance * np.abs(value).max())
    assert ["UNCHECKED STATUS"] not in sdk.calls()


def test_calls_of_a_quantised_build(sdk, net, calibration, tmp_path) -> None:
    made = build(net, tmp_path, calibration, precision="int8", cores=8)
    calls = sdk.calls()
    assert " ".join(c[0] for c in calls) == (
        "Parser parse set_dimension parse_from_string build_model serialize_to_file"
    )
    config = calls[3][1]
    assert config["archs"] == [{"mtp_372": [8]}]
    assert config["precision_config"] == {
        "precision_mode": "qint8_mixed_float16",
        "activation_quant_algo": "symmetric",
        "weight_quant_granularity": "per_axis",
    }
    assert config["opt_config"]["conv_scale_fold"] is True
    first = net.inputs[0].name
    kept = calibration.ranges("mse", bits=8)[first].threshold
    assert config["custom_ranges"][first] == {"max": [kept], "min": [-kept]}
    assert made.manifest.details["builder_config"] == config
    assert json.loads((made.path / "builder_config.json").read_text()) == config


def test_two_builds_are_equal_byte_for_byte(sdk, net, calibration, tmp_path) -> None:
    files = [
        build(net, tmp_path, calibration, name=name, precision="int8").file("model").read_bytes() for name in ("a", "b")
    ]
    assert files[0] == files[1]


def test_several_batches_make_shapes_mutable(sdk, net, feeds, tmp_path) -> None:
    made = build(net, tmp_path, precision="fp32", batches=(1, 4))
    config = made.manifest.details["builder_config"]
    assert config["graph_shape_mutable"] is True
    assert [config["dim_range"]["0"][k][0] for k in ("min", "max")] == [1, 4]
    assert made.manifest.inputs[0].shape[0] == "batch"
    ((name, x),) = feeds.items()
    with driver.run(made) as runner:
        one = runner.run({name: x})
        three = runner.run({name: np.repeat(x, 3, axis=0)})
        for output, value in one.items():
            np.testing.assert_allclose(three[output][2:], value, rtol=1e-4, atol=1e-5)
        with pytest.raises(AccelError, match="shape") as caught:
            runner.run({name: np.repeat(x, 5, axis=0)})
        assert caught.value.code == "usage.input"


def test_folded_normalisation_takes_pixels(sdk, net, tmp_path) -> None:
    how = Preprocessing(scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    made = build(net, tmp_path, precision="fp32", preprocessing=how, fold_preprocessing=True)
    config = made.manifest.details["builder_config"]["insert_bn_before_firstnode"]["0"]
    assert config["mean"] == pytest.approx([127.5, 102.0, 76.5])
    assert config["var"] == pytest.approx([51.0**2, 63.75**2, 76.5**2])
    assert made.manifest.preprocessing is not None and made.manifest.preprocessing.folded
    plain = build(net, tmp_path, name="plain", precision="fp32")
    spec = plain.manifest.inputs[0]
    pixels = np.random.default_rng(0).integers(0, 256, spec.shape).astype(np.float32)
    mean, std = (np.asarray(v, np.float32).reshape(1, 3, 1, 1) for v in (how.mean, how.std))
    with driver.run(made) as runner:
        got = runner.run({spec.name: pixels})
        with pytest.raises(AccelError, match="pixels"):
            runner.run({spec.name: pixels - 128})
    with driver.run(plain) as runner:
        want = runner.run({spec.name: (pixels / 255 - mean) / std})
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-3, atol=1e-4)


def test_layout_change_shows_in_the_artifact(sdk, net, feeds, tmp_path) -> None:
    made = build(net, tmp_path, precision="fp32", set={"input_layout": '{"0": {"src": "NCHW", "dst": "NHWC"}}'})
    ((name, x),) = feeds.items()
    assert made.manifest.inputs[0].shape == tuple(x.shape[i] for i in (0, 2, 3, 1))
    plain = build(net, tmp_path, name="plain", precision="fp32")
    with driver.run(made) as runner, driver.run(plain) as other:
        got, want = runner.run({name: x.transpose(0, 2, 3, 1)}), other.run({name: x})
    for output, value in want.items():
        np.testing.assert_array_equal(got[output], value)


@pytest.mark.parametrize(("remote", "method"), [("", "linear"), ("10.0.0.7:8008", "eqnm")])
def test_the_sdks_own_calibrator(sdk, net, feeds, tmp_path, remote, method) -> None:
    options = {
        "precision": "int8",
        "calibrator": "vendor",
        "method": method,
        "set": {"remote": remote} if remote else {},
    }
    made = build(net, tmp_path, dataset=Data(feeds), **options)
    calls = {c[0]: c[1:] for c in sdk.calls()}
    assert calls["calibrate"] == [remote or "local"] and calls["samples"] == [3]
    assert calls["set_quantization_algorithm"] == ["LINEAR_ALGORITHM" if method == "linear" else "EQNM_ALGORITHM"]
    assert "custom_ranges" not in made.manifest.details["builder_config"]
    with driver.run(made) as runner:
        assert all(np.isfinite(v).all() for v in runner.run(feeds).values())


def test_calibrator_asks_for_what_it_needs(sdk, net, feeds, tmp_path) -> None:
    vendor = {"precision": "int8", "calibrator": "vendor"}
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path, dataset=Data(feeds), **vendor, method="kl")
    assert caught.value.code == "usage.method"
    eqnm = {**vendor, "method": "eqnm", "set": {"activation_quant_algo": "asymmetric"}}
    with pytest.raises(AccelError, match="symmetric"):
        build(net, tmp_path, dataset=Data(feeds), **eqnm)
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path, **vendor)
    assert caught.value.code == "usage.calibration"


def test_a_refusal_of_the_sdk_is_one_error_with_its_log(sdk, net, tmp_path) -> None:
    sdk.set(FAKE_MM_FAIL="parse_from_string")
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path, precision="fp32")
    assert "builder configuration" in caught.value.cause + caught.value.summary
    assert not (tmp_path / "out").exists()
    (tmp_path / "c.json").write_text('{"no_such_key": 1}')
    sdk.set(FAKE_MM_FAIL="")
    with pytest.raises(AccelError, match="build") as caught:
        build(net, tmp_path, precision="fp32", set={"config": str(tmp_path / "c.json")})
    assert "Undocumented" in caught.value.cause


def test_config_file_wins_over_ours(sdk, net, tmp_path) -> None:
    (tmp_path / "c.json").write_text(
        '{"opt_config": {"conv_scale_fold": false}, "debug_config": {"fusion_enable": false}}'
    )
    made = build(net, tmp_path, precision="fp32", set={"config": str(tmp_path / "c.json")})
    config = made.manifest.details["builder_config"]
    assert config["opt_config"]["conv_scale_fold"] is False and "type64to32_conversion" in config["opt_config"]
    assert config["debug_config"] == {"fusion_enable": False}


def test_per_node_precisions_are_refused_with_a_way(sdk, net, calibration, tmp_path) -> None:
    node = net.proto.graph.node[0].name
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path, calibration, precision="int8", node_precisions={node: "fp16"})
    assert caught.value.code == "unsupported.node_precision" and "custom_nodes" in caught.value.hints[0]


def test_emitted_script_does_what_the_worker_does(sdk, net, feeds, tmp_path) -> None:
    options = {"precision": "int8", "calibrator": "vendor", "dataset": Data(feeds)}
    built = build(net, tmp_path, **options)
    calls = sdk.calls()
    left = build(net, tmp_path, name="script", set={"emit_script": "yes"}, **options)
    assert left.manifest.payload == "magicmind-script" and sdk.calls() == []
    text = (left.path / "build_magicmind.py").read_text()
    ast.parse(text, feature_version=(3, 7))
    assert str(tmp_path) not in text
    with pytest.raises(AccelError, match="script"):
        driver.run(left)
    moved = tmp_path / "elsewhere"
    left.path.rename(moved)
    done = subprocess.run(
        [sdk.python, moved / "build_magicmind.py"], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    assert sdk.calls() == calls
    assert (moved / f"{net.name}.magicmind").read_bytes() == built.file("model").read_bytes()


@pytest.mark.parametrize("backend", ["auto", "vendor"])
def test_a_script_needs_no_sdk(net, tmp_path, monkeypatch, backend) -> None:
    monkeypatch.setenv("NEUWARE_HOME", str(tmp_path / "nowhere"))
    left = build(net, tmp_path, precision="fp16", backend=backend, set={"emit_script": "yes"})
    assert {"build_magicmind.py", "builder_config.json", f"{net.name}.onnx"} <= {f.path for f in left.manifest.files}


@pytest.mark.parametrize(("kind", "files"), [("pytorch", 1), ("tensorflow", 1), ("caffe", 2)])
def test_other_frameworks_are_parsed_by_their_own_parser(sdk, net, tmp_path, kind, files) -> None:
    import onnx

    names = {"pytorch": ["net.pt"], "tensorflow": ["net.pb"], "caffe": ["net.caffemodel", "net.prototxt"]}[kind]
    for name in names:
        onnx.save(net.proto, str(tmp_path / name))
    source = replace(net, sources=tuple(tmp_path / n for n in reversed(names)))
    build(source, tmp_path, precision="fp32", set={"parser": "native"})
    calls = sdk.calls()
    assert ["parse", *names] in calls
    params = [c[1] for c in calls if c[0] == "set_model_param"]
    expected = {
        "pytorch": ["pytorch-input-dtypes"],
        "tensorflow": ["tf-model-type", "tf-graphdef-inputs", "tf-graphdef-outputs"],
        "caffe": [],
    }
    assert params == expected[kind]


def test_our_ranges_do_not_fit_a_foreign_parser(sdk, net, calibration, tmp_path) -> None:
    with pytest.raises(AccelError, match="ONNX graph"):
        build(net, tmp_path, calibration, precision="int8", set={"parser": "native"})


# --- configuration -------------------------------------------------------------------------------------------------


def test_var_is_the_square_of_std() -> None:
    norm = batch_norm(Preprocessing(mean=(123.675,), std=(58.395,)), 3)
    assert norm == BatchNorm((123.675,) * 3, (58.395**2,) * 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision_mode": "int8"},
        {"precision_mode": "qint8_mixed_float16"},
        {"clusters": ()},
        {"input_bn": {0: BatchNorm((0.0,), (0.0,))}},
    ],
)
def test_configuration_refuses_what_magicmind_refuses(wrong) -> None:
    with pytest.raises(AccelError) as caught:
        BuilderConfig(**{"arch": "mtp_372", "clusters": (6,), "precision_mode": "force_float16", **wrong})
    assert caught.value.code == "usage.option"


def test_merge_is_by_key() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2]}) == {"a": {"x": 1, "y": 3}, "b": [2]}


# --- toolchain, Python 3.7 -----------------------------------------------------------------------------------------


def test_sdk_is_found_by_neuware_home(sdk) -> None:
    found = toolchain.locate()
    assert found is not None and found.root == sdk.home and found.python == sdk.python
    assert found.variables["NEUWARE_HOME"] == str(sdk.home)
    line = toolchain.probe(found)
    assert "mm_run" in line and "1 card" in line


def test_no_sdk_is_missing_and_auto_falls_back(net, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NEUWARE_HOME", str(tmp_path / "nowhere"))
    assert toolchain.locate() is None
    with pytest.raises(AccelError) as caught:
        build(net, tmp_path, precision="fp32")
    assert caught.value.code == "toolchain.missing"
    made = build(net, tmp_path, precision="fp32", backend="auto")
    assert made.manifest.payload == "reference"


def test_an_interpreter_without_magicmind_is_no_sdk(sdk, monkeypatch) -> None:
    sdk.set(PYTHONPATH="/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    assert toolchain.locate() is None


def test_running_without_a_card_says_so(sdk, net, tmp_path, monkeypatch) -> None:
    made = build(net, tmp_path, precision="fp32")
    monkeypatch.setenv("ACCEL_MLU_DEVICES", str(tmp_path / "none*"))
    with pytest.raises(AccelError) as caught:
        driver.run(made)
    assert caught.value.code == "toolchain.device"
    with pytest.raises(AccelError, match="simulator"):
        driver.run(made, RunOptions(device="simulator"))


@pytest.mark.parametrize("source", ["worker", "script"])
def test_vendor_side_is_python_3_7(source, tmp_path) -> None:
    plan = BuildPlan(
        "onnx", ("n.onnx",), ((1, 3),), ("{}",), "n", "n.mm", calibration=VendorCalibration("linear", (("a",),))
    )
    text = SDK_FILE.read_text() if source == "worker" else script(plan)
    ast.parse(text, feature_version=(3, 7))
    old = next(
        iter(sorted(Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/3.7.*/bin/python"))), None
    )
    if old is not None:
        file = tmp_path / "vendor.py"
        file.write_text(text)
        subprocess.run([old, "-m", "py_compile", file], check=True)


# --- mm_run --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "rows"), [("old", 4), ("new", 4), ("both", 8)])
def test_mm_run_is_measured_in_every_form(sdk, net, tmp_path, form, rows) -> None:
    made = build(net, tmp_path, precision="fp32", batches=(1, 8))
    sdk.monkeypatch.setenv("FAKE_MM_RUN", form)
    tool = sdk.home / "bin" / "mm_run"
    tool.write_text(tool.read_text().replace('os.environ.get("FAKE_MM_RUN")', repr(form)))
    report = perf.measure(made, RunOptions(), (1, 8))
    assert report.metric("throughput b8").value == pytest.approx(4004.0)
    assert report.metric("throughput b8").provenance == "measured"
    assert report.metric("compute b1").value == 1.25 and report.metric("total b1").value == 2.02
    assert len(report.tables[0].rows) == rows
    assert "--batch_size 8" in report.commands[1]


def test_mm_run_failing_is_an_error_with_its_words(sdk, net, tmp_path) -> None:
    made = build(net, tmp_path, precision="fp32")
    tool = sdk.home / "bin" / "mm_run"
    tool.write_text(tool.read_text().replace('os.environ.get("FAKE_MM_RUN")', repr("crash")))
    with pytest.raises(AccelError) as caught:
        perf.measure(made, RunOptions(), (1,))
    assert caught.value.code == "failed.perf" and "cnrtErrorNotReady" in caught.value.cause
    with pytest.raises(AccelError, match="no throughput"):
        perf.parse("nothing of use")


def test_fakes_are_where_they_are_looked_for() -> None:
    assert (FAKES / "magicmind" / "python" / "runtime" / "__init__.py").is_file()
