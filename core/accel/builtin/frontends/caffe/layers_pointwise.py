"""Layers that keep the shape: activations, scales, normalisations, element-wise sums."""

from __future__ import annotations

import math

import numpy as np

from accel.builtin.frontends.caffe.net import Layer, Net, converts


def _per_channel(values: np.ndarray, rank: int, axis: int = 1) -> np.ndarray:
    """``values`` shaped to broadcast along ``axis`` of a tensor of ``rank`` dimensions."""
    return values.reshape(values.shape + (1,) * (rank - axis - values.ndim))


@converts("ReLU")
def relu(net: Net, layer: Layer, inputs: list[str]) -> None:
    slope = layer.param("relu_param").number("negative_slope")
    shape = net.shapes[inputs[0]]
    if slope:
        net.set(layer.tops[0], net.node("LeakyRelu", inputs[:1], shape, alpha=slope))
    else:
        net.set(layer.tops[0], net.node("Relu", inputs[:1], shape))


@converts("ReLU6")
def relu6(net: Net, layer: Layer, inputs: list[str]) -> None:
    bounds = [net.constant(np.float32(v), label) for v, label in ((0, "min"), (6, "max"))]
    net.set(layer.tops[0], net.node("Clip", [inputs[0], *bounds], net.shapes[inputs[0]]))


@converts("PReLU")
def prelu(net: Net, layer: Layer, inputs: list[str]) -> None:
    shape = net.shapes[inputs[0]]
    shared = layer.param("prelu_param").flag("channel_shared")
    slope = layer.weight(0, (1,) if shared else (shape[1],))
    constant = net.constant(_per_channel(slope, len(shape)), "slope")
    net.set(layer.tops[0], net.node("PRelu", [inputs[0], constant], shape))


@converts("ELU")
def elu(net: Net, layer: Layer, inputs: list[str]) -> None:
    alpha = layer.param("elu_param").number("alpha", 1.0)
    net.set(layer.tops[0], net.node("Elu", inputs[:1], net.shapes[inputs[0]], alpha=alpha))


@converts("Sigmoid", "TanH", "AbsVal", "BNLL")
def simple(net: Net, layer: Layer, inputs: list[str]) -> None:
    op = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}[layer.kind]
    net.set(layer.tops[0], net.node(op, inputs[:1], net.shapes[inputs[0]]))


@converts("Split", "Dropout")
def same(net: Net, layer: Layer, inputs: list[str]) -> None:
    for top in layer.tops:
        net.set(top, inputs[0])


@converts("Silence")
def nothing(net: Net, layer: Layer, inputs: list[str]) -> None:
    return None


def _affine(net: Net, x: str, scale: float, shift: float) -> str:
    shape = net.shapes[x]
    if scale != 1:
        x = net.node("Mul", [x, net.constant(np.float32(scale), "scale")], shape)
    if shift:
        x = net.node("Add", [x, net.constant(np.float32(shift), "shift")], shape)
    return x


@converts("Power")
def power(net: Net, layer: Layer, inputs: list[str]) -> None:
    """(shift + scale * x) ^ power"""
    given = layer.param("power_param")
    exponent = given.number("power", 1.0)
    x = _affine(net, inputs[0], given.number("scale", 1.0), given.number("shift", 0.0))
    if exponent != 1:
        x = net.node("Pow", [x, net.constant(np.float32(exponent), "power")], net.shapes[x])
    net.set(layer.tops[0], x)


@converts("Exp")
def exponential(net: Net, layer: Layer, inputs: list[str]) -> None:
    """base ^ (shift + scale * x); base -1 stands for e"""
    given = layer.param("exp_param")
    base = given.number("base", -1.0)
    log = 1.0 if base == -1 else math.log(base) if base > 0 else math.nan
    if math.isnan(log):
        raise layer.error("its base must be positive")
    x = _affine(net, inputs[0], log * given.number("scale", 1.0), log * given.number("shift", 0.0))
    net.set(layer.tops[0], net.node("Exp", [x], net.shapes[x]))


