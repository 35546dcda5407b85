"""Functions of one code, looked up: ``quantise(f(dequantise(code)))``, evaluated in float64 at build time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from accel.builtin.reference import schemes
from accel.builtin.reference.context import Context, handles
from accel.builtin.reference.graph import attributes

F64 = NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: F64) -> F64:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _hard_sigmoid(x: F64, alpha: float, beta: float) -> F64:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: F64, approximate: str) -> F64:
    if approximate == "tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))))


FUNCTIONS: dict[str, Callable[[F64, dict[str, Any]], F64]] = {
    "Sigmoid": lambda x, a: _sigmoid(x),
    "HardSigmoid": lambda x, a: _hard_sigmoid(x, a.get("alpha", 0.2), a.get("beta", 0.5)),
    "HardSwish": lambda x, a: x * _hard_sigmoid(x, 1 / 6, 0.5),
    "Tanh": lambda x, a: np.tanh(x),
    "Elu": lambda x, a: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(np.minimum(x, 0))),
    "LeakyRelu": lambda x, a: np.where(x >= 0, x, a.get("alpha", 0.01) * x),
    "Softplus": lambda x, a: np.logaddexp(0.0, x),
    "Erf": lambda x, a: _erf(x),
    "Gelu": lambda x, a: _gelu(x, a.get("approximate", "none")),
    "Mish": lambda x, a: x * np.tanh(np.logaddexp(0.0, x)),
    "Exp": lambda x, a: np.exp(x),
}


@handles(*FUNCTIONS)
def lookup(ctx: Context, node: onnx.NodeProto) -> bool:
    function = FUNCTIONS[node.op_type]
    _look_up(ctx, node, node.input[0], lambda x: function(x, attributes(node)))
    return True


def swish(ctx: Context, node: onnx.NodeProto) -> bool:
    """``x * sigmoid(x)``, written as a Mul, as one table: under ``split``, whose compiler makes one function of it."""
    if ctx.at(node).requantize != "split":
        return False
    for x, gate in (node.input, (node.input[1], node.input[0])):
        made = ctx.source.producer.get(gate)
        if made is not None and made.op_type == "Sigmoid" and made.input[0] == x and ctx.at(made) is ctx.at(node):
            _look_up(ctx, node, x, lambda v: v * _sigmoid(v))
            return True
    return False


def _look_up(ctx: Context, node: onnx.NodeProto, name: str, function: Callable[[F64], F64]) -> None:
    numerics = ctx.at(node)
    assert numerics.activation is not None
    x = ctx.codes(name, numerics.activation)
    grid = ctx.grid(node.output[0], numerics.activation)
    every = np.arange(x.grid.low, x.grid.high + 1, dtype=np.float32)
    table = schemes.quantize(function(schemes.dequantize(every, x.grid).astype(np.float64)), grid)
    hint = f"{node.output[0]}/codes"
    index = ctx.w.op("Sub", [x.tensor, ctx.w.const(x.grid.low)], f"{hint}/shifted")
    index = ctx.w.op("Cast", [index], f"{hint}/index", to=onnx.TensorProto.INT32)
    ctx.store(node.output[0], ctx.w.op("Gather", [ctx.w.const(table, hint=f"{hint}/table"), index], hint), grid)
    ctx.report(node, numerics.precision)
