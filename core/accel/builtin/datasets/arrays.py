"""Ready-made arrays: ``.npy``, ``.npz`` and raw files, one a sample in a folder, or all samples in one file.

They are fed as they are: the preprocessing is for pictures.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.builtin.datasets.picture_files import empty_data, unreadable
from accel.builtin.datasets.pictures import bad_sample
from accel.builtin.datasets.streamed import file_fingerprint
from accel.dataset import Sample
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.model import TensorSpec

SUFFIXES = frozenset({".npy", ".npz", ".bin", ".raw"})
_LABELS = ("label", "labels")
_BROKEN = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, SyntaxError, MemoryError)


class ArrayFiles:
    """One ``.npy``, ``.npz`` or raw file a sample.

    ``.npy`` and raw files hold the only input, ``.npz`` files hold arrays by input name (and ``label``). The
    batch axis may be missing. Raw files hold the input's bytes in C order and little endian.
    """

    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, files: Sequence[Path], inputs: Sequence[TensorSpec]) -> None:
        self.files = files
        self.inputs = inputs

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files[index].name

    def load(self, index: int) -> Sample:
        path = self.files[index]
        try:
            arrays = self._read(path)
        except _BROKEN as error:
            raise bad_sample(path.name, str(error) or type(error).__name__) from error
        label = next((arrays.pop(k) for k in _LABELS if k in arrays and k not in _names(self.inputs)), None)
        feeds = {spec.name: one_sample(arrays, spec, self.inputs, path.name) for spec in self.inputs}
        return Sample(path.name, feeds, _plain(label), {"path": path})

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        suffix = path.suffix.lower()
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        spec = self._only(path)
        if suffix == ".npy":
            return {spec.name: np.load(path, allow_pickle=False)}
        shape = [d for d in spec.shape[1:] if isinstance(d, int)]
        if len(shape) != len(spec.shape) - 1:
            raise ValueError(f"the input {spec} has free dimensions, so a raw file does not say its shape")
        dtype = np.dtype(spec.dtype).newbyteorder("<")
        expected, found = int(np.prod(shape)) * dtype.itemsize, path.stat().st_size
        if expected != found:
            raise ValueError(f"it has {found} bytes, {spec} needs {expected}")
        return {spec.name: np.fromfile(path, dtype).astype(spec.dtype).reshape(shape)}

    def _only(self, path: Path) -> TensorSpec:
        if len(self.inputs) != 1:
            raise AccelError(
                f"{path.name} holds one array and the network has {len(self.inputs)} inputs",
                code="usage.input",
                hints=["Use .npz files with arrays named " + ", ".join(_names(self.inputs)) + "."],
            )
        return self.inputs[0]

    def fingerprint(self, index: int) -> bytes:
        return file_fingerprint(self.files[index])

    def settings(self) -> str:
        return "array files " + " ".join(map(str, self.inputs))


class ArrayStack:
    """All samples in one ``.npy`` or ``.npz`` file, along axis 0; read from disk one at a time."""

    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        self.path = path
        self.inputs = inputs
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None
        try:
            arrays = dict(self._open())
        except _BROKEN as error:
            raise unreadable(path, error) from error
        self._label = next((arrays.pop(k) for k in _LABELS if k in arrays and k not in _names(inputs)), None)
        self._arrays = {spec.name: _pick(arrays, spec, inputs, path.name) for spec in inputs}
        counts = {len(a) for a in self._arrays.values() if a.ndim}
        if self._label is not None:
            counts.add(len(self._label) if self._label.ndim else 1)
        if len(counts) != 1:
            raise AccelError(f"{path}: the arrays hold {sorted(counts)} samples", code="data.unreadable")
        self._count = counts.pop()
        if not self._count:
            raise empty_data(path, "it holds zero samples")

    def _open(self) -> Mapping[str, np.ndarray]:
        if self.path.suffix.lower() == ".npy":
            if len(self.inputs) != 1:
                raise ValueError(f"it holds one array and the network has {len(self.inputs)} inputs")
            return {self.inputs[0].name: _mapped(self.path)}
        self._unpacked = tempfile.TemporaryDirectory(prefix="accel-npz-")
        folder, arrays = Path(self._unpacked.name), {}
        with zipfile.ZipFile(self.path) as archive:
            for at, member in enumerate(archive.infolist()):
                target = folder / f"{at}.npy"  # a name of ours: the archive's own are not trusted
                with archive.open(member) as source, target.open("wb") as sink:
                    while block := source.read(1 << 20):
                        sink.write(block)
                arrays[member.filename.removesuffix(".npy")] = _mapped(target)
        return arrays

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"{self.path.name}[{index}]"

    def load(self, index: int) -> Sample:
        feeds = {}
        for spec in self.inputs:
            row = np.array(self._arrays[spec.name][index])
            feeds[spec.name] = one_sample({spec.name: row}, spec, self.inputs, self.name(index))
        return Sample(self.name(index), feeds, self._label_of(index), {"path": self.path})

    def _label_of(self, index: int) -> Any:
        return None if self._label is None else _plain(self._label[index] if self._label.ndim else self._label)

    def fingerprint(self, index: int) -> bytes:
        digest = hashlib.sha256(repr(self._label_of(index)).encode())
        for spec in self.inputs:
            row = np.ascontiguousarray(self._arrays[spec.name][index])
            digest.update(f"{row.dtype}{row.shape}".encode() + row.tobytes())
        return digest.digest()

    def settings(self) -> str:
        return "array stack " + " ".join(map(str, self.inputs))


def array_file(path: Path, inputs: Sequence[TensorSpec]) -> ArrayFiles | ArrayStack:
    """One file: a stack of samples when its arrays have the input's rank and a first axis of another size
    than the input's fixed batch, else a single sample."""
    if path.suffix.lower() not in (".npy", ".npz"):
        return ArrayFiles([path], inputs)
    stack = ArrayStack(path, inputs) if _is_stack(path, inputs) else None
    return stack or ArrayFiles([path], inputs)


