"""Small tools over an ONNX graph that passes and frontends share. Nothing here changes what it computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import Model

STANDARD_DOMAINS = ("", "ai.onnx")


def copy(model: Model) -> onnx.ModelProto:
    """A graph that may be changed."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    return proto


def opset(proto: onnx.ModelProto) -> int:
    """Version of the standard operator set; 0 if the model imports none."""
    return max((int(i.version) for i in proto.opset_import if i.domain in STANDARD_DOMAINS), default=0)


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Values of initialisers and ``Constant`` nodes (``value`` tensors) by tensor name."""
    found = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD_DOMAINS:
            value = constant_value(node)
            if value is not None:
                found[node.output[0]] = value
    return found


def constant_value(node: onnx.NodeProto) -> np.ndarray | None:
    """What a ``Constant`` node holds; None for a sparse or string one."""
    attribute = node.attribute[0]
    if attribute.name == "value":
        return np.asarray(numpy_helper.to_array(attribute.t))
    value = helper.get_attribute_value(attribute)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    return None


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values by name; strings are text."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        found[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return found


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Nodes that read a tensor, by tensor name; nodes whose subgraphs read it included."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in reads(node):
            found.setdefault(name, []).append(node)
    return found


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that writes a tensor, by tensor name."""
    return {name: node for node in graph.node for name in node.output if name}


def reads(node: onnx.NodeProto) -> set[str]:
    """Tensors a node reads, those that its subgraphs take from outside included."""
    found = {name for name in node.input if name}
    for graph in subgraphs(node):
        inner = {i.name for i in graph.initializer} | {i.name for i in graph.input}
        for child in graph.node:
            found |= reads(child) - inner
            inner.update(child.output)
        found |= {o.name for o in graph.output} - inner
    return found


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Graphs a node holds (the branches of an If, the body of a Loop)."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def shapes(graph: onnx.GraphProto) -> dict[str, tuple[int | str | None, ...]]:
    """Known shapes by tensor name: sizes, names of free dimensions, None where nothing is known."""
    found: dict[str, tuple[int | str | None, ...]] = {i.name: tuple(int(d) for d in i.dims) for i in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape"):
            found[value.name] = tuple(
                int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or None) for d in tensor.shape.dim
            )
    return found


def static_shape(known: Mapping[str, tuple[int | str | None, ...]], name: str) -> tuple[int, ...] | None:
    """The shape of a tensor when every dimension is a number."""
    shape = known.get(name)
    if shape is None:
        return None
    sizes = tuple(d for d in shape if isinstance(d, int))
    return sizes if len(sizes) == len(shape) else None


def names_in(graph: onnx.GraphProto) -> set[str]:
    """Every tensor name in use."""
    found = {v.name for v in (*graph.input, *graph.output, *graph.value_info)} | {i.name for i in graph.initializer}
    for node in graph.node:
        found.update(node.input)
        found.update(node.output)
        for inner in subgraphs(node):
            found |= names_in(inner)
    return found


def fresh(taken: set[str], wanted: str) -> str:
    """``wanted``, or with a number if it is taken; it is taken afterwards."""
    name, at = wanted, 1
    while name in taken:
        name, at = f"{wanted}_{at}", at + 1
    taken.add(name)
    return name


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give every node a name of its own, so that errors, reports and overrides can speak of it."""
    taken: set[str] = set()
    for node in graph.node:
        node.name = fresh(taken, node.name or (node.output[0] if node.output else node.op_type))


def replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Put other nodes in the place of all."""
    del graph.node[:]
    graph.node.extend(nodes)


def remove_unused(graph: onnx.GraphProto) -> None:
    """Drop nodes, initialisers and value infos that no output needs. Inputs stay."""
    needed = {o.name for o in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= reads(node)
    if len(kept) != len(graph.node):
        replace_nodes(graph, [onnx.NodeProto.FromString(n.SerializeToString()) for n in reversed(kept)])
    written = {name for node in graph.node for name in node.output}
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in needed:
            del graph.initializer[at]
    for at in reversed(range(len(graph.value_info))):
        if graph.value_info[at].name not in written:
            del graph.value_info[at]


def drop_unused_constants(graph: onnx.GraphProto) -> None:
    """Remove initialisers that no node reads and that are no output."""
    used = {name for node in graph.node for name in reads(node)} | {o.name for o in graph.output}
    kept = [i for i in graph.initializer if i.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Every shape that follows from the inputs', inferred anew.

    Raises:
        AccelError: ``model.shape``, naming the node whose inputs do not fit.
    """
    inferred = _infer(proto)
    if any(str(d.dim_param).startswith("unk__") for v in _values(inferred.graph) for d in v.type.tensor_type.shape.dim):
        _label_batch(inferred)
    return inferred


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    clean = onnx.ModelProto()
    clean.CopyFrom(proto)
    del clean.graph.value_info[:]
    for output in clean.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        return shape_inference.infer_shapes(clean, check_type=True, strict_mode=True, data_prop=True)
    except Exception as error:  # the library raises InferenceError, TypeError and RuntimeError here
        raise shape_error(error, clean.graph) from error


def _values(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    return [*graph.value_info, *graph.output]


def _label_batch(proto: onnx.ModelProto) -> None:
    """Name the sizes that inference lost track of (it does behind a Resize by factors): infer at batch 1 and
    at batch 2, and see which of them follow the batch and which stay the same."""
    free = {d.dim_param for v in proto.graph.input for d in v.type.tensor_type.shape.dim if d.dim_param}
    if len(free) != 1:
        return
    known = []
    for batch in (1, 2):
        fixed = onnx.ModelProto()
        fixed.CopyFrom(proto)
        for value in fixed.graph.input:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param:
                    dim.dim_value = batch
        known.append(shapes(_infer(fixed).graph))
    for value in _values(proto.graph):
        one, two = (static_shape(k, value.name) for k in known)
        dims = value.type.tensor_type.shape.dim
        if one is None or two is None or not len(one) == len(two) == len(dims):
            continue
        for at, dim in enumerate(dims):
            if not dim.dim_param.startswith("unk__"):
                continue
            if one[at] == two[at]:
                dim.dim_value = one[at]
            elif at == 0 and (one[at], two[at]) == (1, 2):
                dim.dim_param = next(iter(free))


def shape_error(error: Exception, graph: onnx.GraphProto) -> AccelError:
    """The library's message about a node as one of ours."""
    import re

    text = str(error)
    found = re.search(r"node name: ([^)]*)\)", text) or re.search(r"Name: (\S+) OpType", text)
    node = found.group(1) if found else ""
    cause = text.strip().splitlines()[-1] if text.strip() else type(error).__name__
    where = f" at node {node!r}" if node else ""
    return AccelError(f"the graph is not consistent{where}", code="model.shape", cause=cause, node=node, stage="parse")


def tensor(name: str, value: np.ndarray) -> onnx.TensorProto:
    """An initialiser."""
    # Not ascontiguousarray: it makes a vector of a scalar.
    return numpy_helper.from_array(np.asarray(value, order="C"), name)
