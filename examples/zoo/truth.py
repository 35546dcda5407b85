"""What a float network finds in photographs, in COCO's form: what its compiled forms are measured against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel import driver
from accel.builtin.datasets.streamed import StreamedDataset
from accel.builtin.tasks import make_task
from accel.model import Model


def found_by_float(model: Model, data: StreamedDataset, task: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Images, categories and annotations.

    Args:
        model: A detector; its first output has the classes at axis 1, or last in the layout NHWC.
        data: Its pictures.
        task: Name of the decoder.
        options: Of the decoder; ``score`` is the least that counts.
    """
    decoder = make_task(task, options)
    images, rows = [], []
    with driver.run_float(model) as runner:
        for at, sample in enumerate(data):
            height, width = sample.meta["original_size"]
            images.append({"id": at, "file_name": Path(sample.name).name, "height": height, "width": width})
            for box in decoder.decode(runner.run(sample.inputs), sample)["boxes"]:
                x1, y1, x2, y2 = box["box"]
                sides = (x2 - x1, y2 - y1)
                row = {"id": len(rows) + 1, "image_id": at, "category_id": box["class"], "bbox": [x1, y1, *sides]}
                rows.append({**row, "area": sides[0] * sides[1], "iscrowd": 0})
    classes = model.outputs[0].shape[-1 if options.get("layout") == "NHWC" else 1]
    assert isinstance(classes, int)
    categories = [{"id": k, "name": f"class {k}"} for k in range(classes)]
    return {"images": images, "categories": categories, "annotations": rows}
