"""A chip by data alone: no hook, and yet it is checked, calibrated, built, run and evaluated."""

from accel import Numerics, QuantScheme, Target

TOY1 = Target(
    name="toy1",
    vendor="toy",
    summary="The toy chip of the tests",
    aliases=("toy-one",),
    numerics={
        "int8": Numerics(
            precision="int8",
            quantized_ops=frozenset({"Conv", "Gemm", "MatMul"}),
            activation=QuantScheme(bits=8),
            weight=QuantScheme(bits=8, granularity="channel"),
        ),
        "fp16": Numerics(precision="fp16", float_type="fp16"),
        "fp32": Numerics(precision="fp32"),
    },
    precision_aliases={"half": "fp16"},
)
