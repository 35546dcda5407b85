"""PASCAL VOC's average precision: 11-point (2007) and all-point (2010 on).

The development kit counts inclusive pixels; boxes here are continuous, so its "+ 1" is already in them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from accel.builtin.datasets.truth import Boxes
from accel.builtin.tasks.boxes import Detections, overlap


@dataclass
class _Class:
    scores: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    objects: int = 0


class VocAP:
    """Collects pictures.

    Args:
        iou: A detection is right when it overlaps an object of its class by at least this.
    """

    def __init__(self, iou: float = 0.5) -> None:
        self.iou = iou
        self._classes: dict[int, _Class] = defaultdict(_Class)

    def add(self, found: Detections, truth: Boxes) -> None:
        """Match one picture: each detection, best first, with the object it overlaps most.

        A second detection of an object is wrong; one of a difficult object counts as nothing.
        """
        for index in np.union1d(found.classes, truth.classes):
            kept = self._classes[int(index)]
            there = truth.classes == index
            boxes, difficult = truth.boxes[there], truth.difficult[there]
            kept.objects += int((~difficult).sum())
            here = found.at(found.classes == index)
            here = here.best(len(here))
            ious = overlap(here.boxes, boxes)
            taken: set[int] = set()
            for at, score in enumerate(here.scores):
                best = int(np.argmax(ious[at])) if len(boxes) else -1
                right = best >= 0 and ious[at, best] >= self.iou
                if right and difficult[best]:
                    continue
                kept.scores.append(float(score))
                kept.hits.append(right and best not in taken)
                if right:
                    taken.add(best)

    def by_class(self) -> list[tuple[int, int, float, float]]:
        """(class, objects, all-point AP, 11-point AP) of every class that has objects."""
        rows = []
        for index, kept in sorted(self._classes.items()):
            if kept.objects:
                recall, precision = self._curve(kept)
                rows.append((index, kept.objects, all_points(recall, precision), eleven_points(recall, precision)))
        return rows

    @staticmethod
    def _curve(kept: _Class) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(-np.asarray(kept.scores), kind="stable")
        hits = np.asarray(kept.hits, dtype=np.float64)[order]
        right = np.cumsum(hits)
        return right / kept.objects, right / np.arange(1, len(hits) + 1)

    def figures(self) -> dict[str, float]:
        """``mAP`` (all-point) and ``mAP_11`` (11-point): means over the classes that have objects."""
        rows = self.by_class()
        if not rows:
            return {"mAP": -1.0, "mAP_11": -1.0}
        return {
            "mAP": float(np.mean([row[2] for row in rows])),
            "mAP_11": float(np.mean([row[3] for row in rows])),
        }


def all_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area below the precision curve made to fall only."""
    reached = np.concatenate([[0.0], recall, [1.0]])
    exact = np.concatenate([[0.0], precision, [0.0]])
    exact = np.maximum.accumulate(exact[::-1])[::-1]
    return float(np.sum(np.diff(reached) * exact[1:]))


def eleven_points(recall: np.ndarray, precision: np.ndarray) -> float:
    """Mean of the best precision at recall 0, 0.1 ... 1 or more."""
    best = [precision[recall >= point / 10 - 1e-12].max(initial=0.0) for point in range(11)]
    return float(np.mean(best))
