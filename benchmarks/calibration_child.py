"""One process of the calibration benchmark: ``calibration_child.py WHAT MODEL SAMPLES COUNT``.

WHAT is ``plain`` (an ONNX Runtime loop with its default options), ``plain1`` (one thread), ``accel`` (statistics and kl
thresholds), ``ort`` (onnxruntime.quantization's Entropy) or ``digest:CASE`` (thresholds of all methods for one case of
order, batch, halves, resume). Prints CPU seconds, peak memory and a digest of the thresholds.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from table import own_cpu, own_peak

SHAPE = (1, 3, 224, 224)
SIZE = int(np.prod(SHAPE))


def arrays(path: str, count: int) -> object:
    """The first samples of the file, one at a time."""
    with Path(path).open("rb") as file:
        for _ in range(count):
            yield np.fromfile(file, np.float32, SIZE).reshape(SHAPE)


def plain(model: str, samples: str, count: int, threads: int) -> str:
    """Inference and nothing else."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for array in arrays(samples, count):
        session.run(None, {name: array})
    return ""


def ours(model: str, samples: str, count: int, case: str = "") -> str:
    """Our calibration and thresholds."""
    import onnx
    from accel.builtin.calibrators import collector
    from accel.calibration import METHODS
    from accel.calibration.merging import merge
    from accel.model import Model, io_specs
    from accel.options import CalibrateOptions
    from samples import Photos

    proto = onnx.load(model)
    net = Model(proto, "net", *io_specs(proto))
    name = net.inputs[0].name
    path, order = Path(samples), list(range(count))

    def photos(indices: list[int], batch: int = 1) -> Photos:
        return Photos(path, indices, batch, name)

    options = CalibrateOptions()
    if case == "shuffle":
        order = [int(i) for i in np.random.default_rng(1).permutation(count)]
    if case == "halves":
        first = collector.collect(net, photos(order[: count // 3]), options)
        found = merge(collector.collect(net, photos(order[count // 3 :]), options), first)
    elif case.startswith("resume="):
        collector.SAVE_SECONDS = 0.0
        options = CalibrateOptions(resume=Path(case.partition("=")[2]))
        found = collector.collect(net, photos(order), options)
    else:
        found = collector.collect(net, photos(order, 8 if case == "batch" else 1), options)
    if not case:
        found.ranges("kl")
        return ""
    text = repr([sorted((n, r.low, r.high) for n, r in found.ranges(m, bits=8).items()) for m in METHODS])
    return hashlib.sha256(text.encode()).hexdigest()


def theirs(model: str, samples: str, count: int) -> str:
    """onnxruntime.quantization's Entropy calibrator."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self, name: str) -> None:
            self.feeds = ({name: array} for array in arrays(samples, count))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            Path(model), None, str(Path(folder) / "augmented.onnx"), CalibrationMethod.Entropy
        )
        calibrator.set_execution_providers(["CPUExecutionProvider"])
        calibrator.collect_data(Reader(calibrator.infer_session.get_inputs()[0].name))
        calibrator.compute_data()
    return ""


def main() -> None:
    """See the module."""
    what, model, samples, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if what in ("plain", "plain1"):
        digest = plain(model, samples, count, 1 if what == "plain1" else 0)
    elif what == "ort":
        digest = theirs(model, samples, count)
    else:
        digest = ours(model, samples, count, what.partition(":")[2])
    print(json.dumps({"cpu": own_cpu(), "peak": own_peak(), "digest": digest}))


if __name__ == "__main__":
    main()
