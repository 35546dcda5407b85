"""Layers with windows: convolutions, pooling, resizing, cropping; and the fully connected one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accel.builtin.frontends.caffe.net import Layer, Net, converts
from accel.builtin.frontends.caffe.prototxt import Message


def _pair(layer: Layer, given: Message, name: str, default: int, short: str = "") -> tuple[int, int]:
    """(height, width) of ``kernel_size``, ``stride``, ``pad``: one value, two, or ``_h`` and ``_w``."""
    short = short or name
    both = given.integers(name)
    if given.has(f"{short}_h") or given.has(f"{short}_w"):
        return given.integer(f"{short}_h", default), given.integer(f"{short}_w", default)
    if len(both) > 2:
        raise layer.error(f"{name} has {len(both)} values; two dimensions are known")
    if not both:
        return default, default
    return both[0], both[-1]


def _window(layer: Layer, given: Message) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = _pair(layer, given, "kernel_size", 0, "kernel")
    stride, pad = _pair(layer, given, "stride", 1), _pair(layer, given, "pad", 0)
    if min(kernel) < 1 or min(stride) < 1 or min(pad) < 0:
        raise layer.error(f"kernel {kernel}, stride {stride} or pad {pad} is impossible")
    return kernel, stride, pad


def _picture(layer: Layer, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    if len(shape) != 4:
        raise layer.error(f"its input has {len(shape)} dimensions, four are needed")
    return shape[0], shape[1], shape[2], shape[3]


@converts("Convolution", "Deconvolution", "ConvolutionDepthwise", "DepthwiseConvolution")
def convolution(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("convolution_param")
    given.seen.update(("weight_filler", "bias_filler", "engine", "force_nd_im2col", "axis"))
    out, bias = given.integer("num_output"), given.flag("bias_term", True)
    kernel, stride, pad = _window(layer, given)
    dilation = _pair(layer, given, "dilation", 1)
    up = layer.kind == "Deconvolution"
    for source, top in zip(inputs, layer.tops, strict=True):
        n, channels, *size = _picture(layer, net.shapes[source])
        group = channels if "epthwise" in layer.kind else given.integer("group", 1)
        if out < 1 or group < 1 or channels % group or out % group:
            raise layer.error(f"{channels} channels, {out} outputs and {group} groups do not go together")
        shape = (channels, out // group, *kernel) if up else (out, channels // group, *kernel)
        weights = [net.constant(layer.weight(0, shape), "weight")]
        if bias:
            weights.append(net.constant(layer.weight(1, (out,)), "bias"))
        extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        if up:
            spatial = [s * (i - 1) + e - 2 * p for i, s, e, p in zip(size, stride, extent, pad, strict=True)]
        else:
            spatial = [(i + 2 * p - e) // s + 1 for i, s, e, p in zip(size, stride, extent, pad, strict=True)]
        if min(spatial) < 1:
            raise layer.error(f"a picture of {size[0]}x{size[1]} is smaller than its kernel")
        x = net.node(
            "ConvTranspose" if up else "Conv",
            [source, *weights],
            (n, out, *spatial),
            kernel_shape=list(kernel),
            strides=list(stride),
            pads=[*pad, *pad],
            dilations=list(dilation),
            group=group,
        )
        net.set(top, x)


@converts("InnerProduct")
def inner_product(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("inner_product_param")
    given.seen.update(("weight_filler", "bias_filler"))
    out, shape = given.integer("num_output"), net.shapes[inputs[0]]
    axis, transposed = given.integer("axis", 1) % len(shape), given.flag("transpose")
    width = math.prod(shape[axis:])
    if axis == 0 or out < 1:
        raise layer.error(f"axis {axis} or num_output {out} cannot be compiled")
    weight = layer.weight(0, (width, out) if transposed else (out, width))
    bias = layer.weight(1, (out,)) if given.flag("bias_term", True) else None
    x = inputs[0]
    if axis == 1:
        if len(shape) > 2:
            x = net.node("Flatten", [x], (shape[0], width), axis=1)
        extra = [] if bias is None else [net.constant(bias, "bias")]
        names = [x, net.constant(weight, "weight"), *extra]
        net.set(layer.tops[0], net.node("Gemm", names, (shape[0], out), transB=int(not transposed)))
        return
    if len(shape) - axis > 1:
        x = net.reshape(x, (*shape[:axis], width))
    made = (*shape[:axis], out)
    x = net.node("MatMul", [x, net.constant(weight if transposed else weight.T, "weight")], made)
    if bias is not None:
        x = net.node("Add", [x, net.constant(bias, "bias")], made)
    net.set(layer.tops[0], x)


@converts("Pooling")
def pooling(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("pooling_param")
    given.seen.add("engine")
    kind = {"0": "MAX", "1": "AVE"}.get(given.text("pool", "MAX"), given.text("pool", "MAX"))
    if kind not in ("MAX", "AVE") or len(layer.tops) > 1:
        raise layer.error(f"pooling of the kind {kind} or with a mask output is not supported")
    n, channels, *size = _picture(layer, net.shapes[inputs[0]])
    if given.flag("global_pooling"):
        op = "GlobalMaxPool" if kind == "MAX" else "GlobalAveragePool"
        net.set(layer.tops[0], net.node(op, inputs[:1], (n, channels, 1, 1)))
        return
    kernel, stride, pad = _window(layer, given)
    floor = given.text("round_mode", "CEIL") in ("FLOOR", "1") or not given.flag("ceil_mode", True)
    out, over = [], []
    for i, k, s, p in zip(size, kernel, stride, pad, strict=True):
        count = (i + 2 * p - k) // s + 1 if floor else -((i + 2 * p - k) // -s) + 1
        if p and (count - 1) * s >= i + p:  # the last window must begin inside the picture or its left pad
            count -= 1
        if count < 1 or (count - 1) * s >= i + p or p >= k:
            raise layer.error(f"a picture of {size[0]}x{size[1]} does not fit its windows")
        out.append(count)
        over.append(max(0, (count - 1) * s + k - i - p))
    shape = (n, channels, *out)
    window: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride)}
    x = inputs[0]
    if kind == "MAX":
        net.set(layer.tops[0], net.node("MaxPool", [x], shape, pads=[*pad, *over], **window))
        return
    # Caffe divides by the cells inside the picture and its pads; what ceil mode adds beyond does not count.
    if all(o <= p for o, p in zip(over, pad, strict=True)):
        x = net.node("AveragePool", [x], shape, pads=[*pad, *over], count_include_pad=1, **window)
    else:
        if any(pad):
            border = net.constant(np.array([0, 0, *pad, 0, 0, *pad], np.int64), "pads")
            x = net.node("Pad", [x, border], (n, channels, *(i + 2 * p for i, p in zip(size, pad, strict=True))))
        beyond = [max(0, o - p) for o, p in zip(over, pad, strict=True)]
        x = net.node("AveragePool", [x], shape, pads=[0, 0, *beyond], **window)
    net.set(layer.tops[0], x)


def _slice(net: Net, x: str, starts: list[int], ends: list[int], axes: list[int]) -> str:
    shape = list(net.shapes[x])
    for start, end, axis in zip(starts, ends, axes, strict=True):
        shape[axis] = end - start
    given = [
        net.constant(np.array(v, np.int64), label) for v, label in ((starts, "starts"), (ends, "ends"), (axes, "axes"))
    ]
    return net.node("Slice", [x, *given], tuple(shape))


@converts("Crop")
def crop(net: Net, layer: Layer, inputs: list[str]) -> None:
    """The first input cut to the size of the second, from ``axis`` on."""
    given = layer.param("crop_param")
    if len(inputs) != 2:
        raise layer.error("it needs two inputs")
    shape, like = net.shapes[inputs[0]], net.shapes[inputs[1]]
    axis, offsets = given.integer("axis", 2) % len(shape), given.integers("offset")
    axes = list(range(axis, len(shape)))
    if len(offsets) not in (0, 1, len(axes)) or len(like) != len(shape):
        raise layer.error(f"{len(offsets)} offsets or a reference of {len(like)} dimensions do not fit")
    starts = offsets if len(offsets) == len(axes) else (offsets or [0]) * len(axes)
    ends = [s + like[a] for s, a in zip(starts, axes, strict=True)]
    if any(s < 0 or e > shape[a] for s, e, a in zip(starts, ends, axes, strict=True)):
        raise layer.error(f"{list(like)} cannot be cut from {list(shape)} at {starts}")
    kept = [i for i, a in enumerate(axes) if (starts[i], ends[i]) != (0, shape[a])]
    if not kept:
        net.set(layer.tops[0], inputs[0])
        return
    x = _slice(net, inputs[0], [starts[i] for i in kept], [ends[i] for i in kept], [axes[i] for i in kept])
    net.set(layer.tops[0], x)


@converts("Interp")
def interp(net: Net, layer: Layer, inputs: list[str]) -> None:
    """Bilinear resizing with aligned corners (DeepLab, PSPNet)."""
    given = layer.param("interp_param")
    x = inputs[0]
    n, channels, *size = _picture(layer, net.shapes[x])
    begin, end = given.integer("pad_beg"), given.integer("pad_end")
    if begin > 0 or end > 0:
        raise layer.error("pad_beg and pad_end must not be positive")
    if begin or end:
        x = _slice(net, x, [-begin] * 2, [s + end for s in size], [2, 3])
        size = [s + begin + end for s in size]
    shrink, zoom = given.integer("shrink_factor", 1), given.integer("zoom_factor", 1)
    if given.has("height") or given.has("width"):
        out = [given.integer("height"), given.integer("width")]
    else:
        out = [(s - 1) // shrink + 1 for s in size] if shrink > 1 else list(size)
        out = [s + (s - 1) * (zoom - 1) for s in out]
    if min(*size, *out, shrink, zoom) < 1:
        raise layer.error(f"{size} cannot become {out}")
    if out != size:
        scales = np.array([1, 1, *(_scale(i, o) for i, o in zip(size, out, strict=True))], np.float32)
        names = [x, "", net.constant(scales, "scales")]
        x = net.node(
            "Resize",
            names,
            (n, channels, *out),
            mode="linear",
            coordinate_transformation_mode="align_corners",
        )
    net.set(layer.tops[0], x)


def _scale(size: int, out: int) -> float:
    """A float32 factor with floor(size * factor) == out: sizes would fix the batch, factors leave it free."""
    factor = np.float32(out / size)
    while size * float(factor) < out:
        factor = np.nextafter(factor, np.float32(np.inf))
    return float(factor)
