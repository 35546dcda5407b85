"""How close int8 comes to float on real weights and photos: ``python benchmarks/accuracy.py [NETWORK ...]``.

Calibration on 13 photos, comparison on 31 others. All rows of a network see the same inputs and start from the same
prepared graph. ``ORT`` is onnxruntime.quantization.quantize_static. ``agree``: how many keep float's best class.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from accel import driver
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import session
from accel.model import Model
from accel.numerics import STORED_OPS, fixed_inputs, stored_int
from accel.target import Numerics, QuantScheme
from zoo import NETWORKS, Case, case, compare, logits, onnxruntime_static

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


def show(found: Case, what: str, got: np.ndarray) -> None:
    """One line."""
    made = compare(found.logits, got)
    print(f"{what:56s} {made.cosine:.4f}  {made.sqnr:6.2f} dB  {made.agree:3d}/{len(found.inputs)}", flush=True)


def quantized(found: Case, model: Model) -> np.ndarray:
    """Logits of a graph of the reference."""
    runner = session(model.proto.SerializeToString())
    return logits(lambda array: runner.run(None, {found.input_name: array})[0], found.inputs)


def table(found: Case) -> None:
    """All rows of one network."""
    calibration = driver.calibrate(found.model, found.calibration)
    print(f"\n{found.name:56s} cosine       SQNR  agree")
    for method in ("MinMax", "Percentile"):
        show(found, f"ORT, {method}", onnxruntime_static(found, method))
    for what, numerics in NUMERICS.items():
        for method in METHODS if numerics is BITS8 else METHODS[:1]:
            ranges = choose_ranges(found.model, calibration, method)
            tuned = tune(found.model, numerics, ranges, calibration)
            for model, how in ((found.model, ""), (tuned, ", bias corrected")):
                show(found, f"{what}, {method}{how}", quantized(found, quantize(model, numerics, ranges)))
    sixteen = replace(stored_int(16), precision="int16")
    made = quantize(found.model, sixteen, choose_ranges(found.model, calibration, "auto", bits=16))
    show(found, "int16 activations, int8 weights", quantized(found, made))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for network in sys.argv[1:] or NETWORKS:
            table(case(network, Path(name)))


if __name__ == "__main__":
    main()
