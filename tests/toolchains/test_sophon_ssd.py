"""A real Caffe SSD through the vendor's compiler on BM1684, in generated scenes whose boxes are exact."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from accel import driver
from accel.artifact import Artifact
from accel.model import Model
from accel.options import BuildOptions, EvaluateOptions, ParseOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel.toolchain.spec import Environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "ssd300_bm1684"

pytestmark = [pytest.mark.toolchain("sophon"), pytest.mark.slow]


def _example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    spec = importlib.util.spec_from_file_location("ssd_example", EXAMPLE / "make.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def qr(sophon_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qr")
    with pytest.MonkeyPatch.context() as patch:
        _example(patch).make(folder, evaluation=8, calibration=16)
    return folder


HOW = Preprocessing(size=(384, 384), resize="stretch", color="gray", scale=1 / 255)


def _build(qr: Path, out: Path, precision: str, frontend: str = "auto") -> tuple[Model, Artifact]:
    asked = ParseOptions(
        frontend=frontend, weights=qr / "detect.caffemodel", input_shapes={"data": (1, 1, 384, 384)}, name="qr_ssd"
    )
    model = driver.prepare(driver.parse(qr / "detect.prototxt", asked))
    calibration = None
    if precision == "int8":
        calibration = driver.calibrate(model, driver.open_dataset(f"lmdb:{qr / 'calibration.lmdb'}", model, HOW))
    options = BuildOptions(backend="vendor", precision=precision, preprocessing=HOW)
    return model, driver.build(model, "bm1684", out, options, calibration=calibration)


def _found(qr: Path, model: Model, artifact: Artifact, simulator: str, samples: int, metric: str) -> float:
    scenes = driver.open_dataset(f"coco:{qr / 'scenes' / 'boxes.json'}", model, HOW)
    with driver.run(artifact, RunOptions(simulator=simulator)) as runner:
        task = driver.make_task("ssd", {}, artifact)
        report = driver.evaluate(runner, scenes, task, EvaluateOptions(samples=samples))
    value = report.metric(metric).value
    assert value is not None
    return value


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_it_finds_the_codes(qr: Path, tmp_path: Path, precision: str) -> None:
    model, artifact = _build(qr, tmp_path / "out", precision)
    assert _found(qr, model, artifact, "mlir", 0, "AP50") >= 0.99
    # The very bmodel: its dilated depthwise convolutions came out as nonsense once, with exit code 0.
    assert _found(qr, model, artifact, "cmodel", 3, "AP75") >= 0.99
    assert not [n for n in artifact.manifest.notes if "lowered graph differ" in n]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_compiler_reads_the_caffe_files_itself(qr: Path, tmp_path: Path, precision: str) -> None:
    model, artifact = _build(qr, tmp_path / "out", precision, frontend="vendor")
    assert model.vendor_reads and not model.passes
    log = artifact.file("log").read_text()
    assert "--model_data qr_ssd.caffemodel" in log and ".onnx" not in log.partition("model_deploy.py")[0]
    assert _found(qr, model, artifact, "mlir", 4, "AP75") >= 0.99
    # The build has run the very bmodel on the functional model and held it against what was evaluated here.
    assert not [n for n in artifact.manifest.notes if "lowered graph differ" in n]
    kept = {n.node: n.precision for n in artifact.manifest.nodes}
    # What BM1684 gets wrong in INT8 cannot be rewritten in a file that goes in unchanged.
    assert kept["stage5_1/conv2"] == "fp32" and kept["stage4_1/conv2"] == precision
