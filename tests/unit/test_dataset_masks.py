"""Segmentation masks and ImageNet's synsets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accel.builtin.datasets import open_dataset
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from PIL import Image

INPUTS = (TensorSpec("x", "float32", (1, 3, 8, 8)),)
STRETCH = Preprocessing(resize="stretch")
TRUTH = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
COLORS = "10 20 30 sky\n40 50 60 road\n70 80 90 car\n"


def scene(tmp_path: Path, kind: str) -> dict[str, str]:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "pictures" / "a.png")
    mask = Image.fromarray(TRUTH)
    options = {"masks": str(tmp_path / "masks")}
    name = "a.png"
    if kind == "palette":
        mask.putpalette([v for k in range(256) for v in (k, 0, 0)])
    if kind == "colors":
        rows = [tuple(map(int, line.split()[:3])) for line in COLORS.splitlines()]
        pixels = np.array([[rows[k] if k < 3 else (1, 1, 1) for k in row] for row in TRUTH], np.uint8)
        mask = Image.fromarray(pixels)
        (tmp_path / "colors.txt").write_text(COLORS)
        options |= {"palette": str(tmp_path / "colors.txt"), "mask_suffix": "_L"}
        name = "a_L.png"
    mask.save(tmp_path / "masks" / name)
    return options


@pytest.mark.parametrize("kind", ["gray", "palette", "colors"])
def test_masks_in_every_form(tmp_path: Path, kind: str) -> None:
    options = scene(tmp_path, kind)
    data = open_dataset(f"masks:{tmp_path / 'pictures'}", INPUTS, STRETCH, options)
    (sample,) = data
    assert sample.label.tolist() == TRUTH.tolist()
    if kind == "colors":
        assert data.labels == ("sky", "road", "car")


def test_wrong_masks_are_named(tmp_path: Path) -> None:
    options = scene(tmp_path, "gray")
    source = f"masks:{tmp_path / 'pictures'}"
    mask = tmp_path / "masks" / "a.png"
    before = open_dataset(source, INPUTS, STRETCH, options).digest

    def reason() -> str:
        with pytest.raises(AccelError, match=r"a\.png") as caught:
            list(open_dataset(source, INPUTS, STRETCH, options))
        assert caught.value.code == "data.sample"
        return caught.value.cause

    Image.new("L", (3, 3)).save(mask)
    assert "3x3, the picture is 3x2" in reason()
    assert open_dataset(source, INPUTS, STRETCH, options).digest != before
    Image.new("RGB", (3, 2)).save(mask)
    assert "palette=FILE" in reason()
    mask.write_bytes(b"no picture")
    assert "a.png" in reason()
    mask.unlink()
    assert "no such file" in reason()
    with pytest.raises(AccelError) as caught:
        open_dataset(source, INPUTS, STRETCH)
    assert caught.value.code == "data.unreadable"
    assert "masks=FOLDER" in caught.value.cause


def imagenet(tmp_path: Path) -> Path:
    for synset in ("n01440764", "n01443537"):
        (tmp_path / "val" / synset).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "val" / synset / f"{synset}_1.JPEG")
    return tmp_path / "val"


def test_imagenet_by_synset_folders(tmp_path: Path) -> None:
    root = imagenet(tmp_path)
    with pytest.raises(AccelError, match="2 synsets") as caught:
        open_dataset(f"imagenet:{root}", INPUTS, STRETCH)
    assert "synsets=FILE" in caught.value.hints[0]
    order = tmp_path / "synsets.txt"
    order.write_text("n01443537 goldfish, Carassius auratus\nn99999999 other\nn01440764 tench, Tinca tinca\n")
    data = open_dataset(f"imagenet:{root}", INPUTS, STRETCH, {"synsets": str(order)})
    assert [(s.name, s.label) for s in data] == [
        ("n01440764/n01440764_1.JPEG", 2),
        ("n01443537/n01443537_1.JPEG", 0),
    ]
    assert data.labels == ("goldfish", "other", "tench")
    order.write_text("goldfish\n")
    with pytest.raises(AccelError, match="line 1"):
        open_dataset(f"imagenet:{root}", INPUTS, STRETCH, {"synsets": str(order)})


def test_imagenet_by_truth_file(tmp_path: Path) -> None:
    root = tmp_path / "val"
    root.mkdir()
    for at in (1, 2):
        Image.new("RGB", (9, 9)).save(root / f"ILSVRC2012_val_0000000{at}.JPEG")
    order, truth = tmp_path / "synsets.txt", tmp_path / "truth.txt"
    order.write_text("n01440764 tench\nn01443537 goldfish\n")
    truth.write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n01443537 1 2 3 4\n"
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4\n"
    )
    options = {"truth": str(truth), "synsets": str(order)}
    assert [s.label for s in open_dataset(f"imagenet:{root}", INPUTS, STRETCH, options)] == [1, 0]
    truth.write_text("ILSVRC2012_val_00000001.JPEG 65\nILSVRC2012_val_00000002.JPEG 970\n")
    assert [s.label for s in open_dataset(f"imagenet:{root}", INPUTS, STRETCH, {"truth": str(truth)})] == [65, 970]
    truth.write_text("ILSVRC2012_val_00000001.JPEG 65\n")
    with pytest.raises(AccelError, match="no label for"):
        open_dataset(f"imagenet:{root}", INPUTS, STRETCH, {"truth": str(truth)})
