"""ImageNet's validation pictures with synset labels (ILSVRC2012)."""

from __future__ import annotations

import re
from pathlib import Path

from accel.builtin.datasets.picture_files import (
    PictureFile,
    PictureFiles,
    empty_data,
    pictures_below,
    read_lines,
    unreadable,
)
from accel.builtin.datasets.request import Request
from accel.errors import AccelError

_SYNSET = re.compile(r"n\d{8}")
CLASSES = 1000


def open_imagenet(request: Request) -> PictureFiles:
    """``imagenet:FOLDER``: a folder a synset, or all pictures in one with the option ``truth``.

    A class's index is the position of its synset in the option ``synsets`` (``n01440764 tench`` a line, any order
    the network was trained with), or among the 1000 sorted ones.

    ``truth`` holds ``picture synset`` (or ``picture index``) a line; the ``ImageId,PredictionString`` table of the
    Kaggle edition is read too.

    Raises:
        AccelError: ``data.unreadable``, ``data.empty``, ``data.labels``, ``data.list``.
    """
    root = request.path
    if not root.is_dir():
        raise unreadable(root, NotADirectoryError(20, "it is not a folder"))
    given = request.folder("synsets")
    none: tuple[dict[str, int], tuple[str, ...]] = ({}, ())
    order, names = read_synsets(given) if given else none
    truth = request.folder("truth")
    files = _by_truth(root, truth, order) if truth else _by_folder(root, order)
    return PictureFiles(files, request.preprocessor(), labels=request.labels() or names)


def read_synsets(path: Path) -> tuple[dict[str, int], tuple[str, ...]]:
    """Index by synset, and the first name of each.

    Raises:
        AccelError: ``data.labels`` for a line that does not begin with a synset.
    """
    order: dict[str, int] = {}
    names: list[str] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        synset, _, name = line.strip().partition(" ")
        if not _SYNSET.fullmatch(synset) or synset in order:
            raise AccelError(f"{path}, line {number} is not 'synset name'", code="data.labels", cause=repr(line[:200]))
        order[synset] = len(order)
        names.append(name.partition(",")[0].strip() or synset)
    return order, tuple(names)


def _by_folder(root: Path, order: dict[str, int]) -> list[PictureFile]:
    folders = sorted(p for p in root.iterdir() if p.is_dir() and _SYNSET.fullmatch(p.name))
    if not folders:
        raise empty_data(root, "no folders named by synset (n01440764); for pictures in one folder give truth=FILE")
    if not order:
        if len(folders) != CLASSES:
            raise AccelError(
                f"{root} has {len(folders)} synsets: their class indices are not known",
                code="data.labels",
                cause=f"only among all {CLASSES} does the sorted position give the index",
                hints=["Give the list of synsets with the data option synsets=FILE."],
            )
        order = {folder.name: index for index, folder in enumerate(folders)}
    return [
        PictureFile(path.relative_to(root).as_posix(), path, _index(folder.name, order, folder.name))
        for folder in folders
        for path in pictures_below(folder)
    ]


def _by_truth(root: Path, truth: Path, order: dict[str, int]) -> list[PictureFile]:
    labels = {}
    for number, line in enumerate(read_lines(truth), 1):
        parts = line.replace(",", " ").split()
        if len(parts) < 2 or parts[0] == "ImageId":
            continue
        labels[Path(parts[0]).stem] = _index(parts[1], order, f"{truth}, line {number}")
    files = []
    for path in pictures_below(root):
        if path.stem not in labels:
            raise AccelError(f"{truth} has no label for {path.name}", code="data.list")
        files.append(PictureFile(path.name, path, labels[path.stem]))
    if not files:
        raise empty_data(root, "no pictures in it")
    return files


def _index(word: str, order: dict[str, int], where: str) -> int:
    if word in order:
        return order[word]
    if word.isascii() and word.isdigit():
        return int(word)
    raise AccelError(
        f"{where}: the class {word!r} is not known",
        code="data.labels",
        hints=["Give the list of synsets with the data option synsets=FILE."],
    )
