"""COCO's average precision and recall of boxes, by the rules of cocodataset.org/#detection-eval.

Pictures are matched as they come; what stays is a score and 80 bits a detection.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from accel.builtin.datasets.truth import Boxes
from accel.builtin.tasks.boxes import Detections, area, overlap_with_crowd

IOU = np.linspace(0.5, 0.95, 10)
RECALL = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = (1, 10, 100)
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
_RANGES = np.array(list(SIZES.values()))

# (average precision?, IoU or None for all, size, detections): the twelve lines in their order.
LINES = (
    (True, None, "all", 100),
    (True, 0.5, "all", 100),
    (True, 0.75, "all", 100),
    (True, None, "small", 100),
    (True, None, "medium", 100),
    (True, None, "large", 100),
    (False, None, "all", 1),
    (False, None, "all", 10),
    (False, None, "all", 100),
    (False, None, "small", 100),
    (False, None, "medium", 100),
    (False, None, "large", 100),
)
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass
class _Class:
    """Matches of one class: a row a detection, in the order of arrival."""

    scores: list[np.ndarray] = field(default_factory=list)
    rank: list[np.ndarray] = field(default_factory=list)
    matched: list[np.ndarray] = field(default_factory=list)
    ignored: list[np.ndarray] = field(default_factory=list)
    positives: np.ndarray = field(default_factory=lambda: np.zeros(len(SIZES), np.int64))


class CocoAP:
    """Collects pictures; :meth:`figures` and :meth:`lines` give the result."""

    def __init__(self) -> None:
        self._classes: dict[int, _Class] = defaultdict(_Class)
        self._result: tuple[list[int], np.ndarray, np.ndarray] | None = None

    def add(self, found: Detections, truth: Boxes) -> None:
        """Match one picture's detections (boxes in the picture's pixels)."""
        self._result = None
        for index in np.union1d(found.classes, truth.classes):
            here, there = found.at(found.classes == index), truth.classes == index
            self._match(
                self._classes[int(index)],
                here.best(MAX_DETECTIONS[-1]),
                truth.boxes[there],
                truth.areas[there],
                truth.crowd[there],
            )

    @staticmethod
    def _match(kept: _Class, found: Detections, truth: np.ndarray, areas: np.ndarray, crowd: np.ndarray) -> None:
        # (A, G): does truth g not count for the size range?
        outside = (areas[None] < _RANGES[:, :1]) | (areas[None] > _RANGES[:, 1:]) | crowd[None]
        kept.positives += (~outside).sum(axis=1)
        count, shape = len(found), (len(IOU), len(SIZES))
        matched, ignored = np.zeros((count, *shape), bool), np.zeros((count, *shape), bool)
        if count and len(truth):
            ious = overlap_with_crowd(found.boxes, truth, crowd)
            taken = np.zeros((*shape, len(truth)), bool)
            # Most detections overlap nothing enough; only the others can match.
            for at in np.flatnonzero(ious.max(axis=1) >= IOU[0]):
                _match_one(ious[at], outside, crowd, taken, matched[at], ignored[at])
        if count:
            own = area(found.boxes)[:, None]
            off_size = (own < _RANGES[None, :, 0]) | (own > _RANGES[None, :, 1])
            ignored |= ~matched & off_size[:, None, :]
        kept.scores.append(found.scores)
        kept.rank.append(np.arange(count))
        kept.matched.append(matched)
        kept.ignored.append(ignored)

    def _accumulate(self) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Classes, precision (T, R, K, A, M) and recall (T, K, A, M); -1 where a class has no objects."""
        if self._result is None:
            classes = sorted(self._classes)
            shape = (len(classes), len(SIZES), len(MAX_DETECTIONS))
            precision = -np.ones((len(IOU), len(RECALL), *shape))
            recall = -np.ones((len(IOU), *shape))
            for k, index in enumerate(classes):
                _curves(self._classes[index], precision[:, :, k], recall[:, k])
            self._result = classes, precision, recall
        return self._result

    def figures(self) -> dict[str, float]:
        """The twelve figures by their short names (``AP``, ``AP50`` ... ``ARl``); -1 where there are no objects."""
        return dict(zip(NAMES, (self._figure(*line) for line in LINES), strict=True))

    def _figure(self, precise: bool, iou: float | None, size: str, detections: int) -> float:
        _, precision, recall = self._accumulate()
        a, m = list(SIZES).index(size), MAX_DETECTIONS.index(detections)
        values = precision[..., a, m] if precise else recall[..., a, m]
        if iou is not None:
            values = values[np.isclose(IOU, iou)]
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0

    def lines(self) -> list[str]:
        """The table as COCO's own tool prints it."""
        printed = []
        for line, value in zip(LINES, self.figures().values(), strict=True):
            precise, iou, size, detections = line
            title, kind = ("Average Precision", "(AP)") if precise else ("Average Recall", "(AR)")
            span = "0.50:0.95" if iou is None else f"{iou:0.2f}"
            printed.append(
                f" {title:<18} {kind} @[ IoU={span:<9} | area={size:>6s} | maxDets={detections:>3d} ] = {value:0.3f}"
            )
        return printed

    def by_class(self) -> list[tuple[int, int, float, float]]:
        """(class, objects, AP, AP50) of every class that has objects."""
        classes, precision, _ = self._accumulate()
        rows = []
        for k, index in enumerate(classes):
            objects = int(self._classes[index].positives[0])
            if objects:
                values = precision[:, :, k, 0, -1]
                rows.append((index, objects, float(values.mean()), float(values[0].mean())))
        return rows


