"""Class maps back in the picture, and their drawing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from accel.builtin.datasets.palette import classes_of_colors, read_palette, voc_palette
from accel.builtin.datasets.pictures import Preprocessor
from accel.builtin.tasks import make_task
from accel.builtin.tasks.segmentation import OUTSIDE, to_picture
from accel.dataset import Sample
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def test_scores_nhwc_and_class_maps_agree() -> None:
    scores = np.random.default_rng(0).standard_normal((1, 5, 6, 7)).astype(np.float32)
    expected = scores[0].argmax(0)
    sample = Sample("s", {})
    for outputs, options in [
        ({"y": scores}, {}),
        ({"y": scores.transpose(0, 2, 3, 1)}, {"layout": "NHWC"}),
        ({"y": expected[None].astype(np.float32)}, {}),
        ({"y": expected[None, None]}, {}),
    ]:
        found = make_task("segmentation", options).decode(outputs, sample)
        np.testing.assert_array_equal(found.array, expected)
    with pytest.raises(AccelError, match="no segmentation"):
        make_task("segmentation").decode({"y": np.zeros((1, 9))}, sample)


def test_nan_never_wins() -> None:
    scores = np.zeros((1, 2, 1, 1), np.float32)
    scores[0, 0] = np.nan
    assert make_task("segmentation").decode({"y": scores}, Sample("s", {})).array.tolist() == [[1]]


@settings(max_examples=40, deadline=None)
@given(
    how=st.sampled_from(["stretch", "short_side", "letterbox"]),
    height=st.integers(10, 70),
    width=st.integers(10, 70),
    shrink=st.sampled_from([1, 2]),
)
def test_a_map_finds_its_way_back(how: str, height: int, width: int, shrink: int) -> None:
    # A picture whose halves differ in colour, seen by a network that answers the colour.
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, width // 2 :] = 255
    declared = Preprocessing(resize=how, interpolation="nearest", pad=0)  # type: ignore[arg-type]
    array, geometry = Preprocessor(declared, TensorSpec("x", "float32", (1, 3, 40, 48)))(Image.fromarray(pixels))
    network = (array[0, 0, ::shrink, ::shrink] > 127).astype(np.int64)
    back = to_picture(network, geometry.as_meta())
    assert back.shape == (height, width)
    truth = (pixels[..., 0] > 127).astype(np.int64)
    wrong = (back != truth) & (back != OUTSIDE)
    # Only pixels next to an edge may be off, by what a network pixel covers.
    reach = int(np.ceil(shrink / min(geometry.scale))) + 1
    wrong = wrong[reach:-reach, :-reach]
    assert not wrong[:, : max(0, width // 2 - reach)].any()
    assert not wrong[:, width // 2 + reach :].any()
    if how != "short_side":
        assert (back != OUTSIDE).all()


def test_prediction_is_json_and_its_runs_rebuild_the_map() -> None:
    scores = np.random.default_rng(0).standard_normal((1, 3, 4, 5))
    found = make_task("segmentation").decode({"y": scores}, Sample("s", {}))
    read = json.loads(json.dumps(found))
    flat = np.concatenate([np.full(n, k) for k, n in read["runs"]])
    np.testing.assert_array_equal(flat.reshape(read["size"]), found.array)
    assert sum(c["share"] for c in read["shares"]) == pytest.approx(1)


def test_meter_counts_what_was_cut_off() -> None:
    task = make_task("segmentation", {"classes": "2"})
    meta = {"original_size": (4, 8), "network_size": (4, 4), "scale": (1.0, 1.0), "offset": (0.0, -2.0)}
    sample = Sample("s", {}, np.zeros((4, 8), np.int64), meta)
    meter = task.meter()
    meter.add(task.decode({"y": np.zeros((1, 4, 4))}, sample), sample)
    assert meter.metrics()["pixel_accuracy"] == 0.5
    assert meter.metrics()["mIoU"] == 0.5
    assert "outside" in meter.notes()[0]  # type: ignore[attr-defined]


def test_draw_and_palettes(tmp_path: Path) -> None:
    assert voc_palette()[[0, 1, 2, 15]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]
    colors = tmp_path / "label_colors.txt"
    colors.write_text("64 128 64\tAnimal\n192 0 128 Wall\n")
    palette, names = read_palette(colors)
    assert names == ("Animal", "Wall")
    pixels = np.array([[[192, 0, 128], [64, 128, 64], [1, 2, 3]]], np.uint8)
    assert classes_of_colors(pixels, palette, 255).tolist() == [[1, 0, 255]]
    colors.write_text("64 128\n")
    with pytest.raises(AccelError, match="line 1"):
        read_palette(colors)

    source = tmp_path / "a.png"
    Image.new("RGB", (80, 60), "black").save(source)
    task = make_task("segmentation", {"alpha": "1"})
    scores = np.zeros((1, 2, 60, 80))
    scores[0, 1, :, 40:] = 1
    sample = Sample("a", {}, None, {"path": source})
    task.draw(task.decode({"y": scores}, sample), sample, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as drawn:
        assert drawn.getpixel((79, 59)) == (128, 0, 0)
        assert drawn.getpixel((10, 59)) == (0, 0, 0)
