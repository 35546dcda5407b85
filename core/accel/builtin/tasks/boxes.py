"""Boxes: overlap, suppression, and what every detector's decoder returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Detections:
    """Found objects, in pixels of the network's input.

    Attributes:
        boxes: float64 (n, 4): x1, y1, x2, y2.
        scores: float64 (n,).
        classes: int64 (n,).
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def at(self, index: np.ndarray) -> Detections:
        """Those at ``index`` (positions or a mask)."""
        return Detections(self.boxes[index], self.scores[index], self.classes[index])

    def best(self, count: int) -> Detections:
        """The ``count`` with the highest scores, best first (equal scores keep their order)."""
        return self.at(np.argsort(-self.scores, kind="stable")[:count])


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union, float64 (n, m), of corner boxes (n, 4) and (m, 4); 0 where both are empty."""
    shared = _intersection(boxes, others)
    union = area(boxes)[:, None] + area(others)[None, :] - shared
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def overlap_with_crowd(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Like :func:`overlap`, but over the area of ``boxes`` alone where ``truth`` is a crowd (COCO's rule)."""
    shared = _intersection(boxes, truth)
    own = area(boxes)[:, None]
    union = np.where(crowd[None, :], own, own + area(truth)[None, :] - shared)
    result: np.ndarray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def area(boxes: np.ndarray) -> np.ndarray:
    """Width times height, (n,)."""
    result: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return result


def _intersection(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    sides = np.clip(high - low, 0.0, None)
    result: np.ndarray = sides[..., 0] * sides[..., 1]
    return result


def suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression.

    Args:
        boxes: (n, 4) corners.
        scores: (n,).
        threshold: A box goes when its overlap with a kept one of a higher score is greater than this.

    Returns:
        Positions of the kept boxes, best first; equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        if order.size:
            order = order[overlap(boxes[best : best + 1], boxes[order])[0] <= threshold]
    return np.asarray(kept, dtype=np.int64)


def suppress_by_class(found: Detections, threshold: float, *, candidates: int = 0, keep: int = 0) -> Detections:
    """Suppression inside each class, then the best of all.

    Args:
        found: All candidates.
        threshold: See :func:`suppress`.
        candidates: Only so many of the best of each class take part; 0: all.
        keep: At most so many in the end; 0: all.
    """
    chosen: list[np.ndarray] = []
    for index in np.unique(found.classes):
        members = np.flatnonzero(found.classes == index)
        members = members[np.argsort(-found.scores[members], kind="stable")]
        if candidates:
            members = members[:candidates]
        chosen.append(members[suppress(found.boxes[members], found.scores[members], threshold)])
    kept = found.at(np.concatenate(chosen) if chosen else np.zeros(0, np.int64))
    return kept.best(keep or len(kept))


def corners(centers: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 from cx, cy, w, h; (n, 4)."""
    half = centers[:, 2:4] / 2
    return np.concatenate([centers[:, :2] - half, centers[:, :2] + half], axis=1)
