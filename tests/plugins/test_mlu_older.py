"""Cambricon PyTorch by contract: quantise on the CPU, trace, save offline models, in the documented order."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import numpy as np
import pytest
from accel import driver
from accel.dataset import Sample
from accel.errors import AccelError
from accel.options import BuildOptions
from accel.preprocessing import Preprocessing
from accel_mlu.older import build as older
from plugins.fakes import mlu_numpy
from plugins.fakes.sdk import FakeSdk
from support.networks import every_tensor, network, residual_net

VARIANTS = ("int8_fp16", "int8_fp32", "int16_fp16", "int16_fp32")
NET, FEEDS = residual_net()


class Data:
    digest = "d"
    samples = tuple({n: (a * s).astype(np.float32) for n, a in FEEDS.items()} for s in (1.0, 0.5, 2.0))

    def __len__(self):
        return len(self.samples)

    def __iter__(self):
        return iter([Sample(str(i), s) for i, s in enumerate(self.samples)])


@pytest.fixture
def sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSdk:
    return FakeSdk(tmp_path, monkeypatch, cards=0)


def build(tmp_path, net=NET, name="out", target="mlu270", dataset=None, **options):
    asked = {"precision": "int8", "backend": "vendor", "calibrator": "vendor", "dataset": dataset or Data(), **options}
    return driver.build(net, target, tmp_path / name, BuildOptions(**asked))


def test_four_variants_in_one_build(sdk, tmp_path) -> None:
    made = build(tmp_path, cores=4, set={"variants": "all"})
    manifest = made.manifest
    assert (manifest.payload, manifest.details["variants"]) == ("cambricon", list(VARIANTS))
    assert [f.path for f in manifest.files if f.role == "model"] == [f"residual_{v}.cambricon" for v in VARIANTS]
    seen: dict[str, float] = {}
    for feeds in Data.samples:
        for name, value in every_tensor(NET, feeds).items():
            seen[name] = max(seen.get(name, 0.0), float(np.abs(value).max()))
    ranges = {n: (-m, m) for n, m in seen.items()}
    for variant in VARIANTS:
        with np.load(made.path / f"residual_{variant}.cambricon") as held:
            mode = mlu_numpy.Mode(8 if "int8" in variant else 16, variant.endswith("fp16"))
            want = mlu_numpy.run_graph(NET.proto, {"x": held["input"]}, mode, ranges)["y"]
            np.testing.assert_allclose(held["output"], want, atol=4e-3 * np.abs(want).max(), err_msg=variant)


def test_calls_are_the_two_steps(sdk, tmp_path) -> None:
    build(tmp_path, target="mlu220", set={"variants": "int8_fp16,int8_fp32", "weight_quant_granularity": "per_tensor"})
    calls = sdk.calls()
    assert [c[0] for c in calls] == ["quantize_dynamic_mlu"] + [
        "quantize_dynamic_mlu",
        "set_core_version",
        "set_core_number",
        "save_as_cambricon",
        "save_as_cambricon",
    ] * 2
    told = calls[0][1]
    assert told["iteration"] == 3 and told["per_channel"] is False and told["firstconv"] is False
    assert calls[0][2:] == ["int8", True] and calls[1][1:] == [None, None, False]
    assert [c[1] for c in calls[2:6]] == ["MLU220", 4, "residual_int8_fp16", ""]


def test_first_convolution_takes_mean_and_std(sdk, tmp_path) -> None:
    how = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25, 0.5, 1.0))
    made = build(tmp_path, preprocessing=how, set={"first_conv": "yes"})
    told = sdk.calls()[0][1]
    assert told["firstconv"] is True and told["mean"] == [127.5] * 3 and told["std"] == [63.75, 127.5, 255.0]
    assert made.manifest.preprocessing is not None and made.manifest.preprocessing.folded


def test_script_and_worker_do_the_same(sdk, tmp_path) -> None:
    built = build(tmp_path)
    calls = sdk.calls()
    left = build(tmp_path, name="script", set={"emit_script": "yes"})
    assert left.manifest.payload == "cambricon-script" and sdk.calls() == []
    text = (left.path / "build_cambricon.py").read_text()
    ast.parse(text, feature_version=(3, 7))
    assert str(tmp_path) not in text
    done = subprocess.run(
        [sdk.python, left.path / "build_cambricon.py"], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.returncode == 0, done.stderr
    assert sdk.calls() == calls
    made = [p / "residual_int8_fp16.cambricon" for p in (left.path, built.path)]
    assert made[0].read_bytes() == made[1].read_bytes()


def test_offline_models_are_not_run_here(sdk, tmp_path) -> None:
    with pytest.raises(AccelError, match="on the card only") as caught:
        driver.run(build(tmp_path))
    assert "cnrtexec residual_int8_fp16.cambricon" in caught.value.hints[0]


def test_what_cannot_be_built_is_said_before(sdk, tmp_path) -> None:
    with pytest.raises(AccelError, match="by itself"):
        driver.build(NET, "mlu270", tmp_path / "a", BuildOptions("int8", "vendor", calibrator="vendor"))
    with pytest.raises(AccelError, match="one batch"):
        build(tmp_path, batches=(1, 2))
    with pytest.raises(AccelError, match="variant"):
        build(tmp_path, set={"variants": "int4_fp16"})
    with pytest.raises(AccelError) as caught:
        build(tmp_path, cores=8)
    assert caught.value.code == "unsupported.cores"
    odd = network([("Erf", ["x"], ["y"], {})], {"x": (1, 3, 12, 12)}, {"y": (1, 3, 12, 12)})
    with pytest.raises(AccelError) as caught:
        build(tmp_path, net=odd)
    assert caught.value.code == "unsupported.node" and caught.value.node == "erf_0"


def test_it_is_found_apart_from_magicmind(sdk) -> None:
    found = older.locate()
    assert found is not None and found.toolchain == "cambricon-pytorch" and found.python == sdk.python
    sdk.set(PYTHONPATH="/nowhere")


def test_vendor_side_is_python_3_7() -> None:
    ast.parse(older.SDK.read_text(), feature_version=(3, 7))
