"""Nodes that compute in float: fp32, or rounded to fp16 or bf16 after every operator."""

from __future__ import annotations

import onnx

from accel.builtin.reference.context import Context
from accel.builtin.reference.graph import inner_names
from accel.numerics import SHAPE_OPS
from accel.target import FloatType

KEEPS_PRECISION = (SHAPE_OPS - {"Resize", "Upsample"}) | {
    "Relu",
    "Clip",
    "MaxPool",
    "GlobalMaxPool",
    "ReduceMax",
    "ReduceMin",
    "Max",
    "Min",
    "Neg",
    "Abs",
    "Sign",
    "Where",
    "TopK",
    "ScatterND",
    "GatherND",
    "GatherElements",
}
"""Their results are some of their inputs: nothing to round."""


def emit(ctx: Context, node: onnx.NodeProto, kind: FloatType) -> None:
    """Copy the node, its float inputs and results rounded to ``kind``.

    An operator rounds once, at its end: sums inside it are float32.
    """
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for at, name in enumerate(node.input):
        copy.input[at] = ctx.floating(name, kind)
    for name in inner_names(node):
        if name in ctx.source.producer:
            ctx.keep_name(name)
    rounds = kind != "fp32" and node.op_type not in KEEPS_PRECISION
    pending: list[tuple[str, str]] = []
    for at, name in enumerate(node.output):
        if not name:
            continue
        if rounds and ctx.source.is_float(name):
            copy.output[at] = ctx.w.name(f"{name}/fp32")
            pending.append((name, copy.output[at]))
        else:
            copy.output[at] = ctx.w.name(name)
            ctx.store_float(name, copy.output[at], kind)
    # Outputs are unique in the new graph; a node's own name may be that of a tensor (and of the node that makes it).
    copy.name = next((o for o in copy.output if o), copy.name)
    ctx.w.nodes.append(copy)
    for name, tensor in pending:
        ctx.store_float(name, ctx.rounded(tensor, kind, name), kind)


def reads(node: onnx.NodeProto) -> list[str]:
    """Every name the node may read, those of its subgraphs included."""
    return [*node.input, *inner_names(node)]
