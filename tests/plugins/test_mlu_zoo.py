"""A real network with real weights on real photos: how close every MLU precision comes to float."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx
import pytest
from accel import driver
from accel.options import BuildOptions, EvaluateOptions
from make import MODELS, PREPROCESSING
from photos import calibration_photos, evaluation_photos

NAME = "efficientnet-lite0"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lite0")
    onnx.save(MODELS[NAME](), str(folder / "lite0.onnx"))
    for name, photos in (("calibration", calibration_photos()), ("photos", [p for p, _ in evaluation_photos()])):
        (folder / name).mkdir()
        for photo in photos:
            shutil.copy(photo, folder / name)
    model = driver.prepare(driver.parse(folder / "lite0.onnx"))
    how = PREPROCESSING[NAME]
    calibration = driver.calibrate(model, driver.open_dataset(folder / "calibration", model, how))
    return folder, model, calibration, driver.open_dataset(folder / "photos", model, how)


def closeness(setting, precision: str, **options: str) -> dict[str, float]:
    folder, model, calibration, photos = setting
    place = Path(folder) / "-".join([precision, *options.values()])
    asked = BuildOptions(precision=precision, backend="reference", set=options)
    made = driver.build(model, "mlu370-s4", place, asked, calibration=calibration)
    with driver.run(made) as runner, driver.run_float(model) as against:
        report = driver.evaluate(runner, photos, None, EvaluateOptions(), against=against)
    return {m.name: float(m.value) for m in report.metrics if m.value is not None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "cosine", "sqnr"),
    [
        ("force_float32", 1.0, 100),
        ("force_float16", 0.9999, 40),
        ("qint8_mixed_float16", 0.995, 20),
        ("qint8_mixed_float32", 0.995, 20),
        ("qint16_mixed_float16", 0.9999, 40),
        ("qint16_mixed_float32", 0.9999, 55),
    ],
)
def test_every_mode_stays_close_to_float(setting, precision, cosine, sqnr) -> None:
    found = closeness(setting, precision)
    assert found["cosine"] >= cosine - 1e-6 and found["sqnr"] >= sqnr and found["agreement"] >= 0.95, found


@pytest.mark.slow
def test_what_granularity_and_an_offset_are_worth(setting) -> None:
    """Per-tensor weights ruin a depthwise network; an offset helps activations that are mostly of one sign."""
    best = closeness(setting, "int8", activation_quant_algo="asymmetric")["cosine"]
    coarse = closeness(setting, "int8", weight_quant_granularity="per_tensor")["cosine"]
    assert best >= 0.997 > 0.98 > coarse
