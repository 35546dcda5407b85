"""CenterNet's decoder against plain loops, and in all its output forms."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.tasks import make_task
from accel.builtin.tasks.centernet import max_pool
from accel.dataset import Sample
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st

SAMPLE = Sample("s", {}, None, {"network_size": (40, 48)})


def maps(seed: int, classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "hm": np.round(rng.random((1, classes, 10, 12)), 2),
        "wh": rng.random((1, 2, 10, 12)) * 5,
        "reg": rng.random((1, 2, 10, 12)),
    }


def by_hand(outputs: dict[str, np.ndarray], score: float, keep: int) -> list[tuple[float, int, list[float]]]:
    heat, wh, reg = outputs["hm"][0], outputs["wh"][0], outputs["reg"][0]
    found = []
    for c in range(heat.shape[0]):
        for y in range(heat.shape[1]):
            for x in range(heat.shape[2]):
                near = heat[c, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
                if heat[c, y, x] == near.max() and heat[c, y, x] > score:
                    cx, cy = x + reg[0, y, x], y + reg[1, y, x]
                    w, h = wh[0, y, x] / 2, wh[1, y, x] / 2
                    box = [(cx - w) * 4, (cy - h) * 4, (cx + w) * 4, (cy + h) * 4]
                    found.append((float(heat[c, y, x]), c, box))
    return sorted(found, key=lambda f: -f[0])[:keep]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_equals_plain_loops(seed: int) -> None:
    outputs = maps(seed)
    got = make_task("centernet", {"score": "0.5", "keep": "20"}).decode(outputs, SAMPLE)["boxes"]
    expected = by_hand(outputs, 0.5, 20)
    assert [(b["score"], b["class"]) for b in got] == [(s, c) for s, c, _ in expected]
    for have, (_, _, box) in zip(got, expected, strict=True):
        np.testing.assert_allclose(have["box"], box, atol=1e-9)


def test_pooling_inside_outside_and_already_done_agree() -> None:
    outputs = maps(1)
    heat = outputs["hm"]
    pooled = max_pool(heat[0], 3)[None]
    expected = make_task("centernet").decode(outputs, SAMPLE)
    four = {"a": pooled, "b": heat, "c": outputs["wh"], "d": outputs["reg"]}  # no name helps: told by values
    assert make_task("centernet").decode(four, SAMPLE) == expected
    inside = {**outputs, "hm": np.where(heat == pooled, heat, 0)}
    assert make_task("centernet").decode(inside, SAMPLE) == expected
    assert make_task("centernet", {"pool": "1"}).decode(inside, SAMPLE) == expected
    nhwc = {name: array.transpose(0, 2, 3, 1) for name, array in outputs.items()}
    assert make_task("centernet", {"layout": "NHWC"}).decode(nhwc, SAMPLE) == expected
    named = {"x": outputs["reg"], "y": outputs["wh"], "z": heat}
    options = {"heat": "z", "size_output": "y", "offset": "x"}
    assert make_task("centernet", options).decode(named, SAMPLE) == expected


def test_logits_are_squashed_and_two_classes_need_names() -> None:
    outputs = maps(2, classes=2)
    logits = np.log(outputs["hm"] * 0.9 + 0.05) - np.log(1 - outputs["hm"] * 0.9 - 0.05)
    got = make_task("centernet").decode({**outputs, "hm": logits}, SAMPLE)["boxes"]
    assert got[0]["score"] == pytest.approx(outputs["hm"].max() * 0.9 + 0.05)


def test_two_outputs_have_their_centres_in_the_middle() -> None:
    heat = np.zeros((1, 5, 10, 12))
    heat[0, 4, 3, 6] = 0.9
    got = make_task("centernet").decode({"heat": heat, "wh": np.full((1, 2, 10, 12), 2.0)}, SAMPLE)["boxes"]
    assert [b["class"] for b in got] == [4]
    assert got[0]["box"] == [(6.5 - 1) * 4, (3.5 - 1) * 4, (6.5 + 1) * 4, (3.5 + 1) * 4]


def test_wrong_outputs_and_nan() -> None:
    with pytest.raises(AccelError, match="CenterNet"):
        make_task("centernet").decode({"y": np.zeros((1, 5, 10, 12))}, SAMPLE)
    with pytest.raises(AccelError, match="CenterNet"):
        make_task("centernet").decode({"hm": np.zeros((1, 5, 10, 12)), "wh": np.zeros((1, 2, 5, 6))}, SAMPLE)
    outputs = maps(3)
    outputs["hm"][:] = np.nan
    assert make_task("centernet").decode(outputs, SAMPLE)["boxes"] == []


def test_four_channels_of_size_are_distances_to_the_sides() -> None:
    heat = np.zeros((1, 5, 10, 12))
    heat[0, 4, 3, 6] = 0.9
    sides = np.zeros((1, 4, 10, 12))
    sides[0, :, 3, 6] = 5, 7, 11, 13
    outputs = {"heat": heat, "wh": sides}
    got = make_task("centernet").decode(outputs, SAMPLE)["boxes"]
    assert [b["box"] for b in got] == [[6 * 4 - 5, 3 * 4 - 7, 6 * 4 + 11, 3 * 4 + 13]]
    with pytest.raises(AccelError, match="CenterNet"):
        make_task("centernet").decode({**outputs, "reg": np.zeros((1, 2, 10, 12))}, SAMPLE)
