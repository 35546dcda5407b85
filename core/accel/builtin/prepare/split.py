"""Split a graph in two: what a chip computes, and the tail behind it that stays on the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accel.builtin.prepare import graph as g
from accel.errors import AccelError
from accel.model import Model

if TYPE_CHECKING:
    import onnx

HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
"""What a chip is bought for: a tail that holds one is no tail."""


@dataclass(frozen=True)
class Split:
    """A network in two parts.

    Attributes:
        chip: The part that ends where the host takes over: its outputs are what the host reads, and those of the
            network's outputs that it computes itself.
        host: The rest; its inputs are outputs of ``chip`` (or inputs of the network), by the same names.
        nodes: Why each node of ``host`` is there, by node name.
    """

    chip: Model
    host: Model
    nodes: Mapping[str, str]


def split_tail(model: Model, unsupported: Mapping[str, str]) -> Split | None:
    """Put the nodes of ``unsupported`` (name to reason) and all that depends on them into a tail for the host.

    None when there is no such node.

    Raises:
        AccelError: ``unsupported.op`` when convolutions or matrix products depend on an unsupported node, or when
            nothing would be left for the chip.
    """
    graph = model.proto.graph
    held = g.constants(graph)
    floats = _float_tensors(model.proto)
    wrote = g.producers(graph)
    tail = {node.name for node in graph.node if node.name in unsupported}
    if not tail:
        return None
    while True:
        grown = downstream(graph, tail)
        # What crosses over must be numbers that a chip can give: indices and flags are computed where they are used.
        for node in graph.node:
            if node.name in grown:
                for name in g.reads(node):
                    source = wrote.get(name)
                    if source is not None and name not in held and name not in floats:
                        grown.add(source.name)
        if grown == tail:
            break
        tail = grown
    _refuse_heavy(model, tail, unsupported)
    inside = [node for node in graph.node if node.name in tail and not all(o in held for o in node.output)]
    read = {name for node in inside for name in g.reads(node)}
    written = {name for node in inside for name in node.output}
    crossing = [
        name
        for node in graph.node
        if node.name not in tail
        for name in node.output
        if name in read and name not in written and name not in held
    ]
    own = [o.name for o in model.outputs if o.name not in written]
    if not crossing:
        first = inside[0]
        raise _nothing_left(first, unsupported.get(first.name, ""))
    from accel.builtin.prepare.cut import cut

    chip = cut(model, list(dict.fromkeys([*crossing, *own])))
    reasons = {node.name: unsupported.get(node.name, "goes with a node that stays on the host") for node in inside}
    return Split(chip, _tail_model(model, crossing, own), reasons)


def downstream(graph: onnx.GraphProto, tail: set[str]) -> set[str]:
    """The nodes of ``tail`` and every node that depends on one of them, by name."""
    found, touched = set(tail), {o for n in graph.node if n.name in tail for o in n.output}
    for node in graph.node:  # in the order they run
        if node.name in found or g.reads(node) & touched:
            found.add(node.name)
            touched.update(node.output)
    return found


def _float_tensors(proto: onnx.ModelProto) -> set[str]:
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    graph = proto.graph
    return {v.name for v in (*graph.input, *graph.value_info, *graph.output) if v.type.tensor_type.elem_type in kinds}


def _refuse_heavy(model: Model, tail: set[str], unsupported: Mapping[str, str]) -> None:
    for node in model.proto.graph.node:
        if node.name in tail and node.name not in unsupported and node.op_type in HEAVY:
            first = next(n for n in model.proto.graph.node if n.name in unsupported)
            raise AccelError(
                f"{first.op_type} {first.name!r} does not run on the chip, and {node.op_type} {node.name!r} needs it",
                code="unsupported.op",
                node=first.name,
                cause=unsupported[first.name],
                hints=[
                    "Only the end of a network can stay on the host: replace the operator.",
                    f"Or cut the network before it: --output {first.input[0] if first.input else 'TENSOR'}",
                ],
            )


def _nothing_left(node: onnx.NodeProto, reason: str) -> AccelError:
    return AccelError(
        f"nothing of the network runs on the chip before {node.op_type} {node.name!r}",
        code="unsupported.op",
        node=node.name,
        cause=reason,
        hints=["Use --backend reference."],
    )


def _copied(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    made = type(value)()
    made.CopyFrom(value)
    return made


def _tail_model(model: Model, crossing: list[str], own: list[str]) -> Model:
    proto = g.copy(model)
    graph = proto.graph
    known = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    kept = [v for v in graph.output if v.name not in own]
    outputs = [_copied(v) for v in kept]
    del graph.output[:]
    graph.output.extend(outputs)
    given = [_copied(known[name]) for name in crossing]
    plain = [_copied(v) for v in graph.input if v.name not in crossing]
    for node in list(graph.node):
        if set(node.output) & set(crossing):
            if len(node.output) == 1:
                graph.node.remove(node)
            else:  # of several results some may be computed on both sides; this one is given
                node.output[:] = [f"{o}.unused" if o in crossing else o for o in node.output]
    del graph.input[:]
    graph.input.extend([*given, *plain])
    g.remove_unused(graph)
    needed = {name for node in graph.node for name in g.reads(node)} | {o.name for o in graph.output}
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name not in needed:
            del graph.input[at]
    return model.with_proto(proto, applied="host_tail")
