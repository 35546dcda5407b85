"""One file a calibration: written atomically, checked when read, nothing unpickled.

Layout, little endian: magic (8 bytes), version (u32), length of the header (u64), SHA-256 of all that
follows (32 bytes), header (JSON), then for each tensor its counts (int64, negative then positive) and
its channel extremes (float32, low then high) and sums of channel means (int64).
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec
import numpy as np

from accel.calibration import Calibration, TensorStatistics
from accel.errors import AccelError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"accelcal"
VERSION = 1
_PREFIX = struct.Struct("<8sIQ32s")
SUFFIX = ".calib"


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    low: float
    high: float
    count: int
    nonfinite: int
    exponent: int
    negative: int
    positive: int
    channels: int  # -1: none
    averaged: int = -1  # channels with means; -1: none
    rows: int = 0


class _Header(msgspec.Struct, frozen=True):
    model_digest: str
    data_digest: str
    samples: int
    values: int
    tensors: list[_Tensor]


def pack(calibration: Calibration) -> tuple[bytes, str]:
    """The file's content and the SHA-256 (hex) in it."""
    header = msgspec.json.encode(
        _Header(
            calibration.model_digest,
            calibration.data_digest,
            calibration.samples,
            calibration.values,
            [_entry(name, stats) for name, stats in calibration.tensors.items()],
        )
    )
    body = b"".join([header, *_arrays(calibration)])
    digest = hashlib.sha256(body)
    return _PREFIX.pack(MAGIC, VERSION, len(header), digest.digest()) + body, digest.hexdigest()


def save(calibration: Calibration, path: Path) -> None:
    """Write ``calibration`` to ``path``; see :meth:`accel.calibration.Calibration.save`.

    Raises:
        AccelError: ``calibration.unwritable`` with the system's reason (no such folder, disk full).
    """
    content, _ = pack(calibration)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise AccelError(
            f"the calibration cannot be written to {path}",
            code="calibration.unwritable",
            stage="calibrate",
            cause=error.strerror or str(error),
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def load(path: Path) -> Calibration:
    """Read ``path``; see :meth:`accel.calibration.Calibration.load`."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        _refuse(path, error.strerror or str(error), error)
    if len(content) < _PREFIX.size:
        _refuse(path, "the file is too short" if MAGIC.startswith(content[:8]) else "it is no calibration file")
    magic, version, length, digest = _PREFIX.unpack_from(content)
    if magic != MAGIC:
        _refuse(path, "it is no calibration file")
    if version > VERSION:
        _refuse(path, f"it has version {version}; this accel reads up to {VERSION}", code="calibration.newer")
    body = memoryview(content)[_PREFIX.size :]
    if hashlib.sha256(body).digest() != digest:
        _refuse(path, "its digest does not match: truncated or changed")
    try:
        header = msgspec.json.decode(body[:length], type=_Header)
        tensors = dict(_tensors(header, body[length:]))
    except (msgspec.MsgspecError, ValueError, OverflowError) as error:
        _refuse(path, f"its header is wrong: {error}", error)
    return Calibration(header.model_digest, header.data_digest, header.samples, tensors, header.values)


def _refuse(path: Path, cause: str, error: Exception | None = None, code: str = "calibration.unreadable") -> NoReturn:
    hint = "Upgrade accel-core." if code.endswith("newer") else "Calibrate again: accel calibrate."
    raise AccelError(f"cannot read the calibration {path}", code=code, cause=cause, hints=[hint]) from error


def _entry(name: str, stats: TensorStatistics) -> _Tensor:
    return _Tensor(
        name=name,
        low=stats.low,
        high=stats.high,
        count=stats.count,
        nonfinite=stats.nonfinite,
        exponent=stats.exponent,
        negative=len(stats.negative),
        positive=len(stats.positive),
        channels=-1 if stats.channel_low is None else len(stats.channel_low),
        averaged=-1 if stats.channel_sum is None else len(stats.channel_sum),
        rows=stats.rows,
    )


def _arrays(calibration: Calibration) -> Iterator[bytes]:
    for stats in calibration.tensors.values():
        yield stats.negative.astype("<i8").tobytes()
        yield stats.positive.astype("<i8").tobytes()
        if stats.channel_low is not None and stats.channel_high is not None:
            yield stats.channel_low.astype("<f4").tobytes()
            yield stats.channel_high.astype("<f4").tobytes()
        if stats.channel_sum is not None:
            yield stats.channel_sum.astype("<i8").tobytes()


def _tensors(header: _Header, data: memoryview) -> Iterator[tuple[str, TensorStatistics]]:
    at = 0

    def take(count: int, dtype: str, native: type[np.generic]) -> np.ndarray:
        nonlocal at
        size = count * np.dtype(dtype).itemsize
        if count < 0 or at + size > len(data):
            raise ValueError("lengths exceed the file")
        found = np.frombuffer(data, dtype, count, at).astype(native)
        at += size
        return found

    for entry in header.tensors:
        negative, positive = take(entry.negative, "<i8", np.int64), take(entry.positive, "<i8", np.int64)
        low = high = None
        if entry.channels >= 0:
            low, high = take(entry.channels, "<f4", np.float32), take(entry.channels, "<f4", np.float32)
        sums = take(entry.averaged, "<i8", np.int64) if entry.averaged >= 0 else None
        yield (
            entry.name,
            TensorStatistics(
                name=entry.name,
                low=entry.low,
                high=entry.high,
                count=entry.count,
                nonfinite=entry.nonfinite,
                exponent=entry.exponent,
                negative=negative,
                positive=positive,
                channel_low=low,
                channel_high=high,
                channel_sum=sums,
                rows=entry.rows,
            ),
        )
    if at != len(data):
        raise ValueError("bytes are left over")
