"""How a picture becomes a network's input: declared once, used by calibrate, run and evaluate alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded picture to the input tensor: resize, crop, colour order, then ``(x*scale - mean) / std``.

    Attributes:
        size: (height, width) in pixels of the network's input.
        resize: ``stretch`` to ``size``; ``short_side``: scale the short side to ``resize_to``, then crop
            the centre; ``letterbox``: keep the aspect ratio and pad with ``pad``.
        resize_to: Short side in pixels before the crop; 0 means the larger of ``size``.
        interpolation: Resampling filter.
        color: Channel order the network was trained with.
        layout: Layout of the network's input.
        scale: Factor on the 0..255 pixel, applied first.
        mean: Per channel (or one for all), in the units after ``scale``.
        std: Per channel (or one for all), in the units after ``scale``.
        dtype: NumPy dtype name of the input tensor.
        pad: Pixel value (0..255) of the letterbox border.
        folded: Mean, std and scale are inside the built network: feed plain 0..255 pixels.
    """

    size: tuple[int, int] | None = None
    resize: Literal["stretch", "short_side", "letterbox"] = "short_side"
    resize_to: int = 0
    interpolation: Literal["bilinear", "bicubic", "nearest", "area"] = "bilinear"
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    dtype: str = "float32"
    pad: int = 114
    folded: bool = False
