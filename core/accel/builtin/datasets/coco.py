"""COCO: one json of pictures, categories and boxes."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from accel.builtin.datasets.paths import below
from accel.builtin.datasets.picture_files import PictureFile, PictureFiles, empty_data, unreadable
from accel.builtin.datasets.pictures import bad_sample
from accel.builtin.datasets.request import Request
from accel.builtin.datasets.truth import Boxes, make_boxes
from accel.errors import AccelError


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int = 0
    width: int = 0


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    area: float | None = None
    iscrowd: int = 0


class _Coco(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] = []


def open_coco(request: Request) -> PictureFiles:
    """``coco:instances.json`` with the option ``images`` (folder; default: found beside the json).

    A class's index is its position among the category ids in rising order, or in the option ``labels`` by name.

    Raises:
        AccelError: ``data.unreadable`` for a file that is not COCO's json or whose pictures are nowhere,
            ``data.path`` for pictures outside their folder, ``data.empty``, ``data.labels``.
    """
    path = request.path
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Coco)
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise unreadable(path, error) from error
    if not content.images:
        raise empty_data(path, "it lists no images")
    labels, indices = _classes(content, request.labels(), path)
    folder = request.folder("images") or _guess_folder(path, content.images[0].file_name)
    truth = _boxes(content, indices, path)
    files, sizes = [], {}
    for image in content.images:
        files.append(PictureFile(image.file_name, below(folder, image.file_name, str(path)), truth[image.id]))
        sizes[image.file_name] = (image.height, image.width)
    if not any(file.path.is_file() for file in files):
        raise AccelError(
            f"the pictures of {path} are not in {folder}",
            code="data.unreadable",
            cause=f"{files[0].name} and {len(files) - 1} others do not exist there",
            hints=["Give their folder with the data option images=FOLDER."],
        )

    def read(file: PictureFile, size: tuple[int, int]) -> Any:
        declared = sizes[file.name]
        if all(declared) and declared != size:
            stated = f"{declared[1]}x{declared[0]}"
            raise bad_sample(file.name, f"the picture is {size[1]}x{size[0]}, the json says {stated}")
        return file.label

    return PictureFiles(files, request.preprocessor(), labels=labels, read_label=read)


def _classes(content: _Coco, labels: tuple[str, ...], path: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    ordered = sorted(content.categories, key=lambda c: c.id)
    if not labels:
        return tuple(c.name for c in ordered), {c.id: index for index, c in enumerate(ordered)}
    known = {name: index for index, name in enumerate(labels)}
    if missing := [c.name for c in ordered if c.name not in known]:
        raise AccelError(
            f"the label file has no {missing[0]!r}, which {path} does",
            code="data.labels",
            hints=["Leave the label file away, or give one with all the categories."],
        )
    return labels, {c.id: known[c.name] for c in ordered}


def _boxes(content: _Coco, indices: dict[int, int], path: Path) -> dict[int, Boxes]:
    by_image: dict[int, list[_Annotation]] = defaultdict(list)
    known = {image.id for image in content.images}
    for annotation in content.annotations:
        if annotation.category_id not in indices or annotation.image_id not in known:
            raise AccelError(
                f"{path} is inconsistent",
                code="data.unreadable",
                cause=f"an annotation of image {annotation.image_id} has the category {annotation.category_id}; "
                "one of them is not listed",
            )
        if annotation.bbox is not None:
            by_image[annotation.image_id].append(annotation)
    return {image: _of_one(by_image.get(image, []), indices) for image in known}


def _of_one(rows: list[_Annotation], indices: dict[int, int]) -> Boxes:
    corners = np.asarray([row.bbox for row in rows], np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    plain = make_boxes(corners, [indices[row.category_id] for row in rows])
    areas = [own if row.area is None else row.area for row, own in zip(rows, plain.areas, strict=True)]
    return make_boxes(corners, plain.classes, areas=areas, crowd=[bool(row.iscrowd) for row in rows])


def _guess_folder(path: Path, first: str) -> Path:
    """Where the first picture is: beside the json, or in COCO's own layout (annotations/instances_val2017.json)."""
    split = path.stem.rpartition("_")[2]
    for folder in (path.parent, path.parent / "images", path.parent.parent / split, path.parent.parent / "images"):
        if below(folder, first, str(path)).is_file():
            return folder
    return path.parent
