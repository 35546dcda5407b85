"""Cut a graph at tensors: they become its outputs, and what no output needs goes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from accel.builtin.prepare import graph as g
from accel.errors import AccelError

if TYPE_CHECKING:
    import onnx

    from accel.model import Model


def cut(model: Model, outputs: Sequence[str]) -> Model:
    """The part of ``model`` that computes ``outputs``, which may be any of its tensors.

    Inputs that are not needed any more go as well.

    Raises:
        AccelError: ``usage.output`` when there is no such tensor (near names are offered).
    """
    if tuple(outputs) == tuple(o.name for o in model.outputs):
        return model
    return model.with_proto(cut_proto(g.copy(model), outputs), applied="cut")


def cut_proto(proto: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """As :func:`cut`, on the graph itself, which is changed and returned."""
    graph = proto.graph
    values = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    written = g.producers(graph)
    if len(set(outputs)) != len(outputs):
        raise AccelError("an output is named twice", code="usage.output")
    chosen = []
    for name in outputs:
        if name not in written:
            near = difflib.get_close_matches(name, written, n=3, cutoff=0.4)
            hint = f"Did you mean {', '.join(near)}?" if near else "Outputs are tensor names of the graph."
            raise AccelError(f"the model has no tensor {name!r}", code="usage.output", hints=[hint])
        if name not in values:
            raise AccelError(f"the type of tensor {name!r} is not known", code="model.shape", node=written[name].name)
        chosen.append(values[name])
    kept = [type(v).FromString(v.SerializeToString()) for v in chosen]
    del graph.output[:]
    graph.output.extend(kept)
    g.remove_unused(graph)
    needed = {name for node in graph.node for name in g.reads(node)}
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name not in needed:
            del graph.input[at]
    return proto
