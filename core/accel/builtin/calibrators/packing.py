"""A graph that hands out what the statistics need, and little else.

Fetching every activation costs more than many networks themselves: they leave the processor's cache only
to be read again. So the graph picks the values that are binned and finds extremes and means by channel while a
tensor is at hand, and joins them into a few arrays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel.builtin.prepare import graph as g
from accel.model import Model

RUN = 16
"""Neighbouring values that are kept together where not all are: memory comes in lines of 64 bytes."""


def stride_of(shape: Sequence[int], limit: int) -> int:
    """Every how many-th run of a row is kept, for at most about ``limit`` values; 0: all values are.

    It has no factor in common with the size of a channel's plane, so that all positions come up.
    """
    size = math.prod(shape)
    if not limit or size <= limit:
        return 0
    plane = math.prod(shape[2:]) if len(shape) > 2 else shape[-1]
    stride = -(-(size // RUN * RUN) // limit)
    while math.gcd(stride, plane) != 1:
        stride += 1
    return stride


def spread(values: np.ndarray, limit: int) -> np.ndarray:
    """A view of the values of one row that are kept."""
    flat, stride = values.reshape(-1), stride_of(values.shape, limit)
    return flat[: flat.size // RUN * RUN].reshape(-1, RUN)[::stride] if stride else flat


@dataclass(frozen=True)
class Packed:
    """Where a tensor stands in the joined arrays.

    Attributes:
        name: The tensor.
        size: Values of one row.
        runs: Its part of the kept runs.
        highs: Its part of the largest values by channel.
        lows: Its part of the smallest ones; None: zero.
        means: Its part of the means by channel; None: not averaged.
    """

    name: str
    size: int
    runs: slice
    highs: slice
    lows: slice | None
    means: slice | None


def packable(shape: tuple[int, ...] | None) -> bool:
    """Tensors of a known shape with channels, whole runs."""
    return shape is not None and len(shape) > 1 and shape[0] == 1 and math.prod(shape) % RUN == 0


def whole_tensors(model: Model, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with ``names`` as its outputs."""
    proto = g.copy(model)
    known = {v.name: v for v in [*proto.graph.value_info, *proto.graph.output]}
    del proto.graph.output[:]
    proto.graph.output.extend(known.get(name) or onnx.ValueInfoProto(name=name) for name in names)
    return proto


def pack(
    model: Model,
    shapes: Mapping[str, tuple[int, ...]],
    whole: Sequence[str],
    limit: int,
    *,
    averaged: Collection[str] = (),
    floored: Collection[str] = (),
) -> tuple[onnx.ModelProto, list[Packed]]:
    """The graph whose outputs are the tensors in ``whole`` as they are and then, of the tensors in ``shapes`` if there
    are any, the kept runs [runs, RUN], and by channel [1, channels] the largest values, the smallest of those not in
    ``floored`` and the means of those in ``averaged``; each joined."""
    proto = whole_tensors(model, whole)
    if not shapes:
        return proto, []
    writer = _Writer(proto.graph, g.names_in(proto.graph), g.opset(proto))
    # A vector of none is no ONNX; those of the first tensor cost little.
    first = next(iter(shapes))
    low = [name for name in shapes if name not in floored] or [first]
    mean = [name for name in shapes if name in averaged] or [first]
    highs, lows, means = (_parts(names, shapes) for names in (list(shapes), low, mean))
    parts: list[Packed] = []
    run = 0
    for name, shape in shapes.items():
        size, stride = math.prod(shape), stride_of(shape, limit)
        kept = -(-(size // RUN) // (stride or 1))
        least = None if name in floored else lows[name]
        parts.append(Packed(name, size, slice(run, run + kept), highs[name], least, means.get(name)))
        run += kept
    joined = [writer.node("Concat", [writer.kept(n, s, limit) for n, s in shapes.items()], axis=0)]
    for op, names in (("ReduceMax", list(shapes)), ("ReduceMin", low), ("ReduceMean", mean)):
        joined.append(writer.node("Concat", [writer.by_channel(op, n, shapes[n]) for n in names], axis=1))
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in joined)
    return proto, parts


def _parts(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, slice]:
    """Where each tensor's channels stand when they are joined."""
    found, at = {}, 0
    for name in names:
        found[name] = slice(at, at + shapes[name][1])
        at += shapes[name][1]
    return found


@dataclass
class _Writer:
    graph: onnx.GraphProto
    taken: set[str]
    opset: int

    def node(self, op_type: str, inputs: Sequence[str], **attributes: object) -> str:
        out = g.fresh(self.taken, f"accel/{op_type}/{len(self.graph.node)}")
        self.graph.node.append(helper.make_node(op_type, list(inputs), [out], name=out, **attributes))
        return out

    def ints(self, *values: int) -> str:
        name = g.fresh(self.taken, f"accel/ints/{len(self.graph.initializer)}")
        self.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def kept(self, name: str, shape: tuple[int, ...], limit: int) -> str:
        runs, stride = math.prod(shape) // RUN, stride_of(shape, limit)
        rows = self.node("Reshape", [name, self.ints(runs, RUN)])
        if not stride:
            return rows
        if self.opset < 10:  # Slice had no steps yet
            return self.node("Gather", [rows, self.ints(*range(0, runs, stride))], axis=0)
        return self.node("Slice", [rows, self.ints(0), self.ints(runs), self.ints(0), self.ints(stride)])

    def by_channel(self, op_type: str, name: str, shape: tuple[int, ...]) -> str:
        axes = range(2, len(shape))
        if not axes:
            return name
        if self.opset >= 18:  # axes became an input
            return self.node(op_type, [name, self.ints(*axes)], keepdims=0)
        return self.node(op_type, [name], axes=list(axes), keepdims=0)
