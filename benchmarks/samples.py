"""Real photos, cropped and mirrored at random, as ready network inputs in one file that is read sample by sample."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from accel.dataset import Sample

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "zoo"))

SHAPE = (1, 3, 224, 224)


def write(path: Path, count: int, seed: int = 0) -> None:
    """``count`` float32 samples of SHAPE, normalised as torchvision does."""
    from photos import calibration_photos, evaluation_photos
    from PIL import Image

    files = [*calibration_photos(), *(photo for photo, _ in evaluation_photos())]
    rng = np.random.default_rng(seed)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    with path.open("wb") as out:
        for at in range(count):
            with Image.open(files[at % len(files)]) as picture:
                whole = picture.convert("RGB")
            side = int(min(whole.size) * rng.uniform(0.5, 1.0))
            left, top = (int(rng.integers(0, size - side + 1)) for size in whole.size)
            part = whole.resize((224, 224), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
            pixels = np.asarray(part, np.float32)[:, :: rng.choice((-1, 1))] / 255
            out.write(((pixels - mean) / std).astype(np.float32).transpose(2, 0, 1).tobytes())


def read(path: Path, indices: Sequence[int]) -> Iterator[np.ndarray]:
    """Samples by number."""
    size = int(np.prod(SHAPE))
    with path.open("rb") as file:
        for at in indices:
            file.seek(at * size * 4)
            yield np.fromfile(file, np.float32, size).reshape(SHAPE)


class Photos:
    """A data set of some samples of such a file, ``batch`` of them at a time."""

    def __init__(self, path: Path, indices: Sequence[int], batch: int = 1, name: str = "x") -> None:
        self.path, self.indices, self.batch, self.name = path, list(indices), batch, name

    def __len__(self) -> int:
        return len(range(0, len(self.indices), self.batch))

    def __iter__(self) -> Iterator[Sample]:
        for at in range(0, len(self.indices), self.batch):
            arrays = list(read(self.path, self.indices[at : at + self.batch]))
            yield Sample(f"photo {at}", {self.name: np.concatenate(arrays) if len(arrays) > 1 else arrays[0]})

    @property
    def digest(self) -> str:
        """Over the numbers of the samples; the file is always the same."""
        return hashlib.sha256(repr((self.indices, self.batch)).encode()).hexdigest()
