"""A network with real weights, the photos it is calibrated and compared on, and what others reach on the same."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from accel import driver
from accel.builtin.evaluate.comparison import measures
from accel.dataset import Dataset
from accel.model import Model

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "zoo"))
import make
import photos

NETWORKS = ("efficientnet-lite0", "mobilenet-v2")


@dataclass(frozen=True)
class Case:
    """What a network is measured on.

    Attributes:
        name: As in the zoo.
        model: Prepared.
        calibration: 13 photos without labels.
        inputs: 31 others and labelled ones, float32 1x3x224x224 each, as the vendors' tools were measured on.
        logits: What the float network answers, float64, one row an input.
    """

    name: str
    model: Model
    calibration: Dataset
    inputs: Sequence[np.ndarray]
    logits: np.ndarray

    @property
    def input_name(self) -> str:
        """Of the only input."""
        return self.model.inputs[0].name


@dataclass(frozen=True)
class Quality:
    """Mean SQNR in dB and mean cosine of the logits, and how many photos keep the float network's first class."""

    sqnr: float
    cosine: float
    agree: int


def case(name: str, folder: Path) -> Case:
    """Parse and prepare a network of the zoo, decode the photos."""
    source = folder / f"{name}.onnx"
    onnx.save(make.MODELS[name](), source)
    model = driver.prepare(driver.parse(source))
    few = photos.calibration_photos()
    others = [*(path for path, _ in photos.evaluation_photos()), *few[:11]]

    def opened(label: str, paths: Sequence[Path]) -> Dataset:
        listing = folder / f"{name}-{label}.txt"
        listing.write_text("\n".join(map(str, paths)), encoding="utf-8")
        return driver.open_dataset(f"list:{listing}", model, make.PREPROCESSING[name], {})

    inputs = [next(iter(sample.inputs.values())) for sample in opened("evaluation", others)]
    with driver.run_float(model) as runner:
        want = logits(lambda feed: next(iter(runner.run({model.inputs[0].name: feed}).values())), inputs)
    return Case(name, model, opened("calibration", few), inputs, want)


def logits(run: Callable[[np.ndarray], np.ndarray], inputs: Sequence[np.ndarray]) -> np.ndarray:
    """float64 answers of a network, one row an input."""
    return np.stack([np.asarray(run(array), np.float64).reshape(-1) for array in inputs])


def compare(want: np.ndarray, got: np.ndarray) -> Quality:
    """Both: one row an input."""
    pairs = [measures(a, b) for a, b in zip(want, got, strict=True)]
    cosine, sqnr = (float(np.mean([pair[at] for pair in pairs])) for at in (0, 1))
    return Quality(sqnr, cosine, int((want.argmax(1) == got.argmax(1)).sum()))


def onnxruntime_static(found: Case, method: str) -> np.ndarray:
    """Logits of what onnxruntime's quantize_static makes: symmetric INT8, weights per channel.

    Run with graph optimisations off, so that no kernel that saturates on some processors is used.
    """
    import onnxruntime
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(found.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else dict(sample.inputs)

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(found.model.proto, plain)
        q.quantize_static(
            plain,
            made,
            Reader(),
            per_channel=True,
            activation_type=q.QuantType.QInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod[method],
            extra_options={"ActivationSymmetric": True},
        )
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    return logits(lambda array: session.run(None, {found.input_name: array})[0], found.inputs)
