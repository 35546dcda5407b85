"""From a float ONNX model to one that computes as a target's numerics say, on plain ONNX Runtime.

The result holds codes as integer-valued float32: its numbers are the same on every host, whatever kernels
ONNX Runtime chooses, because every sum is exact and every rounding is a single IEEE operation.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

import accel.builtin.reference.ops  # noqa: F401  (registers the handlers)
from accel.artifact import NodeNumerics
from accel.builtin.reference import fixed_inputs, floating
from accel.builtin.reference.concat import shared_ranges
from accel.builtin.reference.context import HANDLERS, Context, Sum
from accel.builtin.reference.graph import Source, Writer, checked_opset
from accel.builtin.reference.merge import merge_pointwise
from accel.builtin.reference.schemes import Grid
from accel.calibration import Range
from accel.errors import AccelError
from accel.model import Model
from accel.target import Numerics


@dataclass(frozen=True)
class TensorForm:
    """Where a tensor of the float graph lives in the quantised one.

    Attributes:
        tensor: Name in the quantised graph.
        inverse: Codes per unit when it holds codes (``real = code / inverse``), None when it holds real values.
        zero: Zero point: the chip's code is the held code plus this.
        bits: Width of a code; 0 for real values.
    """

    tensor: str
    inverse: float | None = None
    zero: int = 0
    bits: int = 0


@dataclass(frozen=True)
class QuantizedModel:
    """What :func:`quantize` gives.

    Attributes:
        proto: The graph to run; inputs and outputs are those of the float model, in float32.
        tensors: Inner tensors by their name in the float graph, in execution order.
        nodes: Numerics of every node of the float graph, in its order.
        notes: What left integer arithmetic and why, a line each.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, TensorForm]
    nodes: tuple[NodeNumerics, ...]
    notes: tuple[str, ...] = field(default=())
    sums: Mapping[str, Sum] = field(default_factory=dict)
    """Accumulators by the name of the linear operator's result, for passes that correct them."""
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Real values of the rounded weights, in the operator's own layout, likewise."""
    grids: Mapping[str, Grid] = field(default_factory=dict)
    """Where those weights lie, likewise."""


def quantize(
    model: Model,
    numerics: Numerics,
    ranges: Mapping[str, Range] | None = None,
    *,
    node_numerics: Mapping[str, Numerics] | None = None,
    place: str = "",
) -> QuantizedModel:
    """Write the graph that computes like ``numerics``.

    Args:
        model: Prepared float model (batch normalisation folded, constants folded, shapes inferred).
        numerics: How the target computes.
        ranges: Kept range by tensor name; needed for quantised numerics.
        node_numerics: Other numerics for single nodes, by node name.
        place: Where the nodes run, for the manifest.

    Raises:
        AccelError: ``calibration.missing`` when a quantised tensor has no range; ``usage.node`` for an unknown
            node name; ``unsupported.opset``.
    """
    proto = checked_opset(model.proto)
    gone: dict[str, str] = {}
    if numerics.details.get("merge_convolutions") == "pointwise":
        proto, gone = merge_pointwise(proto, keep=node_numerics or ())
    proto = onnx.shape_inference.infer_shapes(proto, strict_mode=False)
    source = Source(proto)
    overrides = dict(node_numerics or {})
    check_names(source, overrides)
    if numerics.details.get("concat_steps") == "shared":
        ranges = shared_ranges(source, ranges or {})
    ctx = Context(source, Writer(), numerics, ranges or {}, overrides, place)
    for value in [*proto.graph.input, *proto.graph.output]:
        ctx.w.name(value.name)
    for node in source.nodes:
        _write(ctx, node)
    for name in source.outputs:
        _write_output(ctx, name)
    for merged, into in gone.items():
        ctx.nodes.append(NodeNumerics(merged, "Conv", numerics.precision, place, f"merged into {into}"))
    return QuantizedModel(
        _assemble(ctx, proto), _forms(ctx), tuple(ctx.nodes), tuple(ctx.notes), ctx.sums, ctx.weights, ctx.grids
    )


def check_names(source: Source, overrides: Mapping[str, object]) -> None:
    """Refuse names that no node has.

    Raises:
        AccelError: ``usage.node``, with near matches.
    """
    known = [node.name for node in source.nodes if node.name]
    for name in overrides:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            raise AccelError(
                f"the model has no node {name!r}",
                code="usage.node",
                hints=[f"Did you mean {', '.join(near)}?"]
                if near
                else [f"Nodes are called {', '.join(known[:5])} ..."],
            )


def _write(ctx: Context, node: onnx.NodeProto) -> None:
    numerics = ctx.at(node)
    if node.op_type == "Constant":
        return
    into = ctx.fused.get(node.output[0])
    if into is not None:
        ctx.report(node, numerics.precision, f"inside {into}")
        return
    why = ""
    if numerics.quantized and any(ctx.source.is_float(o) for o in node.output if o):
        handlers = HANDLERS if numerics.dataflow == "stored" else fixed_inputs.HANDLERS
        handler = handlers.get(node.op_type)
        if node.op_type not in numerics.quantized_ops:
            why = "" if numerics.dataflow == "inputs" else "not among the target's integer operators"
        elif handler is None:
            why = "the reference has no integer form of this operator"
        elif handler(ctx, node):
            return
        else:
            why = "this form of the operator (operands that are not constant, unusual attributes) has no integer form"
    floating.emit(ctx, node, numerics.float_type)
    note = f"{numerics.float_type}: {why}" if why else ""
    ctx.report(node, numerics.float_type, note)
    if why:
        ctx.notes.append(f"{node.op_type} {node.name!r} runs in {numerics.float_type}: {why}")


def _write_output(ctx: Context, name: str) -> None:
    tensor = ctx.floating(name, "fp32")
    if tensor != name:
        ctx.w.nodes.append(helper.make_node("Identity", [tensor], [name], name=f"{name}/output"))


def _assemble(ctx: Context, proto: onnx.ModelProto) -> onnx.ModelProto:
    graph = proto.graph
    used = {name for node in ctx.w.nodes for name in floating.reads(node)} | set(ctx.source.outputs)
    held = [i for i in graph.initializer if i.name in used and i.name not in ctx.w.constants]
    constants = [n for n in graph.node if n.op_type == "Constant" and n.output[0] in used]
    made = helper.make_graph(
        [*constants, *ctx.w.nodes],
        graph.name or "graph",
        [v for v in graph.input if v.name not in {i.name for i in graph.initializer}],
        list(graph.output),
        [*held, *ctx.w.constants.values()],
    )
    result = helper.make_model(made, opset_imports=list(proto.opset_import), producer_name="accel")
    result.ir_version = min(max(proto.ir_version, 8), 10)
    result.functions.extend(proto.functions)
    return result


def _forms(ctx: Context) -> dict[str, TensorForm]:
    forms: dict[str, TensorForm] = {}
    for node in ctx.source.nodes:
        for name in node.output:
            found = ctx.form(name) if name and ctx.source.is_float(name) else None
            if found is not None:
                forms[name] = form_of(*found)
    return forms


def form_of(tensor: str, grid: Grid | None) -> TensorForm:
    """The form of a tensor that is held on ``grid`` (None: as real values)."""
    if grid is None:
        return TensorForm(tensor)
    return TensorForm(tensor, float(grid.inverse), grid.zero, grid.bits)


__all__ = ["QuantizedModel", "TensorForm", "check_names", "form_of", "quantize"]
