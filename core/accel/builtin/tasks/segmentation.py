"""Semantic segmentation: a class for every pixel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accel.builtin.datasets.labels import read_labels
from accel.builtin.datasets.palette import read_palette, voc_palette
from accel.builtin.tasks.classification import pick_output
from accel.builtin.tasks.metrics.confusion import Confusion
from accel.builtin.tasks.options import TaskOptions
from accel.dataset import Sample
from accel.errors import AccelError
from accel.report import Table

OUTSIDE = -1
"""Class of pixels that the preprocessing cut off: the network never saw them."""


class ClassMap(dict[str, Any]):
    """A JSON-ready prediction: ``size`` [h, w], ``shares`` [{index, label, share}], ``runs`` [[class, pixels], ...] in
    row order; the map itself is :attr:`array`, int64 (h, w)."""

    def __init__(self, array: np.ndarray, names: Sequence[str]) -> None:
        self.array = array
        flat = array.ravel()
        starts = np.flatnonzero(np.diff(flat, prepend=flat[:1] - 1)) if flat.size else np.zeros(0, np.int64)
        lengths = np.diff(starts, append=flat.size)
        found, counts = np.unique(flat, return_counts=True)
        super().__init__(
            size=list(array.shape),
            shares=[
                {"index": int(k), "label": _label(int(k), names), "share": float(n / flat.size)}
                for k, n in zip(found, counts, strict=True)
            ],
            runs=np.stack([flat[starts], lengths], axis=1).tolist(),
        )


class Segmentation:
    """Argmax over class scores, or a class map that the network gives itself.

    Options: ``output`` (name), ``layout`` (``NCHW``; ``NHWC``), ``labels`` (file of names), ``palette`` (a file of
    ``r g b name`` lines; default: VOC's colours), ``classes`` (how many; default: from the scores, the labels or the
    palette), ``ignore`` (255: true label that does not count), ``alpha`` (0.5: opacity of the drawn map).
    """

    name = "segmentation"

    def __init__(self, options: Mapping[str, str]) -> None:
        given = TaskOptions(self.name, options)
        self.output = given.text("output")
        self.layout = given.text("layout", "NCHW", ("NCHW", "NHWC"))
        self.ignore = given.whole("ignore", 255)
        self.alpha = given.number("alpha", 0.5)
        classes, labels, palette = given.whole("classes", 0), given.text("labels"), given.text("palette")
        given.done()
        self.palette, names = read_palette(Path(palette)) if palette else (voc_palette(), ())
        self.labels = read_labels(Path(labels)) if labels else names
        self.classes = classes or len(self.labels)

    def decode(self, outputs: Mapping[str, np.ndarray], sample: Sample) -> ClassMap:
        """The class map in the original picture's size; :data:`OUTSIDE` where the network saw nothing.

        Raises:
            AccelError: ``evaluate.output`` when the output is neither scores nor a class map.
        """
        array = pick_output(outputs, self.output, self.name)
        classes = self._class_map(array)
        return ClassMap(to_picture(classes, sample.meta), self.labels)

    def _class_map(self, array: np.ndarray) -> np.ndarray:
        if array.ndim == 4 and array.shape[0] == 1:
            axis = 1 if self.layout == "NCHW" else 3
            if array.shape[axis] > 1:
                self.classes = self.classes or int(array.shape[axis])
                # NaN never wins.
                scores = np.where(np.isnan(array[0]), -np.inf, array[0]) if array.dtype.kind == "f" else array[0]
                best: np.ndarray = np.argmax(scores, axis=axis - 1)
                return best
            array = array.squeeze(axis)
        if array.ndim == 3 and array.shape[0] == 1:
            # A class map may come back as floats, or a step off after quantisation.
            given: np.ndarray = np.rint(np.nan_to_num(array[0], nan=float(OUTSIDE))).astype(np.int64)
            return given
        raise AccelError(
            f"the output of shape {list(array.shape)} is no segmentation",
            code="evaluate.output",
            hints=["Expected scores [1,classes,h,w] or a class map [1,h,w]; for scores in NHWC set layout=NHWC."],
        )

    def meter(self) -> SegmentationMeter:
        """Confusion of classes."""
        return SegmentationMeter(self)

    def draw(self, prediction: Any, sample: Sample, path: Path) -> None:
        """The picture with the classes' colours over it, and a legend."""
        from accel.builtin.datasets.pictures import open_picture
        from accel.builtin.tasks.drawing import save_picture, write_legend

        picture = open_picture(sample).convert("RGB")
        array = prediction.array
        colors = self.palette[np.clip(array, 0, len(self.palette) - 1)]
        colors[array == OUTSIDE] = 0
        painted = Image.blend(picture, Image.fromarray(colors).resize(picture.size, 0), self.alpha)
        largest = sorted(prediction["shares"], key=lambda c: -c["share"])[:12]
        entries = [
            (f"{c['label']} {c['share']:.0%}", tuple(self.palette[c["index"] % len(self.palette)].tolist()))
            for c in largest
            if c["index"] >= 0
        ]
        write_legend(painted, entries)
        save_picture(painted, path)


