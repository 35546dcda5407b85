"""Fold what never changes: nodes over constants; batch norms and other affine steps into the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from accel.builtin.prepare import graph as g
from accel.builtin.prepare import verify

if TYPE_CHECKING:
    from accel.model import Model

_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
)
_LARGEST = 2**26
"""Elements a folded tensor may have: more would swell the model for nothing."""


def fold_constants(model: Model) -> Model:
    """Compute every node whose inputs are all constant, and the shapes of tensors whose shape is fixed.

    Exact: ONNX Runtime computes the values it would have computed at every inference.
    """
    proto = g.copy(model)
    graph = proto.graph
    changed = _constants_to_initializers(graph) | _fixed_shapes(graph)
    held = {i.name for i in graph.initializer}
    known = g.shapes(graph)
    outputs = {o.name for o in graph.output}
    foldable: list[onnx.NodeProto] = []
    for node in graph.node:
        if _foldable(node, held, known) and not outputs.intersection(node.output):
            foldable.append(node)
            held.update(node.output)
    if foldable:
        _compute(proto, foldable)
    elif not changed:
        return model
    g.remove_unused(graph)
    return model.with_proto(g.infer(proto), applied="fold_constants")


def _foldable(node: onnx.NodeProto, held: set[str], known: dict[str, tuple[int | str | None, ...]]) -> bool:
    if node.op_type in _RANDOM or node.domain not in g.STANDARD_DOMAINS or any(True for _ in g.subgraphs(node)):
        return False
    if not node.input or not all(name in held for name in node.input if name):
        return False
    sizes = [g.static_shape(known, name) for name in node.output if name]
    return all(size is not None and math.prod(size) <= _LARGEST for size in sizes)


def _constants_to_initializers(graph: onnx.GraphProto) -> bool:
    kept, outputs = [], {o.name for o in graph.output}
    for node in graph.node:
        value = g.constant_value(node) if node.op_type == "Constant" and node.output[0] not in outputs else None
        if value is None:
            kept.append(node)
        else:
            graph.initializer.append(g.tensor(node.output[0], value))
    changed = len(kept) != len(graph.node)
    if changed:
        g.replace_nodes(graph, [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept])
    return changed


def _fixed_shapes(graph: onnx.GraphProto) -> bool:
    known, outputs, changed = g.shapes(graph), {o.name for o in graph.output}, False
    for node in graph.node:
        shape = g.static_shape(known, node.input[0]) if node.op_type == "Shape" else None
        if shape is None or node.output[0] in outputs:
            continue
        given = g.attributes(node)
        end = given.get("end")
        part = shape[int(given.get("start", 0)) : None if end is None else int(end)]
        graph.initializer.append(g.tensor(node.output[0], np.array(part, np.int64)))
        node.op_type, changed = "", True
    if changed:
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node if n.op_type]
        g.replace_nodes(graph, kept)
    return changed


def _compute(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Run ``nodes`` once and put their results in as initialisers."""
    graph = proto.graph
    inside = {id(n) for n in nodes}
    rest = [n for n in graph.node if id(n) not in inside]
    wanted = {name for n in rest for name in g.reads(n)}
    written = [name for n in nodes for name in n.output if name in wanted]
    used = {name for n in nodes for name in n.input}
    part = helper.make_model(
        helper.make_graph(
            nodes,
            "constants",
            [],
            [onnx.ValueInfoProto(name=name) for name in written],
            [i for i in graph.initializer if i.name in used],
        ),
        opset_imports=proto.opset_import,
        ir_version=proto.ir_version,
    )
    part = onnx.shape_inference.infer_shapes(part)
    values = verify.run(part, {})
    g.replace_nodes(graph, [onnx.NodeProto.FromString(n.SerializeToString()) for n in rest])
    graph.initializer.extend(g.tensor(name, value) for name, value in zip(written, values, strict=True))


def fold_batch_norm(model: Model) -> Model:
    """Fold what follows a Conv, ConvTranspose or Gemm and only scales and shifts its channels (batch norm,
    Mul, Add, Sub, Div with constants) into its weights and bias.

    The new weights are computed in double precision; outputs stay within 1e-4 of their largest magnitude.
    """
    proto = g.copy(model)
    graph = proto.graph
    folded = 0
    while _fold_one_round(graph):
        folded += 1
    if not folded:
        return model
    g.remove_unused(graph)
    return model.with_proto(g.infer(proto), applied="fold_batch_norm")


