"""The network while it is built: Caffe blobs on one side, ONNX tensors with their shapes on the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from accel.builtin.frontends.caffe.caffemodel import Blob
from accel.builtin.frontends.caffe.prototxt import Message
from accel.builtin.prepare.graph import fresh
from accel.builtin.prepare.graph import tensor as initializer
from accel.errors import AccelError

Shape = tuple[int, ...]


@dataclass
class Layer:
    """One layer of the definition."""

    name: str
    kind: str
    line: int
    bottoms: list[str]
    tops: list[str]
    text: Message
    blobs: list[Blob] = field(default_factory=list)

    def param(self, name: str) -> Message:
        """Its ``name`` message (``convolution_param``); an empty one if it has none."""
        return self.text.message(name)

    def error(self, what: str, *, code: str = "model.caffe", hints: Sequence[str] = ()) -> AccelError:
        """An error about this layer, with its line."""
        return AccelError(
            f"layer {self.name!r} ({self.kind}, line {self.line}): {what}", code=code, node=self.name, hints=hints
        )

    def weight(self, at: int, shape: Shape) -> np.ndarray:
        """Blob ``at``, which must have as many values as ``shape``.

        Raises:
            AccelError: ``model.caffe`` when it is missing or of another size.
        """
        if at >= len(self.blobs):
            raise self.error(f"the caffemodel has {len(self.blobs)} of its weight blobs, {at + 1} are needed")
        blob = self.blobs[at]
        # Old files pad every shape to four dimensions in front.
        if tuple(d for d in blob.shape if d != 1) != tuple(d for d in shape if d != 1):
            raise self.error(f"its weights have the shape {list(blob.shape)}, the definition asks for {list(shape)}")
        return blob.data.reshape(shape)


Converter = Callable[["Net", Layer, list[str]], None]
CONVERTERS: dict[str, Converter] = {}
"""By layer type."""


def converts(*kinds: str) -> Callable[[Converter], Converter]:
    """Register a converter for layer types. It is given the input tensors and calls :meth:`Net.set` for each top."""

    def register(function: Converter) -> Converter:
        CONVERTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


class Net:
    """Tensors, nodes and weights so far."""

    def __init__(self) -> None:
        self.inputs: dict[str, Shape] = {}
        self.shapes: dict[str, Shape] = {}
        self.values: dict[str, np.ndarray] = {}
        """Tensors known already, such as prior boxes."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.blobs: dict[str, str] = {}
        """The tensor that holds a blob now."""
        self.read: set[str] = set()
        self.reserved: dict[str, int] = {}
        """Index of the layer that writes a blob last: its tensor takes the blob's name."""
        self.taken: set[str] = set()
        self.node_names: set[str] = set()
        self.temporary: set[str] = set()
        """Tensors of the current layer that no blob is called after yet."""
        self.notes: list[str] = []
        self.metadata: dict[str, str] = {}
        self.written: dict[str, list[str]] = {}
        """The tensors that hold a blob, in the order its layers write it."""
        self.batch_is_free = True
        self.detection_in_graph = False
        self.exact: set[str] = set()
        """Tensors that something outside the graph speaks of: as outputs they keep their names."""
        self._layer: Layer | None = None
        self._index = -1

    def begin(self, layer: Layer, index: int) -> None:
        """The layer that the next nodes belong to."""
        self._layer, self._index = layer, index
        self.temporary.clear()

    def name(self, wanted: str) -> str:
        """A tensor name: ``wanted``, or with a number if it is in use."""
        return fresh(self.taken, wanted)

    def input(self, blob: str, shape: Shape) -> None:
        """Declare an input of the network."""
        self.inputs[blob] = self.shapes[blob] = shape
        self.blobs[blob] = blob

    def constant(self, value: np.ndarray, label: str) -> str:
        """A weight of the current layer."""
        assert self._layer is not None
        name = self.name(f"{self._layer.name}.{label}")
        self.initializers.append(initializer(name, value))
        self.shapes[name] = tuple(value.shape)
        return name

    def node(self, op: str, inputs: Sequence[str], shape: Shape, output: str = "", **attributes: Any) -> str:
        """Append a node; its output gets ``shape`` and a name of the current layer."""
        assert self._layer is not None
        if math.prod(shape) >= 2**31:  # Caffe's own limit of a blob
            raise self._layer.error(f"its output of {list(shape)} is larger than any blob")
        name = fresh(self.node_names, self._layer.name)
        if not output:
            output = self.name(f"{self._layer.name}.{op.lower()}")
            self.temporary.add(output)
        self.nodes.append(helper.make_node(op, list(inputs), [output], name, **attributes))
        self.shapes[output] = shape
        return output

    def set(self, top: str, tensor: str) -> None:
        """Blob ``top`` is held by ``tensor`` from now on; a tensor of this layer takes the blob's name if it may."""
        for node in reversed(self.nodes):
            if tensor in self.temporary and tensor in node.output:
                may = self.reserved.get(top) == self._index and top not in self.inputs
                final = self.name(top if may else f"{self._layer_name}.out")
                self.shapes[final] = self.shapes.pop(tensor)
                node.output[list(node.output).index(tensor)] = final
                self.temporary.discard(tensor)
                tensor = final
                break
        self.blobs[top] = tensor

    @property
    def _layer_name(self) -> str:
        assert self._layer is not None
        return self._layer.name

    def reshape(self, tensor: str, shape: Shape) -> str:
        """``tensor`` in another shape of as many elements; a leading batch stays free where it can."""
        if tensor in self.values:
            self.values[made := self.name(f"{self._layer_name}.value")] = self.values[tensor].reshape(shape)
            self.shapes[made] = shape
            return made
        before = self.shapes[tensor]
        target = list(shape)
        if before and target and before[0] == target[0]:
            target[0] = 0
        else:
            self.batch_is_free = False
        return self.node("Reshape", [tensor, self.constant(np.array(target, np.int64), "shape")], shape)

    def model(self, name: str, *, free_batch: bool) -> onnx.ModelProto:
        """The ONNX model: unread blobs are its outputs."""
        outputs = []
        for blob in [b for b in self.blobs if b not in self.read]:
            tensor = self.blobs[blob]
            if tensor in self.values or tensor in self.inputs:
                continue
            if tensor != blob and blob not in self.taken and tensor not in self.exact:
                self.nodes.append(helper.make_node("Identity", [tensor], [blob], fresh(self.node_names, blob)))
                self.shapes[blob], tensor = self.shapes[tensor], blob
            outputs.append(tensor)
        free = free_batch and self.batch_is_free

        def value(tensor: str, *, shaped: bool) -> onnx.ValueInfoProto:
            shape: list[int | str] = list(self.shapes[tensor])
            if free and shape:
                shape[0] = "batch"
            return helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape if shaped else None)

        graph = helper.make_graph(
            self.nodes,
            name,
            [value(i, shaped=True) for i in self.inputs],
            [value(o, shaped=False) for o in dict.fromkeys(outputs)],
            self.initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        for key, text in self.metadata.items():
            model.metadata_props.add(key=key, value=text)
        return model