def to_picture(classes: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """A class map in network (or smaller) pixels, in the picture's own: each pixel takes the class at its centre."""
    if "scale" not in meta:
        return classes
    (height, width), (net_h, net_w) = meta["original_size"], meta["network_size"]
    rows = ((np.arange(height) + 0.5) * meta["scale"][0] + meta["offset"][0]) * classes.shape[0] / net_h
    columns = ((np.arange(width) + 0.5) * meta["scale"][1] + meta["offset"][1]) * classes.shape[1] / net_w
    at_y, at_x = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    seen = ((at_y >= 0) & (at_y < classes.shape[0]))[:, None] & ((at_x >= 0) & (at_x < classes.shape[1]))[None]
    picked = classes[np.clip(at_y, 0, classes.shape[0] - 1)][:, np.clip(at_x, 0, classes.shape[1] - 1)]
    return np.where(seen, picked, OUTSIDE)


class SegmentationMeter:
    """mIoU and pixel accuracy over samples whose label is an integer mask in the picture's size."""

    def __init__(self, task: Segmentation) -> None:
        self._task = task
        self._confusion: Confusion | None = None
        self.unlabelled = 0

    def add(self, prediction: Any, sample: Sample) -> None:
        """Count one picture's pixels.

        Raises:
            AccelError: ``data.sample`` for a mask of another size or with classes that do not exist.
        """
        if sample.label is None:
            self.unlabelled += 1
            return
        truth = np.asarray(sample.label)
        if self._confusion is None:
            if not self._task.classes:
                raise AccelError("the number of classes is not known", code="usage.task", hints=["Give classes=N."])
            self._confusion = Confusion(self._task.classes, self._task.ignore)
        self._confusion.add(prediction.array, truth, sample.name)

    def metrics(self) -> Mapping[str, float]:
        """``mIoU``, ``pixel_accuracy``, ``mean_accuracy``."""
        return self._confusion.figures() if self._confusion else {}

    def tables(self) -> Sequence[Table]:
        """IoU by class."""
        if self._confusion is None:
            return []
        iou, pixels = self._confusion.iou(), self._confusion.counts.sum(1) + self._confusion.unpredicted
        rows = tuple(
            (_label(k, self._task.labels), int(pixels[k]), float(iou[k]))
            for k in range(len(iou))
            if np.isfinite(iou[k])
        )
        return [Table("IoU by class", ("class", "pixels", "IoU"), rows)]

    def notes(self) -> list[str]:
        """What the figures leave out."""
        said = [f"{self.unlabelled} samples have no mask and do not count"] if self.unlabelled else []
        if self._confusion is not None and self._confusion.unpredicted.any():
            count = int(self._confusion.unpredicted.sum())
            said.append(f"{count} pixels lie outside what the network saw and count as wrong")
        return said


def _label(index: int, names: Sequence[str]) -> str:
    if index == OUTSIDE:
        return "outside"
    return names[index] if 0 <= index < len(names) else str(index)
