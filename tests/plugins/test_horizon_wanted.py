"""Build options as Horizon's tools take them, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from accel.errors import AccelError
from accel.options import BuildOptions
from accel.plugins import Registry
from accel.preprocessing import Preprocessing
from accel_horizon.inputs import ChipInput, chip_inputs, to_chip
from accel_horizon.prepare import for_horizon
from accel_horizon.wanted import wanted
from toolchains.horizon_nets import small_net


def test_the_fast_level_is_ours() -> None:
    asked = wanted(small_net(), Registry().target("j5"), BuildOptions())
    assert "--O2" in asked.flags and "--fast" in asked.flags and asked.input_type == "featuremap"


@pytest.mark.parametrize(
    ("target", "options", "code"),
    [
        ("j5", BuildOptions(opt=4), "usage.opt"),
        ("j5", BuildOptions(cores=2), "unsupported.cores"),
        ("x3", BuildOptions(precision="int16"), "unsupported.precision"),
        ("x3", BuildOptions(node_precisions={"head": "int16"}), "unsupported.precision"),
        ("j5", BuildOptions(node_precisions={"heat": "int16"}), "usage.node"),
        ("j5", BuildOptions(set={"run_on_cpu": "nobody"}), "usage.node"),
        ("j5", BuildOptions(set={"speed": "high"}), "usage.option"),
        ("j5", BuildOptions(set={"mode": "quick"}), "usage.option"),
        ("j5", BuildOptions(set={"max_percentile": "2"}), "usage.option"),
        ("j5", BuildOptions(set={"compiler_cache": "c.json"}), "usage.option"),
        ("j5", BuildOptions(calibrator="vendor", method="mse"), "usage.method"),
    ],
)
def test_refused(target: str, options: BuildOptions, code: str) -> None:
    with pytest.raises(AccelError) as caught:
        wanted(small_net(), Registry().target(target), options)
    assert caught.value.code == code


def test_pictures_need_a_preprocessing_that_fits() -> None:
    model = for_horizon(small_net(), 1)
    how = Preprocessing(mean=(1.0,), std=(2.0,), scale=0.5)
    made = chip_inputs(model, BuildOptions(preprocessing=how), "rgb")["data"]
    assert made.mean == (2.0,) * 3 and made.scale == (0.25,) * 3 and made.layout == "NHWC"
    assert ChipInput.from_dict(made.as_dict()) == made
    for bad in (None, replace(how, color="gray"), replace(how, layout="NHWC")):
        with pytest.raises(AccelError) as caught:
            chip_inputs(model, BuildOptions(preprocessing=bad), "nv12")
        assert caught.value.code == "usage.input_type"


def test_bytes_of_pictures() -> None:
    pixels = np.zeros((1, 3, 2, 2), np.float32)
    pixels[:, 0] = 255.0
    rgb = ChipInput("x", (1, 3, 2, 2), "rgb", "rgb", "NHWC")
    assert to_chip(pixels, rgb, integer=True)[0, 0, 0].tolist() == [127, -128, -128]
    assert to_chip(pixels, replace(rgb, rt_type="bgr"), integer=True)[0, 0, 0].tolist() == [-128, -128, 127]
    yuv = to_chip(pixels, replace(rgb, rt_type="nv12"), integer=True)[0, 0, 0]
    assert yuv.tolist() == [76 - 128, 85 - 128, 127]  # JFIF: pure red is 76, 85, 255


def test_codes_without_a_sign_are_ours_alone_by_default() -> None:
    def asymmetric(**given: object) -> bool:
        return wanted(small_net(), Registry().target("j5"), BuildOptions(**given)).asymmetric  # type: ignore[arg-type]

    assert asymmetric()
    assert not asymmetric(set={"asymmetric": "false"})
    assert not asymmetric(precision="int16")
    assert not asymmetric(calibrator="vendor")
    assert asymmetric(calibrator="vendor", set={"asymmetric": "true"})
