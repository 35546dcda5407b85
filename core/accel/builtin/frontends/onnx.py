"""Reads ONNX files of any opset, external data included."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from accel.errors import AccelError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from accel.model import Model
    from accel.options import ParseOptions

# protobuf's own limit for one message; ONNX Runtime and the vendors' compilers share it.
_LIMIT = 2**31 - 1


def parse(source: Path, options: ParseOptions) -> Model:
    """Read, check, shape and simplify an ONNX file.

    Raises:
        AccelError: ``model.*`` for a file that is broken, ``unsupported.op`` for an operator outside the
            standard, ``usage.*`` for options that do not fit the model; each names the node or input.
    """
    from accel.builtin.frontends.checked import checked_model

    proto, files = load(source)
    return checked_model(proto, options, name=options.name or source.stem, sources=files)


def load(source: Path) -> tuple[onnx.ModelProto, tuple[Path, ...]]:
    """The graph of a file with all its weights inside, and the files it came from.

    Raises:
        AccelError: ``model.not_onnx``, ``model.truncated``, ``model.external_data``, ``model.too_large``.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if source.stat().st_size > _LIMIT:
            raise _too_large(source)
        data = source.read_bytes()
    except OSError as error:
        raise AccelError(
            f"{source} cannot be read", code="model.unreadable", cause=error.strerror or str(error)
        ) from error
    proto = onnx.ModelProto()
    looks_right = data[:1] == b"\x08" and len(data) > 1 and data[1] < 0x40  # field 1, ir_version, written first
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        if looks_right:
            raise _truncated(source, "the file ends, or is damaged, inside the graph") from error
        raise _not_onnx(source) from error
    if not proto.ir_version:
        raise _truncated(source, "the file is empty") if not data else _not_onnx(source)
    if not proto.HasField("graph") or not proto.graph.output:
        raise _truncated(source, "it holds no graph")
    if not proto.opset_import and proto.ir_version >= 3:
        raise _truncated(source, "it names no operator set")
    _check_names(proto, source)
    return proto, (source, *_load_external(proto, source))


def _check_names(proto: onnx.ModelProto, source: Path) -> None:
    """Names must be text: protobuf hands out the bytes of those that are not, and nothing after this expects them."""

    def names(graph: onnx.GraphProto) -> Iterator[object]:
        yield graph.name
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (d.dim_param for d in value.type.tensor_type.shape.dim if d.HasField("dim_param"))
        yield from (i.name for i in graph.initializer)
        for node in graph.node:
            yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
            for attribute in node.attribute:
                yield attribute.name
                for inner in (attribute.g, *attribute.graphs):
                    yield from names(inner)

    try:
        damaged = any(not isinstance(n, str) for n in (*names(proto.graph), *(i.domain for i in proto.opset_import)))
    except UnicodeDecodeError:
        damaged = True
    if damaged:
        raise AccelError(
            f"{source} is damaged",
            code="model.broken",
            cause="a name in it is no UTF-8 text",
            hints=["Copy or export it again."],
        )


def _load_external(proto: onnx.ModelProto, source: Path) -> tuple[Path, ...]:
    """Bring external weights inside. The locations in the file are data from anywhere: they may name only
    files in the model's own folder."""
    import onnx

    folder = source.parent.resolve()
    files: list[Path] = []
    total = 0
    for tensor in _tensors(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {e.key: e.value for e in tensor.external_data}
        location = entry.get("location", "")
        path = (folder / location).resolve()
        if not location or Path(location).is_absolute() or folder not in path.parents:
            raise _external(source, tensor.name, f"{location!r} lies outside the model's folder")
        if not path.is_file():
            raise _external(source, tensor.name, f"{location} is missing beside {source.name}")
        try:
            offset, length = int(entry.get("offset", 0)), int(entry.get("length", -1))
        except ValueError as error:
            raise _external(source, tensor.name, "its offset or length is no number") from error
        size = path.stat().st_size
        length = size - offset if length < 0 else length
        if offset < 0 or offset + length > size:
            raise _external(source, tensor.name, f"{location} is too short: {size} bytes, {offset + length} needed")
        total += length
        if total > _LIMIT:
            raise _too_large(source)
        with path.open("rb") as file:
            file.seek(offset)
            tensor.raw_data = file.read(length)
        tensor.ClearField("data_location")
        tensor.ClearField("external_data")
        if path not in files:
            files.append(path)
    return tuple(files)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    def of(nodes: object) -> Iterator[onnx.TensorProto]:
        for node in nodes:  # type: ignore[attr-defined]
            for attribute in node.attribute:
                yield attribute.t
                yield from attribute.tensors
                for graph in (attribute.g, *attribute.graphs):
                    yield from graph.initializer
                    yield from of(graph.node)

    yield from proto.graph.initializer
    for sparse in proto.graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from of(proto.graph.node)
    for function in proto.functions:
        yield from of(function.node)


def _not_onnx(source: Path) -> AccelError:
    return AccelError(
        f"{source} is not an ONNX file",
        code="model.not_onnx",
        cause="it does not parse as an ONNX model",
        hints=["Give the file its right suffix, or name its frontend: --frontend NAME."],
    )


def _truncated(source: Path, cause: str) -> AccelError:
    return AccelError(
        f"{source} is not a whole ONNX model", code="model.truncated", cause=cause, hints=["Copy or export it again."]
    )


def _external(source: Path, tensor: str, cause: str) -> AccelError:
    return AccelError(
        f"the weights {tensor!r} of {source.name} cannot be loaded",
        code="model.external_data",
        cause=cause,
        hints=["Put the model and the data files it was exported with into one folder."],
    )


def _too_large(source: Path) -> AccelError:
    return AccelError(
        f"{source} holds more than 2 GB", code="model.too_large", cause="an ONNX graph in memory is limited to 2 GB"
    )
