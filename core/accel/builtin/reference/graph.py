"""What the quantiser writes: a graph under construction, and reading the one it comes from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel.errors import AccelError


class Source:
    """Read-only questions about a float model's graph."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.graph = proto.graph
        self.nodes: list[onnx.NodeProto] = list(proto.graph.node)
        self.producer = {out: node for node in self.nodes for out in node.output if out}
        self.outputs = [o.name for o in proto.graph.output]
        self._initializers = {i.name: i for i in proto.graph.initializer}
        self._arrays: dict[str, np.ndarray] = {}
        self._types: dict[str, Any] = {}
        for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output]:
            if value.type.HasField("tensor_type"):
                self._types[value.name] = value.type.tensor_type
        uses: Counter[str] = Counter(self.outputs)
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in [*node.input, *inner_names(node)]:
                if name:
                    uses[name] += 1
                    self.consumers.setdefault(name, []).append(node)
        self.uses = uses

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next((int(i.version) for i in self.proto.opset_import if i.domain in ("", "ai.onnx")), 1)

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initialiser or Constant node, or None."""
        if name in self._arrays:
            return self._arrays[name]
        held = self._initializers.get(name)
        if held is None:
            node = self.producer.get(name)
            if node is None or node.op_type != "Constant":
                return None
            found = attributes(node)
            array = found.get("value", found.get("value_float", found.get("value_floats", found.get("value_ints"))))
            if array is None:
                array = found.get("value_int")
            array = np.asarray(array)
            if array.dtype == np.float64 and "value" not in found:
                array = array.astype(np.float32)
        else:
            array = numpy_helper.to_array(held)
        self._arrays[name] = array
        return array

    def is_float(self, name: str) -> bool:
        """Whether the tensor holds float32 values (unknown types count as float)."""
        held = self._initializers.get(name)
        if held is not None:
            return bool(held.data_type == onnx.TensorProto.FLOAT)
        kind = self._types.get(name)
        if kind is None:
            array = self.constant(name)
            return array is None or array.dtype == np.float32
        return kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.UNDEFINED)

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """Static shape, None for free dimensions; None when the rank is unknown."""
        array = self.constant(name)
        if array is not None:
            return tuple(array.shape)
        kind = self._types.get(name)
        if kind is None or not kind.HasField("shape"):
            return None
        return tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)

    def sole_consumer(self, name: str) -> onnx.NodeProto | None:
        """The one node that reads ``name``, if nothing else does."""
        if self.uses[name] != 1 or name in self.outputs:
            return None
        return self.consumers[name][0]


@dataclass
class Writer:
    """The graph under construction. Names are unique and depend only on the order of calls."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _taken: Counter[str] = field(default_factory=Counter)
    _by_content: dict[tuple[str, tuple[int, ...], str], str] = field(default_factory=dict)

    def name(self, wanted: str) -> str:
        """``wanted``, or the first free ``wanted_N``."""
        count = self._taken[wanted]
        self._taken[wanted] += 1
        return wanted if count == 0 else self.name(f"{wanted}_{count}")

    def const(self, value: Any, dtype: Any = np.float32, hint: str = "c") -> str:
        """An initialiser; equal ones are shared."""
        array = np.ascontiguousarray(np.asarray(value, dtype)).reshape(np.shape(value))
        key = (str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest())
        if key not in self._by_content:
            name = self.name(hint)
            self.constants[name] = numpy_helper.from_array(array, name)
            self._by_content[key] = name
        return self._by_content[key]

    def op(self, op_type: str, inputs: Sequence[str], hint: str, **attributes: Any) -> str:
        """Add a node with one output; gives the output's name."""
        output = self.name(hint)
        node = helper.make_node(op_type, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def ops(self, op_type: str, inputs: Sequence[str], hints: Sequence[str], **attributes: Any) -> list[str]:
        """Add a node with several outputs."""
        outputs = [self.name(hint) for hint in hints]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name=outputs[0], **attributes))
        return outputs


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Attributes as Python values: tensors as arrays, bytes as text."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        value = helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        found[attribute.name] = value
    return found


def raw_attributes(node: onnx.NodeProto, without: Sequence[str] = ()) -> dict[str, Any]:
    """Attributes in the form ``make_node`` takes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in without}


def inner_names(node: onnx.NodeProto) -> list[str]:
    """Names that subgraphs of the node read from outside (or inside: names are not told apart)."""
    names: list[str] = []
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                names += [*inner.input, *inner_names(inner)]
    return list(dict.fromkeys(n for n in names if n))


def checked_opset(proto: onnx.ModelProto, least: int = 13) -> onnx.ModelProto:
    """The model at opset ``least`` or newer.

    Raises:
        AccelError: ``unsupported.opset`` when the converter has no way up.
    """
    source = Source(proto)
    if source.opset >= least:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, least)
    except Exception as error:  # the converter raises bare RuntimeErrors
        raise AccelError(
            f"the model's opset {source.opset} cannot be raised to {least}",
            code="unsupported.opset",
            cause=str(error).splitlines()[0],
        ) from error
