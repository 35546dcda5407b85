"""Means by channel: right, and the same to the bit in any order, merged or read back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from accel.builtin.calibrators.collector import collect
from accel.calibration import Calibration
from accel.calibration.merging import merge
from accel.calibration.storage import pack
from accel.dataset import Sample
from accel.options import CalibrateOptions
from support.networks import every_tensor, residual_net


@dataclass
class Samples:
    arrays: list[np.ndarray]
    digest: str = "d" * 64

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return (Sample(str(at), {"x": array}) for at, array in enumerate(self.arrays))


def test_means_by_channel(tmp_path):
    model, _ = residual_net()
    arrays = list(np.random.default_rng(1).normal(0.3, 1, (6, 1, 3, 12, 12)).astype(np.float32))
    found = collect(model, Samples(arrays), CalibrateOptions())
    values = [every_tensor(model, {"x": x}) for x in arrays]
    for name in ("x", "r0", "r1", "pooled"):
        want = np.mean([v[name].mean(axis=(0, 2, 3)) for v in values], axis=0)
        np.testing.assert_allclose(found.tensors[name].channel_mean, want, atol=1e-6)
    assert found.tensors["r0"].rows == 6
    assert found.tensors["gate"].channel_mean is None  # nothing linear reads it

    turned = collect(model, Samples(arrays[::-1]), CalibrateOptions())
    halves = merge(*(collect(model, Samples(part), CalibrateOptions()) for part in (arrays[:2], arrays[2:])))
    assert pack(found)[0] == pack(turned)[0]
    for name, stats in found.tensors.items():
        assert np.array_equal(stats.channel_mean, halves.tensors[name].channel_mean, equal_nan=False) or (
            stats.channel_mean is None and halves.tensors[name].channel_mean is None
        )
    found.save(tmp_path / "c.calib")
    assert pack(Calibration.load(tmp_path / "c.calib"))[0] == pack(found)[0]


def test_no_means_beside_infinities():
    model, _ = residual_net()
    good = np.ones((1, 3, 12, 12), np.float32)
    bad = good.copy()
    bad[0, 0, 0, 0] = np.nan
    for arrays in ([good, bad], [bad, good]):
        found = collect(model, Samples(arrays), CalibrateOptions())
        assert found.tensors["x"].channel_mean is None