def _fold_one_round(graph: onnx.GraphProto) -> bool:
    held, writers, readers = g.constants(graph), g.producers(graph), g.consumers(graph)
    known, outputs, taken = g.shapes(graph), {o.name for o in graph.output}, g.names_in(graph)
    done: set[str] = set()
    for node in graph.node:
        source = next((name for name in node.input if name in writers and name not in held), "")
        before = writers.get(source)
        if before is None or source in outputs or len(readers[source]) != 1 or source in done:
            continue
        if list(node.input).count(source) != 1 or not _has_weights(before, held):
            continue
        channels = _channels(before, held)
        rank = len(known.get(source, ()))
        affine = _affine(node, source, held, channels, rank) if rank else None
        if affine is None:
            continue
        _apply(graph, before, held, *affine, taken)
        before.output[0] = node.output[0]
        done.update((source, node.output[0]))
        node.op_type = ""
    if done:
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node if n.op_type]
        g.replace_nodes(graph, kept)
    return bool(done)


def _has_weights(node: onnx.NodeProto, held: dict[str, np.ndarray]) -> bool:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or node.domain not in g.STANDARD_DOMAINS:
        return False
    bias = node.input[2] if len(node.input) > 2 else ""
    if node.input[1] not in held or (bias and bias not in held):
        return False
    if node.op_type == "Gemm" and bias and held[bias].ndim > 1 and held[bias].shape[0] != 1:
        return False
    return held[node.input[1]].dtype in (np.float32, np.float64) and not (
        node.op_type == "Gemm" and g.attributes(node).get("transA")
    )


def _channels(node: onnx.NodeProto, held: dict[str, np.ndarray]) -> int:
    shape, given = held[node.input[1]].shape, g.attributes(node)
    if node.op_type == "Conv":
        return int(shape[0])
    if node.op_type == "ConvTranspose":
        return int(shape[1]) * int(given.get("group", 1))
    return int(shape[0] if given.get("transB") else shape[1])


def _affine(
    node: onnx.NodeProto, source: str, held: dict[str, np.ndarray], channels: int, rank: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Scale and shift per channel (float64) when that is all ``node`` does to ``source``."""
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "BatchNormalization":
        parts = [held.get(name) for name in node.input[1:5]]
        given = g.attributes(node)
        if (
            any(p is None or p.shape != (channels,) for p in parts)
            or given.get("training_mode")
            or len(node.output) > 1
        ):
            return None
        gamma, beta, mean, var = (np.asarray(p, np.float64) for p in parts)
        scale = gamma / np.sqrt(var + float(given.get("epsilon", 1e-5)))
        return scale, beta - mean * scale
    if node.op_type not in ("Mul", "Add", "Sub", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == source
    other = held.get(node.input[1] if first else node.input[0])
    value = None if other is None else _per_channel(other, channels, rank)
    if value is None or (not first and node.op_type == "Div"):
        return None
    if node.op_type == "Mul":
        return value, zero
    if node.op_type == "Add":
        return one, value
    if node.op_type == "Sub":
        return (one, -value) if first else (-one, value)
    return (1.0 / value, zero) if np.all(value != 0) else None


def _per_channel(value: np.ndarray, channels: int, rank: int) -> np.ndarray | None:
    """``value`` as one number per channel (axis 1 of ``rank``) when it broadcasts like that."""
    if value.ndim > rank or value.dtype.kind != "f":
        return None
    size = ([1] * (rank - value.ndim) + list(value.shape))[1]
    if value.size != size or size not in (1, channels):
        return None
    spread: np.ndarray = np.broadcast_to(value.reshape(-1).astype(np.float64), (channels,)).copy()
    return spread


def _apply(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    held: dict[str, np.ndarray],
    scale: np.ndarray,
    shift: np.ndarray,
    taken: set[str],
) -> None:
    weight = held[node.input[1]]
    given = g.attributes(node)
    bias = np.zeros(len(scale)) if len(node.input) < 3 or not node.input[2] else held[node.input[2]].astype(np.float64)
    wide = weight.astype(np.float64)
    if node.op_type == "Conv":
        wide = wide * scale.reshape(-1, *[1] * (weight.ndim - 1))
    elif node.op_type == "ConvTranspose":
        group = int(given.get("group", 1))
        per = scale.reshape(group, 1, weight.shape[1], *[1] * (weight.ndim - 2))
        wide = (wide.reshape(group, weight.shape[0] // group, *weight.shape[1:]) * per).reshape(weight.shape)
    else:
        wide = wide * (scale[:, None] if given.get("transB") else scale[None, :])
        bias = np.broadcast_to(bias.reshape(-1), (len(scale),)) * float(given.get("beta", 1.0))
        for attribute in node.attribute:
            if attribute.name == "beta":
                attribute.f = 1.0
    names = [g.fresh(taken, f"{node.name or node.output[0]}.{part}") for part in ("weight", "bias")]
    values = (wide.astype(weight.dtype), (bias * scale + shift).astype(weight.dtype))
    for name, value in zip(names, values, strict=True):
        graph.initializer.append(g.tensor(name, value))
        held[name] = value
    del node.input[1:]
    node.input.extend(names)
