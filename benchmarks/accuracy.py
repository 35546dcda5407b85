"""How close int8 comes to float on real weights and photos: ``python benchmarks/accuracy.py``.

Calibration on 13 unlabelled photos; evaluation on 20 labelled ones and their mirror images. All rows of a network
see the same inputs and start from the same prepared graph. ``ORT`` is onnxruntime.quantization.quantize_static
(per-channel symmetric int8), evaluated with graph optimisations off, so that no kernel that saturates is used.
``agree``: how many of the 40 keep float's best class.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from accel.builtin.calibrators.collector import collect
from accel.builtin.datasets.pictures import Preprocessor, decode
from accel.builtin.frontends import plugin as frontends
from accel.builtin.prepare import run_passes
from accel.builtin.prepare.batch import set_batch
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import session
from accel.dataset import Sample
from accel.model import Model
from accel.numerics import STORED_OPS, fixed_inputs, stored_int
from accel.options import CalibrateOptions, ParseOptions
from accel.target import Numerics, QuantScheme

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples" / "zoo"))
import make
from photos import calibration_photos, evaluation_photos

BITS8 = stored_int(8)
NUMERICS: Mapping[str, Numerics] = {
    "int8, weights per channel": BITS8,
    "int8, weights per tensor": stored_int(8, weights="tensor"),
    "int8, one shift a convolution": Numerics(
        "int8",
        quantized_ops=STORED_OPS,
        activation=QuantScheme(8, rule="full_range", rounding="half_up"),
        weight=QuantScheme(8, narrow=True),
        bias_bits=16,
        requantize="shift",
    ),
    "int8 inputs, fp16 results": fixed_inputs(8, precision="qint8_mixed_float16"),
}
METHODS = ("auto", "minmax", "percentile", "mse", "kl", "aciq")


@dataclass(frozen=True)
class Photos:
    """Samples in memory; a data set."""

    arrays: list[np.ndarray]
    digest: str = "0" * 64

    def __len__(self) -> int:
        return len(self.arrays)

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(str(at), {"input": array}) for at, array in enumerate(self.arrays))


@dataclass(frozen=True)
class Case:
    """A network with what it is calibrated and evaluated on."""

    name: str
    model: Model
    calibration: Photos
    evaluation: list[np.ndarray]
    labels: np.ndarray
    float_logits: np.ndarray


def case(name: str, folder: Path) -> Case:
    """Parse and prepare a network of the zoo, decode the photos."""
    path = folder / f"{name}.onnx"
    onnx.save(make.MODELS[name](), path)
    parsed = frontends.accel_parse(path, ParseOptions())
    assert parsed is not None
    model = set_batch(run_passes(parsed), 1)
    prepare = Preprocessor(make.PREPROCESSING[name], model.inputs[0])

    def load(photo: Path) -> np.ndarray:
        return prepare(decode(photo, photo.name))[0]

    labelled = evaluation_photos()
    straight = [load(photo) for photo, _ in labelled]
    evaluation = [*straight, *(np.ascontiguousarray(x[..., ::-1]) for x in straight)]
    labels = np.array([label for _, label in labelled] * 2)
    calibration = Photos([load(photo) for photo in calibration_photos()])
    return Case(name, model, calibration, evaluation, labels, logits(model.proto, evaluation))


def logits(proto: onnx.ModelProto, inputs: list[np.ndarray]) -> np.ndarray:
    """float64 logits of every input, (samples, classes)."""
    runner = session(proto.SerializeToString())
    return np.concatenate([runner.run(None, {"input": x})[0] for x in inputs]).astype(np.float64)


def row(case: Case, what: str, got: np.ndarray) -> str:
    """One line: top-1, mean cosine, mean SQNR, agreement with float."""
    want = case.float_logits
    with np.errstate(divide="ignore"):
        sqnr = 10 * np.log10((want**2).sum(axis=1) / ((got - want) ** 2).sum(axis=1))
    cosine = (want * got).sum(axis=1) / np.linalg.norm(want, axis=1) / np.linalg.norm(got, axis=1)
    best = got.argmax(axis=1)
    figures = f"{(best == case.labels).sum():3d}/40  {cosine.mean():.4f}  {sqnr.mean():6.2f} dB"
    return f"{what:56s} {figures}  {(best == want.argmax(axis=1)).sum():3d}/40"


def onnxruntime_quantized(case: Case, method: str, folder: Path) -> np.ndarray:
    """Logits of what quantize_static makes."""
    import onnxruntime
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples = iter(case.calibration.arrays)

        def get_next(self) -> dict[str, np.ndarray] | None:
            found = next(self.samples, None)
            return None if found is None else {"input": found}

    source, made = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(case.model.proto, source)
    logging.disable(logging.WARNING)
    q.quantize_static(
        source,
        made,
        Reader(),
        quant_format=q.QuantFormat.QDQ,
        per_channel=True,
        activation_type=q.QuantType.QInt8,
        weight_type=q.QuantType.QInt8,
        calibrate_method=q.CalibrationMethod[method],
        extra_options={"ActivationSymmetric": True},
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runner = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    return np.concatenate([runner.run(None, {"input": x})[0] for x in case.evaluation]).astype(np.float64)


def table(case: Case, folder: Path, out: Callable[[str], None]) -> None:
    """All rows of one network."""
    calibration = collect(case.model, case.calibration, CalibrateOptions())
    out(f"\n{case.name:56s} {'top-1':>6s}  cosine       SQNR  agree")
    out(row(case, "float", case.float_logits))
    for method in ("MinMax", "Percentile"):
        out(row(case, f"ORT, {method}", onnxruntime_quantized(case, method, folder)))
    for what, numerics in NUMERICS.items():
        for method in METHODS if numerics is BITS8 else METHODS[:1]:
            ranges = choose_ranges(case.model, calibration, method)
            for tuned in (False, True):
                model = tune(case.model, numerics, ranges, calibration) if tuned else case.model
                made = quantize(model, numerics, ranges)
                name = f"{what}, {method}{', bias corrected' if tuned else ''}"
                out(row(case, name, logits(made.proto, case.evaluation)))
    sixteen = replace(stored_int(16), precision="int16")
    made = quantize(case.model, sixteen, choose_ranges(case.model, calibration, "auto", bits=16))
    out(row(case, "int16 activations, int8 weights", logits(made.proto, case.evaluation)))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for network in sys.argv[1:] or ("efficientnet-lite0", "mobilenet-v2"):
            table(case(network, folder), folder, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
