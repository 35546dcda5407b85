"""The streaming histogram: exact, mergeable, the same for any order of the samples.

Bin widths are powers of two and every histogram starts at zero, so bin ``k`` of width ``w`` is bin
``k >> 1`` of width ``2w``: widening the range loses nothing, and whatever order the values came in,
the counts are those of ``floor(|x| / w)`` at the final width. That width depends on the largest
magnitude alone (:func:`exponent_for`). Scaling by a power of two is exact in floating point.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from accel.calibration import MEAN_UNIT, TensorStatistics

BIN_BITS = 12
BINS = 1 << BIN_BITS
"""Bins on each side of zero; the largest magnitude falls into the upper half of them."""

MIN_EXPONENT = -120
"""Narrowest bin, so that its reciprocal is a normal float32; tensors of zeros have it too."""

CHUNK = 1 << 15
"""Values binned at a time: what the steps hand to each other stays in the processor's cache."""

MEAN_BITS = MEAN_UNIT.bit_length() - 1
MEAN_LIMIT = 2.0**15
"""Means by channel beyond it are not kept: a million rows of them must fit into int64."""

_WIDTH = 2 * BINS
# Magnitude k of a value >= 0 stands at index BINS + k, of a negative one at BINS - k: what truncation towards
# zero gives, always positive (signs come at random and would cost a mispredicted branch each). Neighbouring
# values go to two tables in turn, since adding to one bin twice in a row (ReLU's zeros) has to wait.
_OFFSETS = np.where(np.arange(CHUNK) % 2, BINS + _WIDTH, BINS)


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


_held = threading.local()


def _scratch(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Buffers of CHUNK values and of their indices, one pair a thread."""
    if getattr(_held, "dtype", None) != dtype:
        _held.dtype, _held.buffers = dtype, (np.empty(CHUNK, dtype), np.empty(CHUNK, np.int64))
    return _held.buffers  # type: ignore[no-any-return]


def mean_units(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means by channel of rows, [rows, channels], as int64 sums over the rows in units of ``1 / MEAN_UNIT``, and
    whether each channel's are small enough to be kept.

    They are rounded row by row, so that how rows are grouped does not show.
    """
    fits = (np.abs(means) < MEAN_LIMIT).all(axis=0)
    scaled = np.ldexp(np.where(fits, means, 0).astype(np.float64), MEAN_BITS)
    return np.rint(scaled).astype(np.int64).sum(axis=0), fits


class Accumulator:
    """Statistics of one tensor, growing sample by sample. One thread at a time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.low = math.inf
        self.high = -math.inf
        self.count = 0
        self.nonfinite = 0
        self.exponent = MIN_EXPONENT
        self._table = np.zeros((2, _WIDTH), np.int64)
        self._empty = True
        self._below = 0  # negative values in all: they share the bin next to zero with the others
        self.channel_low: np.ndarray | None = None
        self.channel_high: np.ndarray | None = None
        self._channels_vary = False
        self.channel_sum: np.ndarray | None = None
        self.rows = 0
        self._no_means = False

    def add_range(self, low: float, high: float, count: int, nonfinite: int = 0) -> None:
        """Extremes (finite) and how many finite and other values they stand for; widens the range."""
        self.nonfinite += nonfinite
        if not count:
            return
        self.count += count
        # + 0.0 turns -0.0 into 0.0, which of the two came first must not show
        self.low, self.high = min(self.low, low + 0.0), max(self.high, high + 0.0)

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
        """Count finite values (any shape) that lie in the range added before."""
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float32)  # float16 fits exactly
        values = values.reshape(-1)
        self._widen()
        scale = values.dtype.type(math.ldexp(1.0, -self.exponent))
        scaled, index = _scratch(values.dtype)
        self._empty = False
        table = self._table.reshape(-1)
        for start in range(0, len(values), CHUNK):
            part = values[start : start + CHUNK]
            size = len(part)
            np.multiply(part, scale, out=scaled[:size])
            np.copyto(index[:size], scaled[:size], casting="unsafe")
            np.add(index[:size], _OFFSETS[:size], out=index[:size])
            np.add.at(table, index[:size], 1)
            if self.low < 0:
                self._below += int(np.count_nonzero(part < 0))

    def add_mean_units(self, sums: np.ndarray | None, rows: int) -> None:
        """Sums over rows from :func:`mean_units`; None, or channels that vary: this tensor keeps no means."""
        if sums is None:
            self.drop_means()
        elif not self._no_means:
            self._add_sums(sums, rows)

    def _add_sums(self, sums: np.ndarray, rows: int) -> None:
        if self.channel_sum is None:
            self.channel_sum = sums.copy()
        elif self.channel_sum.shape != sums.shape:
            self.drop_means()
            return
        else:
            self.channel_sum += sums
        self.rows += rows

    def drop_means(self) -> None:
        """Keep no means by channel of this tensor."""
        self.channel_sum, self.rows, self._no_means = None, 0, True

    def statistics(self) -> TensorStatistics:
        """What was seen so far."""
        self._widen()
        negative, positive = self._sides()
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
            channel_sum=None if self.channel_sum is None else self.channel_sum.copy(),
            rows=self.rows,
        )

    def merge(self, other: TensorStatistics) -> None:
        """Add what another pass saw of the same tensor."""
        if other.count:
            had = self.count > 0
            self.add_range(other.low, other.high, other.count, other.nonfinite)
            self._widen()
            shift = self.exponent - other.exponent
            self._add_sides(coarsen(other.negative, shift), coarsen(other.positive, shift))
            if other.channel_low is None or (had and self.channel_low is None):
                self.channel_low, self.channel_high, self._channels_vary = None, None, True
            else:
                self.add_channels(other.channel_low, other.channel_high)
            if other.channel_sum is None:
                self.drop_means()
            elif not self._no_means:
                self._add_sums(other.channel_sum, other.rows)
        else:
            self.nonfinite += other.nonfinite

    def _widen(self) -> None:
        """Make the bins as wide as the range needs."""
        exponent = exponent_for(max(-self.low, self.high)) if self.count else self.exponent
        shift = exponent - self.exponent
        if shift <= 0:
            return
        if self._empty:
            self.exponent = exponent
            return
        negative, positive = self._sides()
        self.exponent = exponent
        self._table[:] = 0
        self._below = 0
        self._add_sides(coarsen(negative, shift), coarsen(positive, shift))

    def _sides(self) -> tuple[np.ndarray, np.ndarray]:
        """Counts by magnitude of the values below zero, and of the others."""
        counts = self._table.sum(axis=0)
        positive = counts[BINS:]
        negative = np.concatenate(([0], counts[BINS - 1 : 0 : -1]))
        negative[0] = self._below - negative.sum()
        positive[0] -= negative[0]
        return negative, positive

    def _add_sides(self, negative: np.ndarray, positive: np.ndarray) -> None:
        self._empty = False
        counts = self._table[0]
        counts[BINS : BINS + len(positive)] += positive
        counts[BINS : BINS - len(negative) : -1] += negative
        self._below += int(negative.sum())


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
