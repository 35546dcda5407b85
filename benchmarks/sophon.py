"""Sophon: accuracy against float and the vendor's calibration, how well the reference predicts the chip, compile time.

    python benchmarks/sophon.py [--networks efficientnet-lite0,mobilenet-v2] [--targets bm1684,bm1684x] [--crops 200]
                                [--methods kl,max,percentile9999]

Everything runs on packaged weights and photos; figures are simulated. Time is CPU time of all processes (user and
system), because wall time on a shared machine says little.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "zoo"))
import make
import photos
from accel import driver
from accel.artifact import Artifact
from accel.model import Model
from accel.options import BuildOptions, RunOptions
from accel.preprocessing import Preprocessing
from accel.toolchain.install import install
from accel_sophon.commands import Bench, calibrate, deploy, transform
from accel_sophon.toolchain import SOPHON

PREPROCESSING = {
    "efficientnet-lite0": Preprocessing(size=(224, 224), resize_to=256, mean=(127.0,), std=(128.0,)),
    "mobilenet-v2": Preprocessing(
        size=(224, 224), resize_to=256, scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    ),
}

FLOAT_LAYERS = {"efficientnet-lite0": 11, "mobilenet-v2": 60}
"""How many layers the vendor's ``search_qtable`` keeps in float on BM1684, by hand: cosine 0.974, 13.0 dB, 28 of 31 and
0.9997, 33.2 dB, 30 of 31."""


def crops(name: str, count: int) -> Iterator[np.ndarray]:
    """Random squares of all the photos, 224 by 224, 1x3x224x224 float32."""
    how = PREPROCESSING[name]
    files = [*photos.calibration_photos(), *(p for p, _ in photos.evaluation_photos())]
    rng = np.random.default_rng(0)
    for at in range(count):
        with Image.open(files[at % len(files)]) as picture:
            rgb = picture.convert("RGB")
        side = int(min(rgb.size) * rng.uniform(0.5, 1.0))
        left, top = (int(rng.integers(0, n - side + 1)) for n in rgb.size)
        square = rgb.resize((224, 224), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        pixels = (np.asarray(square, np.float32) * how.scale - np.float32(how.mean)) / np.float32(how.std)
        yield np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def agreement(want: np.ndarray, got: np.ndarray) -> str:
    """Mean cosine, mean SQNR and how many keep the largest logit."""
    dot = (want * got).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(got, axis=1)
    noise = np.maximum(((want - got) ** 2).sum(1), 1e-12)
    sqnr = 10 * np.log10((want**2).sum(1) / noise)
    same = int((want.argmax(1) == got.argmax(1)).sum())
    return f"cosine {dot.mean():.4f}, {sqnr.mean():.1f} dB, {same}/{len(want)}"


def cpu_seconds(work: Callable[[], object]) -> float:
    """User and system time of ``work``, its processes included."""

    def now() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in used)

    start = now()
    work()
    return now() - start


def logits(artifact: Artifact, model: Model, feeds: list[np.ndarray], **options: object) -> np.ndarray:
    with driver.run(artifact, RunOptions(**options)) as runner:  # type: ignore[arg-type]
        return np.concatenate([runner.run({model.inputs[0].name: f})[model.outputs[0].name] for f in feeds])


def by_hand(folder: Path, source: Path, target: str, samples: list[np.ndarray], name: str) -> None:
    """The vendor's own commands as its guide gives them: transform, calibrate, validated deploy."""
    env = install(SOPHON)
    folder.mkdir()
    (folder / "data").mkdir()
    for at, sample in enumerate(samples):
        np.savez(folder / "data" / f"{at}.npz", **{name: sample})
    np.savez(folder / "in.npz", **{name: samples[0]})
    (folder / "net.onnx").write_bytes(source.read_bytes())
    bench = Bench(env, folder, folder / "log.txt")
    test = {"test_input": "in.npz", "test_result": "top.npz"}
    mlir = transform(bench, "net", folder / "net.onnx", [list(samples[0].shape)], preprocessing=test)
    table, _ = calibrate(bench, mlir, folder / "data", len(samples), chip=target, method="kl")
    extra = ["--test_input", "in.npz", "--test_reference", "top.npz", "--tolerance", "0.0,-1000.0"]
    deploy(bench, mlir, folder / "net_out.bmodel", chip=target, mode="INT8", calibration=table, extra=extra)


