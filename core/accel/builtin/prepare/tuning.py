"""What builders do to a calibrated model before they hand it to a compiler or to the reference.

A vendor's builder takes all of it with two calls:

    ranges = choose_ranges(model, calibration, options.method, bits=8, symmetric=True)
    model = tune(model, numerics, ranges, calibration, options.passes)

Tensor names stay, so the ranges and the calibration still fit the model that comes out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from accel.builtin.prepare import TUNING

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range
    from accel.model import Model
    from accel.target import Numerics

MOST = 99.98
"""Percentage of the values that ``auto`` keeps of a tensor with a long tail."""

TAIL = 0.7
"""The tail is long when they lie within this share of the range."""


def choose_ranges(
    model: Model,
    calibration: Calibration,
    method: str,
    *,
    bits: int = 8,
    symmetric: bool = True,
    numerics: Numerics | None = None,
) -> dict[str, Range]:
    """The kept range of every tensor by ``method``; ``auto`` is the embedded choice.

    ``auto`` keeps everything, but for inner tensors of up to 8 bits with a long tail: where 99.98 % of the values lie
    within 0.7 of the range, the rest are outliers of a few channels, and the finer step is worth more than they
    are. Both numbers were chosen on EfficientNet-Lite0 and MobileNetV2 (benchmarks/accuracy.py). In the model's
    outputs a cut-off value would be the answer itself. ``numerics.details["auto_rest"]`` names another method than
    ``minmax`` for the inner tensors without a long tail.

    Raises:
        AccelError: ``usage.method``.
    """
    if method != "auto":
        return calibration.ranges(method, bits=bits, symmetric=symmetric)
    everything = calibration.ranges("minmax", bits=bits, symmetric=symmetric)
    if bits > 8:
        return everything
    most = calibration.ranges(f"percentile:{MOST}", bits=bits, symmetric=symmetric)
    method = numerics.details.get("auto_rest", "minmax") if numerics else "minmax"
    rest = everything if method == "minmax" else calibration.ranges(method, bits=bits, symmetric=symmetric)
    outputs = {spec.name for spec in model.outputs}
    return {
        name: whole if name in outputs else most[name] if most[name].threshold < TAIL * whole.threshold else rest[name]
        for name, whole in everything.items()
    }


def tune(
    model: Model,
    numerics: Numerics,
    ranges: Mapping[str, Range],
    calibration: Calibration | None,
    switches: Mapping[str, bool] | None = None,
    *,
    node_numerics: Mapping[str, Numerics] | None = None,
) -> Model:
    """The tuning passes that are on; float numerics and a missing calibration give the model back.

    Raises:
        AccelError: as :func:`accel.builtin.reference.quantize.quantize`.
    """
    own = numerics.details.get("tuning", "").split(",")
    asked = {p.name: (switches or {}).get(p.name, p.default or p.name in own) for p in TUNING}
    wanted = {name for name, on in asked.items() if on and name not in model.passes}
    quantized = numerics.quantized or any(n.quantized for n in (node_numerics or {}).values())
    if not quantized or calibration is None or not ranges:
        return model
    if numerics.details.get("merge_convolutions") == "pointwise":
        # The compiler would do it itself; done here, the bias correction sees what is really computed.
        from accel.builtin.reference.merge import merge_pointwise

        proto, gone = merge_pointwise(model.proto, keep=node_numerics or ())
        if gone:
            model = model.with_proto(proto, applied="merge_convolutions")
    if "equalise_depthwise" in wanted:
        from accel.builtin.prepare.equalise import equalise_depthwise

        model, calibration = equalise_depthwise(model, ranges, calibration, node_numerics)
    exact = model
    if "round_weights" in wanted:
        from accel.builtin.prepare.rounding import round_weights

        model = round_weights(model, numerics, ranges, node_numerics)
    if "bias_correction" in wanted:
        from accel.builtin.prepare.bias_correction import correct_biases

        model = correct_biases(model, numerics, ranges, calibration, node_numerics, exact=exact)
    return model
