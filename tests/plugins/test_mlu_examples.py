"""The two MLU examples, small: networks as described, data as drawn, tables as the recipes make them."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from accel import driver
from accel.builtin.roofline import count
from accel.deployment import Deployment
from accel.model import Model, io_specs
from accel.options import BuildOptions
from accel.recipe import load
from photos import calibration_photos, evaluation_photos

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch):
    def get(folder: str, name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(EXAMPLES / folder))
        spec = importlib.util.spec_from_file_location(f"{folder}_{name}", EXAMPLES / folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look themselves up
        spec.loader.exec_module(module)
        return module

    return get


def recipe_of(folder: str, tmp_path: Path) -> Deployment:
    """An example's recipe as it reads once make.py has run; a fresh checkout has no work folder."""
    shutil.copy(EXAMPLES / folder / "accel.toml", tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "labels.txt").write_text("road\n")
    return load(tmp_path)


@pytest.mark.parametrize("folder", ["segmentation_mlu270", "efficientnetv2_mlu370"])
def test_recipes_are_read(folder: str, tmp_path: Path) -> None:
    recipe = recipe_of(folder, tmp_path)
    for request in recipe.requests:
        target = driver.resolve(request.target)
        assert len({target.numerics_for(p).precision for p in request.precisions}) == len(request.precisions) >= 4


def test_scenes_are_drawn_with_their_masks(example) -> None:
    scenes = example("segmentation_mlu270", "road_scenes")
    picture, mask = scenes.draw(3, 120)
    again, _ = scenes.draw(3, 120)
    assert picture.shape == (120, 120, 3) and np.array_equal(picture, again)
    assert {"sky", "road", "sidewalk"} <= {scenes.CLASSES[k] for k in np.unique(mask)}
    sky = picture[mask == scenes.CLASSES.index("sky")].mean(axis=0)
    assert sky[2] > sky[0]  # blue where the mask says sky


def test_efficientnetv2_is_the_published_network(example) -> None:
    make = example("efficientnetv2_mlu370", "make")
    proto = make.seeded(64)
    costs = count(Model(proto, "v2", *io_specs(proto)))
    # 21.46 M parameters with batch norms; 8.4 G multiply-accumulates at 384 pixels.
    assert costs.weights == pytest.approx(21.4e6, rel=0.01)
    assert costs.macs * 36 == pytest.approx(8.4e9, rel=0.02)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.slow
def test_efficientnetv2_table(example, tmp_path) -> None:
    make, table = (example("efficientnetv2_mlu370", n) for n in ("make", "table"))
    onnx.save(make.seeded(64), str(tmp_path / "efficientnetv2_s.onnx"))
    (tmp_path / "calibration.txt").write_text("".join(f"{p}\n" for p in calibration_photos()[:3]))
    (tmp_path / "evaluation.txt").write_text("".join(f"{p}\n" for p, _ in evaluation_photos()[:2]))
    found = {row.precision: row for row in table.rows(tmp_path, batches=(1, 4))}
    assert len(found) == 6
    assert found["force_float32"].cosine > 0.999999 and found["qint16_mixed_float32"].cosine > 0.999
    assert found["qint8_mixed_float16"].cosine > 0.8 and found["force_float16"].cosine > 0.9999
    for name, row in found.items():
        if "int16" in name:
            assert row.throughput == {} and row.provenance == "no published peak"
        else:
            assert row.provenance == "predicted" and row.throughput[4] > row.throughput[1]
    assert found["qint8_mixed_float16"].throughput[1] > found["force_float16"].throughput[1]


@pytest.mark.slow
def test_road_scenes_keep_their_miou(example, tmp_path) -> None:
    scenes = example("segmentation_mlu270", "road_scenes")
    make = example("segmentation_mlu270", "make")
    onnx.save(make.network(), str(tmp_path / "roadscene.onnx"))
    scenes.write(tmp_path / "calibration", make.CALIBRATION[:4])
    scenes.write(tmp_path / "evaluation", make.EVALUATION[:4])
    recipe = recipe_of("segmentation_mlu270", tmp_path)
    model = driver.prepare(driver.parse(tmp_path / "roadscene.onnx"))
    data = driver.open_dataset(tmp_path / "calibration" / "images", model, recipe.preprocessing)
    calibration = driver.calibrate(model, data)
    masks = {"masks": str(tmp_path / "evaluation" / "masks")}
    labelled = driver.open_dataset(f"masks:{tmp_path / 'evaluation' / 'images'}", model, recipe.preprocessing, masks)
    task = driver.make_task("segmentation")
    with driver.run_float(model) as runner:
        best = driver.evaluate(runner, labelled, task).metric("mIoU").value
    assert best > 0.72
    for precision, loss in (("int8_fp16", 0.03), ("int16_fp32", 0.002)):
        asked = BuildOptions(precision=precision, backend="reference")
        made = driver.build(model, "mlu270", tmp_path / precision, asked, calibration=calibration)
        with driver.run(made) as runner:
            assert driver.evaluate(runner, labelled, task).metric("mIoU").value > best - loss
