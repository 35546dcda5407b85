"""Writes SSD300 with seeded weights, an LMDB to calibrate from, and VOC data with what float finds in them.

python examples/ssd300_bm1684/make_ssd300.py [FOLDER] [--width 0.25]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import accel
import numpy as np
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.packing import PackOptions, pack
from accel.builtin.datasets.voc import CLASSES
from accel.builtin.evaluate.float_runner import FloatRunner
from accel.builtin.tasks import make_task
from accel.model import Model
from accel.options import ParseOptions
from accel.recipe import load

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from photos import calibration_photos, evaluation_photos  # noqa: E402
from ssd300 import CaffeNet, caffemodel, head_layers, settle, ssd300  # noqa: E402

SCORE = "0.4"
"""Least score of the float network's objects that count as truth."""


def make(folder: Path, *, width: float = 1.0, pictures: int = 8) -> None:
    """Put ``ssd300.prototxt``, its weights, ``calibration.lmdb`` and ``VOC/`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "calibration.txt"
    listed.write_text("".join(f"{path}\n" for path in calibration_photos()))
    shutil.rmtree(folder / "calibration.lmdb", ignore_errors=True)
    pack(listed, folder / "calibration.lmdb", PackOptions(size=(300, 300), shuffle=0))

    net = ssd300(width=width)
    model = _parsed(folder, net)
    settle(net, _spread(model, folder / "calibration.lmdb"))
    _write_voc(folder / "VOC", _parsed(folder, net), [path for path, _ in evaluation_photos()[:pictures]])


def _parsed(folder: Path, net: CaffeNet) -> Model:
    (folder / "ssd300.prototxt").write_text(net.text)
    (folder / "ssd300.caffemodel").write_bytes(caffemodel(net.blobs))
    return accel.parse(folder / "ssd300.prototxt", ParseOptions(simplify=False, input_shapes={"": (1, 3, 300, 300)}))


def _spread(model: Model, source: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation by channel of every head, over four photographs."""
    preprocessing = load(HERE / "accel.toml").preprocessing
    names = head_layers()
    with FloatRunner(model) as runner:
        data = open_dataset(f"lmdb:{source}", model.inputs, preprocessing).take(4)
        runs = [runner.run(sample.inputs, names) for sample in data]
    joined = {name: np.concatenate([run[name] for run in runs]) for name in names}
    return {name: (array.mean((0, 2, 3)), array.std((0, 2, 3))) for name, array in joined.items()}


def _write_voc(root: Path, model: Model, photos: list[Path]) -> None:
    for name in ("JPEGImages", "Annotations"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    for path in photos:
        shutil.copy(path, root / "JPEGImages")
    task = make_task("ssd", {"score": SCORE})
    task.adopt(model.metadata)  # type: ignore[attr-defined]
    data = open_dataset(f"folder:{root / 'JPEGImages'}", model.inputs, load(HERE / "accel.toml").preprocessing)
    with FloatRunner(model) as runner:
        for sample in data:
            height, width = sample.meta["original_size"]
            found = task.decode(runner.run(sample.inputs), sample)["boxes"]
            objects = "".join(_object(CLASSES[row["class"]], row["box"]) for row in found)
            size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
            annotation = root / "Annotations" / f"{Path(sample.name).stem}.xml"
            annotation.write_text(f"<annotation>{size}{objects}</annotation>")


def _object(name: str, box: list[float]) -> str:
    # VOC counts pixels from 1, both ends inside.
    corners = {"xmin": box[0] + 1, "ymin": box[1] + 1, "xmax": box[2], "ymax": box[3]}
    sides = "".join(f"<{k}>{v:.3f}</{k}>" for k, v in corners.items())
    return f"<object><name>{name}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object>"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels; 1 is VGG-16")
    parser.add_argument("--pictures", type=int, default=8)
    given = parser.parse_args()
    make(given.folder, width=given.width, pictures=given.pictures)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    main()
