"""A task: what a network's outputs mean, and how right they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from accel.dataset import Sample
from accel.report import Table

if TYPE_CHECKING:
    import numpy as np


class Meter(Protocol):
    """Collects one prediction a sample and gives the figures at the end."""

    def add(self, prediction: Any, sample: Sample) -> None: ...

    def metrics(self) -> Mapping[str, float]:
        """Figures by name, without provenance (the evaluator adds it)."""
        ...

    def tables(self) -> Sequence[Table]: ...


class Task(Protocol):
    """Classification, detection, segmentation ... named and made from options."""

    name: str

    def decode(self, outputs: Mapping[str, np.ndarray], sample: Sample) -> Any:
        """One sample's outputs (batch axis of 1) to a JSON-ready prediction in the picture's own coordinates."""
        ...

    def meter(self) -> Meter: ...

    def draw(self, prediction: Any, sample: Sample, path: Path) -> None:
        """Write a picture of the prediction; raise AccelError ``unsupported.draw`` if there is none."""
        ...
