"""Segmentation: a picture and a mask of classes each (VOC's and CamVid's layouts)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from accel.builtin.datasets.palette import classes_of_colors, read_palette
from accel.builtin.datasets.picture_files import PictureFile, PictureFiles, empty_data, pictures_below, unreadable
from accel.builtin.datasets.pictures import bad_sample
from accel.builtin.datasets.request import Request
from accel.builtin.datasets.streamed import file_fingerprint

IGNORED = 255
"""Class of mask pixels whose colour is not in the palette."""


def open_masks(request: Request) -> PictureFiles:
    """``masks:FOLDER`` of pictures, with the option ``masks`` (folder of masks of the same names, .png).

    Options: ``mask_suffix`` (CamVid: ``_L``), ``palette`` (file of ``r g b name`` lines for coloured masks; other
    colours become 255), ``labels``. A mask without palette holds class indices (palette or grey pictures).

    Raises:
        AccelError: ``data.unreadable``, ``data.empty``, ``data.labels``.
    """
    root = request.path
    if not root.is_dir():
        raise unreadable(root, NotADirectoryError(20, "it is not a folder"))
    folder = request.folder("masks")
    if folder is None or not folder.is_dir():
        raise unreadable(folder or root, FileNotFoundError(2, "give the folder of the masks: masks=FOLDER"))
    suffix = request.options.get("mask_suffix", "")
    pictures = [p for p in pictures_below(root, recursive=False) if not suffix or not p.stem.endswith(suffix)]
    if not pictures:
        raise empty_data(root, "no pictures in it")
    palette, names = read_palette(Path(request.options["palette"])) if request.options.get("palette") else (None, ())

    def read(file: PictureFile, size: tuple[int, int]) -> Any:
        return read_mask(file.label, palette, size, file.name)

    def content(file: PictureFile) -> bytes:
        return file_fingerprint(file.label, None if palette is None else palette.tolist())

    files = [PictureFile(p.name, p, folder / f"{p.stem}{suffix}.png") for p in pictures]
    labels = request.labels() or names
    return PictureFiles(files, request.preprocessor(), labels=labels, read_label=read, fingerprint_label=content)


def read_mask(path: Path, palette: np.ndarray | None, size: tuple[int, int], name: str) -> np.ndarray:
    """Class map int64 (h, w).

    Raises:
        AccelError: ``data.sample`` for a mask that is missing, broken, of another size, or coloured without palette.
    """
    try:
        with Image.open(path) as mask:
            mask.load()
            if (mask.height, mask.width) != size:
                raise ValueError(f"it is {mask.width}x{mask.height}, the picture is {size[1]}x{size[0]}")
            if palette is not None:
                return classes_of_colors(np.asarray(mask.convert("RGB")), palette, IGNORED)
            if mask.mode not in ("P", "L", "1") and not mask.mode.startswith("I"):
                raise ValueError(f"it is coloured ({mask.mode}): name its colours with palette=FILE")
            return np.asarray(mask).astype(np.int64)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise bad_sample(name, f"its mask {path.name}: {reason}") from error
