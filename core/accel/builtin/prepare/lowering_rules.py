"""How operators are written in older operator sets. Facts: the ONNX operator changelog."""

from __future__ import annotations

import math

import numpy as np
import onnx

from accel.builtin.prepare import graph as g
from accel.builtin.prepare.lowering import Lowering, NoExactFormError, Rule, with_attributes
from accel.builtin.prepare.lowering_blocks import BLOCKS

Nodes = list[onnx.NodeProto]


def _axes_attribute(node: onnx.NodeProto, work: Lowering) -> Nodes:
    """Squeeze, Unsqueeze and the reductions: axes were an attribute before they became an input."""
    axes, given = work.fixed(node, 1), g.attributes(node)
    if axes is None and given.get("noop_with_empty_axes"):
        return [work.node("Identity", [node.input[0]], node.name, node.output[0])]
    drop = ("noop_with_empty_axes",)
    if axes is None:
        return [with_attributes(node, [node.input[0]], drop)]
    if axes.size == 0 and given.get("noop_with_empty_axes"):
        return [work.node("Identity", [node.input[0]], node.name, node.output[0])]
    values = [int(a) for a in axes.reshape(-1)]
    extra = {"axes": values} if values else {}
    return [with_attributes(node, [node.input[0]], drop, **extra)]


def _split(node: onnx.NodeProto, work: Lowering) -> Nodes:
    given = g.attributes(node)
    sizes = work.fixed(node, 1)
    axis, parts = int(given.get("axis", 0)), len(node.output)
    if sizes is None and given.get("num_outputs"):
        whole = work.known.get(node.input[0], ())
        length = whole[axis] if whole else None
        if not isinstance(length, int):
            raise NoExactFormError("the length of the split axis is not known")
        chunk = math.ceil(length / parts)
        sizes = np.array([chunk] * (parts - 1) + [length - chunk * (parts - 1)])
    extra = {} if sizes is None else {"split": [int(s) for s in sizes]}
    return [with_attributes(node, [node.input[0]], ("num_outputs",), **extra)]


def _softmax(node: onnx.NodeProto, work: Lowering) -> Nodes:
    """Before 13 the axes from ``axis`` on were flattened into one: the same only for the last axis."""
    rank = work.rank(node.input[0])
    axis = int(g.attributes(node).get("axis", -1)) % rank
    if axis == rank - 1:
        return [with_attributes(node, list(node.input), axis=axis)]
    order = [*(i for i in range(rank) if i != axis), axis]
    back = [order.index(i) for i in range(rank)]
    there = work.node("Transpose", [node.input[0]], node.name, perm=order)
    inner = with_attributes(node, [there.output[0]], axis=rank - 1)
    inner.output[0] = g.fresh(work.taken, f"{node.name}.last")
    return [there, inner, work.node("Transpose", [inner.output[0]], node.name, node.output[0], perm=back)]


def _clip(node: onnx.NodeProto, work: Lowering) -> Nodes:
    """Constant bounds as scalars."""
    if work.target < 11:
        return [node]
    inputs = list(node.input)
    for at in range(1, len(inputs)):
        bound = work.held.get(inputs[at])
        if bound is not None and bound.ndim:
            inputs[at] = work.constant(node.name, bound.reshape(()))
    return [with_attributes(node, inputs)]


def _batch_norm(node: onnx.NodeProto, _work: Lowering) -> Nodes:
    if g.attributes(node).get("training_mode") or any(node.output[1:]):
        raise NoExactFormError("it trains")
    made = with_attributes(node, list(node.input), ("training_mode",))
    del made.output[1:]
    return [made]


def _dropout(node: onnx.NodeProto, work: Lowering) -> Nodes:
    training = work.fixed(node, 2)
    if any(node.output[1:]) or (training is not None and bool(training)):
        raise NoExactFormError("it trains")
    return [work.node("Identity", [node.input[0]], node.name, node.output[0])]


def _pad(node: onnx.NodeProto, work: Lowering) -> Nodes:
    given, inputs = g.attributes(node), list(node.input)
    if given.get("mode") == "wrap":
        raise NoExactFormError("Pad cannot wrap there")
    axes = work.fixed(node, 3)
    if axes is not None:
        pads, rank = work.fixed(node, 1), work.rank(node.input[0])
        assert pads is not None
        full = np.zeros((2, rank), np.int64)
        full[:, [int(a) % rank for a in axes]] = pads.reshape(2, -1)
        inputs = [inputs[0], work.constant(node.name, full.reshape(-1)), *inputs[2:3]]
    return [with_attributes(node, inputs)]


def _reshape(node: onnx.NodeProto, work: Lowering) -> Nodes:
    if g.attributes(node).get("allowzero"):
        target = work.fixed(node, 1)
        if target is None or not np.all(target):
            raise NoExactFormError("Reshape copies a dimension where the target says 0")
    return [with_attributes(node, list(node.input), ("allowzero",))]


