"""Finding out what a data set is from its path, or from ``kind:path``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from accel.builtin.datasets.arrays import SUFFIXES as ARRAY_SUFFIXES
from accel.builtin.datasets.arrays import array_file, array_folder
from accel.builtin.datasets.picture_files import empty_data, list_file, one_picture, picture_folder, unreadable
from accel.builtin.datasets.pictures import is_picture
from accel.builtin.datasets.request import Request
from accel.builtin.datasets.streamed import Source, StreamedDataset
from accel.errors import AccelError
from accel.preprocessing import Preprocessing

if TYPE_CHECKING:
    from accel.model import TensorSpec

TRUE = frozenset({"1", "true", "yes", "on"})


def open_dataset(
    source: str | Path,
    model_inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None = None,
    options: Mapping[str, str] | None = None,
) -> StreamedDataset:
    """Open a data set by its path, or by ``kind:path``.

    Kinds: ``folder``, ``list``, ``picture``, ``array``, ``coco``, ``voc``, ``masks``, ``imagenet``, ``lmdb``. Without
    one: a folder is an LMDB (``data.mdb``), VOC (``Annotations``), pictures (flat or a folder a class) or array files;
    ``.txt``/``.lst`` is a list, ``.json`` COCO, ``.npy``/``.npz``/``.bin``/``.raw`` arrays.

    Args:
        source: Where the data is.
        model_inputs: The network's inputs, batch axis first.
        preprocessing: How pictures become inputs; None: resized and cropped to the input, 0..255.
        options: ``labels`` (file of class names), ``root`` (folder of a list's pictures), ``skip_bad``,
            ``samples`` (at most so many), ``threads``, and those of the kind.

    Raises:
        AccelError: ``data.unreadable``, ``data.empty``, ``data.labels``, ``usage.preprocessing``, ``usage.data``.
    """
    given = dict(options or {})
    kind, path = split_kind(str(source))
    request = Request(path, model_inputs, preprocessing, given)
    opened = _OPENERS[kind or guess_kind(path)](request)
    return StreamedDataset(
        opened,
        skip_bad=given.get("skip_bad", "").lower() in TRUE,
        limit=_number(given, "samples"),
        threads=_number(given, "threads"),
    )


def split_kind(source: str) -> tuple[str, Path]:
    """``("list", path)`` of ``list:path``; an unknown word before the colon is part of the path."""
    kind, colon, rest = source.partition(":")
    return (kind, Path(rest)) if colon and kind in _OPENERS else ("", Path(source))


def guess_kind(path: Path) -> str:
    """The kind of data set a path looks like.

    Raises:
        AccelError: ``data.unreadable`` when there is nothing, ``usage.data`` when it looks like no data set.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return _kind_of_folder(path)
    if not path.exists():
        raise unreadable(path, FileNotFoundError(2, "no such file or folder"))
    if suffix in ARRAY_SUFFIXES:
        return "array"
    if is_picture(path):
        return "picture"
    if suffix == ".json":
        return "coco"
    if suffix in (".txt", ".lst", ".list"):
        return "list"
    raise AccelError(
        f"{path} is not a data set that the driver knows",
        code="usage.data",
        hints=["Give its kind, for example list:" + str(path) + ". Kinds: " + ", ".join(sorted(_OPENERS)) + "."],
    )


def _kind_of_folder(path: Path) -> str:
    if (path / "data.mdb").is_file():
        return "lmdb"
    if (path / "Annotations").is_dir() and (path / "JPEGImages").is_dir():
        return "voc"
    try:
        suffixes = {p.suffix.lower() for p in path.iterdir() if p.is_file()}
    except OSError as error:
        raise unreadable(path, error) from error
    return "array" if suffixes & ARRAY_SUFFIXES and not any(is_picture(Path(f"x{s}")) for s in suffixes) else "folder"


def _number(options: Mapping[str, str], name: str) -> int:
    text = options.get(name) or "0"
    if not (text.isascii() and text.isdigit()):
        raise AccelError(f"the data option {name} is not a whole number: {text!r}", code="usage.data")
    return int(text)


def _open_folder(request: Request) -> Source:
    return picture_folder(request.path, request.preprocessor(), request.labels())


def _open_list(request: Request) -> Source:
    source: Source = list_file(request.path, request.preprocessor(), request.folder("root"), request.labels())
    return source


def _open_picture(request: Request) -> Source:
    return one_picture(request.path, request.preprocessor())


def _open_array(request: Request) -> Source:
    if not request.path.is_dir():
        return array_file(request.path, request.inputs)
    found = array_folder(request.path, request.inputs)
    if not len(found):
        raise empty_data(request.path, "no array files in it")
    return found


def _later(module: str, name: str) -> Callable[[Request], Source]:
    """An opener whose module is imported when it is used."""

    def opened(request: Request) -> Source:
        found: Callable[[Request], Source] = getattr(import_module(f"accel.builtin.datasets.{module}"), name)
        return found(request)

    return opened


_OPENERS: dict[str, Callable[[Request], Source]] = {
    "folder": _open_folder,
    "list": _open_list,
    "picture": _open_picture,
    "array": _open_array,
    "coco": _later("coco", "open_coco"),
    "voc": _later("voc", "open_voc"),
    "masks": _later("masks", "open_masks"),
    "imagenet": _later("imagenet", "open_imagenet"),
    "lmdb": _later("lmdb_data", "open_lmdb"),
}
