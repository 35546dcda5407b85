"""What ``accel check`` says for a target without a checker of its own: the declared numerics, node by node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from accel.builtin.reference.build import node_numerics
from accel.builtin.reference.graph import Source
from accel.builtin.reference.quantize import check_names
from accel.model import Model
from accel.options import BuildOptions
from accel.report import NodeSupport
from accel.target import Numerics, Target

if TYPE_CHECKING:
    import onnx


def asked_numerics(model: Model, target: Target, options: BuildOptions) -> Iterator[tuple[onnx.NodeProto, Numerics]]:
    """Each node with the numerics asked for it: those of the precision, or of its own override.

    Raises:
        AccelError: ``unsupported.precision``, ``usage.node``.
    """
    numerics = target.numerics_for(options.precision)
    overrides = node_numerics(target, options.node_precisions)
    source = Source(model.proto)
    check_names(source, overrides)
    for node in source.nodes:
        yield node, overrides.get(node.name, numerics)


def check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport]:
    """Each node with the type it computes in; nothing is claimed about the vendor's compiler.

    Raises:
        AccelError: ``unsupported.precision``, ``usage.node``.
    """
    found = []
    for node, own in asked_numerics(model, target, options):
        integer = own.quantized and node.op_type in own.quantized_ops
        reason = "" if integer or not own.quantized else f"not among the integer operators: {own.float_type}"
        place = f"{target.name} {own.precision if integer else own.float_type}"
        found.append(NodeSupport(node.name, node.op_type, True, place, reason))
    return found
