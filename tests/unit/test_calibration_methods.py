"""Every method against its definition, written out slowly, and on data whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from accel.calibration import METHODS, Calibration, TensorStatistics
from accel.calibration import methods as m
from accel.calibration.histogram import Accumulator
from accel.errors import AccelError
from hypothesis import given, settings
from hypothesis import strategies as st

RNG = np.random.default_rng(7)
SHAPES = {
    "normal": RNG.normal(0, 2, 40000),
    "laplace": RNG.laplace(0, 1, 40000),
    "relu": np.maximum(RNG.normal(0, 1, 40000), 0),
    "relu6": np.clip(RNG.normal(1, 3, 40000), 0, 6),
    "shifted": RNG.normal(3, 1, 40000),
    "negative": -np.abs(RNG.normal(0, 1, 40000)),
    "outlier": np.concatenate([RNG.normal(0, 1, 40000), [12.0]]),
    "constant": np.full(10, 2.5),
    "zeros": np.zeros(10),
    "tiny": RNG.normal(0, 1e-30, 1000),
}


def measure(values: np.ndarray) -> TensorStatistics:
    values = values.astype(np.float32)
    found = Accumulator("t")
    found.add_range(float(values.min()), float(values.max()), values.size)
    found.fill(values)
    return found.statistics()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8, 16])
def test_ranges_lie_within_what_was_seen(shape: str, method: str, symmetric: bool, bits: int) -> None:
    stats = measure(SHAPES[shape])
    found = Calibration("m", "d", 1, {"t": stats}).ranges(method, bits=bits, symmetric=symmetric)["t"]
    assert stats.low <= found.low <= found.high <= stats.high
    assert math.isfinite(found.threshold)
    if shape not in ("zeros",):
        assert found.threshold > 0
    else:
        assert (found.low, found.high) == (0, 0)


@pytest.mark.parametrize("shape", [s for s in SHAPES if s not in ("constant", "zeros")])
@pytest.mark.parametrize("percent", [99.0, 99.9, 99.99])
def test_percentile_is_numpys_within_a_bin(shape: str, percent: float) -> None:
    values = SHAPES[shape].astype(np.float32).astype(np.float64)
    stats = measure(values)
    width = 2.0**stats.exponent
    assert m.percentile(stats, 8, True, percent).threshold == pytest.approx(
        np.quantile(np.abs(values), percent / 100, method="inverted_cdf"), abs=1.01 * width
    )
    both = m.percentile(stats, 8, False, percent)
    tail = (100 - percent) / 200
    assert both.low == pytest.approx(np.quantile(values, tail, method="inverted_cdf"), abs=1.01 * width)
    assert both.high == pytest.approx(np.quantile(values, 1 - tail, method="inverted_cdf"), abs=1.01 * width)


def brute_divergence(counts: np.ndarray, bins: int, levels: int) -> float:
    reference = counts[:bins].astype(float)
    p = reference.copy()
    p[-1] += counts[bins:].sum()
    q = np.zeros(bins)
    for j in range(levels):
        a, b = j * bins // levels, (j + 1) * bins // levels
        filled = p[a:b] > 0
        if filled.any():
            q[a:b][filled] = reference[a:b].sum() / filled.sum()
    if not q.sum():
        return math.inf
    p, q = p / p.sum(), q / q.sum()
    if ((p > 0) & (q == 0)).any():
        return math.inf
    used = p > 0
    return float((p[used] * np.log(p[used] / q[used])).sum())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.just(0), st.integers(0, 50)), min_size=8, max_size=40), st.sampled_from([2, 4, 8]))
def test_kl_is_its_definition(counts: list[int], levels: int) -> None:
    array = np.array(counts)
    found = m.kl_divergences(array, levels)
    if array.sum() == 0:
        return
    expected = [brute_divergence(array, i, levels) for i in range(levels, len(array) + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("shape", ["normal", "relu", "shifted", "negative", "outlier"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_mse_is_its_definition(shape: str, symmetric: bool) -> None:
    values = SHAPES[shape].astype(np.float32).astype(np.float64)
    stats = measure(values)
    found = m.mse(stats, 8, symmetric)

    def error(low: float, high: float) -> float:
        if symmetric:
            step = max(-low, high) / 127
            return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).sum())
        step = (high - low) / 255
        return float(((low + np.clip(np.rint((values - low) / step), 0, 255) * step - values) ** 2).sum())

    low, high = min(stats.low, 0.0), max(stats.high, 0.0)
    best = min(error(f / 128 * low, f / 128 * high) for f in range(1, 129))
    assert error(min(found.low, 0.0), max(found.high, 0.0)) <= best * 1.02


def test_aciq_ratios_are_the_published_ones() -> None:
    # Banner et al. 2019, the constants of their implementation.
    for bits, normal, laplace in ((2, 1.71, 2.83), (3, 2.15, 3.89), (4, 2.55, 5.03), (8, 3.92, 9.89)):
        assert m.normal_ratio(bits) == pytest.approx(normal, abs=0.01)
        assert m.laplace_ratio(bits) == pytest.approx(laplace, abs=0.01)


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_aciq_on_known_distributions(bits: int) -> None:
    normal, laplace = measure(RNG.normal(0, 2, 200000)), measure(RNG.laplace(0, 3, 200000))
    assert m.aciq(normal, bits).threshold == pytest.approx(2 * m.normal_ratio(bits), rel=0.02)
    assert m.aciq(laplace, bits).threshold == pytest.approx(3 * m.laplace_ratio(bits), rel=0.02)
    # ReLU of a centred normal: the positive half of the same distribution.
    half = m.aciq(measure(np.maximum(RNG.normal(0, 2, 200000), 0)), bits)
    assert half.threshold == pytest.approx(2 * m.normal_ratio(bits), rel=0.02)
    assert half.low == 0
    shifted = m.aciq(measure(RNG.normal(5, 1, 200000) - 2), bits, symmetric=False)
    assert (shifted.low + shifted.high) / 2 == pytest.approx(3, abs=0.05)


def test_searches_cut_an_outlier_and_keep_a_uniform() -> None:
    outlier = measure(SHAPES["outlier"])
    assert m.kl(outlier).threshold < 6
    assert m.aciq(outlier).threshold < 6
    assert m.percentile(outlier).threshold < 6
    assert m.mse(outlier, 4).threshold < 6
    uniform = measure(RNG.uniform(-1, 1, 100000))
    assert m.mse(uniform).threshold > 0.98
    assert m.kl(uniform).threshold > 0.95


def test_unknown_methods_are_refused() -> None:
    calibration = Calibration("m", "d", 1, {"t": measure(SHAPES["normal"])})
    for name in (
        "entropy",
        "percentile:",
        "percentile:x",
        "percentile:20",
        "kl:3",
        "",
        "percentile:101",
        "percentile:nan",
    ):
        with pytest.raises(AccelError) as caught:
            calibration.ranges(name)
        assert caught.value.code == "usage.method"
    assert calibration.ranges("percentile:99")["t"].threshold < calibration.ranges("percentile")["t"].threshold
