"""Which tensors of a graph are measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

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
        producers: Node name by tensor that is no input.
        watched: Measured tensors that may hold a NaN though no operand does.
        shapes: Shape of one row by measured float32 tensor, where it is known beforehand.
        dirty: Some weight is not finite.
        averaged: Measured tensors that a convolution or matmul reads: their means by channel are kept too.
        floored: Measured tensors that a Relu, or a Clip from zero, leaves: zero counts as their smallest value
            (every range includes it), so that nobody has to look for it.
    """

    names: tuple[str, ...]
    measured: tuple[str, ...]
    same_as: dict[str, str]
    producers: dict[str, str]
    watched: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    dirty: bool
    averaged: frozenset[str] = frozenset()
    floored: frozenset[str] = frozenset()


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
    held = {i.name: i for i in graph.initializer}
    averaged = {_root(node.input[0], same_as) for node in graph.node if node.op_type in LINEAR}
    return Plan(
        averaged=frozenset(averaged & set(measured)),
        floored=frozenset(n for n in measured if n in made_by and _from_zero(made_by[n], held)),
        names=tuple(names),
        measured=measured,
        same_as=same_as,
        producers={name: node.name or node.op_type for name, node in made_by.items()},
        watched=tuple(n for n in measured if n not in made_by or made_by[n].op_type not in NO_NEW_NAN),
        shapes=_row_shapes(model, [n for n in measured if types[n] == TensorProto.FLOAT]),
        dirty=any(not np.isfinite(numpy_helper.to_array(i)).all() for i in graph.initializer if i.data_type in FLOATS),
    )


def _row_shapes(model: Model, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Known shapes at batch 1; every other dimension must be a number."""
    batch = {spec.shape[0] for spec in model.inputs if spec.shape}
    known = g.shapes(model.proto.graph)
    found = {}
    for name in names:
        shape = [1 if dim in batch else dim for dim in known.get(name, (None,))]
        if all(isinstance(dim, int) and dim > 0 for dim in shape):
            found[name] = tuple(dim for dim in shape if isinstance(dim, int))
    return found


def _types(proto: onnx.ModelProto) -> dict[str, int]:
    def read(graph: onnx.GraphProto) -> dict[str, int]:
        values = [*graph.input, *graph.value_info, *graph.output]
        return {v.name: v.type.tensor_type.elem_type for v in values if v.type.HasField("tensor_type")}

    found = read(proto.graph)
    if any(name not in found for node in proto.graph.node for name in node.output if name):
        found = read(onnx.shape_inference.infer_shapes(proto).graph) | found
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


def _from_zero(node: onnx.NodeProto, held: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Clip":
        return bool(node.op_type == "Relu")
    low = held.get(node.input[1]) if len(node.input) > 1 else None
    return low is not None and numpy_helper.to_array(low).reshape(-1).tolist() == [0.0]


def _root(name: str, links: dict[str, str]) -> str:
    while name in links:
        name = links[name]
    return name
