"""The example with the real Caffe SSD: decoder, data, preprocessing and figures together."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("segno")
pytest.importorskip("lmdb")
EXAMPLE = Path(__file__).parents[2] / "examples" / "ssd300_bm1684"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sys.path.insert(0, str(EXAMPLE))
    try:
        spec = importlib.util.spec_from_file_location("ssd_example", EXAMPLE / "make.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLE))
    made = tmp_path_factory.mktemp("ssd")
    module.make(made / "work", evaluation=30, calibration=16)
    recipe = (EXAMPLE / "qr.toml").read_text()
    (made / "qr.toml").write_text(recipe[: recipe.index("[[targets]]")])
    return made


@pytest.mark.slow
def test_float_and_int8_find_every_code(folder: Path) -> None:
    import accel
    from accel import deployment
    from accel.builtin.datasets import open_dataset
    from accel.builtin.evaluate.evaluator import evaluate
    from accel.builtin.evaluate.float_runner import FloatRunner
    from accel.builtin.tasks import make_task
    from accel.recipe import load

    plan = load(folder / "qr.toml")
    model = deployment.parse(plan)
    task = make_task("ssd", {"metric": "coco,voc"})
    task.adopt(model.metadata)  # type: ignore[attr-defined]
    scenes = open_dataset(f"coco:{folder / 'work/scenes/boxes.json'}", model.inputs, plan.preprocessing)
    report = evaluate(FloatRunner(model), scenes, task)
    assert report.metric("AP50").value == pytest.approx(1)
    assert report.metric("AP75").value >= 0.99  # type: ignore[operator]
    assert report.metric("mAP").value == pytest.approx(1)

    lmdb = open_dataset(f"lmdb:{folder / 'work/calibration.lmdb'}", model.inputs, plan.preprocessing)
    calibration = accel.calibrate(model, lmdb)
    from accel.options import BuildOptions

    options = BuildOptions(precision="int8", backend="reference", preprocessing=plan.preprocessing)
    artifact = accel.build(model, "bm1684", folder / "int8", options, calibration=calibration)
    int8 = deployment.evaluate(
        deployment.Deployment(
            source="",
            output=folder,
            preprocessing=plan.preprocessing,
            evaluation_data=deployment.Data(f"coco:{folder / 'work/scenes/boxes.json'}", {}),
            task="ssd",
        ),
        artifact,
        None,
    )
    assert int8.metric("AP50").value >= 0.95  # type: ignore[operator]
    assert int8.metric("AP50").provenance == "simulated"


@pytest.mark.slow
def test_ssd300_recipe_runs_with_seeded_weights(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE / "make_ssd300.py"), str(tmp_path / "work"), "--width", "0.125"]
    subprocess.run([*command, "--pictures", "3"], check=True, capture_output=True)
    recipe = (EXAMPLE / "accel.toml").read_text()
    (tmp_path / "accel.toml").write_text(recipe.replace("[[targets]]", '[[targets]]\nbackend = "reference"'))
    start = "from accel.cli.main import main; main()"
    words = ["recipe", "run", str(tmp_path / "accel.toml"), "--json", "--no-cache"]
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)["reports"]
    found = {r["subject"]["precision"]: {m["name"]: m["value"] for m in r["metrics"]} for r in reports}
    assert found["fp32"]["mAP"] == pytest.approx(1, abs=1e-3)
    assert found["int8"]["mAP"] > 0.5
    assert found["int8"]["cosine"] > 0.95


@pytest.mark.slow
def test_run_draws_the_boxes_it_is_asked_for(folder: Path) -> None:
    import accel
    from accel import deployment
    from accel.options import BuildOptions
    from accel.recipe import load

    plan = load(folder / "qr.toml")
    options = BuildOptions(precision="fp32", backend="reference", preprocessing=plan.preprocessing)
    accel.build(deployment.parse(plan), "bm1684", folder / "fp32", options)
    listed = folder / "list.txt"
    listed.write_text("".join(f"scene_00{at}.png\n" for at in range(5)))
    start = "from accel.cli.main import main; main()"
    words = ["run", str(folder / "fp32"), "--file-list", str(listed), "--data-option", f"root={folder / 'work/scenes'}"]
    words += ["--task", "ssd", "--image-num", "3", "--max-boxes", "1", "--min-score", "0.6", "--json"]
    words += ["--save-images", str(folder / "found")]
    done = subprocess.run([sys.executable, "-c", start, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    assert [len(p["boxes"]) for p in predictions] == [1, 1, 1]
    assert all(p["boxes"][0]["score"] >= 0.6 for p in predictions)
    assert len(list((folder / "found").glob("*.png"))) == 3
