"""Rewrites of what a chip's compiler computes wrongly into the same thing in other words. Exact in every arithmetic."""

from __future__ import annotations

import numpy as np
import onnx
from accel.model import Model
from accel.target import Numerics, Target

from accel_sophon import mlir


def computes_wrongly(node: onnx.NodeProto, weight_shape: tuple[int, ...], target: Target, numerics: Numerics) -> bool:
    """Whether the compiler gets this convolution wrong.

    Seen with tpu_mlir 1.30.2: for BM1684 in INT8 a depthwise convolution with a dilation is written into the bmodel
    as if it had another arrangement of weights. The lowered graph is right, the exit code 0, and the functional model
    computes nonsense (cosine 0.2 and less); plain and grouped convolutions with a dilation are right.
    """
    if target.arch != "bm1684" or not numerics.quantized or node.op_type != "Conv" or len(weight_shape) != 4:
        return False
    named = {a.name: a for a in node.attribute}
    group = named["group"].i if "group" in named else 1
    dilations = tuple(named["dilations"].ints) if "dilations" in named else (1, 1)
    return group > 1 and weight_shape[1] == 1 and max(dilations) > 1


def wrong_places(module: mlir.Module, target: Target, numerics: Numerics) -> list[str]:
    """Values that the compiler must not store as integers.

    Seen with tpu_mlir 1.30.2: a Scale (a batch norm that nothing took in) in INT8 on BM1684 is not what the functional
    model computes (cosine 0.95 behind the first one of a network).
    """
    if target.arch != "bm1684" or not numerics.quantized:
        return []
    return [op.name for op in module.values() if op.kind in ("top.Scale", "top.BatchNorm")]


def wrong_convolutions(model: Model, target: Target, numerics: Numerics) -> list[str]:
    """Names of the nodes that :func:`computes_wrongly` is about."""
    from accel.builtin.prepare import graph as g

    held = g.constants(model.proto.graph)
    return [
        node.name
        for node in model.proto.graph.node
        if len(node.input) > 1
        and node.input[1] in held
        and computes_wrongly(node, held[node.input[1]].shape, target, numerics)
    ]


def spread_dilations(model: Model, target: Target, numerics: Numerics) -> Model:
    """Dilated depthwise convolutions as plain ones, with the zeros between their weights written out.

    A kernel of ``k`` taps ``d`` apart is one of ``(k - 1) * d + 1`` taps. Zeros stay zero in codes and add nothing to
    a sum, so float and integer results are the same to the bit.
    """
    wrong = set(wrong_convolutions(model, target, numerics))
    if not wrong:
        return model
    from accel.builtin.prepare import graph as g

    proto = g.copy(model)
    graph = proto.graph
    held = g.constants(graph)
    taken = g.names_in(graph)
    for node in graph.node:
        if node.name not in wrong:
            continue
        named = {a.name: a for a in node.attribute}
        weight = held[node.input[1]]
        down, right = named["dilations"].ints
        rows, columns = ((n - 1) * d + 1 for n, d in zip(weight.shape[2:], (down, right), strict=True))
        spread = np.zeros((*weight.shape[:2], rows, columns), weight.dtype)
        spread[:, :, ::down, ::right] = weight
        name = g.fresh(taken, f"{node.input[1]}.spread")
        graph.initializer.append(g.tensor(name, spread))
        node.input[1] = name
        named["dilations"].ints[:] = [1, 1]
        if "kernel_shape" in named:
            named["kernel_shape"].ints[:] = [rows, columns]
    g.remove_unused(graph)
    return model.with_proto(proto, applied="spread_dilations")
