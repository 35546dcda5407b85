"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running anything from the file.

A checkpoint is a pickle that rebuilds tensors over numbered storages. Here the pickle is first walked op by op
(only those that such a pickle needs are let through), then loaded with an unpickler that knows exactly
five names, each of them a harmless function of this module; any other name is refused.
Both layouts are read: the zip archive (PyTorch 1.6 and later) and the older stream of pickles.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_OPS = frozenset(
    {"PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"}
    | {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
    | {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS"}
    | {"EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"}
)


class UnsafeCheckpointError(ValueError):
    """The file holds something other than tensors."""


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a ``.pth`` file by name, in the file's order.

    Raises:
        UnsafeCheckpointError: The pickle asks for anything but tensors in dictionaries.
        ValueError: Not a checkpoint, or truncated.
    """
    try:
        loaded = _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except UnsafeCheckpointError:
        raise
    except (ArithmeticError, AttributeError, EOFError, LookupError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no readable checkpoint: {error}") from error
    except (pickle.UnpicklingError, struct.error, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no readable checkpoint: {error}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} holds a {type(loaded).__name__}, not a state dict")
    return {str(name): value for name, value in loaded.items() if isinstance(value, np.ndarray)}


class _Storage:
    """Numbers that tensors are views of; the legacy layout fills them in after the pickle."""

    def __init__(self, dtype: np.dtype[Any], count: int) -> None:
        self.dtype, self.count = dtype, count
        self.data: np.ndarray | None = None


class _Tensor:
    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride

    def array(self) -> np.ndarray:
        data = self.storage.data
        if data is None:
            raise ValueError("a tensor without data")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        if min((self.offset, *self.shape, *self.stride), default=0) < 0 or last >= max(data.size, 1):
            raise ValueError("a tensor reaches beyond its storage")
        strides = tuple(s * data.itemsize for s in self.stride)
        return np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides).copy()


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise UnsafeCheckpointError("a tensor over something that is no storage")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, stride)))


def _ordered_dict(*items: Any) -> dict[Any, Any]:
    # A subclass, since the pickle then sets the attribute _metadata on it.
    return collections.OrderedDict(*items)


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _ordered_dict
        if (module, name) in (("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor")):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return name
        raise UnsafeCheckpointError(f"the file asks for {module}.{name}; only tensors are read")

    def persistent_load(self, pid: Any) -> Any:
        kind, storage_type, key, _location, count = pid[:5]
        if kind != "storage" or storage_type not in _DTYPES or (len(pid) > 5 and pid[5] is not None):
            raise UnsafeCheckpointError(f"the file refers to {kind!r}; only plain storages are read")
        return self.storages.setdefault(str(key), _Storage(_DTYPES[storage_type], int(count)))


def _load(file: BinaryIO) -> tuple[Any, dict[str, _Storage]]:
    """One pickle from ``file``, which is left just behind it."""
    start = file.tell()
    for steps, (op, argument, _) in enumerate(pickletools.genops(file)):
        if op.name not in _OPS:
            raise UnsafeCheckpointError(f"the file uses the pickle operation {op.name}; only tensors are read")
        if op.name == "LONG_BINPUT" and argument > steps:  # the unpickler allocates that many slots
            raise UnsafeCheckpointError("the pickle's memo is malformed")
    end = file.tell()
    file.seek(start)
    unpickler = _Unpickler(io.BytesIO(file.read(end - start)))
    loaded = unpickler.load()
    return loaded, unpickler.storages


def _arrays(loaded: Any) -> Any:
    if isinstance(loaded, _Tensor):
        return loaded.array()
    if isinstance(loaded, dict):
        return {name: _arrays(value) if isinstance(value, _Tensor) else value for name, value in loaded.items()}
    return loaded


def _read_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if _load(file)[0] != _LEGACY_MAGIC:
            raise ValueError("no PyTorch checkpoint")
        _load(file)  # protocol version
        _load(file)  # sizes of the writer's C types
        loaded, storages = _load(file)
        keys, _ = _load(file)
        for key in keys:
            storage = storages[str(key)]
            (count,) = struct.unpack("<q", file.read(8))
            if count != storage.count:
                raise ValueError(f"storage {key} has {count} elements where {storage.count} were announced")
            storage.data = np.frombuffer(file.read(count * storage.dtype.itemsize), storage.dtype, count)
    return _arrays(loaded)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickled = next((n for n in names if n.endswith("/data.pkl")), "")
        root = pickled.removesuffix("data.pkl")
        if not pickled:
            raise ValueError("no PyTorch checkpoint")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise ValueError("written by a big-endian machine")
        loaded, storages = _load(io.BytesIO(archive.read(pickled)))
        for key, storage in storages.items():
            storage.data = np.frombuffer(archive.read(f"{root}data/{key}"), storage.dtype, storage.count)
    return _arrays(loaded)
