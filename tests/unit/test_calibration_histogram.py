"""The histogram is exact and the same for any order, split and grouping of the values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from accel.calibration import Calibration, TensorStatistics
from accel.calibration.histogram import BINS, MIN_EXPONENT, Accumulator, coarsen, exponent_for, merged
from accel.calibration.merging import merge
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
# Mixed magnitudes, so that ranges double often: denormals, zeros of both signs, huge values.
values = st.one_of(
    hnp.arrays(np.float32, st.integers(1, 40), elements=finite),
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-8, 8, width=32)),
)
parts = st.lists(values, min_size=1, max_size=6)


def measure(arrays: list[np.ndarray]) -> TensorStatistics:
    found = Accumulator("t")
    for array in arrays:
        found.add_range(float(array.min()), float(array.max()), array.size)
        found.fill(array)
    return found.statistics()


def brute(array: np.ndarray) -> tuple[int, list[int], list[int]]:
    """Exponent and counts by exact integer arithmetic, without floating point."""
    from fractions import Fraction

    largest = max(abs(Fraction(float(v))) for v in array)
    exponent = MIN_EXPONENT
    while largest >= BINS * Fraction(2) ** exponent:
        exponent += 1
    negative, positive = [0] * BINS, [0] * BINS
    for v in array:
        k = math.floor(abs(Fraction(float(v))) / Fraction(2) ** exponent)
        (negative if v < 0 else positive)[k] += 1
    return exponent, negative, positive


def same(a: TensorStatistics, b: TensorStatistics) -> None:
    assert (a.low, a.high, a.count, a.nonfinite, a.exponent) == (b.low, b.high, b.count, b.nonfinite, b.exponent)
    assert math.copysign(1, a.low) == math.copysign(1, b.low)
    for name in ("negative", "positive", "channel_low", "channel_high"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None)
        if left is not None:
            assert left.dtype == right.dtype
            assert left.tobytes() == right.tobytes()


@settings(max_examples=150, deadline=None)
@given(parts)
def test_counts_are_exact(arrays: list[np.ndarray]) -> None:
    found = measure(arrays)
    everything = np.concatenate(arrays)
    exponent, negative, positive = brute(everything)
    assert found.exponent == exponent == exponent_for(float(np.abs(everything).max()))
    assert found.negative.tolist() == negative[: len(found.negative)]
    assert found.positive.tolist() == positive[: len(found.positive)]
    assert sum(negative) + sum(positive) == found.negative.sum() + found.positive.sum() == everything.size
    assert found.low == everything.min()
    assert found.high == everything.max()


@settings(max_examples=150, deadline=None)
@given(parts, st.randoms(use_true_random=False))
def test_order_split_and_grouping_do_not_show(arrays: list[np.ndarray], random) -> None:
    one = measure(arrays)
    shuffled = list(arrays)
    random.shuffle(shuffled)
    same(one, measure(shuffled))
    same(one, measure([np.concatenate(arrays)]))
    at = random.randint(0, len(arrays))
    first, second = arrays[:at], arrays[at:]
    if first and second:
        same(one, merged(measure(first), measure(second)))
        same(one, merged(measure(second), measure(first)))
    tree = measure(shuffled[:1])
    for array in shuffled[1:]:
        tree = merged(measure([array]), tree)
    same(one, tree)


@given(hnp.arrays(np.int64, st.integers(0, BINS), elements=st.integers(0, 1000)), st.integers(0, 20))
def test_coarsen_recounts(counts: np.ndarray, shift: int) -> None:
    expected = np.bincount(np.arange(len(counts)) >> shift, counts, minlength=0).astype(np.int64)
    assert coarsen(counts, shift).tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_type(dtype: type) -> None:
    array = np.random.default_rng(0).normal(size=5000).astype(dtype)
    found = measure([array])
    exponent, negative, positive = brute(array)
    assert found.exponent == exponent
    assert found.negative.tolist() == negative[: len(found.negative)]
    assert found.positive.tolist() == positive[: len(found.positive)]


def test_half_the_bins_are_used_whatever_the_scale() -> None:
    for power in (-90, -3, 0, 5, 100):
        for value in (1.0, 1.999, 1.5):
            assert BINS // 2 <= int(value * 2.0**power / 2.0 ** exponent_for(value * 2.0**power)) < BINS


def test_zeros_and_constants() -> None:
    zeros = measure([np.array([0.0, -0.0, 0.0], np.float32)])
    assert (zeros.low, zeros.high, zeros.exponent) == (0.0, 0.0, MIN_EXPONENT)
    assert zeros.positive.tolist() == [3]
    assert len(zeros.negative) == 0
    constant = measure([np.full(7, -3.0, np.float32)])
    assert constant.negative.tolist() == [0] * 3072 + [7]
    assert len(constant.positive) == 0


def test_channels_vary_or_merge() -> None:
    def with_channels(*arrays: list[float]) -> TensorStatistics:
        found = Accumulator("t")
        for array in arrays:
            found.add_range(min(array), max(array), len(array))
            found.add_channels(np.array(array, np.float32), np.array(array, np.float32))
        return found.statistics()

    one = with_channels([1.0, -2.0], [0.5, 3.0])
    assert one.channel_low is not None and one.channel_low.tolist() == [0.5, -2.0]
    same(one, merged(with_channels([0.5, 3.0]), with_channels([1.0, -2.0])))
    vary = with_channels([1.0, -2.0], [0.5, 3.0, 4.0])
    assert vary.channel_low is None
    assert merged(vary, with_channels([1.0, 2.0])).channel_low is None
    assert merged(with_channels([1.0, 2.0]), vary).channel_low is None


def test_merge_refuses_other_models() -> None:
    stats = measure([np.ones(3, np.float32)])
    a = Calibration("a" * 64, "1" * 64, 1, {"t": stats})
    b = Calibration("b" * 64, "2" * 64, 2, {"t": stats})
    c = Calibration("a" * 64, "f" * 64, 2, {"u": stats})
    for other in (b, c):
        with pytest.raises(AccelError) as caught:
            merge(a, other)
        assert caught.value.code == "calibration.mismatch"
    both = merge(a, Calibration("a" * 64, "f" * 64, 2, {"t": stats}))
    assert both.samples == 3
    assert both.data_digest == f"{(int('1' * 64, 16) + int('f' * 64, 16)) % 2**256:064x}"
    assert both.tensors["t"].count == 6
