"""Which of the user's nodes runs where: hmct renames and fuses nodes, so its table must be read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accel.artifact import NodeNumerics
from accel.report import NodeSupport

if TYPE_CHECKING:
    import onnx

_LAYOUT_ONLY = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Cast")


@dataclass(frozen=True)
class Place:
    """Where one node of the user's graph ended up.

    Attributes:
        node: Its name.
        op_type: Its operator.
        on_chip: On the BPU; False: on the host's CPU.
        vendor_node: hmct's node that does its work; "" when it was folded away.
        subgraph: Number of the BPU subgraph, "" on the CPU.
        precision: ``int8``, ``int16`` or ``float``.
    """

    node: str
    op_type: str
    on_chip: bool
    vendor_node: str = ""
    subgraph: str = ""
    precision: str = "float"


def places(graph: onnx.GraphProto, result: Mapping[str, Any]) -> list[Place]:
    """Read hmct's placement (``result.json`` of a job) back onto the nodes of ``graph``."""
    table: Mapping[str, Mapping[str, str]] = result["placement"]
    made_by: Mapping[str, str] = result["made_by"]
    types: Mapping[str, list[str]] = result["node_types"]
    readers: dict[str, list[onnx.NodeProto]] = {}
    writer: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
        for name in node.output:
            writer[name] = node

    def own(node: onnx.NodeProto) -> str:
        """hmct's node for this one, without looking at neighbours."""
        for name in (node.name, *(made_by.get(f"{o}{s}", "") for o in node.output for s in ("_quantized", ""))):
            if name in table:
                return str(name)
        # A Gemm or MatMul that became a convolution keeps its name with a suffix, or its output a prefix.
        return next((n for n in table if n.startswith(f"{node.name}_") and node.name), "")

    def neighbour(node: onnx.NodeProto, down: bool, seen: frozenset[str] = frozenset()) -> str:
        around = (
            [r for o in node.output for r in readers.get(o, [])]
            if down
            else [writer[i] for i in node.input if i in writer]
        )
        for other in around:
            if other.name in seen:
                continue
            found = own(other) or neighbour(other, down, seen | {node.name})
            if found:
                return found
        return ""

    made = []
    for node in graph.node:
        # An activation is fused into what makes its input, a Sigmoid of x * sigmoid(x) into what reads it.
        name = own(node) or neighbour(node, down=True) or neighbour(node, down=False)
        entry = table.get(name, {})
        on_chip = entry.get("ON") == "BPU"
        kinds = types.get(node.name) or types.get(name) or []
        precision = "float"
        if on_chip:
            precision = "int16" if "int16" in kinds or entry.get("DataType") == "int16" else "int8"
        subgraph = entry.get("Subgraph", "").removeprefix("id(").removesuffix(")") if on_chip else ""
        made.append(Place(node.name, node.op_type, on_chip or not entry, name, subgraph, precision))
    return made


def as_numerics(found: list[Place], chip: str) -> tuple[NodeNumerics, ...]:
    """For the manifest."""
    return tuple(
        NodeNumerics(
            node=p.node,
            op_type=p.op_type,
            precision=p.precision,
            place=chip if p.on_chip else "host",
            note="" if p.vendor_node in ("", p.node) else f"fused into {p.vendor_node}",
        )
        for p in found
    )


def as_support(found: list[Place], chip: str, costs: Mapping[str, str]) -> list[NodeSupport]:
    """For ``accel check``: a node on the CPU is supported, with what that costs."""
    made = []
    for p in found:
        if p.on_chip:
            reason = f"BPU, subgraph {p.subgraph}, {p.precision}" if p.subgraph else "folded into its neighbours"
            made.append(NodeSupport(p.node, p.op_type, True, chip, reason))
        else:
            made.append(NodeSupport(p.node, p.op_type, True, "host", costs.get(p.node, "runs on the CPU in float")))
    return made


def cpu_costs(graph: onnx.GraphProto, found: list[Place], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """What each node on the CPU costs: values converted and carried between chip and host each frame."""
    on_chip = {p.node: p.on_chip for p in found}
    writer = {o: n for n in graph.node for o in n.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    costs = {}
    for node in graph.node:
        if on_chip.get(node.name, True):
            continue
        crossing = [i for i in node.input if i in writer and on_chip.get(writer[i].name, False)]
        crossing += [o for o in node.output if any(on_chip.get(r.name, False) for r in readers.get(o, []))]
        values = sum(_size(shapes.get(name, ())) for name in crossing)
        text = "runs on the CPU; moves data only" if node.op_type in _LAYOUT_ONLY else "runs on the CPU in float"
        if values:
            text += f"; {values:,} values a frame cross between chip and host"
        costs[node.name] = text
    return costs


def _size(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count if shape else 0


def not_honoured(found: list[Place], int16: tuple[str, ...], host: tuple[str, ...]) -> list[str]:
    """Notes on placements and precisions that were asked for and silently not given."""
    by_name = {p.node: p for p in found}
    notes = []
    for name in int16:
        place = by_name[name]
        if place.precision != "int16":
            became = f"; the compiler made {place.vendor_node} of it" if place.vendor_node not in ("", name) else ""
            notes.append(f"node {name} was asked to be int16 and is {place.precision}{became}")
    for name in host:
        place = by_name[name]
        if place.on_chip:
            became = f"; the compiler made {place.vendor_node} of it" if place.vendor_node not in ("", name) else ""
            notes.append(f"node {name} was asked to run on the CPU and runs on the BPU{became}")
    return notes
