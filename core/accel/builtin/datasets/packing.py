"""Writing Caffe's LMDB data: pictures, resized, shuffled, encoded, one Datum each."""

from __future__ import annotations

import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from accel.builtin.datasets.datum import Datum, raw_datum, serialize
from accel.builtin.datasets.lmdb_data import lmdb_package
from accel.builtin.datasets.picture_files import PictureFile, PictureFiles, list_file, picture_folder
from accel.builtin.datasets.pictures import Preprocessor, decode
from accel.builtin.datasets.streamed import StreamedDataset
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from accel.progress import step

COMMIT = 8 << 20
"""Bytes a transaction: bounds what is held in memory."""


@dataclass(frozen=True)
class PackOptions:
    """How pictures are written.

    Attributes:
        size: (height, width) to stretch to (as Caffe's convert_imageset does), or None: as they are.
        encoded: ``jpg`` or ``png``: files inside the Datum; empty: raw pixels, BGR.
        quality: Of ``jpg``, 1..95.
        gray: One channel.
        shuffle: Mix the order with this seed; None: keep it.
        skip_bad: Leave unreadable pictures out.
        root: Folder of a list's pictures.
        labels: Class names, for folders named by class.
    """

    size: tuple[int, int] | None = None
    encoded: str = ""
    quality: int = 95
    gray: bool = False
    shuffle: int | None = None
    skip_bad: bool = False
    root: Path | None = None
    labels: tuple[str, ...] = ()


def pack(source: Path, output: Path, options: PackOptions) -> tuple[int, dict[str, str]]:
    """Write a folder or list of pictures to the LMDB folder ``output``.

    Keys are ``00000000_name``, so that the order of reading is the order of writing. The folder appears whole.

    Returns:
        How many pictures were written, and the reason by name of those left out.

    Raises:
        AccelError: ``data.*`` for the pictures, ``usage.output`` when ``output`` exists, ``output.unwritable``.
    """
    if output.exists():
        raise AccelError(f"{output} exists already", code="usage.output", hints=["Remove it or choose another name."])
    files = list(_files(source, options))
    if options.shuffle is not None:
        random.Random(options.shuffle).shuffle(files)
    data = StreamedDataset(_Encoded(files, options), skip_bad=options.skip_bad)
    written = 0
    with _new_lmdb(output) as writer, step(f"pack {output.name}", len(data)) as progress:
        for sample in data:
            writer.put(f"{written:08d}_{sample.name}"[:_KEY].encode(), sample.meta["datum"])
            written += 1
            progress.advance()
        if not written:
            raise AccelError(f"no picture of {source} could be read", code="data.empty")
    return written, data.skipped


_KEY = 500  # LMDB's keys have at most 511 bytes.


def _files(source: Path, options: PackOptions) -> tuple[PictureFile, ...]:
    # The sources want a preprocessor; only their names and labels are used here.
    unused = Preprocessor(Preprocessing(size=(1, 1)), TensorSpec("data", "float32", ("n", 3, 1, 1)))
    found: PictureFiles
    if source.is_dir():
        found = picture_folder(source, unused, options.labels)
    else:
        found = list_file(source, unused, options.root, options.labels)
    return tuple(found.files)


class _Encoded:
    """A source of samples whose ``meta["datum"]`` is the message, made by the reading threads."""

    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, files: list[PictureFile], options: PackOptions) -> None:
        self._files, self._options = files, options

    def __len__(self) -> int:
        return len(self._files)

    def name(self, index: int) -> str:
        return self._files[index].name

    def load(self, index: int) -> Sample:
        file = self._files[index]
        return Sample(file.name, {}, file.label, {"datum": serialize(self._datum(file))})

    def _datum(self, file: PictureFile) -> Datum:
        options = self._options
        picture = decode(file.path, file.name)
        picture = picture.convert("L" if options.gray else "RGB")
        if options.size is not None and (picture.height, picture.width) != options.size:
            picture = picture.resize((options.size[1], options.size[0]), Image.Resampling.BILINEAR)
        label = int(file.label or 0)
        if not options.encoded:
            return raw_datum(picture, label)
        buffer = io.BytesIO()
        if options.encoded == "jpg":
            picture.save(buffer, "JPEG", quality=options.quality)
        else:
            picture.save(buffer, "PNG")
        return Datum(label=label, data=buffer.getvalue(), encoded=True)

    def fingerprint(self, index: int) -> bytes:
        return b""

    def settings(self) -> str:
        return ""


class _Writer:
    """Puts entries in transactions of :data:`COMMIT` bytes and lets the map grow."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._held: list[tuple[bytes, bytes]] = []
        self._bytes = 0

    def put(self, key: bytes, value: bytes) -> None:
        self._held.append((key, value))
        self._bytes += len(value)
        if self._bytes >= COMMIT:
            self.flush()

    def flush(self) -> None:
        lmdb = lmdb_package()
        while self._held:
            try:
                with self._environment.begin(write=True) as transaction, transaction.cursor() as cursor:
                    cursor.putmulti(self._held, append=True)
                self._held, self._bytes = [], 0
            except lmdb.MapFullError:
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)


@contextmanager
def _new_lmdb(output: Path) -> Iterator[_Writer]:
    """A writer into a folder beside ``output`` that takes its name when all went well."""
    lmdb = lmdb_package()
    temporary = ""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent)
        environment = lmdb.open(temporary, map_size=64 << 20, lock=False, writemap=False)
        try:
            writer = _Writer(environment)
            yield writer
            writer.flush()
        finally:
            environment.close()
        Path(temporary).chmod(0o755)
        Path(temporary).replace(output)
    except (OSError, lmdb.Error) as error:
        raise AccelError(f"cannot write {output}", code="output.unwritable", cause=str(error)) from error
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