def _is_stack(path: Path, inputs: Sequence[TensorSpec]) -> bool:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise unreadable(path, error) from error
    if isinstance(loaded, np.ndarray):
        return loaded.ndim == len(inputs[0].shape) and loaded.shape[0] != 1
    with loaded, zipfile.ZipFile(path) as archive:
        for spec in inputs:
            if f"{spec.name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{spec.name}.npy") as member:
                shape = _header_shape(member)
            return len(shape) == len(spec.shape) and shape[0] != 1
    return len(inputs) == 1


def _header_shape(member: Any) -> tuple[int, ...]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(member)[0]
    return shape


def _mapped(path: Path) -> np.ndarray:
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _names(inputs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in inputs]


def _pick(arrays: Mapping[str, np.ndarray], spec: TensorSpec, inputs: Sequence[TensorSpec], where: str) -> np.ndarray:
    if spec.name in arrays:
        return arrays[spec.name]
    if len(inputs) == 1 and len(arrays) == 1:
        return next(iter(arrays.values()))
    raise AccelError(
        f"{where} holds no array for the input {spec.name}",
        code="usage.input",
        cause=f"it holds: {', '.join(arrays) or 'nothing'}",
        hints=["Name the arrays like the inputs: " + ", ".join(_names(inputs)) + "."],
    )


def one_sample(
    arrays: Mapping[str, np.ndarray], spec: TensorSpec, inputs: Sequence[TensorSpec], where: str
) -> np.ndarray:
    """The array of one input with a batch axis of 1.

    Raises:
        AccelError: ``data.sample`` for a shape or dtype the input does not take.
    """
    array = _pick(arrays, spec, inputs, where)
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    fits = array.ndim == len(spec.shape) and all(
        at == 0 or isinstance(want, str) or want == have
        for at, (want, have) in enumerate(zip(spec.shape, array.shape, strict=True))
    )
    if not fits:
        raise bad_sample(where, f"its shape is {list(array.shape)}, the input is {spec}")
    if not np.can_cast(array.dtype, np.dtype(spec.dtype), "same_kind"):
        raise bad_sample(where, f"its dtype is {array.dtype}, the input is {spec}")
    return np.ascontiguousarray(array, dtype=spec.dtype)


def _plain(label: Any) -> Any:
    if isinstance(label, np.ndarray) and label.size == 1:
        return label.reshape(()).item()
    return label.item() if isinstance(label, np.generic) else label


def array_folder(root: Path, inputs: Sequence[TensorSpec]) -> ArrayFiles:
    """All array files of a folder, sorted by name."""
    return ArrayFiles(sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()), inputs)
