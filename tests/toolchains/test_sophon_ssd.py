"""A real Caffe SSD through the vendor's compiler on BM1684, in generated scenes whose boxes are exact."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from accel import driver
from accel.options import BuildOptions, EvaluateOptions, ParseOptions
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


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99), ("int8", 0.9)])
def test_it_finds_the_codes(
    sophon_toolchain: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, least: float
) -> None:
    example = _example(monkeypatch)
    example.make(tmp_path / "work", evaluation=8, calibration=16)
    work = tmp_path / "work"
    model = driver.prepare(
        driver.parse(
            work / "detect.prototxt",
            ParseOptions(weights=work / "detect.caffemodel", input_shapes={"data": (1, 1, 384, 384)}, name="qr_ssd"),
        )
    )
    how = Preprocessing(size=(384, 384), resize="stretch", color="gray", scale=1 / 255)
    calibration = None
    if precision == "int8":
        calibration = driver.calibrate(model, driver.open_dataset(f"lmdb:{work / 'calibration.lmdb'}", model, how))
    options = BuildOptions(backend="vendor", precision=precision, preprocessing=how)
    artifact = driver.build(model, "bm1684", tmp_path / "out", options, calibration=calibration)
    scenes = driver.open_dataset(f"coco:{work / 'scenes' / 'boxes.json'}", model, how)
    with driver.run(artifact) as runner:
        report = driver.evaluate(runner, scenes, driver.make_task("ssd", {}, artifact), EvaluateOptions())
    found = report.metric("AP50").value
    assert found is not None and found >= least
    assert np.isfinite(found)
