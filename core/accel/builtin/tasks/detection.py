"""Detection: what all detectors share around their decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accel.builtin.datasets.labels import read_labels
from accel.builtin.datasets.pictures import to_original
from accel.builtin.datasets.truth import Boxes
from accel.builtin.tasks.boxes import Detections
from accel.builtin.tasks.metrics.coco import CocoAP, table_rows
from accel.builtin.tasks.metrics.voc import VocAP
from accel.builtin.tasks.options import TaskOptions
from accel.dataset import Sample
from accel.errors import AccelError
from accel.report import Table

Decoder = Callable[[Mapping[str, np.ndarray], tuple[int, int]], Detections]
"""From one sample's outputs and the network's (height, width) to boxes in network pixels, best first."""


class Detection:
    """A detector's task.

    Options of every detector: ``labels`` (file of class names), ``metric`` (``coco``, ``voc`` or both with a comma),
    ``iou`` (overlap that counts as right for VOC, 0.5), ``show`` (least score of a drawn box, 0.3), ``size``
    (``HxW`` of the network's input where the samples do not say it).

    Args:
        name: Of the task.
        given: The options; the decoder has already asked for its own.
        decoder: See :data:`Decoder`.
    """

    agreement = False
    """The outputs have no class axis: the evaluator compares no argmax."""

    def __init__(self, name: str, given: TaskOptions, decoder: Decoder) -> None:
        self.name = name
        self._decoder = decoder
        labels = given.text("labels")
        self.metrics = given.words("metric", ("coco",))
        self.iou = given.number("iou", 0.5)
        self.show = given.number("show", 0.3)
        self._size = _parse_size(given.text("size"))
        given.done()
        if not self.metrics or not set(self.metrics) <= {"coco", "voc"}:
            raise AccelError(f"there is no metric {','.join(self.metrics)!r}", code="usage.task", hints=["coco, voc"])
        self.labels = read_labels(Path(labels)) if labels else ()

    def decode(self, outputs: Mapping[str, np.ndarray], sample: Sample) -> dict[str, Any]:
        """``{"boxes": [{"box": [x1, y1, x2, y2], "class", "label", "score"}, ...]}``, best first, in picture pixels.

        Raises:
            AccelError: ``evaluate.output`` when the outputs are not those of this kind of detector.
        """
        found = self._decoder(outputs, self._network_size(sample))
        boxes = to_original(found.boxes, sample.meta)
        if "original_size" in sample.meta:
            height, width = sample.meta["original_size"]
            boxes = np.clip(boxes, 0.0, np.tile((width, height), 2))
        return {
            "boxes": [
                {"box": box, "class": index, "label": self._label(index), "score": score}
                for box, index, score in zip(boxes.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True)
            ]
        }

    def adopt(self, metadata: Mapping[str, str]) -> None:
        """Take what a network's metadata say about its head (``Manifest.details["metadata"]``)."""
        adopted = getattr(self._decoder, "adopt", None)
        if adopted is not None:
            adopted(metadata)

    def _label(self, index: int) -> str:
        return self.labels[index] if index < len(self.labels) else str(index)

    def _network_size(self, sample: Sample) -> tuple[int, int]:
        if "network_size" in sample.meta:
            height, width = sample.meta["network_size"]
            return int(height), int(width)
        for array in sample.inputs.values():
            if array.ndim == 4:
                sides = array.shape[1:3] if array.shape[3] in (1, 3) else array.shape[2:4]
                return int(sides[0]), int(sides[1])
        if self._size:
            return self._size
        raise AccelError(
            f"the network's picture size is not known for {sample.name}",
            code="usage.task",
            hints=["Give it with the task option size=HEIGHTxWIDTH."],
        )

    def meter(self) -> DetectionMeter:
        """Average precision."""
        return DetectionMeter(self.metrics, self.iou, self._label)

    def draw(self, prediction: Any, sample: Sample, path: Path) -> None:
        """The picture with the boxes of at least the score ``show``, the best on top."""
        from accel.builtin.datasets.pictures import open_picture
        from accel.builtin.tasks.drawing import color_of, draw_box, save_picture

        picture = open_picture(sample).convert("RGB")
        for found in reversed(prediction["boxes"]):
            if found["score"] >= self.show:
                draw_box(picture, found["box"], f"{found['label']} {found['score']:.2f}", color_of(found["class"]))
        save_picture(picture, path)


class DetectionMeter:
    """COCO's and VOC's figures over samples whose label is :class:`Boxes`."""

    def __init__(self, metrics: Sequence[str], iou: float, label: Callable[[int], str]) -> None:
        self._coco = CocoAP() if "coco" in metrics else None
        self._voc = VocAP(iou) if "voc" in metrics else None
        self._label = label
        self.count = self.unlabelled = 0

    def add(self, prediction: Any, sample: Sample) -> None:
        """Match one picture.

        Raises:
            AccelError: ``usage.data`` when the sample's label is not boxes.
        """
        if sample.label is None:
            self.unlabelled += 1
            return
        if not isinstance(sample.label, Boxes):
            raise AccelError(
                f"{sample.name} is not labelled with boxes",
                code="usage.data",
                hints=["Detection is measured on COCO (coco:...) or VOC (voc:...) data."],
            )
        self.count += 1
        found = from_prediction(prediction)
        for metric in (self._coco, self._voc):
            if metric is not None:
                metric.add(found, sample.label)

    def metrics(self) -> Mapping[str, float]:
        """``AP``, ``AP50`` ... as in the COCO table, ``mAP`` and ``mAP_11`` of VOC.

        A figure over sizes of which there are no objects (-1 in the COCO table) is left out.
        """
        figures = {**(self._coco.figures() if self._coco else {}), **(self._voc.figures() if self._voc else {})}
        return {name: value for name, value in figures.items() if value >= 0}

    def tables(self) -> Sequence[Table]:
        """COCO's twelve lines, and AP by class."""
        tables = []
        if self._coco and self.count:
            tables.append(Table("COCO", ("metric", "value"), table_rows(self._coco.lines())))
            coco = tuple((self._label(k), n, ap, ap50) for k, n, ap, ap50 in self._coco.by_class())
            tables.append(Table("COCO by class", ("class", "objects", "AP", "AP50"), coco))
        if self._voc and self.count:
            voc = tuple((self._label(k), n, every, eleven) for k, n, every, eleven in self._voc.by_class())
            tables.append(Table("VOC by class", ("class", "objects", "AP", "AP 11-point"), voc))
        return tables

    def notes(self) -> list[str]:
        """What the figures leave out."""
        return [f"{self.unlabelled} samples have no boxes as labels and do not count"] if self.unlabelled else []


def from_prediction(prediction: Any) -> Detections:
    """Detections (in picture pixels) of what :meth:`Detection.decode` returned."""
    rows = prediction["boxes"]
    return Detections(
        np.asarray([row["box"] for row in rows], np.float64).reshape(-1, 4),
        np.asarray([row["score"] for row in rows], np.float64),
        np.asarray([row["class"] for row in rows], np.int64),
    )


def wrong_outputs(task: str, outputs: Mapping[str, np.ndarray], wanted: str) -> AccelError:
    """The error for outputs that a decoder does not know."""
    have = ", ".join(f"{name} {list(array.shape)}" for name, array in outputs.items())
    return AccelError(
        f"these are not the outputs of a {task} network",
        code="evaluate.output",
        cause=f"it has {have}",
        hints=[f"Expected: {wanted}."],
    )


def _parse_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise AccelError(f"size={text!r} is not HEIGHTxWIDTH", code="usage.task")
    return int(parts[0]), int(parts[1])
