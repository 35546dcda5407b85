"""A calibration: the statistics of every activation, measured once, from which every target's
thresholds are derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

METHODS = ("minmax", "percentile", "kl", "mse", "aciq")


@dataclass(frozen=True)
class Range:
    """The values of a tensor that are kept: everything outside is clipped."""

    low: float
    high: float

    @property
    def threshold(self) -> float:
        """Largest magnitude kept, for symmetric schemes."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True)
class TensorStatistics:
    """What was seen of one tensor.

    Attributes:
        name: The tensor's name in the model's graph.
        low: Smallest finite value seen.
        high: Largest finite value seen.
        count: Finite values seen.
        nonfinite: NaN and infinities seen (they are counted, never binned).
        exponent: Bin width is ``2.0 ** exponent``.
        negative: int64 counts of ``[-(k+1)*w, -k*w)`` by k, the tail cut off.
        positive: int64 counts of ``[k*w, (k+1)*w)`` by k, the tail cut off.
        channel_low: float32 smallest value by channel (axis 1), or None.
        channel_high: float32 largest value by channel (axis 1), or None.
    """

    name: str
    low: float
    high: float
    count: int
    nonfinite: int
    exponent: int
    negative: np.ndarray
    positive: np.ndarray
    channel_low: np.ndarray | None = None
    channel_high: np.ndarray | None = None


@dataclass(frozen=True)
class Calibration:
    """Statistics of a model over a data set.

    Attributes:
        model_digest: ``Model.digest`` of the graph that was measured.
        data_digest: ``Dataset.digest`` of the samples.
        samples: How many were read.
        tensors: Statistics by tensor name, in graph order.
    """

    model_digest: str
    data_digest: str
    samples: int
    tensors: Mapping[str, TensorStatistics]

    def ranges(self, method: str, *, bits: int = 8, symmetric: bool = True) -> dict[str, Range]:
        """Range by tensor name, by one of ``METHODS``.

        Raises:
            AccelError: ``usage.method`` for an unknown method.
        """
        from accel.calibration.methods import ranges

        return ranges(self, method, bits=bits, symmetric=symmetric)

    def save(self, path: Path) -> None:
        """Write one file, atomically."""
        from accel.calibration.storage import save

        save(self, path)

    @staticmethod
    def load(path: Path) -> Calibration:
        """Read a file that :meth:`save` wrote.

        Raises:
            AccelError: ``calibration.unreadable`` for a missing, truncated or foreign file.
        """
        from accel.calibration.storage import load

        return load(path)
