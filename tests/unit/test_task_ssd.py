"""SSD's decoder against a box-by-box model of Caffe's layers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.tasks import make_task
from accel.builtin.tasks.ssd import PRESETS, PriorLayer, prior_boxes
from accel.dataset import Sample
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SQUARE = {"network_size": (100, 100)}


def test_ssd300_has_8732_priors_of_the_paper() -> None:
    priors = prior_boxes(*PRESETS["ssd300"])
    assert priors.shape == (8732, 4)
    # First cell of the first map: centre (4, 4), sides 30 and sqrt(30 * 60), then ratio 2 and 1/2.
    expected = [(30, 30), (math.sqrt(1800),) * 2, (30 * math.sqrt(2), 30 / math.sqrt(2))]
    for row, (width, height) in zip(priors, expected, strict=False):
        np.testing.assert_allclose(
            row * 300, [4 - width / 2, 4 - height / 2, 4 + width / 2, 4 + height / 2], rtol=1e-12
        )
    assert priors[3, 2] - priors[3, 0] == pytest.approx(30 / math.sqrt(2) / 300)
    # The last map has one cell in the middle of the picture.
    np.testing.assert_allclose((priors[-4:, :2] + priors[-4:, 2:]) / 2, 0.5)


def test_prior_without_step_with_clip() -> None:
    priors = prior_boxes([PriorLayer((1, 2), (60.0,), ratios=(3.0,), flip=False, clip=True)], (40, 80))
    assert priors.shape == (4, 4)
    assert priors.min() >= 0
    assert priors.max() <= 1
    np.testing.assert_allclose(priors[0], [0, 0, 50 / 80, 1])


def caffe_by_hand(
    loc: np.ndarray, conf: np.ndarray, priors: np.ndarray, variances: np.ndarray, score: float, nms: float, keep: int
) -> list[tuple[float, int, list[float]]]:
    """DetectionOutput, one box after the other."""

    def iou(a: list[float], b: list[float]) -> float:
        w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        if w <= 0 or h <= 0:
            return 0.0
        return w * h / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h)

    boxes = []
    for (dx, dy, dw, dh), (x1, y1, x2, y2), v in zip(loc, priors, variances, strict=True):
        pw, ph = x2 - x1, y2 - y1
        cx, cy = v[0] * dx * pw + (x1 + x2) / 2, v[1] * dy * ph + (y1 + y2) / 2
        w, h = math.exp(v[2] * dw) * pw, math.exp(v[3] * dh) * ph
        boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    found = []
    for label in range(1, conf.shape[1]):
        kept: list[int] = []
        order = sorted((i for i in range(len(conf)) if conf[i, label] > score), key=lambda i: -conf[i, label])
        for i in order[:400]:
            if all(iou(boxes[i], boxes[k]) <= nms for k in kept):
                kept.append(i)
        found += [(float(conf[i, label]), label - 1, boxes[i]) for i in kept]
    return sorted(found, key=lambda f: -f[0])[:keep]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4), logits=st.booleans())
def test_heads_equal_the_model_by_hand(seed: int, classes: int, logits: bool) -> None:
    rng = np.random.default_rng(seed)
    priors = prior_boxes([PriorLayer((4, 4), (30.0,), (50.0,), (2.0,))], (100, 100))
    count = len(priors)
    loc = rng.standard_normal((count, 4)) * 2
    raw = rng.standard_normal((count, classes)) * 3
    conf = np.exp(raw) / np.exp(raw).sum(1, keepdims=True)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (count, 1))
    outputs = {
        "mbox_loc": loc.reshape(1, -1),
        "mbox_conf": (raw if logits else conf).reshape(1, -1),
        "mbox_priorbox": np.stack([priors.ravel(), variances.ravel()])[None],
    }
    task = make_task("ssd", {"score": "0.2", "nms": "0.4", "keep": "7"})
    got = task.decode(outputs, Sample("s", {}, None, SQUARE))["boxes"]
    expected = caffe_by_hand(loc, conf, priors, variances, 0.2, 0.4, 7)
    assert len(got) == len(expected)
    for have, (score, label, box) in zip(got, expected, strict=True):
        assert have["class"] == label
        assert have["score"] == pytest.approx(score, rel=1e-9)
        np.testing.assert_allclose(have["box"], np.asarray(box) * 100, atol=1e-7)


def test_detection_output_rows_are_read() -> None:
    rows = np.array([[0, 2, 0.9, 0.1, 0.2, 0.5, 0.6], [0, 1, 0.001, 0, 0, 1, 1], [-1, 0, 0, 0, 0, 0, 0]], np.float32)
    meta = {"network_size": (100, 100), "original_size": (50, 200), "scale": (2.0, 0.5), "offset": (0.0, 0.0)}
    got = make_task("ssd").decode({"detection_out": rows[None, None]}, Sample("s", {}, None, meta))["boxes"]
    assert [(b["class"], round(b["score"], 3)) for b in got] == [(1, 0.9)]
    np.testing.assert_allclose(got[0]["box"], [20, 10, 100, 30], atol=1e-5)


def test_priors_from_a_file_and_named_outputs(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]]))
    task = make_task("ssd", {"priors": str(tmp_path / "p.npy"), "loc": "a", "conf": "b"})
    outputs = {"b": np.array([[[0.1, 0.9], [0.9, 0.1]]]), "a": np.zeros((1, 2, 4)), "c": np.zeros((1, 3))}
    got = task.decode(outputs, Sample("s", {}, None, SQUARE))["boxes"]
    assert got[0]["box"] == [0, 0, 50, 50]
    for options in ({"priors": "no.npy"}, {"variances": "1,2"}, {"loc": "zz", "priors": "ssd300"}):
        with pytest.raises(AccelError):
            make_task("ssd", options).decode(outputs, Sample("s", {}, None, SQUARE))


def test_wrong_outputs_are_described() -> None:
    with pytest.raises(AccelError) as caught:
        make_task("ssd").decode({"y": np.zeros((1, 1000))}, Sample("s", {}, None, SQUARE))
    assert caught.value.code == "evaluate.output"
    assert "y [1, 1000]" in caught.value.cause
    with pytest.raises(AccelError, match="size is not known"):
        make_task("ssd").decode({"y": np.zeros((1, 1, 1, 7))}, Sample("s", {}))


def test_draw_and_meter(tmp_path: Path) -> None:
    from accel.builtin.datasets.truth import make_boxes

    source = tmp_path / "a.png"
    Image.new("RGB", (100, 100), "black").save(source)
    task = make_task("ssd", {"metric": "coco,voc"})
    sample = Sample("a", {}, make_boxes([[20, 30, 60, 80]], [0]), {**SQUARE, "path": source})
    rows = np.array([[[[0, 1, 0.9, 0.2, 0.3, 0.6, 0.8]]]], np.float32)
    prediction = task.decode({"d": rows}, sample)
    task.draw(prediction, sample, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.getpixel((20, 60)) != (0, 0, 0)
        assert drawn.getpixel((40, 60)) == (0, 0, 0)
    meter = task.meter()
    meter.add(prediction, sample)
    assert meter.metrics()["AP75"] == pytest.approx(1)
    assert meter.metrics()["mAP"] == pytest.approx(1)
    assert [t.title for t in meter.tables()] == ["COCO", "COCO by class", "VOC by class"]
    with pytest.raises(AccelError, match="not labelled with boxes"):
        meter.add(prediction, Sample("b", {}, 3))


def head(**changes: object) -> dict[str, str]:
    from accel.builtin.frontends.detection import KEY, DetectionHead

    start = DetectionHead(
        location="a",
        confidence="b",
        classes=2,
        background=0,
        share_location=True,
        code="center_size",
        variance_in_target=False,
        nms_threshold=0.3,
        nms_top_k=-1,
        nms_eta=1.0,
        keep_top_k=7,
        confidence_threshold=0.6,
        priors=np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]], np.float32),
        variances=np.full((2, 4), 0.5, np.float32),
    )
    return {KEY: replace(start, **changes).to_json()}  # type: ignore[arg-type]


def test_a_head_that_was_cut_off_is_adopted() -> None:
    outputs = {"b": np.array([[[0.1, 0.9], [0.5, 0.5]]]), "a": np.array([[[1.0, 0, 0, 0], [0, 0, 0, 0]]])}
    sample = Sample("s", {}, None, SQUARE)

    def boxes(options: dict[str, str], **changes: object) -> list[list[float]]:
        task = make_task("ssd", options)
        task.adopt(head(**changes))  # type: ignore[attr-defined]
        return [b["box"] for b in task.decode(outputs, sample)["boxes"]]

    assert boxes({}) == [[25, 0, 75, 50]]
    assert boxes({"score": "0.4"}) == [[25, 0, 75, 50], [50, 50, 100, 100]]  # what was given stays
    assert boxes({}, variance_in_target=True) == [[50, 0, 100, 50]]
    assert boxes({}, code="corner") == [[50, 0, 50, 50]]
    assert boxes({}, code="corner_size") == [[25, 0, 50, 50]]
    for changes in ({"share_location": False}, {"nms_eta": 0.9}):
        with pytest.raises(AccelError) as caught:
            boxes({}, **changes)
        assert caught.value.code == "unsupported.head"
