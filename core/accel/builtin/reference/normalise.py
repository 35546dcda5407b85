"""Normalisation of pictures in front of the quantised graph: it is then fed plain 0..255 pixels."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel.errors import AccelError
from accel.model import io_specs
from accel.preprocessing import Preprocessing


def fold(proto: onnx.ModelProto, preprocessing: Preprocessing | None) -> onnx.ModelProto:
    """The graph with ``(x * scale - mean) / std`` in float32 before its only input.

    The input keeps its name, and the codes behind it are those of an input normalised on the host.

    Raises:
        AccelError: ``usage.preprocessing`` when none is declared, there are several inputs, or the channels do not fit.
    """
    inputs, _ = io_specs(proto)
    if preprocessing is None or len(inputs) != 1:
        raise AccelError(
            "there is no normalisation to put inside the network" if preprocessing is None else "which input is it?",
            code="usage.preprocessing",
            hints=["Declare mean, std or scale of the one picture that the network reads."],
        )
    spec = inputs[0]
    axis = 1 if preprocessing.layout == "NCHW" else len(spec.shape) - 1
    channels = spec.shape[axis] if len(spec.shape) == 4 else None
    given = {len(preprocessing.mean), len(preprocessing.std)} - {1}
    if spec.dtype != "float32" or not isinstance(channels, int) or given - {channels}:
        raise AccelError(f"the normalisation does not fit input {spec}", code="usage.preprocessing")
    shape = [1] * len(spec.shape)
    shape[axis] = -1
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    normalised = f"{spec.name}/normalised"
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name == spec.name:
                node.input[at] = normalised
    steps = (("Mul", preprocessing.scale), ("Sub", preprocessing.mean), ("Div", preprocessing.std))
    x = spec.name
    made = []
    for op_type, values in steps:
        name = f"{spec.name}/{op_type.lower()}"
        array = np.asarray(values, np.float32).reshape(shape if np.size(values) > 1 else ())
        graph.initializer.append(numpy_helper.from_array(array, name))
        output = normalised if op_type == "Div" else f"{name}/result"
        made.append(helper.make_node(op_type, [x, name], [output], name=output))
        x = output
    rest = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *rest])
    return result
