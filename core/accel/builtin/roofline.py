"""What a network must compute and move, and the least time a chip needs for it.

Roofline (Williams, Waterman, Patterson, 2009): a layer takes at least its operations over the peak, and at least its
bytes over the bandwidth; the larger of the two counts. Nothing here is tuned: peaks and bandwidth come from the
caller, with their sources, and whatever comes out is ``predicted``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnx

    from accel.model import Model

Bound = Literal["compute", "memory", "none"]

_RNN_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# They rename or re-index what is already in memory; no compiler moves bytes for them.
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "Constant", "Dropout"})


@dataclass(frozen=True)
class NodeCost:
    """What one node computes and touches, at the model's own batch.

    Attributes:
        node: Name of the node (its first output where it has none).
        op_type: ONNX operator type.
        macs: Multiply-accumulates of convolutions, matrix products and recurrent cells; 0 for all else.
        weights: Elements of constant inputs.
        reads: Elements of each activation input.
        writes: Elements of each output.
    """

    node: str
    op_type: str
    macs: int
    weights: int
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Costs:
    """Costs of a network.

    Attributes:
        nodes: In graph order.
        batch: Batch they were counted at (a free batch counts as 1).
        unknown: Nodes left out, with the reason: ``name (why)``.
    """

    nodes: tuple[NodeCost, ...]
    batch: int
    unknown: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run at ``batch``."""
        return sum(n.macs for n in self.nodes)

    @property
    def weights(self) -> int:
        """Elements of all weights."""
        return sum(n.weights for n in self.nodes)


@dataclass(frozen=True)
class Machine:
    """A chip as the roofline sees it.

    Attributes:
        peak: Operations a second of the whole chip (one multiply-accumulate is two).
        bandwidth: Bytes a second between the chip and its memory.
        on_chip_bytes: A tensor that is no larger stays on the chip between two layers; 0: every tensor travels.
        units: Clusters or cores that each take whole samples of a batch: a batch of ``b`` takes
            ``ceil(b / units)`` rounds at ``peak / units``. 1: the whole chip works on every sample.
    """

    peak: float
    bandwidth: float
    on_chip_bytes: int = 0
    units: int = 1


@dataclass(frozen=True)
class LayerTime:
    """The least time of one layer, for the whole batch."""

    node: str
    op_type: str
    macs: int
    bytes: int
    seconds: float
    bound: Bound


@dataclass(frozen=True)
class Prediction:
    """The least time of a network for one batch.

    Attributes:
        layers: In graph order.
        seconds: Their sum.
        batch: Samples a run.
    """

    layers: tuple[LayerTime, ...]
    seconds: float
    batch: int

    @property
    def samples_per_second(self) -> float:
        """Throughput with one run after another."""
        return self.batch / self.seconds if self.seconds else 0.0


def count(model: Model) -> Costs:
    """Count multiply-accumulates and elements of every node of ``model``.

    A free first dimension counts as 1. Nodes whose shapes cannot be inferred, or that hold a graph of their own,
    are listed in ``unknown`` rather than guessed.
    """
    shapes = _shapes(model)
    held = {i.name: math.prod(i.dims) for i in model.proto.graph.initializer}
    nodes: list[NodeCost] = []
    unknown: list[str] = []
    for node in model.proto.graph.node:
        name = node.name or node.output[0]
        if node.op_type == "Constant":
            continue
        if any(a.HasField("g") or len(a.graphs) for a in node.attribute):
            unknown.append(f"{name} ({node.op_type} holds a graph)")
            continue
        missing = [t for t in (*node.input, *node.output) if t and t not in held and t not in shapes]
        if missing:
            unknown.append(f"{name} (shape of {missing[0]} is unknown)")
            continue
        if node.op_type == "Einsum":
            unknown.append(f"{name} (Einsum is not counted)")
            continue
        nodes.append(
            NodeCost(
                name,
                node.op_type,
                _macs(node, shapes),
                sum(held.get(t, 0) for t in node.input),
                tuple(math.prod(shapes[t]) for t in node.input if t and t not in held),
                tuple(math.prod(shapes[t]) for t in node.output if t),
            )
        )
    first = model.inputs[0].shape[:1] if model.inputs else ()
    batch = first[0] if first and isinstance(first[0], int) and first[0] > 0 else 1
    return Costs(tuple(nodes), batch, tuple(unknown))


def predict(
    costs: Costs,
    machine: Machine,
    *,
    batch: int = 1,
    weight_bytes: float = 1.0,
    activation_bytes: float = 1.0,
) -> Prediction:
    """The least time ``machine`` needs for one batch of ``batch`` samples.

    Weights travel once a batch. The network's first input and last output travel always; any other tensor travels
    only when it is larger than ``machine.on_chip_bytes``: one sample of it where units take samples, else the batch.

    Args:
        costs: From :func:`count`.
        machine: Peaks and memory of the chip.
        batch: Samples a run.
        weight_bytes: Bytes of a stored weight.
        activation_bytes: Bytes of a stored activation element.
    """
    samples = batch / costs.batch
    rounds = math.ceil(batch / machine.units)
    held_at_once = 1 if machine.units > 1 else batch
    layers = []
    last = len(costs.nodes) - 1
    for at, cost in enumerate(costs.nodes):
        moved = cost.weights * weight_bytes
        for place, elements in enumerate((*cost.reads, *cost.writes)):
            size = elements / costs.batch * activation_bytes
            outside = (at == 0 and place == 0) or (at == last and place >= len(cost.reads))
            if outside or (size * held_at_once > machine.on_chip_bytes and cost.op_type not in _VIEWS):
                moved += elements * samples * activation_bytes
        compute = 2 * cost.macs / costs.batch * rounds / (machine.peak / machine.units)
        memory = moved / machine.bandwidth
        bound: Bound = "none" if not (compute or memory) else "compute" if compute >= memory else "memory"
        layers.append(
            LayerTime(cost.node, cost.op_type, round(cost.macs * samples), round(moved), max(compute, memory), bound)
        )
    return Prediction(tuple(layers), sum(layer.seconds for layer in layers), batch)


def _shapes(model: Model) -> dict[str, tuple[int, ...]]:
    """Known shapes by tensor name: inferred at batch 1 where the batch is free."""
    import onnx
    from onnx import shape_inference

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    held = {i.name for i in proto.graph.initializer}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in held and len(dims) and dims[0].WhichOneof("value") != "dim_value":
            dims[0].dim_value = 1
    # Shapes written before the batch was known would stand in the way.
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = shape_inference.infer_shapes(proto, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {i.name: tuple(i.dims) for i in inferred.initializer}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        if tensor.HasField("shape") and all(d.WhichOneof("value") == "dim_value" for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


def _macs(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    kind = node.op_type
    if kind in ("Conv", "ConvInteger", "QLinearConv"):
        weight = shapes[node.input[3 if kind == "QLinearConv" else 1]]
        return math.prod(shapes[node.output[0]]) * math.prod(weight[1:])
    if kind == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
    if kind in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    if kind == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
    if kind in _RNN_GATES:
        return _recurrent(kind, shapes[node.input[0]], shapes[node.input[1]], shapes[node.input[2]])
    return 0


def _recurrent(kind: str, data: Sequence[int], weight: Sequence[int], recurrence: Sequence[int]) -> int:
    # [steps, batch, input], [directions, gates*hidden, input], [directions, gates*hidden, hidden]
    directions, rows, inputs = weight
    return data[0] * data[1] * directions * rows * (inputs + recurrence[2])
