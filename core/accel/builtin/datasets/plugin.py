"""The embedded answer to ``accel_dataset``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel.hookspecs import hookimpl

if TYPE_CHECKING:
    from accel.dataset import Dataset
    from accel.model import Model
    from accel.preprocessing import Preprocessing


@hookimpl
def accel_dataset(
    source: str, model: Model, preprocessing: Preprocessing | None, options: dict[str, str]
) -> Dataset | None:
    from accel.builtin.datasets.opening import open_dataset

    return open_dataset(source, model.inputs, preprocessing, options)
