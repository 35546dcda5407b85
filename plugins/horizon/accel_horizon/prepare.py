"""The form of a model that Horizon's compiler reads: static batch, opset 11, IR 7, every node named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from accel.errors import AccelError
from accel.model import Model

if TYPE_CHECKING:
    import onnx

OPSET = 11
IR_VERSION = 7


def for_horizon(model: Model, batch: int) -> Model:
    """``model`` at one batch size, lowered.

    Tensor names stay, so that ranges and layers are found again. Lowering may add tensors of its own.

    Raises:
        AccelError: ``usage.shape`` for dimensions other than the batch that are not known; what the passes raise.
    """
    from accel.builtin.prepare.batch import set_batch
    from accel.builtin.prepare.opset import lower

    for spec in model.inputs:
        free = [d for d in spec.shape[1:] if not isinstance(d, int)]
        if free:
            raise AccelError(
                f"Horizon's compiler wants known shapes; {spec} has {', '.join(map(str, free))}",
                code="usage.shape",
                hints=[f"Give it: --input-shape {spec.name}=..."],
            )
    refuse_unknown(model.proto.graph)
    lowered = lower(set_batch(model, batch), OPSET)
    proto = type(lowered.proto)()
    proto.CopyFrom(lowered.proto)
    proto.ir_version = IR_VERSION
    proto.graph.name = plain_name(model.name)
    name_nodes(proto.graph)
    return lowered.with_proto(proto)


def refuse_unknown(graph: onnx.GraphProto) -> None:
    """hmct stops at custom operators and at nodes with graphs inside without saying which.

    Raises:
        AccelError: ``unsupported.operator``.
    """
    for node in graph.node:
        inside = any(a.HasField("g") or a.graphs for a in node.attribute)
        if not inside and node.domain in ("", "ai.onnx"):
            continue
        kind = "nodes with graphs inside" if inside else f"operators of the domain {node.domain!r}"
        raise AccelError(
            f"Horizon's compiler has no {node.op_type}",
            code="unsupported.operator",
            node=node.name,
            cause=f"it reads no {kind}",
            hints=[f"End the network before it: --output-names {node.input[0] if node.input else ''}"],
        )


def static_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes by tensor name, of those that are known to the last dimension."""
    from accel.builtin.prepare.graph import shapes

    found = {}
    for name, shape in shapes(graph).items():
        dims = tuple(d for d in shape if isinstance(d, int))
        if len(dims) == len(shape):
            found[name] = dims
    return found


def plain_name(name: str) -> str:
    """``name`` as a word that is safe in file names and in the compiler's symbol names."""
    return re.sub(r"\W+", "_", name).strip("_") or "model"


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own (hmct tells nodes apart by name)."""
    taken: set[str] = set()
    for at, node in enumerate(graph.node):
        name = node.name or f"{node.op_type}_{at}"
        while name in taken:
            name = f"{name}_{at}"
        taken.add(name)
        node.name = name
