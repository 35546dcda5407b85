"""accel_check: what the compiler does with each node, before a long build."""

from __future__ import annotations

from collections.abc import Sequence

from accel.builtin.reference.check import asked_numerics
from accel.model import Model
from accel.options import BuildOptions
from accel.report import NodeSupport
from accel.target import Target

# Operators the compiler's ONNX reader has (its list of converters, tpu_mlir 1.30.2).
READS = frozenset(
    [
        "Abs", "Acos", "Add", "And", "ArgMax", "ArgMin", "Atan", "Atanh", "AveragePool",
        "BatchNormalization", "Cast", "Ceil", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
        "ConvTranspose", "Cos", "Cosh", "CumSum", "DepthToSpace", "DequantizeLinear", "Div", "Dropout",
        "Einsum", "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "GRU", "Gather",
        "GatherElements", "GatherND", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "Greater",
        "GreaterOrEqual", "GridSample", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "If",
        "InstanceNormalization", "LRN", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual",
        "Log", "LogSoftmax", "Loop", "MatMul", "Max", "MaxPool", "Min", "Mod", "Mul", "Neg",
        "NonMaxSuppression", "NonZero", "Not", "OneHot", "Or", "PRelu", "Pad", "Pow", "QuantizeLinear",
        "RandomNormalLike", "Range", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax",
        "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Resize",
        "ReverseSequence", "RoiAlign", "Round", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign",
        "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt",
        "Squeeze", "Sub", "Sum", "Tan", "Tanh", "Tile", "TopK", "Transpose", "Trilu", "Unsqueeze",
        "Upsample", "Where", "Xor",
    ]
)  # fmt: skip

# Read, and known to fail or to compute nonsense on a chip (seen with 1.30.2).
BROKEN = {
    ("bm1684", "int8"): {
        "Min": "compiles and computes nonsense with a constant operand",
        "Max": "of the same kind as Min: verified only by the comparison after the build",
        "InstanceNormalization": "differs from float by more than INT8 explains",
        "LpNormalization": "differs from float by more than INT8 explains",
    },
}


def check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport]:
    """Each node: whether the compiler takes it, the type it will be stored in, and why not.

    Raises:
        AccelError: ``unsupported.precision``, ``usage.node``.
    """
    found = []
    for node, own in asked_numerics(model, target, options):
        broken = BROKEN.get((target.arch, own.precision), {}).get(node.op_type, "")
        if node.op_type not in READS or node.domain not in ("", "ai.onnx"):
            reason = "the compiler has no such operator; cut the network before it or replace it"
            found.append(NodeSupport(node.name, node.op_type, False, "host", reason))
            continue
        if node.op_type == "NonMaxSuppression" and target.arch == "bm1684":
            found.append(NodeSupport(node.name, node.op_type, False, "host", "not implemented on this chip"))
            continue
        integer = own.quantized and node.op_type in own.quantized_ops
        place = f"{target.name} {own.precision if integer else own.float_type}"
        reason = "" if integer or not own.quantized else f"no integer form: {own.float_type}"
        found.append(NodeSupport(node.name, node.op_type, True, place, broken or reason))
    return found
