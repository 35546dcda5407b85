"""Writes Caffe's two files for tests: a definition from text, weights in protobuf's wire format."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes | int) -> bytes:
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, style: str) -> bytes:
    """``new``: shape message and packed floats; ``legacy``: four dimensions; ``unpacked``; ``double``."""
    if style in ("legacy", "v1"):
        dims = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(i + 1, d) for i, d in enumerate(dims))
    else:
        shape = field(7, field(1, b"".join(varint(d) for d in array.shape)))
    if style == "unpacked":
        return shape + b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in array.reshape(-1))
    if style == "double":
        return shape + field(8, array.astype("<f8").tobytes())
    return shape + field(5, array.astype("<f4").tobytes())


def caffemodel(weights: Mapping[str, Sequence[np.ndarray]], style: str = "new") -> bytes:
    """NetParameter with layers (or, for ``v1``, old layers) that hold blobs."""
    made = field(1, b"net")
    for name, arrays in weights.items():
        if style == "v1":
            made += field(2, field(4, name.encode()) + b"".join(field(6, blob(a, style)) for a in arrays))
        else:
            inner = field(1, name.encode()) + field(2, b"Any") + b"".join(field(7, blob(a, style)) for a in arrays)
            made += field(100, inner)
    return made


def write(
    folder: Path, layers: str, weights: Mapping[str, Sequence[np.ndarray]] | None = None, style: str = "new"
) -> Path:
    """net.prototxt and net.caffemodel in ``folder``; the path of the first."""
    path = folder / "net.prototxt"
    path.write_text(layers, encoding="utf-8")
    held = weights or {"none": [np.zeros(1, np.float32)]}
    path.with_suffix(".caffemodel").write_bytes(caffemodel(held, style))
    return path


def data(*shape: int, name: str = "data") -> str:
    dims = " ".join(f"dim: {d}" for d in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def layer(kind: str, param: str = "", *, name: str = "y", bottoms: str = "data", tops: str = "") -> str:
    ins = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    outs = " ".join(f'top: "{t}"' for t in (tops or name).split())
    return f'layer {{ name: "{name}" type: "{kind}" {ins} {outs} {param} }}\n'
