"""The float side of a comparison is fed what the artifact is fed."""

from __future__ import annotations

import numpy as np
from accel import driver
from accel.preprocessing import Preprocessing
from toolchains.horizon_nets import small_net

DECLARED = Preprocessing(mean=(127.0, 120.0, 110.0), std=(64.0, 60.0, 58.0))


def test_folded_normalisation_is_inside() -> None:
    model = small_net()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32)).astype(np.float32)
    shape = (1, 3, 1, 1)
    normalised = (pixels - np.float32(DECLARED.mean).reshape(shape)) / np.float32(DECLARED.std).reshape(shape)
    with driver.run_float(model) as plain:
        expected = plain.run({"data": normalised})["logits"]
    with driver.run_float(model, preprocessing=DECLARED) as unfolded:
        assert np.array_equal(unfolded.run({"data": normalised})["logits"], expected)
    folded = Preprocessing(mean=DECLARED.mean, std=DECLARED.std, folded=True)
    with driver.run_float(model, preprocessing=folded) as inside:
        assert np.allclose(inside.run({"data": pixels})["logits"], expected, atol=1e-5)
