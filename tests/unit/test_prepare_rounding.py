"""Rounding of weights: errors of neighbouring taps cancel, and the target finds the codes that were chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from accel.builtin.prepare.rounding import ALIKE, correlation, least_error, round_weights
from accel.builtin.prepare.tuning import choose_ranges, tune
from accel.builtin.reference.quantize import quantize
from accel.numerics import STORED_OPS, stored_int
from accel.target import Numerics, QuantScheme
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.networks import network
from unit.test_prepare_bias_correction import Samples, outputs

SHIFT = Numerics(
    "int8",
    quantized_ops=STORED_OPS,
    activation=QuantScheme(8, rounding="half_up", unsigned=True),
    weight=QuantScheme(8, rounding="half_away"),
    bias_bits=16,
    requantize="shift",
)
SMALL = arrays(np.float64, (5, 9), elements=st.floats(-3, 3, width=32))


@given(SMALL, st.sampled_from([0.01, 0.3, 1.7]), st.sampled_from([3.0, 127.0]))
def test_never_worse_than_the_nearest_and_never_a_step_away(weight: np.ndarray, step: float, limit: float) -> None:
    alike = correlation((1, 3, 3), 0.0)
    steps = np.full((5, 1), step)
    codes = least_error(weight, steps, alike, limit)
    nearest = np.clip(np.rint(weight / steps), -limit, limit)
    assert (codes == np.rint(codes)).all() and np.abs(codes).max() <= limit

    def error(c: np.ndarray) -> np.ndarray:
        e = c * steps - weight
        return np.einsum("ri,ij,rj->r", e, alike, e)

    assert (error(codes) <= error(nearest) + 1e-9).all()
    inside = np.abs(weight / steps) <= limit
    assert (np.abs(codes * steps - weight)[inside] <= step * (1 + 1e-9)).all()


def test_without_correlation_the_nearest_is_best() -> None:
    weight = np.random.default_rng(0).normal(size=(20, 9))
    codes = least_error(weight, np.full((20, 1), 0.1), np.eye(9), 127)
    assert np.array_equal(codes, np.rint(weight / 0.1))


def test_the_assumed_correlation() -> None:
    alike = correlation((2, 3, 3), 0.5)
    assert alike.shape == (18, 18) and np.allclose(np.diag(alike), 1) and np.linalg.eigvalsh(alike).min() > 0
    assert alike[0, 1] == pytest.approx(ALIKE) and alike[0, 4] == pytest.approx(ALIKE**2)
    assert alike[0, 9] == pytest.approx(0.5)


def smooth_net(rng: np.random.Generator, groups: int = 8):
    """A depthwise convolution whose channels differ a hundredfold in weight, and smooth pictures to feed it."""
    weight = rng.normal(size=(8, 8 // groups, 3, 3)) * np.geomspace(0.02, 2, 8).reshape(-1, 1, 1, 1)
    model = network(
        [("Conv", ["x", "w", "b"], ["y"], {"pads": [1] * 4, "group": groups})],
        {"x": (1, 8, 12, 12)},
        {"y": None},
        {"w": weight.astype(np.float32), "b": np.zeros(8, np.float32)},
    )
    coarse = rng.normal(size=(6, 1, 8, 4, 4)).repeat(3, axis=3).repeat(3, axis=4)
    return model, [c.astype(np.float32) for c in coarse]


def test_smooth_inputs_lose_less() -> None:
    from accel.builtin.calibrators.collector import collect
    from accel.builtin.reference.runner import session
    from accel.options import CalibrateOptions

    model, pictures = smooth_net(np.random.default_rng(1))
    calibration = collect(model, Samples(pictures), CalibrateOptions())
    ranges = choose_ranges(model, calibration, "minmax")
    run = session(model.proto.SerializeToString())
    want = np.concatenate([run.run(None, {"x": p})[0] for p in pictures])

    def error(switches: dict[str, bool]) -> float:
        tuned = tune(model, SHIFT, ranges, calibration, switches)
        got = outputs(tuned, SHIFT, ranges, pictures)
        return float(np.square(got[:, :3] - want[:, :3]).mean())

    assert error({}) < 0.7 * error({"round_weights": False})


def test_the_target_finds_the_chosen_codes() -> None:
    from accel.builtin.calibrators.collector import collect
    from accel.options import CalibrateOptions

    model, pictures = smooth_net(np.random.default_rng(2))
    ranges = choose_ranges(model, collect(model, Samples(pictures), CalibrateOptions()), "minmax")
    before, moved = quantize(model, SHIFT, ranges), round_weights(model, SHIFT, ranges)
    after = quantize(moved, SHIFT, ranges)
    step = float(before.grids["y"].scale)
    assert moved.passes == ("round_weights",)
    assert float(after.grids["y"].scale) == step
    written = {i.name: i for i in moved.proto.graph.initializer}[moved.proto.graph.node[0].input[1]]
    real = np.frombuffer(written.raw_data, np.float32).reshape(8, 1, 3, 3)
    assert np.abs(after.weights["y"] - real).max() <= 0.3 * step + 1e-6
    assert (after.weights["y"] != before.weights["y"]).any()


def test_only_where_one_shift_serves_a_tensor() -> None:
    from accel.builtin.calibrators.collector import collect
    from accel.options import CalibrateOptions

    model, pictures = smooth_net(np.random.default_rng(3))
    ranges = choose_ranges(model, collect(model, Samples(pictures), CalibrateOptions()), "minmax")
    assert round_weights(model, stored_int(8), ranges) is model
    assert round_weights(model, replace(SHIFT, requantize="float"), ranges) is model
    name = model.proto.graph.node[0].name
    assert round_weights(model, SHIFT, ranges, {name: stored_int(8)}) is model


def test_channels_that_are_not_alike_round_each_for_itself() -> None:
    """One by one or together: the same codes. Together would take a matrix of all the weights of a channel."""
    weight = np.random.default_rng(4).normal(size=(6, 4, 3, 3))
    together = least_error(weight.reshape(6, -1), np.full((6, 1), 0.4), correlation((4, 3, 3), 0.0), 127)
    alone = least_error(weight.reshape(24, -1), np.full((24, 1), 0.4), correlation((1, 3, 3), 0.0), 127)
    assert np.array_equal(together.reshape(24, -1), alone)
