"""A target: one chip, declared by a plugin as plain data.

This module must stay light (standard library only): ``accel targets NAME`` and every plugin's
``targets.py`` import it, and nothing else of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Rounding = Literal["half_even", "half_away", "half_up"]
FloatType = Literal["fp32", "fp16", "bf16"]
Granularity = Literal["tensor", "channel"]
SupportLevel = Literal["works", "simulated", "contract-only"]


@dataclass(frozen=True)
class QuantScheme:
    """How real numbers become integer codes of ``bits`` bits.

    ``rule`` derives the scale from a threshold ``t`` (the largest magnitude that is kept):

    ========================  ==================================================================
    ``max_code``              scale = t / (2^(bits-1) - 1); codes are clipped to +-(2^(bits-1)-1) if
                              ``narrow``, else to the full range
    ``step``                  as ``max_code``, with the scale itself a float32: code = x / scale (Horizon)
    ``full_range``            scale = t / 2^(bits-1)   (Sophon BM1684: code = x * 128 / t)
    ``power_of_two``          scale = 2^(floor(log2 t) - (bits - 2))   (Cambricon "position")
    ``position_scale``        Cambricon position + scale (CNNL guide)
    ``position_scale_offset`` Cambricon asymmetric: position + scale + offset (CNNL guide)
    ``affine``                scale = (hi - lo) / (2^bits - 1), integer zero point
    ========================  ==================================================================
    """

    bits: int = 8
    symmetric: bool = True
    granularity: Granularity = "tensor"
    rule: Literal[
        "max_code", "step", "full_range", "power_of_two", "position_scale", "position_scale_offset", "affine"
    ] = "max_code"
    rounding: Rounding = "half_even"
    narrow: bool = False
    unsigned: bool = False
    """Tensors that are never negative use codes 0 .. 2^bits - 1, with a step half as wide (symmetric schemes only)."""


@dataclass(frozen=True)
class Numerics:
    """How a target computes at one precision.

    Attributes:
        precision: The name users say: ``int8``, ``fp16``, ``qint8_mixed_float16``.
        float_type: What the operators outside ``quantized_ops`` compute in.
        quantized_ops: ONNX operator types that compute on integer codes; empty for a float precision.
        activation: Scheme of activations; None for a float precision.
        weight: Scheme of weights; None for a float precision.
        bias_bits: Width of the integer bias; None keeps the bias in float.
        dataflow: ``stored``: every tensor a quantised operator writes is stored as codes (Sophon,
            Horizon, most chips). ``inputs``: only the inputs of quantised operators are fixed point,
            their results are floating (Cambricon).
        requantize: How an accumulator becomes output codes under ``stored``: ``float`` (one
            float multiplication), ``shift`` (one right shift for the whole tensor), ``multiplier``
            (integer multiplier and right shift, per channel), ``split`` (as ``multiplier``, with part of the shift
            before the multiplication; all shifts floor, half an output step is in the bias).
        details: Anything else the reference must know, as ``name -> value``; documented in builtin/reference.
    """

    precision: str
    float_type: FloatType = "fp32"
    quantized_ops: frozenset[str] = frozenset()
    activation: QuantScheme | None = None
    weight: QuantScheme | None = None
    bias_bits: int | None = None
    dataflow: Literal["stored", "inputs"] = "stored"
    requantize: Literal["float", "shift", "multiplier", "split"] = "float"
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """True when this precision needs calibration."""
        return self.activation is not None


@dataclass(frozen=True)
class OptionSpec:
    """A build option that only this vendor has: ``--set name=value`` on the command line.

    Attributes:
        details: By value, what the choice changes in :attr:`Numerics.details`: the reference computes alike.
    """

    name: str
    help: str
    choices: tuple[str, ...] = ()
    default: str = ""
    details: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """A published or measured number with its unit and where it comes from."""

    value: float
    unit: str
    source: str


@dataclass(frozen=True)
class Target:
    """One chip.

    Attributes:
        name: What users say, lower case: ``bm1684``.
        vendor: Name of the plugin (entry point in ``accel.plugins``) that builds for it; a target
            whose vendor registers no plugin is served by the embedded reference alone.
        summary: One line for ``accel targets``.
        numerics: How it computes, by precision; the first entry is the default precision.
        precision_aliases: Other words for a precision: ``{"int8": "qint8_mixed_float16"}``.
        aliases: Other names of this chip. Each is also an entry point to the same object.
        arch: What the vendor's compiler calls it: ``BM1684``, ``bayes``, ``mtp_372``.
        cores: Core (or cluster) counts a model may be built for; the first is the default.
        max_opset: Highest ONNX opset the vendor's compiler reads; None: no limit of its own.
        toolchain: Name of the toolchain that compiles for it; empty: none exists.
        peaks: Peak operations per second by precision, unit ``op/s`` (one MAC is two).
        on_chip_bytes: On-chip memory with unit ``B``.
        dram_bandwidth: unit ``B/s``.
        dram_bytes: unit ``B``.
        options: Build options only this vendor has.
        vendor_frontends: Formats that the vendor's compiler reads itself (``caffe``), for ``--frontend vendor``.
        support: What the vendor's backend can be trusted with: precision -> stage -> level. Stages
            not named are not offered. The reference backend needs no entry.
        refusals: Why the chip does not have a precision people ask for: precision -> reason.
    """

    name: str
    vendor: str
    summary: str
    numerics: Mapping[str, Numerics]
    precision_aliases: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    arch: str = ""
    cores: tuple[int, ...] = (1,)
    max_opset: int | None = None
    toolchain: str = ""
    peaks: Mapping[str, Figure] = field(default_factory=dict)
    on_chip_bytes: Figure | None = None
    dram_bandwidth: Figure | None = None
    dram_bytes: Figure | None = None
    options: tuple[OptionSpec, ...] = ()
    vendor_frontends: tuple[str, ...] = ()
    support: Mapping[str, Mapping[str, SupportLevel]] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)

    @property
    def default_precision(self) -> str:
        """The precision a build uses when none is asked for."""
        return next(iter(self.numerics))

    def numerics_for(self, precision: str | None, settings: Mapping[str, str] | None = None) -> Numerics:
        """The numerics of ``precision`` (or of the default), as the build options in ``settings`` change them.

        Raises:
            AccelError: ``unsupported.precision`` when the chip has no such precision.
        """
        from accel.errors import AccelError

        name = precision or self.default_precision
        name = self.precision_aliases.get(name, name)
        found = self.numerics.get(name)
        if found is None:
            have = ", ".join([*self.numerics, *self.precision_aliases])
            raise AccelError(
                f"{self.name} has no precision {precision!r}",
                code="unsupported.precision",
                cause=self.refusals.get(name) or f"{self.name} computes in: {have}",
                hints=[f"Choose one of: {have}."],
            )
        for option in self.options:
            changed = option.details.get((settings or {}).get(option.name, ""))
            if changed:
                found = replace(found, details={**found.details, **changed})
        return found
