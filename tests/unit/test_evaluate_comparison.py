"""The measures of one tensor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from accel.builtin.evaluate.comparison import SQNR_LIMIT, TensorComparison, first_divergence, measures
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

VECTORS = npst.arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e3, 1e3, allow_subnormal=False))


@settings(max_examples=200, deadline=None)
@given(reference=VECTORS, seed=st.integers(0, 99), noise=st.sampled_from([0.0, 1e-6, 0.1, 10.0]))
def test_measures_are_their_formulas(reference: np.ndarray, seed: int, noise: float) -> None:
    value = reference + noise * np.random.default_rng(seed).standard_normal(reference.shape)
    cosine, sqnr, error = measures(reference, value)
    difference = [v - r for v, r in zip(value.tolist(), reference.tolist(), strict=True)]
    assert error == max(abs(d) for d in difference)
    signal, wrong = math.fsum(r * r for r in reference.tolist()), math.fsum(d * d for d in difference)
    if wrong == 0:
        assert (cosine, sqnr) == (1.0, SQNR_LIMIT)
    elif signal > 1e-200 and wrong > 1e-200:
        plain = 10 * math.log10(signal / wrong)
        assert sqnr == pytest.approx(max(-SQNR_LIMIT, min(SQNR_LIMIT, plain)), abs=1e-6)
        length = math.sqrt(signal) * math.sqrt(math.fsum(v * v for v in value.tolist()))
        dot = math.fsum(r * v for r, v in zip(reference.tolist(), value.tolist(), strict=True))
        assert cosine == pytest.approx(dot / length, abs=1e-9)


def test_means_over_samples_and_worst_sample() -> None:
    item = TensorComparison("y", classes=True)
    item.add(np.array([[3.0, 4.0]]), np.array([[3.0, 4.0]]), "equal")
    item.add(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]]), "tie")
    item.add(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]), "wrong")
    assert item.cosine == pytest.approx((1 + 1 / math.sqrt(2) + 0) / 3)
    assert item.sqnr == pytest.approx((SQNR_LIMIT + 0 - 10 * math.log10(2)) / 3)
    assert item.max_error == 1
    assert item.worst == "wrong"
    assert item.agreement == pytest.approx(2 / 3)
    assert item.notes() == []


def test_agreement_of_maps_counts_positions() -> None:
    reference = np.zeros((1, 2, 2, 2))
    reference[0, 0] = 1
    value = reference.copy()
    value[0, 1, 0, 0] = 5
    item = TensorComparison("map", classes=True)
    item.add(reference, value, "s")
    assert item.agreement == 0.75


def test_nan_counts_as_wholly_wrong_and_is_named() -> None:
    item = TensorComparison("y", classes=True)
    item.add(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), "a")
    item.add(np.array([[1.0, 2.0]]), np.array([[1.0, np.nan]]), "b")
    assert item.cosine == 0.5
    assert item.max_error is None
    assert item.agreement == 0.5
    assert "first in b" in item.notes()[0]
    assert first_divergence([item]) is item


def test_infinity_of_the_reference_is_left_out_and_named() -> None:
    item = TensorComparison("mask")
    item.add(np.array([[-np.inf, 2.0]]), np.array([[-1e30, 2.0]]), "a")
    assert item.cosine == 1
    assert "float model itself" in item.notes()[0]


@pytest.mark.parametrize(("shape", "word"), [((1, 4, 5, 3), "NHWC"), ((1, 60), "as many elements"), ((1, 3), "[1, 3]")])
def test_another_shape_is_not_compared(shape: tuple[int, ...], word: str) -> None:
    item = TensorComparison("y")
    item.add(np.ones((1, 3, 4, 5)), np.ones(shape), "a")
    assert item.samples == 0
    assert item.cosine is None
    assert word in item.notes()[0]


def test_first_divergence_follows_execution_order() -> None:
    layers = [TensorComparison(name) for name in "abc"]
    for layer, angle in zip(layers, (0.0, 0.3, 0.9), strict=True):
        layer.add(np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)]), "s")
    assert first_divergence(layers) is layers[1]
    assert first_divergence(layers, 0.9) is layers[2]
    assert first_divergence(layers[:1]) is None
