"""Calibrate: ask the hooks, remember the statistics by model and data, refuse those of another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from accel.cache import Cache, NoCache, code_state, key_of
from accel.errors import AccelError
from accel.files import workspace_beside
from accel.options import CalibrateOptions
from accel.plugins import hooks
from accel.progress import message
from accel.target import Target

if TYPE_CHECKING:
    from accel.calibration import Calibration
    from accel.dataset import Dataset
    from accel.model import Model

_FILE = "calibration"


def calibrate(
    model: Model, dataset: Dataset, options: CalibrateOptions, target: Target | None, cache: Cache | None
) -> Calibration:
    """Measure the prepared ``model``, or find its statistics in ``cache``."""
    from accel.calibration import Calibration

    if cache is None or isinstance(cache, NoCache):
        return _measure(model, dataset, options, target)
    # Statistics do not depend on the batch or on where a broken run left off.
    asked = replace(options, batch=1, resume=None)
    key = key_of(
        ["calibrate", model.digest, dataset.digest, asked, target.vendor if target else "", code_state("accel")]
    )
    with cache.lock(key):
        held = cache.get("calibrate", key)
        if held is not None:
            try:
                found = Calibration.load(held / _FILE)
                message(f"{model.name}: calibrated before, unchanged")
                return found
            except AccelError:
                message("cache: a calibration could not be read; measuring again")
        made = _measure(model, dataset, options, target)
        with workspace_beside(cache.root / "calibration") as work:
            made.save(work / _FILE)
            cache.put("calibrate", key, work, model.name)
        return made


def _measure(model: Model, dataset: Dataset, options: CalibrateOptions, target: Target | None) -> Calibration:
    made: Calibration | None = hooks().accel_calibrate(model=model, dataset=dataset, target=target, options=options)
    if made is None:
        raise AccelError("nobody calibrates this model", code="unsupported.calibrate")
    return made


def require_match(calibration: Calibration, model: Model, dataset: Dataset | None = None) -> None:
    """Refuse statistics of another model or other data.

    Raises:
        AccelError: ``calibration.mismatch``.
    """
    hints = ["Calibrate this model: accel calibrate MODEL --data DATA -o FILE"]
    if calibration.model_digest != model.digest:
        raise AccelError(
            f"the calibration is not of this model ({model.name})",
            code="calibration.mismatch",
            cause=f"it was measured on {calibration.model_digest[:12]}, this one is {model.digest[:12]}; "
            "the preparation passes must be the same too",
            hints=hints,
        )
    if dataset is not None and calibration.data_digest != dataset.digest:
        raise AccelError(
            "the calibration was measured on other data",
            code="calibration.mismatch",
            cause=f"it was measured on {calibration.data_digest[:12]}, --data is {dataset.digest[:12]}",
            hints=[*hints, "Or leave --data out to use the file as it is."],
        )
