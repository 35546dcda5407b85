"""Scales, zero points and codes of every rule; Cambricon's worked values are those of the CNNL guide."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference import schemes
from accel.calibration import Range
from accel.target import QuantScheme
from hypothesis import given
from hypothesis import strategies as st

FINITE = st.floats(-1e6, 1e6, allow_nan=False, width=32)


def grid(rule, low, high, bits=8, symmetric=True, **more):
    return schemes.activation_grid(QuantScheme(bits, symmetric, rule=rule, **more), Range(low, high))


@pytest.mark.parametrize(
    ("bits", "absmax", "position", "scale"),
    [(8, 1.0, -6, 1.984375), (16, 2.0, -13, 1.99993896), (8, 3.7, -5, 1.07263514)],
)
def test_cambricon_symmetric_worked_values(bits, absmax, position, scale):
    both = grid("position_scale", -absmax, absmax, bits)
    only = grid("power_of_two", -absmax, absmax, bits)
    assert float(both.inverse) == pytest.approx(scale * 2.0**-position, rel=1e-7)
    assert float(only.inverse) == 2.0**-position
    assert (both.low, both.high) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@pytest.mark.parametrize(
    ("low", "high", "position", "scale", "offset", "codes"),
    [
        (-2.0, 1.0, -6, 1.328125, 42, {0.0: 42, -1.5: -86, 0.4: 76}),
        (0.0, 6.0, -5, 1.328125, -128, {0.4: -111}),
    ],
)
def test_cambricon_asymmetric_worked_values(low, high, position, scale, offset, codes):
    on = grid("position_scale_offset", low, high, symmetric=False)
    assert float(on.inverse) == scale * 2.0**-position
    assert on.zero == offset
    for value, code in codes.items():
        assert schemes.quantize(np.float32(value), on) + on.zero == code


def test_zero_range_keeps_zero():
    for rule in ("max_code", "full_range", "power_of_two", "position_scale", "position_scale_offset", "affine"):
        on = grid(rule, 0.0, 0.0, symmetric=rule not in ("position_scale_offset", "affine"))
        assert schemes.quantize(np.float32(0), on) == 0
        assert np.isfinite(on.inverse)
    assert float(grid("power_of_two", 0.0, 0.0).inverse) == 1.0
    assert float(grid("position_scale", 0.0, 0.0).inverse) == 1.0


def test_sophon_code_is_x_times_128_over_threshold():
    on = grid("full_range", -4.0, 4.0)
    assert list(schemes.quantize(np.float32([0.03125, -4.0, 4.0, 1.0]), on)) == [1, -128, 127, 32]


def test_onnx_affine_uint8_like():
    on = grid("affine", -1.0, 3.0, symmetric=False)
    assert float(on.scale) == pytest.approx(4 / 255)
    assert on.zero == -64
    assert (on.low + on.zero, on.high + on.zero) == (-128, 127)


@given(st.lists(FINITE, min_size=1, max_size=20), st.sampled_from(["max_code", "full_range", "position_scale"]))
def test_quantised_values_are_at_most_half_a_step_off(values, rule):
    x = np.asarray(values, np.float32)
    threshold = float(np.abs(x).max())
    on = grid(rule, -threshold, threshold, bits=8)
    back = schemes.dequantize(schemes.quantize(x, on), on)
    kept = x * on.inverse <= on.high  # full_range clips the very largest positive value to 127
    step = float(on.scale)
    assert np.all(np.abs(back - x)[kept] <= 0.5 * step * (1 + 1e-5) + 1e-30)


@given(FINITE, FINITE)
def test_asymmetric_zero_is_exact(a, b):
    low, high = min(a, b), max(a, b)
    for rule in ("affine", "position_scale_offset"):
        on = grid(rule, low, high, symmetric=False)
        assert schemes.quantize(np.float32(0), on) == 0


def test_powers_of_two_are_not_off_by_one():
    for exponent in range(-60, 60):
        t = 2.0**exponent
        assert float(grid("power_of_two", -t, t).inverse) == 2.0 ** (6 - exponent)
        below = float(np.nextafter(np.float32(t), np.float32(0)))
        assert float(grid("power_of_two", -below, below).inverse) == 2.0 ** (7 - exponent)


@pytest.mark.parametrize(
    ("rounding", "want"),
    [("half_even", [-2, -2, 0, 0, 2, 2]), ("half_up", [-2, -1, 0, 1, 2, 3]), ("half_away", [-3, -2, -1, 1, 2, 3])],
)
def test_rounding_of_ties(rounding, want):
    ties = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert list(schemes.round_codes(ties, rounding)) == want


def test_weights_by_channel_and_tensor():
    weight = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 0.0]], np.float32)
    scheme = QuantScheme(8, granularity="channel", narrow=True)
    by_channel = schemes.weight_grid(scheme, weight, 0)
    assert schemes.quantize(weight, by_channel, 0).tolist() == [[64, -127], [127, 64], [0, 0]]
    whole = schemes.weight_grid(scheme, weight, None)
    assert schemes.quantize(weight, whole).tolist() == [[64, -127], [32, 16], [0, 0]]
