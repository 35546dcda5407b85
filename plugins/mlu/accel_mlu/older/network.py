"""From ONNX to the few operators that the vendor's side builds as a PyTorch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from accel.errors import AccelError
from accel.model import Model
from onnx import helper, numpy_helper

PLAIN = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "Relu",
        "LeakyRelu",
        "Sigmoid",
        "Softmax",
        "Add",
        "Mul",
        "Concat",
        "MaxPool",
        "AveragePool",
        "GlobalAveragePool",
        "Flatten",
        "Transpose",
        "Identity",
    }
)
"""Taken over with their attributes as they are."""


def describe(model: Model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``network.json`` and the weights it names.

    Raises:
        AccelError: ``unsupported.node`` for an operator, or a form of one, that has no counterpart.
    """
    graph = model.proto.graph
    held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            held[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    nodes, weights = [], {}
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        made = _node(node, held)
        for name in made["inputs"]:
            if name in held:
                weights[name] = held[name]
        if made["op"] == "Linear":
            made["inputs"][1] = f"{node.output[0]}/weight"
            weights[made["inputs"][1]] = _linear_weight(node, held)
            weights.pop(node.input[1], None)
        nodes.append(made)
    described = {
        "inputs": [i.name for i in model.inputs],
        "outputs": [o.name for o in model.outputs],
        "nodes": nodes,
    }
    return described, weights


def _node(node: onnx.NodeProto, held: dict[str, np.ndarray]) -> dict[str, Any]:
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attrs = {k: v.decode() if isinstance(v, bytes) else v for k, v in attrs.items()}
    kind, inputs = node.op_type, [i for i in node.input if i]
    if attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or attrs.get("ceil_mode"):
        raise _unsupported(node, "automatic padding and rounding up have no counterpart in PyTorch")
    if kind in ("Conv", "ConvTranspose"):
        if node.input[1] not in held or held[node.input[1]].ndim != 4:
            raise _unsupported(node, "only two-dimensional convolutions with constant weights are quantised")
    elif kind in ("Gemm", "MatMul"):
        if attrs.get("transA") or attrs.get("alpha", 1.0) != 1 or attrs.get("beta", 1.0) != 1:
            raise _unsupported(node, "only y = x W + b is a Linear module")
        if node.input[1] not in held or held[node.input[1]].ndim != 2:
            raise _unsupported(node, "the weight must be a constant matrix")
        kind, attrs = "Linear", {}
    elif kind == "Clip":
        low, high = (held.get(n) if n else None for n in [*node.input[1:3], "", ""][:2])
        limits = np.finfo(np.float32)
        attrs = {
            "low": float(attrs.get("min", limits.min) if low is None else low),
            "high": float(attrs.get("max", limits.max) if high is None else high),
        }
        inputs = inputs[:1]
    elif kind == "Reshape":
        attrs, inputs = {"shape": [int(d) for d in held[node.input[1]]]}, inputs[:1]
    elif kind == "Resize":
        attrs, inputs = _resize(node, attrs, held), inputs[:1]
    elif kind not in PLAIN:
        raise _unsupported(node, f"{kind} is not among the operators that are handed to Cambricon PyTorch")
    made = {"op": kind, "inputs": inputs, "output": node.output[0], "attrs": attrs}
    if kind in ("Conv", "ConvTranspose", "Linear"):
        # A module's name is an attribute of the network: letters, digits and underscores.
        made["module"] = "m_" + "".join(c if c.isalnum() else "_" for c in node.output[0])
    return made


def _resize(node: onnx.NodeProto, attrs: dict[str, Any], held: dict[str, np.ndarray]) -> dict[str, Any]:
    scales = held.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    mode = {"nearest": "nearest", "linear": "bilinear"}.get(attrs.get("mode", "nearest"))
    if scales is None or len(scales) != 4 or not mode or tuple(scales[:2]) != (1, 1):
        raise _unsupported(node, "only nearest and linear upsampling of height and width by constant factors")
    align = attrs.get("coordinate_transformation_mode") == "align_corners"
    return {"mode": mode, "factors": [float(s) for s in scales[2:]], "align_corners": align}


def _linear_weight(node: onnx.NodeProto, held: dict[str, np.ndarray]) -> np.ndarray:
    weight = held[node.input[1]]
    rows = any(a.name == "transB" and a.i for a in node.attribute)
    return np.ascontiguousarray(weight if rows else weight.T)


def _unsupported(node: onnx.NodeProto, why: str) -> AccelError:
    return AccelError(
        f"{node.op_type} {node.name!r} cannot be handed to Cambricon PyTorch",
        code="unsupported.node",
        cause=why,
        node=node.name,
        hints=["Cut the network before it (--output TENSOR), or build with --backend reference."],
    )
