"""Cambricon's chips, as plain data.

Sources: Cambricon's product pages and the tables of its public repositories for the figures of the cards; the public
CNNL guide for the arithmetic. A source that says "inferred" was concluded from other facts; one that says
"public sources disagree" names a figure to trust less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accel.target import Figure, FloatType, Numerics, OptionSpec, QuantScheme, SupportLevel, Target

FIXED_POINT_OPS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
"""What computes on fixed-point inputs; the result is floating and so is every other operator."""

FLOAT_MODES: Mapping[str, FloatType] = {"force_float16": "fp16", "force_float32": "fp32"}
_MIXED: Sequence[tuple[str, int, FloatType]] = (
    ("qint8_mixed_float16", 8, "fp16"),
    ("qint8_mixed_float32", 8, "fp32"),
    ("qint16_mixed_float16", 16, "fp16"),
    ("qint16_mixed_float32", 16, "fp32"),
)


def mixed(precision: str, bits: int, float_type: FloatType) -> Numerics:
    """Fixed-point inputs of ``bits`` bits to convolution and matmul, everything else in ``float_type``.

    CNNL guide: activations per tensor, weights per output channel and symmetric, position and scale, half to even.
    """
    return Numerics(
        precision,
        float_type,
        quantized_ops=FIXED_POINT_OPS,
        activation=QuantScheme(bits, granularity="tensor", rule="position_scale"),
        weight=QuantScheme(bits, granularity="channel", rule="position_scale"),
        dataflow="inputs",
    )


_FIXED = {name: mixed(name, bits, rest) for name, bits, rest in _MIXED}
_FLOAT = {name: Numerics(name, rest) for name, rest in FLOAT_MODES.items()}

_QUANT_ALIASES = {
    "int8": "qint8_mixed_float16",
    "int16": "qint16_mixed_float16",
    "int8_fp16": "qint8_mixed_float16",
    "int8_fp32": "qint8_mixed_float32",
    "int16_fp16": "qint16_mixed_float16",
    "int16_fp32": "qint16_mixed_float32",
}
_FLOAT_ALIASES = {"fp16": "force_float16", "fp32": "force_float32"}
_FIXED_POINT_ONLY = (
    "the MLU200 series multiplies in fixed point only: convolution, deconvolution and matmul must be int8 or int16, "
    "the other operators run in fp16 or fp32"
)

_QUANT_OPTIONS = (
    OptionSpec("activation_quant_algo", "form of the activations' codes", ("symmetric", "asymmetric"), "symmetric"),
    OptionSpec(
        "weight_quant_granularity", "one scale a weight tensor or a channel", ("per_axis", "per_tensor"), "per_axis"
    ),
)
_EMIT = OptionSpec(
    "emit_script",
    "leave the standalone Python that builds inside the vendor's container, with its inputs, instead of building here",
    ("yes", "no"),
    "no",
)
_MAGICMIND_OPTIONS = (
    *_QUANT_OPTIONS,
    OptionSpec("computation_preference", "speed against accuracy", ("auto", "fast", "high_precision"), "auto"),
    OptionSpec("graph_shape_mutable", "shapes may change after the build", ("yes", "no"), "no"),
    OptionSpec("dim_range", 'free sizes by input, JSON: {"0": {"min": [1,3,64,64], "max": [8,3,512,512]}}'),
    OptionSpec("input_layout", 'layout change, JSON: {"0": {"src": "NCHW", "dst": "NHWC"}}'),
    OptionSpec("output_layout", 'layout change, JSON: {"0": {"src": "NHWC", "dst": "NCHW"}}'),
    OptionSpec("remote", "address (host:port) of a machine with a card, for --calibrator vendor"),
    OptionSpec("cross_compile_toolchain_path", "cross compiler's directory, for edge builds"),
    OptionSpec(
        "parser", "onnx: our prepared graph; native: MagicMind reads the source file itself", ("onnx", "native"), "onnx"
    ),
    OptionSpec("range_names", "what a tensor is called in custom_ranges, by its ONNX name", default="{name}"),
    OptionSpec("config", "JSON file merged over our builder configuration; its keys win"),
    _EMIT,
)
_TORCH_OPTIONS = (
    OptionSpec("first_conv", "fold mean and std into the first convolution (uint8 input)", ("yes", "no"), "no"),
    OptionSpec("variants", "offline models to make: all, or a comma list of int8_fp16, int8_fp32 ..."),
    *_QUANT_OPTIONS[1:],
    _EMIT,
)


def _support(precisions: Sequence[str]) -> Mapping[str, Mapping[str, SupportLevel]]:
    # No MLU software is public: the vendor's half is held to its documented contract, never run on a chip here.
    return {name: {"build": "contract-only", "run": "contract-only", "perf": "contract-only"} for name in precisions}


def _tera(value: float, source: str) -> Figure:
    return Figure(value * 1e12, "op/s", source)


def _on_chip(clusters: int, nram: int, wram: int, sram: int, cores: int = 4) -> Figure:
    kib = clusters * (cores * (nram + wram) + sram)
    return Figure(
        kib * 1024,
        "B",
        f"{clusters} clusters of {cores} cores with {nram} KB NRAM and {wram} KB WRAM each, {sram} KB SRAM a cluster "
        "(architecture table of the public MagicMind repositories)",
    )


_S4 = "MLU370-S4 product page (public sources disagree on the int8 figure)"
_X4 = "MLU370-X4 product page"
_X8 = "MLU370-X8 product page; each of two chips has half"

_MODES = {**_FIXED, **_FLOAT}
_MODE_ALIASES = {**_QUANT_ALIASES, **_FLOAT_ALIASES}


def _mlu300(
    name: str,
    summary: str,
    arch: str,
    cores: tuple[int, ...],
    *,
    aliases: tuple[str, ...] = (),
    peaks: Mapping[str, Figure] | None = None,
    on_chip: Figure | None = None,
    bandwidth: Figure | None = None,
    memory: Figure | None = None,
) -> Target:
    return Target(
        name,
        "mlu",
        summary,
        numerics=_MODES,
        precision_aliases=_MODE_ALIASES,
        aliases=aliases,
        arch=arch,
        cores=cores,
        toolchain="magicmind",
        peaks=peaks or {},
        on_chip_bytes=on_chip,
        dram_bandwidth=bandwidth,
        dram_bytes=memory,
        options=_MAGICMIND_OPTIONS,
        support=_support(list(_MODES)),
    )


MLU370_S4 = _mlu300(
    "mlu370-s4",
    "MLU370-S4 card (MagicMind, mtp_372)",
    "mtp_372",
    (6, 4, 2, 1),
    aliases=("mlu370",),
    peaks={"int8": _tera(192, _S4), "fp16": _tera(72, _S4), "fp32": _tera(18, _S4)},
    on_chip=_on_chip(6, 768, 1024, 4096),
    bandwidth=Figure(307.2e9, "B/s", _S4),
    memory=Figure(24 * 2**30, "B", _S4),
)
MLU370_X4 = _mlu300(
    "mlu370-x4",
    "MLU370-X4 card (MagicMind, mtp_372)",
    "mtp_372",
    (8, 6, 4, 2, 1),
    peaks={"int8": _tera(256, _X4), "fp16": _tera(96, _X4), "fp32": _tera(24, _X4)},
    on_chip=_on_chip(8, 768, 1024, 4096),
    bandwidth=Figure(307.2e9, "B/s", _X4),
    memory=Figure(24 * 2**30, "B", _X4),
)
MLU370_X8 = _mlu300(
    "mlu370-x8",
    "MLU370-X8 card: two chips; a model runs on one of them (MagicMind, mtp_372)",
    "mtp_372",
    (8, 6, 4, 2, 1),
    peaks={"int8": _tera(256, _X8), "fp16": _tera(96, _X8), "fp32": _tera(24, _X8)},
    on_chip=_on_chip(8, 768, 1024, 4096),
    bandwidth=Figure(614.4e9, "B/s", _X8),
    memory=Figure(48 * 2**30, "B", _X8),
)
MLU590 = _mlu300(
    "mlu590",
    "MLU590 card (MagicMind, mtp_592); speed and memory unknown: public figures contradict each other",
    "mtp_592",
    (1,),
)
CE3226 = _mlu300(
    "ce3226",
    "CE3226 edge chip (MagicMind, tp_322; public tools also say mtp_322 and mtp_322.10)",
    "tp_322",
    (1,),
    on_chip=_on_chip(1, 768, 1024, 0, cores=1),
)


def _mlu200(
    name: str,
    summary: str,
    arch: str,
    cores: tuple[int, ...],
    *,
    toolchain: str,
    options: tuple[OptionSpec, ...],
    peaks: Mapping[str, Figure],
    on_chip: Figure,
    memory: Figure,
    bandwidth: Figure | None = None,
) -> Target:
    return Target(
        name,
        "mlu",
        summary,
        numerics=_FIXED,
        precision_aliases=_QUANT_ALIASES,
        arch=arch,
        cores=cores,
        toolchain=toolchain,
        peaks=peaks,
        on_chip_bytes=on_chip,
        dram_bandwidth=bandwidth,
        dram_bytes=memory,
        options=options,
        support=_support(list(_FIXED)),
        refusals=dict.fromkeys((*FLOAT_MODES, *_FLOAT_ALIASES), _FIXED_POINT_ONLY),
    )


_220 = "MLU220-M.2 product page (bandwidth unpublished)"
_270 = "MLU270-S4/F4 product page"
_290 = "MLU290-M5 product page"

MLU220 = _mlu200(
    "mlu220",
    "MLU220 edge chip, 4 cores (Cambricon PyTorch)",
    "mtp_220",
    (4, 1),
    toolchain="cambricon-pytorch",
    options=_TORCH_OPTIONS,
    peaks={"int8": _tera(8, _220)},
    on_chip=_on_chip(1, 512, 512, 2048),
    memory=Figure(4 * 2**30, "B", _220),
)
MLU270 = _mlu200(
    "mlu270",
    "MLU270 card, 16 cores (Cambricon PyTorch)",
    "mtp_270",
    (16, 4, 1),
    toolchain="cambricon-pytorch",
    options=_TORCH_OPTIONS,
    peaks={"int8": _tera(128, _270), "int16": _tera(64, _270)},
    on_chip=_on_chip(4, 512, 1024, 2048),
    bandwidth=Figure(102e9, "B/s", _270),
    memory=Figure(16 * 2**30, "B", _270),
)
MLU290 = _mlu200(
    "mlu290",
    "MLU290 card, 16 clusters (MagicMind, mtp_290)",
    "mtp_290",
    (16, 8, 4, 2, 1),
    toolchain="magicmind",
    options=_MAGICMIND_OPTIONS,
    peaks={"int8": _tera(512, _290), "int16": _tera(256, _290)},
    on_chip=_on_chip(16, 512, 512, 2048),
    bandwidth=Figure(1228e9, "B/s", _290),
    memory=Figure(32 * 2**30, "B", _290),
)
