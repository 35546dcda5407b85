"""Real networks and photos on Sophon's compiler: accuracy, and how well the reference predicts the chips."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from accel import driver
from accel.artifact import Artifact
from accel.calibration import Calibration
from accel.model import Model
from accel.options import BuildOptions, RunOptions
from accel.toolchain.spec import Environment
from make import PREPROCESSING
from photos import calibration_photos, evaluation_photos
from PIL import Image

pytestmark = [pytest.mark.toolchain("sophon"), pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PHOTOS, CROPS = 31, 200
# The best that the vendor's own calibrations (kl, max, percentile9999) reach on the same photos, each figure by itself:
# mean SQNR in dB, and how many keep float's best class. Of its search for layers to keep in float (search_qtable)
# likewise, with how many layers it keeps (benchmarks/sophon.py, docs/sophon.md).
VENDOR_BEST = {
    ("efficientnet-lite0", "bm1684"): (1.7, 23),
    ("efficientnet-lite0", "bm1684x"): (18.6, 29),
    ("mobilenet-v2", "bm1684"): (10.2, 28),
    ("mobilenet-v2", "bm1684x"): (16.3, 27),
}
VENDOR_SEARCH = {"efficientnet-lite0": (11, 13.0, 28), "mobilenet-v2": (60, 33.2, 30)}


@dataclass(frozen=True)
class Case:
    """A network with its calibration, and photos and crops with float's answers to them."""

    name: str
    model: Model
    calibration: Calibration
    pictures: np.ndarray
    expected: np.ndarray
    folder: Path

    def build(self, target: str, backend: str, what: str = "", **options: object) -> Artifact:
        asked = BuildOptions(backend=backend, **options)  # type: ignore[arg-type]
        place = self.folder / f"{target}-{backend}{what}"
        return driver.build(self.model, target, place, asked, calibration=self.calibration)


@pytest.fixture(scope="module", params=["efficientnet-lite0", "mobilenet-v2"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    name, folder = str(request.param), tmp_path_factory.mktemp("zoo")
    source = folder / f"{name}.onnx"
    subprocess.run([sys.executable, str(EXAMPLES / "zoo" / "make.py"), name, str(source)], check=True)
    model = driver.prepare(driver.parse(source))

    how = replace(PREPROCESSING[name], interpolation="bilinear")  # as the vendor's figures were measured

    def opened(paths: list[Path], listing: str):
        (folder / listing).write_text("\n".join(map(str, paths)))
        return driver.open_dataset(f"list:{folder / listing}", model, how, {})

    calibration = driver.calibrate(model, opened(calibration_photos(), "calibration.txt"))
    files = [p for p, _ in evaluation_photos()] + calibration_photos()
    photos = [s.inputs["input"] for s in opened(files[:PHOTOS], "evaluation.txt")]
    pictures = np.concatenate([*photos, *crops(name, files)])
    with driver.run_float(model) as runner:
        expected = np.concatenate([runner.run({"input": p[None]})["logits"] for p in pictures])
    return Case(name, model, calibration, pictures, expected, folder)


def crops(name: str, files: list[Path]) -> list[np.ndarray]:
    """Random squares of the photos, normalised as the network wants them."""
    how, rng, made = PREPROCESSING[name], np.random.default_rng(0), []
    for at in range(CROPS):
        with Image.open(files[at % len(files)]) as picture:
            rgb = picture.convert("RGB")
        side = int(min(rgb.size) * rng.uniform(0.5, 1.0))
        left, top = (int(rng.integers(0, n - side + 1)) for n in rgb.size)
        square = rgb.resize((224, 224), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        pixels = (np.asarray(square, np.float32) * how.scale - np.float32(how.mean)) / np.float32(how.std)
        made.append(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    return made


def answers(artifact: Artifact, pictures: np.ndarray, workers: int = 1) -> np.ndarray:
    with driver.run(artifact, RunOptions(workers=workers)) as runner:
        parts = range(0, len(pictures), workers)
        return np.concatenate([runner.run({"input": pictures[p : p + workers]})["logits"] for p in parts])


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    noise = ((expected.astype(np.float64) - got) ** 2).sum(1)
    return float(np.mean(10 * np.log10((expected.astype(np.float64) ** 2).sum(1) / noise)))


def kept(expected: np.ndarray, got: np.ndarray) -> int:
    return int((expected.argmax(1) == got.argmax(1)).sum())


@pytest.fixture(scope="module")
def chips(case: Case, sophon_toolchain: Environment) -> dict[str, Artifact]:
    """Both chips' artifacts, built one after the other with one cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCEL_CACHE_DIR", str(case.folder / "cache"))
        return {target: case.build(target, "vendor") for target in ("bm1684", "bm1684x")}


@pytest.mark.parametrize("target", ["bm1684", "bm1684x"])
def test_as_good_as_the_vendors_best_and_predicted_by_the_reference(
    case: Case, chips: dict[str, Artifact], target: str
) -> None:
    chip = answers(chips[target], case.pictures, workers=2)
    predicted = answers(case.build(target, "reference"), case.pictures[PHOTOS:])
    crops = chip[PHOTOS:]
    cosine = (predicted * crops).sum(1) / np.linalg.norm(predicted, axis=1) / np.linalg.norm(crops, axis=1)
    print(
        f"{case.name} {target}: photos {sqnr(case.expected[:PHOTOS], chip[:PHOTOS]):.2f} dB, "
        f"{kept(case.expected[:PHOTOS], chip[:PHOTOS])}; crops {sqnr(case.expected[PHOTOS:], crops):.2f} dB, "
        f"{kept(case.expected[PHOTOS:], crops)}; reference against chip {kept(predicted, crops)}, "
        f"cosine {cosine.min():.6f}, {sqnr(crops, predicted):.1f} dB"
    )
    best, same = VENDOR_BEST[case.name, target]
    assert sqnr(case.expected[:PHOTOS], chip[:PHOTOS]) >= best
    assert kept(case.expected[:PHOTOS], chip[:PHOTOS]) >= same
    assert kept(predicted, crops) >= 0.99 * CROPS
    assert cosine.min() >= 0.999


def test_the_second_chip_reuses_the_transform(chips: dict[str, Artifact]) -> None:
    logs = [chips[target].file("log").read_text() for target in ("bm1684", "bm1684x")]
    assert [log.count("model_transform.py") for log in logs] == [1, 0]


def test_float_layers_as_good_as_the_vendors_search(case: Case, sophon_toolchain: Environment) -> None:
    layers, best, same = VENDOR_SEARCH[case.name]
    made = case.build("bm1684", "vendor", "-mixed", set={"float_layers": str(layers)})
    chip = answers(made, case.pictures[:PHOTOS], workers=2)
    print(f"{case.name} float_layers={layers}: {sqnr(case.expected[:PHOTOS], chip):.2f} dB, ", end="")
    print(f"{kept(case.expected[:PHOTOS], chip)}")
    assert sqnr(case.expected[:PHOTOS], chip) >= best
    assert kept(case.expected[:PHOTOS], chip) >= same
    in_float = [n.node for n in made.manifest.nodes if n.precision == "fp32" and n.op_type in ("Conv", "Gemm", "Add")]
    assert len(in_float) <= layers
