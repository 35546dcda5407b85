"""The vendor's side of a worker: runs in the toolchain's Python, needs only NumPy, valid on Python 3.7.

Started as ``python accel_worker.py SCRIPT [ARGUMENTS]``; SCRIPT does

    from accel_worker import serve
    serve({"load": load, "infer": infer})

where each function takes ``(params: dict, arrays: dict[str, ndarray])`` and returns the same pair (or None).

A frame is a header of 12 bytes (magic ``ACCW``, length of the JSON, number of arrays; unsigned 32 bit, little
endian), the JSON, then the raw bytes of each array in the order and form the JSON's ``arrays`` gives. No pickle:
the two sides have different NumPy versions.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import traceback
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Function = Callable[[dict[str, Any], dict[str, np.ndarray]], tuple[dict[str, Any], dict[str, np.ndarray]] | None]

MAGIC = b"ACCW"
HEADER = struct.Struct("<4sII")
LIMIT = 1 << 34
"""Bytes an array may have: a sane bound on what a broken peer can make us allocate."""


class Closed(Exception):  # noqa: N818  (no error: how every worker ends)
    """The other side is gone."""


def write_frame(stream: IO[bytes], message: Any, arrays: dict[str, np.ndarray]) -> None:
    """Send ``message`` (JSON values) and named arrays."""
    plain = {name: np.ascontiguousarray(a).reshape(np.shape(a)) for name, a in arrays.items()}
    listed = [{"name": n, "dtype": a.dtype.str, "shape": list(a.shape)} for n, a in plain.items()]
    for name, array in plain.items():
        if array.dtype.hasobject:
            raise TypeError(f"array {name!r} holds Python objects")
    body = json.dumps({"message": message, "arrays": listed}).encode("utf-8")
    stream.write(HEADER.pack(MAGIC, len(body), len(plain)))
    stream.write(body)
    for array in plain.values():
        stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[Any, dict[str, np.ndarray]]:
    """Receive ``(message, arrays)``; Closed at the end of the stream, ValueError for nonsense."""
    magic, length, count = HEADER.unpack(_exactly(stream, HEADER.size))
    if magic != MAGIC:
        raise ValueError(f"not a frame: {magic!r}")
    body = json.loads(bytes(_exactly(stream, length)).decode("utf-8"))
    arrays = {}
    if len(body["arrays"]) != count:
        raise ValueError(f"a frame of {count} arrays lists {len(body['arrays'])}")
    for entry in body["arrays"]:
        dtype = np.dtype(entry["dtype"])
        shape = tuple(int(n) for n in entry["shape"])
        size = dtype.itemsize
        for dim in shape:
            size *= dim
        if dtype.hasobject or min(shape, default=0) < 0 or size > LIMIT:
            raise ValueError(f"array {entry['name']!r} is impossible: {dtype} {shape}")
        arrays[entry["name"]] = np.frombuffer(_exactly(stream, size), dtype=dtype).reshape(shape)
    return body["message"], arrays


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    done = 0
    while done < count:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise Closed("the stream ended")
        done += got
    return data


def serve(functions: dict[str, Function]) -> None:
    """Answer calls until the other side closes."""
    calls = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    # Vendors' libraries print to stdout from C: that must reach the log, not the protocol.
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    while True:
        try:
            message, arrays = read_frame(calls)
        except Closed:
            return
        try:
            function = functions[message["method"]]
            answer = function(message.get("params", {}), arrays)
            reply, results = answer if answer is not None else ({}, {})
            write_frame(replies, {"result": reply}, results)
        except BrokenPipeError:
            return
        except Exception as error:
            trace = traceback.format_exc()
            sys.stderr.write(trace)
            sys.stderr.flush()
            failure = {"type": type(error).__name__, "text": str(error), "trace": trace}
            write_frame(replies, {"error": failure}, {})


def main() -> None:
    import runpy

    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    # Our own folder must not be searched: its modules' names are common ones.
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or ".") != here]  # noqa: PTH100
    sys.modules["accel_worker"] = sys.modules["__main__"]
    runpy.run_path(script, run_name="__accel_worker__")


if __name__ == "__main__":
    main()
