"""The compiler calls a value ``<tensor>_<OpType>``: from its names to the model's and back, and names it can take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_SAFE = re.compile(r"[A-Za-z0-9_.:/\-]+")


def safe_names(proto: onnx.ModelProto) -> dict[str, str]:
    """New names for the tensors that the compiler's files cannot hold (blanks, quotes, commas), by old name."""
    taken = {v.name for v in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer)}
    taken |= {o for n in proto.graph.node for o in n.output}
    renamed: dict[str, str] = {}
    for name in sorted(taken):
        if name and not _SAFE.fullmatch(name):
            base = re.sub(r"[^A-Za-z0-9_.:/\-]", "_", name)
            new, count = base, 0
            while new in taken or new in renamed.values():
                count += 1
                new = f"{base}_{count}"
            renamed[name] = new
    return renamed


def rename(proto: onnx.ModelProto, renamed: Mapping[str, str]) -> onnx.ModelProto:
    """A copy of ``proto`` with other tensor names."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(proto)
    if renamed:
        graph = made.graph
        for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
            value.name = renamed.get(value.name, value.name)
        for node in graph.node:
            node.input[:] = [renamed.get(n, n) for n in node.input]
            node.output[:] = [renamed.get(n, n) for n in node.output]
    return made


def tensor_by_location(locations: Iterable[str], tensors: Mapping[str, str]) -> dict[str, str]:
    """Which tensor of the model each location is.

    Args:
        locations: Names in the compiler's MLIR.
        tensors: Operator type of the producer by tensor name ("" for inputs).

    Returns:
        Tensor name by location; locations that the compiler made up (the inside of an operator) are left out.
    """
    exact = {f"{name}_{op}" if op else name: name for name, op in tensors.items()}
    found = {}
    for location in locations:
        if location in exact:
            found[location] = exact[location]
            continue
        # A fused operator keeps the tensor's name with its own type: bn_out_Conv.
        stem, _, suffix = location.rpartition("_")
        if stem in tensors and suffix.isalnum() and suffix[:1].isupper():
            found[location] = stem
        elif location in tensors:
            found[location] = location
    return found


def producers(proto: onnx.ModelProto) -> dict[str, str]:
    """Operator type of the producer by tensor name; "" for the inputs."""
    held = {i.name for i in proto.graph.initializer}
    made = {v.name: "" for v in proto.graph.input if v.name not in held}
    for node in proto.graph.node:
        made.update({output: node.op_type for output in node.output if output})
    return made
