"""What a lowering rule works with: the facts about a graph, and new nodes and constants for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from accel.builtin.prepare import graph as g


class NoExactFormError(ValueError):
    """A node cannot be written in the older operator set without a change of its results; says why."""


@dataclass(frozen=True)
class Rule:
    """Writes one operator in an older form.

    Attributes:
        since: First operator set with the form that has to go.
        function: From the node to the nodes that replace it.
        always: Apply it whatever the versions are.
    """

    since: int
    function: Callable[[onnx.NodeProto, Lowering], list[onnx.NodeProto]]
    always: bool = False


class Lowering:
    """A graph on its way from operator set ``source`` down to ``target``."""

    def __init__(self, proto: onnx.ModelProto, source: int, target: int) -> None:
        self.graph, self.source, self.target = proto.graph, source, target
        self.held = g.constants(proto.graph)
        self.known = g.shapes(proto.graph)
        self.types = {
            v.name: v.type.tensor_type.elem_type
            for v in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)
        } | {i.name: i.data_type for i in proto.graph.initializer}
        self.taken = g.names_in(proto.graph)

    def constant(self, near: str, value: Any) -> str:
        """A new initialiser named after ``near``."""
        name = g.fresh(self.taken, f"{near}.const")
        array = np.asarray(value)
        self.graph.initializer.append(g.tensor(name, array))
        self.held[name] = array
        self.known[name] = array.shape
        return name

    def like(self, near: str, tensor: str, value: Any) -> str:
        """A constant of the element type of ``tensor``."""
        return self.constant(near, np.asarray(value, self.dtype(tensor)))

    def dtype(self, tensor: str) -> np.dtype[Any]:
        """Element type of a tensor; float32 where it is not known."""
        found: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(self.types.get(tensor) or onnx.TensorProto.FLOAT)
        return found

    def node(self, op: str, inputs: list[str], near: str, output: str = "", **attributes: Any) -> onnx.NodeProto:
        """A new node; its output is called ``output`` or named after ``near``."""
        name = g.fresh(self.taken, f"{near}.{op.lower()}")
        return helper.make_node(op, inputs, [output or name], name, **attributes)

    def fixed(self, node: onnx.NodeProto, at: int) -> np.ndarray | None:
        """The constant behind input ``at``; None when that input is absent.

        Raises:
            NoExactFormError: The input is there and not constant.
        """
        if len(node.input) <= at or not node.input[at]:
            return None
        value = self.held.get(node.input[at])
        if value is None:
            raise NoExactFormError(f"its input {node.input[at]!r} is computed, and must be constant there")
        return value

    def rank(self, tensor: str) -> int:
        """Number of dimensions of a tensor.

        Raises:
            NoExactFormError: Not known.
        """
        if tensor not in self.known:
            raise NoExactFormError(f"the shape of {tensor!r} is not known")
        return len(self.known[tensor])

    def sizes(self, tensor: str) -> tuple[int, ...]:
        """The fixed shape of a tensor.

        Raises:
            NoExactFormError: Not known or free.
        """
        shape = g.static_shape(self.known, tensor)
        if shape is None:
            raise NoExactFormError(f"the shape of {tensor!r} must be fixed")
        return shape


def with_attributes(
    node: onnx.NodeProto, inputs: list[str], drop: tuple[str, ...] = (), **attributes: Any
) -> onnx.NodeProto:
    """``node`` with other inputs, without the attributes in ``drop`` and with new ones."""
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.input[:]
    made.input.extend(inputs)
    kept = [a for a in node.attribute if a.name not in drop and a.name not in attributes]
    del made.attribute[:]
    made.attribute.extend(kept)
    made.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return made