def network(name: str, targets: list[str], methods: list[str], count: int, work: Path) -> None:
    source = work / f"{name}.onnx"
    subprocess.run([sys.executable, make.__file__, name, str(source)], check=True)
    model = driver.prepare(driver.parse(source))
    cal = work / "cal"
    cal.mkdir(exist_ok=True)
    for at, photo in enumerate(photos.calibration_photos()):
        (cal / f"{at:02d}_{photo.name}").write_bytes(photo.read_bytes())
    data = driver.open_dataset(cal, model, PREPROCESSING[name])
    calibration = driver.calibrate(model, data)
    seen = work / "seen"
    seen.mkdir(exist_ok=True)
    for photo in [*sorted(cal.iterdir())[:11], *(p for p, _ in photos.evaluation_photos())]:
        (seen / photo.name).write_bytes(photo.read_bytes())
    input_name = model.inputs[0].name
    pictures = [s.inputs[input_name] for s in driver.open_dataset(seen, model, PREPROCESSING[name])]
    many = list(crops(name, count))
    with driver.run_float(model) as runner:
        want = np.concatenate([runner.run({input_name: p})[model.outputs[0].name] for p in pictures])
    samples = [np.asarray(s.inputs[input_name]) for s in data]
    for target in targets:
        print(f"\n## {name} on {target}, INT8")
        made: list[Artifact] = []

        def ours(target: str = target, made: list[Artifact] = made) -> None:
            os.environ["ACCEL_CACHE_DIR"] = tempfile.mkdtemp(dir=work)
            options = BuildOptions(backend="vendor")
            fresh = driver.calibrate(model, data)
            made.append(driver.build(model, target, work / f"{name}-{target}", options, calibration=fresh))

        seconds = cpu_seconds(ours)
        hand = cpu_seconds(lambda t=target: by_hand(work / f"{name}-{t}-hand", source, t, samples, input_name))
        print(f"compile, CPU s: accel {seconds:.1f}, by hand {hand:.1f}, ratio {seconds / hand:.2f}")
        chip = made[0]
        ours_now = agreement(want, logits(chip, model, pictures))
        print(f"chip against float, {len(pictures)} photos, our calibration: {ours_now}")
        if target == "bm1684":
            options = BuildOptions(backend="vendor", set={"float_layers": str(FLOAT_LAYERS[name])})
            mixed = driver.build(model, target, work / f"{name}-mixed", options, calibration=calibration)
            print(f"    with float_layers={FLOAT_LAYERS[name]}: {agreement(want, logits(mixed, model, pictures))}")
        for method in methods:
            options = BuildOptions(backend="vendor", calibrator="vendor", method=method, dataset=data)
            theirs = driver.build(model, target, work / f"{name}-{target}-{method}", options, calibration=calibration)
            print(f"    the vendor's {method}: {agreement(want, logits(theirs, model, pictures))}")
        reference = driver.build(
            model, target, work / f"{name}-{target}-ref", BuildOptions(backend="reference"), calibration=calibration
        )
        a, b = logits(chip, model, many), logits(reference, model, many)
        with driver.run_float(model) as runner:
            plain = np.concatenate([runner.run({input_name: p})[model.outputs[0].name] for p in many])
        print(f"chip against float, {count} crops: {agreement(plain, a)}")
        exact = int((a == b).all(1).sum())
        print(f"reference against chip, {count} crops: {agreement(a, b)}; equal to the last bit: {exact}")
        c = logits(chip, model, many[:2], simulator="cmodel")
        print(f"bmodel on the cmodel against the compiler's simulator, 2 crops: {agreement(a[:2], c)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", default="efficientnet-lite0,mobilenet-v2")
    parser.add_argument("--targets", default="bm1684,bm1684x")
    parser.add_argument("--methods", default="kl,max,percentile9999", help="the vendor's; empty: none")
    parser.add_argument("--crops", type=int, default=200)
    arguments = parser.parse_args()
    install(SOPHON)
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory(prefix="accel-bench-") as folder:
            methods = [m for m in arguments.methods.split(",") if m]
            network(name, arguments.targets.split(","), methods, arguments.crops, Path(folder))


if __name__ == "__main__":
    main()
