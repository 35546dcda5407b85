"""Which layers stay in float: the prediction agrees with what each layer's rounding does to the output."""

from __future__ import annotations

import numpy as np
import pytest
from accel.builtin.calibrators.collector import collect
from accel.builtin.prepare.tuning import choose_ranges
from accel.builtin.reference.quantize import quantize
from accel.builtin.reference.runner import session
from accel.errors import AccelError
from accel.options import CalibrateOptions
from accel.plugins import Registry
from accel_sophon.float_layers import asked, predicted_noise, worst_layers
from support.networks import network
from unit.test_prepare_bias_correction import Samples

NUMERICS = Registry().target("bm1684").numerics_for("int8")


def chain(rng: np.random.Generator):
    """Pointwise convolutions between ReLUs; in the second, one channel's weights are large and the others' drown."""

    def w(*shape: int, gain: float = 1.0) -> np.ndarray:
        return (rng.normal(size=shape) * gain / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    held = {"w1": w(16, 3, 3, 3, gain=2), "w2": w(16, 16, 1, 1), "w3": w(16, 16, 1, 1), "w4": w(16, 16, 1, 1)}
    held["w2"][3] *= 30
    held["w3"][:, 3] /= 30
    nodes = [
        ("Conv", ["x", "w1"], ["c1"], {"pads": [1] * 4}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w2"], ["c2"], {}),
        ("Relu", ["c2"], ["r2"], {}),
        ("Conv", ["r2", "w3"], ["c3"], {}),
        ("Relu", ["c3"], ["r3"], {}),
        ("Conv", ["r3", "w4"], ["c4"], {}),
        ("Add", ["c4", "r3"], ["y"], {}),
    ]
    return network(nodes, {"x": (1, 3, 12, 12)}, {"y": None}, held)


def test_the_layer_whose_weights_drown_comes_first() -> None:
    rng = np.random.default_rng(0)
    model = chain(rng)
    pictures = [rng.normal(size=(1, 3, 12, 12)).astype(np.float32) for _ in range(8)]
    calibration = collect(model, Samples(pictures), CalibrateOptions())
    ranges = choose_ranges(model, calibration, "minmax")
    noise = predicted_noise(model, NUMERICS, ranges, calibration)
    assert set(noise) == {"conv_0", "conv_2", "conv_4", "conv_6", "add_7"}
    assert max(noise, key=lambda name: noise[name]) == "conv_2"
    assert worst_layers(model, NUMERICS, ranges, calibration, 1) == {"conv_2": "fp32", "relu_3": "fp32"}
    # What it predicts of that layer is what putting the rounded weights into the float network does, within 6 dB.
    made = quantize(model, NUMERICS, ranges)
    changed = type(model.proto)()
    changed.CopyFrom(model.proto)
    next(i for i in changed.graph.initializer if i.name == "w2").raw_data = made.weights["c2"].tobytes()
    want, got = (
        np.concatenate([session(p.SerializeToString()).run(None, {"x": x})[0] for x in pictures])
        for p in (model.proto, changed)
    )
    measured = float(np.square(got - want).sum() / np.square(want - want.mean()).sum())
    assert abs(10 * np.log10(noise["conv_2"] / measured)) < 6


def test_all_of_them_and_none() -> None:
    rng = np.random.default_rng(1)
    model = chain(rng)
    pictures = [rng.normal(size=(1, 3, 12, 12)).astype(np.float32) for _ in range(2)]
    calibration = collect(model, Samples(pictures), CalibrateOptions())
    ranges = choose_ranges(model, calibration, "minmax")
    assert worst_layers(model, NUMERICS, ranges, calibration, 0) == {}
    assert set(worst_layers(model, NUMERICS, ranges, calibration, 99)) == {n.name for n in model.proto.graph.node}


def test_the_number() -> None:
    assert asked("11") == 11
    for wrong in ("-1", "many", ""):
        with pytest.raises(AccelError):
            asked(wrong)
