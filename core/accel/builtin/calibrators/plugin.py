"""The embedded answer to ``accel_calibrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.options import CalibrateOptions
    from accel.target import Target


@hookimpl
def accel_calibrate(
    model: Model, dataset: Dataset, target: Target | None, options: CalibrateOptions
) -> Calibration | None:
    from accel.builtin.calibrators.collector import collect

    return collect(model, dataset, options)
