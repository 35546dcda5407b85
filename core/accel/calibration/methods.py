"""From statistics to ranges: one function a method, all from the same histogram.

Each function takes the statistics of one tensor, ``bits`` of the integer code and ``symmetric``
(codes around zero, one threshold) or not (a range of its own on each side), and returns the
:class:`~accel.calibration.Range` to keep. A range never exceeds what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from accel.calibration import METHODS, Range
from accel.calibration.histogram import coarsen
from accel.errors import AccelError

if TYPE_CHECKING:
    from accel.calibration import Calibration, TensorStatistics

PERCENT = 99.99
"""Percentage of values that ``percentile`` keeps."""

SEARCH_BINS = 2048
"""Bins that the searches of ``kl`` and ``mse`` look at (as TensorRT's; Migacz, GTC 2017)."""

KL_BLOCK = 128
"""Thresholds that ``kl`` looks at together: their levels fit into the processor's cache."""

MSE_STEPS = 128
"""Candidates of ``mse``: this many even fractions of the range seen."""


def ranges(calibration: Calibration, method: str, *, bits: int = 8, symmetric: bool = True) -> dict[str, Range]:
    """Range by tensor name; see :meth:`accel.calibration.Calibration.ranges`."""
    derive = _method(method)
    known: dict[tuple[object, ...], Range] = {}
    found = {}
    for name, stats in calibration.tensors.items():
        # Views and fused activations carry the statistics of another tensor.
        key = (stats.low, stats.high, stats.exponent, stats.negative.tobytes(), stats.positive.tobytes())
        if key not in known:
            known[key] = derive(stats, bits, symmetric)
        found[name] = known[key]
    return found


def _method(name: str) -> Callable[[TensorStatistics, int, bool], Range]:
    base, colon, argument = name.partition(":")
    if base == "percentile" and colon:
        try:
            percent = float(argument)
        except ValueError:
            percent = math.nan
        if 50 < percent <= 100:
            return lambda stats, bits, symmetric: percentile(stats, bits, symmetric, percent)
    elif not colon and base in METHODS:
        return {"minmax": minmax, "percentile": percentile, "kl": kl, "mse": mse, "aciq": aciq}[base]
    raise AccelError(
        f"there is no threshold method {name!r}",
        code="usage.method",
        hints=[f"Choose one of {', '.join(METHODS)}, or percentile:P with 50 < P <= 100."],
    )


def minmax(stats: TensorStatistics, bits: int = 8, symmetric: bool = True) -> Range:
    """Everything that was seen."""
    return Range(stats.low, stats.high)


def percentile(stats: TensorStatistics, bits: int = 8, symmetric: bool = True, percent: float = PERCENT) -> Range:
    """The smallest range with ``percent`` of the values: of the magnitudes if symmetric, else with the same
    share cut off on each side. Values are taken as spread evenly inside a bin."""
    width = math.ldexp(1.0, stats.exponent)
    if symmetric:
        counts = _magnitudes(stats)
        return _clip(stats, _quantile(counts, percent / 100) * width)
    tail = (100 - percent) / 200
    counts = np.concatenate((stats.negative[::-1], stats.positive))
    zero = len(stats.negative)
    low = (_quantile(counts, tail) - zero) * width
    high = (_quantile(counts, 1 - tail) - zero) * width
    return _within(stats, low, high)


def kl(stats: TensorStatistics, bits: int = 8, symmetric: bool = True) -> Range:
    """The threshold whose quantised distribution has the least Kullback-Leibler divergence from the
    clipped original (S. Migacz, "8-bit inference with TensorRT", GTC 2017).

    For every threshold of i bins: P is the first i bins with everything beyond added to the last one; Q
    spreads the mass of each of the code's levels (level j covers bins floor(j*i/L) to floor((j+1)*i/L))
    evenly over those of its bins that P fills. The bin at zero, where ReLU's exact zeros
    pile up and cost nothing, counts like its neighbour (as pytorch-quantization does).
    """
    counts, shift = _search_counts(stats)
    levels = _levels(stats, bits, symmetric)
    bins = len(counts)
    if bins <= levels or bins < 2:
        return minmax(stats)
    counts[0] = counts[1]
    divergence = kl_divergences(counts, levels)
    best = levels + int(np.argmin(divergence))
    return _clip(stats, best * math.ldexp(1.0, stats.exponent + shift) if best < bins else math.inf)


def kl_divergences(counts: np.ndarray, levels: int) -> np.ndarray:
    """Divergence for each threshold of ``levels`` .. ``len(counts)`` bins; inf where Q misses mass of P.

    Many thresholds at once: sum p log(p/q) = sum p log p - sum over levels of (mass of P) log(q of the
    level), and each sum is a difference of cumulative sums.
    """
    bins = len(counts)
    counts = counts.astype(np.float64)
    total = counts.sum()
    if not total:
        return np.zeros(bins - levels + 1)
    mass = np.concatenate(([0.0], np.cumsum(counts)))
    filled = np.concatenate(([0.0], np.cumsum(counts > 0)))
    entropy = np.concatenate(([0.0], np.cumsum(_xlogx(counts))))
    all_edges = _level_edges(max(bins, SEARCH_BINS), levels)
    found = np.empty(bins - levels + 1)
    for start in range(0, len(found), KL_BLOCK):
        edges = all_edges[start : min(start + KL_BLOCK, len(found))]
        size = edges[:, -1]
        last, beyond = counts[size - 1], total - mass[size]
        level_mass, level_filled = mass.take(edges), filled.take(edges)
        level_mass = level_mass[:, 1:] - level_mass[:, :-1]
        level_filled = level_filled[:, 1:] - level_filled[:, :-1]
        level_filled[:, -1] += (last == 0) & (beyond > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            log_q = np.log(level_mass / level_filled)
            # The last level also has the mass beyond; an empty level costs nothing.
            end = level_mass[:, -1] + beyond
            cross = np.where(end > 0, end * log_q[:, -1], 0.0)
        log_q[level_mass == 0] = 0.0
        cross += np.einsum("ij,ij->i", level_mass[:, :-1], log_q[:, :-1])
        own = entropy[size - 1] + _xlogx(last + beyond)
        with np.errstate(divide="ignore", invalid="ignore"):
            found[start : start + len(edges)] = (own - cross) / total - np.log(total) + np.log(mass[size])
    return np.where(np.isfinite(found), found, np.inf)


@lru_cache(maxsize=4)
def _level_edges(bins: int, levels: int) -> np.ndarray:
    """First bin of each level for thresholds of ``levels`` .. ``bins`` bins: int64 [thresholds, levels + 1]."""
    return np.asarray(np.arange(levels + 1)[None, :] * np.arange(levels, bins + 1)[:, None] // levels)


def mse(stats: TensorStatistics, bits: int = 8, symmetric: bool = True) -> Range:
    """The fraction (of ``MSE_STEPS``) of the range with the least squared error of rounding and clipping,
    each bin's values taken at its centre. Codes that are finer than the bins: ``minmax``."""
    counts, shift = _search_counts(stats)
    codes = (1 << bits) - 2 if symmetric else (1 << bits) - 1  # steps from the lowest to the highest code
    if not stats.count or codes >= SEARCH_BINS or stats.low == stats.high == 0:
        return minmax(stats)
    width = math.ldexp(1.0, stats.exponent + shift)
    fraction = np.arange(1, MSE_STEPS + 1)[:, None] / MSE_STEPS
    if symmetric:
        largest = max(-stats.low, stats.high)
        centre = np.minimum((np.arange(len(counts)) + 0.5) * width, largest)
        low, high = -fraction * largest, fraction * largest
    else:
        negative, positive = coarsen(stats.negative, shift)[::-1], coarsen(stats.positive, shift)
        counts = np.concatenate((negative, positive))
        centre = np.clip((np.arange(len(counts)) - len(negative) + 0.5) * width, stats.low, stats.high)
        low, high = fraction * min(stats.low, 0.0), fraction * max(stats.high, 0.0)
    used = counts > 0
    counts, centre = counts[used], centre[used]
    step = (high - low) / codes
    # Codes are multiples of the step: from the lower end if asymmetric, around zero (the middle of an
    # even number of steps) if symmetric; both are low + k * step.
    code = np.clip(np.rint((centre - low) / step), 0, codes)
    error = ((low + code * step - centre) ** 2) @ counts
    best = int(np.argmin(error))
    if symmetric:
        return _clip(stats, float(high[best, 0]))
    return _within(stats, float(low[best, 0]), float(high[best, 0]))


def aciq(stats: TensorStatistics, bits: int = 8, symmetric: bool = True) -> Range:
    """The clipping that is optimal for a Laplace or a normal distribution with the moments seen, whichever
    the ratio of mean magnitude to standard deviation is nearer to (R. Banner et al., "Post training 4-bit
    quantization of convolutional networks for rapid-deployment", NeurIPS 2019).

    A tensor without negative (or positive) values is taken as one half of a distribution around zero,
    the bin at zero (ReLU's zeros) left out; with asymmetric codes its half has all the levels.
    """
    one_sided = stats.low >= 0 or stats.high <= 0
    width = math.ldexp(1.0, stats.exponent)
    negative, positive = stats.negative[::-1], stats.positive
    counts = np.concatenate((negative, positive)).astype(np.float64)
    centre = (np.arange(len(counts)) - len(negative) + 0.5) * width
    if one_sided:
        counts[len(negative) if len(positive) else -1] = 0
    total = counts.sum()
    if not total:
        return minmax(stats)
    centre_of = 0.0 if one_sided or symmetric else float(counts @ centre / total)
    away = np.abs(centre - centre_of)
    magnitude, deviation = float(counts @ away / total), math.sqrt(float(counts @ away**2 / total))
    if one_sided and not symmetric:
        bits += 1
    # E|x| / sqrt(E x^2) is sqrt(1/2) for Laplace and sqrt(2/pi) for a normal distribution.
    laplace = magnitude < deviation * (math.sqrt(0.5) + math.sqrt(2 / math.pi)) / 2
    alpha = laplace_ratio(bits) * magnitude if laplace else normal_ratio(bits) * deviation
    if symmetric or one_sided:
        return _clip(stats, alpha)
    return _within(stats, centre_of - alpha, centre_of + alpha)


@lru_cache
def laplace_ratio(bits: int) -> float:
    """Optimal clipping of Laplace(0, b) with 2^bits levels, in units of b: the root of
    a / (3 * 4^bits) = exp(-a), i.e. Lambert's W(3 * 4^bits) (Banner et al., eq. 4-6): 9.89 for 8 bits."""
    return _root(lambda a: a / (3 * 4.0**bits) - math.exp(-a))


@lru_cache
def normal_ratio(bits: int) -> float:
    """Optimal clipping of N(0, s^2) with 2^bits levels, in units of s (Banner et al., eq. 7, derived and
    solved numerically): 3.92 for 8 bits."""
    return _root(
        lambda a: a / (3 * 4.0**bits) + a * math.erfc(a / math.sqrt(2)) - math.sqrt(2 / math.pi) * math.exp(-a * a / 2)
    )


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


def _magnitudes(stats: TensorStatistics) -> np.ndarray:
    """int64 counts of |x| by bin."""
    counts = np.zeros(max(len(stats.negative), len(stats.positive)), np.int64)
    counts[: len(stats.negative)] += stats.negative
    counts[: len(stats.positive)] += stats.positive
    return counts


def _search_counts(stats: TensorStatistics) -> tuple[np.ndarray, int]:
    """Counts of |x| in at most SEARCH_BINS bins up to the largest magnitude, and by how much they are coarser."""
    largest = max(abs(stats.low), abs(stats.high))
    bins = math.floor(math.ldexp(largest, -stats.exponent)) + 1 if stats.count else 0
    counts = np.zeros(bins, np.int64)
    found = _magnitudes(stats)
    counts[: len(found)] = found
    shift = 1 if bins > SEARCH_BINS else 0
    return coarsen(counts, shift), shift


def _levels(stats: TensorStatistics, bits: int, symmetric: bool) -> int:
    """Levels of the code on one side of zero."""
    one_sided = stats.low >= 0 or stats.high <= 0
    return 1 << (bits if one_sided and not symmetric else bits - 1)


def _clip(stats: TensorStatistics, threshold: float) -> Range:
    return _within(stats, -threshold, threshold)


def _within(stats: TensorStatistics, low: float, high: float) -> Range:
    return Range(min(max(stats.low, low), stats.high), max(min(stats.high, high), stats.low))


def _quantile(counts: np.ndarray, share: float) -> float:
    """Position, in bins, below which ``share`` of the counts lie."""
    total = counts.sum()
    if not total:
        return 0.0
    mass = np.cumsum(counts)
    wanted = share * total
    at = min(int(np.searchsorted(mass, wanted)), len(counts) - 1)
    before = mass[at] - counts[at]
    return float(at + (min(max((wanted - before) / counts[at], 0.0), 1.0) if counts[at] else 0.0))


def _xlogx(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1.0))
