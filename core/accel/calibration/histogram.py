"""The streaming histogram: exact, mergeable, the same for any order of the samples.

Bin widths are powers of two and every histogram starts at zero, so bin ``k`` of width ``w`` is bin
``k >> 1`` of width ``2w``: widening the range loses nothing, and whatever order the values came in,
the counts are those of ``floor(|x| / w)`` at the final width. That width depends on the largest
magnitude alone (:func:`exponent_for`). Scaling by a power of two is exact in floating point.
"""

from __future__ import annotations

import math

import numpy as np

from accel.calibration import TensorStatistics

BIN_BITS = 12
BINS = 1 << BIN_BITS
"""Bins on each side of zero; the largest magnitude falls into the upper half of them."""

MIN_EXPONENT = -120
"""Narrowest bin, so that its reciprocal is a normal float32; tensors of zeros have it too."""

CHUNK = 1 << 16


def exponent_for(magnitude: float) -> int:
    """Exponent of the bin width for values up to ``magnitude`` (finite, >= 0)."""
    # frexp: magnitude = f * 2^q with 0.5 <= f < 1, so magnitude / 2^(q-12) is in [2048, 4096).
    return max(math.frexp(magnitude)[1] - BIN_BITS, MIN_EXPONENT) if magnitude else MIN_EXPONENT


def coarsen(counts: np.ndarray, shift: int) -> np.ndarray:
    """int64 counts by k, re-counted by ``k >> shift``; any length in, trailing zeros kept."""
    if shift <= 0 or not len(counts):
        return counts
    if shift >= BIN_BITS:
        return np.asarray(counts.sum(keepdims=True))
    starts = np.arange(0, len(counts), 1 << shift)
    return np.asarray(np.add.reduceat(counts, starts))


class Accumulator:
    """Statistics of one tensor, growing sample by sample. One thread at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.low = math.inf
        self.high = -math.inf
        self.count = 0
        self.nonfinite = 0
        self.exponent = MIN_EXPONENT
        # Index k >= 0 counts magnitude k of values >= 0 *and* the bin next to zero of negative ones;
        # index -k counts magnitude k of negative ones. That is what truncation towards zero gives.
        self._table = np.zeros(2 * BINS, np.int64)
        self._below = 0  # negative values in all
        self.channel_low: np.ndarray | None = None
        self.channel_high: np.ndarray | None = None
        self._channels_vary = False
        self._scaled = np.empty(0, np.float32)
        self._index = np.empty(0, np.int64)

    def add_range(self, low: float, high: float, count: int, nonfinite: int = 0) -> None:
        """Extremes (finite) and how many finite and other values they stand for; widens the range."""
        self.nonfinite += nonfinite
        if not count:
            return
        self.count += count
        # + 0.0 turns -0.0 into 0.0, which of the two came first must not show
        self.low, self.high = min(self.low, low + 0.0), max(self.high, high + 0.0)
        exponent = exponent_for(max(abs(low), abs(high)))
        if exponent > self.exponent:
            self._widen(exponent)

    def add_channels(self, low: np.ndarray | None, high: np.ndarray | None) -> None:
        """Extremes by channel; tensors whose number of channels varies keep none."""
        if low is None or high is None or self._channels_vary:
            return
        low, high = low.astype(np.float32) + np.float32(0), high.astype(np.float32) + np.float32(0)
        if self.channel_low is None or self.channel_high is None:
            self.channel_low, self.channel_high = low, high
        elif self.channel_low.shape != low.shape:
            self.channel_low, self.channel_high, self._channels_vary = None, None, True
        else:
            np.minimum(self.channel_low, low, out=self.channel_low)
            np.maximum(self.channel_high, high, out=self.channel_high)

    def fill(self, values: np.ndarray) -> None:
        """Count finite values (1-D, any stride) that lie in the range added before."""
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)  # float16 fits exactly
        size = min(len(values), CHUNK)
        if len(self._index) < size or self._scaled.dtype != values.dtype:
            self._scaled, self._index = np.empty(size, values.dtype), np.empty(size, np.int64)
        scale = values.dtype.type(math.ldexp(1.0, -self.exponent))
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK]
            scaled, index = self._scaled[: len(part)], self._index[: len(part)]
            np.multiply(part, scale, out=scaled)
            np.copyto(index, scaled, casting="unsafe")
            np.add.at(self._table, index, 1)
            if self.low < 0:
                self._below += int(np.count_nonzero(part < 0))

    def statistics(self) -> TensorStatistics:
        """What was seen so far."""
        positive = self._table[:BINS].copy()
        negative = np.zeros(BINS, np.int64)
        negative[1:] = self._table[:BINS:-1]
        negative[0] = self._below - int(negative.sum())
        positive[0] -= negative[0]
        seen = self.count > 0
        return TensorStatistics(
            name=self.name,
            low=self.low if seen else 0.0,
            high=self.high if seen else 0.0,
            count=self.count,
            nonfinite=self.nonfinite,
            exponent=self.exponent,
            negative=_trim(negative),
            positive=_trim(positive),
            channel_low=None if self.channel_low is None else self.channel_low.copy(),
            channel_high=None if self.channel_high is None else self.channel_high.copy(),
        )

    def merge(self, other: TensorStatistics) -> None:
        """Add what another pass saw of the same tensor."""
        if other.count:
            had = self.count > 0
            self.add_range(other.low, other.high, other.count, other.nonfinite)
            shift = self.exponent - other.exponent
            negative, positive = coarsen(other.negative, shift), coarsen(other.positive, shift)
            self._table[: len(positive)] += positive
            if len(negative):
                self._table[0] += negative[0]
                self._table[-1 : -len(negative) : -1] += negative[1:]
                self._below += int(negative.sum())
            if other.channel_low is None or (had and self.channel_low is None):
                self.channel_low, self.channel_high, self._channels_vary = None, None, True
            else:
                self.add_channels(other.channel_low, other.channel_high)
        else:
            self.nonfinite += other.nonfinite

    def _widen(self, exponent: int) -> None:
        shift, self.exponent = exponent - self.exponent, exponent
        if not self._table.any():
            return
        positive = coarsen(self._table[:BINS], shift)
        negative = coarsen(np.concatenate(([0], self._table[:BINS:-1])), shift)
        self._table = np.zeros(2 * BINS, np.int64)
        self._table[: len(positive)] = positive
        self._table[0] += negative[0]
        self._table[-1 : -len(negative) : -1] = negative[1:]


def _trim(counts: np.ndarray) -> np.ndarray:
    """Without the zeros at the end."""
    used = np.flatnonzero(counts)
    return np.array(counts[: used[-1] + 1 if len(used) else 0])


def merged(first: TensorStatistics, second: TensorStatistics) -> TensorStatistics:
    """Statistics of both; the same for ``(a, b)`` and ``(b, a)``, and in any grouping."""
    both = Accumulator(first.name)
    both.merge(first)
    both.merge(second)
    return both.statistics()
