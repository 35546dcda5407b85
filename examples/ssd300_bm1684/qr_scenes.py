"""Scenes with QR codes on real photographs; the boxes are exact because the codes are drawn there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import segno
from PIL import Image

SIZE = 384
"""Pixels of a scene's sides."""

Box = tuple[int, int, int, int]


def scene(rng: np.random.Generator, photos: list[Image.Image]) -> tuple[Image.Image, list[Box]]:
    """A grey picture with one or two codes, and the corners x1, y1, x2, y2 of their modules (no quiet zone)."""
    picture = _background(rng, photos[int(rng.integers(len(photos)))])
    boxes: list[Box] = []
    for _ in range(int(rng.integers(1, 3))):
        code = segno.make(f"https://example.org/{rng.integers(10**9)}", error="m", micro=False)
        modules = np.array([list(row) for row in code.matrix], bool)
        box = _place(rng, len(modules), boxes)
        if box is not None:
            _draw(rng, picture, modules, box)
            boxes.append(box)
    return picture, boxes


def _background(rng: np.random.Generator, photo: Image.Image) -> Image.Image:
    width, height = (int(rng.integers(side // 3, side + 1)) for side in photo.size)
    x, y = int(rng.integers(0, photo.width - width + 1)), int(rng.integers(0, photo.height - height + 1))
    return photo.crop((x, y, x + width, y + height)).resize((SIZE, SIZE)).convert("L")


def _place(rng: np.random.Generator, modules: int, taken: list[Box]) -> Box | None:
    """A free place for a code of so many modules a side, with room for its quiet zone; None if there is none."""
    for _ in range(50):
        module = int(rng.integers(3, 8))
        side, quiet = modules * module, 4 * module
        if side + 2 * quiet > 0.6 * SIZE:
            continue
        x, y = (int(v) for v in rng.integers(quiet, SIZE - side - quiet + 1, 2))
        box = (x, y, x + side, y + side)
        gap = 2 * quiet + 8
        if all(
            box[2] + gap <= o[0] or o[2] + gap <= box[0] or box[3] + gap <= o[1] or o[3] + gap <= box[1] for o in taken
        ):
            return box
    return None


def _draw(rng: np.random.Generator, picture: Image.Image, modules: np.ndarray, box: Box) -> None:
    module = (box[2] - box[0]) // len(modules)
    quiet = int(rng.integers(2, 5)) * module
    dark, light = int(rng.integers(0, 60)), int(rng.integers(190, 256))
    tile = np.where(np.kron(modules, np.ones((module, module), bool)), dark, light).astype(np.uint8)
    picture.paste(light, (box[0] - quiet, box[1] - quiet, box[2] + quiet, box[3] + quiet))
    picture.paste(Image.fromarray(tile), box[:2])


def write_scenes(folder: Path, photos: list[Path], count: int, seed: int) -> None:
    """Write ``count`` scenes and ``boxes.json`` (COCO's form) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = [Image.open(path).convert("RGB") for path in photos]
    rng = np.random.default_rng(seed)
    images, annotations = [], []
    for at in range(count):
        picture, boxes = scene(rng, opened)
        name = f"scene_{at:03d}.png"
        picture.save(folder / name)
        images.append({"id": at, "file_name": name, "height": SIZE, "width": SIZE})
        for x1, y1, x2, y2 in boxes:
            sides = (x2 - x1, y2 - y1)
            row = {"id": len(annotations) + 1, "image_id": at, "category_id": 1, "bbox": [x1, y1, *sides]}
            annotations.append({**row, "area": sides[0] * sides[1], "iscrowd": 0})
    content = {"images": images, "categories": [{"id": 1, "name": "qr"}], "annotations": annotations}
    (folder / "boxes.json").write_text(json.dumps(content))
