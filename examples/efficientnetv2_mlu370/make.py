"""Makes EfficientNetV2-S as a SavedModel with seeded weights, and its photos.

python examples/efficientnetv2_mlu370/make.py [FOLDER] [--size 128]

The toolchain ``tensorflow`` must be installed. Seeded weights know no classes: the truth of a photo is the class that
the float network finds, so the figures say how much of float each precision keeps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from accel import driver
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.streamed import StreamedDataset
from accel.builtin.frontends.toolchains import TENSORFLOW
from accel.cache import Cache
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from framework import run_script, told  # noqa: E402
from photos import calibration_photos, class_names, evaluation_photos  # noqa: E402

NETWORK = "efficientnetv2_s"
PREPROCESSING = Preprocessing(layout="NHWC")
"""As in accel.toml: this network scales the pixels to -1..1 itself."""


def make(folder: Path, *, size: int = 384, pictures: int = 20) -> None:
    """Put the SavedModel, ``calibration.txt``, ``evaluation.txt`` and ``labels.txt`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    photos = [path for path, _ in evaluation_photos()[:pictures]]
    _write(folder / "calibration.txt", calibration_photos())
    _write(folder / "evaluation.txt", photos)
    _write(folder / "labels.txt", class_names())
    image = TensorSpec("image", "float32", (1, size, size, 3))
    with tempfile.TemporaryDirectory() as temporary:
        seen = Path(temporary) / "photos.npy"
        np.save(seen, np.concatenate([s.inputs["image"] for s in _data(folder / "calibration.txt", (image,))]))
        run_script(TENSORFLOW, HERE / "saved_model.py", folder / NETWORK, size, seen)
    model = driver.parse(folder / NETWORK, cache=Cache())  # the recipe finds it there
    (scores,) = model.outputs
    with driver.run_float(model) as runner:
        found = [runner.run(s.inputs)[scores.name].argmax() for s in _data(folder / "evaluation.txt", model.inputs)]
    _write(folder / "evaluation.txt", [f"{path} {label}" for path, label in zip(photos, found, strict=True)])


def _data(source: Path, inputs: tuple[TensorSpec, ...]) -> StreamedDataset:
    return open_dataset(f"list:{source}", inputs, PREPROCESSING)


def _write(path: Path, lines: list[object]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    parser.add_argument("--size", type=int, default=384, help="pixels of the input's sides")
    parser.add_argument("--pictures", type=int, default=20)
    given = parser.parse_args()
    make(given.folder, size=given.size, pictures=given.pictures)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    told(main)
