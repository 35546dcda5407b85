"""From any ONNX graph, whoever wrote it, to a Model: the steps all frontends end with."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from accel import progress
from accel.builtin.frontends.simplify import modernise, simplify
from accel.builtin.prepare import graph as g
from accel.builtin.prepare.cut import cut_proto
from accel.errors import AccelError
from accel.model import Model, io_specs
from accel.options import ParseOptions

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def checked_model(
    proto: onnx.ModelProto,
    options: ParseOptions,
    *,
    name: str,
    sources: tuple[Path, ...],
    notes: tuple[str, ...] = (),
) -> Model:
    """Check a graph, apply the parse options, infer every shape and simplify.

    The graph is changed. Dimension 0 of every input stays free as ``batch`` if it was free.

    Raises:
        AccelError: see :func:`accel.builtin.frontends.onnx.parse`.
    """
    found = list(notes)
    with progress.step("checking the graph"):
        _inputs_only(proto.graph)
        proto = _inlined(proto)
        check_operators(proto)
        g.name_nodes(proto.graph)
        _rename(proto.graph, options)
        _reshape(proto.graph, options)
        _check(proto)
        _check_weights(proto.graph)
        proto = g.infer(proto)
        _check_channels(proto.graph)
        proto = modernise(proto, found)
        if options.output_names:
            proto = g.infer(cut_proto(proto, options.output_names))
    if options.simplify:
        with progress.step("simplifying"):
            proto = simplify(proto, found)
    proto.graph.name = proto.graph.name or "graph"
    for note in found[len(notes) :]:
        progress.message(note)
    inputs, outputs = io_specs(proto)
    return Model(proto, file_name(name), inputs, outputs, sources, notes=tuple(found))


def file_name(name: str) -> str:
    """``name`` as part of a file name: letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "model"


def check_operators(proto: onnx.ModelProto) -> None:
    """Every node must be an operator of the ONNX standard at the version the model imports."""
    version = g.opset(proto)
    newest = int(onnx.defs.onnx_opset_version())
    if version > newest:
        raise AccelError(
            f"the model uses operator set {version}; the newest known here is {newest}",
            code="unsupported.opset",
            hints=["Upgrade the onnx and onnxruntime packages, or export with an older opset."],
        )
    if version < 1:
        raise AccelError("the model imports no version of the standard operators", code="model.truncated")
    _check_operators(proto.graph, version)


def _check_operators(graph: onnx.GraphProto, version: int) -> None:
    for node in graph.node:
        where = node.name or (node.output[0] if node.output else "?")
        if node.domain not in g.STANDARD_DOMAINS:
            raise AccelError(
                f"node {where!r} is an operator {node.op_type} of the domain {node.domain!r}",
                code="unsupported.op",
                node=where,
                cause="only operators of the ONNX standard can be compiled",
                hints=["Export without runtime-specific fusions, or cut the graph before it: --output."],
            )
        if not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=""):
            names = {s.name for s in onnx.defs.get_all_schemas() if not s.domain}
            near = difflib.get_close_matches(node.op_type, names, n=2, cutoff=0.7)
            raise AccelError(
                f"node {where!r} is an unknown operator {node.op_type}",
                code="unsupported.op",
                node=where,
                cause=f"operator set {version} has no {node.op_type}",
                hints=[f"Did the exporter mean {' or '.join(near)}?"] if near else [],
            )
        for inner in g.subgraphs(node):
            _check_operators(inner, version)


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Model-local functions written out; imports of unused domains dropped."""
    if proto.functions:
        from onnx import inliner

        try:
            proto = inliner.inline_local_functions(proto)
        except Exception as error:  # a native exception of the library
            raise AccelError(
                "the model's functions cannot be inlined", code="model.broken", cause=str(error)
            ) from error
    if not proto.opset_import:  # before IR 3 there was one operator set
        proto.opset_import.append(helper.make_opsetid("", 1))
        proto.ir_version = max(proto.ir_version, 3)
    return proto


def _inputs_only(graph: onnx.GraphProto) -> None:
    """Before IR 4 every initialiser was listed as an input."""
    held = {i.name for i in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name in held:
            del graph.input[at]


def _check(proto: onnx.ModelProto) -> None:
    # From IR 4 on an initialiser need not be an input; the checker holds an older file to the old rule.
    proto.ir_version = max(proto.ir_version, 4)
    try:
        # An output without a shape is common, and the checker refuses it: fill in what follows.
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(proto))
    except Exception as error:  # ValidationError, or a native exception for a malformed tensor
        found = g.shape_error(error, proto.graph)
        raise AccelError(
            f"the graph breaks a rule of ONNX{f' at node {found.node!r}' if found.node else ''}",
            code="model.broken",
            cause=str(error).strip().splitlines()[0],
            node=found.node,
        ) from error


def _check_channels(graph: onnx.GraphProto) -> None:
    """What shape inference leaves to the runtime: a convolution's weights must fit its input."""
    known = g.shapes(graph)
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        data, weight = known.get(node.input[0], ()), known.get(node.input[1], ())
        if len(data) < 2 or len(weight) < 2 or not isinstance(data[1], int) or not isinstance(weight[1], int):
            continue
        group = next((a.i for a in node.attribute if a.name == "group"), 1)
        wanted = weight[1] * group if node.op_type == "Conv" else weight[0]
        if data[1] != wanted:
            raise AccelError(
                f"the graph is not consistent at node {node.name!r}",
                code="model.shape",
                cause=f"its weights take {wanted} channels, its input {node.input[0]!r} has {data[1]}",
                node=node.name,
            )


