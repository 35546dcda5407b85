"""Calibration against plain inference over the same samples, and against onnxruntime.quantization.

Every figure is of a whole process (start, imports, session, samples, thresholds): CPU seconds, user and system,
and peak memory. Plain inference is the cheaper of ONNX Runtime's default options and of one thread (the default's
waiting threads burn CPU).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import networks
import onnx
import samples
from table import HERE, Row, child

FEW, MANY = 32, 128
BARS = {"mobilenet-v2": 2.5, "resnet50": 2.0}


def model_file(name: str, folder: Path) -> Path:
    """A prepared network: MobileNetV2 with its real weights, ResNet-50's shapes with random ones."""
    path = folder / f"{name}.onnx"
    if name == "resnet50":
        onnx.save(networks.resnet50(), path)
        return path
    from accel import driver

    raw = folder / "raw.onnx"
    subprocess.run([sys.executable, str(HERE.parent / "examples" / "zoo" / "make.py"), name, str(raw)], check=True)
    onnx.save(driver.prepare(driver.parse(raw)).proto, path)
    return path


def cheapest(repeats: int, *arguments: str) -> dict[str, float]:
    """The least CPU and the largest peak of some runs."""
    runs = [child("calibration_child.py", *arguments) for _ in range(repeats)]
    return {"cpu": min(float(r["cpu"]) for r in runs), "peak": max(float(r["peak"]) for r in runs)}


def cost(name: str, model: str, data: str, repeats: int) -> Iterator[Row]:
    """CPU and memory of one network."""
    plain, ours = {}, {}
    for count in (FEW, MANY):
        both = [cheapest(repeats, what, model, data, str(count))["cpu"] for what in ("plain", "plain1")]
        plain[count] = min(both)
        ours[count] = cheapest(repeats, "accel", model, data, str(count))
        cpu = ours[count]["cpu"]
        yield Row(
            f"{name}: kl calibration / plain inference, {count} samples",
            cpu / plain[count],
            BARS[name],
            detail=f"{cpu:.2f} / {plain[count]:.2f} CPU s",
        )
    each = [(large - small) / (MANY - FEW) for small, large in (
        (ours[FEW]["cpu"], ours[MANY]["cpu"]),
        (plain[FEW], plain[MANY]),
    )]  # fmt: skip
    yield Row(
        f"{name}: the same for one further sample",
        each[0] / each[1],
        BARS[name],
        detail=f"{each[0] * 1e3:.1f} / {each[1] * 1e3:.1f} CPU ms",
    )
    few, many = ours[FEW]["peak"], ours[MANY]["peak"]
    yield Row(f"{name}: peak memory, {MANY} / {FEW} samples", many / few, 1.05, detail=f"{many:.0f} / {few:.0f} MB")
    theirs = cheapest(1, "ort", model, data, str(FEW))
    yield Row(
        f"{name}: onnxruntime Entropy / plain inference, {FEW} samples",
        theirs["cpu"] / plain[FEW],
        detail=f"{theirs['cpu']:.2f} CPU s, {theirs['peak']:.0f} MB (ours {ours[FEW]['cpu']:.2f} s, {few:.0f} MB)",
    )


def identity(name: str, model: str, data: str, folder: Path) -> Iterator[Row]:
    """Thresholds of every method, in every order and form of the same samples."""

    def digest(case: str) -> str:
        return str(child("calibration_child.py", f"digest:{case}", model, data, str(FEW))["digest"])

    expected = digest("once")
    part = folder / f"{name}.part"
    cases = ["shuffle", "batch", "halves", f"resume={part}"]
    kill_midway(["digest:" + cases[-1], model, data, str(FEW)], part)
    same = [digest(case) == expected for case in cases]
    yield Row(
        f"{name}: thresholds identical to the bit (shuffle, batch 8, two merged parts, kill -9 and resume)",
        sum(same),
        len(cases),
        at_least=True,
        unit="of 4",
    )


def kill_midway(arguments: list[str], part: Path) -> None:
    """Start a calibration and kill it once it has saved something."""
    process = subprocess.Popen([sys.executable, str(HERE / "calibration_child.py"), *arguments])
    while not part.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rows(names: Sequence[str] = (), repeats: int = 2) -> Iterator[Row]:
    """Everything this benchmark shows, of all networks or some."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        data = folder / "samples.f32"
        samples.write(data, MANY)
        for name in names or BARS:
            model = str(model_file(name, folder))
            yield from cost(name, model, str(data), repeats)
            yield from identity(name, model, str(data), folder)


if __name__ == "__main__":
    for row in rows(sys.argv[1:]):
        print(*row.cells(), sep="  |  ", flush=True)
