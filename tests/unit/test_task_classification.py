"""Top-k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accel.builtin.tasks import make_task
from accel.dataset import Sample
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

SAMPLE = Sample("s", {}, 2)


@settings(deadline=None)
@given(scores=npst.arrays(np.float32, st.integers(2, 30), elements=st.floats(-50, 50, width=32)), k=st.integers(1, 8))
def test_topk_are_the_largest(scores: np.ndarray, k: int) -> None:
    found = make_task("classification", {"topk": str(k)}).decode({"y": scores[None]}, SAMPLE)["classes"]
    indices = [c["index"] for c in found]
    assert len(set(indices)) == len(indices) == min(k, len(scores))
    assert sorted(scores[indices].tolist(), reverse=True) == sorted(scores.tolist(), reverse=True)[:k]
    assert [c["score"] for c in found] == sorted((c["score"] for c in found), reverse=True)
    assert sum(c["score"] for c in found) <= 1 + 1e-6


def test_softmax_only_when_needed() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2]], np.float32)
    task = make_task("classification")
    assert task.decode({"y": probabilities}, SAMPLE)["classes"][0]["score"] == pytest.approx(0.7)
    logits = np.log(probabilities) + 3
    assert task.decode({"y": logits}, SAMPLE)["classes"][0]["score"] == pytest.approx(0.7, rel=1e-5)
    raw = make_task("classification", {"softmax": "no"}).decode({"y": logits}, SAMPLE)
    assert raw["classes"][0]["score"] == pytest.approx(float(np.log(0.7) + 3), rel=1e-5)


def test_labels_background_and_pooled_shape(tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("ant\nbee\ncat\n")
    task = make_task("classification", {"labels": str(names), "offset": "1", "topk": "1"})
    scores = np.array([9.0, 0.0, 0.0, 5.0], np.float32).reshape(1, 4, 1, 1)
    assert task.decode({"y": scores}, SAMPLE)["classes"][0]["label"] == "cat"
    with pytest.raises(AccelError, match="too short"):
        task.decode({"y": np.zeros((1, 9), np.float32)}, SAMPLE)


def test_meter() -> None:
    task = make_task("classification", {"topk": "2"})
    meter = task.meter()
    rows = [([0, 1, 9], 2), ([0, 9, 5], 2), ([9, 5, 0], 2), ([1, 0, 0], None)]
    for scores, label in rows:
        sample = Sample("s", {}, label)
        meter.add(task.decode({"y": np.array([scores], np.float32)}, sample), sample)
    assert meter.metrics() == {"top1": 1 / 3, "top2": 2 / 3}
    assert "1 samples have no label" in meter.notes()[0]  # type: ignore[attr-defined]


def test_wrong_outputs_and_options() -> None:
    task = make_task("classification")
    with pytest.raises(AccelError, match="not one score"):
        task.decode({"y": np.zeros((1, 3, 2, 2), np.float32)}, SAMPLE)
    with pytest.raises(AccelError, match="2 outputs"):
        task.decode({"y": np.zeros((1, 3)), "z": np.zeros((1, 3))}, SAMPLE)
    for options in ({"topk": "many"}, {"colour": "1"}, {"softmax": "maybe"}, {"topk": "0"}):
        with pytest.raises(AccelError) as caught:
            make_task("classification", options)
        assert caught.value.code == "usage.task"
    with pytest.raises(AccelError, match="no task"):
        make_task("telepathy")


def test_draw(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.new("RGB", (120, 90), "white").save(source)
    task = make_task("classification")
    sample = Sample("a", {}, None, {"path": source})
    task.draw(task.decode({"y": np.eye(5, dtype=np.float32)[:1]}, sample), sample, tmp_path / "out" / "a.png")
    with Image.open(tmp_path / "out" / "a.png") as drawn:
        assert drawn.size == (120, 90)
        assert drawn.getpixel((4, 6)) != (255, 255, 255)
    with pytest.raises(AccelError, match="not a picture"):
        task.draw({"classes": []}, Sample("b", {}), tmp_path / "b.png")
