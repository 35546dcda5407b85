"""CenterNet: objects as peaks of a heat map (Zhou et al., arXiv:1904.07850), and TTFNet, whose peaks lie off the
middle of their boxes (Liu et al., arXiv:1909.00700)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel.builtin.tasks.boxes import Detections
from accel.builtin.tasks.detection import Detection, wrong_outputs
from accel.builtin.tasks.options import TaskOptions

WANTED = (
    "heat [1,classes,h,w], size [1,2,h,w] (or [1,4,h,w]), perhaps offset [1,2,h,w] and the pooled heat [1,classes,h,w]"
)
_WORDS = {
    "pooled": ("pool", "hmax", "max"),
    "heat": ("hm", "heat", "center", "cls"),
    "size": ("wh", "size"),
    "offset": ("reg", "off"),
}


class CenterNet:
    """The decoder.

    Options: ``score`` (0.05), ``keep`` (100), ``pool`` (3: side of the window in which a peak is the largest; 1: the
    network leaves peaks only), ``sigmoid`` (``auto``: when the heat leaves 0..1; ``yes``, ``no``), ``layout``
    (``NCHW``; ``NHWC``), ``heat``, ``size_output``, ``offset``, ``pooled`` (names of outputs).

    With four outputs a peak is where heat equals the pooled heat; with three the decoder pools (which changes
    nothing where the network already did); with two there is no offset and centres are the middles of their cells.

    A size of two channels is width and height in cells. One of four is the distance from the corner of a peak's cell to
    the left, upper, right and lower side of its box, in pixels of the input (TTFNet); it takes no offset.
    """

    def __init__(self, given: TaskOptions) -> None:
        self.score = given.number("score", 0.05)
        self.keep = given.whole("keep", 100)
        self.pool = given.whole("pool", 3)
        self.sigmoid = given.text("sigmoid", "auto", ("auto", "yes", "no"))
        self.layout = given.text("layout", "NCHW", ("NCHW", "NHWC"))
        names = {"heat": "heat", "size": "size_output", "offset": "offset", "pooled": "pooled"}
        self.names = {part: given.text(option) for part, option in names.items()}

    def __call__(self, outputs: Mapping[str, np.ndarray], size: tuple[int, int]) -> Detections:
        """See :data:`accel.builtin.tasks.detection.Decoder`."""
        parts = self._parts(outputs)
        heat = parts["heat"]
        squash = self.sigmoid == "yes" or (self.sigmoid == "auto" and (heat.min() < 0 or heat.max() > 1))
        pooled = parts["pooled"] if "pooled" in parts else max_pool(heat, self.pool)
        peaks = heat >= pooled
        scores = 1 / (1 + np.exp(-np.clip(heat, -80, 80))) if squash else heat
        index, row, column = np.nonzero(peaks & (scores > self.score) & np.isfinite(scores))
        values = scores[index, row, column]
        best = np.argsort(-values, kind="stable")[: self.keep]
        index, row, column, values = index[best], row[best], column[best], values[best]
        stride = np.array([size[1] / heat.shape[2], size[0] / heat.shape[1]] * 2)
        cells = np.stack([column, row, column, row], axis=1)
        if len(parts["size"]) == 4:
            boxes = cells * stride + parts["size"][:, row, column].T * np.array([-1, -1, 1, 1])
        else:
            boxes = self._around_centres(parts, row, column) * stride
        sound = np.isfinite(boxes).all(axis=1)
        return Detections(boxes, values, index).at(sound)

    @staticmethod
    def _around_centres(parts: Mapping[str, np.ndarray], row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Boxes in cells, (n, 4)."""
        if "offset" in parts:
            x = column + parts["offset"][0, row, column]
            y = row + parts["offset"][1, row, column]
        else:
            x, y = column + 0.5, row + 0.5
        half_w, half_h = parts["size"][0, row, column] / 2, parts["size"][1, row, column] / 2
        return np.stack([x - half_w, y - half_h, x + half_w, y + half_h], axis=1)

    def _parts(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Float64 (c, h, w) by part: by the options, then by what the names say, then by the channels."""
        maps = {n: self._planes(a) for n, a in outputs.items() if a.ndim == 4 and a.shape[0] == 1}
        parts: dict[str, str] = {}
        for part, name in self.names.items():
            if name:
                if name not in maps:
                    raise wrong_outputs("CenterNet", outputs, f"an output called {name}")
                parts[part] = name
        for part, words in _WORDS.items():
            free = [n for n in maps if n not in parts.values()]
            named = [n for n in free if any(word in n.lower() for word in words)]
            if part not in parts and len(named) == 1 and _fits(part, maps[named[0]]):
                parts[part] = named[0]
        self._by_channels(maps, parts)
        if "heat" not in parts or "size" not in parts or not _agree(maps, parts):
            raise wrong_outputs("CenterNet", outputs, WANTED)
        return {part: maps[name] for part, name in parts.items()}

    def _planes(self, array: np.ndarray) -> np.ndarray:
        planes = array[0].astype(np.float64)
        result: np.ndarray = planes if self.layout == "NCHW" else planes.transpose(2, 0, 1)
        return result

    @staticmethod
    def _by_channels(maps: Mapping[str, np.ndarray], parts: dict[str, str]) -> None:
        """Two channels: size, then offset; else heat, then the pooled heat (which is nowhere smaller)."""
        free = [n for n in maps if n not in parts.values()]
        pairs, rest = [n for n in free if len(maps[n]) == 2], [n for n in free if len(maps[n]) != 2]
        for part in ("size", "offset"):
            if part not in parts and pairs:
                parts[part] = pairs.pop(0)
        for part in ("heat", "pooled"):
            if part not in parts and rest:
                parts[part] = rest.pop(0)
        if "heat" in parts and "pooled" in parts:
            heat, pooled = maps[parts["heat"]], maps[parts["pooled"]]
            if heat.shape == pooled.shape and (heat > pooled).any() and not (pooled > heat).any():
                parts["heat"], parts["pooled"] = parts["pooled"], parts["heat"]


def _fits(part: str, planes: np.ndarray) -> bool:
    return part in ("heat", "pooled") or len(planes) == 2 or (part == "size" and len(planes) == 4)


def _agree(maps: Mapping[str, np.ndarray], parts: Mapping[str, str]) -> bool:
    heat = maps[parts["heat"]].shape
    sides = len(maps[parts["size"]])
    if sides == 4 and "offset" in parts:
        return False
    wanted = {"heat": heat, "pooled": heat, "size": (sides, *heat[1:]), "offset": (2, *heat[1:])}
    return sides in (2, 4) and all(maps[name].shape == wanted[part] for part, name in parts.items())


def max_pool(planes: np.ndarray, side: int) -> np.ndarray:
    """The largest value in a window of ``side`` by ``side`` around each, (c, h, w); NaN counts as the least."""
    known = np.where(np.isnan(planes), -np.inf, planes)
    if side <= 1:
        return known
    reach = side // 2
    padded = np.pad(known, ((0, 0), (reach, side - 1 - reach), (reach, side - 1 - reach)), constant_values=-np.inf)
    rows = np.lib.stride_tricks.sliding_window_view(padded, side, axis=1).max(axis=-1)
    result: np.ndarray = np.lib.stride_tricks.sliding_window_view(rows, side, axis=2).max(axis=-1)
    return result


def make(options: Mapping[str, str]) -> Detection:
    """The task ``centernet``."""
    given = TaskOptions("centernet", options)
    return Detection("centernet", given, CenterNet(given))