def _resize(node: onnx.NodeProto, work: Lowering) -> Nodes:
    """roi and scales were required; axes and aspect-ratio policies came with 18."""
    given, data = g.attributes(node), node.input[0]
    if given.get("antialias"):
        raise NoExactFormError("Resize has no antialiasing there")
    sizes, scales = work.fixed(node, 3), work.fixed(node, 2)
    keeps_aspect = given.get("keep_aspect_ratio_policy", "stretch") != "stretch"
    shape = work.sizes(data) if given.get("axes") or keeps_aspect else ()
    axes = [int(a) % len(shape) for a in given.get("axes", range(len(shape)))]
    if keeps_aspect and sizes is not None:
        ratios = [int(s) / shape[a] for s, a in zip(sizes, axes, strict=True)]
        ratio = min(ratios) if given["keep_aspect_ratio_policy"] == "not_larger" else max(ratios)
        sizes = np.array([math.floor(ratio * shape[a] + 0.5) for a in axes])
    if shape:
        if sizes is not None:
            full = np.array(shape, np.int64)
            full[axes] = sizes
            sizes = full
        elif scales is not None and scales.size:
            wide = np.ones(len(shape), np.float32)
            wide[axes] = scales
            scales = wide
    if given.get("coordinate_transformation_mode") == "half_pixel_symmetric":
        out, whole = work.sizes(node.output[0]), work.sizes(data)
        if scales is not None and scales.size and any(s * n != o for s, n, o in zip(scales, whole, out, strict=True)):
            raise NoExactFormError("Resize has no half_pixel_symmetric there")
    drop = ("antialias", "axes", "keep_aspect_ratio_policy")
    roi = node.input[1] if len(node.input) > 1 and node.input[1] else work.constant(node.name, np.zeros(0, np.float32))
    if sizes is not None:
        empty = work.constant(node.name, np.zeros(0, np.float32))
        inputs = [data, roi, empty, work.constant(node.name, sizes.astype(np.int64))]
    else:
        assert scales is not None
        inputs = [data, roi, work.constant(node.name, scales.astype(np.float32))]
    made = with_attributes(node, inputs, drop)
    for attribute in made.attribute:
        if attribute.s == b"half_pixel_symmetric":
            attribute.s = b"half_pixel"
    return [made]


def _average_pool(node: onnx.NodeProto, _work: Lowering) -> Nodes:
    if any(d != 1 for d in g.attributes(node).get("dilations", [])):
        raise NoExactFormError("AveragePool has no dilations there")
    return [with_attributes(node, list(node.input), ("dilations",))]


def _constant(node: onnx.NodeProto, work: Lowering) -> Nodes:
    value = g.constant_value(node)
    if value is None:
        raise NoExactFormError("a sparse or string constant")
    return [work.node("Identity", [work.constant(node.name, value)], node.name, node.output[0])]


def _shape(node: onnx.NodeProto, work: Lowering) -> Nodes:
    given = g.attributes(node)
    if not given:
        return [node]
    start, end = given.get("start", 0), given.get("end", np.iinfo(np.int64).max)
    whole = work.node("Shape", [node.input[0]], node.name)
    bounds = [work.constant(node.name, np.array([v], np.int64)) for v in (start, end)]
    return [whole, work.node("Slice", [whole.output[0], *bounds], node.name, node.output[0])]


def _power(node: onnx.NodeProto, work: Lowering) -> Nodes:
    """Before 12 base and exponent had one type."""
    base, exponent = work.dtype(node.input[0]), work.fixed(node, 1)
    if exponent is None or exponent.dtype == base:
        return [node]
    return [with_attributes(node, [node.input[0], work.constant(node.name, exponent.astype(base))])]


def _not_of(opposite: str) -> Rule:
    def rule(node: onnx.NodeProto, work: Lowering) -> Nodes:
        inner = work.node(opposite, list(node.input), node.name)
        return [inner, work.node("Not", [inner.output[0]], node.name, node.output[0])]

    return Rule(12, rule)


_REDUCTIONS = (
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip

_FORMS = {
    "Squeeze": Rule(13, _axes_attribute),
    "Unsqueeze": Rule(13, _axes_attribute),
    "ReduceSum": Rule(13, _axes_attribute),
    **{op: Rule(18, _axes_attribute) for op in _REDUCTIONS},
    "Split": Rule(13, _split),
    "Softmax": Rule(13, _softmax),
    "LogSoftmax": Rule(13, _softmax),
    "Hardmax": Rule(13, _softmax),
    "Clip": Rule(12, _clip, always=True),
    "BatchNormalization": Rule(14, _batch_norm),
    "Dropout": Rule(12, _dropout),
    "Pad": Rule(18, _pad),
    "Reshape": Rule(14, _reshape),
    "Resize": Rule(13, _resize),
    "AveragePool": Rule(19, _average_pool),
    "Constant": Rule(12, _constant),
    "Shape": Rule(15, _shape),
    "Pow": Rule(12, _power),
    "GreaterOrEqual": _not_of("Less"),
    "LessOrEqual": _not_of("Greater"),
}


RULES: dict[str, Rule] = _FORMS | BLOCKS
"""By operator type."""
