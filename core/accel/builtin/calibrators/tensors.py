"""Which tensors of a graph are measured, and the graph that hands them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from accel.builtin.prepare import graph as g
from accel.model import Model

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)

SHAPE_OPS = frozenset({"Shape", "Size"})
"""Their results, and what is computed from those alone, say nothing of activations."""

VIEWS = frozenset({"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "DepthToSpace"})
"""Same values in another order: the statistics of the input serve the output."""

FUSED_INTO = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization"})
"""Operators that compilers (and ONNX Runtime) compute together with a Relu or Clip behind them."""

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What rounding of weights shifts by ``error of the weights * mean of the input``."""

NO_NEW_NAN = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Neg", "Sum", "Abs", "Max", "Min"}
    | {"Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softmax"}
    | {"MaxPool", "GlobalMaxPool", "GlobalAveragePool", "Concat", "Slice", "Split", "Gather"}
)
"""Operators that make no NaN from finite, not huge operands."""


@dataclass(frozen=True)
class Plan:
    """What is measured of a graph.

    Attributes:
        names: Every tensor that gets statistics, in graph order.
        measured: The tensors that are looked at, inputs first.
        same_as: For the others, the measured tensor whose statistics serve: a view's source, or what a
            fused Relu or Clip leaves (what it cuts off is never needed).
        fetched: The measured tensors that are no inputs.
        producers: Node name by tensor.
        safe: Fetched tensors that hold a NaN only if an operand does.
        ranks: Rank by tensor where it is known.
        dirty: Some weight is not finite.
        averaged: Measured tensors that a convolution or matmul reads: their means by channel are kept too.
    """

    names: tuple[str, ...]
    measured: tuple[str, ...]
    same_as: dict[str, str]
    fetched: tuple[str, ...]
    producers: dict[str, str]
    safe: frozenset[str]
    ranks: dict[str, int]
    dirty: bool
    averaged: frozenset[str] = frozenset()


def plan(model: Model) -> Plan:
    """Choose the tensors: floating point, computed from the inputs, no shape arithmetic."""
    graph = model.proto.graph
    types = _types(model.proto)
    outputs = {o.name for o in graph.output}
    uses = Counter(_reads(graph.node)) + Counter(outputs)
    readers = {name: node for node in graph.node for name in node.input}
    constants = {i.name for i in graph.initializer}
    live = {spec.name for spec in model.inputs}
    names = [spec.name for spec in model.inputs if types.get(spec.name) in FLOATS]
    floating = set(names)
    views: dict[str, str] = {}
    absorbed: dict[str, str] = {}
    made_by: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type in SHAPE_OPS or not (live & set(_reads([node]))):
            constants.update(o for o in node.output if not node.input)
            continue
        live.update(o for o in node.output if o)
        for name in node.output:
            if types.get(name) not in FLOATS:
                continue
            names.append(name)
            made_by[name] = node
            reader = readers.get(name)
            if node.op_type in VIEWS and name == node.output[0] and node.input[0] in floating:
                views[name] = node.input[0]
            elif node.op_type in FUSED_INTO and reader is not None and uses[name] == 1 and _clamps(reader, constants):
                absorbed[name] = reader.output[0]
            floating.add(name)
    same_as = {name: _root(name, {**absorbed, **views}) for name in (*views, *absorbed)}
    measured = tuple(name for name in names if name not in same_as)
    inputs = {spec.name for spec in model.inputs}
    fetched = tuple(name for name in measured if name not in inputs)
    averaged = {_root(node.input[0], same_as) for node in graph.node if node.op_type in LINEAR}
    return Plan(
        averaged=frozenset(averaged & set(measured)),
        names=tuple(names),
        measured=measured,
        same_as=same_as,
        fetched=fetched,
        producers={name: node.name or node.op_type for name, node in made_by.items()},
        safe=frozenset(n for n in fetched if made_by[n].op_type in NO_NEW_NAN),
        ranks={name: len(shape) for name, shape in g.shapes(graph).items()},
        dirty=any(not np.isfinite(numpy_helper.to_array(i)).all() for i in graph.initializer if i.data_type in FLOATS),
    )


def instrument(
    model: Model, chosen: Plan, extremes: Iterable[str]
) -> tuple[onnx.ModelProto, dict[str, tuple[str, ...]]]:
    """The graph with the fetched tensors as its outputs, in order, then smallest and largest value by
    channel of the tensors in ``extremes``, and the mean of those that are averaged.

    ONNX Runtime finds these while the tensor is still in its cache, for a fraction of what a second pass
    over the fetched array costs.

    Returns:
        The graph, and the names of the two or three outputs by tensor.
    """
    proto = g.copy(model)
    graph = proto.graph
    known = {v.name: v for v in [*graph.value_info, *graph.output]}
    del graph.output[:]
    for name in chosen.fetched:
        graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
    taken = g.names_in(graph)
    found: dict[str, tuple[str, ...]] = {}
    as_input = g.opset(proto) >= 18
    for name in extremes:
        axes = list(range(2, chosen.ranks[name]))
        pair = []
        for op in ("ReduceMin", "ReduceMax"):
            out = g.fresh(taken, f"{name}/{op}")
            inputs, attributes = [name], {"axes": axes, "keepdims": 0}
            if as_input:
                held = g.fresh(taken, f"{out}/axes")
                graph.initializer.append(numpy_helper.from_array(np.array(attributes.pop("axes"), np.int64), held))
                inputs.append(held)
            graph.node.append(helper.make_node(op, inputs, [out], name=out, **attributes))
            graph.output.append(onnx.ValueInfoProto(name=out))
            pair.append(out)
        if name in chosen.averaged:
            # Cheaper than ReduceMean: it reads the convolutions' blocked layout as it is.
            out = g.fresh(taken, f"{name}/mean")
            graph.node.append(helper.make_node("GlobalAveragePool", [name], [out], name=out))
            graph.output.append(onnx.ValueInfoProto(name=out))
            pair.append(out)
        found[name] = tuple(pair)
    return proto, found


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    def read(graph: onnx.GraphProto) -> dict[str, int]:
        values = [*graph.input, *graph.value_info, *graph.output]
        return {v.name: v.type.tensor_type.elem_type for v in values if v.type.HasField("tensor_type")}

    found = read(proto.graph)
    if any(name not in found for node in proto.graph.node for name in node.output if name):
        found = read(onnx.shape_inference.infer_shapes(proto)) | found
    return found


def _reads(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Names that nodes read, those of the graphs inside them too."""
    for node in nodes:
        yield from (name for name in node.input if name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _reads(inner.node)
                yield from (o.name for o in inner.output)


def _clamps(node: onnx.NodeProto, constants: set[str]) -> bool:
    return node.op_type == "Relu" or (
        node.op_type == "Clip" and all(name in constants for name in node.input[1:] if name)
    )


def _root(name: str, links: dict[str, str]) -> str:
    while name in links:
        name = links[name]
    return name
