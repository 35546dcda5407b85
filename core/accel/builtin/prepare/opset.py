"""Lower a graph to an older operator set, for compilers that stopped at one.

Each operator whose form changed has a rule that writes it in the old form, exactly. Operators whose
form did not change pass if the old set has them; anything else is refused by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import defs, helper

from accel.builtin.prepare import graph as g
from accel.builtin.prepare.fold import fold_constants
from accel.builtin.prepare.lowering import Lowering, NoExactFormError
from accel.builtin.prepare.lowering_rules import RULES
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import Model

NEWEST_IR = 9
"""IR version of lowered models: what toolchains with an older onnx package still read."""


def lower(model: Model, opset: int, *, ir: int = NEWEST_IR) -> Model:
    """``model`` at operator set ``opset`` (or its own, if that is older) and at most IR version ``ir``.

    Besides the rules, bounds of Clip become scalars (a rank-1 bound is legal, and refused by some compilers).

    Raises:
        AccelError: ``unsupported.opset`` for the first node that has no exact form there.
    """
    source = g.opset(model.proto)
    proto = g.copy(fold_constants(model))
    work = Lowering(proto, source, min(source, opset))
    nodes: list[onnx.NodeProto] = []
    for node in list(proto.graph.node):
        try:
            nodes.extend(_rewritten(node, work))
        except NoExactFormError as error:
            raise _refused(node, opset, str(error)) from error
    for node in nodes:
        _check(node, work, opset)
    g.replace_nodes(proto.graph, [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes])
    g.name_nodes(proto.graph)
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", work.target))
    proto.ir_version = min(proto.ir_version, ir)
    g.remove_unused(proto.graph)
    proto = g.infer(proto)
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        found = g.shape_error(error, proto.graph)
        raise AccelError(
            f"{model.name} cannot be written in operator set {opset}",
            code="unsupported.opset",
            cause=found.cause,
            node=found.node,
        ) from error
    return model.with_proto(proto, applied=f"opset={work.target}")


def _rewritten(node: onnx.NodeProto, work: Lowering) -> list[onnx.NodeProto]:
    """``node`` in the form of the target's set. What a rule makes is in that form already."""
    rule = RULES.get(node.op_type)
    if rule is None or not (rule.always or work.target < rule.since <= work.source):
        return [node]
    return rule.function(node, work)


def _check(node: onnx.NodeProto, work: Lowering, opset: int) -> None:
    """Refuse what the old set lacks, and attributes it does not know, unless they say what it does anyway."""
    if node.domain not in g.STANDARD_DOMAINS:
        raise _refused(node, opset, f"operators of {node.domain!r} have no version there")
    if any(True for _ in g.subgraphs(node)):
        if work.target < work.source:
            raise _refused(node, opset, "control flow is not lowered")
        return
    if not defs.has(node.op_type, max_inclusive_version=work.target, domain=""):
        raise _refused(node, opset, f"{node.op_type} came with operator set {_since(node.op_type)}")
    old = defs.get_schema(node.op_type, work.target, "")
    now = defs.get_schema(node.op_type, work.source, "")
    for attribute in list(node.attribute):
        if attribute.name in old.attributes:
            continue
        default = now.attributes[attribute.name].default_value if attribute.name in now.attributes else None
        if default is None or helper.get_attribute_value(attribute) != helper.get_attribute_value(default):
            raise _refused(node, opset, f"{node.op_type} has no attribute {attribute.name} there")
        node.attribute.remove(attribute)
    while node.input and not node.input[-1]:
        del node.input[-1]
    if len(node.input) > old.max_input or len(node.output) > old.max_output:
        raise _refused(node, opset, f"{node.op_type} has fewer inputs or outputs there")


def _since(op: str) -> int:
    return min(int(s.since_version) for s in defs.get_all_schemas_with_history() if s.name == op and not s.domain)


def _refused(node: onnx.NodeProto, opset: int, cause: str) -> AccelError:
    return AccelError(
        f"node {node.name!r} ({node.op_type}) has no exact form in operator set {opset}",
        code="unsupported.opset",
        cause=cause,
        node=node.name,
        hints=["Cut the graph before it (--output), or compile with a toolchain that reads newer operator sets."],
    )
