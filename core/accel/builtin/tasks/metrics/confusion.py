"""Confusion of classes over pixels: IoU per class, its mean, pixel accuracy."""

from __future__ import annotations

import numpy as np

from accel.errors import AccelError


class Confusion:
    """Counts of (true class, predicted class).

    Args:
        classes: How many there are.
        ignore: True label of pixels that do not count.
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        self.classes = classes
        self.ignore = ignore
        self.counts = np.zeros((classes, classes), np.int64)
        self.unpredicted = np.zeros(classes, np.int64)
        """Pixels of each true class for which there is no prediction (cut off by the preprocessing)."""

    def add(self, predicted: np.ndarray, truth: np.ndarray, name: str = "") -> None:
        """Count two integer maps of the same shape; negative predictions mean there is none.

        Raises:
            AccelError: ``data.sample`` for maps of different shape or a true class that does not exist.
        """
        if predicted.shape != truth.shape:
            raise AccelError(
                f"the mask of {name} has the wrong size",
                code="data.sample",
                cause=f"the mask is {list(truth.shape)}, the picture {list(predicted.shape)}",
            )
        counted = truth != self.ignore
        true, found = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
        if true.size and (true.max() >= self.classes or true.min() < 0):
            raise AccelError(
                f"the mask of {name} holds the class {int(true.max() if true.max() >= self.classes else true.min())}",
                code="data.sample",
                cause=f"the network has the classes 0..{self.classes - 1}, ignored is {self.ignore}",
                hints=["Set ignore=N for pixels that do not count, or a palette for coloured masks."],
            )
        known = (found >= 0) & (found < self.classes)
        pairs = true[known] * self.classes + found[known]
        self.counts += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.unpredicted += np.bincount(true[~known], minlength=self.classes)

    def iou(self) -> np.ndarray:
        """Intersection over union by class, NaN for classes that neither appear nor are predicted."""
        right = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) + self.unpredicted - right
        result: np.ndarray = np.divide(right, union, out=np.full(self.classes, np.nan), where=union > 0)
        return result

    def figures(self) -> dict[str, float]:
        """``mIoU``, ``pixel_accuracy``, ``mean_accuracy`` (over the classes that appear); -1 without pixels."""
        right, pixels = np.diag(self.counts).astype(np.float64), self.counts.sum(1) + self.unpredicted
        if not pixels.sum():
            return {"mIoU": -1.0, "pixel_accuracy": -1.0, "mean_accuracy": -1.0}
        there = pixels > 0
        return {
            "mIoU": float(np.nanmean(self.iou())),
            "pixel_accuracy": float(right.sum() / pixels.sum()),
            "mean_accuracy": float(np.mean(right[there] / pixels[there])),
        }
