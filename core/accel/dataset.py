"""What a data set gives: samples, one at a time, never all in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Sample:
    """One example.

    Attributes:
        name: What error messages and reports call it (a file name).
        inputs: Arrays by input name, each with a leading batch axis (usually 1), ready to be fed.
        label: Ground truth in the form the task expects (class index, boxes, mask), or None.
        meta: What decoding needs: ``original_size`` (h, w), ``scale``, ``offset``, ``path``.
    """

    name: str
    inputs: Mapping[str, np.ndarray]
    label: Any = None
    meta: Mapping[str, Any] = field(default_factory=dict)


class Dataset(Protocol):
    """A source of samples that can be read again and again, in the same order."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the names, the contents and the preprocessing."""
        ...
