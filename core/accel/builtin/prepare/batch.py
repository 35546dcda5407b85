"""Set the batch, dimension 0 of every input."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accel.builtin.prepare import graph as g
from accel.builtin.prepare import verify
from accel.errors import AccelError

if TYPE_CHECKING:
    import onnx

    from accel.model import Dim, Model


def set_batch(model: Model, batch: Dim) -> Model:
    """``model`` at a fixed batch, or with a free one of that name.

    A model whose batch was fixed at another number is changed too: constant Reshape targets that start with
    the old batch follow, and the result is run against the old model sample by sample.

    Raises:
        AccelError: ``usage.batch`` for a batch below 1; ``unsupported.batch`` when the graph has the old
            batch built in and cannot be changed.
    """
    if isinstance(batch, int) and batch < 1:
        raise AccelError(f"a batch of {batch} is impossible", code="usage.batch")
    old = {spec.shape[0] for spec in model.inputs if spec.shape}
    if old <= {batch}:
        return model
    proto = g.copy(model)
    known = g.shapes(proto.graph)
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].Clear()
            if isinstance(batch, int):
                dims[0].dim_value = batch
            else:
                dims[0].dim_param = batch
    fixed = {d for d in old if isinstance(d, int)}
    if fixed:
        for size in fixed:
            _reshape(proto.graph, known, size)
    try:
        made = model.with_proto(g.infer(proto))
    except AccelError as error:
        raise _built_in(model, batch, error.cause, error.node) from error
    if fixed:
        _check(model, made, batch)
    return replace(made, passes=(*model.passes, f"batch={batch}"))


def _reshape(graph: onnx.GraphProto, known: dict[str, tuple[int | str | None, ...]], old: int) -> None:
    """Let Reshape targets that spell out the old batch keep whatever batch comes in (0)."""
    held = g.constants(graph)
    taken = g.names_in(graph)
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[1] not in held or any(a.name == "allowzero" for a in node.attribute):
            continue
        target = np.array(held[node.input[1]])
        shape = known.get(node.input[0], ())
        if target.size and shape and target[0] == old and shape[0] == old:
            target[0] = 0
            name = g.fresh(taken, f"{node.name or node.output[0]}_target")
            graph.initializer.append(g.tensor(name, target))
            node.input[1] = name
    g.remove_unused(graph)


def _check(before: Model, after: Model, batch: Dim) -> None:
    """Compare both on the same samples, the old model as often as needed."""
    was = max(d for spec in before.inputs for d in spec.shape[:1] if isinstance(d, int))
    now = batch if isinstance(batch, int) else was + 1
    rounds = -(-now // was)
    feeds = verify.random_inputs(before.inputs, batch=was)
    wide = {name: np.concatenate([value] * rounds)[:now] for name, value in feeds.items()}
    try:
        expected, got = verify.run(before.proto, feeds), verify.run(after.proto, wide)
    except Exception as error:  # whatever ONNX Runtime says about a graph it cannot run
        raise _built_in(before, batch, str(error)) from error
    for spec, one, many in zip(before.outputs, expected, got, strict=True):
        if not one.ndim or not many.ndim:
            raise _built_in(before, batch, f"output {spec.name} has no batch")
        if verify.relative(np.concatenate([one] * rounds)[:now], many) > 1e-4:
            raise _built_in(before, batch, f"output {spec.name} changes")


def _built_in(model: Model, batch: Dim, cause: str, node: str = "") -> AccelError:
    return AccelError(
        f"{model.name} cannot run at batch {batch}",
        code="unsupported.batch",
        cause=cause,
        node=node,
        hints=["Export the network with a free batch dimension."],
    )
