"""Horizon's chips, as plain data. Light: standard library and :mod:`accel.target` only."""

from __future__ import annotations

from collections.abc import Mapping

from accel.target import Figure, Numerics, OptionSpec, QuantScheme, SupportLevel, Target

BPU_OPS = frozenset(
    {
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Conv",
        "ConvTranspose",
        "Gemm",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "MatMul",
        "MaxPool",
        "Mul",
        "PRelu",
        "Pad",
        "Relu",
        "Resize",
        "Sigmoid",
        "Split",
        "Sub",
        "Tanh",
    }
)
"""Operators the BPU runs on integer codes; the rest is done in float on the host's CPU."""


def _numerics(bits: int, details: Mapping[str, str]) -> Numerics:
    # Activations are per tensor, weights per output channel and always 8 bits; scale = threshold / (2^(bits-1) - 1).
    return Numerics(
        precision=f"int{bits}",
        quantized_ops=BPU_OPS,
        activation=QuantScheme(bits=bits, rule="step", unsigned=bits == 8),
        weight=QuantScheme(bits=8, granularity="channel", rule="step", narrow=True, rounding="half_away"),
        bias_bits=31,
        requantize="split",
        details=details,
    )


# A last convolution is handed to the host as its 32-bit sums; concatenated tensors share one step.
# What depthwise convolutions read has a sign always, so its small channels are widened instead.
INT8 = _numerics(
    8,
    {
        "float_outputs": "Conv,Gemm,MatMul",
        "unsigned_codes": "convolutions",
        "concat_steps": "shared",
        "tuning": "equalise_depthwise",
    },
)
# Shortcuts are added after the convolution's own rounding; some operators read 8 bits.
INT16 = _numerics(
    16,
    {
        "float_outputs": "Conv",
        "concat_steps": "shared",
        "shortcuts": "apart",
        "narrow_tensors": "GlobalAveragePool,ConvTranspose",
        "narrow_inputs": "AveragePool,Resize,strided depthwise Conv",
    },
)

OPTIONS = (
    OptionSpec("mode", "what the compiler optimises for", ("latency", "bandwidth"), "latency"),
    OptionSpec("input_type", "what the chip is fed", ("featuremap", "rgb", "bgr", "gray", "nv12"), "featuremap"),
    OptionSpec("per_channel", "vendor's calibrator: activation thresholds per channel", ("true", "false"), "false"),
    OptionSpec("max_percentile", "vendor's calibrator: share of values kept with method max, 0.5 to 1"),
    OptionSpec(
        "asymmetric",
        "8-bit codes without a sign between convolutions; off with --calibrator vendor unless asked for",
        ("true", "false"),
        "true",
        details={"false": {"unsigned_codes": "never"}},
    ),
    OptionSpec("bias_correction", "vendor's bias correction", ("true", "false"), "false"),
    OptionSpec("run_on_cpu", "nodes to place on the CPU, comma separated"),
    OptionSpec("compiler_cache", "directory of hbdk-cc's own compile cache"),
)

_WORKS: dict[str, SupportLevel] = {
    "check": "works",
    "build": "works",
    "run": "simulated",
    "evaluate": "simulated",
    "perf": "simulated",
}


X3 = Target(
    name="x3",
    vendor="horizon",
    summary="Horizon Sunrise X3 (RDK X3), BPU Bernoulli2, 5 TOPS",
    numerics={"int8": INT8},
    arch="bernoulli2",
    cores=(1, 2),
    max_opset=11,
    toolchain="horizon",
    peaks={"int8": Figure(5e12, "op/s", "Horizon Robotics, RDK X3 product page (two cores)")},
    options=OPTIONS,
    support={"int8": _WORKS},
)

J3 = Target(
    name="j3",
    vendor="horizon",
    summary="Horizon Journey 3, BPU Bernoulli2, 5 TOPS",
    numerics={"int8": INT8},
    arch="bernoulli2",
    cores=(1, 2),
    max_opset=11,
    toolchain="horizon",
    peaks={"int8": Figure(5e12, "op/s", "Horizon Robotics, Journey 3 product page (two cores)")},
    options=OPTIONS,
    support={"int8": _WORKS},
)

J5 = Target(
    name="j5",
    vendor="horizon",
    summary="Horizon Journey 5, BPU Bayes, 128 TOPS",
    numerics={"int8": INT8, "int16": INT16},
    arch="bayes",
    cores=(1,),  # two cores on the chip, but hbdk builds a model for one of them
    max_opset=11,
    toolchain="horizon",
    peaks={"int8": Figure(128e12, "op/s", "Horizon Robotics, Journey 5 product page (two cores)")},
    options=OPTIONS,
    support={"int8": _WORKS, "int16": _WORKS},
)

X5 = Target(
    name="x5",
    vendor="horizon",
    summary="Horizon Sunrise X5 (RDK X5), BPU Bayes-e, 10 TOPS",
    numerics={"int8": INT8, "int16": INT16},
    arch="bayes-e",
    cores=(1,),
    max_opset=11,
    toolchain="horizon",
    peaks={"int8": Figure(10e12, "op/s", "D-Robotics, RDK X5 product page")},
    options=OPTIONS,
    support={"int8": _WORKS, "int16": _WORKS},
)
