"""The embedded reference against the vendor's quantised network, tensor by tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from accel.builtin.reference.quantize import QuantizedModel, quantize
from accel.options import BuildOptions, RunOptions
from accel.plugins import Registry
from accel.toolchain.spec import Environment
from accel_horizon.build import build
from accel_horizon.runners import HorizonRunner
from toolchains.horizon_nets import calibrated, operators_net, samples

pytestmark = pytest.mark.toolchain("horizon")


def predicted(made: QuantizedModel, feeds: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Real values of inner tensors, or outputs, as the reference computes them."""
    proto = onnx.ModelProto.FromString(made.proto.SerializeToString())
    have = {o.name for o in proto.graph.output}
    held = {n: made.tensors[n] for n in names if n in made.tensors and n not in have}
    proto.graph.output.extend(onnx.ValueInfoProto(name=f.tensor) for f in held.values() if f.tensor not in have)
    fetch = {n: held[n].tensor if n in held else n for n in names if n in held or n in have}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    found = dict(zip(fetch, session.run(list(fetch.values()), feeds), strict=True))
    return {n: a / np.float32(held[n].inverse or 1) if n in held else a for n, a in found.items()}


CASES = [
    ("j5", "int8", {}, 20),
    ("j5", "int8", {"asymmetric": "false"}, 20),
    ("x5", "int8", {}, 20),
    ("j5", "int16", {}, 15),
]


@pytest.mark.parametrize(("name", "precision", "settings", "least"), CASES)
def test_every_tensor(
    name: str,
    precision: str,
    settings: dict[str, str],
    least: int,
    horizon_toolchain: Environment,
    tmp_path: Path,
) -> None:
    model, target = operators_net(), Registry().target(name)
    calibration = calibrated(model)
    options = BuildOptions(backend="vendor", opt=0, precision=precision, set=settings)
    artifact = build(model, target, options, calibration, tmp_path)  # type: ignore[arg-type]
    assert artifact is not None
    made = quantize(model, target.numerics_for(precision, settings), calibration.found)
    outputs = [o.name for o in model.outputs]
    wrong = {}
    with HorizonRunner(artifact, RunOptions(simulator="quantized")) as runner:
        names = [*runner.layers(), *outputs]
        for feeds in samples(model, 2, seed=5):
            expected = predicted(made, feeds, names)
            compared = set(expected) - set(outputs)
            for tensor, values in runner.run(feeds, fetch=list(expected)).items():
                if not np.allclose(values, expected[tensor], rtol=2e-6, atol=1e-6 * np.abs(values).max()):
                    wrong[tensor] = float(np.abs(values - expected[tensor]).max() / np.abs(values).max())
    assert not wrong, wrong
    assert len(compared) >= least
