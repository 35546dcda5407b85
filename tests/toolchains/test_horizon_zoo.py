"""Real networks and photos on Horizon's compiler: accuracy, bit-exactness, and what the reference predicts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from accel import driver
from accel.artifact import Artifact
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference.quantize import quantize
from accel.calibration import Calibration
from accel.dataset import Sample
from accel.model import Model
from accel.options import BuildOptions, RunOptions
from accel.plugins import Registry
from accel.toolchain.spec import Environment
from accel_horizon.build import build
from accel_horizon.runners import HorizonRunner
from photos import calibration_photos, evaluation_photos
from PIL import Image

pytestmark = [pytest.mark.toolchain("horizon"), pytest.mark.slow]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FAST = BuildOptions(backend="vendor", opt=1)
PHOTOS, CROPS = 31, 200
# The best that the vendor's own calibrations (`max`, the search, asymmetric with bias correction) reach on the same
# inputs: SQNR of the photos in dB, how many of the photos and how many of the first 120 crops keep float's best class.
VENDOR_BEST = {"efficientnet-lite0": (19.05, 30, 113), "mobilenet-v2": (15.7, 29, 108)}


def picture(path: Path, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    if box is not None:
        image = image.crop(tuple(map(int, box))).resize((224, 224), Image.Resampling.BILINEAR)
    else:
        width, height = image.size
        scale = 256 / min(width, height)
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - 224) // 2, (image.height - 224) // 2
        image = image.crop((left, top, left + 224, top + 224))
    return np.asarray(image, np.float32).transpose(2, 0, 1)[None]


@dataclass(frozen=True)
class Photos:
    arrays: list[np.ndarray]
    digest: str = "0" * 64

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self) -> Iterator[Sample]:
        return iter([Sample(str(at), {"input": a}) for at, a in enumerate(self.arrays)])


@dataclass(frozen=True)
class Case:
    """A network with its calibration, photos and float answers."""

    name: str
    model: Model
    calibration: Calibration
    mean: np.ndarray
    std: np.ndarray

    def made(self, pixels: np.ndarray) -> np.ndarray:
        return ((pixels - self.mean) / self.std).astype(np.float32)

    def floats(self, arrays: list[np.ndarray]) -> np.ndarray:
        session = onnxruntime.InferenceSession(self.model.proto.SerializeToString())
        return np.concatenate([session.run(None, {"input": a})[0] for a in arrays])


def case_of(name: str, folder: Path) -> Case:
    path = folder / f"{name}.onnx"
    subprocess.run([sys.executable, str(EXAMPLES / "zoo" / "make.py"), name, str(path)], check=True)
    model = driver.prepare(driver.parse(path))
    if name == "efficientnet-lite0":
        mean, std = np.float32(127), np.float32(128)
    else:
        mean = np.float32([0.485, 0.456, 0.406])[None, :, None, None] * 255
        std = np.float32([0.229, 0.224, 0.225])[None, :, None, None] * 255
    blank = Case(name, model, None, mean, std)  # type: ignore[arg-type]
    photos = Photos([blank.made(picture(p)) for p in calibration_photos()])
    return Case(name, model, driver.calibrate(model, photos), mean, std)


@pytest.fixture(scope="module", params=list(VENDOR_BEST))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return case_of(request.param, tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def artifact(case: Case, horizon_toolchain: Environment, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    made = build(case.model, Registry().target("j5"), FAST, case.calibration, tmp_path_factory.mktemp("j5"))
    assert made is not None
    return made


def run(artifact: Artifact, stage: str, arrays: list[np.ndarray]) -> np.ndarray:
    with HorizonRunner(artifact, RunOptions(simulator=stage)) as runner:
        return np.concatenate([runner.run({"input": a})["logits"] for a in arrays])


def sqnr(expected: np.ndarray, got: np.ndarray) -> float:
    ratios = (expected.astype(np.float64) ** 2).sum(1) / ((expected.astype(np.float64) - got) ** 2).sum(1)
    return float(np.mean(10 * np.log10(ratios)))


@dataclass(frozen=True)
class Answers:
    """Photos and crops with float's and the quantised network's answers to them."""

    arrays: list[np.ndarray]
    expected: np.ndarray
    quantized: np.ndarray


@pytest.fixture(scope="module")
def answers(case: Case, artifact: Artifact) -> Answers:
    photos = [p for p, _ in evaluation_photos()] + calibration_photos()[:11]
    sources = [p for p, _ in evaluation_photos()] + calibration_photos()
    rng = np.random.RandomState(0)
    arrays = [case.made(picture(p)) for p in photos]
    for at in range(CROPS):
        path = sources[at % len(sources)]
        width, height = Image.open(path).size
        side = rng.uniform(0.5, 1) * min(width, height)
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        arrays.append(case.made(picture(path, (left, top, left + side, top + side))))
    return Answers(arrays, case.floats(arrays), run(artifact, "quantized", arrays))


def test_our_thresholds_beat_the_vendors_best(case: Case, answers: Answers) -> None:
    best, photos, crops = VENDOR_BEST[case.name]
    assert sqnr(answers.expected[:PHOTOS], answers.quantized[:PHOTOS]) >= best
    same = answers.expected.argmax(1) == answers.quantized.argmax(1)
    assert int(same[:PHOTOS].sum()) >= photos
    assert int(same[PHOTOS : PHOTOS + 120].sum()) >= crops


def test_the_float_stage_is_the_network_as_given(artifact: Artifact, answers: Answers) -> None:
    assert np.allclose(run(artifact, "float", answers.arrays[:2]), answers.expected[:2], atol=1e-3)


def test_chip_equals_the_quantised_network(artifact: Artifact, answers: Answers) -> None:
    assert np.array_equal(run(artifact, "hbm", answers.arrays[:4]), answers.quantized[:4])


def reference(case: Case, precision: str = "int8") -> onnxruntime.InferenceSession:
    """What the embedded reference makes of the network, built as by default."""
    numerics = Registry().target("j5").numerics_for(precision)
    assert numerics.activation is not None
    ranges = choose_ranges(case.model, case.calibration, "auto", bits=numerics.activation.bits)
    proto = quantize(tune(case.model, numerics, ranges, case.calibration), numerics, ranges).proto
    return onnxruntime.InferenceSession(proto.SerializeToString())


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray(
        (wide_a * wide_b).sum(1) / np.linalg.norm(wide_a, axis=1) / np.linalg.norm(wide_b, axis=1), np.float64
    )


def test_reference_predicts_the_chip(case: Case, answers: Answers) -> None:
    """The same codes: seldom does a multiplier of one channel fall on the other side of a tie."""
    session = reference(case)
    predicted = np.concatenate([session.run(None, {"input": a})[0] for a in answers.arrays])
    assert (predicted.argmax(1) == answers.quantized.argmax(1)).mean() >= 0.99
    found = cosines(predicted, answers.quantized)
    assert np.mean(found) >= 0.9995 and found.min() >= 0.995


def test_reference_predicts_int16(case: Case, answers: Answers, tmp_path: Path) -> None:
    options = BuildOptions(backend="vendor", opt=0, precision="int16")
    made = build(case.model, Registry().target("j5"), options, case.calibration, tmp_path)
    assert made is not None
    arrays = answers.arrays[::8]
    session = reference(case, "int16")
    predicted = np.concatenate([session.run(None, {"input": a})[0] for a in arrays])
    chip = run(made, "quantized", arrays)
    assert (predicted.argmax(1) == chip.argmax(1)).mean() >= 0.99
    assert cosines(predicted, chip).min() >= 0.999


def test_x5_gives_the_same_numbers(case: Case, answers: Answers, tmp_path: Path) -> None:
    made = build(case.model, Registry().target("x5"), FAST, case.calibration, tmp_path)
    assert made is not None
    assert np.array_equal(run(made, "quantized", answers.arrays[:4]), answers.quantized[:4])
    assert np.array_equal(run(made, "hbm", answers.arrays[:1]), answers.quantized[:1])


def test_mixvargenet(horizon_toolchain: Environment, tmp_path: Path) -> None:
    """J5's own tutorial network at its real size: it stays on the BPU as one program."""
    path = tmp_path / "mixvargenet.onnx"
    subprocess.run([sys.executable, str(EXAMPLES / "mixvargenet" / "make.py"), str(path)], check=True)
    model = driver.prepare(driver.parse(path))
    arrays = [((picture(p) - 127) / 64).astype(np.float32) for p in calibration_photos()[:4]]
    calibration = driver.calibrate(model, Photos(arrays))
    work = tmp_path / "work"
    work.mkdir()
    made = build(model, Registry().target("j5"), FAST, calibration, work)
    assert made is not None
    assert all(n.place == "j5" for n in made.manifest.nodes if n.op_type in ("Conv", "Add", "Relu"))
    summary = json.loads(made.file("report").read_text())["summary"]
    assert summary["FPS"] > 1500  # one core at O1; 2,500 at O2
    assert np.array_equal(run(made, "quantized", arrays[:1]), run(made, "hbm", arrays[:1]))
