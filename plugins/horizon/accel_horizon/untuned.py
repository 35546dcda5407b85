"""The stage ``float`` is the user's network: what tuning changed is put back into the compiler's copy of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from accel.model import Model


def untuned_constants(model: Model, tuned: Model) -> dict[str, np.ndarray]:
    """What stands in ``model`` where ``tuned`` has other constants, by the names there; a bias that was none is 0."""
    import numpy as np
    from accel.builtin.prepare import graph as g

    if tuned is model:
        return {}
    before, after = g.constants(model.proto.graph), g.constants(tuned.proto.graph)
    made = g.producers(model.proto.graph)
    found = {}
    for node in tuned.proto.graph.node:
        own = made.get(node.output[0])
        for at, name in enumerate(node.input):
            if own is None or name not in after:
                continue
            # Names alone do not tell: a later pass may take one that an earlier one has left.
            old = before.get(own.input[at]) if len(own.input) > at else None
            if old is None or not np.array_equal(old, after[name]):
                found[name] = np.zeros_like(after[name]) if old is None else old
    return found


def restore(path: Path, constants: Mapping[str, np.ndarray]) -> None:
    """Write ``constants`` into the initialisers of these names, where shape and type are the same."""
    import onnx
    from onnx import numpy_helper

    if not constants:
        return
    proto = onnx.load(str(path))
    for held in proto.graph.initializer:
        old = constants.get(held.name)
        if old is not None and tuple(held.dims) == old.shape and held.data_type == onnx.TensorProto.FLOAT:
            held.CopyFrom(numpy_helper.from_array(old.astype("float32"), held.name))
    path.write_bytes(proto.SerializeToString(deterministic=True))
