"""Pictures in files: a folder (flat, or a folder a class), a list file, or one picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accel.builtin.datasets.labels import check_labels
from accel.builtin.datasets.pictures import Preprocessor, decode, is_picture
from accel.builtin.datasets.streamed import file_fingerprint
from accel.dataset import Sample
from accel.errors import AccelError


@dataclass(frozen=True)
class PictureFile:
    """One picture on disk: what it is called, where it is, and its ground truth."""

    name: str
    path: Path
    label: Any = None


class PictureFiles:
    """A :class:`~accel.builtin.datasets.streamed.Source` of picture files.

    Args:
        files: The pictures, in order.
        preprocessor: Makes the input.
        labels: Class names by index.
        notes: Decisions taken on opening.
        read_label: Makes the ground truth of a picture file of (height, width) when the sample is read (a mask
            file into an array); None: ``PictureFile.label`` is the ground truth.
        fingerprint_label: What the label stands for, for the digest; None: ``PictureFile.label``.
    """

    def __init__(
        self,
        files: Sequence[PictureFile],
        preprocessor: Preprocessor,
        *,
        labels: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        read_label: Callable[[PictureFile, tuple[int, int]], Any] | None = None,
        fingerprint_label: Callable[[PictureFile], object] | None = None,
    ) -> None:
        self.files = files
        self.preprocessor = preprocessor
        self.labels = labels
        self.notes = notes
        self._read_label = read_label
        self._fingerprint_label = fingerprint_label

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        return self.files[index].name

    def load(self, index: int) -> Sample:
        file = self.files[index]
        array, geometry = self.preprocessor(decode(file.path, file.name))
        label = self._read_label(file, geometry.original_size) if self._read_label else file.label
        meta = {**geometry.as_meta(), "path": file.path}
        return Sample(file.name, {self.preprocessor.spec.name: array}, label, meta)

    def fingerprint(self, index: int) -> bytes:
        file = self.files[index]
        extra = self._fingerprint_label(file) if self._fingerprint_label else file.label
        return file_fingerprint(file.path, extra)

    def settings(self) -> str:
        return f"pictures {self.preprocessor.spec} {self.preprocessor.preprocessing!r}"


def one_picture(path: Path, preprocessor: Preprocessor) -> PictureFiles:
    """A data set of a single picture."""
    return PictureFiles([PictureFile(path.name, path)], preprocessor)


def picture_folder(root: Path, preprocessor: Preprocessor, labels: tuple[str, ...] = ()) -> PictureFiles:
    """A folder of pictures without labels, or of one folder a class.

    A class folder's index is, in this order: its position in ``labels`` if every folder name is there; the
    folder's name if all are whole numbers; its position among the sorted names (torchvision's ImageFolder).

    Raises:
        AccelError: ``data.empty``, ``data.unreadable``, ``data.mixed`` or ``data.labels``.
    """
    loose = pictures_below(root, recursive=False)
    folders = {f.name: pictures_below(f) for f in sorted(_listing(root)) if f.is_dir() and not f.name.startswith(".")}
    folders = {name: found for name, found in folders.items() if found}
    if loose and folders:
        raise AccelError(
            f"{root} holds both pictures and folders of pictures",
            code="data.mixed",
            cause=f"{loose[0].name} lies beside the folder {next(iter(folders))}",
            hints=["Keep either pictures only, or one folder a class."],
        )
    if not loose and not folders:
        raise empty_data(root, "no pictures in it")
    if loose:
        return PictureFiles([PictureFile(p.name, p) for p in loose], preprocessor, labels=labels)
    indices, how = class_indices(list(folders), labels)
    if labels:
        check_labels(labels, max(indices.values()) + 1, f"the folder {root}")
    files = [
        PictureFile(path.relative_to(root).as_posix(), path, indices[name])
        for name, found in folders.items()
        for path in found
    ]
    note = f"{root.name}: {len(folders)} class folders, numbered by {how}"
    names = labels or (tuple(folders) if how == "sorted name" else ())
    return PictureFiles(files, preprocessor, labels=names, notes=(note,))


def class_indices(folders: Sequence[str], labels: tuple[str, ...]) -> tuple[dict[str, int], str]:
    """Class index by folder name, and the rule that gave it."""
    known = {name: index for index, name in reversed(list(enumerate(labels)))}
    if labels and all(f in known for f in folders):
        return {f: known[f] for f in folders}, "position in the label file"
    if all(f.isascii() and f.isdigit() for f in folders):
        return {f: int(f) for f in folders}, "their own number"
    return {f: index for index, f in enumerate(sorted(folders))}, "sorted name"


def list_file(
    path: Path, preprocessor: Preprocessor, root: Path | None = None, labels: tuple[str, ...] = ()
) -> PictureFiles:
    """A text file with ``picture label`` a line (the label may be missing everywhere).

    The label is a class index: the last word of the line. Relative pictures lie below ``root``, or beside the
    list. Blank lines and lines that start with ``#`` are skipped.

    Raises:
        AccelError: ``data.unreadable``, ``data.empty``, ``data.list`` (with the line number) or ``data.labels``.
    """
    base = root or path.parent
    files: list[PictureFile] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, last = line.strip().rpartition(" ") if " " in line.strip() else line.strip().rpartition("\t")
        if name and last.isascii() and last.isdigit():
            files.append(PictureFile(name.strip(), base / name.strip(), int(last)))
        elif is_picture(Path(line.strip())):
            files.append(PictureFile(line.strip(), base / line.strip()))
        else:
            raise AccelError(
                f"{path}, line {number} is not 'picture label'",
                code="data.list",
                cause=repr(line[:200]),
                hints=["Write one picture a line: its path, a blank and the class index."],
            )
    if not files:
        raise empty_data(path, "the list names no pictures")
    found = [f.label for f in files if f.label is not None]
    if found and len(found) != len(files):
        bare = next(f.name for f in files if f.label is None)
        raise AccelError(f"{path}: some pictures have a label and {bare} has none", code="data.list")
    if found and labels:
        check_labels(labels, max(found) + 1, f"the list {path.name}")
    return PictureFiles(files, preprocessor, labels=labels)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file; AccelError ``data.unreadable`` when it is none."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def pictures_below(folder: Path, *, recursive: bool = True) -> list[Path]:
    """Pictures in a folder, sorted by path; hidden files are left out.

    Raises:
        AccelError: ``data.unreadable`` when a folder cannot be listed.
    """
    if not recursive:
        return sorted(p for p in _listing(folder) if is_picture(p) and p.is_file() and not p.name.startswith("."))

    def refuse(error: OSError) -> None:
        raise unreadable(folder, error) from error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(parent) / n for n in names if not n.startswith(".") and is_picture(Path(n))]
    return sorted(found)


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise unreadable(folder, error) from error


def unreadable(path: Path, error: Exception) -> AccelError:
    """The error for a data set that cannot be opened."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return AccelError(
        f"cannot read the data set {path}",
        code="data.unreadable",
        cause=reason,
        hints=["Check the path and its permissions."],
    )


def empty_data(path: Path, reason: str) -> AccelError:
    """The error for a data set without samples."""
    return AccelError(
        f"the data set {path} is empty",
        code="data.empty",
        cause=reason,
        hints=["Give a folder of pictures, a list file, or .npy/.npz files."],
    )
