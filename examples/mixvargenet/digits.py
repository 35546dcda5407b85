"""A small real data set: the 1,797 handwritten digits that scikit-learn carries, as pictures.

    python examples/mixvargenet/digits.py FOLDER

Writes FOLDER/calibration, FOLDER/train and FOLDER/evaluation as PNGs and FOLDER/evaluation.txt with a class a line.
Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (test part).
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "zoo"))
from packaged import packaged

SIDE = 32
"""Pixels of a picture; the digits are 8 x 8 and are enlarged."""
EVALUATION, CALIBRATION = 360, 64


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pictures (1797, 8, 8) with values 0..16, and their digits."""
    with gzip.open(packaged("sklearn", "datasets", "data", "digits.csv.gz"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1].astype(np.int64)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB pictures (1797, SIDE, SIDE, 3), and their digits."""
    from PIL import Image

    small, labels = digits()
    made = []
    for digit in small:
        grey = Image.fromarray(np.uint8(digit * 255 / 16)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        made.append(np.asarray(grey.convert("RGB")))
    return np.stack(made), labels


def split() -> dict[str, np.ndarray]:
    """Indices of ``evaluation`` (the last, by other writers), ``calibration`` and ``train``."""
    every = np.arange(1797)
    train = every[:-EVALUATION]
    return {"evaluation": every[-EVALUATION:], "calibration": train[:: len(train) // CALIBRATION], "train": train}


def write(folder: Path) -> None:
    """The pictures of evaluation and calibration as files."""
    from PIL import Image

    images, labels = pictures()
    for part in ("evaluation", "calibration"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        lines = []
        for at in split()[part]:
            name = f"{part}/{at:04d}_{labels[at]}.png"
            Image.fromarray(images[at]).save(folder / name)
            lines.append(f"{name} {labels[at]}")
        (folder / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "labels.txt").write_text("\n".join("0123456789") + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
