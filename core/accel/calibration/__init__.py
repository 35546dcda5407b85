"""A calibration: the statistics of every activation, measured once, from which every target's
thresholds are derived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MEAN_UNIT = 2**28
"""``TensorStatistics.channel_sum`` counts in units of 1 / this."""

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
        low: Smallest finite value seen; zero for what a Relu, or a Clip from zero, leaves.
        high: Largest finite value seen.
        count: Finite values seen.
        nonfinite: NaN and infinities seen (they are counted, never binned).
        exponent: Bin width is ``w = 2.0 ** exponent``; it follows from the largest magnitude alone, which
            lies in bin 2048..4095 (a tensor of zeros has the narrowest width there is).
        negative: int64 counts by k of values below zero with ``floor(|x| / w) == k``, the tail cut off.
        positive: int64 counts by k of the other values (-0.0 too) with ``floor(x / w) == k``, the tail cut off.
            Both together count fewer than ``count`` where ``Calibration.values`` bounds what is binned.
        channel_low: float32 smallest value by channel (axis 1; +inf where a channel had no finite value), or
            None: no such axis, a varying number of channels, not asked for, or the tensor only
            reorders another one.
        channel_high: float32 largest value by channel, likewise (-inf).
        channel_sum: int64 sum over rows of the mean by channel, in units of ``1 / MEAN_UNIT`` (integers, so that it
            does not depend on the order); None for tensors that no convolution or matmul reads.
        rows: How many rows are in ``channel_sum``.
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
    channel_sum: np.ndarray | None = None
    rows: int = 0

    @property
    def channel_mean(self) -> np.ndarray | None:
        """float64 mean by channel over all rows and positions, or None."""
        if self.channel_sum is None or not self.rows:
            return None
        mean: np.ndarray = self.channel_sum / (self.rows * MEAN_UNIT)
        return mean


@dataclass(frozen=True)
class Calibration:
    """Statistics of a model over a data set.

    Attributes:
        model_digest: ``Model.digest`` of the graph that was measured.
        data_digest: ``Dataset.digest`` of the samples.
        samples: How many were read.
        tensors: Statistics by tensor name, in graph order: every floating-point tensor that is computed
            from the inputs, without those that only feed a Relu or Clip that compilers fuse.
        values: At most this many values of a tensor and sample entered the histogram, evenly spread; 0 means
            all. Extremes are always over all values.
    """

    model_digest: str
    data_digest: str
    samples: int
    tensors: Mapping[str, TensorStatistics]
    values: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of everything in it."""
        from accel.calibration.storage import pack

        return pack(self)[1]

    def ranges(self, method: str, *, bits: int = 8, symmetric: bool = True) -> dict[str, Range]:
        """Range by tensor name, by one of ``METHODS`` (``percentile:99.9`` names another percentage).

        Ranges lie within what was seen; ``Range.threshold`` is the symmetric threshold. A tensor of
        zeros has the range (0, 0).

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
