"""What ``accel check`` says of a network on an MLU."""

from __future__ import annotations

from collections.abc import Sequence

from accel.model import Model
from accel.options import BuildOptions
from accel.report import NodeSupport
from accel.target import Target

from accel_mlu.graph import constants
from accel_mlu.options import numerics, read_options
from accel_mlu.targets import FIXED_POINT_OPS

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def check(model: Model, target: Target, options: BuildOptions) -> Sequence[NodeSupport]:
    """Each node with the type it computes in; MagicMind's own list of operators is not public.

    Raises:
        AccelError: ``unsupported.precision``, with the reason, for a precision (of a node, too) the chip has not.
    """
    default = numerics(target, options.precision, read_options(target, options))
    own = {node: target.numerics_for(precision) for node, precision in options.node_precisions.items()}
    held = constants(model.proto)
    found = []
    for node in model.proto.graph.node:
        if node.op_type == "Constant":
            continue
        at = own.get(node.name, default)
        fixed = at.quantized and node.op_type in FIXED_POINT_OPS
        loose = fixed and node.op_type in _CONVOLUTIONS and node.input[1] not in held
        if loose and target.refusals:
            why = "weights that are not constant have no fixed-point form, and this chip has no float convolution"
            found.append(NodeSupport(node.name, node.op_type, False, "", why))
            continue
        kind = at.precision if fixed and not loose else at.float_type
        reason = "weights that are not constant: float" if loose else ""
        if at.quantized and not fixed:
            reason = f"only convolution and matmul read fixed point; the rest computes in {at.float_type}"
        found.append(NodeSupport(node.name, node.op_type, True, f"{target.name} {kind}", reason))
    return found