def _match_one(
    ious: np.ndarray,
    outside: np.ndarray,
    crowd: np.ndarray,
    taken: np.ndarray,
    matched: np.ndarray,
    ignored: np.ndarray,
) -> None:
    """Match one detection at every threshold and size range, in place.

    A counted object goes before an ignored one; inside each group the largest overlap wins, and of equal ones the
    last. An object is taken once, a crowd as often as it is met.
    """
    least = np.minimum(IOU, 1 - 1e-10)[:, None, None]
    open_to = (ious[None, None] >= least) & (~taken | crowd)
    for group in (~outside, outside):
        value = np.where(open_to & group[None], ious, -1.0)
        best = value.shape[-1] - 1 - np.argmax(value[..., ::-1], axis=-1)
        hit = (np.take_along_axis(value, best[..., None], axis=-1)[..., 0] >= 0) & ~matched
        ignored |= hit & np.take_along_axis(np.broadcast_to(outside, value.shape), best[..., None], axis=-1)[..., 0]
        matched |= hit
        t, a = np.nonzero(hit)
        taken[t, a, best[t, a]] = True


def _curves(kept: _Class, precision: np.ndarray, recall: np.ndarray) -> None:
    """Fill precision (T, R, A, M) and recall (T, A, M) of one class."""
    scores, rank = np.concatenate(kept.scores), np.concatenate(kept.rank)
    matched, ignored = np.concatenate(kept.matched), np.concatenate(kept.ignored)
    for m, most in enumerate(MAX_DETECTIONS):
        chosen = np.flatnonzero(rank < most)
        chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
        for a, positives in enumerate(kept.positives):
            if not positives:
                continue
            hits = np.cumsum(matched[chosen, :, a] & ~ignored[chosen, :, a], axis=0, dtype=np.float64)
            misses = np.cumsum(~matched[chosen, :, a] & ~ignored[chosen, :, a], axis=0, dtype=np.float64)
            for t in range(len(IOU)):
                reached = hits[:, t] / positives
                exact = hits[:, t] / (hits[:, t] + misses[:, t] + np.spacing(1))
                recall[t, a, m] = reached[-1] if len(reached) else 0.0
                precision[t, :, a, m] = _at_recalls(reached, exact)


def _at_recalls(reached: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Best precision at or beyond each of ``RECALL``; 0 where that recall is not reached."""
    envelope = np.append(np.maximum.accumulate(exact[::-1])[::-1], 0.0)
    result: np.ndarray = envelope[np.searchsorted(reached, RECALL, side="left")]
    return result


def table_rows(lines: Sequence[str]) -> tuple[tuple[object, ...], ...]:
    """The printed lines as rows of (text, value)."""
    return tuple((text.strip(), float(value)) for text, _, value in (line.rpartition(" = ") for line in lines))
