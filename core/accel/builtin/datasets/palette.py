"""Colours of classes: VOC's own, or a file of them (CamVid's ``label_colors.txt``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accel.errors import AccelError


def voc_palette() -> np.ndarray:
    """PASCAL VOC's 256 colours, uint8 (256, 3): bit 3k+c of the index becomes bit 7-k of channel c."""
    index = np.arange(256)
    palette = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette.astype(np.uint8)


def read_palette(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Colours uint8 (n, 3) and names from lines ``r g b name``; line 1 is class 0.

    Raises:
        AccelError: ``data.labels`` for a file that cannot be read or a line that is no colour.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AccelError(f"cannot read the palette {path}", code="data.labels", cause=str(error)) from error
    colors: list[list[int]] = []
    names: list[str] = []
    for number, line in enumerate(lines, 1):
        parts = line.replace(",", " ").split()
        if not parts:
            continue
        try:
            color = [int(part) for part in parts[:3]]
            if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                raise ValueError
        except ValueError as error:
            raise AccelError(
                f"{path}, line {number} is not 'r g b name'", code="data.labels", cause=repr(line[:200])
            ) from error
        colors.append(color)
        names.append(" ".join(parts[3:]) or str(len(names)))
    if not colors:
        raise AccelError(f"the palette {path} is empty", code="data.labels")
    return np.asarray(colors, np.uint8), tuple(names)


def classes_of_colors(pixels: np.ndarray, palette: np.ndarray, unknown: int) -> np.ndarray:
    """Class map int64 (h, w) of RGB pixels uint8 (h, w, 3); colours that are not in the palette become ``unknown``."""

    def key(colors: np.ndarray) -> np.ndarray:
        wide = colors.astype(np.int64)
        result: np.ndarray = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
        return result

    keys = key(palette)
    order = np.argsort(keys, kind="stable")
    wanted = key(pixels)
    at = np.clip(np.searchsorted(keys[order], wanted), 0, len(order) - 1)
    return np.where(keys[order][at] == wanted, order[at], unknown)
