"""Channels of nearly equal range before depthwise convolutions.

One step serves all channels of an activation, and the widest channel decides it. Where a depthwise convolution alone
reads it, channel c may be written s times as large and read with weights 1/s as large: with weights that have a step by
channel on both sides that costs nothing, and the small channels use more of the codes (M. Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1, where both sides are one
channel each and the scale is free).

A Relu passes the factor on. A Clip from zero does so below its upper bound only: a tensor whose range comes near
that bound is left alone, and in the others no channel comes nearer to it than the widest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from accel.builtin.prepare import graph as g

if TYPE_CHECKING:
    from accel.calibration import Calibration, Range
    from accel.model import Model

PASS = "equalise_depthwise"

ROOM = 1.2
"""A channel is widened to the tensor's range over this: few samples rarely show a channel's largest value."""

MOST = 4.0
"""Largest factor: beyond two more bits a channel gains nothing and risks being cut off."""

NEAR = 0.9
"""A range above this share of a Clip's bound counts as reaching it."""


def equalise_depthwise(
    model: Model, ranges: Mapping[str, Range], calibration: Calibration, keep: Mapping[str, object] | None = None
) -> tuple[Model, Calibration]:
    """``model`` with widened channels, and the calibration with their means; ranges of stored tensors stay.

    Args:
        model: The prepared model that was calibrated.
        ranges: Kept range by tensor name.
        calibration: With the largest value by channel.
        keep: Names of nodes that are left alone.
    """
    proto = g.copy(model)
    graph = proto.graph
    held, makers, readers = g.constants(graph), g.producers(graph), g.consumers(graph)
    taken, outputs = g.names_in(graph), {o.name for o in graph.output}
    tensors = dict(calibration.tensors)
    changed = False
    for reader in graph.node:
        name = reader.input[0] if reader.op_type == "Conv" else ""
        clamp = makers.get(name)
        if clamp is None or name in outputs or clamp.input[0] in outputs or not _depthwise(reader, held):
            continue
        writer = makers.get(clamp.input[0])
        alone = len(readers[name]) == 1 and len(readers.get(clamp.input[0], [])) == 1
        if writer is None or writer.op_type != "Conv" or not alone or {writer.name, reader.name} & set(keep or ()):
            continue
        factors = _factors(name, clamp, ranges, calibration, held)
        if factors is None or any(n and n not in held for n in writer.input[1:]) or not np.any(factors > 1):
            continue
        _scale(graph, writer, 1, factors, held, taken)
        if len(writer.input) > 2 and writer.input[2]:
            _scale(graph, writer, 2, factors, held, taken)
        _scale(graph, reader, 1, 1 / factors, held, taken)
        stats = tensors[name]
        if stats.channel_sum is not None:
            tensors[name] = replace(stats, channel_sum=np.rint(stats.channel_sum * factors).astype(np.int64))
        changed = True
    if not changed:
        return model, calibration
    g.drop_unused_constants(graph)
    return model.with_proto(proto, applied=PASS), replace(calibration, tensors=tensors)


def _depthwise(node: onnx.NodeProto, held: Mapping[str, np.ndarray]) -> bool:
    weight = held.get(node.input[1])
    return weight is not None and weight.shape[1] == 1 and weight.shape[0] == g.attributes(node).get("group", 1) > 1


def _factors(
    name: str,
    clamp: onnx.NodeProto,
    ranges: Mapping[str, Range],
    calibration: Calibration,
    held: Mapping[str, np.ndarray],
) -> np.ndarray | None:
    """float64 factor by channel, 1 to ``MOST``; None where the tensor must stay."""
    stats, kept = calibration.tensors.get(name), ranges.get(name)
    if stats is None or kept is None or stats.channel_high is None or kept.low < 0:
        return None
    if clamp.op_type == "Clip":
        bounds = [held.get(n) for n in clamp.input[1:]]
        if len(bounds) < 2 or any(b is None or b.size != 1 for b in bounds):
            return None
        low, high = (float(np.reshape(b, -1)[0]) for b in bounds if b is not None)
        if low != 0 or kept.high >= NEAR * high:
            return None
    elif clamp.op_type != "Relu":
        return None
    largest = np.asarray(stats.channel_high, np.float64)
    with np.errstate(divide="ignore"):
        return np.where(largest > 0, np.clip(kept.high / (largest * ROOM), 1.0, MOST), 1.0)


def _scale(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    at: int,
    factors: np.ndarray,
    held: dict[str, np.ndarray],
    taken: set[str],
) -> None:
    """Multiply an operand by channel of its first dimension, under a new name: others may read the old one."""
    old = held[node.input[at]]
    new = (old * factors.reshape(-1, *[1] * (old.ndim - 1))).astype(np.float32)
    name = g.fresh(taken, f"{node.output[0]}_{'weight' if at == 1 else 'bias'}")
    graph.initializer.append(numpy_helper.from_array(new, name))
    held[name] = new
    node.input[at] = name
