"""YOLO's decoders: raw maps against cell-by-cell formulas, and against the decoded form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from accel.builtin.tasks import make_task
from accel.builtin.tasks.yolo import ANCHORS_V5
from accel.dataset import Sample
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st

SAMPLE = Sample("s", {}, None, {"network_size": (64, 64)})
OPTIONS = {"score": "0.05", "nms": "1"}  # nothing is suppressed: every candidate can be compared
CLASSES = 3


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def v5_maps(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"p{s}": rng.standard_normal((1, 3 * (5 + CLASSES), 64 // s, 64 // s)) for s in (8, 16, 32)}


def v5_by_hand(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Decoded rows (n, 5 + classes)."""
    rows = []
    for level, stride in enumerate((8, 16, 32)):
        array = outputs[f"p{stride}"][0]
        for a in range(3):
            planes = array[a * (5 + CLASSES) : (a + 1) * (5 + CLASSES)]
            w, h = ANCHORS_V5[(level * 3 + a) * 2 : (level * 3 + a) * 2 + 2]
            for y in range(planes.shape[1]):
                for x in range(planes.shape[2]):
                    v = [sigmoid(float(p)) for p in planes[:, y, x]]
                    box = [(v[0] * 2 - 0.5 + x) * stride, (v[1] * 2 - 0.5 + y) * stride]
                    rows.append([*box, (v[2] * 2) ** 2 * w, (v[3] * 2) ** 2 * h, *v[4:]])
    return np.asarray(rows)


def v8_maps(seed: int, bins: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"p{s}": rng.standard_normal((1, 4 * bins + CLASSES, 64 // s, 64 // s)) * 2 for s in (8, 16, 32)}


def v8_by_hand(outputs: dict[str, np.ndarray], bins: int = 4) -> np.ndarray:
    """Decoded rows (n, 4 + classes)."""
    rows = []
    for stride in (8, 16, 32):
        planes = outputs[f"p{stride}"][0]
        for y in range(planes.shape[1]):
            for x in range(planes.shape[2]):
                reach = []
                for side in range(4):
                    weights = [math.exp(planes[side * bins + b, y, x]) for b in range(bins)]
                    reach.append(sum(b * w for b, w in enumerate(weights)) / sum(weights))
                x1, y1, x2, y2 = x + 0.5 - reach[0], y + 0.5 - reach[1], x + 0.5 + reach[2], y + 0.5 + reach[3]
                box = [(x1 + x2) / 2 * stride, (y1 + y2) / 2 * stride, (x2 - x1) * stride, (y2 - y1) * stride]
                rows.append([*box, *(sigmoid(float(p)) for p in planes[4 * bins :, y, x])])
    return np.asarray(rows)


def same(got: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    def order(rows: list[dict[str, object]]) -> list[tuple[object, ...]]:
        return sorted((r["class"], round(r["score"], 9), tuple(np.round(r["box"], 6))) for r in rows)  # type: ignore[call-overload]

    assert got
    assert order(got) == order(expected)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), multi=st.booleans())
def test_v5_maps_equal_the_formulas(seed: int, multi: bool) -> None:
    outputs = v5_maps(seed)
    task = make_task("yolov5", {**OPTIONS, "multi": str(multi), "keep": "10000"})
    expected = task.decode({"output": v5_by_hand(outputs)[None]}, SAMPLE)["boxes"]
    same(task.decode(outputs, SAMPLE)["boxes"], expected)
    five = {
        n: a.reshape(1, 3, 5 + CLASSES, *a.shape[2:]).transpose(0, 1, 3, 4, 2) for n, a in reversed(outputs.items())
    }
    same(task.decode(five, SAMPLE)["boxes"], expected)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_v8_maps_equal_the_formulas(seed: int) -> None:
    outputs = v8_maps(seed)
    task = make_task("yolov8", {**OPTIONS, "bins": "4", "keep": "10000"})
    rows = v8_by_hand(outputs)
    expected = task.decode({"output": rows.T[None]}, SAMPLE)["boxes"]
    same(task.decode(outputs, SAMPLE)["boxes"], expected)
    nhwc = make_task("yolov8", {**OPTIONS, "bins": "4", "keep": "10000", "layout": "NHWC"})
    same(nhwc.decode({n: a.transpose(0, 2, 3, 1) for n, a in outputs.items()}, SAMPLE)["boxes"], expected)
    apart = {f"{n}_{k}": part for n, a in outputs.items() for k, part in (("cls", a[:, 16:]), ("box", a[:, :16]))}
    same(task.decode(apart, SAMPLE)["boxes"], expected)


def test_the_score_is_objectness_times_class() -> None:
    row = np.array([[[32, 32, 10, 20, 0.5, 0.2, 0.9, 0.1]]])
    (got,) = make_task("yolov5").decode({"y": row}, SAMPLE)["boxes"]
    assert got["class"] == 1
    assert got["score"] == pytest.approx(0.45)
    assert got["box"] == [27, 22, 37, 42]


def test_doubles_of_a_class_are_suppressed() -> None:
    rows = np.zeros((12, 6))
    rows[:3] = [[32, 32, 20, 20, 0.9, 0.0], [33, 32, 20, 20, 0.8, 0.0], [32, 32, 20, 20, 0.0, 0.7]]
    got = make_task("yolov8").decode({"y": rows.T[None]}, SAMPLE)["boxes"]
    assert [(b["class"], b["score"]) for b in got] == [(0, 0.9), (1, 0.7)]


def test_wrong_outputs() -> None:
    for name in ("yolov5", "yolov8"):
        with pytest.raises(AccelError, match=name) as caught:
            make_task(name).decode({"y": np.zeros((1, 7))}, SAMPLE)
        assert caught.value.code == "evaluate.output"
    with pytest.raises(AccelError, match="yolov5"):
        make_task("yolov5").decode({"a": np.zeros((1, 7, 4, 4)), "b": np.zeros((1, 24, 2, 2))}, SAMPLE)
