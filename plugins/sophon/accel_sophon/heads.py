"""Detection heads: boxes that go to a NonMaxSuppression on the host are decoded there too, not in 8-bit integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx
    from accel.model import Model

DECODES = frozenset(
    {
        *("Add", "Cast", "Concat", "Div", "Exp", "Expand", "Flatten", "Gather", "Identity", "Mul", "Pow", "Reshape"),
        *("Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""What decoding is made of. A walk back from the head ends at anything else: convolutions, activations, pooling."""


def decoding_nodes(model: Model, lacking: Mapping[str, str]) -> dict[str, str]:
    """Nodes that compute nothing but boxes and scores for a NonMaxSuppression of ``lacking``, with the reason.

    An offset in codes of 1/127 of the largest one is a pixel or two; the product with a prior's size and the sum with
    its centre, in codes of 1/127 of the picture, would be several.
    """
    from accel.builtin.prepare import graph as g
    from accel.builtin.prepare.split import downstream

    graph = model.proto.graph
    heads = {n.name for n in graph.node if n.op_type == "NonMaxSuppression" and n.name in lacking}
    if not heads:
        return {}
    held, readers = g.constants(graph), g.consumers(graph)
    outputs = {o.name for o in graph.output}
    inside = downstream(graph, heads)
    found: dict[str, str] = {}
    for node in reversed(graph.node):  # readers first
        if node.name in inside or node.op_type not in DECODES or all(o in held for o in node.output):
            continue
        behind = [reader.name for o in node.output for reader in readers.get(o, [])]
        if behind and set(behind) <= inside and not outputs & set(node.output) and _computes(node, held):
            inside.add(node.name)
            found[node.name] = "decodes for the NonMaxSuppression, in float"
    return found


def _computes(node: onnx.NodeProto, held: Mapping[str, object]) -> bool:
    """False for a node between constants, which is folded and runs nowhere."""
    return any(name and name not in held for name in node.input)
