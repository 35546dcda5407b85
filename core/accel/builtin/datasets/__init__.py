"""Data sets: pictures and arrays from folders, lists and archives, streamed through the preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.builtin.datasets.streamed import StreamedDataset
    from accel.model import TensorSpec
    from accel.preprocessing import Preprocessing


def open_dataset(
    source: str | Path,
    model_inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None = None,
    options: Mapping[str, str] | None = None,
) -> StreamedDataset:
    """See :func:`accel.builtin.datasets.opening.open_dataset` (imported late: it needs NumPy and Pillow)."""
    from accel.builtin.datasets.opening import open_dataset as opened

    return opened(source, model_inputs, preprocessing, options)
