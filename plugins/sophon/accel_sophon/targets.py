"""Sophon's chips, as plain data. Figures: the vendor's product pages and the sources named; what computes how was
read off the compiler's own INT8 graphs (docs/sophon.md)."""

from __future__ import annotations

from accel.target import Figure, Numerics, OptionSpec, QuantScheme, SupportLevel, Target

_PAGE = "Sophon product page"

# What has an INT8 form in the compiler and is used by the networks of docs/sophon.md. Anything else stays float.
_INT8_OPS = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Sigmoid",
        "Tanh",
        "HardSigmoid",
        "HardSwish",
        "Add",
        "Sub",
        "Mul",
        "Concat",
        "Slice",
        "Split",
        "Flatten",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Pad",
        "Resize",
        "Upsample",
        "DepthToSpace",
        "SpaceToDepth",
    }
)

_FP32 = Numerics("fp32", "fp32")
_FP16 = Numerics("fp16", "fp16")
_BF16 = Numerics("bf16", "bf16")

# Activations: step threshold/127, or threshold/255 for what is never negative. Sums are rounded half up.
_CODES = QuantScheme(8, True, "tensor", "max_code", "half_up", unsigned=True)

# BM1684: step of the weights = step of the output / step of the input / 2^shift, one shift a tensor, so that the sum
# shifted right is the output; 16-bit bias, shifted with it.
_INT8_BM1684 = Numerics(
    "int8",
    "fp32",
    quantized_ops=_INT8_OPS,
    activation=_CODES,
    weight=QuantScheme(8, True, "tensor", "max_code", "half_away"),
    bias_bits=16,
    dataflow="stored",
    requantize="shift",
    details={
        "cast_rounding": "half_away",
        "merge_convolutions": "pointwise",
        "add_multiplier_bits": "7",
        "pool_multiplier_bits": "8",
        "average_pool_range": "input",
    },
)

# BM1684X and later: weights per channel (one for all in matrix products), an integer multiplier and a right shift each.
_INT8_BM1684X = Numerics(
    "int8",
    "fp32",
    quantized_ops=_INT8_OPS,
    activation=_CODES,
    weight=QuantScheme(8, True, "channel", "max_code", "half_away"),
    bias_bits=32,
    dataflow="stored",
    requantize="multiplier",
    details={
        "weight_step_floor": "1e-5",
        "multiplier_max_shift": "30",
        "cast_rounding": "half_away",
        "merge_convolutions": "pointwise",
        "add_multiplier_bits": "7",
        "pool_multiplier_bits": "7",
        "matmul_weights": "tensor",
        "auto_rest": "mse",
    },
)

_SIMULATED: dict[str, SupportLevel] = {
    "check": "works",
    "build": "works",
    "run": "simulated",
    "evaluate": "simulated",
    # sail and bmrt_test as documented, held against strict stand-ins: no device was at hand.
    "device": "contract-only",
}
_PROFILED: dict[str, SupportLevel] = {**_SIMULATED, "perf": "simulated"}

_SEARCH = OptionSpec(
    "search",
    "with --calibrator vendor: let the vendor's tool search thresholds, or layers to keep in float",
    ("search_threshold", "search_qtable"),
    "",
)
_FLOAT_LAYERS = OptionSpec(
    "float_layers", "keep this many layers in float: those whose rounding is predicted to hurt most", (), ""
)
_VERIFY = OptionSpec("verify", "run the compiled network and compare it with float", ("yes", "no"), "yes")
_FUSE = OptionSpec(
    "fuse_preprocess", "normalise on the chip and take uint8 pixels (not on bm1684)", ("yes", "no"), "no"
)
_OPTIONS = (_FLOAT_LAYERS, _VERIFY, _SEARCH, _FUSE)

BM1682 = Target(
    name="bm1682",
    vendor="sophon",
    summary="Sophon BM1682, FP32; its compiler (bmnetc) is not public: embedded reference only",
    numerics={"fp32": _FP32},
    arch="BM1682",
    peaks={"fp32": Figure(3e12, "op/s", _PAGE)},
    on_chip_bytes=Figure(16 * 2**20, "B", _PAGE),
)

BM1684 = Target(
    name="bm1684",
    vendor="sophon",
    summary="Sophon BM1684 (SE5, SC5): INT8 and FP32",
    numerics={"int8": _INT8_BM1684, "fp32": _FP32},
    precision_aliases={"f32": "fp32", "float32": "fp32", "i8": "int8"},
    arch="bm1684",
    toolchain="sophon",
    vendor_frontends=("caffe",),
    peaks={"int8": Figure(17.6e12, "op/s", _PAGE), "fp32": Figure(2.2e12, "op/s", _PAGE)},
    on_chip_bytes=Figure(64 * 512 * 1024, "B", _PAGE),
    dram_bytes=Figure(12e9, "B", _PAGE),
    options=_OPTIONS,
    support={"int8": _SIMULATED, "fp32": _SIMULATED},
)

BM1684X = Target(
    name="bm1684x",
    vendor="sophon",
    summary="Sophon BM1684X (SE7, SC7): INT8, FP16, BF16 and FP32",
    numerics={"int8": _INT8_BM1684X, "fp16": _FP16, "bf16": _BF16, "fp32": _FP32},
    precision_aliases={"f32": "fp32", "float32": "fp32", "f16": "fp16", "float16": "fp16", "i8": "int8"},
    arch="bm1684x",
    toolchain="sophon",
    vendor_frontends=("caffe",),
    peaks={
        "int8": Figure(32e12, "op/s", _PAGE),
        "fp16": Figure(16e12, "op/s", _PAGE),
        "bf16": Figure(16e12, "op/s", _PAGE),
        "fp32": Figure(2e12, "op/s", _PAGE),
    },
    on_chip_bytes=Figure(64 * 256 * 1024, "B", _PAGE),
    dram_bandwidth=Figure(68e9, "B/s", _PAGE),
    dram_bytes=Figure(16e9, "B", _PAGE),
    options=_OPTIONS,
    support={"int8": _PROFILED, "fp16": _PROFILED, "bf16": _PROFILED, "fp32": _PROFILED},
)

BM1688 = Target(
    name="bm1688",
    vendor="sophon",
    summary="Sophon BM1688 (SE9-16): INT8 and FP16, two cores",
    numerics={"int8": _INT8_BM1684X, "fp16": _FP16},
    precision_aliases={"f16": "fp16", "float16": "fp16", "i8": "int8"},
    arch="bm1688",
    cores=(1, 2),
    toolchain="sophon",
    vendor_frontends=("caffe",),
    peaks={"int8": Figure(16e12, "op/s", _PAGE), "fp16": Figure(4e12, "op/s", _PAGE)},
    on_chip_bytes=Figure(2 * 4 * 2**20, "B", _PAGE),
    dram_bandwidth=Figure(34e9, "B/s", "derived from the memory's width and rate"),
    options=_OPTIONS,
    support={"int8": _PROFILED, "fp16": _PROFILED},
)

CV186X = Target(
    name="cv186x",
    vendor="sophon",
    summary="Sophon CV186X (SE9-8): INT8, one core of the BM1688's kind",
    numerics={"int8": _INT8_BM1684X},
    precision_aliases={"i8": "int8"},
    aliases=("cv186ah",),
    arch="cv186x",
    toolchain="sophon",
    vendor_frontends=("caffe",),
    peaks={"int8": Figure(8e12, "op/s", "half of BM1688's")},
    on_chip_bytes=Figure(4 * 2**20, "B", "half of BM1688's"),
    options=_OPTIONS,
    support={"int8": _PROFILED},
)
