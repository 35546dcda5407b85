"""COCO and VOC annotations: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accel.builtin.datasets import open_dataset
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from PIL import Image

INPUTS = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
STRETCH = Preprocessing(resize="stretch")


def coco(tmp_path: Path, **changes: Any) -> Path:
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    content = {
        "info": {"year": 2017},
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 30, "width": 40},
            {"id": 3, "file_name": "b.jpg", "height": 30, "width": 40},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [1, 2, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 2, "bbox": [0.5, 0, 4, 4], "area": 16, "iscrowd": 1},
        ],
        **changes,
    }
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_coco_boxes_classes_and_order(tmp_path: Path) -> None:
    data = open_dataset(coco(tmp_path), INPUTS, STRETCH)
    first, second = data
    assert [first.name, second.name] == ["a.jpg", "b.jpg"]
    assert data.labels == ("cat", "dog")
    assert first.label.boxes.tolist() == [[1, 2, 11, 22], [0.5, 0, 4.5, 4]]
    assert first.label.classes.tolist() == [1, 0]
    assert first.label.areas.tolist() == [150.5, 16]
    assert first.label.crowd.tolist() == [False, True]
    assert len(second.label) == 0
    assert first.meta["original_size"] == (30, 40)


def test_coco_labels_and_folder(tmp_path: Path) -> None:
    path = coco(tmp_path)
    labels = tmp_path / "labels.txt"
    labels.write_text("dog\ncow\ncat\n")
    moved = tmp_path / "pictures"
    moved.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).rename(moved / name)
    with pytest.raises(AccelError, match="are not in") as caught:
        open_dataset(path, INPUTS, STRETCH)
    assert "images=FOLDER" in caught.value.hints[0]
    options = {"labels": str(labels), "images": str(moved)}
    assert next(iter(open_dataset(f"coco:{path}", INPUTS, STRETCH, options))).label.classes.tolist() == [0, 2]
    labels.write_text("dog\n")
    with pytest.raises(AccelError, match="has no 'cat'"):
        open_dataset(path, INPUTS, STRETCH, options)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"images": []}, "data.empty"),
        ({"images": [{"id": 7}]}, "data.unreadable"),
        ({"images": [{"id": 7, "file_name": "../a.jpg"}], "annotations": []}, "data.path"),
        ({"images": [{"id": 7, "file_name": "/etc/a.jpg"}], "annotations": []}, "data.path"),
        ({"categories": []}, "data.unreadable"),
        ({"annotations": [{"image_id": 99, "category_id": 2, "bbox": [0, 0, 1, 1]}]}, "data.unreadable"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [0, 0, 1]}]}, "data.unreadable"),
    ],
)
def test_broken_coco_is_refused(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(AccelError) as caught:
        open_dataset(coco(tmp_path, **changes), INPUTS, STRETCH)
    assert caught.value.code == code
    assert caught.value.cause


def test_truncated_and_deeply_nested_json(tmp_path: Path) -> None:
    path = coco(tmp_path)
    for content in (path.read_text()[:100], "[" * 100_000, '{"images": "' + "x" * 10, ""):
        path.write_text(content)
        with pytest.raises(AccelError) as caught:
            open_dataset(path, INPUTS, STRETCH)
        assert caught.value.code == "data.unreadable"


def test_coco_pictures_that_are_missing_or_of_another_size_are_named(tmp_path: Path) -> None:
    path = coco(tmp_path)
    (tmp_path / "b.jpg").unlink()
    Image.new("RGB", (41, 30)).save(tmp_path / "a.jpg")
    data = open_dataset(path, INPUTS, STRETCH, {"skip_bad": "1"})
    (tmp_path / "c").mkdir()
    assert list(data) == []
    assert "41x30" in data.skipped["a.jpg"]
    assert "does not exist" in data.skipped["b.jpg"]


BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"


def voc(tmp_path: Path, body: str = "", head: str = "") -> Path:
    root = tmp_path / "VOC2007"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("000001", "000002"):
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
        size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(
            f"{head}<annotation><filename>../../../etc/passwd</filename>{size}{body}</annotation>"
        )
    (root / "ImageSets" / "Main" / "test.txt").write_text("000002  1\n")
    return root


def test_voc_boxes_are_made_continuous(tmp_path: Path) -> None:
    body = (
        f"<object><name>dog</name><difficult>1</difficult>{BOX.format(1, 1, 40, 30)}</object>"
        f"<object><name>aeroplane</name>{BOX.format(2.5, 3, 4, 5)}</object>"
    )
    data = open_dataset(voc(tmp_path, body), INPUTS, STRETCH)
    assert [s.name for s in data] == ["000001", "000002"]
    truth = next(iter(data)).label
    assert truth.boxes.tolist() == [[0, 0, 40, 30], [1.5, 2, 4, 5]]
    assert truth.classes.tolist() == [11, 0]
    assert truth.difficult.tolist() == [True, False]
    assert truth.areas.tolist() == [1200, 7.5]
    assert [s.name for s in open_dataset(f"voc:{data_root(tmp_path)}", INPUTS, STRETCH, {"set": "test"})] == ["000002"]


def data_root(tmp_path: Path) -> Path:
    return tmp_path / "VOC2007"


BOMB = '<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("body", "head", "word"),
    [
        ("<object><name>&b;</name></object>", BOMB, "document type"),
        ("<object><name>unicorn</name></object>", "", "unicorn"),
        ("<object><name>dog</name></object>", "", "no bndbox"),
        (f"<object><name>dog</name>{BOX.format('x', 1, 2, 3)}</object>", "", "x"),
        ("<object>", "", "mismatched"),
        ("<a>" * 50_000, "", "xml"),
    ],
)
def test_broken_or_hostile_voc_is_named(tmp_path: Path, body: str, head: str, word: str) -> None:
    data = open_dataset(voc(tmp_path, body, head), INPUTS, STRETCH, {"skip_bad": "1"})
    assert list(data) == []
    assert word in data.skipped["000001"]
    assert "000001.xml" in data.skipped["000001"]


def test_voc_without_its_folders_or_set(tmp_path: Path) -> None:
    with pytest.raises(AccelError, match="Annotations"):
        open_dataset(f"voc:{tmp_path}", INPUTS, STRETCH)
    root = voc(tmp_path)
    for name, code in (("train", "data.unreadable"), ("../../x", "data.path")):
        with pytest.raises(AccelError) as caught:
            open_dataset(root, INPUTS, STRETCH, {"set": name})
        assert caught.value.code == code


def test_digest_follows_the_annotations(tmp_path: Path) -> None:
    root = voc(tmp_path)
    before = open_dataset(root, INPUTS, STRETCH).digest
    assert before == open_dataset(root, INPUTS, STRETCH).digest
    voc(tmp_path, f"<object><name>dog</name>{BOX.format(1, 1, 40, 30)}</object>")
    assert before != open_dataset(root, INPUTS, STRETCH).digest
    path = coco(tmp_path)
    first = open_dataset(path, INPUTS, STRETCH).digest
    assert first != open_dataset(coco(tmp_path, annotations=[]), INPUTS, STRETCH).digest
