"""Predictions on pictures, by Pillow."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from accel.errors import AccelError


def color_of(index: int) -> tuple[int, int, int]:
    """A colour for a class, far from those of its neighbours."""
    red, green, blue = colorsys.hsv_to_rgb((index * 0.61803398875) % 1.0, 0.75, 0.95)
    return int(red * 255), int(green * 255), int(blue * 255)


def font_for(picture: Image.Image) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font in a size that suits the picture."""
    return ImageFont.load_default(size=max(11, min(picture.size) // 28))


def write_lines(picture: Image.Image, lines: Sequence[str]) -> None:
    """Text in the upper left corner, on a dark ground."""
    canvas = ImageDraw.Draw(picture, "RGBA")
    font, top = font_for(picture), 4
    for line in lines:
        box = canvas.textbbox((6, top), line, font=font)
        canvas.rectangle((2, box[1] - 2, box[2] + 4, box[3] + 2), fill=(0, 0, 0, 160))
        canvas.text((6, top), line, font=font, fill=(255, 255, 255, 255))
        top = int(box[3]) + 4


def draw_box(picture: Image.Image, box: Sequence[float], label: str, color: tuple[int, int, int]) -> None:
    """A rectangle (x1, y1, x2, y2) with its label above it, or inside where there is no room."""
    canvas = ImageDraw.Draw(picture)
    width = max(2, min(picture.size) // 200)
    x1, y1 = min(box[0], box[2]), min(box[1], box[3])
    canvas.rectangle((x1, y1, max(box[0], box[2]), max(box[1], box[3])), outline=color, width=width)
    font = font_for(picture)
    left, top, right, bottom = canvas.textbbox((0, 0), label, font=font)
    height = bottom - top + 4
    y = y1 - height if y1 >= height else y1
    canvas.rectangle((x1, y, x1 + right - left + 6, y + height), fill=color)
    canvas.text((x1 + 3, y + 2 - top), label, font=font, fill=_readable_on(color))


def _readable_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out (luma of ITU-R BT.601)."""
    red, green, blue = color
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else (255, 255, 255)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write whole or not at all.

    Raises:
        AccelError: ``output.unwritable``.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(temporary, format=Image.registered_extensions().get(path.suffix.lower(), "PNG"))
        temporary.replace(path)
    except (OSError, ValueError, KeyError) as error:
        temporary.unlink(missing_ok=True)
        raise AccelError(f"cannot write the picture {path}", code="output.unwritable", cause=str(error)) from error


def write_legend(picture: Image.Image, entries: Sequence[tuple[str, tuple[int, ...]]]) -> None:
    """Names with a patch of their colour, in the upper left corner."""
    canvas = ImageDraw.Draw(picture, "RGBA")
    font, top = font_for(picture), 4
    for text, color in entries:
        box = canvas.textbbox((0, 0), text, font=font)
        height = int(box[3] - box[1]) + 6
        canvas.rectangle((2, top, height + 10 + box[2], top + height), fill=(0, 0, 0, 160))
        canvas.rectangle((4, top + 2, 2 + height, top + height - 2), fill=(*color[:3], 255))
        canvas.text((height + 6, top + 3 - box[1]), text, font=font, fill=(255, 255, 255, 255))
        top += height
