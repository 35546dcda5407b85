"""The builder configuration: typed here, JSON for ``BuilderConfig.parse_from_string``.

Every key is one that Cambricon's public MagicMind repositories use. A key whose grammar is not public
(the contents of ``custom_nodes``) is only passed through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from accel.calibration import Range
from accel.errors import AccelError
from accel.preprocessing import Preprocessing

PRECISION_MODES = (
    "force_float32",
    "force_float16",
    "qint8_mixed_float16",
    "qint8_mixed_float32",
    "qint16_mixed_float16",
    "qint16_mixed_float32",
)
LAYOUTS = ("NCHW", "NHWC", "NCT", "NTC", "NCDHW", "NDHWC")


@dataclass(frozen=True)
class BatchNorm:
    """What ``insert_bn_before_firstnode`` computes on a uint8 input: ``(x - mean) / sqrt(var)``."""

    mean: tuple[float, ...]
    var: tuple[float, ...]


@dataclass(frozen=True)
class DimRange:
    """Smallest and largest shape of an input."""

    low: tuple[int, ...]
    high: tuple[int, ...]


@dataclass(frozen=True)
class LayoutChange:
    """Layout of an input or output as parsed, and as the built model has it."""

    src: str
    dst: str


@dataclass(frozen=True)
class BuilderConfig:
    """Everything a MagicMind build is told. Mappings by input or output index.

    Attributes:
        arch: ``mtp_372``, ``tp_322`` ...
        clusters: Cluster counts to build for. A card with more takes the nearest smaller one, a card with fewer
            than all refuses the model.
        precision_mode: One of :data:`PRECISION_MODES`.
        activation_quant_algo: Form of the activations' codes; None for a float mode.
        weight_quant_granularity: Scales of weights; None for a float mode. MagicMind does not apply it to
            depthwise convolutions.
        shape_mutable: Shapes may change between runs, inside ``dim_ranges``.
        dim_ranges: Shapes allowed when they may change.
        input_bn: Mean and variance inside the network. The input becomes UINT8 by itself.
        input_layouts: Layout changes of inputs.
        output_layouts: Layout changes of outputs.
        computation_preference: Speed against accuracy.
        type64to32: Convert 64-bit integers; graphs with int64 tensors need it.
        conv_scale_fold: Fold a scale that follows a convolution into it.
        cross_compile_toolchain_path: Cross compiler, for edge builds.
        custom_ranges: Range by tensor name: a quantised model without a calibration run, so without a card.
        custom_nodes: Per-node overrides, passed through: their grammar is not public.
        overrides: Merged over all of the above, as later calls of ``parse_from_string`` are.
    """

    arch: str
    clusters: tuple[int, ...]
    precision_mode: str
    activation_quant_algo: Literal["symmetric", "asymmetric"] | None = None
    weight_quant_granularity: Literal["per_tensor", "per_axis"] | None = None
    shape_mutable: bool = False
    dim_ranges: Mapping[int, DimRange] = field(default_factory=dict)
    input_bn: Mapping[int, BatchNorm] = field(default_factory=dict)
    input_layouts: Mapping[int, LayoutChange] = field(default_factory=dict)
    output_layouts: Mapping[int, LayoutChange] = field(default_factory=dict)
    computation_preference: Literal["auto", "fast", "high_precision"] = "auto"
    type64to32: bool = False
    conv_scale_fold: bool = True
    cross_compile_toolchain_path: str = ""
    custom_ranges: Mapping[str, Range] = field(default_factory=dict)
    custom_nodes: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what MagicMind would refuse, before anything is started."""
        if self.precision_mode not in PRECISION_MODES:
            raise _refused(f"no precision mode {self.precision_mode!r}", f"one of: {', '.join(PRECISION_MODES)}")
        quantized = self.precision_mode.startswith("qint")
        if quantized and not (self.activation_quant_algo and self.weight_quant_granularity):
            raise _refused(f"{self.precision_mode} needs a quantisation algorithm and a granularity")
        if not self.clusters or min(self.clusters) < 1:
            raise _refused(f"cluster counts must be positive, not {list(self.clusters)}")
        if self.dim_ranges and not self.shape_mutable:
            raise _refused("dim_range needs graph_shape_mutable")
        for index, span in self.dim_ranges.items():
            if len(span.low) != len(span.high) or any(
                not 0 < a <= b for a, b in zip(span.low, span.high, strict=False)
            ):
                raise _refused(f"dim_range of input {index} is no range: {list(span.low)} to {list(span.high)}")
        for index, norm in self.input_bn.items():
            if len(norm.mean) != len(norm.var) or any(v <= 0 for v in norm.var):
                raise _refused(f"mean and var of input {index} must be as many, and every var positive")
        for change in (*self.input_layouts.values(), *self.output_layouts.values()):
            if {change.src, change.dst} - set(LAYOUTS) or sorted(change.src) != sorted(change.dst):
                raise _refused(f"no layout change from {change.src!r} to {change.dst!r}")
            if change.src == change.dst:
                raise _refused(f"a layout change must change something, not {change.src} to itself")

    def as_dict(self) -> dict[str, Any]:
        """The JSON object, keys in a fixed order, nothing that was not asked for."""
        precision: dict[str, Any] = {"precision_mode": self.precision_mode}
        if self.precision_mode.startswith("qint"):
            precision["activation_quant_algo"] = self.activation_quant_algo
            precision["weight_quant_granularity"] = self.weight_quant_granularity
        found: dict[str, Any] = {
            "archs": [{self.arch: list(self.clusters)}],
            "precision_config": precision,
            "graph_shape_mutable": self.shape_mutable,
            "dim_range": {str(i): {"min": list(r.low), "max": list(r.high)} for i, r in self.dim_ranges.items()},
            "insert_bn_before_firstnode": {
                str(i): {"mean": list(b.mean), "var": list(b.var)} for i, b in self.input_bn.items()
            },
            "convert_input_layout": {str(i): {"src": c.src, "dst": c.dst} for i, c in self.input_layouts.items()},
            "convert_output_layout": {str(i): {"src": c.src, "dst": c.dst} for i, c in self.output_layouts.items()},
            "opt_config": {"type64to32_conversion": self.type64to32, "conv_scale_fold": self.conv_scale_fold},
            "computation_preference": self.computation_preference,
            "cross_compile_toolchain_path": self.cross_compile_toolchain_path,
            "custom_ranges": {n: {"max": [r.high], "min": [r.low]} for n, r in self.custom_ranges.items()},
            "custom_nodes": dict(self.custom_nodes),
        }
        return merge({k: v for k, v in found.items() if v not in ({}, "")}, self.overrides)

    def as_json(self) -> str:
        """What the file and the call hold."""
        return json.dumps(self.as_dict(), indent=1)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As MagicMind merges two configurations: objects key by key, of anything else the later one stands."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        merged[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def batch_norm(preprocessing: Preprocessing, channels: int) -> BatchNorm:
    """The batch norm that does ``(x*scale - mean) / std`` to a 0..255 pixel.

    ``var`` is the square of the standard deviation, both in units of the pixel.
    """
    scale = preprocessing.scale
    if scale <= 0:
        raise _refused(f"a scale of {scale:g} has no batch norm")
    mean, std = (_spread(v, channels) for v in (preprocessing.mean, preprocessing.std))
    return BatchNorm(tuple(m / scale for m in mean), tuple((s / scale) ** 2 for s in std))


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise _refused(f"{len(values)} means or deviations for {channels} channels")
    return values


def _refused(summary: str, hint: str = "") -> AccelError:
    return AccelError(f"MagicMind configuration: {summary}", code="usage.option", hints=[hint] if hint else [])
