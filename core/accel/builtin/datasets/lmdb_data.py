"""Caffe's LMDB data: a Datum a picture. Needs the package lmdb (``accel-core[lmdb]``)."""

from __future__ import annotations

import hashlib
import itertools
import threading
from pathlib import Path
from typing import Any

from accel.builtin.datasets.datum import parse, picture_of
from accel.builtin.datasets.picture_files import empty_data, unreadable
from accel.builtin.datasets.pictures import Preprocessor, bad_sample
from accel.builtin.datasets.request import Request
from accel.dataset import Sample
from accel.errors import AccelError


def lmdb_package() -> Any:
    """The package lmdb.

    Raises:
        AccelError: ``usage.extra`` when it is not installed.
    """
    try:
        import lmdb
    except ImportError as error:
        raise AccelError(
            "LMDB data needs the package lmdb", code="usage.extra", hints=["pip install 'accel-core[lmdb]'"]
        ) from error
    return lmdb


def open_lmdb(request: Request) -> LmdbPictures:
    """``lmdb:FOLDER`` with the options ``raw_order`` (``bgr``; ``rgb``: channels of raw pixels) and ``labels``.

    Raises:
        AccelError: ``data.unreadable`` when it is no LMDB, ``data.empty``, ``usage.extra``.
    """
    order = request.options.get("raw_order", "bgr")
    if order not in ("bgr", "rgb"):
        raise AccelError(f"raw_order={order!r} is neither bgr nor rgb", code="usage.data")
    return LmdbPictures(request.path, request.preprocessor(), order, request.labels())


MAPPED = 16 << 20
"""Bytes read before the map is renewed: pages that were read count as ours until then."""


KEYS = 1000
"""Keys read before the map is renewed."""


class LmdbPictures:
    """A :class:`~accel.builtin.datasets.streamed.Source`: only the keys are held."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, preprocessor: Preprocessor, order: str, labels: tuple[str, ...] = ()) -> None:
        lmdb = lmdb_package()
        self._path, self._lock, self._read = path, threading.Lock(), 0
        if not path.exists() or (path.is_dir() and not (path / "data.mdb").is_file()):
            raise unreadable(path, FileNotFoundError(2, "there is no data.mdb in it"))
        self.labels = labels
        self._preprocessor, self._order = preprocessor, order
        try:
            self._environment = self._open()
            self._keys = self._all_keys()
        except lmdb.Error as error:
            raise unreadable(path, ValueError(f"LMDB says: {error}")) from error
        if not self._keys:
            raise empty_data(path, "the LMDB holds no entries")

    def __len__(self) -> int:
        return len(self._keys)

    def name(self, index: int) -> str:
        return self._keys[index].decode("utf-8", errors="backslashreplace")

    def _all_keys(self) -> list[bytes]:
        """Every key, in order; the map is renewed now and then, like when values are read."""
        keys: list[bytes] = []
        while True:
            with self._environment.begin() as transaction, transaction.cursor() as cursor:
                if not (cursor.set_range(keys[-1]) and cursor.next() if keys else cursor.first()):
                    return keys
                some = itertools.islice(cursor.iternext(values=False), KEYS)
                keys += [bytes(key) for key in some]
            self._environment.close()
            self._environment = self._open()

    def _open(self) -> Any:
        # Nobody writes while we read: no lock file is needed, and the folder may be read-only.
        return lmdb_package().open(str(self._path), subdir=self._path.is_dir(), readonly=True, create=False, lock=False)

    def _value(self, index: int) -> bytes:
        with self._lock:
            if self._read > MAPPED:
                self._environment.close()
                self._environment, self._read = self._open(), 0
            with self._environment.begin() as transaction:
                value = bytes(transaction.get(self._keys[index]))
            self._read += len(value)
            return value

    def load(self, index: int) -> Sample:
        name = self.name(index)
        try:
            datum = parse(self._value(index))
            picture = picture_of(datum, self._order)
        except (ValueError, OSError, SyntaxError) as error:
            raise bad_sample(name, str(error) or type(error).__name__) from error
        array, geometry = self._preprocessor(picture)
        meta = {**geometry.as_meta(), "picture": lambda: picture_of(parse(self._value(index)), self._order)}
        return Sample(name, {self._preprocessor.spec.name: array}, datum.label, meta)

    def fingerprint(self, index: int) -> bytes:
        return hashlib.sha256(self._value(index)).digest()

    def settings(self) -> str:
        return f"lmdb {self._order} {self._preprocessor.spec} {self._preprocessor.preprocessing!r}"
