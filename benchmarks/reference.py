"""The embedded reference on real weights and photos: INT8 accuracy, speed beside plain inference, cached rebuilds.

Beside our accuracy stands what onnxruntime's quantize_static reaches in the same run: same photos, symmetric INT8,
weights per channel, its best of MinMax and Percentile.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from accel import driver
from accel.builtin.evaluate.comparison import measures
from accel.cache import Cache
from accel.files import sha256_file
from accel.model import Model
from accel.numerics import stored_int
from accel.options import RunOptions
from accel.runner import Runner
from accel.target import Target
from table import Row

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "zoo"))

CHIP = Target("int8-per-channel", "benchmark", "symmetric INT8, weights per channel", {"int8": stored_int(8)})


@dataclass(frozen=True)
class Quality:
    """Mean SQNR in dB and mean cosine of the logits, and how many photos keep the float model's first class."""

    sqnr: float
    cosine: float
    agree: int


BARS = {"efficientnet-lite0": Quality(18.8, 0.987, 28), "mobilenet-v2": Quality(15.0, 0.978, 29)}
"""The best that onnxruntime's quantize_static and esp-ppq were measured to reach on these weights and 31 photos."""


def load(name: str, folder: Path) -> tuple[Model, list[np.ndarray], list[np.ndarray], Path]:
    """The prepared network, inputs to calibrate on and to compare on, and the list of the former."""
    import make
    import photos

    source = folder / f"{name}.onnx"
    onnx.save(make.efficientnet_lite0() if name == "efficientnet-lite0" else make.mobilenet_v2(), source)
    model = driver.prepare(driver.parse(source))
    few = folder / "calibration.txt"
    few.write_text("\n".join(map(str, photos.calibration_photos())))
    others = folder / "evaluation.txt"
    # With scikit-image's photos to make 31, as the other tools were measured.
    listed = [*(path for path, _ in photos.evaluation_photos()), *photos.calibration_photos()[:11]]
    others.write_text("\n".join(map(str, listed)))
    preprocessing = make.PREPROCESSING[name]

    def inputs(listing: Path) -> list[np.ndarray]:
        opened = driver.open_dataset(f"list:{listing}", model, preprocessing, {})
        return [next(iter(sample.inputs.values())) for sample in opened]

    return model, inputs(few), inputs(others), few


def logits(runner: Runner, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """float64 results of the first output."""
    feeds = ({runner.inputs[0].name: array} for array in inputs)
    return [next(iter(runner.run(feed).values())).reshape(-1).astype(np.float64) for feed in feeds]


def compare(want: list[np.ndarray], got: list[np.ndarray]) -> Quality:
    """Mean SQNR, mean cosine, equal first classes."""
    pairs = [measures(a, b) for a, b in zip(want, got, strict=True)]
    agree = sum(int(a.argmax() == b.argmax()) for a, b in zip(want, got, strict=True))
    return Quality(float(np.mean([p[1] for p in pairs])), float(np.mean([p[0] for p in pairs])), agree)


def accuracy(name: str, ours: Quality, theirs: Quality, photos: int) -> Iterator[Row]:
    """Our logits beside the float model's."""
    bar, beside = BARS[name], "onnxruntime in this run: "
    yield Row(
        f"{name} INT8: mean SQNR", ours.sqnr, bar.sqnr, at_least=True, unit="dB", detail=f"{beside}{theirs.sqnr:.1f}"
    )
    yield Row(
        f"{name} INT8: mean cosine",
        ours.cosine,
        bar.cosine,
        at_least=True,
        unit="",
        detail=f"{beside}{theirs.cosine:.3f}",
    )
    yield Row(
        f"{name} INT8: first class as float",
        ours.agree,
        bar.agree,
        at_least=True,
        unit=f"of {photos}",
        detail=f"{beside}{theirs.agree}",
    )


def onnxruntime_static(
    model: Model, few: list[np.ndarray], want: list[np.ndarray], inputs: list[np.ndarray]
) -> Quality:
    """The better of quantize_static's MinMax and Percentile."""
    import onnxruntime
    from onnxruntime import quantization as q

    name = model.inputs[0].name

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = iter(few)

        def get_next(self) -> dict[str, np.ndarray] | None:
            array = next(self.feeds, None)
            return None if array is None else {name: array}

    found = []
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model.proto, plain)
        for method in (q.CalibrationMethod.MinMax, q.CalibrationMethod.Percentile):
            q.quantize_static(
                plain,
                made,
                Reader(),
                per_channel=True,
                activation_type=q.QuantType.QInt8,
                weight_type=q.QuantType.QInt8,
                calibrate_method=method,
                extra_options={"ActivationSymmetric": True},
            )
            session = onnxruntime.InferenceSession(made)
            got = [session.run(None, {name: array})[0].reshape(-1).astype(np.float64) for array in inputs]
            found.append(compare(want, got))
    return max(found, key=lambda quality: quality.sqnr)


def speed(name: str, runner: Runner, model: Model, inputs: list[np.ndarray]) -> Iterator[Row]:
    """Samples a CPU second, one thread each, in turns."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.proto.SerializeToString(), options)
    spent: dict[str, list[float]] = {"plain": [], "reference": []}
    for _ in range(4):
        for what, times in spent.items():
            begun = time.process_time()
            for array in inputs:
                if what == "plain":
                    session.run(None, {model.inputs[0].name: array})
                else:
                    runner.run({runner.inputs[0].name: array})
            times.append((time.process_time() - begun) / len(inputs))
    plain, ours = min(spent["plain"]), min(spent["reference"])
    yield Row(
        f"{name}: reference INT8 / plain float throughput",
        plain / ours,
        0.5,
        at_least=True,
        detail=f"{ours * 1e3:.1f} and {plain * 1e3:.1f} CPU ms a sample",
    )


def rows() -> Iterator[Row]:
    """Everything this benchmark shows."""
    for name in BARS:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            model, seen, others, few = load(name, folder)
            import make

            data = driver.open_dataset(f"list:{few}", model, make.PREPROCESSING[name], {})
            calibration = driver.calibrate(model, data)
            cache = Cache(folder / "cache")
            artifact = driver.build(model, CHIP, folder / "a", calibration=calibration, cache=cache)
            with (
                driver.run(artifact, RunOptions(threads=1)) as runner,
                driver.run_float(model) as plain,
            ):
                want = logits(plain, others)
                theirs = onnxruntime_static(model, seen, want, others)
                yield from accuracy(name, compare(want, logits(runner, others)), theirs, len(others))
                yield from speed(name, runner, model, others)
            yield rebuild(name, model, calibration, folder, cache)


def rebuild(name: str, model: Model, calibration: object, folder: Path, cache: Cache) -> Row:
    """CPU seconds of a build that the cache answers, without those of hashing what goes in and comes out."""
    fresh = Model(model.proto, model.name, model.inputs, model.outputs, model.sources, model.passes)
    begun = time.process_time()
    artifact = driver.build(fresh, CHIP, folder / "b", calibration=calibration, cache=cache)  # type: ignore[arg-type]
    whole = time.process_time() - begun
    begun = time.process_time()
    again = Model(model.proto, model.name, model.inputs, model.outputs)
    _ = again.digest, calibration.digest  # type: ignore[attr-defined]
    for entry in artifact.manifest.files:
        sha256_file(artifact.path / entry.path)
    hashing = time.process_time() - begun
    return Row(f"{name}: cached rebuild beyond hashing", whole - hashing, 0.3, unit="s", detail=f"{whole:.2f} s in all")


if __name__ == "__main__":
    for row in rows():
        print(*row.cells(), sep="  |  ", flush=True)
