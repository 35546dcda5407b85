"""Writes the network with seeded weights, the photographs, and what float finds in them.

python examples/centernet_mlu370/make.py [FOLDER] [--width 0.25] [--size 256]
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from accel.builtin.datasets import open_dataset
from accel.builtin.datasets.streamed import StreamedDataset
from accel.builtin.evaluate.float_runner import FloatRunner
from accel.builtin.tasks import make_task
from accel.model import Model, io_specs
from accel.recipe import load

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "zoo"))

from dla import HEADS, centernet, settle  # noqa: E402
from photos import calibration_photos, evaluation_photos  # noqa: E402

SCORE = "0.5"
"""Least score of the float network's objects that count as truth."""


def make(folder: Path, *, width: float = 1.0, size: int = 512, pictures: int = 8) -> None:
    """Put ``centernet.onnx``, ``calibration.txt``, ``pictures/`` and ``truth.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    calibration = [str(path) for path in calibration_photos()]
    (folder / "calibration.txt").write_text("".join(f"{path}\n" for path in calibration))
    listed = folder / "evaluation.txt"
    (folder / "pictures").mkdir(exist_ok=True)
    copied = [shutil.copy(path, folder / "pictures") for path, _ in evaluation_photos()[:pictures]]
    listed.write_text("".join(f"{path}\n" for path in copied))

    model = _model(centernet(width=width, size=size))
    settle(model.proto, _spread(model, _data(folder / "calibration.txt", model).take(4)))
    model = _model(model.proto)
    onnx.save(model.proto, str(folder / "centernet.onnx"))
    (folder / "truth.json").write_text(json.dumps(_found(model, _data(listed, model))))


def _model(proto: onnx.ModelProto) -> Model:
    return Model(proto, "centernet", *io_specs(proto))


def _data(source: Path, model: Model) -> StreamedDataset:
    return open_dataset(f"list:{source}", model.inputs, load(HERE / "accel.toml").preprocessing)


def _spread(model: Model, data: StreamedDataset) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and standard deviation by channel of every head."""
    with FloatRunner(model) as runner:
        runs = [runner.run(sample.inputs, tuple(HEADS)) for sample in data]
    joined = {name: np.concatenate([run[name] for run in runs]) for name in HEADS}
    return {name: (array.mean((0, 2, 3)), array.std((0, 2, 3))) for name, array in joined.items()}


def _found(model: Model, data: StreamedDataset) -> dict[str, object]:
    """The float network's objects in COCO's form: what the modes of the chip are measured against."""
    task = make_task("centernet", {"score": SCORE})
    images, rows = [], []
    with FloatRunner(model) as runner:
        for at, sample in enumerate(data):
            height, width = sample.meta["original_size"]
            images.append({"id": at, "file_name": Path(sample.name).name, "height": height, "width": width})
            for box in task.decode(runner.run(sample.inputs), sample)["boxes"]:
                x1, y1, x2, y2 = box["box"]
                sides = (x2 - x1, y2 - y1)
                row = {"id": len(rows) + 1, "image_id": at, "category_id": box["class"], "bbox": [x1, y1, *sides]}
                rows.append({**row, "area": sides[0] * sides[1], "iscrowd": 0})
    classes = next(spec.shape[1] for spec in model.outputs if spec.name == "hm")
    assert isinstance(classes, int)
    categories = [{"id": k, "name": f"class {k}"} for k in range(classes)]
    return {"images": images, "categories": categories, "annotations": rows}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=HERE / "work")
    parser.add_argument("--width", type=float, default=1.0, help="factor on the channels; 1 is DLA-34")
    parser.add_argument("--size", type=int, default=512, help="pixels of the input's sides")
    parser.add_argument("--pictures", type=int, default=8)
    given = parser.parse_args()
    make(given.folder, width=given.width, size=given.size, pictures=given.pictures)
    print(f"written: {given.folder}")


if __name__ == "__main__":
    main()
