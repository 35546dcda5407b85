"""``--set float_layers=N``: the N convolutions that lose most by 8-bit weights stay in float."""

from __future__ import annotations

import numpy as np
from accel.errors import AccelError
from accel.model import Model
from accel.target import Numerics


def worst_convolutions(model: Model, numerics: Numerics, count: int) -> dict[str, str]:
    """Precision ``fp32`` by node name for the ``count`` convolutions whose rounded weights are noisiest.

    The measure is the mean over output channels of a channel's weight energy against that of its rounding error, in
    decibels: under one step for the whole tensor, a channel of small weights drowns in it. A ReLU or Clip behind a
    convolution goes with it, as the compiler fuses the two.
    """
    from accel.builtin.prepare import graph as g

    graph = model.proto.graph
    held, readers = g.constants(graph), g.consumers(graph)
    scores: list[tuple[float, list[str]]] = []
    for node in graph.node:
        weight = held.get(node.input[1]) if node.op_type == "Conv" and len(node.input) > 1 else None
        if weight is None or numerics.weight is None:
            continue
        # Between the two powers of two that a shift may choose, the step is about largest / 95 on average.
        step = float(np.abs(weight).max()) / 95 or 1.0
        error = np.rint(weight / step) * step - weight
        axes = tuple(range(1, weight.ndim))
        ratio = (weight**2).sum(axis=axes) / np.maximum((error**2).sum(axis=axes), 1e-20)
        names = [node.name]
        following = readers.get(node.output[0], [])
        if len(following) == 1 and following[0].op_type in ("Relu", "Clip"):
            names.append(following[0].name)
        scores.append((float(np.mean(10 * np.log10(np.maximum(ratio, 1e-3)))), names))
    scores.sort(key=lambda s: s[0])
    return {name: "fp32" for _, names in scores[:count] for name in names}


def asked(value: str) -> int:
    """The option's number.

    Raises:
        AccelError: ``usage.option``.
    """
    if not value.isdigit():
        raise AccelError(f"float_layers={value!r} is no number of layers", code="usage.option")
    return int(value)
