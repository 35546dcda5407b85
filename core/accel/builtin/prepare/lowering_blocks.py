"""Operators that later sets brought as one node, written out as the sums, products and roots they stand for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from accel.builtin.prepare import graph as g
from accel.builtin.prepare.lowering import Lowering, NoExactFormError, Rule

Nodes = list[onnx.NodeProto]


class _Chain:
    """Nodes appended one after the other; the last one takes the name of the replaced output."""

    def __init__(self, node: onnx.NodeProto, work: Lowering) -> None:
        self.node, self.work, self.nodes = node, work, list[onnx.NodeProto]()

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(self.work.node(op, list(inputs), self.node.name, **attributes))
        return str(self.nodes[-1].output[0])

    def mean(self, tensor: str, axes: list[int]) -> str:
        """ReduceMean that keeps its axes, which became an input in operator set 18."""
        if self.work.target < 18:
            return self("ReduceMean", tensor, axes=axes)
        return self("ReduceMean", tensor, self.work.constant(self.node.name, np.array(axes, np.int64)))

    def number(self, value: float) -> str:
        """A scalar of the type of the node's first input."""
        return self.work.like(self.node.name, self.node.input[0], value)

    def finish(self) -> Nodes:
        self.nodes[-1].output[0] = self.node.output[0]
        return self.nodes


def _hard_swish(node: onnx.NodeProto, work: Lowering) -> Nodes:
    # Its definition: x * HardSigmoid(x) with alpha 1/6 and beta 0.5.
    c = _Chain(node, work)
    x = node.input[0]
    c("Mul", x, c("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    return c.finish()


def _swish(node: onnx.NodeProto, work: Lowering) -> Nodes:
    c = _Chain(node, work)
    x, alpha = node.input[0], float(g.attributes(node).get("alpha", 1.0))
    scaled = x if alpha == 1.0 else c("Mul", x, c.number(alpha))
    c("Mul", x, c("Sigmoid", scaled))
    return c.finish()


def _mish(node: onnx.NodeProto, work: Lowering) -> Nodes:
    c = _Chain(node, work)
    x = node.input[0]
    c("Mul", x, c("Tanh", c("Softplus", x)))
    return c.finish()


def _celu(node: onnx.NodeProto, work: Lowering) -> Nodes:
    c = _Chain(node, work)
    alpha = c.number(float(g.attributes(node).get("alpha", 1.0)))
    c("Mul", c("Elu", c("Div", node.input[0], alpha), alpha=1.0), alpha)
    return c.finish()


def _gelu(node: onnx.NodeProto, work: Lowering) -> Nodes:
    c = _Chain(node, work)
    x = node.input[0]
    if g.attributes(node).get("approximate", "none") == "tanh":
        cubic = c("Mul", c("Mul", x, c("Mul", x, x)), c.number(0.044715))
        inner = c("Tanh", c("Mul", c("Add", x, cubic), c.number(math.sqrt(2 / math.pi))))
    else:
        inner = c("Erf", c("Div", x, c.number(math.sqrt(2))))
    c("Mul", c("Mul", x, c("Add", inner, c.number(1.0))), c.number(0.5))
    return c.finish()


def _from_axis(node: onnx.NodeProto, work: Lowering) -> list[int]:
    rank = work.rank(node.input[0])
    return list(range(int(g.attributes(node).get("axis", -1)) % rank, rank))


def _layer_norm(node: onnx.NodeProto, work: Lowering) -> Nodes:
    if any(node.output[1:]):
        raise NoExactFormError("its mean or deviation is used")
    c, axes = _Chain(node, work), _from_axis(node, work)
    off = c("Sub", node.input[0], c.mean(node.input[0], axes))
    variance = c.mean(c("Mul", off, off), axes)
    epsilon = float(g.attributes(node).get("epsilon", 1e-5))
    last = c("Div", off, c("Sqrt", c("Add", variance, c.number(epsilon))))
    last = c("Mul", last, node.input[1])
    if len(node.input) > 2 and node.input[2]:
        c("Add", last, node.input[2])
    return c.finish()


def _rms_norm(node: onnx.NodeProto, work: Lowering) -> Nodes:
    c, axes = _Chain(node, work), _from_axis(node, work)
    x, epsilon = node.input[0], float(g.attributes(node).get("epsilon", 1e-5))
    square = c.mean(c("Mul", x, x), axes)
    c("Mul", c("Div", x, c("Sqrt", c("Add", square, c.number(epsilon)))), node.input[1])
    return c.finish()


def _group_norm(node: onnx.NodeProto, work: Lowering) -> Nodes:
    given = g.attributes(node)
    groups, epsilon = int(given["num_groups"]), float(given.get("epsilon", 1e-5))
    shape = work.known.get(node.input[0], ())
    if len(shape) < 3 or not all(isinstance(d, int) for d in shape[1:]):
        raise NoExactFormError("the shape of its input must be fixed")
    inner = [int(d) for d in shape[1:] if isinstance(d, int)]
    channels = inner[0]
    c = _Chain(node, work)
    kind = work.dtype(node.input[0])
    ones, zeros = (work.constant(node.name, np.full(groups, v, kind)) for v in (1, 0))
    grouped = c("Reshape", node.input[0], work.constant(node.name, np.array([0, groups, -1], np.int64)))
    normal = c("InstanceNormalization", grouped, ones, zeros, epsilon=epsilon)
    last = c("Reshape", normal, work.constant(node.name, np.array([-1 if shape[0] != 0 else 0, *inner], np.int64)))
    for op, at in (("Mul", 1), ("Add", 2)):
        value = work.fixed(node, at)
        if value is None or value.size not in (channels, groups):
            raise NoExactFormError("its scale and bias must be constant")
        # Until operator set 21 there was one number a group, since then one a channel.
        full = value if value.size == channels else value.repeat(channels // groups)
        spread = full.reshape(channels, *[1] * (len(inner) - 1))
        last = c(op, last, work.constant(node.name, spread))
    return c.finish()


BLOCKS: dict[str, Rule] = {
    "HardSwish": Rule(14, _hard_swish),
    "Swish": Rule(24, _swish),
    "Mish": Rule(18, _mish),
    "Celu": Rule(12, _celu),
    "Gelu": Rule(20, _gelu),
    "LayerNormalization": Rule(17, _layer_norm),
    "RMSNormalization": Rule(23, _rms_norm),
    "GroupNormalization": Rule(18, _group_norm),
}
"""By operator type. The forms are the function bodies that the ONNX standard gives for these operators."""
