"""PASCAL VOC: an xml of boxes a picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from accel.builtin.datasets.paths import below
from accel.builtin.datasets.picture_files import PictureFile, PictureFiles, empty_data, read_lines, unreadable
from accel.builtin.datasets.pictures import SUFFIXES, bad_sample
from accel.builtin.datasets.request import Request
from accel.builtin.datasets.streamed import file_fingerprint
from accel.builtin.datasets.truth import Boxes, make_boxes

# The 20 classes of VOC2007-2012 in the order of the development kit.
CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
LARGEST = 4 << 20
"""Bytes of an annotation file: a real one has a few thousand."""


def open_voc(request: Request) -> PictureFiles:
    """``voc:VOC2007``: a folder with ``Annotations`` and ``JPEGImages``.

    Options: ``set`` (a list in ``ImageSets/Main``, such as ``test``; default: every annotation), ``labels`` (names
    of other classes than VOC's 20).

    Raises:
        AccelError: ``data.unreadable``, ``data.empty``, ``data.path``, ``data.labels``.
    """
    root = request.path
    notes, pictures = root / "Annotations", root / "JPEGImages"
    for folder in (notes, pictures):
        if not folder.is_dir():
            raise unreadable(folder, FileNotFoundError(2, "VOC data has a folder of this name"))
    chosen = request.options.get("set", "")
    names = _of_set(root, chosen) if chosen else sorted(p.stem for p in notes.glob("*.xml"))
    if not names:
        raise empty_data(root, "there are no annotations")
    labels = request.labels() or CLASSES
    indices = {name: index for index, name in enumerate(labels)}

    def read(file: PictureFile, size: tuple[int, int]) -> Boxes:
        return read_annotation(file.label, indices, size, file.name)

    def content(file: PictureFile) -> bytes:
        return file_fingerprint(file.label)

    files = [
        PictureFile(name, _picture(below(pictures, name, str(root))), below(notes, f"{name}.xml", str(root)))
        for name in names
    ]
    return PictureFiles(files, request.preprocessor(), labels=labels, read_label=read, fingerprint_label=content)


def _of_set(root: Path, name: str) -> list[str]:
    path = below(root / "ImageSets" / "Main", f"{name}.txt", "the data option set")
    # Per-class lists have a second column: -1 (not there), 0 (difficult), 1.
    return [line.split()[0] for line in read_lines(path) if line.split()]


def _picture(stem: Path) -> Path:
    usual = stem.with_name(f"{stem.name}.jpg")
    if usual.is_file():
        return usual
    other = (stem.with_name(stem.name + suffix) for suffix in sorted(SUFFIXES))
    return next((path for path in other if path.is_file()), usual)


def read_annotation(path: Path, indices: dict[str, int], size: tuple[int, int], name: str) -> Boxes:
    """The objects of one xml file.

    VOC counts pixels from 1 and both ends belong to the box: (1, 1, 10, 10) becomes (0, 0, 10, 10).

    Raises:
        AccelError: ``data.sample`` for a file that is missing, broken, hostile or about another picture.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"{path.name} is larger than {LARGEST} bytes")
        root = parse_xml(path.read_bytes())
        declared = root.find("size")
        if declared is not None:
            stated = (int(_text(declared, "height")), int(_text(declared, "width")))
            if all(stated) and stated != size:
                raise ValueError(f"the picture is {size[1]}x{size[0]}, {path.name} says {stated[1]}x{stated[0]}")
        boxes, classes, difficult = [], [], []
        for item in root.iterfind("object"):
            label = _text(item, "name")
            if label not in indices:
                raise ValueError(f"{path.name} has the class {label!r}, which is not in the labels")
            box = item.find("bndbox")
            if box is None:
                raise ValueError(f"{path.name}: an object has no bndbox")
            x1, y1, x2, y2 = (float(_text(box, side)) for side in ("xmin", "ymin", "xmax", "ymax"))
            boxes.append((x1 - 1, y1 - 1, x2, y2))
            classes.append(indices[label])
            difficult.append(item.findtext("difficult", "0").strip() == "1")
    except (OSError, ValueError, expat.ExpatError) as error:
        raise bad_sample(name, f"{path.name}: {error}" if path.name not in str(error) else str(error)) from error
    return make_boxes(boxes, classes, difficult=difficult)


def parse_xml(data: bytes) -> ElementTree.Element:
    """Parse xml that may be hostile: a document type, and with it every entity, is refused.

    Raises:
        ValueError: it has a document type.
        expat.ExpatError: it is not xml.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data

    def refuse(*_: Any) -> NoReturn:
        raise ValueError("it declares a document type, which annotations do not need and attacks do")

    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)
    return builder.close()


def _text(element: ElementTree.Element, tag: str) -> str:
    found = element.findtext(tag)
    if found is None or not found.strip():
        raise ValueError(f"{element.tag} has no {tag}")
    return found.strip()
