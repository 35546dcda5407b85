"""SSD: priors, variances, suppression per class.

The arithmetic is that of Caffe's PriorBox and DetectionOutput layers (Liu et al., arXiv:1512.02325, and the layer
documentation of the SSD fork).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel.builtin.frontends.detection import KEY, DetectionHead
from accel.builtin.tasks.boxes import Detections, suppress_by_class
from accel.builtin.tasks.detection import Detection, wrong_outputs
from accel.builtin.tasks.options import TaskOptions
from accel.errors import AccelError

WANTED = "one output [1,1,n,7] (DetectionOutput), or loc [1,4p] and conf [1,p*classes] (and priors [1,2,4p])"


@dataclass(frozen=True)
class PriorLayer:
    """One PriorBox layer.

    Attributes:
        grid: (height, width) of the feature map.
        min_sizes: In pixels.
        max_sizes: In pixels, one for each of ``min_sizes``, or none.
        ratios: Aspect ratios besides 1; with ``flip`` their inverses too.
        step: (y, x) in pixels; 0: the picture's size over the grid.
        offset: Of the centres, in steps.
    """

    grid: tuple[int, int]
    min_sizes: tuple[float, ...]
    max_sizes: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    step: tuple[float, float] = (0.0, 0.0)
    offset: float = 0.5


def _ssd300() -> tuple[PriorLayer, ...]:
    # Table of the SSD300 VGG network trained on VOC (ssd_pascal.py of the SSD fork).
    rows = [
        (38, 30, 60, (2.0,), 8),
        (19, 60, 111, (2.0, 3.0), 16),
        (10, 111, 162, (2.0, 3.0), 32),
        (5, 162, 213, (2.0, 3.0), 64),
        (3, 213, 264, (2.0,), 100),
        (1, 264, 315, (2.0,), 300),
    ]
    return tuple(PriorLayer((g, g), (lo,), (hi,), ratios, step=(s, s)) for g, lo, hi, ratios, s in rows)


PRESETS = {"ssd300": (_ssd300(), (300, 300))}


def prior_boxes(layers: Sequence[PriorLayer], size: tuple[int, int]) -> np.ndarray:
    """Priors, float64 (p, 4): x1, y1, x2, y2 as shares of the picture.

    Args:
        layers: In the order of the network's heads.
        size: (height, width) of the network's input in pixels.
    """
    return np.concatenate([_priors_of(layer, size) for layer in layers])


def _priors_of(layer: PriorLayer, size: tuple[int, int]) -> np.ndarray:
    (rows, columns), (height, width) = layer.grid, size
    step_y, step_x = layer.step[0] or height / rows, layer.step[1] or width / columns
    ratios = [r for ratio in layer.ratios for r in ((ratio, 1 / ratio) if layer.flip else (ratio,))]
    sides: list[tuple[float, float]] = []
    for at, least in enumerate(layer.min_sizes):
        sides.append((least, least))
        if layer.max_sizes:
            middle = math.sqrt(least * layer.max_sizes[at])
            sides.append((middle, middle))
        sides += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios if abs(r - 1) > 1e-6]
    centers = np.array(list(itertools.product(np.arange(rows), np.arange(columns))), np.float64) + layer.offset
    centers = centers[:, None, ::-1] * (step_x, step_y)
    half = np.asarray(sides)[None] / 2
    boxes = np.concatenate([centers - half, centers + half], axis=2).reshape(-1, 4) / (width, height, width, height)
    return np.clip(boxes, 0.0, 1.0) if layer.clip else boxes


def decode_locations(
    locations: np.ndarray, priors: np.ndarray, variances: np.ndarray, code: str = "center_size"
) -> np.ndarray:
    """Corner boxes from a head's codes.

    Args:
        locations: (p, 4): dx, dy, dw, dh of ``center_size``, else offsets of the corners.
        priors: (p, 4) corners.
        variances: (4,) or (p, 4).
        code: ``center_size``: centre = prior centre + variance * d * prior size, size = prior size * exp(variance
            * d); ``corner``: corners = prior corners + variance * d; ``corner_size``: the same in prior sizes.
    """
    sizes = priors[:, 2:] - priors[:, :2]
    centers = (priors[:, :2] + priors[:, 2:]) / 2
    scaled = locations * variances
    if code != "center_size":
        moved: np.ndarray = priors + (scaled * np.tile(sizes, 2) if code == "corner_size" else scaled)
        return moved
    center = centers + scaled[:, :2] * sizes
    half = sizes * np.exp(np.minimum(scaled[:, 2:], 50.0)) / 2
    return np.concatenate([center - half, center + half], axis=1)


class Ssd:
    """The decoder.

    Options: ``score`` (0.01), ``nms`` (0.45), ``candidates`` (400 a class), ``keep`` (200), ``background`` (0; -1:
    none), ``variances`` (0.1,0.1,0.2,0.2), ``softmax`` (``auto``), ``priors`` (``ssd300``, or an .npy file of
    (p,4) or (1,2,4p) corners as shares of the picture; default: an output of the network), ``loc``, ``conf``,
    ``prior_output`` (names of outputs). Classes are counted without the background.

    What is not given comes from the head that the frontend cut off the network (:meth:`adopt`), if there is one.
    """

    def __init__(self, given: TaskOptions) -> None:
        self._given = given
        self.code = "center_size"
        self.score = given.number("score", 0.01)
        self.nms = given.number("nms", 0.45)
        self.candidates = given.whole("candidates", 400)
        self.keep = given.whole("keep", 200)
        self.background = given.whole("background", 0)
        self.softmax = given.text("softmax", "auto", ("auto", "yes", "no"))
        self.variances = np.asarray(given.numbers("variances", (0.1, 0.1, 0.2, 0.2)))
        self.names = {part: given.text(part) for part in ("loc", "conf", "prior_output")}
        if self.variances.shape != (4,):
            raise AccelError("variances are four numbers", code="usage.task")
        self.priors, self.prior_variances = _given_priors(given.text("priors"))

    def adopt(self, metadata: Mapping[str, str]) -> None:
        """Take the parameters of a head from a network's metadata; options that were given stay.

        Raises:
            AccelError: ``model.detection`` for metadata that are broken, ``unsupported.head`` for a head with a box
                for every class or a threshold that adapts.
        """
        if KEY not in metadata or self.priors is not None or self.names["prior_output"]:
            return
        head = DetectionHead.from_json(metadata[KEY])
        if not head.share_location or head.nms_eta != 1.0:
            raise AccelError(
                "this SSD head is not supported",
                code="unsupported.head",
                cause="it has a box for every class, or a suppression threshold that adapts",
            )
        self.priors = head.priors.astype(np.float64)
        self.prior_variances = np.ones_like(self.priors) if head.variance_in_target else head.variances.astype(float)
        self.code = head.code
        theirs: dict[str, object] = {
            "score": head.confidence_threshold,
            "nms": head.nms_threshold,
            "candidates": max(0, head.nms_top_k),
            "keep": max(0, head.keep_top_k),
            "background": head.background,
        }
        for name, value in theirs.items():
            if not self._given.has(name):
                setattr(self, name, value)
        self.names["loc"] = self.names["loc"] or head.location
        self.names["conf"] = self.names["conf"] or head.confidence

    def __call__(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> Detections:
        """See :data:`accel.builtin.tasks.detection.Decoder`."""
        height, width = size
        done = [array for array in outputs.values() if array.ndim == 4 and array.shape[-1] == 7]
        if len(outputs) == 1 and done:
            found = self._from_detection_output(done[0].reshape(-1, 7))
        else:
            found = self._from_heads(outputs)
        return Detections(found.boxes * (width, height, width, height), found.scores, found.classes)

    def _from_detection_output(self, rows: np.ndarray) -> Detections:
        # Caffe writes one row of -1 when nothing was found.
        rows = rows[(rows[:, 0] >= 0) & np.isfinite(rows).all(axis=1) & (rows[:, 2] >= self.score)]
        found = Detections(
            rows[:, 3:7].astype(np.float64), rows[:, 2].astype(np.float64), self._class(rows[:, 1].astype(np.int64))
        )
        return found.best(self.keep or len(found))

    def _from_heads(self, outputs: Mapping[str, np.ndarray]) -> Detections:
        locations, confidences, priors, variances = self._heads(outputs)
        scores = self._probabilities(confidences)
        counted = np.arange(scores.shape[1]) != self.background
        at, index = np.nonzero((scores > self.score) & np.isfinite(scores) & counted[None])
        boxes = decode_locations(locations[at], priors[at], variances[at], self.code)
        sound = np.isfinite(boxes).all(axis=1)
        found = Detections(boxes, scores[at, index], self._class(index)).at(sound)
        return suppress_by_class(found, self.nms, candidates=self.candidates, keep=self.keep)

    def _class(self, index: np.ndarray) -> np.ndarray:
        """Class indices without the background."""
        result: np.ndarray = index - ((index > self.background) & (self.background >= 0))
        return result

    def _heads(self, outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        left = dict(outputs)
        named = {part: left.pop(name) for part, name in self.names.items() if name and name in left}
        if missing := [name for part, name in self.names.items() if name and part not in named]:
            raise wrong_outputs("SSD", outputs, f"an output called {missing[0]}")
        priors, variances = self.priors, self.prior_variances
        if priors is None:
            array = named.get("prior_output")
            if array is None:
                name = next((n for n, a in left.items() if a.ndim == 3 and a.shape[1] == 2), None)
                if name is None:
                    raise wrong_outputs("SSD", outputs, WANTED + "; or the task option priors")
                array = left.pop(name)
            priors, variances = split_priors(array)
        count = len(priors)
        loc = named.get("loc")
        if loc is None:
            name = next((n for n, a in left.items() if a.size == 4 * count and "conf" not in n), None)
            loc = left.pop(name) if name else None
        conf = named.get("conf")
        if conf is None:
            name = next((n for n, a in left.items() if a.size % count == 0 and a.size > count), None)
            conf = left.pop(name) if name else None
        if loc is None or conf is None or loc.size != 4 * count or conf.size % count:
            raise wrong_outputs("SSD", outputs, f"{WANTED}, with p={count} priors")
        spread = np.broadcast_to(self.variances, (count, 4)) if variances is None else variances
        return loc.reshape(count, 4).astype(np.float64), conf.reshape(count, -1).astype(np.float64), priors, spread

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        sums = scores.sum(axis=1)
        already = bool(scores.min(initial=0) >= 0 and np.all(np.abs(sums - 1) < 0.05))
        if self.softmax == "no" or (self.softmax == "auto" and already):
            return scores
        grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: np.ndarray = grown / grown.sum(axis=1, keepdims=True)
        return result


def split_priors(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Caffe's (1, 2, 4p) into corners and variances (p, 4); (p, 4) has no variances.

    Raises:
        AccelError: ``usage.task`` for any other shape.
    """
    values = array.astype(np.float64)
    if values.ndim == 3 and values.shape[:2] == (1, 2) and values.shape[2] % 4 == 0:
        return values[0, 0].reshape(-1, 4), values[0, 1].reshape(-1, 4)
    if values.ndim == 2 and values.shape[1] == 4 and len(values):
        return values, None
    raise AccelError(f"priors of shape {list(array.shape)} are neither [p,4] nor [1,2,4p]", code="usage.task")


def _given_priors(text: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not text:
        return None, None
    if text in PRESETS:
        return prior_boxes(*PRESETS[text]), None
    try:
        return split_priors(np.load(Path(text), allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise AccelError(
            f"cannot read the priors {text!r}",
            code="usage.task",
            cause=str(error),
            hints=[f"Give an .npy file or one of: {', '.join(PRESETS)}."],
        ) from error


def make(options: Mapping[str, str]) -> Detection:
    """The task ``ssd``."""
    given = TaskOptions("ssd", options)
    return Detection("ssd", given, Ssd(given))
