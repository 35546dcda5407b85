"""Evaluation against a plain ONNX Runtime loop over the same photographs: ``python benchmarks/evaluation.py``.

Both decode with the same code and run MobileNetV2 in float; figures are pictures a second and CPU milliseconds a
picture, taken in turns in one process. The evaluator must reach 0.9 of the loop.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import onnx
import onnxruntime as ort
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.pictures import Preprocessor, decode
from accel.builtin.evaluate.evaluator import evaluate
from accel.builtin.evaluate.float_runner import FloatRunner
from accel.builtin.tasks import make_task
from accel.model import Model, io_specs

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "zoo"))

from make import MODELS, PREPROCESSING
from photos import evaluation_photos

NAME, REPEATS, ROUNDS, LEAST = "mobilenet-v2", 5, 3, 0.9


@dataclass(frozen=True)
class Took:
    """One pass: wall and CPU seconds, and the top-1 it found."""

    wall: float
    cpu: float
    top1: float


def main() -> int:
    """Print the table; 1 when the evaluator is below the bar."""
    proto = onnx.shape_inference.infer_shapes(MODELS[NAME]())
    model = Model(proto, NAME, *io_specs(proto))
    pictures = evaluation_photos() * REPEATS

    def loop() -> float:
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
        prepare = Preprocessor(PREPROCESSING[NAME], model.inputs[0])
        right = 0
        for path, label in pictures:
            scores = session.run(None, {model.inputs[0].name: prepare(decode(path, path.name))[0]})[0]
            right += int(scores.argmax()) == label
        return right / len(pictures)

    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "list.txt")
        listed.write_text("".join(f"{path} {label}\n" for path, label in pictures))

        def evaluator() -> float:
            data = open_dataset(listed, model.inputs, PREPROCESSING[NAME])
            value = evaluate(FloatRunner(model), data, make_task("classification")).metric("top1").value
            return float(value or 0)

        turns = [(timed(loop), timed(evaluator)) for _ in range(ROUNDS)]
    for name, taken in (("plain loop", [a for a, _ in turns]), ("accel evaluate", [b for _, b in turns])):
        speed, cpu = len(pictures) / median(t.wall for t in taken), 1e3 * median(t.cpu for t in taken) / len(pictures)
        print(f"{name:16} {speed:8.1f} pictures/s {cpu:8.2f} ms CPU a picture   top-1 {taken[0].top1:.3f}")
    ratio = median(a.wall / b.wall for a, b in turns)
    cpu_ratio = median(a.cpu / b.cpu for a, b in turns)
    print(f"throughput ratio {ratio:.2f} (bar {LEAST}), CPU ratio {cpu_ratio:.2f}")
    return 0 if ratio >= LEAST else 1


def timed(work: Callable[[], float]) -> Took:
    """Run once."""

    def cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    wall, before = time.perf_counter(), cpu()
    top1 = work()
    return Took(time.perf_counter() - wall, cpu() - before, top1)


if __name__ == "__main__":
    raise SystemExit(main())
