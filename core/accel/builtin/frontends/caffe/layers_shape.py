"""Layers that move or select values: joining, splitting, reshaping, reducing."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from accel.builtin.frontends.caffe.net import Layer, Net, converts


@converts("Concat")
def concat(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("concat_param")
    rank = len(net.shapes[inputs[0]])
    axis = (given.integer("concat_dim") if given.has("concat_dim") else given.integer("axis", 1)) % max(rank, 1)
    shapes = [net.shapes[i] for i in inputs]
    if any(s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :] for s in shapes):
        raise layer.error(f"{', '.join(str(list(s)) for s in shapes)} cannot be joined along axis {axis}")
    made = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    if all(i in net.values for i in inputs):
        name = net.name(f"{layer.name}.value")
        net.values[name], net.shapes[name] = np.concatenate([net.values[i] for i in inputs], axis), made
        net.set(layer.tops[0], name)
        return
    if axis == 0:
        net.batch_is_free = False
    net.set(layer.tops[0], net.node("Concat", inputs, made, axis=axis))


@converts("Slice")
def slices(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("slice_param")
    shape = net.shapes[inputs[0]]
    axis = (given.integer("slice_dim") if given.has("slice_dim") else given.integer("axis", 1)) % len(shape)
    points = given.integers("slice_point")
    parts = len(layer.tops)
    if not points and shape[axis] % parts == 0:
        points = [shape[axis] // parts * i for i in range(1, parts)]
    edges = [0, *points, shape[axis]]
    sizes = [b - a for a, b in pairwise(edges)]
    if len(sizes) != parts or min(sizes) < 1:
        raise layer.error(f"{shape[axis]} channels cannot be cut at {points} into {parts} parts")
    if axis == 0:
        net.batch_is_free = False
    made = [(*shape[:axis], s, *shape[axis + 1 :]) for s in sizes]
    first = net.node("Split", [inputs[0], net.constant(np.array(sizes, np.int64), "sizes")], made[0], axis=axis)
    names = [first]
    for size in made[1:]:
        name = net.name(f"{layer.name}.split")
        net.temporary.add(name)
        net.shapes[name] = size
        names.append(name)
    del net.nodes[-1].output[:]
    net.nodes[-1].output.extend(names)
    for top, name in zip(layer.tops, names, strict=True):
        net.set(top, name)


@converts("Flatten")
def flatten(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("flatten_param")
    shape = net.shapes[inputs[0]]
    start, end = given.integer("axis", 1) % len(shape), given.integer("end_axis", -1) % len(shape)
    made = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    if start == 1 and end == len(shape) - 1 and inputs[0] not in net.values:
        net.set(layer.tops[0], net.node("Flatten", inputs[:1], made, axis=1))
    else:
        net.set(layer.tops[0], net.reshape(inputs[0], made))


@converts("Reshape")
def reshape(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("reshape_param")
    shape = net.shapes[inputs[0]]
    start, axes = given.integer("axis"), given.integer("num_axes", -1)
    start = start if start >= 0 else len(shape) + start + 1
    end = len(shape) if axes == -1 else start + axes
    dims = given.message("shape").integers("dim")
    middle = [shape[start + i] if d == 0 and start + i < len(shape) else d for i, d in enumerate(dims)]
    whole = math.prod(shape[start:end])
    if middle.count(-1) == 1:
        rest = math.prod(d for d in middle if d != -1)
        middle[middle.index(-1)] = whole // rest if rest > 0 and whole % rest == 0 else -1
    if math.prod(middle) != whole or min(middle, default=1) < 1:
        raise layer.error(f"{list(shape)} cannot become {dims}")
    net.set(layer.tops[0], net.reshape(inputs[0], (*shape[:start], *middle, *shape[end:])))


@converts("Permute")
def permute(net: Net, layer: Layer, inputs: list[str]) -> None:
    shape = net.shapes[inputs[0]]
    order = layer.param("permute_param").integers("order")
    order += [i for i in range(len(shape)) if i not in order]
    if sorted(order) != list(range(len(shape))):
        raise layer.error(f"{order} is no order of {len(shape)} axes")
    if order[0] != 0:
        net.batch_is_free = False
    net.set(layer.tops[0], net.node("Transpose", inputs[:1], tuple(shape[i] for i in order), perm=order))


@converts("ShuffleChannel")
def shuffle(net: Net, layer: Layer, inputs: list[str]) -> None:
    n, channels, *rest = net.shapes[inputs[0]]
    group = layer.param("shuffle_channel_param").integer("group", 1)
    if group < 1 or channels % group:
        raise layer.error(f"{channels} channels do not divide into {group} groups")
    x = net.reshape(inputs[0], (n, group, channels // group, *rest))
    order = [0, 2, 1, *range(3, 3 + len(rest))]
    x = net.node("Transpose", [x], (n, channels // group, group, *rest), perm=order)
    net.set(layer.tops[0], net.reshape(x, (n, channels, *rest)))


@converts("Tile")
def tile(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("tile_param")
    shape = list(net.shapes[inputs[0]])
    axis, times = given.integer("axis", 1) % len(shape), given.integer("tiles", 1)
    if times < 1 or axis == 0:
        raise layer.error(f"{times} tiles along axis {axis} cannot be compiled")
    repeats = [times if i == axis else 1 for i in range(len(shape))]
    shape[axis] *= times
    net.set(
        layer.tops[0], net.node("Tile", [inputs[0], net.constant(np.array(repeats, np.int64), "repeats")], tuple(shape))
    )


@converts("Reduction")
def reduction(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("reduction_param")
    shape = net.shapes[inputs[0]]
    axis, factor = given.integer("axis") % len(shape), given.number("coeff", 1.0)
    kind = given.text("operation", "SUM")
    ops = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    if kind not in ops:
        raise layer.error(f"unknown operation {kind}")
    axes = list(range(axis, len(shape)))
    if axis == 0:
        net.batch_is_free = False
    if kind == "SUM":
        axes_input = net.constant(np.array(axes, np.int64), "axes")
        x = net.node("ReduceSum", [inputs[0], axes_input], shape[:axis], keepdims=0)
    else:
        x = net.node(ops[kind], inputs[:1], shape[:axis], axes=axes, keepdims=0)
    if factor != 1:
        x = net.node("Mul", [x, net.constant(np.float32(factor), "coeff")], shape[:axis])
    net.set(layer.tops[0], x)


@converts("ArgMax")
def arg_max(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("argmax_param")
    shape = net.shapes[inputs[0]]
    if given.integer("top_k", 1) != 1 or given.flag("out_max_val"):
        raise layer.error("only the index of the single largest value can be compiled")
    if given.has("axis"):
        axis = given.integer("axis") % len(shape)
        made = tuple(1 if i == axis else d for i, d in enumerate(shape))
        x = net.node("ArgMax", inputs[:1], made, axis=axis, keepdims=1)
    else:
        made = (shape[0], 1, 1)
        flat = net.reshape(inputs[0], (shape[0], 1, math.prod(shape[1:])))
        x = net.node("ArgMax", [flat], made, axis=2, keepdims=1)
    net.set(layer.tops[0], net.node("Cast", [x], made, to=1))
