"""From a picture to a network's input, as :class:`~accel.preprocessing.Preprocessing` declares it.

Resizing follows torchvision and timm on Pillow pictures (antialiased filters, the long side truncated to
whole pixels, the crop's corner rounded), so that weights trained with them see what they were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.dataset import Sample
    from accel.model import TensorSpec
    from accel.preprocessing import Preprocessing

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".pnm", ".tif", ".tiff", ".gif"})
"""File name endings that count as pictures in a folder."""

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
}


def is_picture(path: Path) -> bool:
    """True when the name ends like a picture's."""
    return path.suffix.lower() in SUFFIXES


def decode(source: Path | Any, name: str) -> Image.Image:
    """Read a whole picture (a path or a binary file object) as RGB or grey.

    Transparency is dropped and EXIF rotation is not applied, like torchvision's default loader. 16-bit grey is
    scaled to 0..255.

    Raises:
        AccelError: ``data.sample`` for a file that is missing, truncated, too large or not a picture.
    """
    try:
        with Image.open(source) as picture:
            picture.load()
            return _eight_bit(picture)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError, MemoryError) as error:
        raise bad_sample(name, _reason(error)) from error


def _eight_bit(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        wide = np.clip(np.asarray(picture.convert("I"), dtype=np.int64), 0, 65535)
        return Image.fromarray((wide // 257).astype(np.uint8))
    return picture if picture.mode in ("RGB", "L") else picture.convert("RGB")


def bad_sample(name: str, reason: str) -> AccelError:
    """The error for one sample that cannot be used."""
    return AccelError(
        f"cannot read the sample {name}",
        code="data.sample",
        cause=reason,
        hints=["Repair or remove it, or leave bad samples out with --skip-bad (the report names them)."],
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "the file does not exist"
    if isinstance(error, UnidentifiedImageError):
        return "it is not a picture in a format that Pillow knows"
    return str(error) or type(error).__name__


@dataclass(frozen=True)
class Geometry:
    """Where the picture went: ``network = original * scale + offset``, in pixels, each as (y, x)."""

    original_size: tuple[int, int]
    network_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def as_meta(self) -> dict[str, Any]:
        """The entries of ``Sample.meta`` that decoding needs."""
        return {
            "original_size": self.original_size,
            "network_size": self.network_size,
            "scale": self.scale,
            "offset": self.offset,
        }


class Preprocessor:
    """Makes arrays for one network input.

    Args:
        preprocessing: What to do.
        spec: The network's input: gives the size when ``preprocessing.size`` is None, and is checked.

    Raises:
        AccelError: ``usage.preprocessing`` when the declaration does not fit the input or itself.
    """

    def __init__(self, preprocessing: Preprocessing, spec: TensorSpec) -> None:
        self.preprocessing = preprocessing
        self.spec = spec
        self.channels = 1 if preprocessing.color == "gray" else 3
        self.size = preprocessing.size or _size_of(spec, preprocessing.layout)
        self._check()
        self._table = _value_table(preprocessing, self.channels)
        self._filter = _FILTERS[preprocessing.interpolation]

    def __call__(self, picture: Image.Image) -> tuple[np.ndarray, Geometry]:
        """The input array with a batch axis of 1, and where the picture went."""
        placed, geometry = self.place(picture)
        if self.channels == 1:
            planes = [np.asarray(placed.convert("L"))]
        else:
            rgb = np.asarray(placed.convert("RGB"))
            order = (2, 1, 0) if self.preprocessing.color == "bgr" else (0, 1, 2)
            planes = [rgb[:, :, c] for c in order]
        axis = 0 if self.preprocessing.layout == "NCHW" else 2
        stacked = np.stack([values[plane] for values, plane in zip(self._table, planes, strict=True)], axis=axis)
        return stacked[None], geometry

    def place(self, picture: Image.Image) -> tuple[Image.Image, Geometry]:
        """Resize, crop or pad ``picture`` to the network's size, still as a picture."""
        how = self.preprocessing.resize
        if how == "stretch":
            return self._stretch(picture)
        return self._short_side(picture) if how == "short_side" else self._letterbox(picture)

    def _stretch(self, picture: Image.Image) -> tuple[Image.Image, Geometry]:
        height, width = self.size
        scale = (height / picture.height, width / picture.width)
        geometry = Geometry((picture.height, picture.width), self.size, scale, (0.0, 0.0))
        return self._resized(picture, height, width), geometry

    def _short_side(self, picture: Image.Image) -> tuple[Image.Image, Geometry]:
        height, width = picture.height, picture.width
        short = self.preprocessing.resize_to or max(self.size)
        # Truncation, not rounding: torchvision.transforms.functional._compute_resized_output_size.
        if height <= width:
            new_height, new_width = short, int(short * width / height)
        else:
            new_height, new_width = int(short * height / width), short
        top = round((new_height - self.size[0]) / 2.0)
        left = round((new_width - self.size[1]) / 2.0)
        resized = self._resized(picture, new_height, new_width)
        cropped = resized.crop((left, top, left + self.size[1], top + self.size[0]))
        scale = (new_height / height, new_width / width)
        return cropped, Geometry((height, width), self.size, scale, (-float(top), -float(left)))

    def _letterbox(self, picture: Image.Image) -> tuple[Image.Image, Geometry]:
        height, width = picture.height, picture.width
        factor = min(self.size[0] / height, self.size[1] / width)
        new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
        top, left = (self.size[0] - new_height) // 2, (self.size[1] - new_width) // 2
        fill = self.preprocessing.pad
        mode = "L" if picture.mode == "L" else "RGB"
        canvas = Image.new(mode, (self.size[1], self.size[0]), fill if mode == "L" else (fill, fill, fill))
        canvas.paste(self._resized(picture, new_height, new_width), (left, top))
        scale = (new_height / height, new_width / width)
        return canvas, Geometry((height, width), self.size, scale, (float(top), float(left)))

    def _resized(self, picture: Image.Image, height: int, width: int) -> Image.Image:
        if (picture.height, picture.width) == (height, width):
            return picture
        return picture.resize((width, height), self._filter)

    def _check(self) -> None:
        declared = self.preprocessing
        height, width = self.size
        if declared.resize == "short_side" and 0 < declared.resize_to < max(height, width):
            raise _misfit(
                f"resize_to {declared.resize_to} is smaller than the crop {height}x{width}",
                "Give a resize_to of at least the network's size.",
            )
        if not 0 <= declared.pad <= 255:
            raise _misfit(f"pad {declared.pad} is outside 0..255", "Give a pixel value.")
        shape = (self.channels, height, width) if declared.layout == "NCHW" else (height, width, self.channels)
        expected = self.spec.shape[1:]
        if len(expected) != 3 or any(isinstance(e, int) and e != s for e, s in zip(expected, shape, strict=True)):
            raise _misfit(
                f"it makes {declared.layout} pictures of shape {list(shape)}, the input is {self.spec}",
                "Check size, color (gray has one channel) and layout.",
            )


def _misfit(cause: str, hint: str) -> AccelError:
    return AccelError(
        "the preprocessing does not fit the network", code="usage.preprocessing", cause=cause, hints=[hint]
    )


def _size_of(spec: TensorSpec, layout: str) -> tuple[int, int]:
    sides = (spec.shape[2:4] if layout == "NCHW" else spec.shape[1:3]) if len(spec.shape) == 4 else ()
    if len(sides) != 2 or not (isinstance(sides[0], int) and isinstance(sides[1], int)):
        raise AccelError(
            f"the picture size is not known for the input {spec}",
            code="usage.preprocessing",
            cause="the input has no fixed height and width, and the preprocessing names no size",
            hints=["Give the size in the preprocessing, or fix the input's shape."],
        )
    return sides[0], sides[1]


def _value_table(declared: Preprocessing, channels: int) -> list[np.ndarray]:
    """One array of 256 input values a channel: computed in float64, rounded once to the input's type."""
    dtype = np.dtype(declared.dtype)
    pixels = np.arange(256, dtype=np.float64)
    tables = []
    for mean, std in zip(
        _per_channel(declared.mean, channels, "mean"), _per_channel(declared.std, channels, "std"), strict=True
    ):
        if std == 0:
            raise _misfit("std holds a zero", "Give the standard deviation of each channel.")
        values = pixels if declared.folded else (pixels * declared.scale - mean) / std
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            values = np.clip(np.rint(values), info.min, info.max)
        tables.append(values.astype(dtype))
    return tables


def _per_channel(values: tuple[float, ...], channels: int, name: str) -> tuple[float, ...]:
    if len(values) == 1:
        return values * channels
    if len(values) != channels:
        raise _misfit(f"{name} has {len(values)} values for {channels} channels", "Give one value, or one a channel.")
    return values


def open_picture(sample: Sample) -> Image.Image:
    """The original picture of a sample, for drawing.

    Raises:
        AccelError: ``unsupported.draw`` when the sample did not come from a picture.
    """
    source: Callable[[], Image.Image] | None = sample.meta.get("picture")
    if source is not None:
        return source()
    path: Path | None = sample.meta.get("path")
    if path is None or not is_picture(path):
        raise AccelError(
            f"{sample.name} is not a picture: nothing to draw on",
            code="unsupported.draw",
            hints=["Drawing needs pictures as input (a folder, a list, COCO, VOC, LMDB)."],
        )
    return decode(path, sample.name)


def to_original(points: np.ndarray, meta: Mapping[str, Any]) -> np.ndarray:
    """Network coordinates to the picture's own.

    Args:
        points: (..., 2) or (..., 4): x, y pairs in network pixels.
        meta: ``Sample.meta`` with ``scale`` and ``offset``; without them the points are returned as they are.
    """
    if "scale" not in meta:
        return points
    scale, offset = meta["scale"], meta["offset"]
    pairs = points.shape[-1] // 2
    result: np.ndarray = (points - np.tile((offset[1], offset[0]), pairs)) / np.tile((scale[1], scale[0]), pairs)
    return result