def _check_weights(graph: onnx.GraphProto) -> None:
    readers = g.consumers(graph)

    def refuse(name: str, what: str) -> AccelError:
        node = next((n.name for n in readers.get(name, [])), "")
        return AccelError(
            f"the weights {name!r}{f' of node {node!r}' if node else ''} hold {what}",
            code="model.nan",
            node=node,
            hints=["Training diverged, or the file is damaged: export it again."],
        )

    for held in graph.initializer:
        value = _float_values(held)
        if value is None:
            continue
        if np.isnan(value).any():
            raise refuse(held.name, f"{int(np.isnan(value).sum())} NaN")
        weighted = any(n.op_type in _WEIGHTED for n in readers.get(held.name, []))
        if weighted and np.isinf(value).any():
            raise refuse(held.name, "infinity")


def _float_values(held: onnx.TensorProto) -> np.ndarray | None:
    if held.data_type not in (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.BFLOAT16,
    ):
        return None
    try:
        return np.asarray(numpy_helper.to_array(held), np.float64 if held.data_type == 11 else np.float32)
    except (ValueError, TypeError) as error:
        raise AccelError(f"the weights {held.name!r} are damaged", code="model.truncated", cause=str(error)) from error


def _rename(graph: onnx.GraphProto, options: ParseOptions) -> None:
    if not options.renames:
        return
    taken = g.names_in(graph)
    mapping = dict(options.renames)
    for old, new in mapping.items():
        _known_input(graph, old)
        if not new or (new in taken and new not in mapping):
            raise AccelError(f"input {old!r} cannot be called {new!r}: the name is in use", code="usage.input")
    if len(set(mapping.values())) != len(mapping):
        raise AccelError("two inputs cannot have one name", code="usage.input")
    _rename_in(graph, mapping)


def _rename_in(graph: onnx.GraphProto, mapping: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = mapping.get(value.name, value.name)
    for node in graph.node:
        for at, name in enumerate(node.input):
            node.input[at] = mapping.get(name, name)
        for inner in g.subgraphs(node):
            hidden = {v.name for v in inner.input}
            _rename_in(inner, {o: n for o, n in mapping.items() if o not in hidden})


def _known_input(graph: onnx.GraphProto, name: str) -> onnx.ValueInfoProto:
    inputs = {v.name: v for v in graph.input}
    if name in inputs:
        return inputs[name]
    near = difflib.get_close_matches(name, inputs, n=2, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    raise AccelError(
        f"the model has no input {name!r}", code="usage.input", hints=[f"{hint}Its inputs: {', '.join(inputs)}."]
    )


def _reshape(graph: onnx.GraphProto, options: ParseOptions) -> None:
    """Apply the given shapes; name the free batch; refuse any other free dimension."""
    given = dict(options.input_shapes)
    if "" in given:
        if len(graph.input) != 1:
            names = ", ".join(v.name for v in graph.input)
            raise AccelError(
                f"the model has {len(graph.input)} inputs: say whose shape it is",
                code="usage.input",
                hints=[f"Its inputs: {names}."],
            )
        given[graph.input[0].name] = given.pop("")
    back = {new: old for old, new in options.renames.items()}
    inputs = {v.name for v in graph.input}
    for name in [n for n in given if n not in inputs and n in options.renames]:
        given[options.renames[name]] = given.pop(name)
    for name, shape in given.items():
        _set_shape(_known_input(graph, name), shape)
    keep = options.extra.get("dynamic") == "keep"
    for value in graph.input:
        _free_dims(value, back.get(value.name, value.name), keep=keep)


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    tensor = value.type.tensor_type
    if tensor.HasField("shape") and len(tensor.shape.dim) != len(shape):
        rank = len(tensor.shape.dim)
        raise AccelError(
            f"input {value.name!r} has {rank} dimensions, the given shape {list(shape)} has {len(shape)}",
            code="usage.input_shape",
        )
    tensor.shape.SetInParent()
    del tensor.shape.dim[:]
    for at, size in enumerate(shape):
        dim = tensor.shape.dim.add()
        if size > 0:
            dim.dim_value = size
        elif not (at == 0 and size == -1):
            raise AccelError(
                f"{size} is no size for dimension {at} of input {value.name!r}",
                code="usage.input_shape",
                hints=["Sizes are positive; -1 in the first place leaves the batch free."],
            )


def _free_dims(value: onnx.ValueInfoProto, shown: str, *, keep: bool) -> None:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise AccelError(f"input {value.name!r} is no tensor", code="unsupported.input")
    free = [at for at, d in enumerate(tensor.shape.dim) if not d.HasField("dim_value") or d.dim_value < 0]
    if not tensor.HasField("shape") or (not keep and any(free)):
        sizes = [d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim]
        example = ",".join("1" if i == 0 else str(s) if isinstance(s, int) else "224" for i, s in enumerate(sizes))
        raise AccelError(
            f"the shape of input {value.name!r} is not known: [{', '.join(map(str, sizes))}]",
            code="usage.dynamic_shape",
            cause="only the first dimension, the batch, may be free",
            hints=[f"Give it: --input-shape {shown}={example or '1,3,224,224'}"],
        )
    for at in free:
        dim = tensor.shape.dim[at]
        label = "batch" if at == 0 else dim.dim_param or f"{value.name}_dim{at}"
        dim.Clear()
        dim.dim_param = label
