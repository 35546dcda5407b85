"""Writes the network with seeded weights as TorchScript, the photographs, and what float finds in them.

python examples/centernet_mlu370/make.py [FOLDER] [--width 0.25] [--size 256]

The toolchain ``torch`` must be installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from accel import driver
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.streamed import StreamedDataset
from accel.builtin.frontends.toolchains import TORCH
from accel.cache import Cache
from accel.model import TensorSpec
from accel.options import ParseOptions
from accel.recipe import load

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from framework import run_script, told  # noqa: E402
from photos import calibration_photos, evaluation_photos  # noqa: E402
from truth import found_by_float  # noqa: E402

SCORE = "0.5"
"""Least score of the float network's objects that count as truth."""
SETTLING = 4
"""Photographs that the network's statistics come from."""


def make(folder: Path, *, width: float = 1.0, size: int = 512, pictures: int = 8) -> None:
    """Put ``centernet.pt``, ``calibration.txt``, ``pictures/`` and ``truth.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    calibration = folder / "calibration.txt"
    calibration.write_text("".join(f"{path}\n" for path in calibration_photos()))
    listed = folder / "evaluation.txt"
    (folder / "pictures").mkdir(exist_ok=True)
    copied = [shutil.copy(path, folder / "pictures") for path, _ in evaluation_photos()[:pictures]]
    listed.write_text("".join(f"{path}\n" for path in copied))

    shape = (1, 3, size, size)
    with tempfile.TemporaryDirectory() as temporary:
        seen = Path(temporary) / "photos.npy"
        image = TensorSpec("image", "float32", shape)
        np.save(seen, np.concatenate([s.inputs["image"] for s in _data(calibration, (image,)).take(SETTLING)]))
        run_script(TORCH, HERE / "dla.py", folder / "centernet.pt", seen, width)
    options = ParseOptions(input_shapes={"image": (-1, *shape[1:])})
    model = driver.parse(folder / "centernet.pt", options, cache=Cache())  # at 512 pixels the recipe finds it there
    (folder / "truth.json").write_text(
        json.dumps(found_by_float(model, _data(listed, model.inputs), "centernet", {"score": SCORE}))
    )


def _data(source: Path, inputs: tuple[TensorSpec, ...]) -> StreamedDataset:
    return open_dataset(f"list:{source}", inputs, load(HERE / "accel.toml").preprocessing)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels; 1 is DLA-34")
    parser.add_argument("--size", type=int, default=512, help="pixels of the input's sides")
    parser.add_argument("--pictures", type=int, default=8)
    given = parser.parse_args()
    make(given.folder, width=given.width, size=given.size, pictures=given.pictures)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    told(main)
