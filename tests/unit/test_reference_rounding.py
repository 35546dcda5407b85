"""Rounding by sums: codes move by one at most, sums of errors vanish, what quantises the result gets these codes."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.reference import schemes
from accel.builtin.reference.rounding import move, round_weights
from accel.numerics import float_numerics, stored_int
from accel.target import QuantScheme
from hypothesis import given, settings
from hypothesis import strategies as st
from support.networks import residual_net

RULES = ("max_code", "full_range", "power_of_two", "position_scale")


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(4, 1, 3, 3), (6, 5, 1, 1), (3, 4, 3, 3), (4, 9), (5, 3, 7)]),
    rule=st.sampled_from(RULES),
    granularity=st.sampled_from(["channel", "tensor"]),
)
def test_errors_of_every_channel_add_up_to_half_a_step(seed, shape, rule, granularity) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)
    scheme = QuantScheme(8, granularity=granularity, rule=rule)
    made = move(weight, scheme, 0)
    axis = 0 if granularity == "channel" else None
    before, after = schemes.weight_grid(scheme, weight, axis), schemes.weight_grid(scheme, made, axis)
    np.testing.assert_allclose(after.inverse, before.inverse, rtol=1e-6)
    codes = schemes.quantize(made, after, 0)
    inverse = np.broadcast_to(before.inverse, shape[:1]).reshape((-1,) + (1,) * (len(shape) - 1))
    error = weight.astype(np.float64) * inverse - codes
    assert np.abs(error).max() < 1 + 1e-3
    assert np.abs(error.reshape(shape[0], -1).sum(axis=1)).max() <= 0.5 + 0.05
    plain = schemes.quantize(weight, before, 0)
    assert np.abs(codes - plain).max() <= 1


def test_weights_are_found_and_counted() -> None:
    net, _ = residual_net()
    made, count = round_weights(net, stored_int(8))
    assert count > 0 and made.digest != net.digest and made.passes[-1] == "round_weights"
    again, more = round_weights(made, stored_int(8))
    assert more == 0 and again is made
    assert round_weights(net, float_numerics("fp16")) == (net, 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_weights_stay(value) -> None:
    weight = np.full((3, 2, 3, 3), value, np.float32)
    np.testing.assert_array_equal(move(weight, QuantScheme(8, granularity="channel"), 0), weight)