@converts("Log")
def logarithm(net: Net, layer: Layer, inputs: list[str]) -> None:
    """log_base(shift + scale * x); base -1 stands for e"""
    given = layer.param("log_param")
    base = given.number("base", -1.0)
    if base != -1 and (base <= 0 or base == 1):
        raise layer.error("its base must be positive and not 1")
    x = _affine(net, inputs[0], given.number("scale", 1.0), given.number("shift", 0.0))
    x = net.node("Log", [x], net.shapes[x])
    net.set(layer.tops[0], x if base == -1 else _affine(net, x, 1 / math.log(base), 0.0))


@converts("BatchNorm")
def batch_norm(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("batch_norm_param")
    given.seen.add("moving_average_fraction")
    if given.has("use_global_stats") and not given.flag("use_global_stats"):
        raise layer.error("it normalises by the statistics of the batch; only stored ones can be compiled")
    shape = net.shapes[inputs[0]]
    channels = shape[1]
    mean, variance = layer.weight(0, (channels,)), layer.weight(1, (channels,))
    total = float(layer.weight(2, (1,))[0])
    factor = np.float32(1 / total if total else 0.0)
    parts = (np.ones(channels, np.float32), np.zeros(channels, np.float32), mean * factor, variance * factor)
    names = [net.constant(p, label) for p, label in zip(parts, ("gamma", "beta", "mean", "variance"), strict=True)]
    epsilon = given.number("eps", 1e-5)
    net.set(layer.tops[0], net.node("BatchNormalization", [inputs[0], *names], shape, epsilon=epsilon))


@converts("Scale")
def scale(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("scale_param")
    shape = net.shapes[inputs[0]]
    axis, axes = given.integer("axis", 1) % max(len(shape), 1), given.integer("num_axes", 1)
    given.seen.update(("filler", "bias_filler"))
    at = 0
    if len(inputs) > 1:
        other = inputs[1]
        extent = net.shapes[other]
        spread = (1,) * axis + extent + (1,) * (len(shape) - axis - len(extent))
        if axis == 0 and extent:
            spread = extent + (1,) * (len(shape) - len(extent))
        factor = other if spread == extent else net.reshape(other, spread)
    else:
        extent = shape[axis:] if axes == -1 else shape[axis : axis + axes]
        factor = net.constant(_per_channel(layer.weight(0, extent), len(shape), axis), "scale")
        at = 1
    x = net.node("Mul", [inputs[0], factor], shape)
    if given.flag("bias_term"):
        bias = net.constant(_per_channel(layer.weight(at, extent), len(shape), axis), "bias")
        x = net.node("Add", [x, bias], shape)
    net.set(layer.tops[0], x)


@converts("Bias")
def bias(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("bias_param")
    shape = net.shapes[inputs[0]]
    axis, axes = given.integer("axis", 1) % max(len(shape), 1), given.integer("num_axes", 1)
    given.seen.add("filler")
    if len(inputs) > 1:
        extent = net.shapes[inputs[1]]
        other = net.reshape(inputs[1], (1,) * axis + extent + (1,) * (len(shape) - axis - len(extent)))
    else:
        extent = shape[axis:] if axes == -1 else shape[axis : axis + axes]
        other = net.constant(_per_channel(layer.weight(0, extent), len(shape), axis), "bias")
    net.set(layer.tops[0], net.node("Add", [inputs[0], other], shape))


@converts("Eltwise")
def eltwise(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("eltwise_param")
    kind = {"0": "PROD", "1": "SUM", "2": "MAX"}.get(given.text("operation", "SUM"), given.text("operation", "SUM"))
    factors = given.numbers("coeff")
    given.seen.add("stable_prod_grad")
    shape = net.shapes[inputs[0]]
    if len(inputs) < 2 or any(net.shapes[i] != shape for i in inputs):
        shapes = ", ".join(str(list(net.shapes[i])) for i in inputs)
        raise layer.error(f"it needs two or more inputs of one shape, and has {shapes}")
    if factors and (kind != "SUM" or len(factors) != len(inputs)):
        raise layer.error(f"it has {len(factors)} coefficients for {len(inputs)} inputs and the operation {kind}")
    ops = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}
    if kind not in ops:
        raise layer.error(f"unknown operation {kind}")
    terms = [
        x if not factors or f == 1 else net.node("Mul", [x, net.constant(np.float32(f), "coeff")], shape)
        for x, f in zip(inputs, factors or [1.0] * len(inputs), strict=True)
    ]
    x = terms[0]
    for term in terms[1:]:
        x = net.node(ops[kind], [x, term], shape)
    net.set(layer.tops[0], x)


@converts("LRN")
def lrn(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("lrn_param")
    given.seen.add("engine")
    size, alpha, beta = given.integer("local_size", 5), given.number("alpha", 1.0), given.number("beta", 0.75)
    k, region, shape = given.number("k", 1.0), given.text("norm_region", "ACROSS_CHANNELS"), net.shapes[inputs[0]]
    if size % 2 == 0:
        raise layer.error(f"local_size {size} is even")
    if region in ("ACROSS_CHANNELS", "0"):
        x = net.node("LRN", inputs[:1], shape, size=size, alpha=alpha, beta=beta, bias=k)
    else:
        # Caffe's own recipe: mean of squares over a padded window, then a power.
        square = net.node("Mul", [inputs[0], inputs[0]], shape)
        border = [(size - 1) // 2] * 4
        mean = net.node("AveragePool", [square], shape, kernel_shape=[size] * 2, pads=border, count_include_pad=1)
        divisor = net.node("Pow", [_affine(net, mean, alpha, 1.0), net.constant(np.float32(beta), "beta")], shape)
        x = net.node("Div", [inputs[0], divisor], shape)
    net.set(layer.tops[0], x)


@converts("Softmax", "SoftmaxWithLoss")
def softmax(net: Net, layer: Layer, inputs: list[str]) -> None:
    given = layer.param("softmax_param")
    given.seen.add("engine")
    if layer.kind == "SoftmaxWithLoss":
        net.notes.append(f"layer {layer.name!r} (SoftmaxWithLoss) is read as a Softmax")
    shape = net.shapes[inputs[0]]
    net.set(layer.tops[0], net.node("Softmax", inputs[:1], shape, axis=given.integer("axis", 1) % len(shape)))


@converts("Normalize")
def normalize(net: Net, layer: Layer, inputs: list[str]) -> None:
    """SSD's L2 normalisation over the channels (or everything), times a learnt scale."""
    given = layer.param("norm_param")
    given.seen.add("scale_filler")
    x, shape = inputs[0], net.shapes[inputs[0]]
    across = given.flag("across_spatial", True)
    axes = list(range(1, len(shape))) if across else [1]
    held = tuple(1 if i in axes else d for i, d in enumerate(shape))
    # Squares span too many orders of magnitude for integer codes, and a sum that rounds to zero divides by it: so one
    # operator for the length, and its floor as a maximum. Both stay in float on every chip. Caffe adds eps to the
    # squares; the floor differs from that only where the length itself is about sqrt(eps).
    floor = net.constant(np.float32(np.sqrt(given.number("eps", 1e-10))), "floor")
    length = net.node("Max", [net.node("ReduceL2", [x], held, axes=axes, keepdims=1), floor], held)
    x = net.node("Div", [x, length], shape)
    factor = layer.weight(0, (1,) if given.flag("channel_shared", True) else (shape[1],))
    constant = net.constant(_per_channel(factor, len(shape)), "scale")
    net.set(layer.tops[0], net.node("Mul", [x, constant], shape))


@converts("MVN")
def mvn(net: Net, layer: Layer, inputs: list[str]) -> None:
    """Mean-variance normalisation of each picture: (x - mean) / (std + eps)."""
    given = layer.param("mvn_param")
    x, shape = inputs[0], net.shapes[inputs[0]]
    axes = list(range(1 if given.flag("across_channels") else 2, len(shape)))
    held = tuple(1 if i in axes else d for i, d in enumerate(shape))
    x = net.node("Sub", [x, net.node("ReduceMean", [x], held, axes=axes)], shape)
    if given.flag("normalize_variance", True):
        variance = net.node("ReduceMean", [net.node("Mul", [x, x], shape)], held, axes=axes)
        deviation = _affine(net, net.node("Sqrt", [variance], held), 1.0, given.number("eps", 1e-9))
        x = net.node("Div", [x, deviation], shape)
    net.set(layer.tops[0], x)
