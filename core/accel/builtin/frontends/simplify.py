"""Simplify a graph and bring an old one up to date, each step checked against the graph before it."""

from __future__ import annotations

import onnx

from accel.builtin.prepare import graph as g
from accel.builtin.prepare import verify
from accel.model import io_specs

# Below this the rest of the driver would meet operators in forms nobody writes any more.
_OLDEST = 11
_MODERN = 13
_BOUND = 1e-4
"""Largest relative difference of an output that a rewritten graph may show."""


def simplify(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """``proto`` through onnxslim; as it was, with a note, when that fails or changes a result."""
    import onnxslim

    work = onnx.ModelProto()
    work.CopyFrom(proto)
    try:
        slim = onnxslim.slim(work)
        _same_interface(proto, slim)
        del slim.metadata_props[:]
        slim.metadata_props.extend(proto.metadata_props)
        slim = g.infer(slim)
        g.name_nodes(slim.graph)
        onnx.checker.check_model(slim)
    except Exception as error:  # whatever the library or its result breaks with, the graph before it is good
        notes.append(f"not simplified: {_first_line(error)}")
        return proto
    return _verified(proto, slim, "simplified", notes)


def modernise(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """A graph older than opset 11 converted to 13; as it was, with a note, when there is no conversion."""
    version = g.opset(proto)
    if version >= _OLDEST:
        return proto
    from onnx import version_converter

    try:
        newer = version_converter.convert_version(proto, _MODERN)
        newer.ir_version = max(newer.ir_version, 7)
        g.name_nodes(newer.graph)
        newer = g.infer(newer)
    except Exception as error:  # the converter raises RuntimeError, ValueError and native exceptions
        notes.append(f"left at operator set {version}: {_first_line(error)}")
        return proto
    return _verified(proto, newer, f"converted from operator set {version} to {_MODERN}", notes)


def _verified(before: onnx.ModelProto, after: onnx.ModelProto, what: str, notes: list[str]) -> onnx.ModelProto:
    """``after`` if it computes what ``before`` does, else ``before``."""
    feeds = verify.random_inputs(io_specs(before)[0])
    try:
        wanted = verify.run(before, feeds)
    except Exception as error:  # ONNX Runtime has no kernel, or the random input does not fit
        notes.append(f"{what}, but not compared: {_first_line(error)}")
        return after
    try:
        got = verify.run(after, feeds)
    except Exception as error:
        notes.append(f"not {what}: the result does not run: {_first_line(error)}")
        return before
    worst = max((verify.relative(a, b) for a, b in zip(wanted, got, strict=True)), default=0.0)
    if worst > _BOUND:
        notes.append(f"not {what}: an output would change by {worst:.1e}")
        return before
    return after


def _same_interface(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    def names(proto: onnx.ModelProto) -> tuple[list[str], list[str]]:
        return [v.name for v in proto.graph.input], [v.name for v in proto.graph.output]

    if names(before) != names(after):
        raise ValueError("inputs or outputs would change")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
