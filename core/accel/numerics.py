"""Ready numerics and operator sets that plugins compose their targets from.

Light on purpose (standard library and :mod:`accel.target` only): every plugin's ``targets.py`` may import it.
"""

from __future__ import annotations

from accel.target import FloatType, Granularity, Numerics, QuantScheme

LINEAR_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What multiplies and accumulates."""

ARITHMETIC_OPS = frozenset({"Add", "Sub", "Mul", "Sum"})
"""Element-wise arithmetic of two tensors."""

CLAMP_OPS = frozenset({"Relu", "Clip"})
"""Activations that only cut codes off; fused into the operator before them where they can be."""

TABLE_OPS = frozenset(
    {"Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "LeakyRelu", "Softplus", "Erf", "Gelu", "Mish", "Exp"}
)
"""Functions of one code: looked up in a table."""

POOL_OPS = frozenset({"MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean"})

SHAPE_OPS = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Upsample",
    }
)
"""What moves codes about."""

STORED_OPS = LINEAR_OPS | ARITHMETIC_OPS | CLAMP_OPS | TABLE_OPS | POOL_OPS | SHAPE_OPS
"""Everything the reference can compute on stored codes."""


def float_numerics(float_type: FloatType, precision: str = "") -> Numerics:
    """Everything in ``float_type``: weights and every result are rounded to it, sums are kept in fp32."""
    return Numerics(precision or float_type, float_type)


def stored_int(
    bits: int = 8,
    *,
    precision: str = "",
    ops: frozenset[str] = STORED_OPS,
    symmetric: bool = True,
    weights: Granularity = "channel",
    float_type: FloatType = "fp32",
) -> Numerics:
    """Every tensor between quantised operators is stored as codes; the rest in ``float_type``.

    Symmetric codes use the full range of ``bits`` bits (scale = threshold / (2^(bits-1) - 1)); weights are symmetric
    and narrow, 8 bits wide; the bias has 32 bits; one float multiplication requantises.
    """
    activation = QuantScheme(bits, symmetric, rule="max_code" if symmetric else "affine")
    weight = QuantScheme(8, granularity=weights, rule="max_code", narrow=True)
    return Numerics(precision or f"int{bits}", float_type, ops, activation, weight, bias_bits=32)


def fixed_inputs(
    bits: int = 8,
    *,
    precision: str,
    float_type: FloatType = "fp16",
    symmetric: bool = True,
    weights: Granularity = "channel",
) -> Numerics:
    """Cambricon's way: only the inputs of convolution and matmul are fixed point, every result is floating."""
    rule = "position_scale" if symmetric else "position_scale_offset"
    return Numerics(
        precision,
        float_type,
        LINEAR_OPS,
        QuantScheme(bits, symmetric, rule=rule),  # type: ignore[arg-type]
        QuantScheme(bits, granularity=weights, rule="position_scale"),
        dataflow="inputs",
    )
