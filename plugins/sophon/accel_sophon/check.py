"""accel_check: what the compiler does with each node, before a long build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from accel.builtin.prepare.split import split_tail
from accel.builtin.reference.check import asked_numerics
from accel.errors import AccelError
from accel.model import Model
from accel.options import BuildOptions
from accel.report import NodeSupport
from accel.target import Target

from accel_sophon.heads import decoding_nodes

if TYPE_CHECKING:
    import onnx

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

# Of no fixed size, so no chip computes them.
_UNSIZED = {"NonMaxSuppression": "its result has no fixed size", "NonZero": "its result has no fixed size"}

# Read, and without an implementation on the chip (seen with 1.30.2: the compiler aborts).
LACKS = {"bm1684": frozenset(["CumSum", "Erf", "Round", "Where"])}

# Read, and known to fail or to compute nonsense on a chip (seen with 1.30.2).
BROKEN = {
    ("bm1684", "int8"): {
        "Min": "compiles and computes nonsense with a constant operand",
        "Max": "of the same kind as Min: verified only by the comparison after the build",
        "InstanceNormalization": "differs from float by more than INT8 explains",
        "LpNormalization": "differs from float by more than INT8 explains",
    },
}


def lacking(node: onnx.NodeProto, target: Target) -> str:
    """Why the chip cannot compute a node at any precision; empty when it can."""
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        return ""
    if node.op_type not in READS or node.domain not in ("", "ai.onnx"):
        return f"the compiler has no operator {node.op_type}"
    if node.op_type in _UNSIZED:
        return _UNSIZED[node.op_type]
    return f"{target.name} has no {node.op_type}" if node.op_type in LACKS.get(target.arch, ()) else ""


def unsupported_nodes(model: Model, target: Target, options: BuildOptions) -> dict[str, str]:
    """Why, by name of each node that the chip cannot compute and that depends on the input; in INT8 also what decodes
    boxes for such a node."""
    from accel.builtin.prepare import graph as g

    held = g.constants(model.proto.graph)
    lacks = {
        node.name: reason
        for node in model.proto.graph.node
        if not all(o in held for o in node.output) and (reason := lacking(node, target))
    }
    if not target.numerics_for(options.precision).quantized:
        return lacks
    return {**lacks, **decoding_nodes(model, lacks)}


def check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport]:
    """Each node: where it runs, the type it will be stored in, and why not.

    Raises:
        AccelError: ``unsupported.precision``, ``usage.node``.
    """
    lacks = unsupported_nodes(model, target, options)
    host: Mapping[str, str] = {}
    refused = ""
    try:
        split = split_tail(model, lacks)
        host = split.nodes if split else {}
    except AccelError as error:
        refused = error.summary
    found = []
    for node, own in asked_numerics(model, target, options):
        if node.name in host:
            found.append(NodeSupport(node.name, node.op_type, True, "host", host[node.name]))
            continue
        if node.name in lacks:
            reason = f"{lacks[node.name]}; {refused}" if refused else lacks[node.name]
            found.append(NodeSupport(node.name, node.op_type, False, "host", reason))
            continue
        broken = BROKEN.get((target.arch, own.precision), {}).get(node.op_type, "")
        integer = own.quantized and node.op_type in own.quantized_ops
        place = f"{target.name} {own.precision if integer else own.float_type}"
        reason = "" if integer or not own.quantized else f"no integer form: {own.float_type}"
        found.append(NodeSupport(node.name, node.op_type, True, place, broken or reason))
    return found
