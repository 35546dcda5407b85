"""Preprocessing of pictures: the arithmetic and the geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from accel.builtin.datasets.pictures import Preprocessor, decode, to_original
from accel.errors import AccelError
from accel.model import TensorSpec
from accel.preprocessing import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SPEC = TensorSpec("x", "float32", ("n", 3, 224, 224))


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(300, 451), (451, 300), (224, 224), (100, 900)])
def test_short_side_and_crop_are_torchvisions(size: tuple[int, int]) -> None:
    picture = noise(*size)
    # torchvision.transforms: Resize(256), CenterCrop(224), ToTensor, Normalize, written out.
    short, long = sorted(size)
    new_long = int(256 * long / short)
    new_h, new_w = (256, new_long) if size[0] <= size[1] else (new_long, 256)
    resized = np.asarray(picture.resize((new_w, new_h), Image.Resampling.BILINEAR), np.float32) / 255
    top, left = round((new_h - 224) / 2.0), round((new_w - 224) / 2.0)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = ((resized[top : top + 224, left : left + 224] - mean) / std).transpose(2, 0, 1)

    got, _ = Preprocessor(Preprocessing(resize_to=256, scale=1 / 255, mean=mean, std=std), SPEC)(picture)

    assert got.shape == (1, 3, 224, 224)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0], expected, atol=1e-6)


def test_values_are_scaled_shifted_divided_in_that_order() -> None:
    spec = TensorSpec("x", "float32", (1, 3, 1, 1))
    picture = Image.new("RGB", (1, 1), (10, 20, 30))
    declared = Preprocessing(resize="stretch", scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    got, _ = Preprocessor(declared, spec)(picture)
    assert got.ravel().tolist() == [(5 - 1) / 2, (10 - 2) / 4, (15 - 3) / 8]


def test_bgr_gray_nhwc_uint8_and_folded() -> None:
    picture = Image.new("RGB", (2, 3), (10, 20, 30))
    nhwc = TensorSpec("x", "uint8", (1, 3, 2, 3))
    declared = Preprocessing(resize="stretch", color="bgr", layout="NHWC", dtype="uint8")
    got, _ = Preprocessor(declared, nhwc)(picture)
    assert got.dtype == np.uint8
    assert got.shape == (1, 3, 2, 3)
    assert got[0, 0, 0].tolist() == [30, 20, 10]

    gray, _ = Preprocessor(
        Preprocessing(resize="stretch", color="gray", scale=1 / 255), TensorSpec("x", "float32", (1, 1, 3, 2))
    )(picture)
    assert gray[0, 0, 0, 0] == pytest.approx(round(0.299 * 10 + 0.587 * 20 + 0.114 * 30) / 255, abs=1e-6)

    folded = Preprocessing(resize="stretch", scale=1 / 255, mean=(0.5,), std=(0.2,), folded=True)
    plain, _ = Preprocessor(folded, TensorSpec("x", "float32", (1, 3, 3, 2)))(picture)
    assert plain[0, :, 0, 0].tolist() == [10, 20, 30]


def test_int8_input_is_rounded_and_clipped() -> None:
    spec = TensorSpec("x", "int8", (1, 3, 1, 1))
    declared = Preprocessing(resize="stretch", mean=(128.0,), dtype="int8")
    got, _ = Preprocessor(declared, spec)(Image.new("RGB", (1, 1), (0, 128, 255)))
    assert got.ravel().tolist() == [-128, 0, 127]


def test_letterbox_pads_and_keeps_the_aspect_ratio() -> None:
    spec = TensorSpec("x", "float32", (1, 3, 100, 100))
    got, geometry = Preprocessor(Preprocessing(resize="letterbox", pad=7), spec)(Image.new("RGB", (200, 100), "white"))
    assert (got[0, 0, :25] == 7).all()
    assert (got[0, 0, 75:] == 7).all()
    assert (got[0, 0, 25:75] == 255).all()
    assert geometry.scale == (0.5, 0.5)
    assert geometry.offset == (25.0, 0.0)


@settings(max_examples=60, deadline=None)
@given(
    how=st.sampled_from(["stretch", "short_side", "letterbox"]),
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    x=st.floats(0, 1),
    y=st.floats(0, 1),
)
def test_geometry_maps_network_pixels_back(how: str, height: int, width: int, x: float, y: float) -> None:
    spec = TensorSpec("x", "float32", (1, 3, 32, 48))
    _, geometry = Preprocessor(Preprocessing(resize=how), spec)(Image.new("RGB", (width, height)))  # type: ignore[arg-type]
    point = np.array([x * width, y * height])
    there = point * (geometry.scale[1], geometry.scale[0]) + (geometry.offset[1], geometry.offset[0])
    np.testing.assert_allclose(to_original(there, geometry.as_meta()), point, atol=1e-9)
    if how != "short_side":  # nothing is cropped: every point of the picture lies inside the network's input
        assert -1e-6 <= there[0] <= 48 + 1e-6
        assert -1e-6 <= there[1] <= 32 + 1e-6


def test_decode_names_the_bad_picture(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    noise(20, 20).save(good)
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    (tmp_path / "text.png").write_text("no picture")
    for name in ("cut.png", "text.png", "missing.png"):
        with pytest.raises(AccelError, match=name) as caught:
            decode(tmp_path / name, name)
        assert caught.value.code == "data.sample"
        assert caught.value.cause


def test_decode_takes_every_common_mode(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    Image.fromarray(np.array([[0, 257 * 7, 65535]], np.uint16)).save(wide)
    assert np.asarray(decode(wide, "wide")).tolist() == [[0, 7, 255]]
    for mode in ("RGBA", "P", "CMYK", "1", "LA"):
        path = tmp_path / f"{mode}.tif"
        Image.new(mode, (4, 3)).save(path)
        assert decode(path, mode).mode in ("RGB", "L")


@pytest.mark.parametrize(
    ("declared", "word"),
    [
        (Preprocessing(color="gray"), "gray"),
        (Preprocessing(size=(100, 100)), "100"),
        (Preprocessing(layout="NHWC"), "layout"),
        (Preprocessing(resize_to=200), "resize_to"),
        (Preprocessing(std=(0.0,)), "std"),
        (Preprocessing(mean=(1.0, 2.0)), "mean"),
        (Preprocessing(pad=300), "pad"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(declared: Preprocessing, word: str) -> None:
    with pytest.raises(AccelError) as caught:
        Preprocessor(declared, SPEC)
    assert caught.value.code == "usage.preprocessing"
    assert word in f"{caught.value.cause} {caught.value.hints}"


def test_a_free_input_size_must_be_declared() -> None:
    spec = TensorSpec("x", "float32", ("n", 3, "h", "w"))
    with pytest.raises(AccelError, match="size is not known"):
        Preprocessor(Preprocessing(), spec)
    got, _ = Preprocessor(Preprocessing(size=(16, 24)), spec)(noise(30, 30))
    assert got.shape == (1, 3, 16, 24)
