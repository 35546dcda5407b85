"""YOLO heads: v5 (anchors and objectness) and v8 (anchor-free, distances as distributions).

Both as one decoded output and as the raw maps of the heads, which is where networks are cut for chips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from accel.builtin.tasks.boxes import Detections, corners, suppress_by_class
from accel.builtin.tasks.detection import Detection, wrong_outputs
from accel.builtin.tasks.options import TaskOptions
from accel.errors import AccelError

# Width and height in pixels, three a stride 8, 16, 32: yolov5s.yaml of the YOLOv5 6.x release.
ANCHORS_V5 = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
_Candidates = tuple[np.ndarray, np.ndarray]
"""Corner boxes (n, 4) and scores (n, classes)."""


class Yolo:
    """The decoder.

    Options: ``score`` (0.25; use 0.001 for AP), ``nms`` (0.45), ``candidates`` (30000 before suppression), ``keep``
    (300), ``multi`` (no: one class a box; yes: every class above the score, as AP is usually measured), ``layout``
    of raw maps (``NCHW``; ``NHWC``); v5: ``anchors`` (w,h pairs in pixels, all strides); v8: ``bins`` (16).
    """

    def __init__(self, name: str, given: TaskOptions) -> None:
        self.name = name
        self.score = given.number("score", 0.25)
        self.nms = given.number("nms", 0.45)
        self.candidates = given.whole("candidates", 30000)
        self.keep = given.whole("keep", 300)
        self.multi = given.flag("multi")
        self.layout = given.text("layout", "NCHW", ("NCHW", "NHWC"))
        read: Callable[[Mapping[str, np.ndarray], tuple[int, int]], _Candidates]
        if name == "yolov5":
            anchors = given.numbers("anchors", ANCHORS_V5)
            if not anchors or len(anchors) % 2:
                raise AccelError("anchors are pairs of width and height", code="usage.task")
            self.anchors = np.asarray(anchors, np.float64).reshape(-1, 2)
            read = self._v5
        else:
            self.bins = given.whole("bins", 16)
            read = self._v8
        self._read = read

    def __call__(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> Detections:
        """See :data:`accel.builtin.tasks.detection.Decoder`."""
        boxes, scores = self._read(outputs, size)
        scores = np.where(np.isfinite(scores), scores, 0.0)
        if self.multi:
            at, index = np.nonzero(scores > self.score)
        else:
            index = scores.argmax(axis=1)
            at = np.flatnonzero(scores[np.arange(len(scores)), index] > self.score)
            index = index[at]
        found = Detections(boxes[at], scores[at, index], index.astype(np.int64))
        found = found.at(np.isfinite(found.boxes).all(axis=1)).best(self.candidates)
        return suppress_by_class(found, self.nms, keep=self.keep)

    def _v5(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> _Candidates:
        flat = [a for a in outputs.values() if a.ndim == 3 and a.shape[0] == 1 and a.shape[2] > 5]
        if len(outputs) == 1 and flat:
            rows = flat[0][0].astype(np.float64)
            return corners(rows[:, :4]), rows[:, 4:5] * rows[:, 5:]
        maps = self._maps(outputs)
        per_map = len(self.anchors) // len(maps) if maps else 0
        if not maps or per_map * len(maps) != len(self.anchors):
            raise self._wrong(outputs, "[1,n,5+classes], or maps [1,anchors*(5+classes),h,w] for every stride")
        parts = []
        for planes, anchors in zip(maps, self.anchors.reshape(len(maps), per_map, 2), strict=True):
            count, height, width = planes.shape
            if count % per_map or count // per_map < 6:
                raise self._wrong(outputs, f"a multiple of {per_map} anchors in the channels")
            values = _sigmoid(planes.reshape(per_map, count // per_map, height, width).transpose(0, 2, 3, 1))
            stride = np.array([size[1] / width, size[0] / height])
            cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
            centers = (values[..., :2] * 2 - 0.5 + cells) * stride
            sides = (values[..., 2:4] * 2) ** 2 * anchors[:, None, None, :]
            boxes = corners(np.concatenate([centers, sides], axis=-1).reshape(-1, 4))
            parts.append((boxes, (values[..., 4:5] * values[..., 5:]).reshape(len(boxes), -1)))
        return _joined(parts)

    def _v8(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> _Candidates:
        flat = [a for a in outputs.values() if a.ndim == 3 and a.shape[0] == 1]
        if len(outputs) == 1 and flat:
            rows = flat[0][0].astype(np.float64)
            rows = rows.T if rows.shape[0] < rows.shape[1] else rows
            return corners(rows[:, :4]), rows[:, 4:]
        coded = 4 * self.bins
        parts = []
        for planes in self._paired(outputs, coded):
            count, height, width = planes.shape
            if count <= coded:
                raise self._wrong(outputs, f"maps of {coded} box channels and the classes")
            stride = np.array([size[1] / width, size[0] / height])
            cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2) + 0.5
            reach = _expected(planes[:coded].reshape(4, self.bins, -1)).T
            boxes = np.concatenate([cells - reach[:, :2], cells + reach[:, 2:]], axis=1) * np.tile(stride, 2)
            parts.append((boxes, _sigmoid(planes[coded:].reshape(count - coded, -1).T)))
        if not parts:
            raise self._wrong(outputs, f"[1,4+classes,n], or maps [1,{coded}+classes,h,w] for every stride")
        return _joined(parts)

    def _paired(self, outputs: Mapping[str, np.ndarray], coded: int) -> list[np.ndarray]:
        """Maps with boxes and classes together; separate ones of the same size are put together, boxes first."""
        by_size: dict[tuple[int, ...], list[np.ndarray]] = {}
        for planes in self._maps(outputs):
            by_size.setdefault(planes.shape[1:], []).append(planes)
        joined = []
        for group in by_size.values():
            boxes_first = sorted(group, key=lambda p: len(p) != coded) if len(group) > 1 else group
            joined.append(np.concatenate(boxes_first))
        return joined

    def _maps(self, outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The heads' maps, float64 (c, h, w), largest first."""
        maps = []
        for array in outputs.values():
            if array.ndim == 5 and array.shape[0] == 1 and self.name == "yolov5":
                # (1, anchors, h, w, 5 + classes): the layout inside YOLOv5's own head.
                array = array.transpose(0, 1, 4, 2, 3).reshape(1, -1, *array.shape[2:4])
            elif array.ndim == 4 and self.layout == "NHWC":
                array = array.transpose(0, 3, 1, 2)
            if array.ndim == 4 and array.shape[0] == 1:
                maps.append(array[0].astype(np.float64))
        return sorted(maps, key=lambda p: -p.shape[1] * p.shape[2])

    def _wrong(self, outputs: Mapping[str, np.ndarray], wanted: str) -> AccelError:
        return wrong_outputs(self.name, outputs, wanted)


def _expected(logits: np.ndarray) -> np.ndarray:
    """Mean bin of the softmax over axis 1: (4, bins, n) to (4, n)."""
    grown = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = grown / grown.sum(axis=1, keepdims=True)
    return np.tensordot(weights, np.arange(logits.shape[1]), axes=([1], [0]))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(values, -80, 80)))
    return result


def _joined(parts: Sequence[_Candidates]) -> _Candidates:
    return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([scores for _, scores in parts])


def make_v5(options: Mapping[str, str]) -> Detection:
    """The task ``yolov5``."""
    given = TaskOptions("yolov5", options)
    return Detection("yolov5", given, Yolo("yolov5", given))


def make_v8(options: Mapping[str, str]) -> Detection:
    """The task ``yolov8``."""
    given = TaskOptions("yolov8", options)
    return Detection("yolov8", given, Yolo("yolov8", given))
