"""The road scenes, small: drawn as their masks say, and kept by the modes of the chip."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from accel import driver
from accel.deployment import Deployment
from accel.recipe import load
from support.examples import figures, make, recipe, run

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
    plan = recipe_of(folder, tmp_path)
    for request in plan.requests:
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


@pytest.mark.slow
def test_road_scenes_keep_their_miou(tmp_path: Path) -> None:
    make("segmentation_mlu270", tmp_path, "--scenes", "4")
    result = run(recipe("segmentation_mlu270", tmp_path, ("mIoU = 0.75", "mIoU = 0.7")), "-t", "mlu270")
    found = {precision: f["mIoU"] for (precision,), f in figures(result["reports"], "precision").items()}
    best = found["qint16_mixed_float32"]
    assert best > 0.72 and found["qint16_mixed_float16"] == pytest.approx(best, abs=1e-3)
    assert all(found[f"qint8_mixed_float{bits}"] > best - 0.03 for bits in (16, 32))
    assert "road" in (tmp_path / "work" / "report.html").read_text()
