"""Caffe's ``Datum``, the message of its LMDB data, read and written without protobuf's compiler.

Fields (caffe.proto): 1 channels, 2 height, 3 width, 4 data, 5 label, 6 float_data, 7 encoded.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
from PIL import Image

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Datum:
    """One picture as Caffe stores it: channels first and BGR, or an encoded file."""

    channels: int = 0
    height: int = 0
    width: int = 0
    data: bytes = b""
    label: int = 0
    floats: tuple[float, ...] = ()
    encoded: bool = False


def parse(message: bytes) -> Datum:
    """Read a message; unknown fields are passed over.

    Raises:
        ValueError: it is truncated or no Datum.
    """
    numbers = {1: 0, 2: 0, 3: 0, 5: 0, 7: 0}
    data, floats, at = b"", b"", 0
    while at < len(message):
        key, at = _varint(message, at)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            if field in numbers:
                numbers[field] = value
        elif wire == _BYTES:
            size, at = _varint(message, at)
            chunk = message[at : at + size]
            if len(chunk) != size:
                raise ValueError("the Datum is truncated")
            at += size
            if field == 4:
                data = chunk
            elif field == 6:
                floats += chunk
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
            chunk = message[at : at + size]
            if len(chunk) != size:
                raise ValueError("the Datum is truncated")
            at += size
            if field == 6 and wire == _FIXED32:
                floats += chunk
        else:
            raise ValueError("it is no Datum")
    if len(floats) % 4:
        raise ValueError("the Datum is truncated")
    values = struct.unpack(f"<{len(floats) // 4}f", floats)
    label = numbers[5] - (1 << 64) if numbers[5] >= 1 << 63 else numbers[5]
    return Datum(numbers[1], numbers[2], numbers[3], data, label, values, bool(numbers[7]))


def serialize(datum: Datum) -> bytes:
    """The message of ``datum`` (without floats)."""
    parts = []
    for field, value in ((1, datum.channels), (2, datum.height), (3, datum.width)):
        parts.append(_key(field, _VARINT) + _encoded_varint(value))
    parts.append(_key(4, _BYTES) + _encoded_varint(len(datum.data)) + datum.data)
    parts.append(_key(5, _VARINT) + _encoded_varint(datum.label & ((1 << 64) - 1)))
    if datum.encoded:
        parts.append(_key(7, _VARINT) + b"\x01")
    return b"".join(parts)


def picture_of(datum: Datum, order: str = "bgr") -> Image.Image:
    """The picture, RGB or grey.

    Args:
        datum: The message.
        order: Channel order of raw pixels: Caffe's tools write ``bgr``.

    Raises:
        ValueError: the sizes and the data do not agree.
        OSError: an encoded picture is broken.
    """
    if datum.encoded:
        with Image.open(io.BytesIO(datum.data)) as picture:
            picture.load()
            plain: Image.Image = picture if picture.mode in ("RGB", "L") else picture.convert("RGB")
            return plain
    shape = (datum.channels, datum.height, datum.width)
    size = datum.channels * datum.height * datum.width
    if datum.floats:
        raise ValueError("it holds floats, not pixels")
    if size == 0 or size != len(datum.data) or datum.channels not in (1, 3):
        raise ValueError(f"it says {list(shape)} and holds {len(datum.data)} bytes")
    planes = np.frombuffer(datum.data, np.uint8).reshape(shape)
    if datum.channels == 1:
        return Image.fromarray(planes[0])
    channels = planes[::-1] if order == "bgr" else planes
    return Image.fromarray(np.ascontiguousarray(channels.transpose(1, 2, 0)))


def raw_datum(picture: Image.Image, label: int) -> Datum:
    """Channels first, BGR, as Caffe's convert_imageset writes."""
    if picture.mode == "L":
        return Datum(1, picture.height, picture.width, picture.tobytes(), label)
    planes = np.asarray(picture.convert("RGB"))[:, :, ::-1].transpose(2, 0, 1)
    return Datum(3, picture.height, picture.width, planes.tobytes(), label)


def _key(field: int, wire: int) -> bytes:
    return _encoded_varint(field << 3 | wire)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("the Datum is truncated")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise ValueError("it is no Datum")


def _encoded_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
