"""Reads the weights of a ``.caffemodel``: protobuf's wire format, as far as layers and blobs need it.

Field numbers are those of Caffe's caffe.proto. Nothing else in the file is looked into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel.errors import AccelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Blob:
    """One weight array. ``shape`` has four dimensions in files of old Caffe versions, whatever the layer."""

    shape: tuple[int, ...]
    data: np.ndarray


class _DamagedError(ValueError):
    pass


def read_caffemodel(path: Path) -> dict[str, list[Blob]]:
    """Blobs (float32) by layer name. The arrays are views of the file's bytes.

    Raises:
        AccelError: ``model.caffemodel`` when the file is truncated or something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AccelError(f"{path} cannot be read", code="model.unreadable", cause=error.strerror or "") from error
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        raise AccelError(
            f"{path} holds its weights as HDF5",
            code="unsupported.caffemodel",
            hints=["Save the snapshot as binary protobuf (snapshot_format: BINARYPROTO)."],
        )
    try:
        layers = dict(_layers(memoryview(data)))
    except _DamagedError as error:
        raise AccelError(
            f"{path} is no whole caffemodel", code="model.caffemodel", cause=str(error), hints=["Copy it again."]
        ) from error
    if not layers:
        raise AccelError(f"{path} holds no layers", code="model.caffemodel", cause="no layer was found in it")
    return layers


def _layers(data: memoryview) -> Iterator[tuple[str, list[Blob]]]:
    for number, kind, value in _fields(data):
        # NetParameter: layer = 100 (LayerParameter), layers = 2 (V1LayerParameter).
        if kind == _BYTES and number in (2, 100):
            yield _layer(value, name_field=1 if number == 100 else 4, blob_field=7 if number == 100 else 6)


def _layer(data: memoryview, *, name_field: int, blob_field: int) -> tuple[str, list[Blob]]:
    name, blobs = "", []
    for number, kind, value in _fields(data):
        if kind == _BYTES and number == name_field:
            name = bytes(value).decode("utf-8", "replace")
        elif kind == _BYTES and number == blob_field:
            blobs.append(_blob(value, name))
    return name, blobs


def _blob(data: memoryview, layer: str) -> Blob:
    """BlobProto: num 1, channels 2, height 3, width 4, data 5, shape 7 (dim 1), double_data 8."""
    legacy, shape, parts, wide = [1, 1, 1, 1], None, [], []
    for number, kind, value in _fields(data):
        if kind == _VARINT and 1 <= number <= 4:
            legacy[number - 1] = _signed(value)
        elif kind == _BYTES and number == 7:
            shape = _dims(value)
        elif number == 5 and kind in (_BYTES, _FIXED32):  # packed, or one by one
            parts.append(value)
        elif number == 8 and kind in (_BYTES, _FIXED64):
            wide.append(value)
    values = _floats(parts, "<f4") if parts else _floats(wide, "<f8").astype("<f4")
    found = tuple(legacy) if shape is None else tuple(shape)
    if any(d < 0 for d in found) or int(np.prod(found, dtype=object)) != values.size:
        raise _DamagedError(f"layer {layer!r}: a blob of shape {list(found)} has {values.size} values")
    return Blob(found, values.reshape(found))


def _floats(parts: list[memoryview], dtype: str) -> np.ndarray:
    size = np.dtype(dtype).itemsize
    joined = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
    if len(joined) % size:
        raise _DamagedError("a blob ends inside a number")
    return np.frombuffer(joined, dtype)


def _dims(data: memoryview) -> list[int]:
    dims: list[int] = []
    for number, kind, value in _fields(data):
        if number == 1 and kind == _VARINT:
            dims.append(_signed(value))
        elif number == 1 and kind == _BYTES:
            at = 0
            while at < len(value):
                dim, at = _varint(value, at)
                dims.append(dim - 2**64 if dim >= 2**63 else dim)
    return dims


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and content of each field of a message. A varint comes as its 8 little-endian bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, memoryview(value.to_bytes(8, "little"))
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise _DamagedError(f"byte {at}: no field of a protobuf message")
        if number == 0 or at + length > len(data):
            raise _DamagedError(f"a field reaches {at + length - len(data)} bytes beyond the end")
        yield number, kind, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _DamagedError("the file ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise _DamagedError("a number is longer than any")


def _signed(value: memoryview) -> int:
    return int.from_bytes(value, "little", signed=True)
