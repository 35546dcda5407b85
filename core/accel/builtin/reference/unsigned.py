"""Which tensors a chip stores without a sign where only its convolutions can do so (``unsigned_codes``).

``details["unsigned_codes"] = "convolutions"`` narrows :attr:`accel.target.QuantScheme.unsigned` to what a convolution
(with a shortcut or not) writes through a Relu, or a Clip from zero, and only convolutions that are not depthwise and
shortcuts read, straight or through max pooling: hmct's choice, found by quantising small networks of every
combination. Those with padding, which hmct takes too, are left out: zeros are not its code 0 there and it pads in an
operator of its own, which costs time on the chip. ``"never"`` takes it back.
"""

from __future__ import annotations

import onnx

from accel.builtin.reference.graph import Source, attributes


def unsigned_tensors(proto: onnx.ModelProto) -> list[str]:
    """Names of all such tensors of a model, in order."""
    source = Source(proto)
    names = [out for node in source.nodes for out in node.output]
    return [name for name in names if between_convolutions(source, name)]


def between_convolutions(source: Source, name: str) -> bool:
    """Whether ``name`` is one of them."""
    while (made := source.producer.get(name)) is not None and made.op_type == "MaxPool":
        name = made.input[0]
    return _written(source, name) and _read(source, name)


def shortcut(source: Source, add: onnx.NodeProto) -> bool:
    """Whether an Add is done in the accumulator of a convolution before it."""
    return any(_sole_convolution(source, name) for name in add.input)


def depthwise(source: Source, node: onnx.NodeProto) -> bool:
    """Whether a convolution gives every channel one of its own."""
    weight = source.shape(node.input[1])
    group = int(attributes(node).get("group", 1))
    return weight is None or (group > 1 and weight[:2] == (group, 1))


def _written(source: Source, name: str) -> bool:
    made = source.producer.get(name)
    if made is None or not _cuts_at_zero(source, made) or source.sole_consumer(made.input[0]) is None:
        return False
    before = source.producer.get(made.input[0])
    if before is None:
        return False
    return bool(before.op_type == "Conv") or (before.op_type == "Add" and shortcut(source, before))


def _cuts_at_zero(source: Source, node: onnx.NodeProto) -> bool:
    if node.op_type != "Clip":
        return bool(node.op_type == "Relu")
    low = source.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
    return low is not None and low.size == 1 and float(low.reshape(-1)[0]) == 0


def _read(source: Source, name: str) -> bool:
    readers = source.consumers.get(name, [])
    return bool(readers) and all(_reads(source, node, name) for node in readers)


def _reads(source: Source, node: onnx.NodeProto, name: str) -> bool:
    if node.op_type == "Conv":
        attrs = attributes(node)
        padded = any(attrs.get("pads", ())) or attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        return not padded and not depthwise(source, node)
    if node.op_type == "Add":
        return any(other != name and _sole_convolution(source, other) for other in node.input)
    return node.op_type == "MaxPool" and _read(source, node.output[0])


def _sole_convolution(source: Source, name: str) -> bool:
    made = source.producer.get(name)
    return made is not None and made.op_type == "Conv" and source.sole_consumer(name) is not None
