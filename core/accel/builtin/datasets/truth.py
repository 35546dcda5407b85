"""Ground truth of detection: boxes in the picture's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Boxes:
    """The objects of one picture.

    Attributes:
        boxes: float64 (n, 4): x1, y1, x2, y2; continuous coordinates, the first pixel spans 0..1.
        classes: int64 (n,): class index.
        areas: float64 (n,): area in square pixels (COCO: of the outline), for COCO's size ranges.
        crowd: bool (n,): COCO ``iscrowd``.
        difficult: bool (n,): VOC ``difficult``; neither counted nor punished.
    """

    boxes: np.ndarray
    classes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    difficult: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        # The digest of a data set reads this: everything, in full.
        return repr([a.tolist() for a in (self.boxes, self.classes, self.areas, self.crowd, self.difficult)])


def make_boxes(
    boxes: object,
    classes: object,
    *,
    areas: object = None,
    crowd: object = None,
    difficult: object = None,
) -> Boxes:
    """Boxes from lists; what is missing is filled in (area = width * height, no crowd, not difficult)."""
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    count = len(corners)
    plain = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    return Boxes(
        corners,
        np.asarray(classes, dtype=np.int64).reshape(count),
        plain if areas is None else np.asarray(areas, dtype=np.float64).reshape(count),
        np.zeros(count, bool) if crowd is None else np.asarray(crowd, dtype=bool).reshape(count),
        np.zeros(count, bool) if difficult is None else np.asarray(difficult, dtype=bool).reshape(count),
    )
